//! The part of RocksDB's C interface (`rocksdb/c.h`) that is called here.

use std::ffi::{c_char, c_int, c_uchar};

/// What the library keeps behind its pointers.
macro_rules! opaque {
    ($($name:ident)*) => {$(
        #[repr(C)]
        pub struct $name {
            _hidden: [u8; 0],
        }
    )*};
}

opaque!(Db Options ReadOptions WriteOptions FlushOptions);

/// `rocksdb_absolute_consistency_recovery`.
pub const ABSOLUTE_CONSISTENCY: c_int = 1;

#[link(name = "rocksdb")]
unsafe extern "C" {
    pub fn rocksdb_options_create() -> *mut Options;
    pub fn rocksdb_options_destroy(options: *mut Options);
    pub fn rocksdb_options_set_create_if_missing(options: *mut Options, yes: c_uchar);
    pub fn rocksdb_options_set_paranoid_checks(options: *mut Options, yes: c_uchar);
    pub fn rocksdb_options_set_wal_recovery_mode(options: *mut Options, mode: c_int);
    pub fn rocksdb_open(
        options: *const Options,
        name: *const c_char,
        error: *mut *mut c_char,
    ) -> *mut Db;
    pub fn rocksdb_close(db: *mut Db);
    pub fn rocksdb_writeoptions_create() -> *mut WriteOptions;
    pub fn rocksdb_writeoptions_destroy(options: *mut WriteOptions);
    pub fn rocksdb_writeoptions_set_sync(options: *mut WriteOptions, yes: c_uchar);
    pub fn rocksdb_put(
        db: *mut Db,
        options: *const WriteOptions,
        key: *const c_char,
        key_len: usize,
        value: *const c_char,
        value_len: usize,
        error: *mut *mut c_char,
    );
    pub fn rocksdb_flushoptions_create() -> *mut FlushOptions;
    pub fn rocksdb_flushoptions_destroy(options: *mut FlushOptions);
    pub fn rocksdb_flushoptions_set_wait(options: *mut FlushOptions, yes: c_uchar);
    pub fn rocksdb_flush(db: *mut Db, options: *const FlushOptions, error: *mut *mut c_char);
    pub fn rocksdb_readoptions_create() -> *mut ReadOptions;
    pub fn rocksdb_readoptions_destroy(options: *mut ReadOptions);
    pub fn rocksdb_readoptions_set_verify_checksums(options: *mut ReadOptions, yes: c_uchar);
    pub fn rocksdb_get(
        db: *mut Db,
        options: *const ReadOptions,
        key: *const c_char,
        key_len: usize,
        value_len: *mut usize,
        error: *mut *mut c_char,
    ) -> *mut c_char;
    pub fn rocksdb_free(pointer: *mut std::ffi::c_void);
}
