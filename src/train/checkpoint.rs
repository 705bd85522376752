//! Checkpoints: everything that a run needs to go on, complete or absent.
//!
//! ```text
//! checkpoints/step-00012500/{student,teacher,optimizer,queue}.safetensors state.json DONE
//! checkpoints/last -> step-00012500
//! ```

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::extend::Extension;
use super::health::{Health, Watch};
use super::init::Origin;
use super::job::Tuned;
use super::resume::{Changed, config_of};
use crate::config::Config;
use crate::cx::Cx;
use crate::error::{Error, Result};
use crate::files::{self, Entry, disk, disk_hint, sealed, staged};
use crate::nn::{Heads, ParamSpec, Params, Supernet};
use crate::space::Space;
use crate::ssl;

const DONE: &str = "DONE";
const STATE: &str = "state.json";
const LAST: &str = "last";

/// `state.json`: where the run stands. All randomness is a function of seed and step, so
/// these are all the counters there are.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// Steps done.
    pub step: u64,
    /// Steps of the whole run.
    pub steps: u64,
    /// Loss of the last step, summed over the students.
    #[serde(default)]
    pub loss: Option<f64>,
    /// Seed of everything.
    pub seed: u64,
    /// The search space.
    pub preset: Space,
    /// Name of the method.
    pub method: String,
    /// Position in the stream of images: images consumed so far.
    pub data_cursor: u64,
    /// Architectures drawn so far.
    pub sampler_cursor: u64,
    /// Where the method's queue writes next; 0 without one.
    pub queue_pointer: u64,
    /// Other places in the state of what is trained.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub pointers: BTreeMap<String, u64>,
    /// Images in the data set, for noticing that another one is used.
    #[serde(rename = "pictures")]
    pub images: u64,
    /// Digest of the data set ([`crate::data::Dataset::digest`]); none in older checkpoints.
    #[serde(default)]
    pub data: Option<String>,
    /// Seconds of training so far.
    pub time_s: f64,
    /// Steps with a verdict of collapsed embeddings, less those without.
    pub collapsed_steps: u64,
    /// What is remembered of how embeddings lay.
    #[serde(default)]
    pub health: Watch,
    /// The net and its classes, where it is fine-tuned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tuned: Option<Tuned>,
    /// What the weights started from, where that was not chance alone.
    #[serde(default)]
    pub init: Option<Origin>,
    /// Where the run was given more steps than before.
    #[serde(default)]
    pub extended: Vec<Extension>,
    /// Settings that were changed on the way.
    #[serde(default)]
    pub changed: Vec<Changed>,
    /// The run's settings that decide its result, by key.
    pub config: BTreeMap<String, String>,
    /// BLAKE3 of each file of the checkpoint.
    pub hashes: BTreeMap<String, String>,
}

/// The pointer that has a key of its own.
const QUEUE: &str = "queue";

impl State {
    /// Places in the state of what is trained.
    pub fn pointers(&self) -> BTreeMap<String, u64> {
        let mut all = self.pointers.clone();
        all.insert(QUEUE.to_owned(), self.queue_pointer);
        all
    }

    /// Takes such places up.
    pub(super) fn set_pointers(&mut self, mut pointers: BTreeMap<String, u64>) {
        self.queue_pointer = pointers.remove(QUEUE).unwrap_or(0);
        self.pointers = pointers;
    }

    /// Whether anything was learnt: in this run, or before it in what the run started from.
    pub fn is_trained(&self) -> bool {
        self.step > 0 || self.init.is_some()
    }
}

