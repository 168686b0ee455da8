//! `isotherm-bench`: a load in fio's words, put on a store through Rust or through C, and a report in
//! fio's shape.
//!
//! In the order of a run: [`options`] and [`plan`] (what is asked for), [`place`] (where the store
//! stands), [`engine`] with [`rust`] and [`c`] (what the load is put on), [`course`] (which block next),
//! [`job`] (one thread of the load), [`run`] (its phases), [`figures`] and [`report`] (what came of it).

pub mod c;
pub mod calls;
pub mod course;
pub mod engine;
pub mod failure;
pub mod figures;
pub mod job;
pub mod options;
pub mod place;
pub mod plan;
pub mod report;
pub mod run;
pub mod rust;
