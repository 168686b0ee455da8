//! What becomes of changes that are given up, or wait, in the simulator.

mod crowded;
mod streams;

use std::ops::ControlFlow;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::api::crowded::SLICES_PER_SPAN_MAX;
use crate::api::edit::Edit;
use crate::api::{AttributeChanges, Batch, Bucket, Operation, PutOptions};
use crate::check::CheckOptions;
use crate::config::ResolvedConfig;
use crate::error::ErrorKind;
use crate::index::state::{Checks, Value};
use crate::limits::{PAGE_EXTENTS_DEFAULT, STRIPES, UNFLUSHED_MAX};
use crate::store::{BucketOptions, Scope};
use crate::testing::{SimStore, config, poll};
use crate::types::Durability;

fn at(level: Durability) -> PutOptions {
    PutOptions::from(level)
}

#[test]
fn a_change_given_up_at_any_moment_leaves_no_live_bytes_behind() {
    let value = vec![5; 3 << 20];
    let mut finished = 0;
    let sim = SimStore::new(1, config(2));
    let bucket = sim.bucket("b");
    for steps in 0..600 {
        {
            let mut put =
                Box::pin(bucket.edit(b"k", Edit::Replace(&value), at(Durability::Written)));
            let mut pending = poll(&mut put).is_pending();
            for _ in 0..steps {
                sim.world.step();
                pending = pending && poll(&mut put).is_pending();
            }
            finished += usize::from(!pending);
        }
        if let Err(error) = bucket.delete(b"k") {
            assert_eq!(error.kind(), ErrorKind::NotFound);
        }
        sim.store.flush(Scope::Store).unwrap();
        sim.steps(50);
        let live: u64 = sim.core().space.tiers().iter().map(|tier| tier.live_bytes()).sum();
        assert_eq!(live, 0, "given up after {steps} steps");
        if finished > 3 {
            break;
        }
    }
    assert!(finished > 3, "no put was seen through");
    sim.store.close().unwrap();
}

#[test]
fn a_change_under_way_keeps_no_room_of_its_predecessor() {
    let sim = SimStore::new(2, config(1));
    let bucket = sim.bucket("b");
    bucket.put(b"k", &vec![1; 5 << 20]).unwrap();
    bucket.get(b"k").unwrap();
    let resident = || bucket.locate(b"k").unwrap().iter().filter(|place| place.in_dram).count();
    assert_eq!(resident(), 5);
    let piece = vec![2; 64 << 10];
    let mut change = Box::pin(bucket.edit(b"k", Edit::PutAt(0, &piece), at(Durability::Written)));
    assert!(poll(&mut change).is_pending());
    for key in [b"x", b"y"] {
        bucket.put_with(key, &vec![3; 2 << 20], at(Durability::Memory)).unwrap();
    }
    let fallbacks = &sim.core().counters.memory_fallbacks;
    assert_eq!(fallbacks.load(Ordering::Relaxed), 0, "the predecessor was in the way");
    assert!(resident() < 5);
    sim.wait(change).unwrap();
    let value = bucket.get(b"k").unwrap();
    assert!(value.starts_with(&piece) && value[piece.len()..].iter().all(|byte| *byte == 1));
    sim.store.close().unwrap();
}

#[test]
fn a_span_is_rewritten_only_where_there_is_room_for_all_of_it() {
    let sim = SimStore::new(3, config(1));
    let bucket = sim.bucket("b");
    let slice = vec![9; 16 << 10];
    let mut value = vec![4; 1 << 20];
    bucket.put(b"k", &value).unwrap();
    let mut slices = 1;
    for offset in (0..).step_by(32 << 10) {
        if slices + 2 > SLICES_PER_SPAN_MAX {
            break;
        }
        bucket.put_at(b"k", offset + 4096, &slice).unwrap();
        value[offset as usize + 4096..][..slice.len()].copy_from_slice(&slice);
        slices = bucket.stat(b"k").unwrap().buffers as usize;
    }
    // Room for the bytes of one more slice, and not for the span that it makes too crowded.
    let space = &sim.core().space;
    let live: u64 = space.tiers().iter().map(|tier| tier.live_bytes()).sum();
    let usable: u64 = space.tiers().iter().map(|tier| tier.usable_bytes()).sum();
    let taken = usable - live - space.reserved_bytes() - (100 << 10);
    assert!(space.reserve(taken));
    let before = sim.world.now();
    let refused = bucket.put_at(b"k", (1 << 20) - 65_536, &slice).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::NoSpace);
    assert!(sim.world.now().since(before) < Duration::from_secs(1), "it waited for room");
    assert!(bucket.get(b"k").unwrap() == value, "a refused change changed something");
    space.unreserve(taken);
    bucket.put_at(b"k", (1 << 20) - 65_536, &slice).unwrap();
    value[(1 << 20) - 65_536..][..slice.len()].copy_from_slice(&slice);
    assert!(bucket.get(b"k").unwrap() == value);
    assert!(bucket.stat(b"k").unwrap().buffers < 5, "the span was not rewritten");
    sim.store.close().unwrap();
}