/// What is written beside the state: file stem → tensors.
pub type Contents = Vec<(&'static str, Vec<Entry>)>;

/// A complete checkpoint on disk.
#[derive(Clone, Debug)]
pub struct Checkpoint {
    /// Its folder.
    pub dir: PathBuf,
    /// Its `state.json`.
    pub state: State,
}

/// Name of the folder of a step's checkpoint.
fn folder(step: u64) -> String {
    format!("step-{step:08}")
}

/// Where the checkpoint of a step lies in a run's folder.
pub fn place(run: &Path, step: u64) -> PathBuf {
    run.join("checkpoints").join(folder(step))
}

impl Checkpoint {
    /// Opens a checkpoint's folder, a run's folder (its newest complete checkpoint), or a
    /// run's `checkpoints` folder.
    pub fn open(path: &Path) -> Result<Self> {
        if !path.exists() {
            return Err(Error::data(format!(
                "no run or checkpoint at {}: expected the --out folder of engine train, or one \
                 of its checkpoints/step-* folders",
                path.display()
            )));
        }
        if path.join(STATE).exists() {
            return Self::read(path);
        }
        Self::newest(path)?.ok_or_else(|| {
            Error::data(format!(
                "{} holds no complete checkpoint (a folder step-* with a file {DONE})",
                path.display()
            ))
        })
    }

    /// The newest complete checkpoint of a run's folder, or of its `checkpoints` folder. One that
    /// cannot be read is an error: it may be repaired, and older ones be chosen by name.
    pub fn newest(path: &Path) -> Result<Option<Self>> {
        let inside = path.join("checkpoints");
        let mut all = complete(if inside.is_dir() { &inside } else { path })?;
        let Some(newest) = all.pop() else { return Ok(None) };
        let older =
            all.pop().map_or(String::new(), |p| format!(" (an older one: {})", p.display()));
        let read = Self::read(&newest).map(Some);
        read.map_err(|e| e.context(format!("the newest checkpoint is damaged{older}")))
    }

    fn read(dir: &Path) -> Result<Self> {
        if !dir.join(DONE).exists() {
            return Err(Error::data(format!(
                "{} is not a complete checkpoint (no file {DONE}): it was being written when \
                 the run ended; use an older one",
                dir.display()
            )));
        }
        Ok(Self { dir: dir.to_path_buf(), state: sealed::read_json_or_older(&dir.join(STATE))? })
    }

    /// The run's folder, where the checkpoint lies in one.
    pub fn run_dir(&self) -> Option<PathBuf> {
        let dir = self.dir.canonicalize().ok()?;
        let run = dir.parent()?.parent()?;
        run.join("config.toml").exists().then(|| run.to_path_buf())
    }

    /// The settings of the run.
    pub fn config(&self) -> Result<Config> {
        config_of(self)
    }

    /// The search space that was trained; of one architecture where that was fine-tuned.
    pub fn space(&self) -> Result<Space> {
        let config = config_of(self)?;
        match &self.state.tuned {
            Some(tuned) => config.tuned_space(&tuned.arch),
            None => config.space(),
        }
    }

    /// The supernet with its projector, without values: other heads are of training alone. A fine-tuned net has no head but its
    /// [classifier](crate::nn::Classifier).
    pub fn supernet(&self) -> Result<Supernet> {
        let heads = match self.state.tuned {
            Some(_) => None,
            None => Some(Heads::projector(ssl::heads(&config_of(self)?).projector)),
        };
        Ok(Supernet::new(&self.space()?, heads.as_ref()))
    }

    /// The student's weights.
    pub fn student(&self, cx: &Cx, specs: &[ParamSpec]) -> Result<Params> {
        self.params(cx, specs, "student")
    }

    /// The teacher's (EMA) weights.
    pub fn teacher(&self, cx: &Cx, specs: &[ParamSpec]) -> Result<Params> {
        self.params(cx, specs, "teacher")
    }

    fn params(&self, cx: &Cx, specs: &[ParamSpec], stem: &str) -> Result<Params> {
        let (named, origin) = self.named(stem)?;
        Params::from_torch(cx, specs, &named, &origin)?.ready(cx)
    }

    fn path(&self, stem: &str) -> PathBuf {
        self.dir.join(format!("{stem}.safetensors"))
    }

    /// The tensors of one of its files, after its hash was compared, and the file's name.
    pub fn named(&self, stem: &str) -> Result<(files::Named, String)> {
        Ok((self.tensors(stem)?, self.path(stem).display().to_string()))
    }

    /// The tensors of one of its files, after its hash was compared.
    pub fn tensors(&self, stem: &str) -> Result<files::Named> {
        Ok(files::read_safetensors(&self.verified(stem)?)?.0)
    }

    /// The path of one of its files, after its hash was compared.
    pub fn verified(&self, stem: &str) -> Result<PathBuf> {
        let path = self.path(stem);
        let expected = self.state.hashes.get(stem);
        let found = files::hash(&path)?;
        if expected != Some(&found) {
            return Err(Error::data(format!(
                "{} is damaged: its hash is {found}, {STATE} says {}; use another checkpoint",
                path.display(),
                expected.map_or("nothing", |h| h)
            )));
        }
        Ok(path)
    }
}

/// Complete checkpoints below `root`, oldest first.
fn complete(root: &Path) -> Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(root) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(Error::read(root, e)),
    };
    let mut found: Vec<PathBuf> = entries
        .filter_map(|e| Some(e.ok()?.path()))
        .filter(|p| is_step_folder(p) && p.join(DONE).exists())
        .collect();
    found.sort();
    Ok(found)
}

