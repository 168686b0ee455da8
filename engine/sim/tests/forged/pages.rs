//! Extent pages with checksums that are right, whose extents name themselves, what is not there, or
//! what is another's.

use isotherm::io::sim_disk::Disk;
use isotherm::limits::VALUE_LEN_MAX;
use isotherm::log::page::{PageBuffer, PageImage};
use isotherm::log::record::{BufferDef, Extent, PageRef, Record};
use isotherm::types::{BufferId, Location, TierId, Version};
use isotherm_sim::forge::Forged;
use isotherm_sim::rng::Rng;
use isotherm_sim::trial::Touched;

use crate::facts::Facts;
use crate::fields::changes;

fn extent(value_offset: u64, len: u32, buffer: BufferId) -> Extent {
    Extent { value_offset, len, buffer, buffer_offset: 0 }
}

/// The store with a new blob of one page of these bytes, whose record names these buffers.
fn with_page(facts: &Facts, bytes: &[u8], names: &[BufferId], is_used: bool) -> Vec<Disk> {
    let def = facts.buffer(0, bytes, Location::device(TierId(0), 0));
    let key: Box<[u8]> = b"forged"[..].into();
    let version = Version(facts.fresh + 600);
    let page = Record::Page {
        bucket: facts.bucket,
        key: key.clone(),
        version,
        page: def.id,
        names: names.into(),
        buffers: vec![def.clone()],
    };
    let paged = Record::Paged {
        bucket: facts.bucket,
        key,
        base: None,
        version,
        len: 3_000_000,
        cut: 0..VALUE_LEN_MAX,
        pages: vec![PageRef { start: 0, page: Some(def.id), extents: 2 }],
        attributes: None,
    };
    let mut records = vec![Forged { record: page, payloads: vec![(0, bytes.to_vec())] }];
    if is_used {
        records.push(paged.into());
    }
    facts.stored.with_batch(records).unwrap()
}

fn image(facts: &Facts, extents: Vec<Extent>, buffers: &[&BufferDef]) -> PageImage {
    let mut buffers: Vec<PageBuffer> = buffers
        .iter()
        .map(|def| PageBuffer {
            id: def.id,
            stored_len: def.stored_len,
            checks: def.checks.clone(),
        })
        .collect();
    buffers.sort_by_key(|buffer| buffer.id);
    PageImage {
        store: facts.stored.superblocks[0].store,
        id: BufferId(facts.fresh),
        bucket: facts.bucket,
        key: b"forged"[..].into(),
        version: Version(facts.fresh + 600),
        extents,
        buffers,
    }
}

#[test]
fn no_page_that_cannot_be_makes_a_store_lie() {
    let facts = Facts::read();
    let mut bench = facts.bench();
    let (first, second) = (&facts.shared[0], &facts.shared[1]);
    let (page, (page_def, _)) = facts.pages.iter().next().unwrap();
    let itself = facts.buffer(0, &[0; 100], Location::device(TierId(0), 0));
    let fresh = facts.buffer(1, &[0; 100], Location::device(TierId(0), 0));
    let longer =
        BufferDef { raw_len: 1 << 20, stored_len: 1 << 20, checks: vec![0; 64], ..first.clone() };
    let shorter = BufferDef { stored_len: 1, checks: vec![0], ..first.clone() };
    let lone = &facts.lone[0].3;
    let two = vec![extent(0, 10, first.id), extent(100, 10, second.id)];
    let mut attempt =
        |what: &str, extents: Vec<Extent>, buffers: &[&BufferDef], names: &[BufferId]| {
            let bytes = image(&facts, extents, buffers).encode().unwrap();
            let mut names = names.to_vec();
            names.sort_unstable();
            for is_used in [true, false] {
                let disks = with_page(&facts, &bytes, &names, is_used);
                bench.try_one(
                    "pages",
                    &format!("{what}, used: {is_used}"),
                    &disks,
                    &Touched::default(),
                );
            }
        };
    attempt("as it should be", two.clone(), &[first, second], &[first.id, second.id]);
    attempt("one name is missing", two.clone(), &[first, second], &[first.id]);
    attempt("all names are missing", two.clone(), &[first, second], &[]);
    attempt("one name too many", vec![extent(0, 10, first.id)], &[first], &[first.id, second.id]);
    attempt("another name", vec![extent(0, 10, first.id)], &[first], &[second.id]);
    attempt("itself", vec![extent(0, 10, itself.id)], &[&itself], &[first.id]);
    attempt(
        "itself, and another",
        vec![extent(0, 10, itself.id), extent(10, 5, first.id)],
        &[&itself, first],
        &[first.id],
    );
    attempt("another page", vec![extent(0, 10, *page)], &[page_def], &[first.id]);
    attempt("nothing there is", vec![extent(0, 10, fresh.id)], &[&fresh], &[first.id]);
    attempt("a lone buffer", vec![extent(0, 10, lone.id)], &[lone], &[first.id]);
    attempt("a longer buffer", vec![extent(0, 1 << 20, first.id)], &[&longer], &[first.id]);
    attempt(
        "a slice behind its buffer",
        vec![extent(0, first.raw_len + 1, first.id)],
        &[first],
        &[first.id],
    );
    attempt("a shorter buffer", vec![extent(0, 10, first.id)], &[&shorter], &[first.id]);
    attempt(
        "other checks",
        vec![extent(0, 10, first.id)],
        &[&BufferDef { checks: vec![5; first.checks.len()], ..first.clone() }],
        &[first.id],
    );
    attempt(
        "behind the value",
        vec![extent(VALUE_LEN_MAX - 10, 10, first.id)],
        &[first],
        &[first.id],
    );
    bench.finish();
}

#[test]
fn no_forged_field_of_a_page_makes_a_store_lie() {
    let facts = Facts::read();
    let mut bench = facts.bench();
    let mut rng = Rng::new(3);
    let (first, second) = (&facts.shared[0], &facts.shared[1]);
    let two = vec![extent(0, 10, first.id), extent(100, 10, second.id)];
    let mut names = [first.id, second.id];
    names.sort_unstable();
    let bytes = image(&facts, two, &[first, second]).encode().unwrap();
    for change in changes(&bytes, &mut rng) {
        let disks = with_page(&facts, &change.made(&bytes), &names, true);
        bench.try_one("page", &change.shown(), &disks, &Touched::default());
    }
    bench.finish();
}
