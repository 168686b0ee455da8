//! What becomes of changes that are given up, or wait, in the simulator.

use crate::api::PutOptions;
use crate::api::change::Edit;
use crate::engine::flush_everything;
use crate::error::ErrorKind;
use crate::testing::{SimEngine, config, poll};
use crate::types::Durability;

fn at(level: Durability) -> PutOptions {
    PutOptions::from(level)
}

#[test]
fn a_change_given_up_at_any_moment_leaves_no_live_bytes_behind() {
    let value = vec![5; 3 << 20];
    let mut finished = 0;
    let sim = SimEngine::new(1, config(2));
    let bucket = sim.bucket("b");
    for steps in 0..600 {
        let block_on =
            |edit| sim.core().runtime.block_on(bucket.edit(b"k", edit, PutOptions::default()));
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
        match block_on(Edit::Delete) {
            Ok(_) => {}
            Err(error) => assert_eq!(error.kind(), ErrorKind::NotFound),
        }
        sim.core().runtime.block_on(flush_everything(sim.core())).unwrap();
        sim.steps(50);
        let live: u64 = sim.core().space.tiers().iter().map(|tier| tier.live_bytes()).sum();
        assert_eq!(live, 0, "given up after {steps} steps");
        if finished > 3 {
            break;
        }
    }
    assert!(finished > 3, "no put was seen through");
    sim.engine.stop().unwrap().unwrap();
}