#[test]
fn a_flush_does_not_wait_for_a_change_that_is_not_acknowledged() {
    let sim = SimStore::new(4, config(1));
    let bucket = sim.bucket("b");
    bucket.put_with(b"k", b"written behind one day", at(Durability::Memory)).unwrap();
    bucket.put_with(b"k", b"logged before that", at(Durability::Written)).unwrap();
    // Claims the key and keeps it, as the next of many writers does: nobody polls it meanwhile.
    let value = vec![1; 64 << 10];
    let mut change = Box::pin(bucket.edit(b"k", Edit::Replace(&value), at(Durability::Written)));
    assert!(poll(&mut change).is_pending());
    let mut flush = Box::pin(sim.store.flush_async(Scope::Store));
    let flushed = (0..20_000).any(|_| {
        sim.world.step();
        poll(&mut flush).is_ready()
    });
    assert!(flushed, "it waits for a change that began before it");
    sim.wait(change).unwrap();
    assert!(bucket.get(b"k").unwrap() == value);
    sim.store.close().unwrap();
}

#[test]
fn a_destroy_that_is_given_up_while_it_waits_leaves_the_bucket_as_it_was() {
    let sim = SimStore::new(5, config(1));
    let bucket = sim.bucket("b");
    bucket.put(b"k", b"value").unwrap();
    let value = vec![1; 64 << 10];
    let mut change = Box::pin(bucket.edit(b"k", Edit::Replace(&value), at(Durability::Written)));
    assert!(poll(&mut change).is_pending());
    let mut destroy = Box::pin(sim.store.destroy_bucket_async("b"));
    assert!(poll(&mut destroy).is_pending(), "it waits for the change");
    assert_eq!(bucket.get(b"k").unwrap_err().kind(), ErrorKind::BucketNotFound);
    drop(destroy);
    assert_eq!(bucket.get(b"k").unwrap(), b"value");
    sim.wait(change).unwrap();
    bucket.put(b"l", b"another").unwrap();
    sim.store.destroy_bucket("b").unwrap();
    assert_eq!(bucket.get(b"k").unwrap_err().kind(), ErrorKind::BucketNotFound);
    sim.store.close().unwrap();
}

#[test]
fn a_sparse_value_beyond_the_memory_budget_is_read_in_pieces_only() {
    let sim = SimStore::new(6, config(1));
    let bucket = sim.bucket("b");
    let budget = sim.core().settings.memory_budget;
    for level in [Durability::Memory, Durability::Written] {
        bucket.put_with(b"k", b"begin", at(level)).unwrap();
        bucket.truncate_with(b"k", budget + 1, at(level)).unwrap();
        assert_eq!(bucket.get(b"k").unwrap_err().kind(), ErrorKind::NoMemory);
        let mut piece = [7; 8];
        assert_eq!(bucket.get_at(b"k", 0, &mut piece).unwrap(), 8);
        assert_eq!(&piece, b"begin\0\0\0");
        bucket.truncate_with(b"k", 1 << 20, at(level)).unwrap();
        assert_eq!(bucket.get(b"k").unwrap().len(), 1 << 20);
    }
    sim.store.close().unwrap();
}

#[test]
fn a_store_says_what_its_organizer_runs_on_as_soon_as_it_is_open() {
    let sim = SimStore::new(7, config(1));
    assert_eq!(sim.store.info().organizer_backend, "sim");
    assert_eq!(sim.store.stats().organizer.backend, "sim");
    sim.store.close().unwrap();
}

