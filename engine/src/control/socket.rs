//! The socket's file in the store's directory: for its owner alone, from the moment it is there.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io;
use std::mem::offset_of;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Name of the control socket in the store's directory.
pub const SOCKET_FILE: &str = "CONTROL";
/// Read and write, for the owner.
const MODE: u32 = 0o600;
/// Clients that may wait to be let in.
const BACKLOG: i32 = 64;

/// A socket's file that this process has made.
pub(super) struct SocketFile {
    path: PathBuf,
    /// Device and inode: another reader may have put its own in place.
    identity: (u64, u64),
}

impl SocketFile {
    /// Makes the socket and listens. `None` if another does; who has the store `alone` knows that
    /// there is none.
    pub fn make(directory: &Path, alone: bool) -> io::Result<Option<(SocketFile, UnixListener)>> {
        // Absolute: the program may change its directory before the store is closed.
        let path = std::path::absolute(directory)?.join(SOCKET_FILE);
        let address = Address::of(&path)?;
        let socket = new_socket()?;
        // Linux makes the file with the mode of the socket; so it never is wider, whatever the umask.
        // SAFETY: a plain system call on a descriptor that `socket` keeps open.
        done(unsafe { libc::fchmod(socket.as_raw_fd(), MODE) })?;
        if !alone && is_alive(&address) {
            return Ok(None);
        }
        remove_stale(&path)?;
        address.call(&socket, libc::bind)?;
        // Where the umask took something away, or the file system has its own ideas. Nobody has
        // connected yet: nobody listens.
        fs::set_permissions(&path, Permissions::from_mode(MODE))?;
        let made = fs::symlink_metadata(&path)?;
        // SAFETY: a plain system call on a descriptor that `socket` keeps open.
        done(unsafe { libc::listen(socket.as_raw_fd(), BACKLOG) })?;
        let file = SocketFile { path, identity: (made.dev(), made.ino()) };
        Ok(Some((file, UnixListener::from(socket))))
    }

    /// Removes the file, if it still is this one's.
    pub fn remove(&self) {
        let is_own = fs::symlink_metadata(&self.path)
            .is_ok_and(|found| (found.dev(), found.ino()) == self.identity);
        if is_own {
            // What is left is taken for a dead owner's, which it is.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Connects to the owner of the store in a directory. Does not wait for it.
pub(super) fn connect(directory: &Path) -> io::Result<UnixStream> {
    let socket = new_socket()?;
    Address::of(&directory.join(SOCKET_FILE))?.call(&socket, libc::connect)?;
    let stream = UnixStream::from(socket);
    stream.set_nonblocking(false)?;
    Ok(stream)
}

/// Removes a socket. Anything else of this name is not ours to remove, and the bind will tell.
fn remove_stale(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(found) if found.file_type().is_socket() => fs::remove_file(path),
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

fn is_alive(address: &Address) -> bool {
    let connected = new_socket().and_then(|socket| address.call(&socket, libc::connect));
    match connected {
        Ok(()) => true,
        // Its queue is full: somebody keeps it.
        Err(error) => error.kind() == io::ErrorKind::WouldBlock,
    }
}

fn new_socket() -> io::Result<OwnedFd> {
    let kind = libc::SOCK_STREAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: a plain system call; the descriptor it returns is owned by nobody else.
    unsafe {
        let socket = libc::socket(libc::AF_UNIX, kind, 0);
        done(socket)?;
        Ok(OwnedFd::from_raw_fd(socket))
    }
}

fn done(result: i32) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Where a socket is: a path that fits the kernel's structure.
struct Address {
    address: libc::sockaddr_un,
    len: libc::socklen_t,
    /// Stands in the path of the address.
    _directory: Option<File>,
}

type SocketCall = unsafe extern "C" fn(i32, *const libc::sockaddr, libc::socklen_t) -> i32;

impl Address {
    /// A longer path is reached through a descriptor of its directory.
    fn of(path: &Path) -> io::Result<Address> {
        let mut address = libc::sockaddr_un {
            sun_family: libc::AF_UNIX as libc::sa_family_t,
            sun_path: [0; 108],
        };
        let (path, directory) = if path.as_os_str().len() < address.sun_path.len() {
            (path.to_owned(), None)
        } else {
            let directory = path.parent().unwrap_or(Path::new("."));
            let flags = libc::O_PATH | libc::O_DIRECTORY;
            let directory = OpenOptions::new().read(true).custom_flags(flags).open(directory)?;
            let short = format!("/proc/self/fd/{}/{SOCKET_FILE}", directory.as_raw_fd());
            (PathBuf::from(short), Some(directory))
        };
        let bytes = path.as_os_str().as_bytes();
        for (place, byte) in address.sun_path.iter_mut().zip(bytes) {
            *place = *byte as libc::c_char;
        }
        let len = offset_of!(libc::sockaddr_un, sun_path) + bytes.len() + 1;
        Ok(Address { address, len: len as libc::socklen_t, _directory: directory })
    }

    /// Binds or connects a socket.
    fn call(&self, socket: &OwnedFd, call: SocketCall) -> io::Result<()> {
        // SAFETY: pointer and length describe `address`, which outlives the call, and `socket` is
        // open.
        done(unsafe { call(socket.as_raw_fd(), (&raw const self.address).cast(), self.len) })
    }
}

/// Sends all of it by a moment, or says why not. Unlike a write it raises no signal in a program
/// that knows nothing of this socket.
pub(super) fn send_all(
    stream: &UnixStream,
    mut bytes: &[u8],
    until: Option<Instant>,
) -> io::Result<()> {
    while !bytes.is_empty() {
        stream.set_write_timeout(time_left(until)?)?;
        // SAFETY: pointer and length describe `bytes`, and `stream` is open.
        let sent = unsafe {
            let flags = libc::MSG_NOSIGNAL;
            libc::send(stream.as_raw_fd(), bytes.as_ptr().cast(), bytes.len(), flags)
        };
        match usize::try_from(sent) {
            Ok(sent) => bytes = &bytes[sent..],
            Err(_) => {
                let error = io::Error::last_os_error();
                if error.kind() != io::ErrorKind::Interrupted {
                    return Err(error);
                }
            }
        }
    }
    Ok(())
}

/// The time until a moment, for a socket's timeout; an error if it is over.
pub(super) fn time_left(until: Option<Instant>) -> io::Result<Option<std::time::Duration>> {
    let Some(until) = until else { return Ok(None) };
    match until.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
        Some(left) => Ok(Some(left)),
        None => Err(io::ErrorKind::TimedOut.into()),
    }
}

/// The user on the other end, as of when it connected.
pub(super) fn peer_uid(stream: &UnixStream) -> io::Result<u32> {
    let mut peer = libc::ucred { pid: 0, uid: u32::MAX, gid: u32::MAX };
    let mut len = size_of::<libc::ucred>() as libc::socklen_t;
    // SAFETY: both pointers are to locals, and `len` is the size of the one that is filled in.
    done(unsafe {
        libc::getsockopt(
            stream.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            (&raw mut peer).cast(),
            &raw mut len,
        )
    })?;
    Ok(peer.uid)
}
