/*
 * isotherm: blobs on a hierarchy of DRAM, NVMe and HDD.
 *
 * Written by cargo run -p isotherm-header from ffi/src. Do not edit.
 *
 * Every call that can fail answers a status: 0, or a negative number of the ISOTHERM_E_* below;
 * isotherm_last_error has the message. What a call hands out is written only when it succeeds, unless
 * its comment says otherwise. A pointer may be NULL only where its comment says so, or where its length
 * is 0; memory that a length speaks of must be there.
 *
 * Handles are numbers. 0, a closed one, one of another kind or of another process is answered with
 * ISOTHERM_E_BAD_HANDLE. Closing waits for the calls that use the handle. All calls may be made from any
 * thread, but from no signal handler. A defect inside is ISOTHERM_E_INTERNAL, after which the store takes
 * no changes. Exit without isotherm_close is like the death of the process: what was acknowledged at
 * Written level or more is there at the next open.
 *
 * Structs of options begin with their size and may grow: initialize them with their _INIT or _init.
 */

#ifndef ISOTHERM_H
#define ISOTHERM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/** The version of this header. isotherm_version_number: that of the library. */
#define ISOTHERM_VERSION_MAJOR 0
#define ISOTHERM_VERSION_MINOR 1
#define ISOTHERM_VERSION_PATCH 0
#define ISOTHERM_VERSION "0.1.0"
#define ISOTHERM_VERSION_NUMBER \
    (ISOTHERM_VERSION_MAJOR * 1000000 + ISOTHERM_VERSION_MINOR * 1000 + ISOTHERM_VERSION_PATCH)

#ifndef ISOTHERM_API
#define ISOTHERM_API __attribute__((visibility("default")))
#endif

/** Options at their defaults: isotherm_put_options_t options = ISOTHERM_PUT_OPTIONS_INIT; */
#define ISOTHERM_OPEN_OPTIONS_INIT {sizeof(isotherm_open_options_t), 0, NULL, NULL, 0}
#define ISOTHERM_BUCKET_OPTIONS_INIT {sizeof(isotherm_bucket_options_t), 0, 0, 0}
#define ISOTHERM_PUT_OPTIONS_INIT {sizeof(isotherm_put_options_t), 0, 0, 0, 0}
#define ISOTHERM_SCAN_OPTIONS_INIT \
    {sizeof(isotherm_scan_options_t), 0, NULL, 0, NULL, 0, NULL, 0, NULL, 0}


/** The level of the bucket, else of the store. */
#define ISOTHERM_DURABILITY_DEFAULT 0

/**
 * A change returns when the bytes are in DRAM; written behind within flush_interval. Survives a
 * clean close, and anything once a flush that followed has returned.
 */
#define ISOTHERM_DURABILITY_MEMORY 1

/** A change returns when the device write has completed. Survives the end of the process. */
#define ISOTHERM_DURABILITY_WRITTEN 2

/** A change returns when it is covered by completed flushes. Survives power loss. */
#define ISOTHERM_DURABILITY_DURABLE 3

/** The change is made in any case. */
#define ISOTHERM_CONDITION_NONE 0

/** Only if there is no such blob; ISOTHERM_E_EXISTS otherwise. */
#define ISOTHERM_CONDITION_ABSENT 1

/** Only if there is such a blob; ISOTHERM_E_NOT_FOUND otherwise. */
#define ISOTHERM_CONDITION_PRESENT 2

/** Only if the blob has this version; ISOTHERM_E_VERSION_MISMATCH otherwise. */
#define ISOTHERM_CONDITION_VERSION 3

/** Done. */
#define ISOTHERM_OK 0

/** An argument is out of its range; the message names it. */
#define ISOTHERM_E_INVALID_ARGUMENT -101

/** A configuration key or value is wrong; the message names it. */
#define ISOTHERM_E_INVALID_CONFIG -102

/** The buffer is smaller than the value; its length is handed out. */
#define ISOTHERM_E_BUFFER_TOO_SMALL -103

/** The store, its format, or its tiers cannot do this. */
#define ISOTHERM_E_UNSUPPORTED -104

