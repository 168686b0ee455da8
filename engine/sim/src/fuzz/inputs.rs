//! Inputs to begin with, made by the real encoders: a structure of every kind, and each of them changed.

use std::collections::BTreeSet;

use isotherm::log::batch::{BATCH_MAGIC, BatchView, decode_header};
use isotherm::log::checkpoint::PARTITION_MAGIC;
use isotherm::log::root::ROOT_MAGIC;
use isotherm::log::superblock::SUPERBLOCK_MAGIC;

use super::log_batch::expectation;
use super::open::{CLOSED, REPAIRED, bench};
use super::parts::Image;

/// So many images of a store, the longest of different lengths: most are empty.
const IMAGES: usize = 6;

/// One input.
pub struct Input {
    /// Of which target.
    pub target: &'static str,
    /// The name of its file.
    pub name: String,
    /// It.
    pub bytes: Vec<u8>,
}

/// Configurations: everything set, hardly anything, and what is refused for one reason each.
const CONFIGS: [(&str, &str); 6] = [
    (
        "everything",
        "shards = 2\nsegment_size = \"8MiB\"\nbuffer_size = \"128KiB\"\ndurability = \"durable\"\n\
         flush_interval = \"1.5s\"\nmemory_budget = \"1GiB\"\nio = \"threads\"\norganizer = \"threads\"\n\
         checksum_at_entry = true\ncreate = false\nread_only = true\nmissing_tiers = \"degraded\"\n\
         control_socket = false\n\n[[tier]]\nkind = \"dram\"\ncapacity = \"256MiB\"\n\
         watermark_low = 0.5\nwatermark_high = \"75%\"\n\n[[tier]]\nkind = \"nvme\"\n\
         path = \"flash\"\ncapacity = \"10GiB\"\n\n[[tier]]\nkind = \"hdd\"\npath = \"disk\"\n\
         capacity = 1099511627776\n",
    ),
    ("nothing", ""),
    ("a tier by its key", "tier.0.kind = \"nvme\"\ntier.0.capacity = \"auto\"\n"),
    ("an unknown key", "[[tier]]\nkind = \"nvme\"\ncapcity = \"1GiB\"\n"),
    ("tiers in the wrong order", "[[tier]]\nkind = \"hdd\"\n[[tier]]\nkind = \"nvme\"\n"),
    ("no TOML", "[[tier]\nkind = nvme\n"),
];

/// All of them.
pub fn inputs() -> Vec<Input> {
    let mut inputs = Vec::new();
    let mut add = |target, name: &str, bytes: &[u8]| {
        inputs.push(Input { target, name: name.replace(' ', "-"), bytes: bytes.to_vec() });
    };
    CONFIGS.iter().for_each(|(name, text)| add("config", name, text.as_bytes()));
    let bench = bench();
    batches(&bench.crashed).iter().for_each(|(name, bytes)| add("log_batch", name, bytes));
    for (moment, image) in [("crashed", &bench.crashed), ("closed", &bench.closed)] {
        let of_kind = |magic: [u8; 8]| image.structures().filter(move |it| it.starts_with(&magic));
        let slots: Vec<&[u8]> = of_kind(SUPERBLOCK_MAGIC).collect();
        for (tier, pair) in slots.chunks(2).enumerate() {
            add("superblock", &format!("{moment} tier {tier}"), &pair.concat());
        }
        of_kind(ROOT_MAGIC)
            .take(1)
            .for_each(|root| add("checkpoint", &format!("{moment} root"), root));
        let mut images: Vec<&[u8]> = of_kind(PARTITION_MAGIC).collect();
        images.sort_by_key(|image| std::cmp::Reverse(image.len()));
        images.dedup_by_key(|image| image.len());
        for (number, bytes) in images.into_iter().take(IMAGES).enumerate() {
            add("checkpoint", &format!("{moment} image {number}"), bytes);
        }
        let closed = if moment == "closed" { CLOSED } else { 0 };
        add("open", moment, &[closed]);
        for (magic, part) in image.examples() {
            let name = String::from_utf8_lossy(&magic).into_owned();
            for (how, flag) in [("damaged", 0), ("forged", REPAIRED)] {
                let mut bytes = vec![closed | flag];
                bytes.extend_from_slice(&(part as u16).to_le_bytes());
                bytes.extend_from_slice(&[64, 0, 1, 0xA5, 0x5A]);
                add("open", &format!("{moment} {how} {name}"), &bytes);
            }
        }
    }
    inputs
}

/// For every kind of record the shortest batch that has one.
fn batches(image: &Image) -> Vec<(String, Vec<u8>)> {
    let mut headers: Vec<&[u8]> =
        image.structures().filter(|bytes| bytes.starts_with(&BATCH_MAGIC)).collect();
    headers.sort_by_key(|header| header.len());
    let mut seen = BTreeSet::new();
    let mut found = Vec::new();
    for header in headers {
        let kinds = decode_header(header, &expectation(header)).map(BatchView::into_records);
        for record in kinds.iter().flatten() {
            let name = format!("{:?}", record.kind()).to_lowercase();
            if seen.insert(name.clone()) {
                found.push((name, header.to_vec()));
            }
        }
    }
    found
}
