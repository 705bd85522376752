//! A run's folder: what it was started with, where it stands, and what it measured.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::health::Health;
use super::objective::{Embeddings, Report};
use crate::config::Precision;
use crate::cx::Cx;
use crate::device::host;
use crate::error::{Error, Result};
use crate::files::owned::{Kind, Owned};
use crate::files::{self, disk, for_each_line};
use crate::outside::harmless;
use crate::version::version;

/// What a run says.
const LOG: &str = "train.log";

/// What steps measured.
const METRICS: &str = "metrics.jsonl";

/// What probes found.
pub(super) const PROBES: &str = "probe.jsonl";

/// The folder of a run, open for writing.
pub struct Folder {
    owned: Arc<Owned>,
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
    /// Images per second of late.
    pub images_per_s: Option<f64>,
    /// The newest probe: the last line of `probe.jsonl`.
    pub probe: Option<Value>,
    /// Images that could not be read since the process began, each replaced by another.
    pub replaced: usize,
    /// Folder of the newest checkpoint.
    pub last_checkpoint: Option<String>,
    /// Process that writes this.
    pub pid: u32,
}

/// What a line of `metrics.jsonl` holds beside the iteration's report.
pub struct StepFacts {
    /// Index of the step.
    pub step: u64,
    /// Epochs done, with a fraction.
    pub epoch: f64,
    /// Seconds of training, over all resumes.
    pub time_s: f64,
    /// Learning rate.
    pub lr: f64,
    /// Images per second of this step.
    pub images_per_s: f64,
    /// How long the step waited for its images.
    pub data_wait_ms: f64,
    /// Bytes of tensors at their peak.
    pub device_mem_bytes: usize,
    /// The verdict on the steps up to this one.
    pub health: Health,
}

/// Files of a run's folder, those of other verbs included.
pub const RUN_FILES: &[&str] = &[
    "config.toml",
    "cmd.txt",
    "env.json",
    LOG,
    "status.json",
    "tb/events.out.tfevents.*",
    METRICS,
    PROBES,
    "report.html",
    "comparison.html",
    "tuned.json",
    "tuned.safetensors",
    "grid.json",
    "checkpoints/last",
    "checkpoints/step-*/*.safetensors",
    "checkpoints/step-*/state.json",
    "checkpoints/step-*/DONE",
    "checkpoints/.step-*.part/*",
    "examples/*.png",
    "eval/*.json",
    "masks/*.png",
    "detections.json",
    "eval/baselines/*.json",
    "eval/details/*.json",
    "search/*/.engine",
    "search/*/search.json",
    "search/*/teacher.json",
    "search/*/candidates.jsonl",
    "search/*/scores.f64",
    "search/*/latency.json",
    "search/*/winners.json",
    "search/*/agreement.json",
    "search/*/report.html",
];

/// A run's folder as [`crate::files::owned`] sees it.
pub static RUN: Kind = Kind {
    name: "run",
    ours: &[RUN_FILES],
    flags: "--resume to continue the run in it, --overwrite to delete it",
    is_older: |root| root.join(METRICS).is_file() && root.join("checkpoints").is_dir(),
};

impl Folder {
    /// Continues in a folder that is this process's: `metrics.jsonl` is cut to the steps before
    /// `first_step`, so that it holds each step once, and `probe.jsonl` to the probes that came
    /// before that step began. Gives what the log is to say of lines that are damaged or missing.
    pub fn open(owned: Arc<Owned>, first_step: u64) -> Result<(Self, Vec<String>)> {
        let root = owned.root();
        let metrics = root.join(METRICS);
        let mut said = keep_steps_before(&metrics, first_step, true)?;
        // A probe's step counts the steps done; at step 0 the run begins again as a whole.
        let probes = if first_step == 0 { 0 } else { first_step + 1 };
        said.extend(keep_steps_before(&root.join(PROBES), probes, false)?);
        let append =
            |path: &Path| disk::append(path).map_err(|e| Error::write(path, files::disk_hint(&e)));
        let (metrics, log) = (append(&metrics)?, append(&root.join(LOG))?);
        Ok((Self { owned, metrics, log }, said))
    }

    /// The folder itself.
    pub fn root(&self) -> &Path {
        self.owned.root()
    }

    /// Where its checkpoints are.
    pub fn checkpoints(&self) -> PathBuf {
        self.root().join("checkpoints")
    }