/** A handle that is none, of another kind, or closed. */
#define ISOTHERM_E_BAD_HANDLE -105

/** No such blob. */
#define ISOTHERM_E_NOT_FOUND -201

/** No such bucket. */
#define ISOTHERM_E_BUCKET_NOT_FOUND -202

/** A bucket of this name exists. */
#define ISOTHERM_E_BUCKET_EXISTS -203

/** No store at this path. */
#define ISOTHERM_E_STORE_NOT_FOUND -204

/** The blob is there, and the change was to be made only if it is not. */
#define ISOTHERM_E_EXISTS -205

/** The blob has another version than the change was to be made to. */
#define ISOTHERM_E_VERSION_MISMATCH -206

/** The tiers are full. */
#define ISOTHERM_E_NO_SPACE -301

/** The memory budget does not allow another index entry. */
#define ISOTHERM_E_NO_MEMORY -302

/** A published limit is exceeded. */
#define ISOTHERM_E_LIMIT_EXCEEDED -303

/** The queue is full and the caller asked not to wait. */
#define ISOTHERM_E_BUSY -304

/** Cancelled before it began. */
#define ISOTHERM_E_CANCELLED -305

/** The bucket's quota of bytes or blobs would be exceeded. */
#define ISOTHERM_E_QUOTA_EXCEEDED -306

/** The store is closed. */
#define ISOTHERM_E_CLOSED -401

/** Another process, or another handle of this one, has the store or a tier of it open. */
#define ISOTHERM_E_LOCKED -402

/** The engine met a breach of its own invariants and stopped; reopen the store. */
#define ISOTHERM_E_POISONED -403

/** The file system does not allow this (permissions, read-only). */
#define ISOTHERM_E_PERMISSION_DENIED -404

/** The store is open for reading only. */
#define ISOTHERM_E_READ_ONLY -405

/** This process was forked from one that had a store open. */
#define ISOTHERM_E_FORKED -406

/** A device reported an I/O error. */
#define ISOTHERM_E_IO -501

/** A flush failed; the device takes no more writes until the store is reopened. */
#define ISOTHERM_E_DEVICE_FAILED -502

/** Stored bytes do not match their checksum. */
#define ISOTHERM_E_CORRUPT -503

/** The files are not an isotherm store, or one of a newer format. */
#define ISOTHERM_E_FORMAT -504

/** A tier's file is missing, or is that of another store. */
#define ISOTHERM_E_TIER_MISSING -505

/** A defect of the engine. */
#define ISOTHERM_E_INTERNAL -901

/**
 * The version of the interface: programs built against another do not run with this library. It is
 * in the library's soname.
 */
#define ISOTHERM_ABI_VERSION 0

/** The whole value into the buffer of len bytes. */
#define ISOTHERM_ACTION_GET 1

/** As many of len bytes from offset on as there are into the buffer. */
#define ISOTHERM_ACTION_GET_AT 2

/** The buffer becomes the value. */
#define ISOTHERM_ACTION_PUT 3

/** The buffer is written at offset. */
#define ISOTHERM_ACTION_PUT_AT 4

/** The buffer is written at the end. */
#define ISOTHERM_ACTION_APPEND 5

/** The value gets the length offset. */
#define ISOTHERM_ACTION_TRUNCATE 6

/** The blob is removed. */
#define ISOTHERM_ACTION_DELETE 7

/** For isotherm_queue_wait: as long as it takes. */
#define ISOTHERM_WAIT_FOREVER -1

/**
 * 0, or the negative number of what went wrong. Hundreds group the causes: -1xx the caller's argument,
 * -2xx existence, -3xx space and bounds, -4xx state of the store, -5xx devices and data, -9xx a
 * defect of isotherm.
 */
typedef int32_t isotherm_status_t;

