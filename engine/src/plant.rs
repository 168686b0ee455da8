//! Bugs that are planted on purpose: what measures the simulator, which must find each of them.
//!
//! Only a build with the feature `plant` has them, and of these one at a time. Without it
//! [`planted`] is `false` when the program is compiled, and nothing is left of it.

macro_rules! plants {
    ($($(#[doc = $doc:literal])+ $name:ident = $text:literal,)*) => {
        /// A bug, planted at one place.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        #[repr(u8)]
        pub enum Plant {
            $($(#[doc = $doc])+ $name,)*
        }

        impl Plant {
            /// All of them.
            pub const ALL: &[Plant] = &[$(Plant::$name,)*];

            /// Its name, as the simulator's option has it.
            pub fn name(self) -> &'static str {
                match self {
                    $(Plant::$name => $text,)*
                }
            }
        }
    };
}

plants! {
    /// Durable changes are acknowledged as soon as they are written.
    DurableBeforeFlush = "durable-before-flush",
    /// W rises without a flush of any device.
    FlushSkipped = "flush-skipped",
    /// A flush counts for what was written while it ran.
    FlushCoversLater = "flush-covers-later",
    /// A failed flush counts like one that has not failed.
    FlushErrorIgnored = "flush-error-ignored",
    /// A batch that names buffers written apart is taken for durable when its own write is.
    DataNotFlushed = "data-not-flushed",
    /// A record names a moved buffer where it was written.
    PlaceBeforeMove = "place-before-move",
    /// Write-behind logs a state although the log has a newer one.
    BehindOverNewer = "behind-over-newer",
    /// A delete at Memory level never reaches the log.
    DeleteNotWrittenBehind = "delete-not-written-behind",
    /// Write-behind forgets a blob's attributes.
    AttributesForgotten = "attributes-forgotten",
    /// The last change of a group is acknowledged and not logged.
    GroupLoggedInPart = "group-logged-in-part",
    /// Batches beyond W count although buffers they name have not reached their device.
    LandingNotChecked = "landing-not-checked",
    /// A log that was flushed and is damaged counts as one that ends there.
    WatermarkIgnored = "watermark-ignored",
    /// A batch's checksum is not compared.
    BatchChecksumIgnored = "batch-checksum-ignored",
    /// Recovery passes over deletes.
    DeleteNotReplayed = "delete-not-replayed",
    /// Recovery passes over clears of buckets.
    ClearNotReplayed = "clear-not-replayed",
    /// A value's checksums are not compared.
    ValueChecksumIgnored = "value-checksum-ignored",
    /// Cleaning: a move takes place and is not logged.
    MoveNotLogged = "move-not-logged",
    /// Cleaning: a device that only copies were written to is not flushed.
    MoveNotFlushed = "move-not-flushed",
    /// Cleaning: the last block of what is copied together is not written.
    CopyTooShort = "copy-too-short",
    /// Cleaning: a blob that was changed meanwhile is moved to the copy of its old bytes.
    MoveNotCompared = "move-not-compared",
    /// Tier space: a segment is used again before the death of its bytes is durable.
    ReuseBeforeFlush = "reuse-before-flush",
    /// Tier space: it is used again although somebody reads there.
    ReuseUnderReader = "reuse-under-reader",
    /// Checkpoint: an image claims batches that were not applied when it was made.
    ImageClaimsLater = "image-claims-later",
    /// Checkpoint: an image lacks blobs that are being changed.
    ImageLacksClaimed = "image-lacks-claimed",
    /// Checkpoint: a root counts before the images it names are flushed.
    RootBeforeImages = "root-before-images",
    /// Checkpoint: the log is said to begin later than the oldest image needs it.
    LogBeginsLate = "log-begins-late",
    /// Checkpoint: segments of images that still count are free.
    ImagesFreedEarly = "images-freed-early",
    /// A flush takes what is written to a device while it runs for flushed: the next one passes over it.
    FlushForgetsWrites = "flush-forgets-writes",
    /// A flush does not wait for keys that are being written behind when it comes.
    FlushIgnoresRunning = "flush-ignores-running",
    /// For a flush, what write-behind could not write is written.
    BehindErrorForgotten = "behind-error-forgotten",
    /// After a batch that could not be written, later ones are taken all the same.
    LogErrorForgotten = "log-error-forgotten",
    /// A batch that is written before the one ahead of it is acknowledged before it.
    LandedOutOfOrder = "landed-out-of-order",
    /// A batch whose own write was durable raises W over those before it that are not.
    SelfDurableCoversOthers = "self-durable-covers-others",
    /// Slots of DRAM are clean once any version is logged, though a newer one has its bytes there alone.
    CleanWhileNeeded = "clean-while-needed",
    /// A get brings the bytes of a version into DRAM that has been replaced meanwhile.
    AdmitOverNewer = "admit-over-newer",
    /// A large value that is cut and grows again shows the old bytes, not zeros.
    TruncationLeavesBytes = "truncation-leaves-bytes",
    /// What a batch says of its store, place and order is not compared with where it was read.
    BatchIdentityIgnored = "batch-identity-ignored",
    /// An opening flushes nothing: neither what a killed process has written, nor its own epoch.
    OpenWithoutFlush = "open-without-flush",
    /// A store that is opened again goes on in the epoch of the open before, with its versions.
    EpochNotRaised = "epoch-not-raised",
    /// Recovery forgets what lies behind a change in the middle of a large map.
    SpliceDropsTail = "splice-drops-tail",
    /// Recovery passes over the end of buckets.
    DestroyNotReplayed = "destroy-not-replayed",
    /// Recovery takes the attributes of the version before for those of the new one.
    AttributesNotReplayed = "attributes-not-replayed",
    /// Checkpoint: the last batch that an image has is applied to it once more.
    CutAppliedTwice = "cut-applied-twice",
    /// Checkpoint: an image lacks how many extent pages name a buffer.
    ImageLacksNames = "image-lacks-names",
    /// Checkpoint: the newest superblock is overwritten, not the one before.
    OneSuperblockSlot = "one-superblock-slot",
    /// Tier space: a buffer dies with the last map in memory, although extent pages name it.
    NamedBufferDies = "named-buffer-dies",
    /// Tier space: a blob and its copy own the same bytes, each for itself.
    SharedTwice = "shared-twice",
    /// Tier space: a segment does not know which batch killed its last byte.
    DeathNotDated = "death-not-dated",
    /// Tier space: a segment is used again when its death is durable, and nothing on the devices says so.
    ReuseBeforeNamed = "reuse-before-named",
}

#[cfg(feature = "plant")]
mod switch {
    use std::sync::atomic::{AtomicU8, Ordering};

    use super::Plant;

    /// The number of the bug, and one more; 0: none.
    static PLANTED: AtomicU8 = AtomicU8::new(0);

    /// Plants a bug in this process, in the place of the one before, or none.
    pub fn plant(bug: Option<Plant>) {
        PLANTED.store(bug.map_or(0, |bug| bug as u8 + 1), Ordering::Relaxed);
    }

    /// Whether the bug is there.
    #[inline]
    pub(crate) fn planted(bug: Plant) -> bool {
        PLANTED.load(Ordering::Relaxed) == bug as u8 + 1
    }
}

#[cfg(feature = "plant")]
pub use switch::plant;
#[cfg(feature = "plant")]
pub(crate) use switch::planted;

/// Whether the bug is there: no bug is.
#[cfg(not(feature = "plant"))]
#[inline(always)]
pub(crate) const fn planted(_: Plant) -> bool {
    false
}
