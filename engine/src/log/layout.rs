//! Building a batch: first where everything goes, then the bytes.
//!
//! Records hold absolute locations of the payloads that ride in their batch, and the payload area
//! begins where the records end. As a record's length does not depend on locations, the layout is
//! computed first; encoding then sets the locations and copies each payload once.

use super::batch::{
    BATCH_ALIGN, BATCH_FIXED_LEN, BatchIdentity, BatchShape, CRC_AT, check_fixed, encode_fixed,
};
use super::codec::{Encoder, seal};
use super::record::Record;
use crate::error::{Result, fail};
use crate::limits::TIERS_MAX;
use crate::types::Location;

/// A record with the stored bytes of those of its buffers that ride in the batch.
#[derive(Debug)]
pub struct BatchItem<'a> {
    /// The record. [`encode`] sets the locations of the buffers named in `payloads`.
    pub record: Record,
    /// Index into the record's buffers, and the buffer's stored bytes.
    pub payloads: Vec<(usize, &'a [u8])>,
}

/// Where the first [`items`](Self::items) of a list go.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BatchLayout {
    items: usize,
    shape: BatchShape,
    area: PayloadArea,
    /// One per payload, in the order of the items.
    spots: Vec<Spot>,
}

impl BatchLayout {
    /// How many items fit. 0: not even the first does.
    pub fn items(&self) -> usize {
        self.items
    }

    /// The lengths of the batch.
    pub fn shape(&self) -> BatchShape {
        self.shape
    }

    /// All bytes of the batch.
    pub fn total_len(&self) -> usize {
        self.shape.total_len as usize
    }
}

/// A place in the payload area. Payloads of 4 KiB and more stand first, each on a boundary, so
/// that reading one takes no more blocks than it has; smaller ones are packed behind them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Spot {
    Large(usize),
    Small(usize),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct PayloadArea {
    /// Bytes of large payloads, a multiple of 4096.
    large: usize,
    /// Bytes of small ones, counted from `large`.
    small: usize,
}

impl PayloadArea {
    fn place(&mut self, len: usize) -> Spot {
        if len >= BATCH_ALIGN {
            let at = self.large;
            self.large += len.next_multiple_of(BATCH_ALIGN);
            return Spot::Large(at);
        }
        let mut at = self.small.next_multiple_of(8);
        // A small payload never straddles a boundary: reading it takes one block.
        if at % BATCH_ALIGN + len > BATCH_ALIGN {
            at = at.next_multiple_of(BATCH_ALIGN);
        }
        self.small = at + len;
        Spot::Small(at)
    }

    fn offset(&self, spot: Spot) -> usize {
        match spot {
            Spot::Large(at) => at,
            Spot::Small(at) => self.large + at,
        }
    }

    fn len(&self) -> usize {
        self.large + self.small.next_multiple_of(BATCH_ALIGN)
    }
}

