//! Values that are written and read piece by piece, while everything else goes on.

use std::io::{Seek, SeekFrom};

use isotherm::{BlobReader, BlobWriter, Condition, PutOptions, Version};

use crate::blobs::Op;
use crate::caller::{Caller, OWN};
use crate::change::{Change, bytes_of};
use crate::kinds::Kind;
use crate::session::Session;
use crate::support::content::Content;

/// Of each kind at a time.
const OPEN_MAX: usize = 2;
/// Bytes of a piece at most, and of all that is written and not committed.
const PIECE_MAX: u64 = 3 << 20;
/// Bytes read at a time at most.
const READ_MAX: u64 = 400 << 10;
/// More than one buffer of the default size.
const LARGE: u64 = 1 << 20;

#[derive(Default)]
pub struct Streams {
    writers: Vec<Writing>,
    readers: Vec<Reading>,
}

struct Writing {
    part: usize,
    key: Vec<u8>,
    writer: BlobWriter,
    content: Content,
    condition: Condition,
}

struct Reading {
    part: usize,
    key: Vec<u8>,
    reader: BlobReader,
    /// What it must read: the value as it was.
    content: Content,
    version: Option<Version>,
    position: u64,
}

impl Streams {
    /// Their bucket goes.
    pub fn forget(&mut self, part: usize) {
        self.writers.retain(|writing| writing.part != part);
        self.readers.retain(|reading| reading.part != part);
    }
}

impl Caller {
    pub async fn stream(&mut self, session: &Session) {
        match self.rng.below(8) {
            0 if self.streams.writers.len() < OPEN_MAX => self.open_writer(),
            0 => self.end_writer(session).await,
            1..4 => self.append_to_writer(session).await,
            4 if self.streams.readers.len() < OPEN_MAX => self.open_reader(),
            4 => drop(self.streams.readers.pop()),
            _ => self.read_on(session).await,
        }
    }

    fn open_writer(&mut self) {
        let (part, key) = self.any_key();
        self.settle_version(part, &key);
        let condition = match self.rng.one_in(4) {
            true => Condition::Absent,
            false => self.any_condition(part, &key),
        };
        let options = PutOptions { durability: self.level(), condition };
        let writer = self.bucket(part).writer(&key, options).unwrap();
        self.remember(part, &key, Op::WriterOpened(condition));
        let content = Content::default();
        self.streams.writers.push(Writing { part, key, writer, content, condition });
    }

    async fn append_to_writer(&mut self, session: &Session) {
        let Some(mut writing) = self.streams.writers.pop() else { return };
        self.kinds.count(Kind::StreamAppend);
        let most = PIECE_MAX.min(self.plan.value_max.saturating_sub(writing.content.len()));
        let len = match self.rng.one_in(3) {
            true => self.rng.below(most),
            false => self.rng.log_uniform(most),
        };
        let seed = self.rng.next();
        session.append(&mut writing.writer, &bytes_of(seed, len)).await.unwrap();
        writing.content.write(writing.content.len(), seed, len);
        assert_eq!(writing.writer.len(), writing.content.len());
        // Nothing of it is visible.
        self.stat(writing.part, &writing.key);
        self.streams.writers.insert(0, writing);
    }

    async fn end_writer(&mut self, session: &Session) {
        let Some(writing) = self.streams.writers.pop() else { return };
        let Writing { part, key, mut writer, content, condition } = writing;
        match self.rng.below(6) {
            0 => {
                self.kinds.count(Kind::StreamAborted);
                writer.abort();
                self.stat(part, &key);
            }
            1 => {
                self.kinds.count(Kind::StreamDropped);
                drop(writer);
                self.stat(part, &key);
            }
            _ => {
                if content.len() > LARGE {
                    self.kinds.count(Kind::StreamCommitLarge);
                }
                if condition != Condition::None {
                    self.kinds.count(Kind::StreamCommitWithCondition);
                }
                self.settle_version(part, &key);
                let done = session.commit_stream(&mut writer).await;
                let done = done.map(|version| (Some(version), None));
                let change = Change::Value(content);
                self.remember(part, &key, Op::Change { level: None, change: change.clone() });
                self.finish_change(part, &key, &change, condition, done);
            }
        }
    }

    fn open_reader(&mut self) {
        let (part, key) = self.any_key();
        let opened = self.bucket(part).reader(&key);
        let Some(blob) = self.parts[part].blobs.get(&key) else {
            let opened = opened.map(|reader| reader.len());
            return self.require_failed(part, &key, &opened, isotherm::ErrorKind::NotFound);
        };
        let (content, version) = (blob.content.clone(), blob.version);
        let reader = opened.unwrap();
        assert_eq!(reader.len(), content.len(), "{}", self.describe(part, &key));
        assert!(version.is_none_or(|version| version == reader.version()));
        let version = Some(reader.version());
        self.remember(part, &key, Op::ReaderOpened);
        let position = 0;
        self.streams.readers.push(Reading { part, key, reader, content, version, position });
    }

    /// Reads on, or elsewhere, the version that there was when the reader was opened.
    async fn read_on(&mut self, session: &Session) {
        let Some(mut reading) = self.streams.readers.pop() else { return };
        self.kinds.count(Kind::Reader);
        let now = self.parts[reading.part].blobs.get(&reading.key).and_then(|blob| blob.version);
        if now.is_some() && now != reading.version {
            self.kinds.count(Kind::ReaderOfAnOldVersion);
        }
        if self.rng.one_in(4) {
            self.kinds.count(Kind::ReaderSeek);
            reading.position = self.offset(reading.content.len());
            reading.reader.seek(SeekFrom::Start(reading.position)).unwrap();
        }
        let mut into = vec![0; 1 + self.rng.log_uniform(READ_MAX) as usize];
        let count = session.read_into(&mut reading.reader, &mut into).await.unwrap();
        let left = reading.content.len().saturating_sub(reading.position);
        assert!(count as u64 <= left && (count > 0) == (left > 0), "{count} of {left}");
        if let Err(difference) = reading.content.check(reading.position, &into[..count]) {
            panic!("a reader: {difference}\n{}", self.describe(reading.part, &reading.key));
        }
        reading.position += count as u64;
        self.streams.readers.insert(0, reading);
    }

    /// The bucket of its own goes: whoever writes or reads there ends first.
    pub fn end_streams_of_own(&mut self) {
        self.streams.forget(OWN);
    }
}
