//! A store is opened and read in a process of its own: engines die of damage, or never answer.
//!
//! The child writes a byte for each step as it goes, so that whatever it has answered counts even
//! if it dies of the next one.

use std::io::{self, Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::Outcome;
use crate::engines::Engine;
use crate::pairs::pairs;
use crate::verdict::{Ended, Step};

/// The first argument of a child.
pub const CHILD: &str = "--read";

/// Time after which a child is taken to hang: one takes some tens of milliseconds, on a machine that
/// is busy with other things a second.
pub const PATIENCE: Duration = Duration::from_secs(20);
/// Exit code of a child that failed at something other than the store: that of every error here.
/// A panic has another.
const FAILED_ITSELF: i32 = 1;
/// How often a child is looked after.
const GLANCE: Duration = Duration::from_millis(1);
/// Memory that a child may take: enough for every engine, little enough for every machine.
const MEMORY_MAX: u64 = 8 << 30;

/// What the child does: opens the store, reads every key, closes it.
pub fn read_store(engine: &dyn Engine, directory: &Path) -> Outcome {
    limit(libc::RLIMIT_CORE, 0)?;
    limit(libc::RLIMIT_AS, MEMORY_MAX)?;
    let mut reader = match engine.open(directory) {
        Ok(reader) => reader,
        Err(error) => {
            eprintln!("open: {error}");
            return tell(Step::Refused);
        }
    };
    tell(Step::Opened)?;
    for pair in pairs() {
        tell(match reader.get(&pair.key) {
            Ok(Some(value)) if value == pair.value => Step::Right,
            Ok(Some(_)) => Step::Wrong,
            Ok(None) => Step::Missing,
            Err(error) => {
                eprintln!("{}: {error}", String::from_utf8_lossy(&pair.key));
                Step::Failed
            }
        })?;
    }
    drop(reader);
    tell(Step::Closed)
}

fn limit(resource: libc::__rlimit_resource_t, most: u64) -> Outcome {
    let limits = libc::rlimit { rlim_cur: most, rlim_max: most };
    // SAFETY: `limits` is a readable `rlimit`.
    match unsafe { libc::setrlimit(resource, &raw const limits) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error().into()),
    }
}

fn tell(step: Step) -> Outcome {
    let mut out = io::stdout();
    out.write_all(&[step.letter()])?;
    Ok(out.flush()?)
}

/// Has a child read the store, and says what it told and how it ended.
pub fn watch_reading(engine: &dyn Engine, directory: &Path) -> Outcome<(Vec<Step>, Ended)> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args([CHILD, engine.name()]).arg(directory);
    let (told, ended) = watch(&mut command, PATIENCE)?;
    let steps: Option<Vec<Step>> = told.into_iter().map(Step::of_letter).collect();
    Ok((steps.ok_or("a child has told what is no step")?, ended))
}

/// Runs a command and takes what it prints. That must be little: it is read when all is over.
fn watch(command: &mut Command, patience: Duration) -> Outcome<(Vec<u8>, Ended)> {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn()?;
    let ended = match wait(&mut child, patience)? {
        None => Ended::Hung,
        Some(status) if status.success() => Ended::Exited,
        Some(status) if status.code() == Some(FAILED_ITSELF) => {
            return Err("a child has failed, and not by the store".into());
        }
        Some(status) => Ended::Crashed(status.signal()),
    };
    let mut told = Vec::new();
    if let Some(mut out) = child.stdout.take() {
        out.read_to_end(&mut told)?;
    }
    Ok((told, ended))
}

/// Waits for the end of a child; kills it when that takes too long.
fn wait(child: &mut Child, patience: Duration) -> Outcome<Option<ExitStatus>> {
    let start = Instant::now();
    while start.elapsed() < patience {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        thread::sleep(GLANCE);
    }
    child.kill()?;
    child.wait()?;
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watch_shell(script: &str, patience: Duration) -> (Vec<u8>, Ended) {
        watch(Command::new("sh").args(["-c", script]), patience).unwrap()
    }

    #[test]
    fn a_child_that_ends_is_told_from_one_that_crashes() {
        assert_eq!(watch_shell("printf or", PATIENCE), (b"or".to_vec(), Ended::Exited));
        assert_eq!(watch_shell("exit 101", PATIENCE), (Vec::new(), Ended::Crashed(None)));
        let (told, ended) = watch_shell("printf or; kill -SEGV $$", PATIENCE);
        assert_eq!((told, ended), (b"or".to_vec(), Ended::Crashed(Some(libc::SIGSEGV))));
    }

    #[test]
    fn a_child_that_fails_by_itself_is_no_crash_of_the_store() {
        assert!(watch(Command::new("sh").args(["-c", "exit 1"]), PATIENCE).is_err());
    }

    #[test]
    fn a_child_that_hangs_is_killed() {
        let ended = watch_shell("printf o; exec sleep 60", Duration::from_millis(300));
        assert_eq!(ended, (b"o".to_vec(), Ended::Hung));
    }
}
