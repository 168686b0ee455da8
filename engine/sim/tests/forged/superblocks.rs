//! Superblocks with checksums that are right.

use isotherm::log::superblock::{CUTS_MAX, Cut, LogStart, SUPERBLOCK_LEN, Superblock};
use isotherm::types::{BatchSeq, Epoch, Uuid};
use isotherm_sim::forge::Stored;
use isotherm_sim::rng::Rng;
use isotherm_sim::trial::Touched;

use crate::facts::Facts;
use crate::fields::changes;

/// The parts of a superblock that say something: the head, and the beginnings of its tables.
const PARTS: [std::ops::Range<usize>; 6] =
    [0..240, 448..496, 1472..1504, 2496..2512, 2560..2656, 4000..SUPERBLOCK_LEN - 4];

#[test]
fn no_forged_field_of_a_superblock_makes_a_store_lie() {
    let facts = Facts::read();
    let mut rng = Rng::new(4);
    for (moment, disks) in [("closed", &facts.small.closed), ("crashed", &facts.small.crashed)] {
        let stored = Stored::read(disks).unwrap();
        let mut bench = crate::bench::Bench::new(&facts.small, disks);
        for (tier, superblock) in stored.superblocks.iter().enumerate() {
            let block = superblock.encode().unwrap();
            for part in PARTS {
                for change in changes(&block[part.clone()], &mut rng) {
                    let mut forged = block.clone();
                    forged[part.clone()].copy_from_slice(&change.made(&block[part.clone()]));
                    let place =
                        format!("{moment}, tier {tier}, from {}: {}", part.start, change.shown());
                    let disks = stored.with_superblock(tier, &forged);
                    bench.try_one("superblock", &place, &disks, &Touched::default());
                }
            }
        }
        bench.finish();
    }
}

#[test]
fn no_superblock_that_cannot_be_makes_a_store_lie() {
    let facts = Facts::read();
    let mut bench = facts.bench();
    let stored = &facts.stored;
    let newest = &stored.superblocks[0];
    let last = stored.last_seq();
    let mut attempt = |what: &str, tier: usize, forge: &dyn Fn(&mut Superblock)| {
        let mut forged = stored.superblocks[tier].clone();
        forge(&mut forged);
        // What the engine would not write is left to the fields.
        if let Ok(block) = forged.encode() {
            let disks = stored.with_superblock(tier, &block);
            bench.try_one(
                "superblocks",
                &format!("tier {tier}: {what}"),
                &disks,
                &Touched::default(),
            );
        }
    };
    for tier in 0..stored.superblocks.len() {
        for clean in [false, true] {
            for epoch in [newest.epoch.0 + 1, newest.epoch.0 + 2, (1 << 24) - 2, (1 << 24) - 1] {
                attempt(&format!("epoch {epoch}"), tier, &|block| {
                    (block.epoch, block.clean) = (Epoch(epoch), clean)
                });
            }
            for w in [0, 1, last.0 - 1, last.0 + 1, (1 << 62) - 1] {
                attempt(&format!("W {w}"), tier, &|block| {
                    (block.watermark, block.clean) = (BatchSeq(w), clean)
                });
            }
        }
        attempt("a late generation", tier, &|block| block.generation = (1 << 62) - 3);
        attempt("the last generation", tier, &|block| block.generation = (1 << 62) - 1);
        attempt("more tiers", tier, &|block| {
            block.tiers.push(Uuid([77; 16]));
            block.tier_epochs.push(Epoch(1));
        });
        attempt("other tiers", tier, &|block| {
            let other = 1 - usize::from(block.tier.0);
            block.tiers[other] = Uuid([77; 16]);
        });
        attempt("another seed", tier, &|block| block.hash_seed ^= 1);
        let cut = |epoch, seq| Cut { epoch: Epoch(epoch), seq: BatchSeq(seq) };
        for seq in [0, 1, last.0 - 1, last.0, last.0 + 1, (1 << 62) - 1] {
            attempt(&format!("a cut at {seq}"), tier, &|block| block.cuts = vec![cut(1, seq)]);
        }
        attempt("as many cuts as there can be", tier, &|block| {
            block.epoch = Epoch(1000);
            block.cuts = (0..CUTS_MAX as u32).map(|n| cut(n + 100, 5)).collect();
        });
    }
    let size = newest.segment_size;
    for (segment, used) in [
        (0, 0),
        (0, 4096),
        (1, 0),
        (1, 4096),
        (3, 4096),
        (20_000, 4096),
        (u32::MAX, 4096),
        (2, size - 4096),
    ] {
        for seq in [newest.log_start.seq, last, last.next()] {
            attempt(&format!("the log begins at {segment}, {used} with {seq:?}"), 0, &|block| {
                block.log_start = stored.log_start_at(segment, used);
                block.log_start.seq = seq;
            });
            attempt(
                &format!("the log before begins at {segment}, {used} with {seq:?}"),
                0,
                &|block| {
                    if let Some(previous) = &mut block.previous {
                        previous.log_start = stored.log_start_at(segment, used);
                        previous.log_start.seq = seq;
                    }
                },
            );
        }
    }
    for batch in &stored.batches[1..] {
        let identity = &batch.view.identity;
        attempt(&format!("the log begins with batch {}", identity.seq.0), 0, &|block| {
            block.log_start = LogStart {
                segment: identity.segment,
                generation: identity.generation,
                offset: batch.offset,
                seq: identity.seq,
                chain: identity.chain,
            };
        });
    }
    attempt("no checkpoint", 0, &|block| block.checkpoint = None);
    attempt("no checkpoint, and none before", 0, &|block| {
        (block.checkpoint, block.previous) = (None, None)
    });
    bench.finish();
}