/** Options of a change. Zeros are the defaults. */
typedef struct isotherm_put_options_t {
    /** sizeof(isotherm_put_options_t). */
    uint32_t struct_size;
    /** 0. */
    uint32_t flags;
    /** ISOTHERM_DURABILITY_*: when the call returns, and what the change survives. */
    uint32_t durability;
    /** ISOTHERM_CONDITION_*: what must hold of the blob. Of a copy or rename: of the target. */
    uint32_t condition;
    /** Of ISOTHERM_CONDITION_VERSION; else 0. */
    uint64_t version;
} isotherm_put_options_t;

/** One setting: a key and a value of the README's table, such as "tier.0.capacity" and "256MiB". */
typedef struct isotherm_setting_t {
    /** Text that ends with a NUL. */
    const char *key;
    /** Text that ends with a NUL. */
    const char *value;
} isotherm_setting_t;

/** Options of an open. Zeros are the defaults. */
typedef struct isotherm_open_options_t {
    /** sizeof(isotherm_open_options_t). */
    uint32_t struct_size;
    /** 0. */
    uint32_t flags;
    /** A TOML file of settings; NULL: none. */
    const char *config_file;
    /** Settings that replace those of the file; a later one replaces an earlier. */
    const struct isotherm_setting_t *settings;
    /** How many there are. */
    uint64_t setting_count;
} isotherm_open_options_t;

/** A store. 0 is none. All calls may be made from any thread. */
typedef uint64_t isotherm_store_t;

/** Options of a new bucket. Zeros are the defaults. */
typedef struct isotherm_bucket_options_t {
    /** sizeof(isotherm_bucket_options_t). */
    uint32_t struct_size;
    /** 0. */
    uint32_t flags;
    /** ISOTHERM_DURABILITY_* of changes that name none. */
    uint32_t durability;
    /** Largest buffer of its blobs in bytes, a multiple of 16 KiB from 64 KiB to 1 MiB; 0: the store's. */
    uint32_t buffer_size;
} isotherm_bucket_options_t;

/** A bucket of an open store. 0 is none. All calls may be made from any thread. */
typedef uint64_t isotherm_bucket_t;

/** What is known of a bucket. */
typedef struct isotherm_bucket_stat_t {
    /** Blobs in it. */
    uint64_t blobs;
    /** Bytes of their values. */
    uint64_t bytes;
    /** 0. */
    uint64_t reserved[6];
} isotherm_bucket_stat_t;

/** A bucket in a listing. */
typedef struct isotherm_bucket_info_t {
    /** Its name, with a NUL after it. */
    char name[256];
    /** Blobs in it. */
    uint64_t blobs;
    /** Bytes of their values. */
    uint64_t bytes;
    /** Its number, never used again. */
    uint32_t id;
    /** Bytes of its name. */
    uint32_t name_len;
    /** 0. */
    uint64_t reserved[5];
} isotherm_bucket_info_t;

/** What is known of a blob. */
typedef struct isotherm_blob_stat_t {
    /** Bytes of the value. */
    uint64_t value_len;
    /** Its version; larger after every change. */
    uint64_t version;
    /** Buffers that the value is made of. */
    uint64_t buffers;
    /** 0. */
    uint64_t reserved[5];
} isotherm_blob_stat_t;

/**
 * Which blobs a scan visits. Zeros: all of the bucket. Lengths of up to 1024 bytes; a length of 0
 * means that there is no such bound.
 */
typedef struct isotherm_scan_options_t {
    /** sizeof(isotherm_scan_options_t). */
    uint32_t struct_size;
    /** 0. */
    uint32_t flags;
    /** Keys that begin with these bytes. Not together with start or end. */
    const void *prefix;
    /** Bytes of it. */
    uint64_t prefix_len;
    /** Keys from this one on. */
    const void *start;
    /** Bytes of it. */
    uint64_t start_len;
    /** Keys before this one. */
    const void *end;
    /** Bytes of it. */
    uint64_t end_len;
    /** Of these, keys beyond this one: the last key seen, to go on there. */
    const void *after;
    /** Bytes of it. */
    uint64_t after_len;
} isotherm_scan_options_t;

/** A scan under way. 0 is none. One call at a time may use it, from any thread. */
typedef uint64_t isotherm_scan_t;