fn is_step_folder(p: &Path) -> bool {
    let name = p.file_name().and_then(|n| n.to_str()).unwrap_or_default();
    name.strip_prefix("step-")
        .is_some_and(|n| n.len() >= 8 && n.bytes().all(|b| b.is_ascii_digit()))
        && !p.is_symlink()
}

/// Writes a checkpoint into `root` (a run's `checkpoints`), points `last` at it and removes the
/// oldest beyond `keep`, except two: that of step 0, since what training did is told by comparison
/// with the net before it, and the newest whose embeddings were healthy, where none of those that
/// are kept is (a run that collapses can go on from there). The files are written into a folder
/// aside and flushed, `DONE` last, and the folder is renamed: a checkpoint is complete or absent. On
/// failure older checkpoints are untouched.
pub fn write(root: &Path, mut state: State, contents: &Contents, keep: usize) -> Result<PathBuf> {
    files::create_dir(root)?;
    let dir = root.join(folder(state.step));
    let aside = root.join(format!(".{}.part", folder(state.step)));
    let mut fill = || -> Result<()> {
        remove_dir(&aside)?;
        files::create_dir(&aside)?;
        let metadata = [
            ("preset", state.preset.name.clone()),
            ("method", state.method.clone()),
            ("step", state.step.to_string()),
        ];
        for (stem, tensors) in contents {
            let path = aside.join(format!("{stem}.safetensors"));
            files::write_safetensors(&path, tensors, &metadata)?;
            state.hashes.insert((*stem).to_owned(), files::hash(&path)?);
        }
        sealed::write_json(&aside.join(STATE), &state)?;
        files::write_text(&aside.join(DONE), "")?;
        files::sync_dir(&aside)?;
        staged::replace(&aside, &dir).map_err(|e| Error::write(&dir, disk_hint(&e)))?;
        files::sync_dir(root)?;
        // A checkpoint of this step that was there before.
        remove_dir(&aside)
    };
    if let Err(e) = fill() {
        // Frees the disk; the error that matters is the first.
        let _ = fs::remove_dir_all(&aside);
        let last = complete(root)?.pop();
        let usable = last.map_or("no earlier checkpoint exists".to_owned(), |p| {
            format!("the last good checkpoint is {}", p.display())
        });
        return Err(
            e.context(format!("the checkpoint of step {} was not written; {usable}", state.step))
        );
    }
    point_last(root, &dir)?;
    let mut all = complete(root)?;
    all.retain(|path| !path.ends_with(folder(0)));
    let kept = all.split_off(all.len().saturating_sub(keep.max(1)));
    if !kept.iter().any(|path| is_healthy(path))
        && let Some(at) = all.iter().rposition(|path| is_healthy(path))
    {
        all.remove(at);
    }
    for old in all.iter().filter(|old| **old != dir) {
        remove(old)?;
    }
    Ok(dir)
}

/// Whether embeddings were healthy at a checkpoint, as far as can be told.
fn is_healthy(dir: &Path) -> bool {
    Checkpoint::read(dir).is_ok_and(|checkpoint| {
        checkpoint.state.step > 0 && checkpoint.state.health.health == Health::Healthy
    })
}

/// The newest checkpoint of a run's folder at which embeddings were healthy.
pub(super) fn newest_healthy(run: &Path) -> Option<PathBuf> {
    complete(&run.join("checkpoints")).ok()?.into_iter().rfind(|path| is_healthy(path))
}

/// Makes the checkpoint of `step` the newest one, where a run goes on from there: those of later
/// steps are removed, the newest first, so that what is left is always the beginning of one run.
/// Returns the steps that are gone.
pub(super) fn forget_after(root: &Path, step: u64) -> Result<Vec<String>> {
    let mut gone = Vec::new();
    let (mut kept, later): (Vec<_>, Vec<_>) =
        complete(root)?.into_iter().partition(|path| **path <= *root.join(folder(step)));
    let newest = kept.pop();
    for path in later.iter().rev() {
        remove(path)?;
        gone.push(path.file_name().unwrap_or_default().to_string_lossy().into_owned());
    }
    if let Some(newest) = newest
        && fs::read_link(root.join(LAST)).ok().as_deref() != newest.file_name().map(Path::new)
    {
        point_last(root, &newest)?;
    }
    Ok(gone)
}

