//! A run's folder: what it was started with, where it stands, and what it measured.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::health::Health;
use super::iteration::Report;
use crate::config::Precision;
use crate::device::Cx;
use crate::error::{Error, Result};
use crate::files;
use crate::space::Arch;

/// What a run says, and the file by whose lock its folder belongs to one process.
const LOG: &str = "train.log";

/// What probes found.
pub(super) const PROBES: &str = "probe.jsonl";

/// The folder of a run, open for writing.
pub struct Folder {
    root: PathBuf,
    metrics: File,
    log: File,
}

/// `status.json`.
#[derive(Clone, Debug, Serialize)]
pub struct Status {
    /// `running`, `stopped` (can be resumed), `diverged`, `failed` or `done`.
    pub state: &'static str,
    /// Steps done.
    pub step: u64,
    /// Steps of the whole run.
    pub steps: u64,
    /// Seconds still to go, as far as can be told.
    pub eta_s: Option<f64>,
    /// Newest loss, summed over the students.
    pub loss: Option<f64>,
    /// Newest spread of the first student's embeddings.
    pub spread: Option<f64>,
    /// Newest rank of the first student's embeddings.
    pub rank: Option<f64>,
    /// The verdict on student and teacher; none before the first step.
    pub health: Option<Health>,
    /// Pictures per second of late.
    pub images_per_s: Option<f64>,
    /// The newest probe: the last line of `probe.jsonl`.
    pub probe: Option<Value>,
    /// Pictures that could not be read since the process began, each replaced by another.
    pub replaced: usize,
    /// Folder of the newest checkpoint.
    pub last_checkpoint: Option<String>,
    /// Process that writes this.
    pub pid: u32,
}

/// What a line of `metrics.jsonl` holds beside the iteration's report.
pub struct StepFacts<'a> {
    /// Index of the step.
    pub step: u64,
    /// Epochs done, with a fraction.
    pub epoch: f64,
    /// Seconds of training, over all resumes.
    pub time_s: f64,
    /// The students.
    pub archs: &'a [Arch],
    /// Learning rate.
    pub lr: f64,
    /// Pictures per second of this step.
    pub images_per_s: f64,
    /// How long the step waited for its pictures.
    pub data_wait_ms: f64,
    /// Bytes of tensors at their peak.
    pub device_mem_bytes: usize,
    /// The verdict on the steps up to this one.
    pub health: Health,
}

impl Folder {
    /// Makes the folder, or continues in it: `metrics.jsonl` is cut to the steps before
    /// `first_step`, so that it holds each step once, and `probe.jsonl` to the probes that came
    /// before that step began. The folder is this process's until it is
    /// dropped.
    pub fn open(root: &Path, first_step: u64) -> Result<Self> {
        files::create_dir(root)?;
        let metrics = root.join("metrics.jsonl");
        keep_steps_before(&metrics, first_step)?;
        // A probe's step counts the steps done; at step 0 the run begins again as a whole.
        let probes = if first_step == 0 { 0 } else { first_step + 1 };
        keep_steps_before(&root.join(PROBES), probes)?;
        let append = |path: &Path| {
            let file = OpenOptions::new().create(true).append(true).open(path);
            file.map_err(|e| Error::write(path, files::disk_hint(&e)))
        };
        let log = append(&root.join(LOG))?;
        lock(&log, root)?;
        Ok(Self { root: root.to_path_buf(), metrics: append(&metrics)?, log })
    }

    /// Exit 2 where this is no folder, or another process trains in it.
    pub fn expect_free(root: &Path) -> Result<()> {
        if root.exists() && !root.is_dir() {
            return Err(Error::usage(format!(
                "--out {} is not a folder: give the folder of a run, or a new name",
                root.display()
            )));
        }
        File::open(root.join(LOG)).map_or(Ok(()), |log| lock(&log, root))
    }

    /// The folder itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where its checkpoints are.
    pub fn checkpoints(&self) -> PathBuf {
        self.root.join("checkpoints")
    }

    /// Writes what the run was started with.
    pub fn write_origin(&self, cx: &Cx, config_toml: &str, command: &str) -> Result<()> {
        files::write_text(&self.root.join("config.toml"), config_toml)?;
        files::write_text(&self.root.join("cmd.txt"), &format!("{command}\n"))?;
        files::write_json(&self.root.join("env.json"), &environment(cx))
    }