/** A blob that a scan has met. */
typedef struct isotherm_scan_item_t {
    /** Its key. */
    uint8_t key[1024];
    /** Bytes of it. */
    uint64_t key_len;
    /** Length of its value when it was met. */
    uint64_t value_len;
    /** Its version when it was met. */
    uint64_t version;
    /** 0. */
    uint64_t reserved[5];
} isotherm_scan_item_t;

/**
 * Changes to be made together, in any number of buckets of one store, each blob at most once. 0 is
 * none. One call at a time may use it, from any thread.
 */
typedef uint64_t isotherm_batch_t;

/** One of several gets. */
typedef struct isotherm_get_t {
    /** The bucket. */
    isotherm_bucket_t bucket;
    /** The key. */
    const void *key;
    /** Bytes of it. */
    uint64_t key_len;
    /** Room for the whole value. */
    void *buffer;
    /** Bytes of it. */
    uint64_t capacity;
} isotherm_get_t;

/** What one of several gets came to. */
typedef struct isotherm_got_t {
    /** ISOTHERM_OK, ISOTHERM_E_NOT_FOUND, ISOTHERM_E_BUFFER_TOO_SMALL, or why it could not be read. */
    isotherm_status_t status;
    /** 0. */
    uint32_t reserved;
    /** Length of the value, also if the buffer is too small for it. */
    uint64_t value_len;
} isotherm_got_t;

/**
 * A queue of asynchronous operations. 0 is none. All calls may be made from any thread; a queue per
 * thread is the fast way.
 */
typedef uint64_t isotherm_queue_t;

/**
 * An operation to be submitted. The record and the key are copied; the buffer stays the caller's, who
 * keeps it as it is, and of a get does not look at it, until the operation's completion has been taken
 * or the queue closed.
 */
typedef struct isotherm_operation_t {
    /** ISOTHERM_ACTION_*. */
    uint32_t action;
    /** 0. */
    uint32_t flags;
    /** The bucket. */
    isotherm_bucket_t bucket;
    /** The key. */
    const void *key;
    /** Bytes of it. */
    uint64_t key_len;
    /** Bytes to store, which are only read, or room for bytes to come. */
    void *buffer;
    /** Bytes of the buffer; 0 for a truncate and a delete. */
    uint64_t len;
    /** Of the value, as the action says; else 0. */
    uint64_t offset;
    /** Handed back with the completion. */
    uint64_t user_data;
    /** ISOTHERM_DURABILITY_* of a change; else 0. */
    uint32_t durability;
    /** ISOTHERM_CONDITION_* of a change; else 0. */
    uint32_t condition;
    /** Of ISOTHERM_CONDITION_VERSION; else 0. */
    uint64_t version;
    /** 0. */
    uint64_t reserved[4];
} isotherm_operation_t;

/** An operation that has ended. */
typedef struct isotherm_completion_t {
    /** The operation's number in its queue. */
    uint64_t id;
    /** From the operation. */
    uint64_t user_data;
    /** How it ended. */
    isotherm_status_t status;
    /** 0. */
    uint32_t reserved;
    /** Bytes of the buffer that were filled or stored. */
    uint64_t bytes;
    /** Where they begin in the value. */
    uint64_t offset;
    /** Gets: the length of the value, also with ISOTHERM_E_BUFFER_TOO_SMALL. */
    uint64_t value_len;
    /** Changes: the version made. */
    uint64_t version;
    /** 0. */
    uint64_t reserved_tail;
    /** What went wrong, as much as fits, with a NUL after it. Empty if nothing did. */
    char message[128];
} isotherm_completion_t;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/**
 * The message of the last call of this thread that failed: what was wrong, with its value, and what
 * to do. Empty text before the first. Valid until the next call of this thread that fails.
 */
ISOTHERM_API const char *isotherm_last_error(void);

/** Frees what a call has allocated for its caller. NULL is allowed. */
ISOTHERM_API void isotherm_free(void *memory);

/** Sets options to their defaults. */
ISOTHERM_API
isotherm_status_t isotherm_put_options_init(struct isotherm_put_options_t *options,
                                            size_t struct_size);

