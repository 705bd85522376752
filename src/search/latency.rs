//! Budgets of latency: architectures are drawn and their forward pass is timed on this
//! machine. Times are no function of the seed, so they are kept in the search's folder, and a
//! resumed search goes on with those.

use std::path::Path;
use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::plan::Group;
use crate::cx::Cx;
use crate::error::{Error, Result};
use crate::eval::progress::Progress;
use crate::files::sealed;
use crate::nn::{Feature, Params, Subnet, Supernet};
use crate::rng::{Philox, Purpose};
use crate::space::{Arch, Budget};
use crate::tensor::Shape;

pub(super) const FILE: &str = "latency.json";
/// Passes that are timed, after one that is not; the median counts.
const PASSES: usize = 7;
/// Architectures that are timed for each candidate that is wanted, at most.
const DRAWS: usize = 20;
/// Candidates of a budget where no number is given: all cannot be timed.
const SAMPLES: usize = 100;

/// One timed architecture.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Timed {
    arch: Arch,
    /// Forward pass of one image, stem to C5.
    latency_ns: u64,
}

/// The groups of some latency budgets: architectures are drawn uniformly and timed until
/// every budget has `samples`, or until twenty times as many were drawn. `known` is the folder
/// of a search that goes on.
///
/// # Errors
/// [`crate::Kind::Usage`] where no architecture that was timed lies in any budget.
pub fn groups(
    cx: &Cx,
    net: &Supernet,
    params: &Params,
    budgets: &[Budget],
    samples: Option<usize>,
    seed: u64,
    known: Option<&Path>,
) -> Result<(Vec<Group>, Times)> {
    let samples = samples.unwrap_or(SAMPLES);
    let timed: Vec<Timed> = match known.map(|dir| dir.join(FILE)).filter(|p| p.exists()) {
        Some(path) => sealed::read_json::<Times>(&path)?.timed,
        None => time(cx, net, params, budgets, samples, seed)?,
    };
    let group = |budget: &Budget| {
        let inside = timed.iter().filter(|t| budget.contains(t.latency_ns));
        let all: Vec<Arch> = inside.map(|t| t.arch).collect();
        Group {
            budget: budget.to_string(),
            metric: budget.metric,
            population: all.len(),
            archs: all.into_iter().take(samples).collect(),
        }
    };
    let groups: Vec<Group> = budgets.iter().map(group).filter(|g| !g.archs.is_empty()).collect();
    if groups.is_empty() {
        let all = || timed.iter().map(|t| t.latency_ns);
        let show = |v: Option<u64>| v.map_or("nothing".into(), |v| budgets[0].metric.show(v));
        return Err(Error::usage(format!(
            "none of {} architectures lies in the budget {}: expected one between {} and {}, \
             which is what they take on this machine",
            timed.len(),
            budgets.iter().map(Budget::to_string).collect::<Vec<_>>().join(", "),
            show(all().min()),
            show(all().max())
        )));
    }
    Ok((groups, Times { timed }))
}

/// What was timed.
#[derive(Serialize, Deserialize)]
pub struct Times {
    timed: Vec<Timed>,
}

impl Times {
    /// Milliseconds of an architecture's forward pass, if it was timed.
    pub(super) fn ms_of(&self, arch: &Arch) -> Option<f64> {
        let timed = self.timed.iter().find(|timed| timed.arch == *arch)?;
        Some(timed.latency_ns as f64 / 1e6)
    }

    /// Keeps the times in a search's folder.
    pub fn write(&self, dir: &Path) -> Result<()> {
        sealed::write_json(&dir.join(FILE), self)
    }
}

fn time(
    cx: &Cx,
    net: &Supernet,
    params: &Params,
    budgets: &[Budget],
    samples: usize,
    seed: u64,
) -> Result<Vec<Timed>> {
    let space = net.space();
    let most = (DRAWS * samples).min(space.count());
    let mut rng = Philox::new(seed, Purpose::Candidates, 0, budgets[0].metric as u16);
    let order = rng.sample(space.count(), most);
    let mut timed: Vec<Timed> = Vec::new();
    let mut progress = Progress::new("architectures timed", most, 0);
    for index in order {
        let full =
            |b: &Budget| timed.iter().filter(|t| b.contains(t.latency_ns)).count() >= samples;
        if budgets.iter().all(full) {
            break;
        }
        let arch = space.nth(index);
        let latency_ns = forward_ns(cx, net, params, arch)?;
        progress.advance(1, || format!("{arch} {:.2} ms", latency_ns as f64 / 1e6));
        timed.push(Timed { arch, latency_ns });
    }
    Ok(timed)
}

/// Median time of a forward pass of one image, in nanoseconds.
fn forward_ns(cx: &Cx, net: &Supernet, params: &Params, arch: Arch) -> Result<u64> {
    let (side, channels) = (net.space().resolution, net.space().channels());
    let subnet = Subnet::batch_normalised(net, params, arch);
    let mut times = Vec::with_capacity(PASSES);
    for pass in 0..=PASSES {
        let x = cx.zeros(Shape::nhwc(1, side, side, channels), cx.dtype())?;
        let began = Instant::now();
        let out = subnet.features(cx, x, &[Feature::C5])?;
        // Waits for a device; little beside the pass.
        cx.download(out.get(Feature::C5).value())?;
        if pass > 0 {
            times.push(began.elapsed().as_nanos() as u64);
        }
    }
    times.sort_unstable();
    Ok(times[PASSES / 2])
}
