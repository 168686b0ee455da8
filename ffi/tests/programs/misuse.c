/* misuse STORE: what is refused, and how. Each group ends with a store that works. */

#include "check.h"

static isotherm_store_t store;
static isotherm_bucket_t bucket;
static const isotherm_bucket_t handles_of_no_one[] = {0, 1, UINT64_MAX, 0x5200000000000000u,
                                                      0x52FFFFFF00000001u, 0xDEADBEEFCAFEF00Du};

#define NONE_COUNT (sizeof handles_of_no_one / sizeof handles_of_no_one[0])

static void still_works(void) {
    char got[8];
    uint64_t len = 0;
    OK(isotherm_put(bucket, "works", 5, "yes", 3, NULL, NULL));
    OK(isotherm_get_into(bucket, "works", 5, got, sizeof got, &len));
    CHECK(len == 3 && memcmp(got, "yes", 3) == 0);
}

static void null_pointers_are_refused(void) {
    uint64_t number;
    size_t count;
    void *memory;
    char text[8];
    isotherm_scan_t scan;
    isotherm_queue_t queue;
    OK(isotherm_queue_create(store, 4, &queue));
    OK(isotherm_scan_open(bucket, NULL, &scan));
    EXPECT(ISOTHERM_E_INVALID_ARGUMENT, isotherm_open(NULL, NULL, &store));
    EXPECT(ISOTHERM_E_INVALID_ARGUMENT, isotherm_open("/nowhere", NULL, NULL));
    EXPECT(ISOTHERM_E_INVALID_ARGUMENT, isotherm_bucket_open(store, NULL, &bucket));
    EXPECT(ISOTHERM_E_INVALID_ARGUMENT, isotherm_bucket_open(store, "b", NULL));
    EXPECT(ISOTHERM_E_INVALID_ARGUMENT, isotherm_bucket_stat(bucket, NULL));
    EXPECT(ISOTHERM_E_INVALID_ARGUMENT, isotherm_bucket_list(store, NULL, 3, &count));
    EXPECT(ISOTHERM_E_INVALID_ARGUMENT, isotherm_bucket_list(store, NULL, 0, NULL));
    EXPECT(ISOTHERM_E_INVALID_ARGUMENT, isotherm_info(store, NULL));
    EXPECT(ISOTHERM_E_INVALID_ARGUMENT, isotherm_stats(store, NULL));
    EXPECT(ISOTHERM_E_INVALID_ARGUMENT, isotherm_put(bucket, NULL, 1, "v", 1, NULL, NULL));
    EXPECT(ISOTHERM_E_INVALID_ARGUMENT, isotherm_put(bucket, "k", 1, NULL, 1, NULL, NULL));
    EXPECT(ISOTHERM_E_INVALID_ARGUMENT, isotherm_get(bucket, "works", 5, NULL, &number));
    EXPECT(ISOTHERM_E_INVALID_ARGUMENT, isotherm_get(bucket, "works", 5, &memory, NULL));
    EXPECT(ISOTHERM_E_INVALID_ARGUMENT, isotherm_get_into(bucket, "works", 5, NULL, 8, &number));
    EXPECT(ISOTHERM_E_INVALID_ARGUMENT, isotherm_get_into(bucket, "works", 5, text, 8, NULL));
    EXPECT(ISOTHERM_E_INVALID_ARGUMENT, isotherm_get_at(bucket, "works", 5, 0, NULL, 8, &number));
    EXPECT(ISOTHERM_E_INVALID_ARGUMENT, isotherm_stat(bucket, "works", 5, NULL));
    EXPECT(ISOTHERM_E_INVALID_ARGUMENT, isotherm_exists(bucket, "works", 5, NULL));
    EXPECT(ISOTHERM_E_INVALID_ARGUMENT, isotherm_scan_open(bucket, NULL, NULL));
    EXPECT(ISOTHERM_E_INVALID_ARGUMENT, isotherm_scan_next(scan, NULL, 1, &count));
    EXPECT(ISOTHERM_E_INVALID_ARGUMENT, isotherm_batch_create(store, NULL));
    EXPECT(ISOTHERM_E_INVALID_ARGUMENT, isotherm_get_many(store, NULL, 1, NULL));
    EXPECT(ISOTHERM_E_INVALID_ARGUMENT, isotherm_queue_create(store, 1, NULL));
    EXPECT(ISOTHERM_E_INVALID_ARGUMENT, isotherm_queue_submit(queue, NULL, 1, NULL, &count));
    EXPECT(ISOTHERM_E_INVALID_ARGUMENT, isotherm_queue_submit(queue, NULL, 0, NULL, NULL));
    EXPECT(ISOTHERM_E_INVALID_ARGUMENT, isotherm_queue_wait(queue, NULL, 0, 1, 0, &count));
    EXPECT(ISOTHERM_E_INVALID_ARGUMENT, isotherm_put_options_init(NULL, 24));
    OK(isotherm_scan_close(scan));
    OK(isotherm_queue_close(queue));
    isotherm_free(NULL);
    still_works();
}

