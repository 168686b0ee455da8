/* blobs STORE CAPACITY COUNT write|read WRITER: stores or checks the blobs of a writer, those of even
 * numbers synchronously, the others through a queue. */

#include "check.h"
#include "content.h"

#define DEPTH 16

static isotherm_bucket_t bucket;
static isotherm_queue_t queue;

/* What an operation under way needs: its buffer is the library's until the completion is taken. */
struct slot {
    unsigned char *buffer;
    uint64_t number;
    int busy;
};

static struct slot slots[DEPTH];

static unsigned char *expected;

static void check_value(uint64_t number, const char *writer, const unsigned char *value, size_t len) {
    CHECK(len == value_len(number));
    fill_value(number, writer, expected, len);
    CHECK(memcmp(value, expected, len) == 0);
}

static void put_now(uint64_t number, const char *writer) {
    char key[64];
    size_t key_len = make_key(number, writer, key), len = value_len(number);
    uint64_t version = 0;
    fill_value(number, writer, expected, len);
    OK(isotherm_put(bucket, key, key_len, expected, len, NULL, &version));
    CHECK(version != 0);
}

/* Half of them into a buffer of our own, half into one of the library's. */
static void get_now(uint64_t number, const char *writer) {
    char key[64];
    size_t key_len = make_key(number, writer, key);
    uint64_t len = 0;
    if (number % 4 == 0) {
        void *value = NULL;
        OK(isotherm_get(bucket, key, key_len, &value, &len));
        check_value(number, writer, value, len);
        isotherm_free(value);
        return;
    }
    OK(isotherm_get_into(bucket, key, key_len, slots[0].buffer, VALUE_LEN_MAX, &len));
    check_value(number, writer, slots[0].buffer, len);
}

/* Takes at least one completion. */
static void take(int writing, const char *writer) {
    isotherm_completion_t ended[DEPTH];
    size_t count = 0, at;
    OK(isotherm_queue_wait(queue, ended, 1, DEPTH, ISOTHERM_WAIT_FOREVER, &count));
    CHECK(count > 0);
    for (at = 0; at < count; at++) {
        struct slot *slot = &slots[ended[at].user_data];
        if (ended[at].status != ISOTHERM_OK) {
            fprintf(stderr, "blob %llu: %s\n", (unsigned long long)slot->number, ended[at].message);
            exit(1);
        }
        CHECK(slot->busy);
        if (!writing) {
            CHECK(ended[at].value_len == ended[at].bytes);
            check_value(slot->number, writer, slot->buffer, ended[at].bytes);
        }
        slot->busy = 0;
    }
}

static struct slot *free_slot(int writing, const char *writer) {
    for (;;) {
        size_t at;
        for (at = 0; at < DEPTH; at++) {
            if (!slots[at].busy) {
                return &slots[at];
            }
        }
        take(writing, writer);
    }
}

static void submit(uint64_t number, const char *writer, int writing) {
    struct slot *slot = free_slot(writing, writer);
    isotherm_operation_t operation;
    char key[64];
    size_t accepted = 0;
    uint64_t id = 0;
    memset(&operation, 0, sizeof operation);
    operation.action = writing ? ISOTHERM_ACTION_PUT : ISOTHERM_ACTION_GET;
    operation.bucket = bucket;
    operation.key = key;
    operation.key_len = make_key(number, writer, key);
    operation.buffer = slot->buffer;
    operation.len = writing ? value_len(number) : VALUE_LEN_MAX;
    operation.user_data = (uint64_t)(slot - slots);
    if (writing) {
        fill_value(number, writer, slot->buffer, value_len(number));
    }
    slot->number = number;
    slot->busy = 1;
    OK(isotherm_queue_submit(queue, &operation, 1, &id, &accepted));
    CHECK(accepted == 1 && id != 0);
}

static void run(uint64_t count, const char *writer, int writing) {
    uint64_t number;
    size_t outstanding = 0;
    for (number = 0; number < count; number += 2) {
        if (writing) {
            put_now(number, writer);
        } else {
            get_now(number, writer);
        }
    }
    for (number = 1; number < count; number += 2) {
        submit(number, writer, writing);
    }
    for (;;) {
        OK(isotherm_queue_outstanding(queue, &outstanding));
        if (outstanding == 0) {
            return;
        }
        take(writing, writer);
    }
}

int main(int argc, char **argv) {
    isotherm_store_t store;
    size_t at;
    CHECK(argc == 6);
    store = open_store(argv[1], argv[2]);
    expected = malloc(VALUE_LEN_MAX);
    CHECK(expected != NULL);
    for (at = 0; at < DEPTH; at++) {
        slots[at].buffer = malloc(VALUE_LEN_MAX);
        CHECK(slots[at].buffer != NULL);
    }
    OK(isotherm_bucket_ensure(store, "blobs", &bucket));
    OK(isotherm_queue_create(store, DEPTH, &queue));
    run(strtoull(argv[3], NULL, 10), argv[5], strcmp(argv[4], "write") == 0);
    OK(isotherm_queue_close(queue));
    OK(isotherm_bucket_close(bucket));
    OK(isotherm_close(store));
    for (at = 0; at < DEPTH; at++) {
        free(slots[at].buffer);
    }
    free(expected);
    return 0;
}