/**
 * What a status means, in a few words. Static text, never NULL. What went wrong in particular says
 * isotherm_last_error.
 */
ISOTHERM_API const char *isotherm_strerror(isotherm_status_t status);

/** The name of a status: "ISOTHERM_E_NOT_FOUND". Static text, never NULL. */
ISOTHERM_API const char *isotherm_errname(isotherm_status_t status);

/** The version of the library in use, as ISOTHERM_VERSION_NUMBER is that of the header. */
ISOTHERM_API uint32_t isotherm_version_number(void);

/** The version of the library in use: "0.1.0". Static text. */
ISOTHERM_API const char *isotherm_version_string(void);

/** The version of the interface of the library in use: must be ISOTHERM_ABI_VERSION. */
ISOTHERM_API uint32_t isotherm_abi_version(void);

/** Sets options to their defaults. */
ISOTHERM_API
isotherm_status_t isotherm_open_options_init(struct isotherm_open_options_t *options,
                                             size_t struct_size);

/**
 * Opens the store in a directory, or makes one there. options may be NULL. One process has a store
 * open at a time (ISOTHERM_E_LOCKED otherwise), or several for reading only.
 *
 * After the first open, a forked child of this process can make no call but isotherm_free and those
 * that close, which do nothing there (ISOTHERM_E_FORKED).
 */
ISOTHERM_API
isotherm_status_t isotherm_open(const char *path,
                                const struct isotherm_open_options_t *options,
                                isotherm_store_t *store);

/**
 * Makes everything durable and closes the store, with every bucket, queue, scan and batch of it that
 * is still open. Waits for calls and operations of queues under way: when it returns, no buffer of
 * theirs is in use. The handle is none from the beginning, also if the flush fails, which the status
 * says. 0 is allowed and does nothing.
 */
ISOTHERM_API
isotherm_status_t isotherm_close(isotherm_store_t store);

/** Makes everything acknowledged before this call durable: it survives power loss. */
ISOTHERM_API isotherm_status_t isotherm_flush(isotherm_store_t store);

/** What the store is and how it runs, as a JSON object: text that ends with a NUL, for isotherm_free. */
ISOTHERM_API
isotherm_status_t isotherm_info(isotherm_store_t store,
                                char **json);

/**
 * Everything counted since the store was opened, as a JSON object: text that ends with a NUL, for
 * isotherm_free.
 */
ISOTHERM_API isotherm_status_t isotherm_stats(isotherm_store_t store, char **json);

/** Sets options to their defaults. */
ISOTHERM_API
isotherm_status_t isotherm_bucket_options_init(struct isotherm_bucket_options_t *options,
                                               size_t struct_size);

/** Makes a bucket. options may be NULL. ISOTHERM_E_BUCKET_EXISTS if there is one of this name. */
ISOTHERM_API
isotherm_status_t isotherm_bucket_create(isotherm_store_t store,
                                         const char *name,
                                         const struct isotherm_bucket_options_t *options,
                                         isotherm_bucket_t *bucket);

/** Opens a bucket. ISOTHERM_E_BUCKET_NOT_FOUND if there is none of this name. */
ISOTHERM_API
isotherm_status_t isotherm_bucket_open(isotherm_store_t store,
                                       const char *name,
                                       isotherm_bucket_t *bucket);

/** Opens a bucket, making it with default options if there is none. */
ISOTHERM_API
isotherm_status_t isotherm_bucket_ensure(isotherm_store_t store,
                                         const char *name,
                                         isotherm_bucket_t *bucket);

/**
 * Closes a bucket's handle, when no call uses it any more; the bucket and its other handles stay. 0
 * is allowed and does nothing.
 */
ISOTHERM_API isotherm_status_t isotherm_bucket_close(isotherm_bucket_t bucket);

/** Destroys a bucket with all its blobs. Handles of it stay to be closed. */
ISOTHERM_API isotherm_status_t isotherm_bucket_destroy(isotherm_store_t store, const char *name);

/** Blobs and bytes of a bucket. */
ISOTHERM_API
isotherm_status_t isotherm_bucket_stat(isotherm_bucket_t bucket,
                                       struct isotherm_bucket_stat_t *stat);

