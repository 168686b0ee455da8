/* The blobs that the C and the C++ program store: key, length and bytes follow from a number. */
#ifndef CONTENT_H
#define CONTENT_H

#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#define VALUE_LEN_MAX (8u << 20)

static inline uint64_t mix(uint64_t number) {
    number += 0x9E3779B97F4A7C15u;
    number = (number ^ (number >> 30)) * 0xBF58476D1CE4E5B9u;
    number = (number ^ (number >> 27)) * 0x94D049BB133111EBu;
    return number ^ (number >> 31);
}

/* Log-uniform up to 64 KiB, of one in twenty from there to 8 MiB; the first are 0 and 8 MiB. */
static inline size_t value_len(uint64_t number) {
    double share = (double)(mix(number) >> 11) / 9007199254740992.0;
    if (number < 2) {
        return number == 0 ? 0 : VALUE_LEN_MAX;
    }
    if (mix(number + 1) % 20 == 0) {
        return (size_t)exp2(16.0 + 7.0 * share);
    }
    return (size_t)exp2(16.0 * share) - 1;
}

static inline void fill_value(uint64_t number, const char *writer, unsigned char *value,
                              size_t len) {
    uint64_t word = mix(number * 1000003u + (unsigned char)writer[0] * 7u + strlen(writer));
    size_t at;
    for (at = 0; at < len; at += 8) {
        word = word * 6364136223846793005u + 1442695040888963407u;
        memcpy(value + at, &word, len - at < 8 ? len - at : 8);
    }
}

static inline size_t make_key(uint64_t number, const char *writer, char key[64]) {
    return (size_t)snprintf(key, 64, "%s/%llu", writer, (unsigned long long)number);
}

#endif
