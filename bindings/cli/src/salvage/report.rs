//! What is told of a salvage, as text and as JSON.

use isotherm::{Salvage, SalvagedBlob, Standing};
use serde_json::{Value, json};

use crate::output::{human_size, printable, table};
use crate::salvage::copy::Copied;

/// Blobs that the text lists one by one; the JSON has all.
const LISTED_MAX: usize = 50;

/// A blob that there is something to say about.
struct Told {
    bucket: String,
    key: Vec<u8>,
    len: u64,
    standing: Standing,
    copied: Copied,
}

/// What became of all blobs.
#[derive(Default)]
pub struct Tally {
    /// Blobs that are copied whole, and their bytes.
    whole: u64,
    bytes: u64,
    /// Blobs that are copied without a part of them.
    partial: u64,
    /// Blobs that cannot be read whole and are not copied, and others that were refused.
    unread: u64,
    left_out: u64,
    told: Vec<Told>,
}

impl Tally {
    /// One blob more.
    pub fn add(&mut self, blob: &SalvagedBlob<'_>, copied: Copied) {
        let is_whole = copied.unreadable.is_empty();
        match (copied.is_left_out, copied.is_copied, is_whole) {
            (true, ..) => self.left_out += 1,
            (_, true, true) => {
                self.whole += 1;
                self.bytes += blob.len;
            }
            (_, true, false) => self.partial += 1,
            (_, false, _) => self.unread += 1,
        }
        if blob.standing != Standing::Current || !is_whole || !copied.is_copied {
            let (bucket, key) = (blob.bucket.to_owned(), blob.key.to_vec());
            self.told.push(Told { bucket, key, len: blob.len, standing: blob.standing, copied });
        }
    }

    /// In the order of names: threads have worked side by side.
    pub fn sort(&mut self) {
        self.told.sort_by(|a, b| (&a.bucket, &a.key).cmp(&(&b.bucket, &b.key)));
    }

    /// Whether a blob could not be copied whole.
    pub fn has_losses(&self) -> bool {
        self.partial > 0 || self.unread > 0
    }
}

fn standing_name(standing: Standing) -> &'static str {
    match standing {
        Standing::Current => "current",
        Standing::MaybeStale(_) => "maybe-stale",
    }
}

fn doubt_name(standing: Standing) -> Option<&'static str> {
    match standing {
        Standing::Current => None,
        Standing::MaybeStale(doubt) => Some(doubt.name()),
    }
}

/// Everything.
pub fn to_json(salvage: &Salvage, tally: &Tally) -> Value {
    let report = salvage.report();
    let tier = |tier: &isotherm::salvage::TierFound| {
        json!({
            "tier": tier.tier,
            "path": tier.path.as_ref().map(|path| path.display().to_string()),
            "lost": tier.lost,
            "cut_to_bytes": tier.cut_to_bytes,
            "superblocks": tier.superblocks,
        })
    };
    let lost = |lost: &isotherm::salvage::LostBlob| json!({ "bucket": lost.bucket, "key": printable(&lost.key), "why": lost.why });
    let bucket = |bucket: isotherm::SalvagedBucket| json!({ "bucket": bucket.name, "current": bucket.is_current });
    json!({
        "store": report.store.to_string(),
        "losses": report.has_losses() || tally.has_losses(),
        "tiers": report.tiers.iter().map(tier).collect::<Vec<_>>(),
        "checkpoint": {
            "newest": report.checkpoint.newest,
            "older": report.checkpoint.older,
            "copied": report.checkpoint.copied,
            "lost_partitions": report.checkpoint.lost,
            "faults": report.checkpoint.faults,
        },
        "log": {
            "batches": report.log.batches,
            "gaps": report.log.gaps.iter().map(|gap| [gap.start(), gap.end()]).collect::<Vec<_>>(),
            "last": report.log.last.0,
            "end_unknown": report.log.end_unknown,
        },
        "summaries": report.summaries,
        "lost": report.lost.iter().map(lost).collect::<Vec<_>>(),
        "buckets": salvage.buckets().map(bucket).collect::<Vec<_>>(),
        "current": report.current,
        "maybe_stale": report.maybe_stale,
        "copied": tally.whole,
        "copied_bytes": tally.bytes,
        "copied_in_part": tally.partial,
        "not_copied": tally.unread,
        "left_out": tally.left_out,
        "blobs": tally.told.iter().map(told_json).collect::<Vec<_>>(),
    })
}

fn told_json(told: &Told) -> Value {
    let unreadable = told.copied.unreadable.iter();
    let unreadable =
        unreadable.map(|part| json!({ "offset": part.offset, "len": part.len, "why": part.why }));
    json!({
        "bucket": told.bucket,
        "key": printable(&told.key),
        "len": told.len,
        "standing": standing_name(told.standing),
        "doubt": doubt_name(told.standing),
        "copied": told.copied.is_copied,
        "refused": told.copied.refused,
        "unreadable": unreadable.collect::<Vec<_>>(),
    })
}

/// What matters, for people.
pub fn to_text(salvage: &Salvage, tally: &Tally) -> String {
    let report = salvage.report();
    let mut text = format!(
        "{} blobs in {} buckets: {} current, {} maybe stale\n\
         {} whole ({}), {} in part, {} not, {} left out\n",
        report.current + report.maybe_stale,
        report.buckets,
        report.current,
        report.maybe_stale,
        tally.whole,
        human_size(tally.bytes),
        tally.partial,
        tally.unread,
        tally.left_out,
    );
    for tier in &report.tiers {
        if let Some(why) = &tier.lost {
            text.push_str(&format!("tier {} is lost: {why}\n", tier.tier));
        }
        if let Some(len) = tier.cut_to_bytes {
            text.push_str(&format!("tier {} has been cut to {len} bytes\n", tier.tier));
        }
    }
    if !report.checkpoint.lost.is_empty() {
        let lost = report.checkpoint.lost.len();
        text.push_str(&format!("{lost} of 256 partitions of the list of blobs are lost\n"));
    }
    for gap in &report.log.gaps {
        text.push_str(&format!("batches {} to {} of the log are lost\n", gap.start(), gap.end()));
    }
    if let Some(why) = &report.log.end_unknown {
        text.push_str(&format!("how far the log went is not known: {why}\n"));
    }
    for lost in report.lost.iter().take(LISTED_MAX) {
        let key = printable(&lost.key);
        text.push_str(&format!("the newest {}/{key} is lost: {}\n", lost.bucket, lost.why));
    }
    text.push_str(&told_text(tally));
    let more =
        report.lost.len().saturating_sub(LISTED_MAX) + tally.told.len().saturating_sub(LISTED_MAX);
    if more > 0 {
        text.push_str(&format!("and {more} more; --json lists all\n"));
    }
    text
}

fn told_text(tally: &Tally) -> String {
    if tally.told.is_empty() {
        return String::new();
    }
    let header = ["blob", "bytes", "unreadable", "standing", "why"];
    let mut rows = vec![header.map(str::to_string).to_vec()];
    for told in tally.told.iter().take(LISTED_MAX) {
        let unreadable: u64 = told.copied.unreadable.iter().map(|part| part.len).sum();
        let first = told.copied.unreadable.first().map(|part| part.why.as_str());
        let why = told.copied.refused.as_deref().or(first).or(doubt_name(told.standing));
        rows.push(vec![
            format!("{}/{}", told.bucket, printable(&told.key)),
            told.len.to_string(),
            unreadable.to_string(),
            standing_name(told.standing).to_owned(),
            why.unwrap_or("left out").to_owned(),
        ]);
    }
    table(&rows)
}