/**
 * Lists all buckets by name, at most capacity of them. count is how many there are, also with
 * ISOTHERM_E_BUFFER_TOO_SMALL, when none has been written: call it with NULL and 0 to learn it.
 */
ISOTHERM_API
isotherm_status_t isotherm_bucket_list(isotherm_store_t store,
                                       struct isotherm_bucket_info_t *buckets,
                                       size_t capacity,
                                       size_t *count);

/**
 * Makes everything durable that was acknowledged of this bucket before this call. Others may be
 * flushed along.
 */
ISOTHERM_API isotherm_status_t isotherm_bucket_flush(isotherm_bucket_t bucket);

/** Stores a value under a key, replacing any there is. options and version may be NULL. */
ISOTHERM_API
isotherm_status_t isotherm_put(isotherm_bucket_t bucket,
                               const void *key,
                               size_t key_len,
                               const void *value,
                               size_t value_len,
                               const struct isotherm_put_options_t *options,
                               uint64_t *version);

/**
 * Writes bytes at an offset of the value, making or extending the blob as needed; bytes never written
 * read as zeros. Atomic, whatever its size. options and version may be NULL.
 */
ISOTHERM_API
isotherm_status_t isotherm_put_at(isotherm_bucket_t bucket,
                                  const void *key,
                                  size_t key_len,
                                  uint64_t offset,
                                  const void *value,
                                  size_t value_len,
                                  const struct isotherm_put_options_t *options,
                                  uint64_t *version);

/**
 * Adds bytes at the end of the value, making the blob if there is none. offset, where they begin,
 * and options may be NULL.
 */
ISOTHERM_API
isotherm_status_t isotherm_append(isotherm_bucket_t bucket,
                                  const void *key,
                                  size_t key_len,
                                  const void *value,
                                  size_t value_len,
                                  const struct isotherm_put_options_t *options,
                                  uint64_t *offset);

/**
 * Sets the length of the value; new bytes read as zeros. ISOTHERM_E_NOT_FOUND if there is no blob.
 * options and version may be NULL.
 */
ISOTHERM_API
isotherm_status_t isotherm_truncate(isotherm_bucket_t bucket,
                                    const void *key,
                                    size_t key_len,
                                    uint64_t value_len,
                                    const struct isotherm_put_options_t *options,
                                    uint64_t *version);

/** Removes the blob. ISOTHERM_E_NOT_FOUND if there is none. options may be NULL. */
ISOTHERM_API
isotherm_status_t isotherm_delete(isotherm_bucket_t bucket,
                                  const void *key,
                                  size_t key_len,
                                  const struct isotherm_put_options_t *options);

/**
 * Gives a blob another name, in this bucket or another of the store, replacing any blob of that name:
 * atomic, whatever the value's size. The condition of options is the target's. options and
 * version may be NULL.
 */
ISOTHERM_API
isotherm_status_t isotherm_rename(isotherm_bucket_t bucket,
                                  const void *key,
                                  size_t key_len,
                                  isotherm_bucket_t to_bucket,
                                  const void *to_key,
                                  size_t to_key_len,
                                  const struct isotherm_put_options_t *options,
                                  uint64_t *version);

/**
 * Makes another blob of the same value, in this bucket or another of the store, replacing any of that
 * name. The two share what is stored; a later change of either leaves the other as it is. The
 * condition of options is the target's. options and version may be NULL.
 */
ISOTHERM_API
isotherm_status_t isotherm_copy(isotherm_bucket_t bucket,
                                const void *key,
                                size_t key_len,
                                isotherm_bucket_t to_bucket,
                                const void *to_key,
                                size_t to_key_len,
                                const struct isotherm_put_options_t *options,
                                uint64_t *version);

/**
 * Copies the whole value into a buffer. value_len is its length, also with
 * ISOTHERM_E_BUFFER_TOO_SMALL if it is more than capacity: nothing useful is in the buffer then.
 */
