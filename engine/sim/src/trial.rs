//! A store on devices that somebody has tampered with is opened, judged, used, closed and opened
//! again.
//!
//! Whatever was forged, no blob that it is not about may be another or be missing without an error,
//! and nothing that is done with the store may panic or meet a defect of the engine.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};

use isotherm::io::sim_disk::Disk;
use isotherm::types::BucketId;
use isotherm::{
    AttributeChanges, Bucket, CheckOptions, Durability, Error, ErrorKind, PutOptions, ScanRange,
    Scope, Store,
};

use crate::run::message_of;
use crate::small::{Blob, Opened, capacities};

/// Longer values are sparse, and read in part.
const WHOLE_MAX: u64 = 16 << 20;
/// Of the untouched blobs, each so many'th is changed, beside those that were touched.
const CHANGED: usize = 3;
/// The bucket of what is put into the opened store.
const NEW_BUCKET: &str = "made afterwards";

/// A blob's bucket and key.
pub type Name = (String, Vec<u8>);

/// What a forged structure is about: what becomes of this is its own affair.
#[derive(Clone, Default, Debug)]
pub struct Touched {
    /// These blobs.
    pub blobs: BTreeSet<(BucketId, Vec<u8>)>,
    /// These buckets.
    pub buckets: BTreeSet<BucketId>,
    /// Blobs may be missing, whichever: what lists them was forged. None may be another.
    pub lists: bool,
}

/// What came of it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Verdict {
    /// Everything was there.
    Right,
    /// Some blobs answered with an error, or those that were touched are others.
    SomeAffected,
    /// The store did not open.
    StoreRefused,
    /// An error that says nothing about the store, or that calls it a defect.
    BadError,
    /// Something that must work did not.
    NotUsable,
    /// A blob was not there, and nobody said so.
    Missing,
    /// A blob was another.
    Wrong,
    /// The engine panicked.
    Panicked,
}

impl Verdict {
    /// Whether the engine may do this.
    pub fn is_good(self) -> bool {
        self <= Verdict::StoreRefused
    }
}

/// What the store holds that was tampered with.
pub struct Truth {
    blobs: BTreeMap<Name, Blob>,
    buckets: BTreeMap<BucketId, String>,
    lens: Vec<u64>,
}

/// A verdict that is no good, and why.
type Failure = (Verdict, String);
/// Blobs that nobody changed; of some, that they could not be read.
type Kept = BTreeMap<Name, Option<Blob>>;
/// What of a blob could be read.
type Read = Result<Blob, Error>;

impl Truth {
    /// Of these blobs, on these devices as they should be.
    pub fn of(blobs: &[Blob], disks: &[Disk]) -> isotherm::Result<Truth> {
        let lens = capacities();
        let opened = Opened::over(disks, &lens, 7)?;
        let buckets = opened.store.list_buckets()?;
        opened.lose();
        let named = |blob: &Blob| ((blob.bucket.clone(), blob.key.clone()), blob.clone());
        Ok(Truth {
            blobs: blobs.iter().map(named).collect(),
            buckets: buckets.into_iter().map(|info| (info.id, info.name)).collect(),
            lens,
        })
    }

    /// Tries these devices. What came of it, and in words why.
    pub fn try_on(&self, disks: &[Disk], touched: &Touched) -> (Verdict, String) {
        let opened = catch_unwind(AssertUnwindSafe(|| Opened::over(disks, &self.lens, 7)));
        let opened = match opened {
            Err(panic) => return (Verdict::Panicked, message_of(&panic)),
            Ok(Err(error)) => return refused(&error),
            Ok(Ok(opened)) => opened,
        };
        let used = catch_unwind(AssertUnwindSafe(|| self.use_it(&opened, touched)));
        let (verdict, kept, disks) = match used {
            Err(panic) => {
                // What panicked may do so again when it is dropped.
                std::mem::forget(opened);
                return (Verdict::Panicked, message_of(&panic));
            }
            Ok(Err((verdict, what))) => {
                opened.lose();
                return (verdict, what);
            }
            Ok(Ok((verdict, kept))) => {
                let disks = opened.disks();
                opened.lose();
                (verdict, kept, disks)
            }
        };
        match catch_unwind(AssertUnwindSafe(|| self.look_again(&disks, &kept))) {
            Err(panic) => (Verdict::Panicked, format!("opened again: {}", message_of(&panic))),
            Ok(Err((verdict, what))) => (verdict, format!("opened again: {what}")),
            Ok(Ok(())) => (verdict, String::new()),
        }
    }