static void handles_that_are_none_are_refused(void) {
    isotherm_completion_t ended;
    isotherm_scan_item_t item;
    uint64_t number;
    size_t at, count;
    char *json;
    bool exists;
    for (at = 0; at < NONE_COUNT; at++) {
        uint64_t none = handles_of_no_one[at];
        EXPECT(ISOTHERM_E_BAD_HANDLE, isotherm_put(none, "k", 1, "v", 1, NULL, NULL));
        EXPECT(ISOTHERM_E_BAD_HANDLE, isotherm_get_into(none, "k", 1, NULL, 0, &number));
        EXPECT(ISOTHERM_E_BAD_HANDLE, isotherm_exists(none, "k", 1, &exists));
        EXPECT(ISOTHERM_E_BAD_HANDLE, isotherm_flush(none));
        EXPECT(ISOTHERM_E_BAD_HANDLE, isotherm_info(none, &json));
        EXPECT(ISOTHERM_E_BAD_HANDLE, isotherm_scan_next(none, &item, 1, &count));
        EXPECT(ISOTHERM_E_BAD_HANDLE, isotherm_batch_commit(none, NULL, NULL, 0));
        EXPECT(ISOTHERM_E_BAD_HANDLE, isotherm_queue_wait(none, &ended, 0, 1, 0, &count));
        EXPECT(ISOTHERM_E_BAD_HANDLE, isotherm_queue_cancel(none, 1));
        /* Closing none is allowed; closing a forged one is not. */
        EXPECT(none == 0 ? ISOTHERM_OK : ISOTHERM_E_BAD_HANDLE, isotherm_close(none));
        EXPECT(none == 0 ? ISOTHERM_OK : ISOTHERM_E_BAD_HANDLE, isotherm_bucket_close(none));
        EXPECT(none == 0 ? ISOTHERM_OK : ISOTHERM_E_BAD_HANDLE, isotherm_queue_close(none));
    }
    still_works();
}

static void handles_of_another_kind_are_refused(void) {
    isotherm_queue_t queue;
    size_t count;
    OK(isotherm_queue_create(store, 4, &queue));
    EXPECT(ISOTHERM_E_BAD_HANDLE, isotherm_put(store, "k", 1, "v", 1, NULL, NULL));
    EXPECT(ISOTHERM_E_BAD_HANDLE, isotherm_flush(bucket));
    EXPECT(ISOTHERM_E_BAD_HANDLE, isotherm_close(bucket));
    EXPECT(ISOTHERM_E_BAD_HANDLE, isotherm_bucket_close(store));
    EXPECT(ISOTHERM_E_BAD_HANDLE, isotherm_queue_outstanding(bucket, &count));
    EXPECT(ISOTHERM_E_BAD_HANDLE, isotherm_bucket_close(queue));
    CHECK(strstr(isotherm_last_error(), "another kind") != NULL);
    OK(isotherm_queue_close(queue));
    still_works();
}

