//! Which statistics batch norms use. Training and the teacher use the batch's own. Running
//! statistics of shared batch norms mean nothing for a subnet, so they do not exist in the
//! supernet: a [`Collector`] computes them for one architecture from images.

use crate::cx::Cx;
use crate::error::Result;
use crate::ops::batch_norm::{self, BatchNorm, Stats};
use crate::tape::{Tape, Var};
use crate::tensor::{DType, Shape, Tensor};

/// PyTorch's ε of batch norm.
pub const EPS: f64 = 1e-5;

/// Where batch norms take their statistics from.
pub enum BnMode<'a> {
    /// From the batch, in groups of so many images (0 = all together).
    Batch {
        /// Images of a group.
        group: usize,
    },
    /// From statistics computed before.
    Frozen(&'a RunningStats),
    /// From the batch, all together, while a collector averages them.
    Calibrate(&'a mut Collector),
}

/// Mean and (unbiased) variance of every batch norm that one architecture uses.
#[derive(Clone)]
pub struct RunningStats {
    layers: Vec<Option<(Tensor, Tensor)>>,
}

impl RunningStats {
    /// From (mean, variance) of the batch norm with each index; `None` where the architecture
    /// has no such layer.
    pub fn new(layers: Vec<Option<(Tensor, Tensor)>>) -> Self {
        Self { layers }
    }
    /// Mean and variance of batch norm `index`.
    pub fn layer(&self, index: usize) -> Option<&(Tensor, Tensor)> {
        self.layers.get(index)?.as_ref()
    }
}

/// Cumulative averages of batch statistics, weighted by images: what PyTorch's batch norm
/// keeps with `momentum=None` (batches of one size).
#[derive(Default)]
pub struct Collector {
    layers: Vec<Option<Sums>>,
    images: usize,
}

struct Sums {
    weight: f64,
    mean: Vec<f64>,
    var: Vec<f64>,
}

impl Collector {
    /// Nothing collected yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Images seen by the first layer.
    pub fn images(&self) -> usize {
        self.images
    }

    fn add(
        &mut self,
        cx: &Cx,
        index: usize,
        images: usize,
        mean: &Tensor,
        var: &Tensor,
    ) -> Result<()> {
        if self.layers.len() <= index {
            self.layers.resize_with(index + 1, || None);
        }
        if index == 0 {
            self.images += images;
        }
        let c = mean.shape().c();
        let sums = self.layers[index].get_or_insert_with(|| Sums {
            weight: 0.0,
            mean: vec![0.0; c],
            var: vec![0.0; c],
        });
        let weight = images as f64;
        sums.weight += weight;
        for (sum, value) in [(&mut sums.mean, mean), (&mut sums.var, var)] {
            let value = cx.download(value)?;
            sum.iter_mut().zip(value).for_each(|(s, v)| *s += weight * f64::from(v));
        }
        Ok(())
    }

    /// The averages.
    pub fn finish(self, cx: &Cx) -> Result<RunningStats> {
        let layer = |sums: Option<Sums>| -> Result<Option<(Tensor, Tensor)>> {
            let Some(sums) = sums else { return Ok(None) };
            let average = |v: &[f64]| {
                let v: Vec<f32> = v.iter().map(|x| (x / sums.weight) as f32).collect();
                cx.upload(Shape::vector(v.len()), DType::F32, &v)
            };
            Ok(Some((average(&sums.mean)?, average(&sums.var)?)))
        };
        Ok(RunningStats { layers: self.layers.into_iter().map(layer).collect::<Result<_>>()? })
    }
}

/// A batch norm's statistics as the op wants them: the mode and, where they are given, mean
/// and variance.
pub(super) type Resolved = (Stats, Option<(Var, Var)>);

impl BnMode<'_> {
    /// What batch norm `index` uses on `x`.
    pub(super) fn resolve(&mut self, tape: &Tape, index: usize, x: &Var) -> Result<Resolved> {
        let cx = tape.cx();
        match self {
            BnMode::Batch { group } => Ok((Stats::Batch { group: *group }, None)),
            BnMode::Frozen(stats) => {
                let (mean, var) = stats.layer(index).ok_or_else(|| {
                    crate::Error::usage(format!(
                        "no statistics for batch norm {index}: they were computed for another \
                         architecture"
                    ))
                })?;
                Ok((Stats::Given, Some((tape.constant(mean.clone()), tape.constant(var.clone())))))
            }
            BnMode::Calibrate(collector) => {
                let (mean, unbiased) = batch_norm::statistics(cx, x.value())?;
                collector.add(cx, index, x.value().shape().n(), &mean, &unbiased)?;
                Ok((Stats::Batch { group: 0 }, None))
            }
        }
    }
}

/// Parameters of the batch norm op with the usual ε.
pub(super) fn op(stats: Stats, add: bool, relu: bool) -> BatchNorm {
    BatchNorm { stats, add, relu, eps: EPS }
}
