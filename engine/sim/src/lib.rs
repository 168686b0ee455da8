//! Attacks isotherm: power cuts, killed processes, failing devices and damage, all from a seed.
//!
//! In the order of a run: [`options`] (what a seed draws), [`caller`] (who uses the store, by [`calls`]
//! on single blobs, [`reads`] and in other ways) with what all callers share ([`common`]), [`oracle`] (what must be
//! there), [`onlooker`] (reads beside changes), [`life`] (one opening of the store), [`moments`] (when the
//! power fails), [`copies`] (crashed and damaged copies of its devices), [`liveness`] (the devices are well
//! again: everything completes), [`run`] (one seed, whole). Beside them [`small`]: a store that has seen
//! everything, for damage of every bit of it ([`damage`]), with the [`verdict`] on what it shows then, and
//! on what is [`salvaged`] of it; [`forge`] (what it has on its devices, changed, with checksums that are
//! right) and [`trial`] (such a store is opened, judged and used); [`fuzz`]: what a fuzzer runs.

pub mod caller;
pub mod calls;
pub mod common;
pub mod copies;
pub mod damage;
pub mod forge;
pub mod fuzz;
pub mod life;
pub mod liveness;
pub mod moments;
pub mod onlooker;
pub mod options;
pub mod oracle;
pub mod reads;
#[allow(missing_docs, clippy::should_implement_trait, reason = "shared with the engine's tests")]
#[path = "../../tests/support/rng.rs"]
pub mod rng;
pub mod run;
pub mod salvaged;
pub mod small;
pub mod trial;
pub mod verdict;