static void lengths_out_of_bounds_are_refused(void) {
    static char key[1025];
    uint64_t number;
    char byte;
    memset(key, 'k', sizeof key);
    EXPECT(ISOTHERM_E_INVALID_ARGUMENT, isotherm_put(bucket, key, 0, "v", 1, NULL, NULL));
    EXPECT(ISOTHERM_E_INVALID_ARGUMENT, isotherm_put(bucket, NULL, 0, "v", 1, NULL, NULL));
    OK(isotherm_put(bucket, key, 1024, "v", 1, NULL, NULL));
    EXPECT(ISOTHERM_E_INVALID_ARGUMENT, isotherm_put(bucket, key, 1025, "v", 1, NULL, NULL));
    /* Claims that memory beyond the key were there: it is not looked at. */
    EXPECT(ISOTHERM_E_INVALID_ARGUMENT, isotherm_put(bucket, key, 1u << 30, "v", 1, NULL, NULL));
    EXPECT(ISOTHERM_E_INVALID_ARGUMENT, isotherm_put(bucket, key, SIZE_MAX, "v", 1, NULL, NULL));
    EXPECT(ISOTHERM_E_INVALID_ARGUMENT, isotherm_put(bucket, "k", 1, "v", SIZE_MAX, NULL, NULL));
    EXPECT(ISOTHERM_E_INVALID_ARGUMENT,
           isotherm_put(bucket, "k", 1, "v", ((size_t)16 << 40) + 1, NULL, NULL));
    EXPECT(ISOTHERM_E_INVALID_ARGUMENT,
           isotherm_put_at(bucket, "k", 1, UINT64_MAX, "v", 1, NULL, NULL));
    EXPECT(ISOTHERM_E_INVALID_ARGUMENT,
           isotherm_get_at(bucket, "works", 5, 0, &byte, SIZE_MAX, &number));
    OK(isotherm_get_at(bucket, "works", 5, UINT64_MAX, &byte, 1, &number));
    CHECK(number == 0);
    EXPECT(ISOTHERM_E_INVALID_ARGUMENT, isotherm_truncate(bucket, "works", 5, UINT64_MAX, NULL, NULL));
    OK(isotherm_put(bucket, "a\0b", 3, "", 0, NULL, NULL));
    OK(isotherm_put(bucket, "empty", 5, NULL, 0, NULL, NULL));
    OK(isotherm_get_into(bucket, "empty", 5, NULL, 0, &number));
    CHECK(number == 0);
    EXPECT(ISOTHERM_E_BUFFER_TOO_SMALL, isotherm_get_into(bucket, "works", 5, &byte, 1, &number));
    CHECK(number == 3);
    still_works();
}

static void names_of_buckets_are_checked(void) {
    char name[258];
    isotherm_bucket_t made;
    memset(name, 'n', sizeof name);
    name[255] = 0;
    OK(isotherm_bucket_create(store, name, NULL, &made));
    EXPECT(ISOTHERM_E_BUCKET_EXISTS, isotherm_bucket_create(store, name, NULL, &made));
    OK(isotherm_bucket_close(made));
    OK(isotherm_bucket_destroy(store, name));
    EXPECT(ISOTHERM_E_BUCKET_NOT_FOUND, isotherm_bucket_destroy(store, name));
    name[255] = 'n';
    name[257] = 0;
    EXPECT(ISOTHERM_E_INVALID_ARGUMENT, isotherm_bucket_create(store, name, NULL, &made));
    EXPECT(ISOTHERM_E_INVALID_ARGUMENT, isotherm_bucket_create(store, "", NULL, &made));
    EXPECT(ISOTHERM_E_INVALID_ARGUMENT, isotherm_bucket_create(store, "\xff\xfe", NULL, &made));
    EXPECT(ISOTHERM_E_BUCKET_NOT_FOUND, isotherm_bucket_open(store, "no such", &made));
    still_works();
}

static void options_of_every_size_are_judged(void) {
    struct {
        isotherm_put_options_t known;
        uint64_t tail;
    } longer;
    isotherm_put_options_t *options = &longer.known;
#define PUT isotherm_put(bucket, "o", 1, "v", 1, options, NULL)
    memset(&longer, 0, sizeof longer);
    EXPECT(ISOTHERM_E_INVALID_ARGUMENT, PUT);
    options->struct_size = 1;
    EXPECT(ISOTHERM_E_INVALID_ARGUMENT, PUT);
    options->struct_size = UINT32_MAX;
    EXPECT(ISOTHERM_E_INVALID_ARGUMENT, PUT);
    /* An older one, without the last field, and what it would have there is not looked at. */
    options->struct_size = 16;
    options->version = 77;
    OK(PUT);
    options->version = 0;
    options->struct_size = sizeof longer;
    OK(PUT);
    longer.tail = 1;
    EXPECT(ISOTHERM_E_UNSUPPORTED, PUT);
    OK(isotherm_put_options_init(options, sizeof longer));
    CHECK(options->struct_size == sizeof longer && longer.tail == 0);
    OK(PUT);
    options->flags = 1;
    EXPECT(ISOTHERM_E_UNSUPPORTED, PUT);
    OK(isotherm_put_options_init(options, sizeof *options));
    options->durability = 4;
    EXPECT(ISOTHERM_E_INVALID_ARGUMENT, PUT);
    options->durability = 0;
    options->condition = 4;
    EXPECT(ISOTHERM_E_INVALID_ARGUMENT, PUT);
    options->condition = 0;
    options->version = 5;
    EXPECT(ISOTHERM_E_INVALID_ARGUMENT, PUT);
#undef PUT
    EXPECT(ISOTHERM_E_INVALID_ARGUMENT, isotherm_put_options_init(options, 0));
    EXPECT(ISOTHERM_E_INVALID_ARGUMENT, isotherm_put_options_init(options, 4));
    EXPECT(ISOTHERM_E_INVALID_ARGUMENT, isotherm_put_options_init(options, SIZE_MAX));
    still_works();
}

