//! A row of the buffer table.

use crate::index::budget::heap_bytes;
use crate::index::state::{Buffer, Checks};
use crate::types::{BufferId, Location};

/// Bytes of memory of one row in a full table, its own checksums apart.
pub const ROW_BYTES: u64 = (size_of::<(BufferId, Row)>() as u64 + 1) * 8 / 7;

/// A buffer in the table, as small as it can be: there is one for every MiB of a store.
#[derive(Debug)]
pub(super) struct Row {
    pub location: Location,
    pub raw_len: u32,
    pub stored_len: u32,
    pub logical_crc: u32,
    /// Maps in memory that hold it.
    pub count: u32,
    /// Extent pages that name it.
    pub named: u32,
    pub encoding: u8,
    pub is_page: bool,
    pub checks: RowChecks,
    /// The log has its checksums in extent pages alone: a map must not name it before they stand
    /// in a record.
    pub logged_by_page: bool,
    /// The checksums that are nowhere else.
    own_checks: Option<Box<Checks>>,
}

/// Where the checksums of a row's buffer are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum RowChecks {
    Unwritten,
    InPages,
    /// There is one, and it is that of the raw bytes.
    Logical,
    Own,
}

const _: () = assert!(size_of::<(BufferId, Row)>() == 48);

impl Row {
    /// A row that nothing counts on.
    pub fn new(buffer: &Buffer) -> Row {
        let mut row = Row {
            location: buffer.location,
            raw_len: buffer.raw_len,
            stored_len: buffer.stored_len,
            logical_crc: buffer.logical_crc,
            count: 0,
            named: 0,
            encoding: buffer.encoding,
            is_page: false,
            checks: RowChecks::Unwritten,
            logged_by_page: false,
            own_checks: None,
        };
        row.set_checks(&buffer.checks);
        row
    }

    pub fn set_checks(&mut self, checks: &Checks) {
        self.own_checks = None;
        self.checks = match checks {
            Checks::Unwritten => RowChecks::Unwritten,
            Checks::InPages => RowChecks::InPages,
            Checks::One(check) if *check == self.logical_crc => RowChecks::Logical,
            Checks::One(_) | Checks::Many(_) => {
                self.own_checks = Some(Box::new(checks.clone()));
                RowChecks::Own
            }
        };
    }

    /// Gives the buffer another copy of its bytes; the counts stay.
    pub fn set_buffer(&mut self, buffer: &Buffer) {
        let Row { count, named, is_page, .. } = *self;
        *self = Row { count, named, is_page, ..Row::new(buffer) };
    }

    pub fn buffer(&self, id: BufferId) -> Buffer {
        Buffer {
            id,
            location: self.location,
            raw_len: self.raw_len,
            stored_len: self.stored_len,
            encoding: self.encoding,
            logical_crc: self.logical_crc,
            checks: match (self.checks, &self.own_checks) {
                (RowChecks::Unwritten, _) => Checks::Unwritten,
                (RowChecks::Logical, _) => Checks::One(self.logical_crc),
                (RowChecks::Own, Some(own)) => (**own).clone(),
                (RowChecks::InPages | RowChecks::Own, _) => Checks::InPages,
            },
        }
    }

    /// Memory of its own checksums; the table counts its rows.
    pub fn memory_bytes(&self) -> i64 {
        let own = self.own_checks.as_deref();
        own.map_or(0, |own| heap_bytes(size_of::<Checks>()) + own.memory_bytes())
    }
}

/// A row as a checkpoint sees it.
#[derive(Clone, Copy, Debug)]
pub struct RowView<'a> {
    /// The buffer.
    pub buffer: &'a Buffer,
    /// Extent pages that name it.
    pub named: u32,
    /// Whether it is an extent page.
    pub is_page: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::TierId;

    #[test]
    fn a_row_gives_back_the_buffer_whatever_checksums_it_has() {
        let place = |n: u64| Location::device(TierId(1), n << 12);
        let buffer = Buffer { logical_crc: 7, ..Buffer::dirty(BufferId(5), place(3), 70_000) };
        let many = Checks::Many([1, 2, 3, 4, 5].as_slice().into());
        for checks in [Checks::Unwritten, Checks::InPages, Checks::One(7), Checks::One(8), many] {
            let buffer = Buffer { checks, ..buffer.clone() };
            let mut row = Row::new(&buffer);
            (row.count, row.named) = (2, 3);
            assert_eq!(row.buffer(buffer.id), buffer);
            let copy = Buffer { location: place(9), ..buffer };
            row.set_buffer(&copy);
            assert_eq!((row.buffer(copy.id), row.count, row.named), (copy, 2, 3));
            assert_eq!(row.memory_bytes() > 0, row.checks == RowChecks::Own);
        }
    }
}
