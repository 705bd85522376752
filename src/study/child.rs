//! A cell's command as a child process: the same program in the cell's folder. Signals are passed
//! on, and the child ends with this process whatever ends that.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use crate::error::{Error, Kind, Result};
use crate::files;
use crate::signals::Signals;

/// What a command says on stderr.
pub const LOG: &str = "log";
/// What a command prints.
const PRINTED: &str = "printed.json";
/// Between two looks at a child.
const PAUSE: Duration = Duration::from_millis(10);

/// How a command ended.
pub struct Ended {
    /// What it printed.
    pub printed: Vec<u8>,
    /// Its exit code.
    pub code: u8,
    /// The last thing that it said.
    pub last_words: String,
    /// Seconds that it took.
    pub seconds: f64,
}

/// The program itself, and what it listens to.
pub struct Program {
    path: PathBuf,
    signals: Signals,
    /// Flags that change no result: device and threads.
    flags: Vec<String>,
}

impl Program {
    /// This program; `flags` go behind every command.
    ///
    /// # Errors
    /// [`Kind::Device`] where the system does not say what program this is.
    pub fn this(signals: Signals, flags: Vec<String>) -> Result<Self> {
        let path = std::env::current_exe()
            .map_err(|e| Error::device(format!("cannot find the program engine itself: {e}")))?;
        Ok(Self { path, signals, flags })
    }

    /// Runs it in a folder, where it leaves what it says and prints.
    ///
    /// # Errors
    /// [`Kind::Stopped`] or [`Kind::Interrupted`] where a signal has come; [`Kind::Device`] where it
    /// cannot be started.
    pub fn run(&self, dir: &Path, arguments: &[String]) -> Result<Ended> {
        let started = Instant::now();
        self.go_on()?;
        let (log, printed) = (dir.join(LOG), dir.join(PRINTED));
        let open = |path: &Path, options: &mut OpenOptions| -> Result<File> {
            options.create(true).open(path).map_err(|e| Error::write(path, e))
        };
        let said_before = std::fs::metadata(&log).map_or(0, |m| m.len());
        let mut command = Command::new(&self.path);
        command
            .args(arguments)
            .args(&self.flags)
            .current_dir(dir)
            .env("NO_COLOR", "1")
            .stdin(Stdio::null())
            .stdout(open(&printed, OpenOptions::new().write(true).truncate(true))?)
            .stderr(open(&log, OpenOptions::new().append(true))?)
            // A terminal's signals come here only, and are passed on once.
            .process_group(0);
        // SAFETY: between fork and exec the closure calls prctl and getppid alone, which are
        // async-signal-safe, and allocates nothing.
        unsafe { command.pre_exec(end_with_parent(std::process::id())) };
        let failed = |e| Error::device(format!("cannot run {}: {e}", self.path.display()));
        let child = command.spawn().map_err(failed)?;
        let status = self.wait(child).map_err(failed)?;
        self.go_on()?;
        let code = status.code().and_then(|code| u8::try_from(code).ok()).ok_or_else(|| {
            let signal = status.signal().unwrap_or(0);
            Error::device(format!(
                "a command of this study was killed by signal {signal}, perhaps because memory ran \
                 out; its log is {}; --resume goes on",
                log.display()
            ))
        })?;
        let said = files::read(&log)?;
        let said = &said[usize::try_from(said_before).unwrap_or(0).min(said.len())..];
        Ok(Ended {
            printed: files::read(&printed)?,
            code,
            last_words: last_words(&String::from_utf8_lossy(said)),
            seconds: started.elapsed().as_secs_f64(),
        })
    }

    /// Waits for a child, which gets a signal that comes meanwhile.
    fn wait(&self, mut child: Child) -> io::Result<ExitStatus> {
        let mut told = false;
        loop {
            if let Some(status) = child.try_wait()? {
                return Ok(status);
            }
            if let Some(kind) = self.signals.stop().filter(|_| !told) {
                let signal = if kind == Kind::Interrupted { libc::SIGINT } else { libc::SIGTERM };
                // SAFETY: kill takes no memory; the child has not been waited for, so its number is
                // still its own.
                unsafe { libc::kill(child.id() as libc::pid_t, signal) };
                told = true;
            }
            std::thread::sleep(PAUSE);
        }
    }

    /// Ends the study where a signal has come.
    fn go_on(&self) -> Result<()> {
        self.signals.stop().map_or(Ok(()), |kind| {
            Err(Error::new(kind, "stopped; what was made is kept, and --resume goes on"))
        })
    }
}

/// Lets a child be killed when its parent ends: one that went on would hold its folder's lock.
fn end_with_parent(parent: u32) -> impl FnMut() -> io::Result<()> {
    move || {
        // SAFETY: neither call takes memory.
        let (failed, now) =
            unsafe { (libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) != 0, libc::getppid()) };
        match failed {
            true => Err(io::Error::last_os_error()),
            // It may have ended before.
            false if now as u32 != parent => Err(io::ErrorKind::BrokenPipe.into()),
            false => Ok(()),
        }
    }
}

/// The error that a log ends with, or its last line.
fn last_words(log: &str) -> String {
    let lines: Vec<&str> = log.lines().filter(|line| !line.trim().is_empty()).collect();
    let error = lines.iter().rev().find_map(|line| line.strip_prefix("error: "));
    error.or(lines.last().copied()).unwrap_or("it said nothing").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_error_is_found() {
        assert_eq!(last_words("a\nerror: bad x\nwarning: y\n\n"), "bad x");
        assert_eq!(last_words("a\nb\n"), "b");
        assert_eq!(last_words(""), "it said nothing");
    }
}