static void conditions_hold_or_nothing_is_done(void) {
    isotherm_put_options_t options = ISOTHERM_PUT_OPTIONS_INIT;
    isotherm_blob_stat_t stat;
    isotherm_batch_t batch;
    bool exists = true;
    options.condition = ISOTHERM_CONDITION_ABSENT;
    EXPECT(ISOTHERM_E_EXISTS, isotherm_put(bucket, "works", 5, "no", 2, &options, NULL));
    options.condition = ISOTHERM_CONDITION_PRESENT;
    EXPECT(ISOTHERM_E_NOT_FOUND, isotherm_put(bucket, "absent", 6, "no", 2, &options, NULL));
    OK(isotherm_stat(bucket, "works", 5, &stat));
    options.condition = ISOTHERM_CONDITION_VERSION;
    options.version = stat.version + 1;
    EXPECT(ISOTHERM_E_VERSION_MISMATCH, isotherm_put(bucket, "works", 5, "no", 2, &options, NULL));
    OK(isotherm_batch_create(store, &batch));
    OK(isotherm_batch_put(batch, bucket, "absent", 6, "no", 2, NULL));
    OK(isotherm_batch_require(batch, bucket, "works", 5, &options));
    EXPECT(ISOTHERM_E_VERSION_MISMATCH, isotherm_batch_commit(batch, NULL, NULL, 0));
    OK(isotherm_batch_close(batch));
    OK(isotherm_exists(bucket, "absent", 6, &exists));
    CHECK(!exists);
    still_works();
}

static void a_batch_takes_place_wholly_and_many_are_got_at_once(void) {
    isotherm_batch_t batch;
    uint64_t versions[2] = {0, 0};
    char a[4], b[1];
    isotherm_put_options_t options = ISOTHERM_PUT_OPTIONS_INIT;
    isotherm_got_t got[3];
    const isotherm_get_t gets[3] = {
        {bucket, "batch/a", 7, a, sizeof a},
        {bucket, "batch/b", 7, b, sizeof b},
        {bucket, "batch/c", 7, NULL, 0},
    };
    OK(isotherm_batch_create(store, &batch));
    OK(isotherm_batch_put(batch, bucket, "batch/a", 7, "one", 3, NULL));
    OK(isotherm_batch_append(batch, bucket, "batch/b", 7, "two", 3, NULL));
    EXPECT(ISOTHERM_E_BUFFER_TOO_SMALL, isotherm_batch_commit(batch, NULL, versions, 1));
    options.durability = ISOTHERM_DURABILITY_DURABLE;
    EXPECT(ISOTHERM_E_INVALID_ARGUMENT,
           isotherm_batch_put(batch, bucket, "batch/d", 7, "one", 3, &options));
    OK(isotherm_batch_commit(batch, &options, versions, 2));
    CHECK(versions[0] != 0 && versions[1] != 0);
    OK(isotherm_batch_close(batch));
    OK(isotherm_get_many(store, gets, 3, got));
    CHECK(got[0].status == ISOTHERM_OK && got[0].value_len == 3 && memcmp(a, "one", 3) == 0);
    CHECK(got[1].status == ISOTHERM_E_BUFFER_TOO_SMALL && got[1].value_len == 3);
    CHECK(got[2].status == ISOTHERM_E_NOT_FOUND);
    still_works();
}

