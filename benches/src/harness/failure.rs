//! Why a run ended without a report, and the exit code that says so.

use std::fmt;

use isotherm::{Error, ErrorKind};

/// What a step of a run comes to.
pub type Outcome<T = ()> = Result<T, Failure>;

/// Why a run ended.
#[derive(Debug)]
pub enum Failure {
    /// What was asked for makes no sense.
    Usage(String),
    /// The store, or something else, failed.
    Run(String),
}

impl Failure {
    /// 2 for usage, 1 for everything else.
    pub fn exit_code(&self) -> u8 {
        match self {
            Failure::Usage(_) => 2,
            Failure::Run(_) => 1,
        }
    }

    /// An error of the store, whichever interface tells it. Its configuration is the user's.
    pub fn of_store(kind: ErrorKind, message: &str) -> Failure {
        match kind {
            ErrorKind::InvalidConfig => Failure::Usage(message.to_owned()),
            _ => Failure::Run(message.to_owned()),
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        Failure::of_store(error.kind(), error.message())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Usage(message) | Failure::Run(message) => f.write_str(message),
        }
    }
}