/// Makes the link `last` point at `dir`, by renaming a new link over it.
fn point_last(root: &Path, dir: &Path) -> Result<()> {
    let (last, part) = (root.join(LAST), root.join(".last.part"));
    let target = dir.file_name().unwrap_or_default();
    disk::remove_file(&part)
        .and_then(|()| disk::symlink(Path::new(target), &part))
        .and_then(|()| disk::rename(&part, &last))
        .map_err(|e| Error::write(&last, disk_hint(&e)))
}

/// Removes a checkpoint: it is complete until it has another name.
fn remove(dir: &Path) -> Result<()> {
    let name = dir.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let old = dir.with_file_name(format!(".{name}.old.part"));
    remove_dir(&old)?;
    disk::rename(dir, &old).map_err(|e| Error::write(dir, disk_hint(&e)))?;
    remove_dir(&old)
}

fn remove_dir(dir: &Path) -> Result<()> {
    disk::remove_dir_all(dir).map_err(|e| Error::write(dir, disk_hint(&e)))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn state(step: u64) -> State {
        State {
            step,
            steps: 10,
            seed: 1,
            preset: crate::space::presets::tiny(),
            method: "moco".into(),
            data_cursor: 0,
            sampler_cursor: 0,
            queue_pointer: 0,
            pointers: BTreeMap::new(),
            images: 5,
            data: None,
            time_s: 0.0,
            collapsed_steps: 0,
            health: Watch::default(),
            loss: None,
            tuned: None,
            init: None,
            extended: Vec::new(),
            changed: Vec::new(),
            config: BTreeMap::new(),
            hashes: BTreeMap::new(),
        }
    }

    #[test]
    fn newest_complete_one_is_found_and_old_ones_go() {
        let run = tempfile::tempdir().unwrap();
        let root = run.path().join("checkpoints");
        let contents = vec![("student", vec![("w".to_owned(), vec![2], vec![1.0, 2.0])])];
        for step in 1..=4 {
            write(&root, state(step), &contents, 2).unwrap();
        }
        assert_eq!(complete(&root).unwrap().len(), 2);
        assert_eq!(fs::read_link(root.join("last")).unwrap(), Path::new("step-00000004"));
        fs::create_dir(root.join("step-00000009")).unwrap();
        let found = Checkpoint::open(run.path()).unwrap();
        assert_eq!(found.state.step, 4);
        assert_eq!(found.tensors("student").unwrap()["w"].1, [1.0, 2.0]);
        assert!(Checkpoint::open(&root.join("step-00000009")).is_err());

        // A damaged one is not passed over: a run that went on from the start would replace it.
        fs::write(root.join("step-00000004").join(STATE), "{").unwrap();
        let said = Checkpoint::newest(run.path()).unwrap_err().to_string();
        assert!(said.contains("step-00000004/state.json"), "{said}");
        assert!(said.contains("older one: ") && said.contains("step-00000003"), "{said}");
        assert!(Checkpoint::newest(&root.join("step-00000009")).unwrap().is_none());
    }

    #[test]
    fn the_untrained_net_is_kept_beside_the_newest() {
        let run = tempfile::tempdir().unwrap();
        let root = run.path().join("checkpoints");
        let contents = vec![("student", vec![("w".to_owned(), vec![1], vec![1.0])])];
        for step in 0..=4 {
            write(&root, state(step), &contents, 1).unwrap();
        }
        assert_eq!(complete(&root).unwrap(), [0, 4].map(|step| place(run.path(), step)));
        assert_eq!(Checkpoint::open(run.path()).unwrap().state.step, 4);
        assert_eq!(Checkpoint::open(&place(run.path(), 0)).unwrap().state.step, 0);
    }

    #[test]
    fn damage_is_noticed() {
        let run = tempfile::tempdir().unwrap();
        let contents = vec![("student", vec![("w".to_owned(), vec![2], vec![1.0, 2.0])])];
        let dir = write(run.path(), state(1), &contents, 2).unwrap();
        let path = dir.join("student.safetensors");
        let mut bytes = fs::read(&path).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        fs::write(&path, bytes).unwrap();
        let err = Checkpoint::open(&dir).unwrap().tensors("student").unwrap_err();
        assert_eq!(err.kind(), crate::Kind::Data);
        assert!(err.to_string().contains("damaged"), "{err}");
    }
}
