//! The fuzzer's targets over the inputs that are committed, and over new ones of the encoders.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use isotherm::log::record::Record;
use isotherm_sim::fuzz::{TARGETS, inputs};

/// The directory of every target, with its files in it.
const COMMITTED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../fuzz/inputs");

#[test]
fn what_was_once_fed_to_a_target_is_still_taken() {
    for (name, target) in TARGETS {
        let mut count = 0;
        for entry in fs::read_dir(Path::new(COMMITTED).join(name)).unwrap() {
            let path = entry.unwrap().path();
            println!("{}", path.display());
            target(&fs::read(path).unwrap());
            count += 1;
        }
        assert!(count > 0, "{name} has no inputs");
    }
}

#[test]
fn what_the_encoders_make_goes_through_every_target_and_has_every_kind_of_record() {
    let made = inputs();
    let (mut names, mut batches) = (BTreeSet::new(), 0);
    for (name, target) in TARGETS {
        for input in made.iter().filter(|input| input.target == name) {
            println!("{name}: {}", input.name);
            target(&input.bytes);
            names.insert(name);
            batches += usize::from(name == "log_batch");
        }
    }
    assert_eq!(names.len(), TARGETS.len());
    assert_eq!(batches, Record::KINDS.len());
}