    /// Writes `status.json`.
    pub fn write_status(&self, status: &Status) -> Result<()> {
        files::write_json(&self.root.join("status.json"), status)
    }

    /// Says something on stderr's log and in `train.log`.
    pub fn say(&mut self, line: &str) -> Result<()> {
        tracing::info!("{line}");
        self.note(line)
    }

    /// Says something in `train.log` only.
    pub fn note(&mut self, line: &str) -> Result<()> {
        let path = self.root.join(LOG);
        writeln!(self.log, "{line}").map_err(|e| Error::write(&path, files::disk_hint(&e)))
    }

    /// Adds a step's line to `metrics.jsonl`.
    pub fn write_metrics(&mut self, f: &StepFacts, r: &Report) -> Result<()> {
        let mut losses = Map::new();
        for (arch, loss) in f.archs.iter().zip(&r.losses) {
            losses.insert(arch.to_string(), json!(loss));
        }
        let archs: Vec<String> = f.archs.iter().map(ToString::to_string).collect();
        let line = json!({
            "step": f.step, "epoch": f.epoch, "time_s": f.time_s,
            "loss": r.loss, "losses": losses, "archs": archs,
            "lr": f.lr, "ema": r.ema, "grad_norm": r.grad_norm,
            "feature_std": r.student.std, "spread": r.student.spread, "rank": r.student.rank,
            "teacher_spread": r.teacher.spread, "teacher_rank": r.teacher.rank,
            "health": f.health,
            "images_per_s": f.images_per_s, "data_wait_ms": f.data_wait_ms,
            "device_mem_bytes": f.device_mem_bytes,
        });
        let path = self.root.join("metrics.jsonl");
        // One write call a line: a killed run leaves whole lines.
        let line = format!("{line}\n");
        self.metrics
            .write_all(line.as_bytes())
            .map_err(|e| Error::write(&path, files::disk_hint(&e)))
    }
}

/// Takes the lock of a run's log, which lasts as long as the file is open.
fn lock(log: &File, root: &Path) -> Result<()> {
    match log.try_lock() {
        Err(TryLockError::WouldBlock) => Err(Error::usage(format!(
            "another process trains in {} (its pid is in status.json): stop it first, or give \
             another --out",
            root.display()
        ))),
        // Some file systems have no locks.
        Ok(()) | Err(TryLockError::Error(_)) => Ok(()),
    }
}

/// Cuts a JSON-lines file to the lines whose `step` is below `first`; whatever is not a whole
/// line goes.
fn keep_steps_before(path: &Path, first: u64) -> Result<()> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(Error::read(path, e)),
    };
    let mut kept = 0;
    let mut reader = BufReader::new(file);
    let mut line = String::new();
    loop {
        line.clear();
        // A line that is not UTF-8 is no line of ours.
        let Ok(bytes) = reader.read_line(&mut line) else { break };
        let step = serde_json::from_str::<Value>(&line).ok().and_then(|v| v["step"].as_u64());
        if bytes == 0 || !line.ends_with('\n') || step.is_none_or(|s| s >= first) {
            break;
        }
        kept += bytes as u64;
    }
    let out = OpenOptions::new().write(true).open(path).map_err(|e| Error::write(path, e))?;
    out.set_len(kept).map_err(|e| Error::write(path, e))
}

/// What the run ran on.
pub fn environment(cx: &Cx) -> Value {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let cpu = cpuinfo.lines().find_map(|l| l.strip_prefix("model name")?.split_once(':'));
    let mut env = BTreeMap::new();
    env.insert("engine", json!(env!("CARGO_PKG_VERSION")));
    env.insert("os", json!(std::env::consts::OS));
    env.insert("machine", json!(std::env::consts::ARCH));
    env.insert("cpu", json!(cpu.map(|(_, name)| name.trim())));
    env.insert("cores", json!(crate::device::host::cores()));
    env.insert("compute_threads", json!(cx.threads()));
    env.insert("device", json!(cx.name()));
    env.insert("precision", json!(Precision::of(cx.operands())));
    json!(env)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_cut_to_the_resumed_step() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("metrics.jsonl");
        fs::write(&path, "{\"step\":0}\n{\"step\":1}\n{\"step\":2}\n{\"st").unwrap();
        keep_steps_before(&path, 2).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "{\"step\":0}\n{\"step\":1}\n");
        keep_steps_before(&path, 9).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "{\"step\":0}\n{\"step\":1}\n");
    }
}