    /// Writes what the run was started with.
    pub fn write_origin(&self, cx: &Cx, config_toml: &str, command: &str) -> Result<()> {
        files::write_text(&self.root().join("config.toml"), config_toml)?;
        files::write_text(&self.root().join("cmd.txt"), &format!("{command}\n"))?;
        files::write_json(&self.root().join("env.json"), &environment(cx))
    }

    /// Writes `status.json`.
    pub fn write_status(&self, status: &Status) -> Result<()> {
        files::write_json(&self.root().join("status.json"), status)
    }

    /// Logs a line on stderr and in `train.log`.
    pub fn log(&mut self, line: &str) -> Result<()> {
        tracing::info!("{line}");
        self.log_to_file(line)
    }

    /// Logs a line in `train.log` only, where each line begins with the time, in UTC.
    pub fn log_to_file(&mut self, line: &str) -> Result<()> {
        let path = self.root().join(LOG);
        let now = humantime::format_rfc3339_seconds(SystemTime::now());
        let stamped = |line: &str| format!("{now} {line}\n");
        let text: String = harmless(line).to_string().lines().map(stamped).collect();
        self.log.write_all(text.as_bytes()).map_err(|e| Error::write(&path, files::disk_hint(&e)))
    }

    /// Adds a step's line to `metrics.jsonl`, with what a `test` before it found.
    pub fn write_metrics(
        &mut self,
        f: &StepFacts,
        r: &Report,
        test: Option<Map<String, Value>>,
    ) -> Result<()> {
        let losses: Map<String, Value> =
            r.losses.iter().map(|(name, loss)| (name.clone(), json!(loss))).collect();
        let archs: Vec<String> = r.archs.iter().map(ToString::to_string).collect();
        let mut line = json!({
            "step": f.step, "epoch": f.epoch, "time_s": f.time_s,
            "loss": r.loss, "losses": losses, "archs": archs, "lr": f.lr,
        });
        let mut extend = |more: Value| {
            if let (Value::Object(line), Value::Object(more)) = (&mut line, more) {
                line.extend(more);
            }
        };
        if let Some(ema) = r.ema {
            extend(json!({ "ema": ema }));
        }
        extend(json!({ "grad_norm": r.grad_norm }));
        if let Some(test) = test {
            extend(json!({ "eval": test }));
        }
        if let Some(Embeddings { student, teacher }) = &r.embeddings {
            extend(json!({
                "feature_std": student.std, "spread": student.spread, "rank": student.rank,
                "teacher_spread": teacher.spread, "teacher_rank": teacher.rank,
                "health": f.health,
            }));
        }
        if !r.signs.is_empty() {
            let signs = r.signs.iter().map(|sign| (sign.name.to_owned(), json!(sign.value)));
            extend(json!({ "signs": signs.collect::<Map<_, _>>() }));
        }
        extend(json!({
            "images_per_s": f.images_per_s, "data_wait_ms": f.data_wait_ms,
            "device_mem_bytes": f.device_mem_bytes,
        }));
        let path = self.root().join(METRICS);
        // One write call a line: a killed run leaves whole lines.
        let line = format!("{line}\n");
        disk::write_all(&self.metrics, &path, line.as_bytes())
            .map_err(|e| Error::write(&path, files::disk_hint(&e)))
    }

    /// Makes the lines that were added to `metrics.jsonl` last: before the checkpoint that is to
    /// continue them.
    pub fn sync_metrics(&self) -> Result<()> {
        let path = self.root().join(METRICS);
        disk::sync(&self.metrics, &path).map_err(|e| Error::write(&path, files::disk_hint(&e)))
    }
}

