/* A process whose files may not grow as it likes (ulimit -f): a write beyond the limit would end it with
 * SIGXFSZ. Isotherm answers a status instead, and what was acknowledged stays. */
#include "check.h"

#include <sys/resource.h>

#define LIMIT (1u << 20)
#define VALUE_LEN (512u << 10)
#define PUTS_MAX 200

static unsigned char value[VALUE_LEN];
static const char capacity[] = "64MiB";

static void limit_files(rlim_t bytes) {
    struct rlimit limit;
    CHECK(getrlimit(RLIMIT_FSIZE, &limit) == 0);
    limit.rlim_cur = bytes;
    CHECK(setrlimit(RLIMIT_FSIZE, &limit) == 0);
}

static isotherm_status_t put(isotherm_bucket_t bucket, const char *key, unsigned level) {
    isotherm_put_options_t options = ISOTHERM_PUT_OPTIONS_INIT;
    options.durability = level;
    return isotherm_put(bucket, key, strlen(key), value, sizeof value, &options, NULL);
}

static void check_kept(isotherm_bucket_t bucket) {
    static unsigned char found[VALUE_LEN];
    uint64_t len = 0;
    OK(isotherm_get_into(bucket, "kept", 4, found, sizeof found, &len));
    CHECK(len == sizeof value && memcmp(found, value, sizeof value) == 0);
}

/* Neither a new store nor one that is there. */
static void opening_is_refused(const char *path, const char *other) {
    const isotherm_setting_t settings[] = {
        {"tier.0.kind", "dram"}, {"tier.0.capacity", "64MiB"},
        {"tier.1.kind", "nvme"}, {"tier.1.capacity", capacity},
    };
    isotherm_open_options_t options = ISOTHERM_OPEN_OPTIONS_INIT;
    isotherm_store_t store = 0;
    options.settings = settings;
    options.setting_count = sizeof settings / sizeof settings[0];
    EXPECT(ISOTHERM_E_NO_SPACE, isotherm_open(path, &options, &store));
    CHECK(strstr(isotherm_last_error(), "File too large") != NULL);
    EXPECT(ISOTHERM_E_NO_SPACE, isotherm_open(other, &options, &store));
    CHECK(strstr(isotherm_last_error(), "File too large") != NULL);
}

/* The limit comes when the store is open: changes are refused, reads go on. */
static void changes_are_refused(isotherm_bucket_t bucket) {
    isotherm_status_t status = ISOTHERM_OK;
    int number;
    for (number = 0; number < PUTS_MAX && status == ISOTHERM_OK; number++) {
        char key[32];
        snprintf(key, sizeof key, "more %d", number % 8);
        status = put(bucket, key, ISOTHERM_DURABILITY_WRITTEN);
    }
    EXPECT(ISOTHERM_E_NO_SPACE, status);
    check_kept(bucket);
}

int main(int argc, char **argv) {
    char other[4096];
    isotherm_store_t store;
    isotherm_bucket_t bucket;
    struct rlimit before;
    CHECK(argc == 2);
    snprintf(other, sizeof other, "%s-other", argv[1]);
    memset(value, 'v', sizeof value);
    CHECK(getrlimit(RLIMIT_FSIZE, &before) == 0);
    store = open_store(argv[1], capacity);
    OK(isotherm_bucket_ensure(store, "b", &bucket));
    OK(put(bucket, "kept", ISOTHERM_DURABILITY_DURABLE));
    OK(isotherm_close(store));

    limit_files(LIMIT);
    opening_is_refused(argv[1], other);

    limit_files(before.rlim_cur);
    store = open_store(argv[1], capacity);
    OK(isotherm_bucket_open(store, "b", &bucket));
    limit_files(LIMIT);
    changes_are_refused(bucket);
    /* What it cannot write, its status says. */
    (void)isotherm_close(store);

    limit_files(before.rlim_cur);
    store = open_store(argv[1], capacity);
    OK(isotherm_bucket_open(store, "b", &bucket));
    check_kept(bucket);
    OK(put(bucket, "after", ISOTHERM_DURABILITY_DURABLE));
    OK(isotherm_close(store));
    return 0;
}
