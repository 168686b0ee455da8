/* What the test programs share, in C and C++: checks that name the line, and a small store. */
#ifndef CHECK_H
#define CHECK_H

#include <isotherm.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The program ends at the first check that fails. */
#define CHECK(condition)                                                                  \
    do {                                                                                  \
        if (!(condition)) {                                                               \
            fprintf(stderr, "%s:%d: %s\n  last error: %s\n", __FILE__, __LINE__, #condition, \
                    isotherm_last_error());                                               \
            exit(1);                                                                      \
        }                                                                                 \
    } while (0)

#define OK(call) EXPECT(ISOTHERM_OK, call)

#define EXPECT(wanted, call)                                                              \
    do {                                                                                  \
        isotherm_status_t status_ = (call);                                               \
        if (status_ != (wanted)) {                                                        \
            fprintf(stderr, "%s:%d: %s\n  is %s, not %s: %s\n", __FILE__, __LINE__, #call,  \
                    isotherm_errname(status_), isotherm_errname(wanted),                  \
                    isotherm_last_error());                                               \
            exit(1);                                                                      \
        }                                                                                 \
    } while (0)

/* Opens a store of a DRAM tier of 64 MiB and one file of this capacity. CHECK_IO=threads keeps it off
 * io_uring: valgrind stops all threads while one waits in a ring. */
static inline isotherm_store_t open_store(const char *path, const char *capacity) {
    const char *io = getenv("CHECK_IO") ? getenv("CHECK_IO") : "auto";
    const isotherm_setting_t settings[] = {
        {"tier.0.kind", "dram"}, {"tier.0.capacity", "64MiB"}, {"tier.1.kind", "nvme"},
        {"tier.1.capacity", capacity}, {"io", io}, {"organizer", io},
    };
    isotherm_open_options_t options = ISOTHERM_OPEN_OPTIONS_INIT;
    isotherm_store_t store = 0;
    options.settings = settings;
    options.setting_count = sizeof settings / sizeof settings[0];
    OK(isotherm_open(path, &options, &store));
    return store;
}

#endif
