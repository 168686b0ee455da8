//! The kinds of records, by their numbers on disk.

#[cfg(doc)]
use super::record::Record;

/// The number of a record's kind on disk. Numbers are never reused.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u16)]
pub enum RecordKind {
    /// [`Record::Put`]
    Put = 1,
    /// [`Record::Splice`]
    Splice = 2,
    /// [`Record::Delete`]
    Delete = 3,
    /// [`Record::Move`]
    Move = 4,
    /// [`Record::BucketCreate`]
    BucketCreate = 5,
    /// [`Record::BucketDestroy`]
    BucketDestroy = 6,
    /// [`Record::SegmentOpen`]
    SegmentOpen = 7,
    /// [`Record::SegmentFree`]
    SegmentFree = 8,
    /// [`Record::Marker`]
    Marker = 9,
    /// [`Record::Page`]
    Page = 10,
    /// [`Record::Paged`]
    Paged = 11,
    /// [`Record::Release`]
    Release = 12,
    /// [`Record::Share`]
    Share = 13,
    /// [`Record::Attributes`]
    Attributes = 14,
    /// [`Record::BucketChange`]
    BucketChange = 15,
    /// [`Record::BucketClear`]
    BucketClear = 16,
}

impl RecordKind {
    /// Every kind, for whoever must not forget one.
    pub const ALL: [RecordKind; 16] = [
        RecordKind::Put,
        RecordKind::Splice,
        RecordKind::Delete,
        RecordKind::Move,
        RecordKind::BucketCreate,
        RecordKind::BucketDestroy,
        RecordKind::SegmentOpen,
        RecordKind::SegmentFree,
        RecordKind::Marker,
        RecordKind::Page,
        RecordKind::Paged,
        RecordKind::Release,
        RecordKind::Share,
        RecordKind::Attributes,
        RecordKind::BucketChange,
        RecordKind::BucketClear,
    ];

    pub(super) fn from_number(number: u16) -> Option<RecordKind> {
        RecordKind::ALL.into_iter().find(|&kind| kind as u16 == number)
    }

    /// Whether a record of the kind may say the attributes of the state it makes.
    pub(super) fn may_have_attributes(self) -> bool {
        matches!(self, RecordKind::Put | RecordKind::Paged | RecordKind::Attributes)
    }
}
