//! How long every piece of work takes: on a GPU by its own clock, on the CPU by the host's.

use std::time::Instant;

use serde_json::{Value, json};

use super::machine;
use super::peaks::Floor;
use super::row::{self, MOST_NOISE, NOISY, noise, quantile};
use super::shapes::Used;
use crate::cx::Cx;
use crate::device::Backend;
use crate::device::peaks::Peaks;
use crate::error::Result;
use crate::ops::work::{Ready, Work};
use crate::program::output::fitting_table;
use crate::space::Arch;

/// What the cache is taken to hold where the device does not tell: more than a GPU's second level,
/// less than the third level of large CPUs, which may keep buffers from run to run.
const CACHE_BYTES: usize = 64 << 20;
/// Most sets of buffers; work on less than a few kilobytes then finds them in the cache.
const MOST_SETS: u64 = 4096;
/// Bytes of all sets after which no more are made: those of work that reads a little of much.
const MOST_SET_BYTES: usize = 512 << 20;
/// A sample is of at least so many runs on a GPU, so that starting the first weighs little.
const LEAST_RUNS: usize = 4;
/// Samples before the first that counts, and the fewest that do.
const WARM_UP: usize = 2;
const LEAST_SAMPLES: usize = 5;
/// The last third of the samples may take longer than the first by so much, and by the noise.
const DRIFT: f64 = 0.05;
/// Rows are marked that reach less of their floor.
const MARK_SHARE: f64 = 0.5;

/// How to time.
pub(super) struct How {
    /// Samples of each row.
    pub samples: usize,
    /// Seconds after which a row has samples enough.
    pub seconds: f64,
    /// Whether a profiler is told when the measured part begins and ends.
    pub profile: bool,
    /// The device's peak figures.
    pub peaks: Peaks,
}

/// Work, and how long it takes.
pub(super) struct Timed {
    /// The work.
    pub used: Used,
    /// Of each sample, in order.
    pub samples_ms: Vec<f64>,
    /// The buffers together are smaller than twice the cache.
    cached: bool,
    /// Bytes of all buffers that runs take turns on, at least.
    turns_bytes: u64,
    floor: Option<Floor>,
}

/// Runs and times all work.
pub(super) fn all(cx: &Cx, all: Vec<Used>, how: &How) -> Result<Vec<Timed>> {
    let one = |used: Used| {
        let timed = cx.install(|| samples(cx, &used.work, how));
        let (samples_ms, cached) = timed.map_err(|e| e.context(used.work.name.clone()))?;
        let (floor, turns_bytes) = (how.peaks.floor(&used.work), turns_bytes(cx));
        Ok(Timed { used, samples_ms, cached, turns_bytes, floor })
    };
    all.into_iter().map(one).collect()
}

/// Bytes of buffers that fill the device's cache twice.
fn turns_bytes(cx: &Cx) -> u64 {
    let known = match cx.backend() {
        Backend::Driver(driver) => driver.hardware().l2_bytes,
        _ => None,
    };
    2 * known.unwrap_or(CACHE_BYTES) as u64
}

