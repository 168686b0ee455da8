//! isotherm and its peers under the same damage.
//!
//! `isotherm-compare` builds the same small store in every engine, damages copies of its files, lets
//! a child process open and read each ([`reading`]), and prints what came of it ([`bitflip`]).

pub mod arguments;
pub mod bitflip;
pub mod damage;
pub mod engines;
pub mod image;
pub mod pairs;
pub mod random;
pub mod reading;
pub mod table;
pub mod verdict;

/// What a step comes to. An error ends the run: a table that is not sound is not printed.
pub type Outcome<T = ()> = Result<T, Box<dyn std::error::Error + Send + Sync>>;