static void scans_visit_what_they_are_told(void) {
    static isotherm_scan_item_t items[4];
    isotherm_scan_options_t options = ISOTHERM_SCAN_OPTIONS_INIT;
    isotherm_scan_t scan;
    char key[24];
    size_t count, seen = 0;
    int number;
    for (number = 0; number < 10; number++) {
        snprintf(key, sizeof key, "scan/%d", number);
        OK(isotherm_put(bucket, key, 6, key, 6, NULL, NULL));
    }
    options.prefix = "scan/";
    options.prefix_len = 5;
    options.after = "scan/1";
    options.after_len = 6;
    OK(isotherm_scan_open(bucket, &options, &scan));
    do {
        OK(isotherm_scan_next(scan, items, 4, &count));
        seen += count;
        CHECK(count == 0 || (items[0].key_len == 6 && items[0].value_len == 6));
    } while (count > 0);
    CHECK(seen == 8);
    EXPECT(ISOTHERM_E_INVALID_ARGUMENT, isotherm_scan_next(scan, items, 0, &count));
    OK(isotherm_scan_close(scan));
    EXPECT(ISOTHERM_E_BAD_HANDLE, isotherm_scan_close(scan));
    options.start = "scan/3";
    options.start_len = 6;
    EXPECT(ISOTHERM_E_INVALID_ARGUMENT, isotherm_scan_open(bucket, &options, &scan));
    options.prefix_len = options.after_len = 0;
    options.end = "scan/5";
    options.end_len = 6;
    OK(isotherm_scan_open(bucket, &options, &scan));
    OK(isotherm_scan_next(scan, items, 4, &count));
    CHECK(count == 2 && memcmp(items[0].key, "scan/3", 6) == 0);
    OK(isotherm_scan_close(scan));
    still_works();
}

static void queues_refuse_what_makes_no_sense_and_lose_nothing(void) {
    isotherm_operation_t operations[6];
    isotherm_completion_t ended[8];
    isotherm_queue_t queue;
    size_t accepted = 0, count = 0, at;
    uint64_t ids[6];
    EXPECT(ISOTHERM_E_INVALID_ARGUMENT, isotherm_queue_create(store, 0, &queue));
    EXPECT(ISOTHERM_E_INVALID_ARGUMENT, isotherm_queue_create(store, SIZE_MAX, &queue));
    OK(isotherm_queue_create(store, 4, &queue));
    OK(isotherm_queue_wait(queue, ended, 1, 8, ISOTHERM_WAIT_FOREVER, &count));
    CHECK(count == 0);
    memset(operations, 0, sizeof operations);
    for (at = 0; at < 6; at++) {
        operations[at].action = ISOTHERM_ACTION_PUT;
        operations[at].bucket = bucket;
        operations[at].key = "queue";
        operations[at].key_len = 5;
        operations[at].buffer = (void *)"value";
        operations[at].len = 5;
        operations[at].user_data = at;
    }
    OK(isotherm_queue_submit(queue, operations, 6, ids, &accepted));
    CHECK(accepted == 4);
    EXPECT(ISOTHERM_E_BUSY, isotherm_queue_submit(queue, operations, 1, NULL, &accepted));
    EXPECT(ISOTHERM_E_INVALID_ARGUMENT, isotherm_queue_wait(queue, ended, 9, 8, 0, &count));
    EXPECT(ISOTHERM_E_INVALID_ARGUMENT, isotherm_queue_wait(queue, ended, 1, 8, -2, &count));
    OK(isotherm_queue_wait(queue, ended, 4, 8, INT64_MAX, &count));
    CHECK(count == 4);
    for (at = 0; at < 4; at++) {
        CHECK(ended[at].status == ISOTHERM_OK && ended[at].message[0] == 0);
        OK(isotherm_queue_cancel(queue, ids[at]));
    }
    OK(isotherm_queue_wait(queue, ended, 0, 8, 0, &count));
    CHECK(count == 0);
    operations[0].action = 99;
    EXPECT(ISOTHERM_E_INVALID_ARGUMENT, isotherm_queue_submit(queue, operations, 1, NULL, &accepted));
    operations[0].action = ISOTHERM_ACTION_DELETE;
    EXPECT(ISOTHERM_E_INVALID_ARGUMENT, isotherm_queue_submit(queue, operations, 1, NULL, &accepted));
    operations[0].action = ISOTHERM_ACTION_GET;
    operations[0].flags = 1;
    EXPECT(ISOTHERM_E_UNSUPPORTED, isotherm_queue_submit(queue, operations, 1, NULL, &accepted));
    operations[0].flags = 0;
    operations[0].bucket = store;
    EXPECT(ISOTHERM_E_BAD_HANDLE, isotherm_queue_submit(queue, operations, 1, NULL, &accepted));
    /* Errors of the operation itself come with its completion. */
    operations[0].bucket = bucket;
    operations[0].key = "no such";
    operations[0].key_len = 7;
    OK(isotherm_queue_submit(queue, operations, 1, NULL, &accepted));
    OK(isotherm_queue_wait(queue, ended, 1, 1, ISOTHERM_WAIT_FOREVER, &count));
    CHECK(count == 1 && ended[0].status == ISOTHERM_E_NOT_FOUND && ended[0].message[0] != 0);
    OK(isotherm_queue_close(queue));
    still_works();
}