ISOTHERM_API
isotherm_status_t isotherm_get_into(isotherm_bucket_t bucket,
                                    const void *key,
                                    size_t key_len,
                                    void *buffer,
                                    size_t capacity,
                                    uint64_t *value_len);

/** The whole value, in memory for isotherm_free. */
ISOTHERM_API
isotherm_status_t isotherm_get(isotherm_bucket_t bucket,
                               const void *key,
                               size_t key_len,
                               void **value,
                               uint64_t *value_len);

/**
 * Copies bytes from offset on into a buffer. copied is how many there were: fewer than capacity
 * at the end of the value, none beyond it.
 */
ISOTHERM_API
isotherm_status_t isotherm_get_at(isotherm_bucket_t bucket,
                                  const void *key,
                                  size_t key_len,
                                  uint64_t offset,
                                  void *buffer,
                                  size_t capacity,
                                  uint64_t *copied);

/** Length, version and buffers of a blob. ISOTHERM_E_NOT_FOUND if there is none. */
ISOTHERM_API
isotherm_status_t isotherm_stat(isotherm_bucket_t bucket,
                                const void *key,
                                size_t key_len,
                                struct isotherm_blob_stat_t *stat);

/** Whether there is such a blob. */
ISOTHERM_API
isotherm_status_t isotherm_exists(isotherm_bucket_t bucket,
                                  const void *key,
                                  size_t key_len,
                                  bool *exists);

/** Sets options to their defaults. */
ISOTHERM_API
isotherm_status_t isotherm_scan_options_init(struct isotherm_scan_options_t *options,
                                             size_t struct_size);

/**
 * Begins a scan. options may be NULL: all blobs. A key that is there throughout is met exactly once;
 * there is no snapshot.
 */
ISOTHERM_API
isotherm_status_t isotherm_scan_open(isotherm_bucket_t bucket,
                                     const struct isotherm_scan_options_t *options,
                                     isotherm_scan_t *scan);

/** The next blobs, at most capacity. count is how many: 0 at the end. */
ISOTHERM_API
isotherm_status_t isotherm_scan_next(isotherm_scan_t scan,
                                     struct isotherm_scan_item_t *items,
                                     size_t capacity,
                                     size_t *count);

/** Ends a scan. 0 is allowed and does nothing. */
ISOTHERM_API isotherm_status_t isotherm_scan_close(isotherm_scan_t scan);

/** Makes a batch of no steps. */
ISOTHERM_API
isotherm_status_t isotherm_batch_create(isotherm_store_t store,
                                        isotherm_batch_t *batch);

/**
 * Adds a put: stores a value under a key, replacing any there is. The bytes are copied. options may
 * be NULL; its durability must be the default.
 */
ISOTHERM_API
isotherm_status_t isotherm_batch_put(isotherm_batch_t batch,
                                     isotherm_bucket_t bucket,
                                     const void *key,
                                     size_t key_len,
                                     const void *value,
                                     size_t value_len,
                                     const struct isotherm_put_options_t *options);

/** Adds a put of bytes at an offset. As isotherm_batch_put. */
ISOTHERM_API
isotherm_status_t isotherm_batch_put_at(isotherm_batch_t batch,
                                        isotherm_bucket_t bucket,
                                        const void *key,
                                        size_t key_len,
                                        uint64_t offset,
                                        const void *value,
                                        size_t value_len,
                                        const struct isotherm_put_options_t *options);

/** Adds a put of bytes at the end. As isotherm_batch_put. */
ISOTHERM_API
isotherm_status_t isotherm_batch_append(isotherm_batch_t batch,
                                        isotherm_bucket_t bucket,
                                        const void *key,
                                        size_t key_len,
                                        const void *value,
                                        size_t value_len,
                                        const struct isotherm_put_options_t *options);

/** Adds a change of the value's length. As isotherm_batch_put. */
ISOTHERM_API
isotherm_status_t isotherm_batch_truncate(isotherm_batch_t batch,
                                          isotherm_bucket_t bucket,
                                          const void *key,
                                          size_t key_len,
                                          uint64_t value_len,
                                          const struct isotherm_put_options_t *options);