    /// Looks at everything, changes some of it, and closes the store. What is left alone must be there
    /// when it is opened again.
    fn use_it(&self, opened: &Opened, touched: &Touched) -> Result<(Verdict, Kept), Failure> {
        let store = &opened.store;
        let mut found = read_all(store).map_err(|error| bad("the list of blobs", &error))?;
        let verdict = self.judge(&found, touched)?;
        let options = CheckOptions::default();
        store
            .check(&options, |_| ControlFlow::Continue(()))
            .map_err(|error| bad("the check", &error))?;
        let changed = self.change(store, &found, touched)?;
        changed.iter().for_each(|name| drop(found.remove(name)));
        let new = self.put_new(store).map_err(|error| bad("a new blob", &error))?;
        opened.pass_time();
        // What cannot be read cannot be moved.
        let _ = store.compact();
        opened.pass_time();
        store.flush(Scope::Store).map_err(|error| bad("the flush", &error))?;
        for (name, blob) in &new {
            let read = open_and_read(store, name).map_err(|error| bad("a new blob", &error))?;
            if read != *blob {
                return Err((Verdict::Wrong, "a new blob".to_owned()));
            }
        }
        store.close().map_err(|error| bad("the close", &error))?;
        let mut kept: Kept = found.into_iter().map(|(name, read)| (name, read.ok())).collect();
        kept.extend(new.into_iter().map(|(name, blob)| (name, Some(blob))));
        Ok((verdict, kept))
    }

    fn judge(&self, found: &BTreeMap<Name, Read>, touched: &Touched) -> Result<Verdict, Failure> {
        let mut verdict = Verdict::Right;
        for (name, blob) in &self.blobs {
            let is_touched = self.is_touched(name, touched);
            match found.get(name) {
                Some(Ok(same)) if same == blob => continue,
                Some(Err(error)) if is_defect(error) => return Err(bad("a blob", error)),
                Some(Err(error)) if error.kind() != ErrorKind::NotFound => {}
                _ if is_touched => {}
                None if touched.lists => {}
                Some(Ok(_)) => return Err((Verdict::Wrong, shown(name))),
                None | Some(Err(_)) => return Err((Verdict::Missing, shown(name))),
            }
            verdict = Verdict::SomeAffected;
        }
        match found.keys().all(|name| self.blobs.contains_key(name)) {
            true => Ok(verdict),
            false => Ok(Verdict::SomeAffected),
        }
    }

    /// Whether a forgery is about a blob.
    pub fn is_touched(&self, name: &Name, touched: &Touched) -> bool {
        let is_bucket = |id: &BucketId| self.buckets.get(id) == Some(&name.0);
        touched.buckets.iter().any(is_bucket)
            || touched.blobs.iter().any(|(bucket, key)| is_bucket(bucket) && *key == name.1)
    }

    /// Changes what was touched, and a few of the others, in every way. Their names.
    fn change(
        &self,
        store: &Store,
        found: &BTreeMap<Name, Read>,
        touched: &Touched,
    ) -> Result<Vec<Name>, Failure> {
        let is_strange = |name: &Name| {
            let same =
                matches!(found.get(name), Some(Ok(blob)) if self.blobs.get(name) == Some(blob));
            self.is_touched(name, touched) || !same
        };
        let (strange, usual): (Vec<Name>, Vec<Name>) =
            found.keys().cloned().partition(|name| is_strange(name));
        let usual = usual.into_iter().step_by(CHANGED);
        let names: Vec<Name> = strange.into_iter().chain(usual).collect();
        for (at, name) in names.iter().enumerate() {
            let Ok(bucket) = store.open_bucket(&name.0) else { continue };
            for error in change_one(&bucket, &name.1, at) {
                if is_defect(&error) {
                    return Err(bad("a change", &error));
                }
            }
        }
        Ok(names)
    }

    fn put_new(&self, store: &Store) -> isotherm::Result<Vec<(Name, Blob)>> {
        let bucket = match store.bucket(NEW_BUCKET) {
            // The numbers of buckets were forged, and none is left.
            Err(error) if error.kind() == ErrorKind::LimitExceeded => return Ok(Vec::new()),
            made => made?,
        };
        let levels = [Durability::Memory, Durability::Written, Durability::Durable];
        let mut new = Vec::new();
        for (at, level) in levels.into_iter().enumerate() {
            let (key, value) = (vec![b'n', at as u8], vec![at as u8 + 1; 30 << (5 * at)]);
            bucket.put_with(&key, &value, level.into())?;
            let blob = Blob {
                bucket: NEW_BUCKET.to_owned(),
                key: key.clone(),
                value,
                marks: "None []".to_owned(),
            };
            new.push(((NEW_BUCKET.to_owned(), key), blob));
        }
        Ok(new)
    }

