//! Why a command failed, and the exit code that says so.

use std::fmt;
use std::io;
use std::path::Path;

use isotherm::error::{Error, ErrorKind};

/// What a command comes to.
pub type Outcome<T = ()> = Result<T, Failure>;

/// Why a command failed.
#[derive(Debug)]
pub enum Failure {
    /// The engine refused or failed.
    Engine(Error),
    /// The command line makes no sense.
    Usage(String),
    /// A salvage has come to its end, and something is lost or may be.
    Losses(String),
    /// Anything else, for the user to read.
    Other(String),
    /// Whoever read standard output has gone.
    BrokenPipe,
}

impl Failure {
    /// 1 error, 2 usage, 3 not found, 4 something is lost.
    pub fn exit_code(&self) -> u8 {
        match self {
            Failure::Engine(error) => match error.kind() {
                ErrorKind::NotFound | ErrorKind::BucketNotFound | ErrorKind::StoreNotFound => 3,
                // Keys and names of buckets come from the command line.
                ErrorKind::InvalidArgument => 2,
                _ => 1,
            },
            Failure::Usage(_) => 2,
            Failure::Losses(_) => 4,
            Failure::Other(_) => 1,
            Failure::BrokenPipe => 0,
        }
    }

    /// A configuration that was refused: the user's, whether from the command line or a file. That
    /// a file cannot be read is another matter.
    pub fn of_configuration(error: Error) -> Failure {
        match error.kind() {
            ErrorKind::InvalidConfig => Failure::Usage(error.message().to_string()),
            _ => Failure::Engine(error),
        }
    }

    /// A file-system error, with the file it met.
    pub fn of_file(what: &str, path: &Path, error: &io::Error) -> Failure {
        Failure::Other(format!("{what} {}: {error}", path.display()))
    }

    /// An error of standard output.
    pub fn of_output(error: &io::Error) -> Failure {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Failure::BrokenPipe,
            _ => Failure::Other(format!("write to standard output: {error}")),
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        Failure::Engine(error)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Engine(error) => f.write_str(error.message()),
            Failure::Usage(message) | Failure::Losses(message) | Failure::Other(message) => {
                f.write_str(message)
            }
            Failure::BrokenPipe => f.write_str("standard output was closed"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_there_exits_with_3_wrong_usage_with_2_and_other_errors_with_1() {
        let code = |kind| Failure::Engine(Error::new(kind, "")).exit_code();
        assert_eq!(code(ErrorKind::NotFound), 3);
        assert_eq!(code(ErrorKind::BucketNotFound), 3);
        assert_eq!(code(ErrorKind::StoreNotFound), 3);
        assert_eq!(code(ErrorKind::Corrupt), 1);
        assert_eq!(code(ErrorKind::InvalidArgument), 2);
        assert_eq!(Failure::Usage(String::new()).exit_code(), 2);
        assert_eq!(Failure::Losses(String::new()).exit_code(), 4);
    }
}
