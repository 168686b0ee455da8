//! The value of a salvaged blob, from its first byte to its last: bytes that were verified, holes, and
//! what cannot be read.

use std::ops::Range;

use crate::index::extents::{Stretch, clip, stretches};
use crate::index::pages::part;
use crate::log::page::PageImage;
use crate::log::record::{Extent, PageRef};
use crate::salvage::buffers::{Buffers, Stored};
use crate::salvage::medium::Medium;
use crate::salvage::state::{Blob, Map};
use crate::types::BufferId;

/// The next part of a value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Piece<'a> {
    /// Bytes, each verified. At most 1 MiB.
    Bytes(&'a [u8]),
    /// So many bytes that were never written: they read as zeros.
    Hole(u64),
    /// Bytes that are lost.
    Unreadable {
        /// How many.
        len: u64,
        /// Why they cannot be read.
        why: &'a str,
    },
}

/// Hands out the pieces of one value.
pub(super) struct Walk<'a, E> {
    medium: &'a Medium,
    buffers: &'a Buffers,
    /// Slices of one buffer often follow each other.
    last: Option<(BufferId, Result<Stored, String>)>,
    take: &'a mut dyn FnMut(Piece<'_>) -> Result<(), E>,
}

impl<'a, E> Walk<'a, E> {
    pub fn new(
        medium: &'a Medium,
        buffers: &'a Buffers,
        take: &'a mut dyn FnMut(Piece<'_>) -> Result<(), E>,
    ) -> Walk<'a, E> {
        Walk { medium, buffers, last: None, take }
    }

    /// All of a blob.
    pub fn run(mut self, blob: &Blob) -> Result<(), E> {
        match &blob.map {
            Map::Extents(extents) => self.extents(extents, 0..blob.len, None),
            Map::Pages(pages) => self.pages(pages, blob.len),
        }
    }

    fn pages(&mut self, pages: &[PageRef], len: u64) -> Result<(), E> {
        let first = pages.first().map_or(len, |first| first.start.min(len));
        if first > 0 {
            self.unreadable(first, "the list of its extent pages lacks the first")?;
        }
        for (at, page) in pages.iter().enumerate() {
            let own = part(pages, at);
            let own = own.start.min(len)..own.end.min(len);
            match page.page {
                _ if own.is_empty() => {}
                None => (self.take)(Piece::Hole(own.end - own.start))?,
                Some(id) => match self.page(id) {
                    Ok(page) => {
                        // A buffer that one page names may have other checks in the next.
                        self.last = None;
                        let inside: Vec<Extent> = clip(&page.extents, own.clone()).collect();
                        self.extents(&inside, own, Some(&page))?;
                    }
                    Err(why) => self.unreadable(own.end - own.start, &why)?,
                },
            }
        }
        Ok(())
    }

    fn page(&self, id: BufferId) -> Result<PageImage, String> {
        let bytes = self.buffers.read_page(self.medium, id)?;
        let page = PageImage::decode(&bytes, self.medium.store, id);
        page.map_err(|error| error.message().to_owned())
    }

    fn extents(
        &mut self,
        extents: &[Extent],
        range: Range<u64>,
        page: Option<&PageImage>,
    ) -> Result<(), E> {
        for stretch in stretches(extents, range) {
            match stretch {
                Stretch::Hole { len } => (self.take)(Piece::Hole(len))?,
                Stretch::Data(extent) => self.slice(&extent, page)?,
            }
        }
        Ok(())
    }

    fn slice(&mut self, extent: &Extent, page: Option<&PageImage>) -> Result<(), E> {
        let id = extent.buffer;
        if self.last.as_ref().is_none_or(|(last, _)| *last != id) {
            let checks = page.and_then(|page| page.buffers.iter().find(|buffer| buffer.id == id));
            let checks = checks.map(|buffer| &buffer.checks[..]);
            self.last = Some((id, self.buffers.read_value(self.medium, id, checks)));
        }
        let Some((_, read)) = &self.last else { return Ok(()) };
        let len = u64::from(extent.len);
        let stored = match read {
            Ok(stored) => stored,
            Err(why) => return (self.take)(Piece::Unreadable { len, why }),
        };
        let (mut at, end) =
            (extent.buffer_offset as usize, (extent.buffer_offset + extent.len) as usize);
        if end > stored.bytes.len() {
            let why = "its map goes beyond a buffer";
            return (self.take)(Piece::Unreadable { len, why });
        }
        while at < end {
            let (to, is_bad) = stored.part(at, end);
            match is_bad {
                true => {
                    let (len, why) = ((to - at) as u64, stored.why.as_str());
                    (self.take)(Piece::Unreadable { len, why })?;
                }
                false => (self.take)(Piece::Bytes(&stored.bytes[at..to]))?,
            }
            at = to;
        }
        Ok(())
    }

    fn unreadable(&mut self, len: u64, why: &str) -> Result<(), E> {
        (self.take)(Piece::Unreadable { len, why })
    }
}