/// Cuts a JSON-lines file to the lines whose `step` is below `first`. Damaged lines go too, and
/// with them nothing else. Gives a warning for those and, where there is to be a line for `each`
/// step, for the steps that are missing.
fn keep_steps_before(path: &Path, first: u64, each: bool) -> Result<Vec<String>> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let mut lines: Vec<(usize, Option<u64>)> = Vec::new();
    for_each_line(path, |line| {
        lines.push((line.len(), step_of(line)));
        Ok(())
    })
    .map_err(|e| Error::read(path, e))?;
    let (mut keep, mut damaged, mut missing) = (vec![false; lines.len()], 0, Vec::new());
    let (mut next, mut following) = (0, vec![None; lines.len()]);
    for i in (1..lines.len()).rev() {
        following[i - 1] = lines[i].1.or(following[i]);
    }
    for (i, (_, step)) in lines.iter().enumerate() {
        match *step {
            // Steps rise: where they fall, the line that the next one contradicts is wrong.
            Some(step) if step >= next && following[i].is_none_or(|f| f > step || f < next) => {
                if step >= first {
                    continue;
                }
                if step > next {
                    missing.push((next, step - 1));
                }
                keep[i] = true;
                next = step + 1;
            }
            // The last line may have been cut by a kill: that is no damage.
            None if i + 1 == lines.len() => {}
            _ => damaged += 1,
        }
    }
    if next < first {
        missing.push((next, first - 1));
    }
    let kept = keep.iter().take_while(|keep| **keep).count();
    let failed = |e: std::io::Error| Error::write(path, files::disk_hint(&e));
    if keep[kept..].contains(&true) {
        let mut keep = keep.iter();
        files::write_atomic(path, |out| {
            for_each_line(path, |line| match keep.next() {
                Some(true) => out.write_all(line),
                _ => Ok(()),
            })
        })?;
    } else if kept < lines.len() {
        let file = OpenOptions::new().write(true).open(path).map_err(failed)?;
        let bytes = lines[..kept].iter().map(|(bytes, _)| *bytes as u64).sum();
        disk::set_len(&file, path, bytes).map_err(failed)?;
    }
    let mut said = Vec::new();
    if damaged > 0 {
        said.push(format!("warning: {name} held {damaged} damaged lines, which are gone"));
    }
    if each && !missing.is_empty() {
        let spans =
            missing.iter().map(|(a, b)| if a == b { a.to_string() } else { format!("{a} to {b}") });
        let spans = spans.collect::<Vec<_>>().join(", ");
        said.push(format!("warning: {name} lacks steps {spans}; the run itself lacks nothing"));
    }
    Ok(said)
}

/// The `step` of a whole line; none where it is damaged.
fn step_of(line: &[u8]) -> Option<u64> {
    let line = line.strip_suffix(b"\n")?;
    serde_json::from_slice::<Value>(line).ok()?["step"].as_u64()
}

/// What the run ran on.
pub fn environment(cx: &Cx) -> Value {
    let mut env = BTreeMap::new();
    env.insert("engine", json!(version()));
    env.insert("os", json!(std::env::consts::OS));
    env.insert("machine", json!(std::env::consts::ARCH));
    env.insert("cpu", json!(host::cpu_model()));
    env.insert("cores", json!(host::cores()));
    env.insert("compute_threads", json!(cx.threads()));
    env.insert("device", json!(cx.name()));
    env.insert("precision", json!(Precision::of(cx.compute_dtype())));
    json!(env)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn cut(text: &str, first: u64) -> (String, Vec<String>) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(METRICS);
        fs::write(&path, text).unwrap();
        let said = keep_steps_before(&path, first, true).unwrap();
        (fs::read_to_string(&path).unwrap(), said)
    }

    fn lines(steps: &[u64]) -> String {
        steps.iter().map(|step| format!("{{\"step\":{step}}}\n")).collect()
    }

    #[test]
    fn metrics_are_cut_to_the_resumed_step() {
        let (text, said) = cut(&(lines(&[0, 1, 2]) + "{\"st"), 2);
        assert_eq!((text, said), (lines(&[0, 1]), Vec::new()));
        let (text, said) = cut(&(lines(&[0, 1]) + "{\"st"), 2);
        assert_eq!((text, said), (lines(&[0, 1]), Vec::new()));
    }

    #[test]
    fn a_damaged_line_takes_no_other_with_it() {
        let damaged = lines(&[0, 1]) + "\0\0{\n" + &lines(&[3, 4, 5]);
        let (text, said) = cut(&damaged, 5);
        assert_eq!(text, lines(&[0, 1, 3, 4]));
        assert!(said[0].contains("1 damaged") && said[1].contains("lacks steps 2;"), "{said:?}");
        // A step that became another number, and one that is there twice.
        for wrong in [vec![0, 1, 9, 3, 4], vec![0, 1, 0, 3, 4]] {
            let (text, said) = cut(&lines(&wrong), 9);
            assert_eq!(text, lines(&[0, 1, 3, 4]));
            assert!(said[1].contains("lacks steps 2, 5 to 8;"), "{said:?}");
        }
        let dir = tempfile::tempdir().unwrap();
        let said = keep_steps_before(&dir.path().join(METRICS), 3, true).unwrap();
        assert!(said[0].contains("lacks steps 0 to 2"), "{said:?}");
    }
}
