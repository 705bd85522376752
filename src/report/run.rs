//! What a run left in its folder, read as far as it goes: a run may still be going, or have
//! been killed while a line was being written.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::config::{self, Method, Task};
use crate::error::{Error, Result};
use crate::files;
use crate::space::Space;
use crate::train::extend::Extension;
use crate::train::{Health, Tuned};

/// A line of `metrics.jsonl`, as far as the report uses it.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Step {
    pub(super) step: Option<f64>,
    pub(super) time_s: Option<f64>,
    pub(super) losses: Option<BTreeMap<String, Option<f64>>>,
    pub(super) lr: Option<f64>,
    pub(super) grad_norm: Option<f64>,
    pub(super) feature_std: Option<f64>,
    pub(super) spread: Option<f64>,
    pub(super) rank: Option<f64>,
    pub(super) teacher_spread: Option<f64>,
    pub(super) teacher_rank: Option<f64>,
    pub(super) health: Option<Health>,
    /// What else tells whether it learns, by name.
    pub(super) signs: BTreeMap<String, f64>,
    pub(super) images_per_s: Option<f64>,
    pub(super) data_wait_ms: Option<f64>,
    pub(super) device_mem_bytes: Option<f64>,
}

impl Step {
    /// The sum of the step's losses, and how many they are.
    fn losses(&self) -> Option<(f64, usize)> {
        let losses = self.losses.as_ref().filter(|l| !l.is_empty())?;
        let sum: Option<f64> = losses.values().copied().sum();
        Some((sum?, losses.len()))
    }
}

/// A run's folder.
pub(super) struct Run {
    /// Where it is.
    pub(super) dir: PathBuf,
    /// `config.toml` as text, empty where there is none.
    pub(super) config_text: String,
    config: toml::Table,
    /// `cmd.txt`, empty where there is none.
    pub(super) command: String,
    /// `env.json`.
    pub(super) env: Value,
    /// `status.json`.
    pub(super) status: Value,
    /// Where it was given more steps, by its newest checkpoint.
    pub(super) extended: Vec<Extension>,
    /// The net and its classes, where it was fine-tuned.
    pub(super) tuned: Option<Tuned>,
    /// `metrics.jsonl`, by step.
    pub(super) steps: Vec<Step>,
    /// Lines of `metrics.jsonl` before the last that could not be read.
    pub(super) bad_lines: usize,
}

impl Run {
    /// Reads a run. Fails with exit 3 where `dir` is not a run's folder.
    pub(super) fn open(dir: &Path) -> Result<Self> {
        let config_path = dir.join("config.toml");
        let metrics_path = dir.join("metrics.jsonl");
        if !config_path.exists() && !metrics_path.exists() {
            return Err(Error::data(format!(
                "{} is not a run's folder: expected config.toml or metrics.jsonl in it; give the \
                 --out folder of engine train",
                dir.display()
            )));
        }
        let config_text = text(&config_path)?;
        let config = toml::from_str(&config_text).map_err(|e| {
            Error::data(format!("{} is not TOML: {}", config_path.display(), e.message()))
        })?;
        let (mut steps, bad_lines) = files::json_lines::<Step>(&metrics_path)?;
        steps.retain(|s| s.step.is_some());
        steps.sort_by(|a, b| a.step.unwrap_or(0.0).total_cmp(&b.step.unwrap_or(0.0)));
        let state = dir.join("checkpoints/last/state.json");
        Ok(Self {
            dir: dir.to_path_buf(),
            config_text,
            config,
            command: text(&dir.join("cmd.txt"))?.trim().to_owned(),
            env: json(&dir.join("env.json"))?,
            status: json(&dir.join("status.json"))?,
            extended: of_state(&state, "extended")?.unwrap_or_default(),
            tuned: of_state(&state, "tuned")?,
            steps,
            bad_lines,
        })
    }

    /// A setting, by its dotted key.
    pub(super) fn setting(&self, key: &str) -> Option<&toml::Value> {
        let mut parts = key.split('.');
        let first = self.config.get(parts.next()?)?;
        parts.try_fold(first, |value, part| value.get(part))
    }

    /// A setting that is a number.
    pub(super) fn number(&self, key: &str) -> Option<f64> {
        let value = self.setting(key)?;
        value.as_float().or_else(|| value.as_integer().map(|i| i as f64))
    }

    /// All settings by their dotted keys, without quotes.
    pub(super) fn settings(&self) -> BTreeMap<String, String> {
        config::flat(&self.config)
    }

    /// A setting that is a word.
    pub(super) fn word(&self, key: &str) -> Option<&str> {
        self.setting(key)?.as_str()
    }

