//! The curve of a run's probes: nearest neighbours of labelled images while it trained.

use super::chart::{Line as Curve, LineChart};
use super::numbers;
use super::run::Run;
use super::series::{MAX_BINS, bins};
use super::svg::Size;
use super::training::Panel;
use crate::error::Result;
use crate::files::json_lines;
use crate::space::Arch;
use crate::train::probe::{Line as Probe, Net};

/// Accuracy by step, or `None` where the run was not probed.
pub(super) fn panel(run: &Run) -> Result<Option<Panel>> {
    Ok(draw(run, &read(run)?))
}

/// A run's probes. Images may have changed at a resume; those of the last probe are told of.
fn read(run: &Run) -> Result<Vec<Probe>> {
    let (mut all, _) = json_lines::<Probe>(&run.dir.join("probe.jsonl"))?;
    if let Some((data, images)) = all.last().map(|p| (p.data.clone(), p.images)) {
        all.retain(|p| p.data == data && p.images == images);
    }
    Ok(all)
}

/// What probes say of the largest net.
pub(super) struct Largest {
    /// Steps and accuracies, in per cent.
    pub(super) points: Vec<(f64, f64)>,
    /// The images and their number; none where there was no probe.
    pub(super) images: Option<(String, usize)>,
}

/// The accuracy of each probe's first net, which is the largest.
pub(super) fn largest(run: &Run) -> Result<Largest> {
    let all = read(run)?;
    let share = |p: &Probe| p.nets.first().and_then(|net| net.knn).unwrap_or(f64::NAN);
    Ok(Largest {
        points: all.iter().map(|p| (p.step as f64, 100.0 * share(p))).collect(),
        images: all.last().map(|p| (p.data.clone(), p.images)),
    })
}

fn draw(run: &Run, all: &[Probe]) -> Option<Panel> {
    let last = all.last()?;
    let ends = run.space().map(|space| [("MAX", space.max()), ("MIN", space.min())]);
    let name = |arch: &Arch| {
        let named = ends.iter().flatten().find(|(_, end)| end == arch);
        named.map_or_else(|| arch.to_string(), |(name, _)| (*name).to_owned())
    };
    let knn = |p: &Probe, arch: &Arch| {
        let net = p.nets.iter().find(|n| n.arch == *arch)?;
        net.knn.map(|share| share * 100.0)
    };
    let curve = |(net, class): (&Net, &'static str)| {
        let point = |p: &Probe| (p.step as f64, knn(p, &net.arch).unwrap_or(f64::NAN));
        let points: Vec<(f64, f64)> = all.iter().map(point).collect();
        Curve { name: name(&net.arch), class, bins: bins(&points, MAX_BINS) }
    };
    let mut references = vec![
        (last.pixels * 100.0, "raw pixels".to_owned()),
        (last.chance * 100.0, "guessing".to_owned()),
    ];
    let first = all.first().filter(|p| p.step == 0);
    if let Some((net, share)) = last.nets.first().and_then(|n| Some((n, knn(first?, &n.arch)?))) {
        references.push((share, format!("{} untrained", name(&net.arch))));
    }
    let title = "Nearest neighbours during training";
    let svg = LineChart {
        label: title,
        size: Size::WIDE,
        x_label: "step",
        lines: last.nets.iter().zip(["c1", "c2", "c3"]).map(curve).collect(),
        references,
        from_zero: true,
    }
    .draw()?;
    let note = format!(
        "Share of labelled images (%) whose class the {} nearest of the others name right ({}, {} \
         images, half of them named by the other half). Training does not see the labels. Curves \
         should rise above where they begin, the untrained nets, and above raw pixels; where they do \
         not, the nets have not learnt what these classes need, whatever the loss says.",
        last.k,
        last.data,
        numbers::count(last.images as u64)
    );
    Some(Panel { title: title.into(), note, svg, wide: true })
}
