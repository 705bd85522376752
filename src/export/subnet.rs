//! A subnet as a net of its own: the same layers, with the first channels and blocks copied
//! out of the supernet's weights.

use std::collections::HashMap;

use crate::cx::Cx;
use crate::error::{Error, Result};
use crate::files::Entry;
use crate::nn::{Params, RunningStats, Supernet};
use crate::space::Arch;
use crate::tensor::{DType, Shape, Tensor};

/// `arch` of a supernet as a net of its own, and its weights at their true size.
///
/// # Errors
/// [`crate::Kind::Usage`] where the architecture does not fit into the supernet.
pub fn extract(
    cx: &Cx,
    net: &Supernet,
    params: &Params,
    arch: &Arch,
) -> Result<(Supernet, Params)> {
    net.space().check(arch)?;
    let small = Supernet::new(&net.space().single(arch), net.heads());
    let all = params.specs().iter().zip(params.values());
    let by_name: HashMap<&str, &Tensor> = all.map(|(s, t)| (s.name.as_str(), t)).collect();
    let mut named = crate::files::Named::new();
    for spec in small.specs() {
        let full = by_name.get(spec.name.as_str()).ok_or_else(|| missing(&spec.name))?;
        let part = first(&cx.download(full)?, full.shape(), spec.shape);
        named.insert(spec.name.clone(), (spec.torch_shape(), spec.to_torch(&part)));
    }
    let params = Params::from_torch(cx, small.specs(), &named, "the supernet")?;
    Ok((small, params))
}

/// Statistics of one architecture, under the indices that the batch norms have in the net
/// that consists of nothing else.
pub fn extract_stats(
    cx: &Cx,
    net: &Supernet,
    stats: &RunningStats,
    small: &Supernet,
) -> Result<RunningStats> {
    let place = |name: &String| net.norms().iter().position(|n| n == name);
    let layer = |name: &String| -> Result<Option<(Tensor, Tensor)>> {
        let pair = place(name).and_then(|i| stats.layer(i));
        pair.map(|(mean, var)| Some((mean.clone(), var.clone()))).ok_or_else(|| missing(name))
    };
    RunningStats::new(cx, small.norms().iter().map(layer).collect::<Result<_>>()?)
}

/// Statistics by torchvision's names: `bn1.running_mean`, `bn1.running_var`, …, of all batch norms.
pub fn stats_to_torch(cx: &Cx, small: &Supernet, stats: &RunningStats) -> Result<Vec<Entry>> {
    let mut norms = small.norms().iter().enumerate();
    match norms.find(|(i, _)| stats.layer(*i).is_none()) {
        Some((_, name)) => Err(missing(name)),
        None => known_stats_to_torch(cx, small, stats),
    }
}

/// The same of the batch norms that have statistics.
pub fn known_stats_to_torch(cx: &Cx, small: &Supernet, stats: &RunningStats) -> Result<Vec<Entry>> {
    let mut entries = Vec::new();
    for (i, name) in small.norms().iter().enumerate() {
        let Some((mean, var)) = stats.layer(i) else { continue };
        for (what, t) in [("running_mean", mean), ("running_var", var)] {
            entries.push((format!("{name}.{what}"), vec![t.shape().c()], cx.download(t)?));
        }
    }
    Ok(entries)
}

/// The inverse of [`stats_to_torch`]; `origin` names the file in errors.
pub fn stats_from_torch(
    cx: &Cx,
    small: &Supernet,
    named: &crate::files::Named,
    origin: &str,
) -> Result<RunningStats> {
    read_stats(cx, small, named, origin, |_| true)
}

/// The inverse of [`known_stats_to_torch`].
pub fn known_stats_from_torch(
    cx: &Cx,
    small: &Supernet,
    named: &crate::files::Named,
    origin: &str,
) -> Result<RunningStats> {
    let is_known = |norm: &str| named.contains_key(&format!("{norm}.running_mean"));
    read_stats(cx, small, named, origin, is_known)
}

/// Statistics of the batch norms that are `wanted`.
fn read_stats(
    cx: &Cx,
    small: &Supernet,
    named: &crate::files::Named,
    origin: &str,
    wanted: impl Fn(&str) -> bool,
) -> Result<RunningStats> {
    let one = |norm: &str, what: &str| -> Result<Tensor> {
        let name = format!("{norm}.{what}");
        // γ has as many elements as the statistics; the head's last norm has none, but those of
        // the embedding.
        let scale = small.specs().iter().find(|s| s.name == format!("{norm}.weight"));
        let dim = small.heads().map_or(0, |heads| heads.projector.dim());
        let channels = scale.map_or(dim, |s| s.shape.c());
        match named.get(&name) {
            Some((shape, values)) if *shape == [channels] => {
                cx.upload(Shape::vector(channels), DType::F32, values)
            }
            found => Err(Error::data(format!(
                "{origin}: tensor {name:?} has shape {:?}, expected [{channels}]; export the \
                 subnet again",
                found.map(|f| &f.0)
            ))),
        }
    };
    let layer = |name: &String| -> Result<Option<(Tensor, Tensor)>> {
        if !wanted(name) {
            return Ok(None);
        }
        Ok(Some((one(name, "running_mean")?, one(name, "running_var")?)))
    };
    RunningStats::new(cx, small.norms().iter().map(layer).collect::<Result<_>>()?)
}

fn missing(name: &str) -> Error {
    Error::data(format!(
        "the supernet has nothing called {name:?}; the checkpoint is of another preset"
    ))
}

/// The first outputs and inputs of a weight in our layout (or the first values of a vector).
fn first(full: &[f32], from: Shape, to: Shape) -> Vec<f32> {
    let rows = full.chunks_exact(from.c()).take(to.rows());
    rows.flat_map(|row| row[..to.c()].iter().copied()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_outputs_and_inputs() {
        let (from, to) = (Shape([3, 1, 2, 4]), Shape([2, 1, 2, 3]));
        let full: Vec<f32> = (0..24).map(|x| x as f32).collect();
        let part = first(&full, from, to);
        assert_eq!(part, [0.0, 1.0, 2.0, 4.0, 5.0, 6.0, 8.0, 9.0, 10.0, 12.0, 13.0, 14.0]);
    }
}
