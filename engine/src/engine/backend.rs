//! What the shards' I/O runs on: the choice, the ring of each shard, and what is said of it.

use crate::config::IoChoice;
use crate::core::Core;
use crate::error::{Result, fail};
use crate::io::runtime::Runtime;
use crate::io::sim_ring::SimRing;
use crate::io::threads::ThreadsRing;
use crate::io::uring::{self, UringRing};
use crate::io::{Devices, Ring};
use crate::limits::{RING_DEPTH, RING_WORKERS_MAX};

/// Which I/O backend runs, and why not the better one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct IoBackend {
    /// `uring`, `threads` or `sim`; of a whole store also `mixed`.
    pub name: &'static str,
    /// Why io_uring is not in use, or what the kernel refused of it.
    pub reason: Option<String>,
}

impl IoBackend {
    fn threads(reason: String) -> IoBackend {
        IoBackend { name: "threads", reason: Some(reason) }
    }

    /// What all the shards together run on. A store without shards does no I/O: as it was chosen.
    pub fn of_all(chosen: &IoBackend, shards: &[IoBackend]) -> IoBackend {
        let Some(first) = shards.first() else { return chosen.clone() };
        if shards.iter().all(|shard| shard == first) {
            return first.clone();
        }
        let same_name = shards.iter().all(|shard| shard.name == first.name);
        let each = shards.iter().enumerate().map(|(number, shard)| match &shard.reason {
            Some(reason) => format!("shard {number} on {}: {reason}", shard.name),
            None => format!("shard {number} on {}", shard.name),
        });
        IoBackend {
            name: if same_name { first.name } else { "mixed" },
            reason: Some(each.collect::<Vec<_>>().join("; ")),
        }
    }
}

/// Chooses the backend that the shards shall use.
pub(super) fn choose(runtime: &Runtime, devices: &Devices, choice: IoChoice) -> Result<IoBackend> {
    if matches!(runtime, Runtime::Sim(_)) {
        return Ok(IoBackend { name: "sim", reason: None });
    }
    if choice == IoChoice::Threads {
        return Ok(IoBackend::threads("the configuration says io = \"threads\"".to_owned()));
    }
    match uring::available(devices) {
        Ok(()) => Ok(IoBackend { name: "uring", reason: None }),
        Err(found) if choice == IoChoice::Uring => {
            let fix = found.fix;
            fail!(
                Unsupported,
                "io = \"uring\" is configured, but {found}; {fix}, or set io = \"auto\""
            )
        }
        Err(found) => Ok(IoBackend::threads(found.reason)),
    }
}

/// The ring of a shard, on its own thread, and what it is. A ring that fails here although the
/// probe passed (out of memory, out of descriptors) is replaced by threads.
pub(super) fn make_ring(core: &Core, chosen: &IoBackend) -> (Box<dyn Ring>, IoBackend) {
    let (devices, runtime) = (core.devices.clone(), core.runtime.clone());
    if let Runtime::Sim(world) = &runtime {
        return (Box::new(SimRing::new(world.clone(), devices)), chosen.clone());
    }
    let threads = |runs_on| -> (Box<dyn Ring>, IoBackend) {
        (Box::new(ThreadsRing::new(core.devices.clone(), RING_WORKERS_MAX, runtime)), runs_on)
    };
    if chosen.name != "uring" {
        return threads(chosen.clone());
    }
    match UringRing::new(devices, RING_DEPTH as u32, core.runtime.clone()) {
        Ok(ring) => {
            let reason = refusal(ring.refused_flags());
            (Box::new(ring), IoBackend { name: "uring", reason })
        }
        Err(error) => threads(IoBackend::threads(uring::explain(&error).reason)),
    }
}

/// What the kernel refused of io_uring, if anything.
fn refusal(flags: &[&str]) -> Option<String> {
    (!flags.is_empty()).then(|| format!("the kernel refused the ring flags {}", flags.join(", ")))
}

/// Refuses a shard on threads where the configuration allows io_uring only.
pub(super) fn check(choice: IoChoice, shards: &[IoBackend]) -> Result<()> {
    let fallback = shards.iter().enumerate().find(|(_, shard)| shard.name == "threads");
    match (choice, fallback) {
        (IoChoice::Uring, Some((number, shard))) => {
            let reason = shard.reason.as_deref().unwrap_or("unknown");
            fail!(
                Unsupported,
                "io = \"uring\" is configured, but shard {number} gets no ring: {reason}; \
                 remove the cause or set io = \"auto\""
            )
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uring(refused: &[&str]) -> IoBackend {
        IoBackend { name: "uring", reason: refusal(refused) }
    }

    #[test]
    fn every_refused_flag_is_told_and_no_other_reason_is_made_up() {
        assert_eq!(uring(&[]).reason, None);
        let refused = ["DEFER_TASKRUN", "SINGLE_ISSUER"];
        let all = IoBackend::of_all(&uring(&[]), &[uring(&refused), uring(&refused)]);
        assert_eq!(all, uring(&refused));
        let reason = all.reason.unwrap();
        assert!(refused.iter().all(|flag| reason.contains(flag)), "{reason}");
    }

    #[test]
    fn shards_that_differ_are_told_apart() {
        let shards = [uring(&[]), IoBackend::threads("no descriptor".to_owned())];
        let all = IoBackend::of_all(&uring(&[]), &shards);
        assert_eq!(all.name, "mixed");
        assert_eq!(all.reason.unwrap(), "shard 0 on uring; shard 1 on threads: no descriptor");
        assert!(check(IoChoice::Auto, &shards).is_ok());
        assert!(check(IoChoice::Uring, &shards[..1]).is_ok());
        let refused = check(IoChoice::Uring, &shards).unwrap_err();
        assert!(refused.message().contains("shard 1 gets no ring: no descriptor"), "{refused}");
    }
}