    /// The method; that of older runs is MoCo.
    pub(super) fn method(&self) -> Method {
        self.word("method").and_then(|name| name.parse().ok()).unwrap_or(Method::Moco)
    }

    /// The section of the method's constants.
    pub(super) fn section(&self) -> &'static str {
        self.method().section()
    }

    /// Embeddings in the method's queue.
    pub(super) fn queue(&self) -> Option<f64> {
        self.number(&format!("{}.queue", self.section()))
    }

    /// Numbers of an embedding.
    pub(super) fn dim(&self) -> Option<f64> {
        self.number(&format!("{}.dim", self.section()))
    }

    /// The preset, where the settings have one that is known.
    fn preset(&self) -> Option<Space> {
        self.setting("preset")?.clone().try_into().ok()
    }

    /// Its name; of an unknown one what stands there.
    pub(super) fn space_name(&self) -> Option<String> {
        let unknown = || self.word("preset").map(str::to_owned);
        self.preset().map(|space| space.name).or_else(unknown)
    }

    /// The search space.
    pub(super) fn space(&self) -> Option<Space> {
        let space = self.preset()?;
        let only = self.word("sampling.arch").and_then(|id| id.parse().ok());
        Some(only.map_or_else(|| space.clone(), |arch| space.single(&arch)))
    }

    /// What it was fine-tuned for, if its images are annotated.
    pub(super) fn dense_task(&self) -> Option<Task> {
        let task: Task = self.tuned.as_ref()?.task.parse().ok()?;
        (task != Task::Cls).then_some(task)
    }

    /// Loss of a step: of one with several students or classifiers the mean over these, of one on
    /// annotated images the sum of its parts.
    pub(super) fn loss(&self, step: &Step) -> Option<f64> {
        let (sum, count) = step.losses()?;
        Some(if self.dense_task().is_some() { sum } else { sum / count as f64 })
    }

    /// Steps done.
    pub(super) fn steps_done(&self) -> u64 {
        // The first step has index 0.
        self.steps.last().and_then(|s| s.step).map_or(0, |s| s.max(0.0) as u64 + 1)
    }

    /// Name for headings: the folder's own.
    pub(super) fn name(&self) -> String {
        folder_name(&self.dir)
    }
}

/// The last part of a path, also where it is written as `.`.
pub(super) fn folder_name(dir: &Path) -> String {
    let full = dir.canonicalize().unwrap_or_else(|_| dir.to_path_buf());
    full.file_name().unwrap_or(full.as_os_str()).to_string_lossy().into_owned()
}

/// What a checkpoint's `state.json` has under a key; none where it has not.
fn of_state<T: DeserializeOwned>(path: &Path, key: &str) -> Result<Option<T>> {
    let found = json(path)?.get_mut(key).map(Value::take);
    let read = |found| {
        serde_json::from_value(found)
            .map_err(|e| Error::data(format!("{}: {key}: {e}", path.display())))
    };
    found.map(read).transpose()
}

/// A text file, or nothing where there is none.
fn text(path: &Path) -> Result<String> {
    match fs::read(path) {
        Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(String::new()),
        Err(e) => Err(Error::read(path, e)),
    }
}

/// A JSON file, or null where there is none.
pub(super) fn json(path: &Path) -> Result<Value> {
    let text = text(path)?;
    if text.is_empty() {
        return Ok(Value::Null);
    }
    serde_json::from_str(&text)
        .map_err(|e| Error::data(format!("{} is not JSON: {e}", path.display())))
}

/// Folders inside `dir`, by name; none where `dir` does not exist.
pub(super) fn folders(dir: &Path) -> Result<Vec<PathBuf>> {
    entries(dir, |p| p.is_dir())
}

/// Files inside `dir` with this extension, by name; none where `dir` does not exist.
pub(super) fn files_with(dir: &Path, extension: &str) -> Result<Vec<PathBuf>> {
    entries(dir, |p| p.is_file() && p.extension().is_some_and(|e| e == extension))
}

fn entries(dir: &Path, wanted: impl Fn(&Path) -> bool) -> Result<Vec<PathBuf>> {
    let list = match fs::read_dir(dir) {
        Ok(list) => list,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(Error::read(dir, e)),
    };
    let mut found = Vec::new();
    for entry in list {
        let path = entry.map_err(|e| Error::read(dir, e))?.path();
        if wanted(&path) {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_folder_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let err = Run::open(dir.path()).err().unwrap();
        assert_eq!(err.kind(), crate::Kind::Data);
    }
}
