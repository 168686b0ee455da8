//! An operation of the `uring` backend: checked, then attempted until it is whole or failed.

use std::io::{self, Error, ErrorKind};
use std::os::fd::RawFd;

use crate::io::buffer::AlignedBuf;
use crate::io::device::check_write_range;
use crate::io::transfer::{Direction, Transfer};
use crate::io::{Devices, IoDone, IoOp, Token};
use crate::limits::IO_RETRIES_MAX;

/// An operation that is done when its completion says so.
pub(super) struct InFlight {
    pub(super) token: Token,
    pub(super) fd: RawFd,
    pub(super) work: Work,
}

/// What it does.
pub(super) enum Work {
    Transfer { direction: Direction, dsync: bool, offset: u64, buf: AlignedBuf, transfer: Transfer },
    Flush { retries: u32 },
}

impl InFlight {
    /// Takes the outcome of one attempt. `None`: attempt again.
    pub(super) fn advance(&mut self, outcome: io::Result<usize>) -> Option<io::Result<()>> {
        match &mut self.work {
            Work::Transfer { transfer, .. } => transfer.advance(outcome),
            Work::Flush { retries } => match outcome {
                Ok(_) => Some(Ok(())),
                // Of a flush only "not started, try again" may be repeated: any other failure
                // may have dropped the writes that it reports.
                Err(error)
                    if error.raw_os_error() == Some(libc::EAGAIN) && *retries < IO_RETRIES_MAX =>
                {
                    *retries += 1;
                    None
                }
                Err(error) => Some(Err(error)),
            },
        }
    }

    pub(super) fn finish(self, result: io::Result<()>) -> IoDone {
        let buf = match self.work {
            Work::Transfer { buf, .. } => Some(buf),
            Work::Flush { .. } => None,
        };
        IoDone { token: self.token, buf, result }
    }
}

/// Checks an operation against its device and its buffer.
pub(super) fn in_flight(devices: &Devices, token: Token, op: IoOp) -> Result<InFlight, IoDone> {
    let (tier, direction, dsync, offset, len, buf) = match op {
        IoOp::Read { tier, offset, len, buf } => {
            (tier, Direction::Read, false, offset, len, Some(buf))
        }
        IoOp::Write { tier, offset, len, buf, dsync } => {
            (tier, Direction::Write, dsync, offset, len, Some(buf))
        }
        IoOp::Flush { tier } => (tier, Direction::Write, false, 0, 0, None),
    };
    let invalid = |buf, message: String| IoDone {
        token,
        buf,
        result: Err(Error::new(ErrorKind::InvalidInput, message)),
    };
    let device = devices.get(tier.index());
    let Some((device, fd)) = device.and_then(|device| Some((device, device.descriptor()?))) else {
        return Err(invalid(buf, format!("there is no device of tier {}", tier.0)));
    };
    let Some(buf) = buf else {
        return Ok(InFlight { token, fd, work: Work::Flush { retries: 0 } });
    };
    if len > buf.capacity() || u32::try_from(len).is_err() {
        let message = format!("{len} bytes, and a buffer of {}", buf.capacity());
        return Err(invalid(Some(buf), message));
    }
    if direction == Direction::Write
        && let Err(error) = check_write_range(&**device, offset, len)
    {
        return Err(IoDone { token, buf: Some(buf), result: Err(error) });
    }
    let transfer = Transfer::new(direction, len);
    Ok(InFlight { token, fd, work: Work::Transfer { direction, dsync, offset, buf, transfer } })
}
