/* lives STORE: what becomes of handles that are closed while they are used, and of forked children. */

#include "check.h"

#include <pthread.h>
#include <sys/wait.h>
#include <unistd.h>

#define DEPTH 8

static isotherm_store_t store;
static isotherm_bucket_t bucket;

static void closed_handles_stay_closed(void) {
    isotherm_bucket_t first, second;
    uint64_t len;
    OK(isotherm_bucket_open(store, "b", &first));
    OK(isotherm_bucket_close(first));
    OK(isotherm_bucket_open(store, "b", &second));
    CHECK(first != second);
    EXPECT(ISOTHERM_E_BAD_HANDLE, isotherm_get_into(first, "k", 1, NULL, 0, &len));
    EXPECT(ISOTHERM_E_BAD_HANDLE, isotherm_bucket_close(first));
    OK(isotherm_put(second, "k", 1, "v", 1, NULL, NULL));
    OK(isotherm_bucket_close(second));
}

/* Gets until the handle is closed under it. */
static void *get_until_closed(void *handle) {
    isotherm_status_t status;
    char byte;
    do {
        uint64_t len;
        status = isotherm_get_into(*(isotherm_bucket_t *)handle, "k", 1, &byte, 1, &len);
        CHECK(status != ISOTHERM_OK || (len == 1 && byte == 'v'));
    } while (status == ISOTHERM_OK);
    CHECK(status == ISOTHERM_E_BAD_HANDLE);
    CHECK(strstr(isotherm_last_error(), "closed") != NULL);
    return NULL;
}

static void a_handle_closed_by_another_thread_is_refused_from_then_on(void) {
    int round;
    for (round = 0; round < 50; round++) {
        isotherm_bucket_t shared;
        pthread_t threads[2];
        int at;
        OK(isotherm_bucket_open(store, "b", &shared));
        for (at = 0; at < 2; at++) {
            CHECK(pthread_create(&threads[at], NULL, get_until_closed, &shared) == 0);
        }
        usleep(200);
        OK(isotherm_bucket_close(shared));
        for (at = 0; at < 2; at++) {
            CHECK(pthread_join(threads[at], NULL) == 0);
        }
    }
}

static void a_queue_closed_with_operations_under_way_waits_for_them(void) {
    static char buffers[DEPTH][1 << 20];
    isotherm_operation_t operations[DEPTH];
    isotherm_blob_stat_t stat;
    isotherm_queue_t queue;
    char keys[DEPTH];
    size_t at, accepted;
    OK(isotherm_queue_create(store, DEPTH, &queue));
    memset(operations, 0, sizeof operations);
    for (at = 0; at < DEPTH; at++) {
        keys[at] = (char)('a' + at);
        operations[at].action = ISOTHERM_ACTION_PUT;
        operations[at].bucket = bucket;
        operations[at].key = &keys[at];
        operations[at].key_len = 1;
        operations[at].buffer = buffers[at];
        operations[at].len = sizeof buffers[at];
    }
    OK(isotherm_queue_submit(queue, operations, DEPTH, NULL, &accepted));
    CHECK(accepted == DEPTH);
    OK(isotherm_queue_close(queue));
    memset(buffers, 1, sizeof buffers);
    for (at = 0; at < DEPTH; at++) {
        OK(isotherm_stat(bucket, &keys[at], 1, &stat));
        CHECK(stat.value_len == sizeof buffers[at]);
    }
    OK(isotherm_put(bucket, "k", 1, "v", 1, NULL, NULL));
}

/* Every call of a child is refused, and its closes do nothing to the parent's store. */
static void in_child(const char *path) {
    isotherm_store_t other;
    uint64_t len;
    size_t count;
    EXPECT(ISOTHERM_E_FORKED, isotherm_get_into(bucket, "k", 1, NULL, 0, &len));
    EXPECT(ISOTHERM_E_FORKED, isotherm_put(bucket, "k", 1, "x", 1, NULL, NULL));
    EXPECT(ISOTHERM_E_FORKED, isotherm_flush(store));
    EXPECT(ISOTHERM_E_FORKED, isotherm_open(path, NULL, &other));
    EXPECT(ISOTHERM_E_FORKED, isotherm_bucket_list(store, NULL, 0, &count));
    EXPECT(ISOTHERM_E_FORKED, isotherm_queue_cancel(0, 0));
    CHECK(strstr(isotherm_last_error(), "forked") != NULL);
    OK(isotherm_bucket_close(bucket));
    OK(isotherm_close(store));
    CHECK(isotherm_version_number() == ISOTHERM_VERSION_NUMBER);
}

