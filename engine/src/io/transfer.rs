//! The bookkeeping of one read or write that may take several system calls.

use std::io::{Error, ErrorKind, Result};

use crate::limits::{BLOCK, IO_RETRIES_MAX};

/// Which way the bytes go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Direction {
    Read,
    Write,
}

/// How far a transfer has come. Continues short ones and retries interrupted ones, both bounded.
pub(crate) struct Transfer {
    direction: Direction,
    len: usize,
    done: usize,
    retries: u32,
}

impl Transfer {
    pub(crate) fn new(direction: Direction, len: usize) -> Transfer {
        Transfer { direction, len, done: 0, retries: 0 }
    }

    /// Bytes that need no further attempt; the next attempt starts here.
    pub(crate) fn done(&self) -> usize {
        self.done
    }

    /// Bytes still to transfer.
    pub(crate) fn left(&self) -> usize {
        self.len - self.done
    }

    /// Takes the outcome of one attempt. `None`: attempt the remainder.
    pub(crate) fn advance(&mut self, outcome: Result<usize>) -> Option<Result<()>> {
        let moved = match outcome {
            Ok(0) if self.left() == 0 => return Some(Ok(())),
            Ok(0) => return Some(Err(self.stopped())),
            Ok(moved) => moved,
            Err(error) if is_transient(&error) && self.retries < IO_RETRIES_MAX => {
                self.retries += 1;
                return None;
            }
            Err(error) => return Some(Err(error)),
        };
        if moved >= self.left() {
            self.done = self.len;
            return Some(Ok(()));
        }
        // O_DIRECT refuses to continue inside a block, so a partial block is transferred again.
        let whole = moved - moved % BLOCK;
        self.done += whole;
        if whole > 0 {
            self.retries = 0;
            return None;
        }
        if self.retries == IO_RETRIES_MAX {
            return Some(Err(self.stopped()));
        }
        self.retries += 1;
        None
    }

    fn stopped(&self) -> Error {
        let Transfer { direction, len, done, .. } = self;
        match direction {
            Direction::Read => Error::new(
                ErrorKind::UnexpectedEof,
                format!("the file ended after {done} of {len} bytes"),
            ),
            Direction::Write => Error::new(
                ErrorKind::WriteZero,
                format!("the device took only {done} of {len} bytes"),
            ),
        }
    }
}

fn is_transient(error: &Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EINTR | libc::EAGAIN))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_transfer_continues_at_a_block_boundary() {
        let mut transfer = Transfer::new(Direction::Read, 4 * BLOCK);
        assert!(transfer.advance(Ok(BLOCK + 512)).is_none());
        assert_eq!((transfer.done(), transfer.left()), (BLOCK, 3 * BLOCK));
        assert!(matches!(transfer.advance(Ok(3 * BLOCK)), Some(Ok(()))));
    }

    #[test]
    fn nothing_transferred_ends_with_an_error_that_names_the_direction() {
        let mut read = Transfer::new(Direction::Read, BLOCK);
        let error = read.advance(Ok(0)).unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::UnexpectedEof);
        let mut write = Transfer::new(Direction::Write, BLOCK);
        let error = write.advance(Ok(0)).unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::WriteZero);
    }

    #[test]
    fn retries_without_progress_are_bounded() {
        let interrupted = || Err(Error::from_raw_os_error(libc::EINTR));
        let mut transfer = Transfer::new(Direction::Write, BLOCK);
        for _ in 0..IO_RETRIES_MAX {
            assert!(transfer.advance(interrupted()).is_none());
        }
        let error = transfer.advance(interrupted()).unwrap().unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EINTR));

        let mut crawling = Transfer::new(Direction::Read, BLOCK);
        let ended = (0..=IO_RETRIES_MAX).find_map(|_| crawling.advance(Ok(1)));
        assert!(ended.is_some_and(|result| result.is_err()));
    }
}
