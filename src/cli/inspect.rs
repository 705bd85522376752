//! `engine inspect`: what is in a run, a checkpoint, an exported net or a safetensors file,
//! and whether it is whole.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use clap::Args;
use safetensors::SafeTensors;
use safetensors::tensor::Metadata;
use serde::Serialize;
use serde_json::{Value, json};

use super::Globals;
use super::eval::percent;
use crate::error::{Error, Result};
use crate::eval::record;
use crate::files;
use crate::program::output::table;
use crate::program::{print, print_json};
use crate::space::budget::si;
use crate::train::Checkpoint;

/// Arguments of `engine inspect`.
#[derive(Args, Clone, Debug)]
pub struct InspectArgs {
    /// A run's, checkpoint's or exported net's folder, or a safetensors file
    #[arg(value_name = "CKPT|FILE.safetensors")]
    pub path: PathBuf,
}

/// File of an exported net's weights.
const WEIGHTS: &str = "model.safetensors";

/// Says what is there; exit 3 where it is truncated or not what its hash says.
pub fn run(args: &InspectArgs, globals: &Globals) -> Result<()> {
    let path = &args.path;
    let (value, text) = match path.is_dir() {
        true if path.join(WEIGHTS).exists() => file(&path.join(WEIGHTS))?,
        true => folder(path)?,
        false => file(path)?,
    };
    if globals.json { print_json(&value) } else { print(&text) }
}

/// A run or a checkpoint.
fn folder(path: &Path) -> Result<(Value, String)> {
    let checkpoint = Checkpoint::open(path)?;
    let state = &checkpoint.state;
    let mut contents = serde_json::Map::new();
    let mut rows = vec![["file", "tensors", "numbers", ""].map(String::from).to_vec()];
    for stem in state.hashes.keys() {
        let found = Contents::read(&checkpoint.dir.join(format!("{stem}.safetensors")))?;
        found.verify()?;
        contents
            .insert(stem.clone(), json!({ "tensors": found.len(), "numbers": found.numbers() }));
        let name = format!("{stem}.safetensors");
        rows.push(vec![
            name,
            found.len().to_string(),
            found.numbers().to_string(),
            si(found.numbers()),
        ]);
    }
    let all = checkpoints_beside(path, &checkpoint.dir)?;
    let results = match (&state.tuned, checkpoint.run_dir()) {
        (Some(_), Some(run)) => results(&run)?,
        _ => Vec::new(),
    };
    let value = json!({
        "checkpoint": checkpoint.dir.display().to_string(),
        "complete": true,
        "preset": state.preset.name,
        "method": state.method,
        "seed": state.seed,
        "step": state.step,
        "steps": state.steps,
        "images": state.images,
        "tuned": state.tuned,
        "results": results,
        "files": contents,
        "checkpoints": all,
    });
    let listed: String = all
        .iter()
        .map(|(name, complete)| {
            format!("  {name}{}\n", if *complete { "" } else { "  incomplete" })
        })
        .collect();
    let tuned = state.tuned.as_ref().map_or(String::new(), |tuned| {
        let (arch, classes) = (tuned.arch, tuned.classes.len());
        let (task, labels) = (&tuned.task, &tuned.labels);
        format!("{arch}, fine-tuned for {task}: {classes} classes, labels {labels}\n")
            + &results.iter().map(Worth::text).collect::<String>()
    });
    let method = match state.tuned {
        Some(_) => String::new(),
        None => format!(" method {},", state.method),
    };
    let text = format!(
        "{}: complete, every file matches its hash\n{tuned}preset {},{method} seed {}: step {} of {}, \
         {} images\n\n{}\ncheckpoints:\n{listed}",
        checkpoint.dir.display(),
        state.preset.name,
        state.seed,
        state.step,
        state.steps,
        state.images,
        table(&rows),
    );
    Ok((value, text))
}

/// What a test found a fine-tuned net to be worth.
#[derive(Serialize)]
struct Worth {
    /// `top-1`, `mIoU` or `AP`.
    name: &'static str,
    /// A share; −1 where it is not defined.
    value: f64,
    /// The images.
    data: String,
    step: u64,
}

impl Worth {
    fn text(&self) -> String {
        let value = if self.value < 0.0 { "undefined".into() } else { percent(self.value) };
        format!("{} {value} on {} (step {})\n", self.name, self.data, self.step)
    }
}

