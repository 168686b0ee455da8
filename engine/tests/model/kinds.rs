//! How often each kind of operation was done: a run that never did one has shown nothing of it.

use std::collections::BTreeMap;

macro_rules! kinds {
    ($($(#[$about:meta])* $name:ident,)*) => {
        /// What a caller does, and how it may end.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
        pub enum Kind {
            $($(#[$about])* $name,)*
        }

        const ALL: &[Kind] = &[$(Kind::$name,)*];
    };
}

kinds! {
    Put,
    PutAt,
    Append,
    Truncate,
    Delete,
    PutRanges,
    SetAttributes,
    /// A change that wrote nothing.
    ChangeOfNothing,
    ChangeWithCondition,
    ChangeRefusedByCondition,
    ChangeRefusedByQuotaOfBytes,
    ChangeRefusedByQuotaOfBlobs,
    Get,
    GetInto,
    GetAt,
    GetRanges,
    Stat,
    Locate,
    ListAttributes,
    Scan,
    ScanByAttribute,
    ListBuckets,
    Batch,
    BatchAcrossBuckets,
    BatchRefusedByCondition,
    BatchRefusedByQuota,
    PutMany,
    GetMany,
    Copy,
    CopyAcrossBuckets,
    Rename,
    RenameAcrossBuckets,
    CopyRefusedByQuota,
    StreamAppend,
    StreamCommit,
    /// Of several buffers: their bytes left for the devices before the commit.
    StreamCommitLarge,
    StreamCommitWithCondition,
    StreamRefusedByCondition,
    StreamRefusedByQuota,
    StreamAborted,
    StreamDropped,
    Reader,
    ReaderOfAnOldVersion,
    ReaderSeek,
    QueueOfSeveral,
    QueuedChange,
    QueuedGet,
    QueuedRanges,
    QueuedBatch,
    QueuedCopyOrRename,
    QueuedGetMany,
    QueuedCancelled,
    BucketDestroyed,
    BucketRenamed,
    BucketCleared,
    BucketOptionsSet,
    FlushStore,
    FlushBucket,
    Compact,
    Reopen,
}

/// Counts by kind.
#[derive(Clone, Default, Debug)]
pub struct Kinds(BTreeMap<Kind, u64>);

impl Kinds {
    pub fn count(&mut self, kind: Kind) {
        *self.0.entry(kind).or_default() += 1;
    }

    pub fn add(&mut self, other: &Kinds) {
        for (kind, count) in &other.0 {
            *self.0.entry(*kind).or_default() += count;
        }
    }

    /// Panics if one was never done.
    pub fn require_all(&self) {
        let missing: Vec<&Kind> = ALL.iter().filter(|kind| !self.0.contains_key(kind)).collect();
        assert!(missing.is_empty(), "never done in the whole run: {missing:?}; done: {self:?}");
    }
}
