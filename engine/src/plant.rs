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