/// The results in a run's folder, by the names of their files; the newest on the same images.
fn results(run: &Path) -> Result<Vec<Worth>> {
    let dir = run.join("eval");
    if !dir.is_dir() {
        return Ok(Vec::new());
    }
    let entries = fs::read_dir(&dir).map_err(|e| Error::read(&dir, e))?;
    let mut paths: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.retain(|path| path.extension().is_some_and(|ending| ending == "json"));
    paths.sort();
    let mut all = Vec::new();
    for path in paths {
        let result: Value = files::read_json(&path)?;
        if let Some((name, value)) = record::headline(&result) {
            let data = result["test"]["data"][0].as_str().unwrap_or("its images").to_owned();
            let found = Worth { name, value, data, step: result["step"].as_u64().unwrap_or(0) };
            // Of tests during training the newest says enough.
            match all
                .iter_mut()
                .find(|old: &&mut Worth| (old.name, &old.data) == (name, &found.data))
            {
                Some(old) if old.step > found.step => {}
                Some(old) => *old = found,
                None => all.push(found),
            }
        }
    }
    Ok(all)
}

/// The checkpoints beside `newest` by name, and whether each is complete; only that one where
/// a single checkpoint was asked for.
fn checkpoints_beside(asked: &Path, newest: &Path) -> Result<BTreeMap<String, bool>> {
    let name = |p: &Path| p.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let mut found = BTreeMap::from([(name(newest), true)]);
    let Some(root) = newest.parent().filter(|_| asked != newest) else { return Ok(found) };
    for entry in fs::read_dir(root).map_err(|e| Error::read(root, e))? {
        let dir = entry.map_err(|e| Error::read(root, e))?.path();
        if dir.is_dir() && !dir.is_symlink() {
            found.insert(name(&dir), dir.join("DONE").exists());
        }
    }
    Ok(found)
}

/// A safetensors file.
fn file(path: &Path) -> Result<(Value, String)> {
    let found = Contents::read(path)?;
    let verified = found.verify()?;
    let metadata: BTreeMap<String, String> =
        found.header.metadata().clone().unwrap_or_default().into_iter().collect();
    let mut rows = Vec::new();
    let mut tensors = Vec::new();
    for name in found.header.offset_keys() {
        let Some(info) = found.header.info(&name) else { continue };
        let dtype = format!("{:?}", info.dtype);
        tensors.push(json!({ "name": name, "dtype": dtype, "shape": info.shape }));
        let shape = info.shape.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        rows.push(vec![name, dtype, format!("[{shape}]")]);
    }
    let value = json!({
        "file": path.display().to_string(),
        "bytes": found.bytes,
        "verified": verified,
        "metadata": metadata,
        "tensors": tensors,
        "numbers": found.numbers(),
    });
    let words: String = metadata.iter().map(|(k, v)| format!("{k} = {}\n", shorten(v))).collect();
    let text = format!(
        "{}: {} tensors, {} numbers ({}), {} bytes; {}\n{words}\n{}",
        path.display(),
        found.len(),
        found.numbers(),
        si(found.numbers()),
        found.bytes,
        if verified { "matches its hash" } else { "complete; there is no hash to compare with" },
        table(&rows),
    );
    Ok((value, text))
}

/// At most 200 characters of a value.
fn shorten(s: &str) -> String {
    match s.char_indices().nth(200) {
        Some((end, _)) => format!("{}... ({} bytes)", &s[..end], s.len()),
        None => s.to_owned(),
    }
}

/// A whole safetensors file: its header and its bytes' hash.
struct Contents {
    path: PathBuf,
    header: Metadata,
    bytes: usize,
    hash: String,
}

impl Contents {
    fn read(path: &Path) -> Result<Self> {
        let bytes = files::read_large(path)?;
        let (_, header) = SafeTensors::read_metadata(&bytes).map_err(|e| {
            Error::data(format!(
                "{} is not a whole safetensors file ({e}); it may be truncated: make or copy it \
                 again",
                path.display()
            ))
        })?;
        let hash = blake3::hash(&bytes).to_hex().to_string();
        Ok(Self { path: path.to_path_buf(), header, bytes: bytes.len(), hash })
    }

    fn len(&self) -> usize {
        self.header.offset_keys().len()
    }

    /// How many numbers all tensors hold.
    fn numbers(&self) -> u64 {
        let elems = |shape: &[usize]| shape.iter().map(|&d| d as u64).product::<u64>();
        self.header.tensors().values().map(|info| elems(&info.shape)).sum()
    }

    /// Compares the hash with the one that a checkpoint's or an exported net's JSON beside the
    /// file gives: false where there is none, exit 3 where it is another.
    fn verify(&self) -> Result<bool> {
        let beside = |name: &str| self.path.with_file_name(name);
        let list = ["state.json", "config.json"].map(beside).into_iter().find(|p| p.exists());
        let Some(list) = list else { return Ok(false) };
        let known: Value = files::read_json(&list)?;
        let of = |key: Option<&OsStr>| known["hashes"][key?.to_str()?].as_str();
        match of(self.path.file_stem()).or_else(|| of(self.path.file_name())) {
            None => Ok(false),
            Some(expected) if expected == self.hash => Ok(true),
            Some(expected) => Err(Error::data(format!(
                "{} was damaged or changed: its hash is {}, expected {expected} ({}); make or \
                 copy it again",
                self.path.display(),
                self.hash,
                list.display()
            ))),
        }
    }
}
