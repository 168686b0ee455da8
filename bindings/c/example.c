/*
 * Stores two blobs and lists them.
 *
 *     cc example.c $(pkg-config --cflags --libs isotherm) -o example && ./example /var/tmp/store
 */

#include <isotherm.h>

#include <stdio.h>
#include <stdlib.h>

/* Every call answers a status; the message of the last failure is the thread's. */
static void check(isotherm_status_t status) {
    if (status != ISOTHERM_OK) {
        fprintf(stderr, "%s: %s\n", isotherm_strerror(status), isotherm_last_error());
        exit(1);
    }
}

int main(int argc, char **argv) {
    if (argc != 2) {
        fprintf(stderr, "usage: example STORE\n");
        return 2;
    }

    /* Settings are those of the README's table. Without any: 256 MiB of DRAM and one file. */
    const isotherm_setting_t settings[] = {
        {"tier.0.kind", "dram"}, {"tier.0.capacity", "64MiB"},
        {"tier.1.kind", "nvme"}, {"tier.1.capacity", "256MiB"},
    };
    isotherm_open_options_t open = ISOTHERM_OPEN_OPTIONS_INIT;
    open.settings = settings;
    open.setting_count = sizeof settings / sizeof settings[0];

    isotherm_store_t store;
    isotherm_bucket_t bucket;
    check(isotherm_open(argv[1], &open, &store));
    check(isotherm_bucket_ensure(store, "results", &bucket));

    /* NULL: the defaults, and no interest in the version. */
    check(isotherm_put(bucket, "run-7", 5, "a value of any length", 21, NULL, NULL));

    /* This one survives power loss once the call has returned. */
    isotherm_put_options_t durable = ISOTHERM_PUT_OPTIONS_INIT;
    durable.durability = ISOTHERM_DURABILITY_DURABLE;
    check(isotherm_put(bucket, "run-8", 5, "another", 7, &durable, NULL));

    void *value;
    uint64_t len;
    check(isotherm_get(bucket, "run-7", 5, &value, &len));
    printf("run-7 is \"%.*s\"\n", (int)len, (char *)value);
    isotherm_free(value);

    isotherm_scan_options_t runs = ISOTHERM_SCAN_OPTIONS_INIT;
    runs.prefix = "run-";
    runs.prefix_len = 4;
    isotherm_scan_t scan;
    check(isotherm_scan_open(bucket, &runs, &scan));
    static isotherm_scan_item_t items[16];
    size_t count;
    do {
        check(isotherm_scan_next(scan, items, 16, &count));
        for (size_t at = 0; at < count; at++) {
            printf("%.*s: %llu bytes\n", (int)items[at].key_len, (char *)items[at].key,
                   (unsigned long long)items[at].value_len);
        }
    } while (count > 0);

    /* Closes the scan and the bucket too, and makes everything durable. */
    check(isotherm_close(store));
    return 0;
}
