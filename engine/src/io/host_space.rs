//! The space that a file system gives a file: whether a range has it already, and that a write stays in it.

use std::fs::File;
use std::ops::Range;
use std::os::fd::AsRawFd;

/// Extents that one call tells of.
const EXTENTS: usize = 32;
/// `FS_IOC_FIEMAP` of linux/fs.h: `_IOWR('f', 11, struct fiemap)`.
const FS_IOC_FIEMAP: libc::c_ulong = 0xC020_660B;
/// Of linux/fiemap.h: where it lies is not known yet; it has no place yet; another file has it too, so a
/// write goes elsewhere.
const NOT_OURS: u32 = 0x0002 | 0x0004 | 0x2000;

/// `struct fiemap_extent` of linux/fiemap.h.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Extent {
    logical: u64,
    physical: u64,
    length: u64,
    reserved: [u64; 2],
    flags: u32,
    reserved_too: [u32; 3],
}

/// `struct fiemap` of linux/fiemap.h, with room for extents.
#[repr(C)]
struct Map {
    start: u64,
    length: u64,
    flags: u32,
    mapped_extents: u32,
    extent_count: u32,
    reserved: u32,
    extents: [Extent; EXTENTS],
}

const _: () = assert!(size_of::<Extent>() == 56 && size_of::<Map>() == 32 + 56 * EXTENTS);

/// `FS_IOC_GETFLAGS` and `FS_IOC_SETFLAGS` of linux/fs.h, and its `FS_NOCOW_FL`.
const FS_IOC_GETFLAGS: libc::c_ulong = 0x8008_6601;
const FS_IOC_SETFLAGS: libc::c_ulong = 0x4008_6602;
const FS_NOCOW_FL: libc::c_int = 0x0080_0000;

/// Asks that the bytes of a new, empty file be written where they are: btrfs takes new space for every
/// write else, which a full one does not have. Where this means nothing, nothing happens.
pub(super) fn write_in_place(file: &File) {
    let mut flags: libc::c_int = 0;
    // SAFETY: the kernel reads and writes an int there (the request says long, for history's sake), and
    // keeps no pointer to it. `file` keeps the descriptor open.
    unsafe {
        if libc::ioctl(file.as_raw_fd(), FS_IOC_GETFLAGS, &raw mut flags) == 0 {
            flags |= FS_NOCOW_FL;
            libc::ioctl(file.as_raw_fd(), FS_IOC_SETFLAGS, &raw const flags);
        }
    }
}

/// Whether all of these bytes have space that a write goes to: by FIEMAP, for `fallocate` does not tell. On
/// a full XFS it refuses a range that has all its space (it sets aside as much again, to be sure). False
/// where nobody can say.
pub(super) fn is_mapped(file: &File, bytes: Range<u64>) -> bool {
    let mut at = bytes.start;
    while at < bytes.end {
        let mut map = Map {
            start: at,
            length: bytes.end - at,
            flags: 0,
            mapped_extents: 0,
            extent_count: EXTENTS as u32,
            reserved: 0,
            extents: [Extent::default(); EXTENTS],
        };
        // SAFETY: the kernel writes into `map` alone, no more extents than it says that it has room for,
        // and keeps no pointer to it. `file` keeps the descriptor open.
        if unsafe { libc::ioctl(file.as_raw_fd(), FS_IOC_FIEMAP, &raw mut map) } != 0 {
            return false;
        }
        let Some(end) = end_of(&map.extents[..EXTENTS.min(map.mapped_extents as usize)], at) else {
            return false;
        };
        at = end;
    }
    true
}

/// How far these extents go on from a place without a hole. `None`: not at all.
fn end_of(extents: &[Extent], from: u64) -> Option<u64> {
    let mut at = from;
    for extent in extents {
        if extent.logical > at || extent.flags & NOT_OURS != 0 {
            break;
        }
        at = at.max(extent.logical + extent.length);
    }
    (at > from).then_some(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn extent(range: Range<u64>, flags: u32) -> Extent {
        let (logical, length) = (range.start, range.end - range.start);
        Extent { logical, length, flags, ..Extent::default() }
    }

    #[test]
    fn holes_and_what_others_share_end_what_a_file_has() {
        // One begins before the place that was asked for, as kernels tell it.
        let extents = [extent(0..10, 0), extent(10..20, 0x800), extent(24..30, 0)];
        assert_eq!((end_of(&extents, 5), end_of(&extents, 20)), (Some(20), None));
        assert_eq!((end_of(&extents[..1], 0), end_of(&[], 0)), (Some(10), None));
        assert_eq!(end_of(&[extent(0..10, 0), extent(10..20, 0x2000)], 0), Some(10));
    }

    #[test]
    fn a_sparse_file_has_what_was_written_or_allocated_where_the_file_system_can_say() {
        let file = tempfile::tempfile_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        file.set_len(16 << 20).unwrap();
        // SAFETY: a call without pointers, on a descriptor that `file` keeps open.
        let allocated = unsafe { libc::fallocate(file.as_raw_fd(), 0, 4 << 20, 4 << 20) } == 0;
        let is_there = is_mapped(&file, 4 << 20..8 << 20);
        assert!(!is_mapped(&file, 0..4 << 20) && !is_mapped(&file, 6 << 20..9 << 20));
        if !allocated || !is_there {
            eprintln!("NOT CHECKED: this file system has no space to give, or does not tell");
        }
    }
}
