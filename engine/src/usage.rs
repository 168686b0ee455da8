//! What a bucket holds, what it may hold, and what is on its way into it.
//!
//! A change that makes a bucket grow sets its growth aside before it takes place, and gives it back
//! in the moment in which the bucket has grown: so changes that run at once never exceed a quota
//! together, and none is refused for room that another has given back.

use std::ops::AddAssign;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::error::{Result, fail};
use crate::index::state::BlobState;

/// How much larger a change makes a bucket; negative: smaller.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Growth {
    /// Bytes of values.
    pub bytes: i64,
    /// Blobs.
    pub blobs: i64,
}

impl Growth {
    /// From one state of a blob to one of this length; `None`: to none.
    pub fn of(before: &BlobState, len_after: Option<u64>) -> Growth {
        // Values have far less than 2^63 bytes.
        Growth {
            bytes: len_after.unwrap_or(0) as i64 - before.len as i64,
            blobs: i64::from(len_after.is_some()) - i64::from(before.exists()),
        }
    }

    /// What has to be set aside for it.
    fn growing(self) -> Growth {
        Growth { bytes: self.bytes.max(0), blobs: self.blobs.max(0) }
    }
}

impl AddAssign for Growth {
    fn add_assign(&mut self, other: Growth) {
        self.bytes += other.bytes;
        self.blobs += other.blobs;
    }
}

/// See the module.
#[derive(Default)]
pub struct Usage {
    bytes: AtomicU64,
    blobs: AtomicU64,
    /// 0: none.
    quota_bytes: AtomicU64,
    /// 0: none.
    quota_blobs: AtomicU64,
    /// Held while what is set aside turns into what is there.
    aside: Mutex<Growth>,
}

/// Growth set aside for a change, given back when dropped.
pub struct Hold {
    usage: Arc<Usage>,
    growth: Growth,
}

impl Drop for Hold {
    fn drop(&mut self) {
        if self.growth != Growth::default() {
            let mut aside = self.usage.aside.lock();
            aside.bytes -= self.growth.bytes;
            aside.blobs -= self.growth.blobs;
        }
    }
}

impl Usage {
    /// Bytes of values.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Blobs.
    pub fn blobs(&self) -> u64 {
        self.blobs.load(Ordering::Relaxed)
    }

    /// Bytes and blobs allowed; 0: any number.
    pub fn quotas(&self) -> (u64, u64) {
        (self.quota_bytes.load(Ordering::Relaxed), self.quota_blobs.load(Ordering::Relaxed))
    }

    /// Sets what is allowed.
    pub fn set_quotas(&self, bytes: u64, blobs: u64) {
        let _aside = self.aside.lock();
        self.quota_bytes.store(bytes, Ordering::Relaxed);
        self.quota_blobs.store(blobs, Ordering::Relaxed);
    }

    /// What is there, whatever was.
    pub fn set(&self, bytes: u64, blobs: u64) {
        self.bytes.store(bytes, Ordering::Relaxed);
        self.blobs.store(blobs, Ordering::Relaxed);
    }

    /// Sets the growth of a change aside. `name` is the bucket's, for the error.
    pub fn set_aside(
        self: &Arc<Usage>,
        growth: Growth,
        name: impl Fn() -> Arc<[u8]>,
    ) -> Result<Option<Hold>> {
        let growth = growth.growing();
        if growth == Growth::default() {
            return Ok(None);
        }
        let mut aside = self.aside.lock();
        let (quota_bytes, quota_blobs) = self.quotas();
        for (what, quota, used, aside, more) in [
            ("bytes", quota_bytes, self.bytes(), aside.bytes, growth.bytes),
            ("blobs", quota_blobs, self.blobs(), aside.blobs, growth.blobs),
        ] {
            let (aside, more) = (aside as u64, more as u64);
            if quota > 0 && more > 0 && used + aside + more > quota {
                fail!(
                    QuotaExceeded,
                    "bucket {:?} may hold {quota} {what}; it has {used}, {aside} are on their way, \
                     and this change adds {more}; delete blobs or raise quota_{what}",
                    String::from_utf8_lossy(&name())
                );
            }
        }
        *aside += growth;
        drop(aside);
        Ok(Some(Hold { usage: self.clone(), growth }))
    }

    /// Whether anything is limited.
    #[inline]
    pub fn is_limited(&self) -> bool {
        self.quotas() != (0, 0)
    }

    /// A change has become visible, for which `hold` was set aside, if anything.
    pub fn count(&self, growth: Growth, hold: Option<Hold>) {
        let Some(mut hold) = hold else { return self.add(growth) };
        let mut aside = self.aside.lock();
        self.add(growth);
        aside.bytes -= hold.growth.bytes;
        aside.blobs -= hold.growth.blobs;
        hold.growth = Growth::default();
    }

    fn add(&self, growth: Growth) {
        if growth.bytes != 0 {
            self.bytes.fetch_add(growth.bytes as u64, Ordering::Relaxed);
        }
        if growth.blobs != 0 {
            self.blobs.fetch_add(growth.blobs as u64, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn what_is_set_aside_counts_until_it_is_there_or_given_back() {
        let usage = Arc::new(Usage::default());
        usage.set_quotas(100, 2);
        let grow = |bytes, blobs| usage.set_aside(Growth { bytes, blobs }, || b"b"[..].into());
        let first = grow(60, 1).unwrap();
        let refused = grow(41, 1).map(drop).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::QuotaExceeded);
        assert!(refused.message().contains("has 0, 60 are on their way"), "{refused}");
        let second = grow(40, 1).unwrap();
        assert!(grow(0, 1).is_err() && grow(1, 0).is_err());
        drop(second);
        usage.count(Growth { bytes: 60, blobs: 1 }, first);
        assert_eq!((usage.bytes(), usage.blobs()), (60, 1));
        assert!(grow(41, 0).is_err() && grow(40, 0).unwrap().is_some());
        // Below its use a quota refuses growth alone.
        usage.set_quotas(10, 1);
        assert!(grow(-5, 0).unwrap().is_none() && grow(-5, -1).unwrap().is_none());
        assert!(grow(1, -1).is_err() && grow(-1, 1).is_err());
        usage.count(Growth { bytes: -60, blobs: -1 }, None);
        assert!(grow(10, 1).unwrap().is_some());
    }
}
