//! The socket itself: whose it is, who may use it, when it is there.

use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use isotherm::Store;
use isotherm::control::Remote;
use serde_json::json;

use crate::{Client, Place, config};

#[test]
fn the_socket_is_its_owners_alone_and_goes_with_the_store() {
    let place = Place::new();
    let (store, bucket) = place.filled();
    let found = fs::symlink_metadata(place.socket()).unwrap();
    assert!(found.file_type().is_socket());
    assert_eq!(found.permissions().mode() & 0o7777, 0o600);
    store.close().unwrap();
    assert!(!place.socket().exists());
    // Not before the last handle goes, if nobody closes it.
    let store = place.open();
    let other = store.clone();
    drop(store);
    assert!(place.client().works());
    drop(other);
    assert!(!place.socket().exists());
    drop(bucket);
}

#[test]
fn a_dead_owners_socket_is_replaced() {
    let place = Place::new();
    place.filled().0.close().unwrap();
    drop(UnixListener::bind(place.socket()).unwrap());
    assert!(Remote::connect(place.store()).unwrap().is_none());
    for reading in [false, true] {
        let store = place.open_with(config().read_only(reading));
        assert!(place.client().works());
        store.close().unwrap();
        drop(UnixListener::bind(place.socket()).unwrap());
    }
}

#[test]
fn a_file_of_that_name_stays_and_the_store_opens_without_a_socket() {
    let place = Place::new();
    place.filled().0.close().unwrap();
    fs::write(place.socket(), b"mine").unwrap();
    let store = place.open();
    assert_eq!(fs::read(place.socket()).unwrap(), b"mine");
    let notes = store.stats().notes;
    assert!(notes.len() == 1 && notes[0].contains("CONTROL"), "{notes:?}");
    store.close().unwrap();
    assert_eq!(fs::read(place.socket()).unwrap(), b"mine");
}

#[test]
fn a_path_longer_than_an_address_is_served_and_reached() {
    let place = Place::new();
    let deep: PathBuf = place.directory.path().join("d".repeat(100)).join("e".repeat(100));
    fs::create_dir_all(&deep).unwrap();
    let store = Store::open(deep.join("s"), config().build().unwrap()).unwrap();
    assert!(deep.join("s/CONTROL").exists());
    let mut remote = Remote::connect(deep.join("s")).unwrap().unwrap();
    let go_on = &mut |_: &serde_json::Value| std::ops::ControlFlow::Continue(());
    assert!(remote.ask(&json!({ "request": "info" }), go_on).is_ok());
    store.close().unwrap();
    assert!(!deep.join("s/CONTROL").exists());
}

#[test]
fn a_store_may_be_opened_without_a_socket() {
    let place = Place::new();
    let store = place.open_with(config().control_socket(false));
    assert!(!place.socket().exists());
    assert!(Remote::connect(place.store()).unwrap().is_none());
    store.close().unwrap();
}

#[test]
fn of_several_readers_the_first_serves() {
    let place = Place::new();
    place.filled().0.close().unwrap();
    let first = place.open_with(config().read_only(true));
    let second = place.open_with(config().read_only(true));
    let info = place.ask(json!({ "request": "info" }));
    assert_eq!(info["answer"]["read_only"], "it is configured so");
    assert_eq!(place.ask(json!({ "request": "flush" }))["answer"], json!({}));
    second.close().unwrap();
    assert!(place.client().works());
    first.close().unwrap();
    assert!(!place.socket().exists());
}

#[test]
fn all_stores_of_a_process_share_one_thread() {
    let places = [Place::new(), Place::new(), Place::new()];
    let stores = places.each_ref().map(Place::open);
    let watchers = || {
        let tasks = fs::read_dir("/proc/self/task").unwrap();
        let name = |task: fs::DirEntry| fs::read_to_string(task.path().join("comm"));
        let names = tasks.filter_map(|task| name(task.unwrap()).ok());
        names.filter(|name| name.trim() == "isotherm-ctl").count()
    };
    // Another test's may be about to end.
    let start = Instant::now();
    while watchers() != 1 {
        assert!(start.elapsed() < Duration::from_secs(5), "{} threads", watchers());
        std::thread::sleep(Duration::from_millis(1));
    }
    assert!(places.iter().all(|place| place.client().works()));
    stores.iter().for_each(|store| store.close().unwrap());
}

/// The socket, for the process of another user.
const SOCKET: &str = "ISOTHERM_TEST_SOCKET";
/// Nobody, on every Linux.
const NOBODY: u32 = 65534;

#[test]
fn another_user_is_refused() {
    if let Some(socket) = std::env::var_os(SOCKET) {
        return ask_as_nobody(&socket);
    }
    // SAFETY: the call has no arguments and only reads the process's identity.
    if unsafe { libc::geteuid() } != 0 {
        eprintln!("SKIPPED: another_user_is_refused needs root to become another user");
        return;
    }
    let place = Place::new();
    let (_store, _) = place.filled();
    for directory in [place.directory.path(), &place.store()] {
        fs::set_permissions(directory, Permissions::from_mode(0o755)).unwrap();
    }
    // By the file's mode; and if somebody has widened that, by the engine.
    for (mode, expected) in [(0o600, "no connection"), (0o666, "told: PermissionDenied")] {
        fs::set_permissions(place.socket(), Permissions::from_mode(mode)).unwrap();
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "owners::another_user_is_refused", "--nocapture"])
            .env(SOCKET, place.socket())
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && text.contains(expected), "{mode:o}: {text}");
    }
    assert!(place.client().works());
}

/// The other process of the test above.
fn ask_as_nobody(socket: &OsStr) {
    // SAFETY: both calls take numbers and change this process's identity alone.
    let given_up = unsafe {
        libc::setresgid(NOBODY, NOBODY, NOBODY) == 0 && libc::setresuid(NOBODY, NOBODY, NOBODY) == 0
    };
    assert!(given_up, "{}", std::io::Error::last_os_error());
    match UnixStream::connect(socket) {
        Err(error) => println!("no connection: {error}"),
        Ok(stream) => {
            let mut client = Client::on(stream);
            client.send(b"{\"request\":\"info\"}\n");
            let line = client.line().unwrap();
            println!("told: {}", line["error"]["kind"].as_str().unwrap());
            assert_eq!(client.line(), None);
        }
    }
}
