/* The program that is killed: threads that change keys of their own at the levels that survive it, and
 * tell standard output of each change before and after the call, a line of one write each.
 *
 * killed STORE CAPACITY SEED STEPS: so many changes a thread, then a clean close; 0: without end.
 *
 * What stands in a line, and what a change does to the keys, ffi/tests/kill/oracle.rs says too. */
#include "check.h"
#include "content.h"

#include <pthread.h>
#include <stdarg.h>
#include <unistd.h>

#define THREADS 3
#define KEYS 12
#define LEN_LOG2_MAX 20
#define STRIDE 0x9E3779B97F4A7C15u

static isotherm_store_t store;
static isotherm_bucket_t bucket;
static unsigned long long steps_max;

struct worker {
    unsigned number;
    uint64_t random;
    pthread_t thread;
    /* Of three values, for batches. */
    unsigned char *value;
};

static void tell(const char *format, ...) {
    char line[200];
    va_list arguments;
    int len;
    va_start(arguments, format);
    len = vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    CHECK(len > 0 && (size_t)len < sizeof line);
    CHECK(write(STDOUT_FILENO, line, (size_t)len) == len);
}

static uint64_t draw(struct worker *worker) {
    return worker->random = mix(worker->random);
}

static uint64_t draw_len(struct worker *worker) {
    uint64_t most = (uint64_t)1 << (draw(worker) % (LEN_LOG2_MAX + 1));
    return draw(worker) % (most + 1);
}

/* The bytes that a seed names: fill of engine/tests/support/content.rs, whose mix adds nothing. */
static void fill(uint64_t seed, unsigned char *value, uint64_t len) {
    uint64_t at;
    for (at = 0; at < len; at += 8) {
        uint64_t word = mix((seed ^ (at / 8 * STRIDE)) - STRIDE);
        memcpy(value + at, &word, len - at < 8 ? len - at : 8);
    }
}

static size_t name_of(const struct worker *worker, uint64_t key, char name[64]) {
    return (size_t)snprintf(name, 64, "thread %u/key %02u", worker->number, (unsigned)(key % KEYS));
}

/* Three keys at once: two puts and an append. */
static void commit(struct worker *worker, uint64_t key, uint64_t seed, uint64_t len,
                   const isotherm_put_options_t *options) {
    isotherm_batch_t batch = 0;
    uint64_t step;
    OK(isotherm_batch_create(store, &batch));
    for (step = 0; step < 3; step++) {
        unsigned char *value = worker->value + (step << LEN_LOG2_MAX);
        char name[64];
        size_t name_len = name_of(worker, key + step, name);
        fill(seed + step, value, len);
        if (step < 2) {
            OK(isotherm_batch_put(batch, bucket, name, name_len, value, len, NULL));
        } else {
            OK(isotherm_batch_append(batch, bucket, name, name_len, value, len, NULL));
        }
    }
    OK(isotherm_batch_commit(batch, options, NULL, 0));
    OK(isotherm_batch_close(batch));
}

/* A change of a blob that is there, of value_len bytes. */
static void change(struct worker *worker, uint64_t key, uint64_t value_len, unsigned level,
                   const isotherm_put_options_t *options) {
    unsigned long long seed = draw(worker), len = draw_len(worker), at;
    unsigned char *value = worker->value;
    char name[64], to[64];
    size_t name_len = name_of(worker, key, name), to_len;
    unsigned thread = worker->number, number = (unsigned)key;
    fill(seed, value, len);
    switch (draw(worker) % 8) {
    case 0:
    case 1:
        at = draw(worker) % (value_len + 1);
        tell("put_at %u %u %u %llu %llu %llu\n", thread, level, number, at, seed, len);
        OK(isotherm_put_at(bucket, name, name_len, at, value, len, options, NULL));
        break;
    case 2:
        tell("append %u %u %u %llu %llu\n", thread, level, number, seed, len);
        OK(isotherm_append(bucket, name, name_len, value, len, options, NULL));
        break;
    case 3:
        at = draw(worker) % (value_len + 4096);
        tell("truncate %u %u %u %llu\n", thread, level, number, at);
        OK(isotherm_truncate(bucket, name, name_len, at, options, NULL));
        break;
    case 4:
        tell("delete %u %u %u\n", thread, level, number);
        OK(isotherm_delete(bucket, name, name_len, options));
        break;
    case 5:
        at = (key + 1 + draw(worker) % (KEYS - 1)) % KEYS;
        to_len = name_of(worker, at, to);
        tell("rename %u %u %u %llu\n", thread, level, number, at);
        OK(isotherm_rename(bucket, name, name_len, bucket, to, to_len, options, NULL));
        break;
    default:
        tell("put %u %u %u %llu %llu\n", thread, level, number, seed, len);
        OK(isotherm_put(bucket, name, name_len, value, len, options, NULL));
    }
}

static void step(struct worker *worker) {
    isotherm_put_options_t options = ISOTHERM_PUT_OPTIONS_INIT;
    isotherm_blob_stat_t stat;
    uint64_t key = draw(worker) % KEYS;
    char name[64];
    size_t name_len = name_of(worker, key, name);
    isotherm_status_t there = isotherm_stat(bucket, name, name_len, &stat);
    unsigned level = draw(worker) % 3 ? ISOTHERM_DURABILITY_WRITTEN : ISOTHERM_DURABILITY_DURABLE;
    options.durability = level;
    CHECK(there == ISOTHERM_OK || there == ISOTHERM_E_NOT_FOUND);
    if (there == ISOTHERM_OK && draw(worker) % 4) {
        change(worker, key, stat.value_len, level, &options);
    } else {
        unsigned long long seed = draw(worker), len = draw_len(worker);
        tell("batch %u %u %u %llu %llu\n", worker->number, level, (unsigned)key, seed, len);
        commit(worker, key, seed, len, &options);
    }
    tell("ack %u\n", worker->number);
}

static void *work(void *argument) {
    struct worker *worker = argument;
    unsigned long long done;
    for (done = 0; steps_max == 0 || done < steps_max; done++) {
        step(worker);
    }
    return NULL;
}

int main(int argc, char **argv) {
    struct worker workers[THREADS];
    uint64_t seed;
    unsigned number;
    CHECK(argc == 5);
    seed = strtoull(argv[3], NULL, 10);
    steps_max = strtoull(argv[4], NULL, 10);
    store = open_store(argv[1], argv[2]);
    OK(isotherm_bucket_ensure(store, "b", &bucket));
    tell("opened\n");
    for (number = 0; number < THREADS; number++) {
        struct worker *worker = &workers[number];
        worker->number = number;
        worker->random = mix(seed + number * 0x10001u);
        worker->value = malloc((size_t)3 << LEN_LOG2_MAX);
        CHECK(worker->value != NULL);
        CHECK(pthread_create(&worker->thread, NULL, work, worker) == 0);
    }
    for (number = 0; number < THREADS; number++) {
        CHECK(pthread_join(workers[number].thread, NULL) == 0);
        free(workers[number].value);
    }
    OK(isotherm_close(store));
    tell("closed\n");
    return 0;
}