#[test]
fn acknowledgements_follow_the_order_of_the_log() {
    let value = vec![1; 64 << 10];
    for seed in 0..20 {
        let sim = SimStore::new(seed, config(2));
        let bucket = sim.bucket("b");
        let mut durable =
            Box::pin(bucket.edit(b"first", Edit::Replace(&value), at(Durability::Durable)));
        let core = sim.core();
        let hash = core.index.hash(core.buckets.by_name(b"b").unwrap().id, b"first");
        let is_logged = || {
            let mut stripe = core.index.lock(hash);
            stripe.with_hash(hash).any(|entry| entry.logged_version() > entry.visible.version)
        };
        while !is_logged() {
            assert!(poll(&mut durable).is_pending());
            sim.world.step();
        }
        let mut written =
            Box::pin(bucket.edit(b"second", Edit::Replace(b"small"), at(Durability::Written)));
        while poll(&mut written).is_pending() {
            sim.world.step();
        }
        assert_eq!(bucket.get(b"first").unwrap(), value, "seed {seed}: the second came first");
        sim.wait(durable).unwrap();
        sim.store.close().unwrap();
    }
}

#[test]
fn a_write_that_waits_for_a_flush_goes_on_when_it_is_done() {
    let sim = SimStore::new(8, config(1));
    let bucket = sim.bucket("b");
    sim.store.flush(Scope::Store).unwrap();
    let unflushed = &sim.core().space.tiers()[0].counters.unflushed_bytes;
    unflushed.fetch_add(UNFLUSHED_MAX + 1, Ordering::AcqRel);
    let value = vec![1; 64 << 10];
    let mut put = Box::pin(bucket.edit(b"k", Edit::Replace(&value), at(Durability::Written)));
    let done = (0..20_000).any(|_| {
        sim.world.step();
        poll(&mut put).is_ready()
    });
    assert!(done, "it sleeps");
    sim.store.close().unwrap();
}

#[test]
fn zeros_ahead_of_the_log_wait_for_a_flush_like_everybody() {
    let sim = SimStore::new(9, config(1));
    let counters = &sim.core().space.tiers()[0].counters;
    for _ in 0..3000 {
        // Whatever is flushed, others have written more meanwhile.
        counters.unflushed_bytes.fetch_add(UNFLUSHED_MAX + 1, Ordering::AcqRel);
        sim.world.step();
    }
    let written = counters.written_bytes.load(Ordering::Relaxed);
    assert!(written < 1 << 20, "{written} bytes written beyond the bound");
    sim.bucket("b").put(b"k", b"v").unwrap();
    sim.store.close().unwrap();
}

#[test]
fn a_change_that_runs_on_a_shard_reads_through_its_ring_alone() {
    for page_extents in [2, PAGE_EXTENTS_DEFAULT] {
        let sim = SimStore::new(10, ResolvedConfig { page_extents, ..config(1) });
        let bucket = sim.bucket("b");
        let mut value = vec![1; 1 << 20];
        bucket.put(b"k", &value).unwrap();
        let queue = sim.store.queue(1).unwrap();
        let by_ring = || sim.core().counters.device_read.snapshot().count;
        let all = || sim.core().space.tiers()[0].counters.reads.load(Ordering::Relaxed);
        let before = all() - by_ring();
        // Enough slices that the span is rewritten, each too large for the log.
        for at in (0..20).map(|n| n * (48 << 10)) {
            let piece = vec![at as u8 + 2; 32 << 10];
            value[at..at + piece.len()].copy_from_slice(&piece);
            let change = Operation::put_at(&bucket, b"k", at as u64, piece);
            queue.submit(change.with(at_written())).unwrap();
            let mut ended = Vec::new();
            queue.wait(1, 1, None, &mut ended);
            assert!(ended[0].result.is_ok(), "{:?}", ended[0].result);
        }
        assert!(by_ring() > 0, "nothing was read");
        assert_eq!(all() - by_ring(), before, "the shard stood still for a device");
        assert!(bucket.get(b"k").unwrap() == value);
        drop(queue);
        sim.store.close().unwrap();
    }
}

fn at_written() -> PutOptions {
    at(Durability::Written)
}

/// As if all bytes that no device holds had changed in memory.
fn set_checks(sim: &SimStore, checks: Checks) {
    for number in 0..STRIPES {
        let mut maps = Vec::new();
        for entry in sim.core().index.lock_number(number).iter_mut() {
            match &mut entry.visible.value {
                Value::Lone(lone) if lone.is_dirty() => lone.checks = checks.clone(),
                Value::Mapped(map) => maps.push(map.clone()),
                _ => {}
            }
        }
        for id in maps.iter().flat_map(|map| map.buffers()) {
            let is_dirty = sim.core().table.get(id).is_some_and(|buffer| buffer.is_dirty());
            if is_dirty {
                sim.core().table.with_row(id, |buffer| buffer.checks = checks.clone());
            }
        }
    }
}

