//! What handles stand for: stores, buckets, queues, scans and batches.

use std::marker::PhantomData;
use std::ops::Deref;

use isotherm::{Batch, Bucket, Cursor, Error, ErrorKind, Queue, Result, Store};
use parking_lot::{Mutex, MutexGuard};

use crate::handle::{Handle, Kind, Pin, Table};

/// All objects of the process.
static OBJECTS: Table<Object> = Table::new();

/// An object and the store that it is of.
pub(crate) struct Object {
    thing: Thing,
    /// After the thing, which may need it while it is dropped.
    store: Store,
    /// The store's handle; 0 of the store itself.
    owner: Handle,
    memory_budget: u64,
}

/// One of the kinds.
pub(crate) enum Thing {
    Store(Store),
    Bucket(Bucket),
    Queue(Queue),
    Scan(Mutex<Cursor>),
    Batch(Mutex<Batch<'static>>),
}

/// A type that handles stand for.
pub(crate) trait HandleKind {
    const KIND: Kind;
    fn of(thing: &Thing) -> Option<&Self>;
}

macro_rules! handle_kind {
    ($number:literal, $name:literal, $variant:ident, $type:ty) => {
        impl HandleKind for $type {
            const KIND: Kind = Kind { number: $number, name: $name };

            #[inline]
            fn of(thing: &Thing) -> Option<&$type> {
                match thing {
                    Thing::$variant(thing) => Some(thing),
                    _ => None,
                }
            }
        }

        impl From<$type> for Thing {
            fn from(thing: $type) -> Thing {
                Thing::$variant(thing)
            }
        }
    };
}

// Not the small numbers, which a stray 0, 1 or -1 could look like.
handle_kind!(0x51, "store", Store, Store);
handle_kind!(0x52, "bucket", Bucket, Bucket);
handle_kind!(0x53, "queue", Queue, Queue);
handle_kind!(0x54, "scan", Scan, Mutex<Cursor>);
handle_kind!(0x55, "batch", Batch, Mutex<Batch<'static>>);

/// An object in use by a call. Should the call panic, the store takes no changes any more.
pub(crate) struct Held<K> {
    pin: Pin<'static, Object>,
    kind: PhantomData<fn() -> K>,
}

/// The object of a handle, for the time of a call.
#[inline]
pub(crate) fn hold<K: HandleKind>(handle: Handle) -> Result<Held<K>> {
    Ok(Held { pin: OBJECTS.pin(K::KIND, handle)?, kind: PhantomData })
}

impl<K: HandleKind> Deref for Held<K> {
    type Target = K;

    #[inline]
    fn deref(&self) -> &K {
        match K::of(&self.pin.thing) {
            Some(thing) => thing,
            None => unreachable!("a handle has the number of its object's kind"),
        }
    }
}

impl<K> Held<K> {
    /// The store that the object is of.
    pub(crate) fn store(&self) -> &Store {
        &self.pin.store
    }

    /// Bytes that a single value may take in memory.
    pub(crate) fn memory_budget(&self) -> u64 {
        self.pin.memory_budget
    }

    /// Gives another object of the same store a handle.
    pub(crate) fn open<N: HandleKind + Into<Thing>>(&self, thing: N, of: Handle) -> Result<Handle> {
        let owner = if self.pin.owner == 0 { of } else { self.pin.owner };
        let (store, memory_budget) = (self.pin.store.clone(), self.pin.memory_budget);
        OBJECTS.insert(N::KIND, owner, Object { thing: thing.into(), store, owner, memory_budget })
    }
}

impl<K> Drop for Held<K> {
    #[inline]
    fn drop(&mut self) {
        if std::thread::panicking() {
            let message = "a call from C met a defect and stopped half-way; reopen the store";
            self.pin.store.poison(Error::new(ErrorKind::Poisoned, message));
        }
    }
}

/// An object that one call at a time may use.
pub(crate) fn lock_one<'a, T>(object: &'a Mutex<T>, kind: Kind) -> Result<MutexGuard<'a, T>> {
    let busy = || {
        let message = format!("another thread is using this {}; one at a time may", kind.name);
        Error::new(ErrorKind::Busy, message)
    };
    object.try_lock().ok_or_else(busy)
}

/// Gives a store a handle.
pub(crate) fn open_store(store: Store) -> Result<Handle> {
    let memory_budget = store.info().memory_budget;
    let thing = Thing::Store(store.clone());
    OBJECTS.insert(Store::KIND, 0, Object { thing, store, owner: 0, memory_budget })
}

/// Closes a handle. What it stands for is gone when this returns.
pub(crate) fn close<K: HandleKind>(handle: Handle) -> Result<()> {
    OBJECTS.remove(K::KIND, handle).map(drop)
}

/// Closes a store with everything of it that is still open.
pub(crate) fn close_store(handle: Handle) -> Result<()> {
    let Some(object) = OBJECTS.remove(Store::KIND, handle)? else { return Ok(()) };
    // Nobody opens anything by the store any more, and scans are opened by buckets: these go first.
    close_owned::<Bucket>(handle);
    close_owned::<Queue>(handle);
    close_owned::<Mutex<Cursor>>(handle);
    close_owned::<Mutex<Batch<'static>>>(handle);
    object.store.close()
}

fn close_owned<K: HandleKind>(owner: Handle) {
    for handle in OBJECTS.owned_by(owner) {
        // Those of other kinds have their turn; another thread may have closed it.
        let _closed = close::<K>(handle);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use isotherm::config::{Config, Tier};

    #[test]
    fn a_panic_inside_a_call_leaves_a_store_that_answers_and_takes_no_changes() {
        let directory = tempfile::tempdir().unwrap();
        let config =
            Config::builder().tier(Tier::dram("8MiB")).tier(Tier::nvme("64MiB")).build().unwrap();
        let store = open_store(Store::open(directory.path(), config).unwrap()).unwrap();
        let bucket = {
            let held = hold::<Store>(store).unwrap();
            held.open(held.bucket("b").unwrap(), store).unwrap()
        };
        hold::<Bucket>(bucket).unwrap().put(b"k", b"before").unwrap();
        let status = crate::entry::entry(|| {
            let _bucket = hold::<Bucket>(bucket)?;
            panic!("half-way");
        });
        assert_eq!(status, ErrorKind::Internal.code());
        let held = hold::<Bucket>(bucket).unwrap();
        assert_eq!(held.put(b"k", b"after").err().unwrap().kind(), ErrorKind::Poisoned);
        assert_eq!(held.get(b"k").unwrap(), b"before");
        drop(held);
        let _poisoned = close_store(store);
        assert_eq!(hold::<Bucket>(bucket).err().unwrap().kind(), ErrorKind::BadHandle);
    }
}