static void opens_that_are_wrong_say_what_is(const char *path) {
    static char long_path[8192];
    const isotherm_setting_t unknown = {"no.such.key", "1"}, no_value = {"shards", NULL};
    isotherm_open_options_t options = ISOTHERM_OPEN_OPTIONS_INIT;
    isotherm_store_t second = 7;
    memset(long_path, 'p', sizeof long_path);
    EXPECT(ISOTHERM_E_LOCKED, isotherm_open(path, NULL, &second));
    EXPECT(ISOTHERM_E_INVALID_ARGUMENT, isotherm_open(long_path, NULL, &second));
    EXPECT(ISOTHERM_E_INVALID_ARGUMENT, isotherm_open("", NULL, &second));
    options.setting_count = 1;
    EXPECT(ISOTHERM_E_INVALID_ARGUMENT, isotherm_open(path, &options, &second));
    options.setting_count = UINT64_MAX;
    options.settings = &unknown;
    EXPECT(ISOTHERM_E_INVALID_ARGUMENT, isotherm_open(path, &options, &second));
    options.setting_count = 1;
    EXPECT(ISOTHERM_E_INVALID_CONFIG, isotherm_open(path, &options, &second));
    CHECK(strstr(isotherm_last_error(), "no.such.key") != NULL);
    options.settings = &no_value;
    EXPECT(ISOTHERM_E_INVALID_ARGUMENT, isotherm_open(path, &options, &second));
    options.setting_count = 0;
    options.config_file = "/no/such/file.toml";
    EXPECT(ISOTHERM_E_IO, isotherm_open(path, &options, &second));
    CHECK(second == 7);
    still_works();
}

static void facts_are_json_and_every_status_has_a_name(void) {
    char *json = NULL;
    size_t count = 0;
    isotherm_bucket_info_t info[1];
    OK(isotherm_info(store, &json));
    CHECK(json[0] == '{' && strstr(json, "\"tiers\"") != NULL);
    isotherm_free(json);
    OK(isotherm_stats(store, &json));
    CHECK(strstr(json, "\"dram_hits\"") != NULL);
    isotherm_free(json);
    EXPECT(ISOTHERM_E_BUFFER_TOO_SMALL, isotherm_bucket_list(store, NULL, 0, &count));
    CHECK(count == 1);
    OK(isotherm_bucket_list(store, info, 1, &count));
    CHECK(count == 1 && strcmp(info[0].name, "b") == 0 && info[0].blobs > 0);
    CHECK(strcmp(isotherm_errname(ISOTHERM_E_FORKED), "ISOTHERM_E_FORKED") == 0);
    CHECK(strlen(isotherm_strerror(12345)) > 0 && strlen(isotherm_strerror(ISOTHERM_OK)) > 0);
    CHECK(isotherm_version_number() == ISOTHERM_VERSION_NUMBER);
    CHECK(isotherm_abi_version() == ISOTHERM_ABI_VERSION);
    CHECK(strcmp(isotherm_version_string(), ISOTHERM_VERSION) == 0);
}

int main(int argc, char **argv) {
    CHECK(argc == 2);
    store = open_store(argv[1], "64MiB");
    OK(isotherm_bucket_create(store, "b", NULL, &bucket));
    still_works();
    null_pointers_are_refused();
    handles_that_are_none_are_refused();
    handles_of_another_kind_are_refused();
    lengths_out_of_bounds_are_refused();
    names_of_buckets_are_checked();
    options_of_every_size_are_judged();
    conditions_hold_or_nothing_is_done();
    a_batch_takes_place_wholly_and_many_are_got_at_once();
    scans_visit_what_they_are_told();
    queues_refuse_what_makes_no_sense_and_lose_nothing();
    opens_that_are_wrong_say_what_is(argv[1]);
    facts_are_json_and_every_status_has_a_name();
    OK(isotherm_close(store));
    return 0;
}