#[test]
fn bytes_that_changed_in_memory_since_they_were_put_do_not_enter_a_logged_change() {
    let in_memory = |bucket: &Bucket, slices: u64| {
        bucket.put_with(b"k", &[7; 100_000], at(Durability::Memory)).unwrap();
        for n in 0..slices {
            bucket.put_at_with(b"k", n * 1000, &[8; 10], at(Durability::Memory)).unwrap();
        }
    };
    // One buffer; several; so many that the change rewrites them; and all of these in pages.
    for (slices, page_extents) in [(0, 128), (3, 128), (15, 128), (0, 2), (3, 2)] {
        let checksum_at_entry = true;
        let sim =
            SimStore::new(11, ResolvedConfig { checksum_at_entry, page_extents, ..config(1) });
        let bucket = sim.bucket("b");
        in_memory(&bucket, slices);
        set_checks(&sim, Checks::One(1));
        let refused = bucket.put_at_with(b"k", 50_000, &[9; 10], at_written());
        let kind = refused.map_err(|error| error.kind());
        assert_eq!(kind, Err(ErrorKind::Corrupt), "{slices} slices, {page_extents} in a page");
        set_checks(&sim, Checks::Unwritten);
        bucket.put_at_with(b"k", 50_000, &[9; 10], at_written()).unwrap();
        sim.store.close().unwrap();
    }
}

#[test]
fn appends_to_a_blob_in_dram_alone_go_on_for_ever() {
    let sim = SimStore::new(12, ResolvedConfig { devices: Vec::new(), ..config(1) });
    let bucket = sim.bucket("b");
    let mut model = Vec::new();
    for n in 0..100_000_u64 {
        let bytes = [&n.to_le_bytes()[..], b".."].concat();
        assert_eq!(bucket.append_with(b"log", &bytes, in_dram()).unwrap(), model.len() as u64);
        model.extend_from_slice(&bytes);
        if n % 3 == 0 {
            let at = (n * 7919 % model.len() as u64) as usize;
            let end = (at + 5).min(model.len());
            bucket.put_at_with(b"log", at as u64, &bytes[..end - at], in_dram()).unwrap();
            model[at..end].copy_from_slice(&bytes[..end - at]);
        }
    }
    assert!(bucket.get(b"log").unwrap() == model);
    assert!(bucket.stat(b"log").unwrap().buffers <= SLICES_PER_SPAN_MAX as u64);
    sim.store.close().unwrap();
}

fn in_dram() -> PutOptions {
    at(Durability::Memory)
}

#[test]
fn a_clear_amid_changes_that_were_given_up_leaves_a_store_that_opens_empty() {
    let value = vec![5; 300_000];
    let changes = AttributeChanges::new().set("n", 1);
    for steps in (0..240).step_by(3) {
        let config = ResolvedConfig { buffer_size: 64 << 10, page_extents: 4, ..config(1) };
        let sim = SimStore::new(steps as u64, config);
        let bucket = sim.bucket("b");
        for key in [b"a", b"b", b"c", b"d"] {
            bucket.put_with(key, &value, at(Durability::Written)).unwrap();
        }
        bucket.put_with(b"e", &value, at(Durability::Memory)).unwrap();
        sim.core().dirty[0].hurry();
        {
            let written = || at(Durability::Written);
            let mut put = Box::pin(bucket.edit(b"a", Edit::Replace(&value), written()));
            let mut edit = Box::pin(bucket.edit(b"b", Edit::PutAt(9, b"x"), written()));
            let mut durable =
                Box::pin(bucket.edit(b"c", Edit::Append(b"x"), at(Durability::Durable)));
            let mut said = Box::pin(bucket.edit(b"d", Edit::Attributes(&changes), written()));
            for _ in 0..steps {
                let _pending = (poll(&mut put), poll(&mut edit), poll(&mut durable));
                if poll(&mut said).is_ready() {
                    break;
                }
                sim.world.step();
            }
        }
        sim.store.clear_bucket("b").unwrap();
        assert_eq!(bucket.bucket_stat().unwrap().blobs, 0, "after {steps} steps");
        // A checkpoint of the bucket without its blobs: what named them must not follow.
        sim.store.flush(Scope::Store).unwrap();
        bucket.put_with(b"b", b"new", at(Durability::Memory)).unwrap();
        let sim = sim.reopen();
        let bucket = sim.store.open_bucket("b").unwrap();
        let stat = bucket.bucket_stat().unwrap();
        assert_eq!((stat.blobs, stat.bytes), (1, 3), "after {steps} steps");
        assert_eq!(bucket.get(b"b").unwrap(), b"new");
        sim.store.close().unwrap();
    }
}

