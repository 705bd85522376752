//! Folders that appear whole: made aside, then put in their place.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use super::owned::{Existing, Kind, MARK, Owned, look, others_in, some_of};
use super::{disk, disk_hint};
use crate::error::{Error, Result};

/// A folder that appears whole: filled beside its place, then put there.
#[derive(Debug)]
pub struct Staged {
    out: PathBuf,
    stage: Owned,
    overwrite: bool,
}

impl Staged {
    /// Begins to make the folder `out` in a hidden folder beside it.
    ///
    /// # Errors
    /// [`crate::Kind::Usage`] where `out` exists and may not be replaced, is of another kind, holds
    /// files that are not ours, or another process is making it.
    pub fn begin(out: &Path, kind: &'static Kind, overwrite: bool) -> Result<Self> {
        let Some(name) = out.file_name() else {
            return Err(Error::usage(format!(
                "--out {}: expected the name of a folder",
                out.display()
            )));
        };
        check_replaceable(out, kind, overwrite)?;
        let beside = out.with_file_name(format!(".{}.engine.part", name.to_string_lossy()));
        let stage = Owned::claim(&beside, kind, Existing::Replace)?;
        stage.clear()?;
        Ok(Self { out: out.to_path_buf(), stage, overwrite })
    }

    /// Where to write.
    pub fn dir(&self) -> &Path {
        self.stage.root()
    }

    /// Puts the folder in its place; what was there is removed. Until then it is as it was.
    pub fn commit(self) -> Result<()> {
        let (out, dir) = (&self.out, self.stage.root());
        check_replaceable(out, self.stage.kind, self.overwrite)?;
        let failed = |e: io::Error| Error::write(out, disk_hint(&e));
        disk::sync_dir(dir).map_err(failed)?;
        let above = out.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        replace(dir, out).and_then(|()| disk::sync_dir(above)).map_err(failed)?;
        // What was in its place before is now here.
        self.abandon()
    }

    /// Removes what was written.
    pub fn abandon(self) -> Result<()> {
        let dir = self.stage.root();
        if dir.exists() {
            self.stage.remove_ours()?;
            let removed = disk::remove_file(&dir.join(MARK)).and_then(|()| disk::remove_dir(dir));
            removed.map_err(|e| Error::write(dir, disk_hint(&e)))?;
        }
        Ok(())
    }
}

/// Exit 2 unless a folder of ours, or nothing, is at `out`.
fn check_replaceable(out: &Path, kind: &Kind, overwrite: bool) -> Result<()> {
    let existing = if overwrite { Existing::Replace } else { Existing::Refuse };
    if look(out, kind, existing)? {
        return Ok(());
    }
    let mut others = Vec::new();
    others_in(out, "", kind, &mut others)?;
    match others.is_empty() {
        true => Ok(()),
        false => Err(Error::usage(format!(
            "--overwrite replaces all of {}, but {} there is not of the {}: move it away, or give \
             another --out",
            out.display(),
            some_of(&others),
            kind.name
        ))),
    }
}

/// Puts the folder `dir` in the place of `out`. Where `out` exists, the two change names if the
/// file system can do that in one step; else `out` is absent for a moment.
pub fn replace(dir: &Path, out: &Path) -> io::Result<()> {
    if !out.exists() {
        return disk::rename(dir, out);
    }
    match disk::exchange(dir, out) {
        Err(e) if matches!(e.kind(), ErrorKind::InvalidInput | ErrorKind::Unsupported) => {}
        done => return done,
    }
    let name = out.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let old = out.with_file_name(format!(".{name}.old.part"));
    disk::rename(out, &old)?;
    if let Err(e) = disk::rename(dir, out) {
        // The error to report is the first.
        let _ = disk::rename(&old, out);
        return Err(e);
    }
    disk::rename(&old, dir)
}

#[cfg(test)]
mod tests {
    use super::super::owned::contents;
    use super::super::owned::tests::{THING, put};
    use super::*;

    #[test]
    fn a_staged_folder_appears_whole_and_neighbours_stay() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("net");
        put(dir.path(), &["net.part/mine", "net.old/mine"]);
        let staged = Staged::begin(&out, &THING, false).unwrap();
        assert!(Staged::begin(&out, &THING, false).unwrap_err().to_string().contains("another"));
        put(staged.dir(), &["a.json"]);
        assert!(!out.exists());
        staged.commit().unwrap();
        assert!(Staged::begin(&out, &THING, false).is_err());
        let staged = Staged::begin(&out, &THING, true).unwrap();
        put(staged.dir(), &["parts/last"]);
        staged.commit().unwrap();
        assert!(out.join("parts/last").exists() && !out.join("a.json").exists());
        put(&out, &["thesis.txt"]);
        let said = Staged::begin(&out, &THING, true).unwrap_err().to_string();
        assert!(said.contains("thesis.txt"), "{said}");
        let left: Vec<_> = contents(dir.path()).unwrap();
        assert_eq!(left.len(), 3, "{left:?}");
    }
}