/// Milliseconds of a run by each sample; and whether the cache may hold all buffers.
fn samples(cx: &Cx, work: &Work, how: &How) -> Result<(Vec<f64>, bool)> {
    let (driver, least_runs) = match cx.backend() {
        Backend::Driver(driver) => (Some(driver.as_ref()), LEAST_RUNS),
        _ => (None, 1),
    };
    let wanted = turns_bytes(cx).div_ceil(work.bytes_floor.max(1)).max(1);
    let before = cx.memory().live_bytes;
    let mut ready: Vec<Ready> = vec![(work.prepare)(cx, 0)?];
    for seed in 1..wanted.min(MOST_SETS) {
        if cx.memory().live_bytes - before >= MOST_SET_BYTES {
            break;
        }
        ready.push((work.prepare)(cx, seed)?);
    }
    let runs = ready.len().max(least_runs);
    let sample = || -> Result<f64> {
        let mut queue: Vec<_> =
            (0..runs).map(|i| ready[i % ready.len()](cx)).collect::<Result<_>>()?;
        // Held, so that one run's output is not the next one's, still in the cache.
        let mut made = Vec::with_capacity(runs);
        let mut work = || queue.drain(..).try_for_each(|run| run(cx).map(|t| made.push(t)));
        let ms = match driver {
            Some(driver) => f64::from(driver.time_ms(&mut work)?),
            None => {
                let began = Instant::now();
                work()?;
                began.elapsed().as_secs_f64() * 1e3
            }
        };
        Ok(ms / runs as f64)
    };
    for _ in 0..WARM_UP {
        sample()?;
    }
    let _range = cx.range(&work.name);
    let all = machine::profiled(cx, how.profile, || {
        let (began, mut all) = (Instant::now(), Vec::new());
        while all.len() < LEAST_SAMPLES
            || all.len() < how.samples && began.elapsed().as_secs_f64() < how.seconds
        {
            all.push(sample()?);
        }
        Ok(all)
    })?;
    Ok((all, (ready.len() as u64) < wanted))
}

impl Timed {
    /// Milliseconds of a run.
    pub(super) fn median_ms(&self) -> f64 {
        quantile(&self.samples_ms, 0.5)
    }

    fn noise(&self) -> f64 {
        noise(&self.samples_ms)
    }

    /// Whether the device became slower on the way.
    fn drifts(&self) -> bool {
        let third = self.samples_ms.len() / 3;
        if third == 0 {
            return false;
        }
        let (first, last) =
            (&self.samples_ms[..third], &self.samples_ms[self.samples_ms.len() - third..]);
        let ratio = quantile(last, 0.5) / quantile(first, 0.5).max(f64::MIN_POSITIVE);
        ratio - 1.0 > self.noise().max(DRIFT)
    }

    fn is_noisy(&self) -> bool {
        self.noise() > MOST_NOISE
    }

    /// Milliseconds above the floor, or all where there is none, as often as all architectures
    /// together do it.
    fn loss_ms(&self) -> f64 {
        let above = self.median_ms() - self.floor.map_or(0.0, |floor| floor.ms);
        above * self.used.count().unwrap_or(1) as f64
    }

    fn tflops(&self) -> f64 {
        self.used.work.flops as f64 / (self.median_ms() * 1e9)
    }

    fn gbs(&self) -> f64 {
        self.used.work.bytes_floor as f64 / (self.median_ms() * 1e6)
    }

    fn share(&self) -> Option<f64> {
        self.floor.map(|floor| floor.ms / self.median_ms())
    }

    /// An entry of `benchmarks`. What is moved is not counted here: rates are of the least.
    pub(super) fn json(&self) -> Value {
        let Used { work, uses } = &self.used;
        json!({
            "name": work.name,
            "op": work.op,
            "shape": work.shape,
            "uses": uses,
            "bytes": null,
            "bytes_floor": work.bytes_floor,
            "flops": work.flops,
            "time_ms": self.median_ms(),
            "time_ms_min": quantile(&self.samples_ms, 0.0),
            "samples": self.samples_ms.len(),
            "noise": self.noise(),
            "slower_towards_the_end": self.drifts(),
            "in_cache": self.cached,
            "tflops": self.tflops(),
            "gbs": self.gbs(),
            "floor_ms": self.floor.map(|f| f.ms),
            "floor_share": self.share(),
            "bound": self.floor.map(|f| f.bound),
        })
    }

