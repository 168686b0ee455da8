//! What is done to whole buckets and to the store.

use isotherm::limits::{BUFFER_SIZE_MAX, BUFFER_SIZE_MIN};
use isotherm::{BucketOptions, Durability, ErrorKind, Scope};

use crate::blobs::Op;
use crate::caller::{Caller, OWN};
use crate::kinds::Kind;
use crate::session::{Session, failed};

impl Caller {
    pub async fn whole(&mut self, session: &Session, part: usize) {
        match self.rng.below(24) {
            0 | 1 => self.recreate(session).await,
            2 | 3 => self.rename_own(session).await,
            4 | 5 => self.clear_own(session).await,
            6..16 => self.set_options_of_own(session).await,
            16 | 17 => {
                self.kinds.count(Kind::Compact);
                session.compact().await.unwrap();
            }
            18..21 => {
                self.kinds.count(Kind::FlushStore);
                session.flush(Scope::Store).await.unwrap();
            }
            _ => {
                self.kinds.count(Kind::FlushBucket);
                let name = self.parts[part].name.clone();
                session.flush(Scope::Bucket(&name)).await.unwrap();
            }
        }
    }

    /// Destroys this caller's own bucket and makes it anew, with other options.
    async fn recreate(&mut self, session: &Session) {
        self.kinds.count(Kind::BucketDestroyed);
        self.end_streams_of_own();
        let options = self.options_without_quota();
        let name = self.parts[OWN].name.clone();
        let old = self.bucket(OWN);
        let again = session.create_bucket(&name, options).await;
        assert!(failed(&again.map(drop), ErrorKind::BucketExists));
        session.destroy_bucket(&name).await.unwrap();
        assert!(failed(&session.store.open_bucket(&name).map(drop), ErrorKind::BucketNotFound));
        let key = &self.parts[OWN].universe[0];
        assert!(old.exists(key).is_err(), "a handle of a destroyed bucket answers");
        assert!(session.store.list_buckets().unwrap().iter().all(|info| info.name != name));
        let made = session.create_bucket(&name, options).await.unwrap();
        let part = &mut self.parts[OWN];
        part.options = options;
        part.blobs.clear();
        part.bucket = Some(made);
    }

    /// Its handle goes on under the other name.
    async fn rename_own(&mut self, session: &Session) {
        self.kinds.count(Kind::BucketRenamed);
        let name = self.parts[OWN].name.clone();
        let to = match name.strip_suffix(" renamed") {
            Some(first) => first.to_owned(),
            None => format!("{name} renamed"),
        };
        let taken = session.rename_bucket(&name, "shared").await;
        assert!(failed(&taken, ErrorKind::BucketExists), "{taken:?}");
        session.rename_bucket(&name, &to).await.unwrap();
        assert!(failed(&session.store.open_bucket(&name).map(drop), ErrorKind::BucketNotFound));
        assert_eq!(&*self.bucket(OWN).name(), to.as_bytes());
        self.parts[OWN].name = to;
    }

    async fn clear_own(&mut self, session: &Session) {
        self.kinds.count(Kind::BucketCleared);
        self.remember_all(OWN, &Op::Cleared);
        let name = self.parts[OWN].name.clone();
        session.clear_bucket(&name).await.unwrap();
        self.parts[OWN].blobs.clear();
        let stat = self.bucket(OWN).bucket_stat().unwrap();
        assert_eq!((stat.bytes, stat.blobs), (0, 0), "a cleared bucket");
    }

    /// Quotas are near what the bucket holds, and do not stay for long.
    async fn set_options_of_own(&mut self, session: &Session) {
        self.kinds.count(Kind::BucketOptionsSet);
        let mut options = self.options_without_quota();
        if !self.parts[OWN].is_limited() {
            let (bytes, blobs) = self.parts[OWN].used();
            let bytes = 1 + self.rng.below(bytes + bytes / 4 + 100_000);
            options.quota_bytes = self.rng.one_in(2).then_some(bytes);
            options.quota_blobs =
                self.rng.one_in(2).then(|| (blobs + self.rng.below(6)).saturating_sub(2).max(1));
        }
        let name = self.parts[OWN].name.clone();
        session.set_bucket_options(&name, options).await.unwrap();
        assert_eq!(self.bucket(OWN).bucket_stat().unwrap().options, options);
        self.parts[OWN].options = options;
    }

    fn options_without_quota(&mut self) -> BucketOptions {
        let buffer =
            BUFFER_SIZE_MIN << self.rng.below((BUFFER_SIZE_MAX / BUFFER_SIZE_MIN).ilog2().into());
        BucketOptions {
            durability: self.rng.pick(&[None, Some(Durability::Memory), Some(Durability::Written)]),
            buffer_size: self.rng.pick(&[None, Some(buffer as u32)]),
            ..BucketOptions::default()
        }
    }
}