static void a_forked_child_is_refused_and_its_parent_goes_on(const char *path) {
    char byte = 0;
    uint64_t len;
    int status = -1;
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        in_child(path);
        /* Not _exit, where valgrind would count what the parent's threads own as lost. */
        execl("/bin/true", "true", (char *)NULL);
        _exit(1);
    }
    CHECK(waitpid(child, &status, 0) == child && status == 0);
    OK(isotherm_get_into(bucket, "k", 1, &byte, 1, &len));
    CHECK(byte == 'v');
}

static void many_handles_are_a_limit_and_not_a_leak(void) {
    enum { HANDLES_MAX = 65536 };
    static isotherm_batch_t batches[HANDLES_MAX];
    isotherm_batch_t one_more;
    size_t count = 0, at;
    while (count < HANDLES_MAX && isotherm_batch_create(store, &batches[count]) == ISOTHERM_OK) {
        count++;
    }
    EXPECT(ISOTHERM_E_LIMIT_EXCEEDED, isotherm_batch_create(store, &one_more));
    for (at = 0; at < count; at++) {
        OK(isotherm_batch_close(batches[at]));
    }
    OK(isotherm_batch_create(store, &one_more));
    OK(isotherm_batch_close(one_more));
}

static void a_store_closes_with_everything_of_it(const char *path) {
    isotherm_bucket_t before = bucket;
    isotherm_store_t closed = store;
    isotherm_queue_t queue;
    isotherm_batch_t batch;
    isotherm_scan_t scan;
    isotherm_scan_item_t item;
    uint64_t len;
    size_t count;
    char byte;
    OK(isotherm_queue_create(store, 1, &queue));
    OK(isotherm_batch_create(store, &batch));
    OK(isotherm_batch_put(batch, bucket, "x", 1, "y", 1, NULL));
    OK(isotherm_scan_open(bucket, NULL, &scan));
    OK(isotherm_close(store));
    EXPECT(ISOTHERM_E_BAD_HANDLE, isotherm_close(closed));
    EXPECT(ISOTHERM_E_BAD_HANDLE, isotherm_get_into(before, "k", 1, &byte, 1, &len));
    EXPECT(ISOTHERM_E_BAD_HANDLE, isotherm_queue_outstanding(queue, &count));
    EXPECT(ISOTHERM_E_BAD_HANDLE, isotherm_batch_commit(batch, NULL, NULL, 0));
    EXPECT(ISOTHERM_E_BAD_HANDLE, isotherm_scan_next(scan, &item, 1, &count));
    store = open_store(path, "64MiB");
    EXPECT(ISOTHERM_E_BAD_HANDLE, isotherm_get_into(before, "k", 1, &byte, 1, &len));
    OK(isotherm_bucket_open(store, "b", &bucket));
    OK(isotherm_get_into(bucket, "k", 1, &byte, 1, &len));
}

int main(int argc, char **argv) {
    CHECK(argc == 2);
    store = open_store(argv[1], "64MiB");
    OK(isotherm_bucket_ensure(store, "b", &bucket));
    OK(isotherm_put(bucket, "k", 1, "v", 1, NULL, NULL));
    closed_handles_stay_closed();
    a_handle_closed_by_another_thread_is_refused_from_then_on();
    a_queue_closed_with_operations_under_way_waits_for_them();
    a_forked_child_is_refused_and_its_parent_goes_on(argv[1]);
    many_handles_are_a_limit_and_not_a_leak();
    a_store_closes_with_everything_of_it(argv[1]);
    OK(isotherm_close(store));
    return 0;
}