    /// Its row, called `name`.
    fn row(&self, name: &str) -> Vec<String> {
        let poor = self.share().is_some_and(|share| share < MARK_SHARE);
        let noisy = (self.is_noisy(), NOISY.0);
        let marks = [(poor, "*"), noisy, (self.drifts(), "~"), (self.cached, "c")];
        let tflops =
            if self.used.work.flops > 0 { format!("{:.2}", self.tflops()) } else { "".into() };
        vec![
            marks.iter().filter(|(on, _)| *on).map(|(_, mark)| *mark).collect(),
            name.to_owned(),
            self.used.count().map_or(String::new(), |n| n.to_string()),
            format!("{:.1}", 1e3 * self.median_ms()),
            format!("{:.1} %", 100.0 * self.noise()),
            tflops,
            format!("{:.1}", self.gbs()),
            self.floor.map_or(String::new(), |f| format!("{:.1}", 1e3 * f.ms)),
            self.share().map_or(String::new(), |s| format!("{:.0} %", 100.0 * s)),
            self.floor.map_or(String::new(), |f| f.bound.to_owned()),
        ]
    }
}

/// The table for people, and the sum of each architecture's passes.
pub(super) fn text(timed: &[Timed], archs: &[Arch]) -> String {
    let head =
        ["", "work", "uses", "us", "noise", "TFLOP/s", "GB/s", "floor us", "of floor", "bound"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    rows.extend(row::grouped(timed, |t| &t.used.work.name, |t, name| vec![t.row(name)]));
    if timed.iter().all(|t| t.floor.is_none()) {
        rows.iter_mut().for_each(|row| row.truncate(head.len() - 3));
    }
    let may_go = ["bound", "floor us", "GB/s", "TFLOP/s", "noise"];
    let mut out = fitting_table(&rows, &may_go);
    out.push('\n');
    for arch in archs {
        let of_arch = timed.iter().filter_map(|t| Some((t, *t.used.uses.get(arch)? as f64)));
        if of_arch.clone().next().is_none() {
            continue;
        }
        let ms: f64 = of_arch.clone().map(|(t, n)| n * t.median_ms()).sum();
        let floor: Option<f64> = of_arch.map(|(t, n)| t.floor.map(|f| n * f.ms)).sum();
        let floor = floor.map_or(String::new(), |f| format!(", at the floors {f:.2} ms"));
        out += &format!("{arch}: these rows, as often as it uses them: {ms:.2} ms{floor}\n");
    }
    out += &worst(timed);
    out += "\nus: median of the samples; noise: distance of their quartiles over it; GB/s: of the \
            least bytes\n";
    if let Some(bytes) = timed.iter().map(|t| t.turns_bytes).max() {
        let mib = bytes >> 20;
        out += &format!(
            "runs take turns on {mib} MiB of buffers, which a cache of that size would keep\n"
        );
    }
    let notes = [
        (
            timed.iter().any(|t| t.share().is_some_and(|s| s < MARK_SHARE)),
            "* reaches less than half of its floor",
        ),
        (timed.iter().any(Timed::is_noisy), NOISY.1),
        (
            timed.iter().any(Timed::drifts),
            "~ the last third of the samples took longer than the first by over 5 % and the noise: the\n  device may be throttling (its clocks are not watched)",
        ),
        (timed.iter().any(|t| t.cached), "c so little data that the cache held some of it"),
    ];
    for (_, note) in notes.iter().filter(|(on, _)| *on) {
        out += note;
        out.push('\n');
    }
    out
}

/// The rows that cost most above their floors.
fn worst(timed: &[Timed]) -> String {
    let has_floors = timed.iter().any(|t| t.floor.is_some());
    let column = if has_floors { "ms above the floor" } else { "ms" };
    let costs = timed.iter().map(|t| (t.used.work.name.as_str(), t.loss_ms())).collect();
    row::worst("cost", column, costs, |ms| format!("{ms:.3}"))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::bench::shapes;
    use crate::config::Config;
    use crate::device::emulator::Emulator;
    use crate::space::Space;
    use crate::tensor::DType;

    /// Through a driver, as on a GPU: every kind of work can be run again and again, on sets of
    /// buffers of its own.
    #[test]
    #[cfg_attr(not(feature = "emulator"), ignore = "needs the cargo feature emulator")]
    fn work_is_timed_through_a_driver() {
        let cx = Cx::device(Arc::new(Emulator::new(1).unwrap()), 1).unwrap();
        let (mut config, space) =
            (Config::for_preset("tiny").unwrap(), Space::preset("tiny").unwrap());
        (config.train.batch, config.moco.queue) = (2, 64);
        let all = shapes::all(&config, &space, &[space.min()], &[DType::BF16]).unwrap();
        let mut ops = Vec::new();
        for used in all {
            let pass = used.work.name.split('/').nth(2).unwrap_or_default().to_owned();
            if ops.contains(&(used.work.op, pass.clone())) {
                continue;
            }
            ops.push((used.work.op, pass));
            let ready: Vec<Ready> =
                (0..2).map(|seed| (used.work.prepare)(&cx, seed).unwrap()).collect();
            for i in 0..4 {
                ready[i % 2](&cx).unwrap()(&cx).unwrap();
            }
        }
        assert!(ops.len() > 20, "{ops:?}");
        let peaks = Peaks { gbs: Some(1e6), ..Peaks::default() };
        let how = How { samples: 5, seconds: 0.0, profile: true, peaks };
        let all = shapes::all(&config, &space, &[space.min()], &[DType::F32]).unwrap();
        let one = |u: &Used| u.work.name.starts_with("batch_norm/2x16x16x32");
        let timed = super::all(&cx, all.into_iter().filter(one).take(1).collect(), &how).unwrap();
        let row = timed[0].json();
        assert!(row["time_ms"].as_f64() > Some(0.0) && row["samples"] == 5, "{row}");
        assert_eq!((&row["bound"], &row["in_cache"]), (&"memory".into(), &false.into()));
        assert!(text(&timed, &[space.min()]).contains("* reaches less than half"));
    }

    #[test]
    fn samples_that_become_slower_are_noticed() {
        let timed = |samples_ms: &[f64]| {
            let (config, space) =
                (Config::for_preset("tiny").unwrap(), Space::preset("tiny").unwrap());
            let used = shapes::all(&config, &space, &[], &[DType::F32]).unwrap().remove(0);
            Timed {
                used,
                samples_ms: samples_ms.to_vec(),
                cached: false,
                turns_bytes: 0,
                floor: None,
            }
        };
        assert!(timed(&[1.0, 1.0, 1.0, 1.01, 1.01, 1.01, 1.1, 1.1, 1.1]).drifts());
        let noisy = timed(&[1.0, 1.1, 1.0, 1.1, 1.0, 1.1]);
        assert!(!noisy.drifts() && noisy.noise() > 0.09);
        assert!(!timed(&[1.0, 1.2]).drifts());
    }

    #[test]
    fn what_costs_most_is_listed_and_what_is_noisy_is_marked() {
        let (config, space) = (Config::for_preset("tiny").unwrap(), Space::preset("tiny").unwrap());
        let all = shapes::all(&config, &space, &[], &[DType::F32]).unwrap();
        let timed = |(i, used): (usize, shapes::Used)| {
            let ms = if i == 3 { 50.0 } else { 1.0 };
            let samples_ms = if i == 4 { vec![1.0, 2.0, 1.0, 2.0] } else { vec![ms; 4] };
            Timed { used, samples_ms, cached: false, turns_bytes: 0, floor: None }
        };
        let timed: Vec<Timed> = all.into_iter().enumerate().map(timed).collect();
        let (largest, noisy) = (&timed[3].used.work.name, &timed[4].used.work.name);
        let text = text(&timed, &[]);
        let (table, list) = text.split_once("the 10 that cost most").unwrap();
        assert!(list.lines().nth(2).unwrap().starts_with(largest.as_str()), "{list}");
        let marked = |name: &str| {
            let (heading, rest) = row::split(name);
            let rows = table.lines().skip_while(|line| *line != heading).skip(1);
            let rows = rows.take_while(|line| line.starts_with([' ', '?']));
            rows.filter(|line| line.contains(rest)).any(|line| line.starts_with('?'))
        };
        assert!(marked(noisy) && !marked(largest), "{table}");
        assert!(
            list.contains("? too noisy to believe") && !super::text(&timed[..3], &[]).contains('?')
        );
    }
}
