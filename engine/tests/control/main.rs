//! The control socket: what it answers, whom, and what it makes of those who behave badly.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod bad_input;
mod owners;
mod protocol;

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use isotherm::config::{Config, ConfigBuilder, Tier};
use isotherm::{Bucket, Store};
use serde_json::{Value, json};

/// Longer than anybody here should ever have to wait.
const LONG: Duration = Duration::from_secs(30);

struct Place {
    directory: tempfile::TempDir,
}

impl Place {
    fn new() -> Place {
        Place { directory: tempfile::tempdir().unwrap() }
    }

    fn store(&self) -> PathBuf {
        self.directory.path().join("store")
    }

    fn socket(&self) -> PathBuf {
        self.store().join("CONTROL")
    }

    fn open(&self) -> Store {
        self.open_with(config())
    }

    fn open_with(&self, config: ConfigBuilder) -> Store {
        Store::open(self.store(), config.build().unwrap()).unwrap()
    }

    /// A store with a few blobs in the bucket `b`.
    fn filled(&self) -> (Store, Bucket) {
        let store = self.open();
        let bucket = store.bucket("b").unwrap();
        bucket.put(b"small", b"value").unwrap();
        bucket.put(b"large", &vec![7; 300_000]).unwrap();
        (store, bucket)
    }

    fn client(&self) -> Client {
        Client::on(UnixStream::connect(self.socket()).unwrap())
    }

    /// What somebody who connects anew is answered.
    fn ask(&self, request: Value) -> Value {
        self.client().ask(&request)
    }
}

/// Opens in no time.
fn config() -> ConfigBuilder {
    let tiers = Config::builder().tier(Tier::dram("8MiB")).tier(Tier::nvme("64MiB"));
    tiers.shards(1).buffer_size("64KiB").page_extents(4)
}

/// A client that says what it wants to say, byte by byte.
struct Client {
    stream: BufReader<UnixStream>,
}

impl Client {
    fn on(stream: UnixStream) -> Client {
        stream.set_read_timeout(Some(LONG)).unwrap();
        stream.set_write_timeout(Some(LONG)).unwrap();
        Client { stream: BufReader::new(stream) }
    }

    /// Sends bytes. False if the other end does not take them.
    fn send(&mut self, bytes: &[u8]) -> bool {
        self.stream.get_mut().write_all(bytes).is_ok()
    }

    /// The next line; `None` at the end.
    fn line(&mut self) -> Option<Value> {
        let mut line = String::new();
        match self.stream.read_line(&mut line) {
            Ok(0) | Err(_) => None,
            Ok(_) => Some(serde_json::from_str(&line).unwrap()),
        }
    }

    /// The last line of the answer to a request.
    fn ask(&mut self, request: &Value) -> Value {
        assert!(self.send(format!("{request}\n").as_bytes()));
        loop {
            let line = self.line().unwrap();
            assert_eq!(line["protocol"], 1, "{line}");
            if line.get("progress").is_none() {
                return line;
            }
        }
    }

    fn works(&mut self) -> bool {
        self.ask(&json!({ "request": "info" })).get("answer").is_some()
    }
}

/// Changes a byte of a file.
fn flip(file: &Path, at: u64) {
    use std::os::unix::fs::FileExt;
    let file = std::fs::OpenOptions::new().read(true).write(true).open(file).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 1], at).unwrap();
}