#[test]
fn room_set_aside_by_a_change_that_is_given_up_comes_back() {
    let value = vec![5; 60_000];
    let sim = SimStore::new(3, config(1));
    let options = BucketOptions { quota_bytes: Some(60_000), ..BucketOptions::default() };
    let bucket = sim.store.create_bucket("b", options).unwrap();
    for steps in 0..120 {
        {
            let mut put =
                Box::pin(bucket.edit(b"k", Edit::Replace(&value), at(Durability::Durable)));
            for _ in 0..steps {
                if poll(&mut put).is_ready() {
                    break;
                }
                sim.world.step();
            }
        }
        // It takes place wholly or not at all, and either way all room is there after it.
        if let Err(error) = bucket.delete(b"k") {
            assert_eq!(error.kind(), ErrorKind::NotFound);
        }
        bucket.put(b"other", &value).unwrap();
        bucket.delete(b"other").unwrap();
    }
    sim.store.close().unwrap();
}

#[test]
fn a_step_of_a_batch_that_changes_nothing_makes_what_it_finds_as_safe_as_the_others() {
    let sim = SimStore::new(9, config(1));
    let bucket = sim.bucket("b");
    let memory = || at(Durability::Memory);
    bucket.put_with(b"as it is", b"1234", at(Durability::Durable)).unwrap();
    bucket.put_with(b"cut", b"123", at(Durability::Durable)).unwrap();
    bucket.put_with(b"cut", b"12", memory()).unwrap();
    bucket.put_with(b"marked", b"old", at(Durability::Durable)).unwrap();
    bucket.set_attributes_with(b"marked", &AttributeChanges::new().set("a", 1), memory()).unwrap();
    bucket.put_with(b"marked", b"new", memory()).unwrap();
    let marks = AttributeChanges::new().set("a", 1);
    let mut batch = Batch::new();
    batch.truncate(&bucket, b"cut", 2).truncate(&bucket, b"as it is", 4);
    batch.set_attributes(&bucket, b"marked", marks).put(&bucket, b"other", b"x");
    sim.store.commit(&batch, Some(Durability::Written)).unwrap();
    let sim = sim.kill();
    let bucket = sim.store.open_bucket("b").unwrap();
    assert_eq!(bucket.get(b"other").unwrap(), b"x");
    assert_eq!(bucket.get(b"cut").unwrap(), b"12", "half of the batch");
    assert_eq!(bucket.get(b"marked").unwrap(), b"new", "half of the batch");
    assert_eq!(bucket.get(b"as it is").unwrap(), b"1234");
    sim.store.close().unwrap();
}

#[test]
fn a_change_keeps_what_it_names_while_write_behind_puts_its_predecessor_into_pages() {
    let mut overtaken = 0;
    for steps in 0..160 {
        let config = ResolvedConfig { buffer_size: 64 << 10, page_extents: 4, ..config(1) };
        let sim = SimStore::new(steps as u64, config);
        let bucket = sim.bucket("b");
        let ranges: [(u64, &[u8]); 2] = [(0, b"first"), (100_000, b"second")];
        bucket.put_ranges(b"k", &ranges, at(Durability::Written)).unwrap();
        // One extent more than a record may have.
        let third = Edit::PutAt(200_000, b"third");
        sim.wait(bucket.edit(b"k", third, at(Durability::Memory))).unwrap();
        sim.core().dirty[0].hurry();
        sim.steps(steps);
        let mut cut = Box::pin(bucket.edit(b"k", Edit::Truncate(5), at(Durability::Written)));
        let logged = || sim.core().counters.written_behind.load(Ordering::Relaxed);
        let before = logged();
        while poll(&mut cut).is_pending() {
            sim.world.step();
        }
        overtaken += logged() - before;
        drop(cut);
        let report = sim.store.check(&CheckOptions::default(), |_| ControlFlow::Continue(()));
        assert!(report.unwrap().is_clean(), "after {steps} steps");
        bucket.put_ranges(b"k", &[(50_000, b"fourth"), (150_000, b"fifth")], at_written()).unwrap();
        drop(bucket);
        let sim = sim.reopen();
        let bucket = sim.store.open_bucket("b").unwrap();
        assert!(bucket.get(b"k").unwrap().starts_with(b"first\0"), "after {steps} steps");
        sim.store.close().unwrap();
    }
    assert!(overtaken > 5, "the write-behind ended {overtaken} times during the change");
}
