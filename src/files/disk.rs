//! What changes the disk: each kind of change once, so that a fault can be put at every one.
//!
//! The variable `ENGINE_FAULT` names a fault, for tests of what is left behind:
//!
//! - `trace@FILE` appends a line for every change to a file, and changes nothing else;
//! - `kill@N` ends the process by SIGKILL just before change number N, counted from 1;
//! - `full@N` lets change number N, and each one after it that needs space, fail as on a full disk.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{CWD, RenameFlags, renameat_with};
use signal_hook::consts::SIGKILL;
use signal_hook::low_level;

/// The variable that names a fault.
pub const FAULT: &str = "ENGINE_FAULT";

enum Fault {
    None,
    Trace(PathBuf),
    Kill(u64),
    Full(u64),
}

impl Fault {
    fn parse(text: &str) -> Option<Self> {
        let (what, value) = text.split_once('@')?;
        match what {
            "trace" => Some(Self::Trace(value.into())),
            "kill" => value.parse().ok().map(Self::Kill),
            "full" => value.parse().ok().map(Self::Full),
            _ => None,
        }
    }

    fn of_process() -> &'static Self {
        static FAULT_OF_PROCESS: OnceLock<Fault> = OnceLock::new();
        FAULT_OF_PROCESS.get_or_init(|| {
            let Ok(text) = std::env::var(FAULT) else { return Fault::None };
            Fault::parse(&text).unwrap_or_else(|| {
                tracing::warn!("{FAULT}={text} is ignored: expected trace@FILE, kill@N or full@N");
                Fault::None
            })
        })
    }
}

/// Stands before every change. `grows` says whether the change needs space.
fn before(what: &str, path: &Path, grows: bool) -> io::Result<()> {
    static CHANGES: AtomicU64 = AtomicU64::new(0);
    let fault = Fault::of_process();
    if let Fault::None = fault {
        return Ok(());
    }
    let change = CHANGES.fetch_add(1, Ordering::Relaxed) + 1;
    match fault {
        Fault::Trace(file) => {
            let mut out = OpenOptions::new().create(true).append(true).open(file)?;
            out.write_all(format!("{what} {}\n", path.display()).as_bytes())
        }
        Fault::Kill(at) if change == *at => {
            low_level::raise(SIGKILL)?;
            // The signal may take a moment to arrive; nothing more may happen until then.
            loop {
                std::thread::park();
            }
        }
        Fault::Full(at) if change >= *at && grows => Err(ErrorKind::StorageFull.into()),
        _ => Ok(()),
    }
}

/// Makes a folder and those above it; fine where it is there.
pub fn create_dir_all(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    if let Some(above) = path.parent().filter(|p| !p.as_os_str().is_empty()) {
        create_dir_all(above)?;
    }
    before("mkdir", path, true)?;
    match fs::create_dir(path) {
        Err(e) if e.kind() == ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        made => made,
    }
}

/// Opens a file to add to it, and makes it where it is missing. A symbolic link is not followed.
pub fn append(path: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    before("open", path, true)?;
    OpenOptions::new()
        .create(true)
        .append(true)
        .read(true)
        .custom_flags(libc::O_NOFOLLOW)
        .open(path)
}

/// Writes all bytes at the end of a file that was opened to add to it.
pub fn write_all(mut file: &File, path: &Path, bytes: &[u8]) -> io::Result<()> {
    before("write", path, true)?;
    file.write_all(bytes)
}

/// Makes what was written to a file last.
pub fn sync(file: &File, path: &Path) -> io::Result<()> {
    before("fsync", path, true)?;
    file.sync_all()
}

/// Makes the names in a folder last.
pub fn sync_dir(path: &Path) -> io::Result<()> {
    before("fsync", path, false)?;
    File::open(path)?.sync_all()
}

/// Cuts a file.
pub fn set_len(file: &File, path: &Path, bytes: u64) -> io::Result<()> {
    before("truncate", path, false)?;
    file.set_len(bytes)
}

/// Renames a file or folder; a file that has the new name is replaced.
pub fn rename(from: &Path, to: &Path) -> io::Result<()> {
    before("rename", to, false)?;
    fs::rename(from, to)
}

/// Lets two files or folders change names, in one step. Not every file system can
/// ([`ErrorKind::InvalidInput`] or [`ErrorKind::Unsupported`]).
pub fn exchange(a: &Path, b: &Path) -> io::Result<()> {
    before("exchange", b, false)?;
    Ok(renameat_with(CWD, a, CWD, b, RenameFlags::EXCHANGE)?)
}

/// Makes a symbolic link.
pub fn symlink(target: &Path, link: &Path) -> io::Result<()> {
    before("symlink", link, true)?;
    std::os::unix::fs::symlink(target, link)
}

/// Removes a file or a link; fine where there is none.
pub fn remove_file(path: &Path) -> io::Result<()> {
    before("unlink", path, false)?;
    absent_is_fine(fs::remove_file(path))
}

/// Removes an empty folder; fine where there is none.
pub fn remove_dir(path: &Path) -> io::Result<()> {
    before("rmdir", path, false)?;
    absent_is_fine(fs::remove_dir(path))
}

/// Removes a folder with all that it holds; links are removed, not followed.
pub fn remove_dir_all(path: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(path) {
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        match entry.file_type()?.is_dir() {
            true => remove_dir_all(&entry.path())?,
            false => remove_file(&entry.path())?,
        }
    }
    remove_dir(path)
}

fn absent_is_fine(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(()),
        other => other,
    }
}