/// Lays out as many of `items`, from the first on, as fit into `max_total` bytes.
pub fn layout(items: &[BatchItem<'_>], max_total: usize) -> Result<BatchLayout> {
    let mut area = PayloadArea::default();
    let mut header_len = BATCH_FIXED_LEN;
    let mut spots = Vec::with_capacity(items.iter().map(|item| item.payloads.len()).sum());
    let mut fitting = 0;
    for item in items {
        check_payloads(item)?;
        let mut grown = area;
        let spot_count = spots.len();
        spots.extend(item.payloads.iter().map(|(_, bytes)| grown.place(bytes.len())));
        let grown_header = header_len + item.record.encoded_len();
        if grown_header.next_multiple_of(BATCH_ALIGN) + grown.len() > max_total {
            spots.truncate(spot_count);
            break;
        }
        (area, header_len) = (grown, grown_header);
        fitting += 1;
    }
    let payload_offset = header_len.next_multiple_of(BATCH_ALIGN);
    let narrow = |len: usize| match u32::try_from(len) {
        Ok(len) => Ok(len),
        Err(_) => fail!(Internal, "a batch with {len} bytes or records"),
    };
    let shape = BatchShape {
        header_len: narrow(header_len)?,
        payload_offset: narrow(payload_offset)?,
        total_len: narrow(payload_offset + area.len())?,
        record_count: narrow(fitting)?,
    };
    Ok(BatchLayout { items: fitting, shape, area, spots })
}

/// Checks that each payload is that of its buffer.
fn check_payloads(item: &BatchItem<'_>) -> Result<()> {
    for (index, bytes) in &item.payloads {
        match item.record.buffers().get(*index) {
            Some(def) if def.stored_len as usize == bytes.len() => {}
            _ => {
                let kind = item.record.kind();
                fail!(Internal, "{kind:?} record: payload {index} is not that of a buffer")
            }
        }
    }
    Ok(())
}

/// Writes the batch that `layout` describes into `out` and sets the locations of the buffers that
/// ride in it. Returns the header checksum: the chain of the next batch.
///
/// `items` are those that `layout` was computed from, at least the ones that fit. `out` holds
/// exactly the batch's bytes; padding is written, so it need not be zero before. A record that
/// could not be read back is an error: its bytes must not reach a device.
pub fn encode(
    layout: &BatchLayout,
    items: &mut [BatchItem<'_>],
    identity: &BatchIdentity,
    out: &mut [u8],
) -> Result<u32> {
    let shape = &layout.shape;
    let Some(items) = items.get_mut(..layout.items) else {
        fail!(Internal, "a layout of {} items for {}", layout.items, items.len());
    };
    let payloads: usize = items.iter().map(|item| item.payloads.len()).sum();
    if out.len() != layout.total_len() || payloads != layout.spots.len() {
        fail!(Internal, "a batch of {} bytes into {}", layout.total_len(), out.len());
    }
    if let Err(fault) = check_fixed(identity, shape) {
        fail!(Internal, "batch not written: {fault}");
    }
    if identity.segment.tier.index() >= TIERS_MAX {
        fail!(Internal, "batch not written: tier {}", identity.segment.tier.0);
    }
    let (header, area) = out.split_at_mut(shape.payload_offset as usize);
    copy_payloads(layout, items, identity, area)?;
    encode_header(shape, items, identity, header)
}

fn copy_payloads(
    layout: &BatchLayout,
    items: &mut [BatchItem<'_>],
    identity: &BatchIdentity,
    area: &mut [u8],
) -> Result<()> {
    // Small payloads leave gaps between them, large ones only at their end.
    area[layout.area.large..].fill(0);
    let area_start = identity.device_offset + u64::from(layout.shape.payload_offset);
    let mut spots = layout.spots.iter();
    for item in items {
        check_payloads(item)?;
        for ((index, bytes), spot) in item.payloads.iter().zip(spots.by_ref()) {
            let at = layout.area.offset(*spot);
            let end = at + bytes.len();
            let padded = match spot {
                Spot::Large(_) => end.next_multiple_of(BATCH_ALIGN),
                Spot::Small(_) => end,
            };
            let Some(target) = area.get_mut(at..padded) else {
                fail!(Internal, "the items of a batch changed after its layout");
            };
            target[..bytes.len()].copy_from_slice(bytes);
            target[bytes.len()..].fill(0);
            item.record.buffers_mut()[*index].location =
                Location::device(identity.segment.tier, area_start + at as u64);
        }
    }
    Ok(())
}

fn encode_header(
    shape: &BatchShape,
    items: &[BatchItem<'_>],
    identity: &BatchIdentity,
    out: &mut [u8],
) -> Result<u32> {
    let mut header = Vec::with_capacity(out.len());
    let mut encoder = Encoder::new(&mut header);
    encode_fixed(&mut encoder, identity, shape);
    for BatchItem { record, .. } in items {
        if let Err(fault) = record.validate() {
            fail!(Internal, "{:?} record not written: {fault}", record.kind());
        }
        record.encode(&mut encoder);
    }
    let header_len = encoder.position();
    if header_len != shape.header_len as usize {
        fail!(Internal, "a header of {header_len} bytes, laid out as {}", shape.header_len);
    }
    let crc = seal(&mut header, CRC_AT);
    out[..header_len].copy_from_slice(&header);
    out[header_len..].fill(0);
    Ok(crc)
}
