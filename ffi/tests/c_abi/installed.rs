//! The library, installed once by `make install` into a directory of its own, and C programs that are
//! compiled against it as a stranger would: with pkg-config, outside the tree.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// Where the makefile thinks it installs.
const PREFIX: &str = "/opt/isotherm";
/// A program that takes longer hangs.
const PATIENCE: Duration = Duration::from_secs(600);

/// The repository.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// The installation, made at the first call.
pub fn destdir() -> &'static Path {
    static DESTDIR: OnceLock<TempDir> = OnceLock::new();
    DESTDIR
        .get_or_init(|| {
            let directory = tempfile::tempdir().unwrap();
            make("install", directory.path());
            directory
        })
        .path()
}

/// `make TARGET` with this DESTDIR, in the profile that the tests are built in.
pub fn make(target: &str, destdir: &Path) {
    let profile = if cfg!(debug_assertions) { "test" } else { "release" };
    let mut make = Command::new("make");
    make.current_dir(root()).arg(target).env("CARGO_PROFILE", profile);
    make.arg(format!("DESTDIR={}", destdir.display())).arg(format!("PREFIX={PREFIX}"));
    run(&mut make);
}

/// A file of the installation.
pub fn installed(path: &str) -> PathBuf {
    destdir().join(PREFIX.trim_start_matches('/')).join(path)
}

/// The words that pkg-config prints.
pub fn pkg_config(arguments: &[&str]) -> Vec<String> {
    let mut command = Command::new("pkg-config");
    command.args(arguments).arg("isotherm").env("PKG_CONFIG_SYSROOT_DIR", destdir());
    command.env("PKG_CONFIG_PATH", installed("lib/pkgconfig"));
    String::from_utf8(run(&mut command).stdout)
        .unwrap()
        .split_whitespace()
        .map(str::to_owned)
        .collect()
}

/// A source of this repository, compiled into `directory`. The flags come first.
pub fn compile(source: &str, flags: &[&str], directory: &Path) -> PathBuf {
    let source = root().join(source);
    let is_cxx = source.extension().is_some_and(|extension| extension != "c");
    let program = directory.join(source.file_stem().unwrap()).with_extension(flags.join(""));
    let mut compiler = Command::new(if is_cxx { "g++" } else { "gcc" });
    compiler.arg(if is_cxx { "-std=c++11" } else { "-std=gnu11" });
    compiler.args(["-g", "-O1", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-pthread"]);
    compiler.args(flags).arg(&source).arg("-o").arg(&program);
    compiler.args(pkg_config(&["--cflags", "--libs"])).arg("-lm");
    run(&mut compiler);
    program
}

/// A program or a tool that starts one, with the installed library.
pub fn program(path: impl AsRef<Path>) -> Command {
    let mut command = Command::new(path.as_ref());
    command.env("LD_LIBRARY_PATH", installed("lib"));
    command
}

/// Runs to a good end, in time.
pub fn run(command: &mut Command) -> Output {
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).stdin(Stdio::null());
    let mut child = child.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let start = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if start.elapsed() > PATIENCE {
            child.kill().unwrap();
            panic!("{command:?} hangs");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {}\n{said}", output.status);
    output
}
