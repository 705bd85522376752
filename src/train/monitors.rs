//! What shows a run elsewhere while it goes on: TensorBoard's event files and Prometheus's text
//! file. `metrics.jsonl` and `status.json` hold all of it: where the disk refuses one of these, the
//! run says so once and goes on without it.

use std::path::{Path, PathBuf};

use super::events::Events;
use super::folder::{Status, StepFacts};
use super::health::Health;
use super::objective::Report;
use crate::config::Log;
use crate::error::{Error, Result};
use crate::files;

/// The monitors of a run.
pub(super) struct Monitors {
    tensorboard: Option<Events>,
    prometheus: Option<PathBuf>,
    /// The run's folder, as Prometheus's label.
    run: String,
    complaints: Vec<String>,
}

impl Monitors {
    /// Those that the settings ask for, for a run in a folder from a step on.
    pub(super) fn begin(log: &Log, run: &Path, first_step: u64) -> Self {
        let mut monitors = Self {
            tensorboard: None,
            prometheus: log.prometheus.0.as_ref().map(PathBuf::from),
            run: run.display().to_string(),
            complaints: Vec::new(),
        };
        if log.tensorboard {
            let events = Events::begin(run, first_step);
            monitors.tensorboard = monitors.unless_refused("TensorBoard's file", events);
        }
        monitors
    }

    /// Adds a logged step to TensorBoard's file, always with the same tags.
    pub(super) fn step(&mut self, f: &StepFacts, r: &Report) {
        let Some(events) = &self.tensorboard else { return };
        let mut values = vec![("loss", r.loss)];
        // In pretraining the first student is the largest net.
        values.extend(r.losses.first().map(|(_, loss)| ("loss_first", *loss)));
        values.extend([("lr", f.lr), ("grad_norm", r.grad_norm)]);
        values.extend(r.embeddings.iter().map(|e| ("feature_std", e.student.std)));
        values.extend([("images_per_s", f.images_per_s), ("data_wait_ms", f.data_wait_ms)]);
        let added = events.add(f.step, &values);
        if self.unless_refused("TensorBoard's file", added).is_none() {
            self.tensorboard = None;
        }
    }

    /// Writes Prometheus's file, whole, beside `status.json`.
    pub(super) fn status(&mut self, status: &Status) {
        let Some(path) = self.prometheus.clone() else { return };
        let written = files::write_text(&path, &gauges(status, &self.run));
        if self.unless_refused("Prometheus's file", written).is_none() {
            self.prometheus = None;
        }
    }

    /// What is to be said since it was last asked.
    pub(super) fn complaints(&mut self) -> Vec<String> {
        std::mem::take(&mut self.complaints)
    }

    fn unless_refused<T>(&mut self, what: &str, result: Result<T>) -> Option<T> {
        let complaint =
            |e: Error| format!("{what} is not written any more, the run goes on without it: {e}");
        result.map_err(|e| self.complaints.push(complaint(e))).ok()
    }
}

/// The status as gauges, in Prometheus's text format; what is not known is left out.
fn gauges(s: &Status, run: &str) -> String {
    let health = s.health.map(|health| match health {
        Health::Healthy => 0.0,
        Health::Narrow => 1.0,
        Health::Collapsing => 2.0,
        Health::Collapsed => 3.0,
    });
    let running = if s.state == "running" { 1.0 } else { 0.0 };
    let gauges = [
        ("engine_running", "Whether the run goes on.", Some(running)),
        ("engine_step", "Steps done.", Some(s.step as f64)),
        ("engine_steps", "Steps of the whole run.", Some(s.steps as f64)),
        ("engine_eta_seconds", "Seconds to go.", s.eta_s),
        ("engine_loss", "Newest loss, summed over the students.", s.loss),
        ("engine_images_per_second", "Images per second of late.", s.images_per_s),
        ("engine_spread", "Spread of the embeddings.", s.spread),
        ("engine_rank", "Rank of the embeddings.", s.rank),
        ("engine_health", "0 healthy, 1 narrow, 2 collapsing, 3 collapsed.", health),
        ("engine_replaced_images", "Images that could not be read.", Some(s.replaced as f64)),
    ];
    let run = run.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    let known = gauges.into_iter().filter_map(|(name, help, value)| Some((name, help, value?)));
    known
        .map(|(name, help, value)| {
            format!("# HELP {name} {help}\n# TYPE {name} gauge\n{name}{{run=\"{run}\"}} {value}\n")
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::config::OrNone;

    fn text(path: &Path) -> String {
        path.display().to_string()
    }

    fn status() -> Status {
        Status {
            state: "running",
            step: 12,
            steps: 400,
            eta_s: Some(61.5),
            loss: Some(7.25),
            spread: None,
            rank: Some(3.5),
            health: Some(Health::Narrow),
            images_per_s: Some(512.0),
            probe: None,
            replaced: 0,
            last_checkpoint: None,
            pid: 1,
        }
    }

    #[test]
    fn gauges_are_prometheus_text() {
        let text = gauges(&status(), "runs/a \"b\"");
        let values: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
        assert_eq!(values.len(), 9, "{text}");
        assert!(values.contains(&"engine_loss{run=\"runs/a \\\"b\\\"\"} 7.25"), "{text}");
        assert!(values.contains(&"engine_health{run=\"runs/a \\\"b\\\"\"} 1"), "{text}");
        assert!(text.contains("# TYPE engine_eta_seconds gauge\n") && !text.contains("spread"));
    }

    #[test]
    fn a_disk_that_refuses_is_said_once() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("tb"), "a file").unwrap();
        let prometheus = OrNone(Some(text(&dir.path().join("nowhere/a.prom"))));
        let log = Log { every: 1, tensorboard: true, prometheus };
        let mut monitors = Monitors::begin(&log, dir.path(), 0);
        let said = monitors.complaints();
        assert!(said.len() == 1 && said[0].contains("goes on without it"), "{said:?}");
        monitors.status(&status());
        assert_eq!(monitors.complaints().len(), 1);
        monitors.status(&status());
        assert_eq!(monitors.complaints().len(), 0);
        let file = dir.path().join("a.prom");
        let log = Log { tensorboard: false, prometheus: OrNone(Some(text(&file))), ..log };
        let mut monitors = Monitors::begin(&log, dir.path(), 0);
        monitors.status(&status());
        assert!(fs::read_to_string(file).unwrap().contains("engine_step{run="));
        assert_eq!(monitors.complaints().len(), 0);
    }
}