/** Adds a removal. As isotherm_batch_put. */
ISOTHERM_API
isotherm_status_t isotherm_batch_delete(isotherm_batch_t batch,
                                        isotherm_bucket_t bucket,
                                        const void *key,
                                        size_t key_len,
                                        const struct isotherm_put_options_t *options);

/** Adds a condition on a blob that the batch does not change: it takes place only if it holds. */
ISOTHERM_API
isotherm_status_t isotherm_batch_require(isotherm_batch_t batch,
                                         isotherm_bucket_t bucket,
                                         const void *key,
                                         size_t key_len,
                                         const struct isotherm_put_options_t *options);

/**
 * Makes all changes of a batch, or none, at the level of options, which may be NULL; Written at
 * least. The status is that of the first step that fails. The batch stays as it is: a second commit
 * makes the changes again. versions, NULL or room for one version a step, tells what each step made
 * or, if it changes nothing, found; version_count is its length.
 */
ISOTHERM_API
isotherm_status_t isotherm_batch_commit(isotherm_batch_t batch,
                                        const struct isotherm_put_options_t *options,
                                        uint64_t *versions,
                                        size_t version_count);

/** Frees a batch, committed or not. 0 is allowed and does nothing. */
ISOTHERM_API isotherm_status_t isotherm_batch_close(isotherm_batch_t batch);

/**
 * Gets several blobs of a store, all as of one moment: no batch shows in part. Each get has a result
 * of its own; the status of the call is an error only if none was tried.
 */
ISOTHERM_API
isotherm_status_t isotherm_get_many(isotherm_store_t store,
                                    const struct isotherm_get_t *gets,
                                    size_t count,
                                    struct isotherm_got_t *results);

/**
 * Makes a queue of at most depth operations submitted whose completions have not been taken, 1 to
 * 65,536.
 */
ISOTHERM_API
isotherm_status_t isotherm_queue_create(isotherm_store_t store,
                                        size_t depth,
                                        isotherm_queue_t *queue);

/**
 * Submits operations in their order, until one is refused. accepted is how many were not; if it is 0,
 * the status says why the first was refused: ISOTHERM_E_BUSY if the queue is full.
 * ids, NULL or room for count numbers, tells what completions and isotherm_queue_cancel name them.
 *
 * Operations of one queue run side by side: whoever needs an order takes the completion of the first
 * before the second is submitted. All errors of an operation that was accepted come with its
 * completion.
 */
ISOTHERM_API
isotherm_status_t isotherm_queue_submit(isotherm_queue_t queue,
                                        const struct isotherm_operation_t *operations,
                                        size_t count,
                                        uint64_t *ids,
                                        size_t *accepted);

/**
 * Takes completions: waits until there are min, or none is under way any more, or the time is over,
 * and takes at most max of them. count is how many. A timeout of 0 takes what there is;
 * ISOTHERM_WAIT_FOREVER waits as long as it takes.
 */
ISOTHERM_API
isotherm_status_t isotherm_queue_wait(isotherm_queue_t queue,
                                      struct isotherm_completion_t *completions,
                                      size_t min,
                                      size_t max,
                                      int64_t timeout_ns,
                                      size_t *count);

/** Operations submitted whose completions have not been taken. */
ISOTHERM_API isotherm_status_t isotherm_queue_outstanding(isotherm_queue_t queue, size_t *count);

/**
 * Asks that an operation not begin. One that has begun or ended goes on to its completion as if nothing
 * had been asked, and a number that is none does nothing; one that has not begun completes as
 * ISOTHERM_E_CANCELLED.
 */
ISOTHERM_API
isotherm_status_t isotherm_queue_cancel(isotherm_queue_t queue,
                                        uint64_t id);

/**
 * Closes a queue: waits for its operations under way, and drops completions not taken. When it
 * returns ISOTHERM_OK, no buffer is in use. Another answer says nothing of that: where another thread
 * closes the store or this queue meanwhile, that call is the one to wait for. 0 is allowed and does
 * nothing.
 */
ISOTHERM_API
isotherm_status_t isotherm_queue_close(isotherm_queue_t queue);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* ISOTHERM_H */