    /// Everything that was left alone is what it was.
    fn look_again(&self, disks: &[Disk], kept: &Kept) -> Result<(), Failure> {
        let opened = match Opened::over(disks, &self.lens, 8) {
            // A counter was forged that was at its end.
            Err(error) if error.kind() == ErrorKind::LimitExceeded => return Ok(()),
            opened => opened
                .map_err(|error| (Verdict::NotUsable, format!("it does not open: {error}")))?,
        };
        let found = read_all(&opened.store).map_err(|error| bad("the list of blobs", &error))?;
        for (name, blob) in kept {
            match (found.get(name), blob) {
                (Some(Ok(same)), Some(blob)) if same == blob => {}
                (Some(_), None) => {}
                (None, _) => return Err((Verdict::Missing, shown(name))),
                (Some(Ok(_)), _) => return Err((Verdict::Wrong, shown(name))),
                (Some(Err(error)), _) => {
                    let what = format!("{} could be read before: {error}", shown(name));
                    return Err((Verdict::NotUsable, what));
                }
            }
        }
        opened.lose();
        Ok(())
    }
}

/// Whether the error says that the engine is wrong, not the store.
fn is_defect(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Internal | ErrorKind::Poisoned)
}

fn refused(error: &Error) -> Failure {
    use ErrorKind::{Corrupt, Format, LimitExceeded, TierMissing};
    match error.kind() {
        Corrupt | Format | LimitExceeded | TierMissing => {
            (Verdict::StoreRefused, error.to_string())
        }
        _ => (Verdict::BadError, error.to_string()),
    }
}

fn bad(what: &str, error: &Error) -> Failure {
    let verdict = if is_defect(error) { Verdict::BadError } else { Verdict::NotUsable };
    (verdict, format!("{what}: {error}"))
}

fn shown((bucket, key): &Name) -> String {
    format!("{bucket} {:?}", String::from_utf8_lossy(key))
}

fn read_all(store: &Store) -> isotherm::Result<BTreeMap<Name, Read>> {
    let mut blobs = BTreeMap::new();
    for info in store.list_buckets()? {
        let Ok(bucket) = store.open_bucket(&info.name) else { continue };
        for item in bucket.scan(ScanRange::all()) {
            let key = item?.key;
            blobs.insert((info.name.clone(), key.to_vec()), read(&bucket, &info.name, &key));
        }
    }
    Ok(blobs)
}

fn open_and_read(store: &Store, (bucket, key): &Name) -> isotherm::Result<Blob> {
    read(&store.open_bucket(bucket)?, bucket, key)
}

fn read(bucket: &Bucket, name: &str, key: &[u8]) -> isotherm::Result<Blob> {
    let stat = bucket.stat(key)?;
    let value = match stat.len {
        ..=WHOLE_MAX => bucket.get(key)?,
        len => {
            let mut part = vec![0; 100_000];
            for at in [0, len / 2, len - 100_000] {
                bucket.get_at(key, at, &mut part)?;
            }
            part
        }
    };
    let marks = format!("{:?} {:?}", stat.score, bucket.attributes(key)?);
    bucket.locate(key)?;
    Ok(Blob { bucket: name.to_owned(), key: key.to_vec(), value, marks })
}

/// Changes a blob in every way, and deletes it. What was refused.
fn change_one(bucket: &Bucket, key: &[u8], at: usize) -> Vec<Error> {
    let levels = [Durability::Memory, Durability::Written, Durability::Durable];
    let options = PutOptions::from(levels[at % 3]);
    let copy = [key, b" copied"].concat();
    let copy = &copy[..copy.len().min(1024)];
    let attributes = AttributeChanges::new().set("n", 1);
    let middle = bucket.stat(key).map_or(0, |stat| stat.len / 2);
    let steps: [&dyn Fn() -> isotherm::Result<()>; 9] = [
        &|| bucket.copy(key, bucket, copy, PutOptions::default()).map(drop),
        &|| bucket.put_at_with(key, 10, &[7; 5000], options).map(drop),
        &|| bucket.append(key, &[8; 100]).map(drop),
        &|| bucket.set_attributes(key, &attributes).map(drop),
        &|| bucket.truncate(key, middle).map(drop),
        &|| bucket.put_at_with(copy, middle, &[9; 20_000], options).map(drop),
        &|| bucket.delete(key),
        &|| bucket.put_with(key, &[6; 3000], options).map(drop),
        &|| bucket.delete(copy),
    ];
    steps.iter().filter_map(|step| step().err()).collect()
}
