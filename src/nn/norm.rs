//! Which statistics batch norms use. Training and the teacher use the batch's own. Running
//! statistics of shared batch norms mean nothing for a subnet, so they do not exist in the
//! supernet: a [`Collector`] computes them for one architecture from images.

use crate::cx::Cx;
use crate::error::Result;
use crate::ops::batch_norm::{self, Running, Stats};
use crate::tape::{Tape, Var};
use crate::tensor::Tensor;

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
    /// From the batch, all together, while the backbone's ReLUs show their outputs.
    Watched(&'a mut dyn FnMut(&Cx, &Tensor) -> Result<()>),
}

/// Mean and (unbiased) variance of every batch norm that one architecture uses.
#[derive(Clone)]
pub struct RunningStats {
    layers: Vec<Option<Layer>>,
}

#[derive(Clone)]
struct Layer {
    mean: Tensor,
    var: Tensor,
    /// Both as the op takes them.
    given: Tensor,
}

impl RunningStats {
    /// From (mean, variance) of the batch norm with each index; `None` where the architecture
    /// has no such layer.
    pub fn new(cx: &Cx, layers: Vec<Option<(Tensor, Tensor)>>) -> Result<Self> {
        let layer = |pair: Option<(Tensor, Tensor)>| -> Result<Option<Layer>> {
            let Some((mean, var)) = pair else { return Ok(None) };
            let given = batch_norm::given_statistics(cx, &mean, &var)?;
            Ok(Some(Layer { mean, var, given }))
        };
        Ok(Self { layers: layers.into_iter().map(layer).collect::<Result<_>>()? })
    }

    /// These, and where there are none those of `other`.
    pub fn or(mut self, other: &Self) -> Self {
        self.layers.resize_with(self.layers.len().max(other.layers.len()), || None);
        for (own, other) in self.layers.iter_mut().zip(&other.layers) {
            if own.is_none() {
                own.clone_from(other);
            }
        }
        self
    }

    /// Mean and variance of batch norm `index`.
    pub fn layer(&self, index: usize) -> Option<(&Tensor, &Tensor)> {
        self.layers.get(index)?.as_ref().map(|layer| (&layer.mean, &layer.var))
    }
}

/// Running statistics of every batch norm that an architecture uses. They stay on the device.
#[derive(Default)]
pub struct Collector {
    layers: Vec<Option<Running>>,
    images: usize,
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

    /// Adds what batch norm `index` sees, and gives that batch's own statistics.
    fn add(&mut self, cx: &Cx, index: usize, x: &Tensor) -> Result<Tensor> {
        if self.layers.len() <= index {
            self.layers.resize_with(index + 1, || None);
        }
        if index == 0 {
            self.images += x.shape().n();
        }
        let layer = &mut self.layers[index];
        let running = match layer {
            Some(running) => running,
            None => layer.insert(Running::new(cx, x.meta())?),
        };
        running.add(cx, x)
    }

    /// The averages.
    pub fn finish(self, cx: &Cx) -> Result<RunningStats> {
        let average = |layer: Option<Running>| layer.map(|l| l.averages(cx)).transpose();
        RunningStats::new(cx, self.layers.into_iter().map(average).collect::<Result<_>>()?)
    }
}

impl BnMode<'_> {
    /// Shows a ReLU's output to who watches.
    pub(super) fn show(&mut self, cx: &Cx, y: &Tensor) -> Result<()> {
        match self {
            BnMode::Watched(see) => see(cx, y),
            _ => Ok(()),
        }
    }

    /// What batch norm `index` uses on `x`: the op's mode and, if they are given, the statistics.
    pub(super) fn resolve(
        &mut self,
        tape: &Tape,
        index: usize,
        x: &Var,
    ) -> Result<(Stats, Option<Var>)> {
        let given = match self {
            BnMode::Batch { group } => return Ok((Stats::Batch { group: *group }, None)),
            BnMode::Watched(_) => return Ok((Stats::Batch { group: 0 }, None)),
            BnMode::Frozen(stats) => match stats.layers.get(index) {
                Some(Some(layer)) => layer.given.clone(),
                _ => {
                    return Err(crate::Error::usage(format!(
                        "no statistics for batch norm {index}: they were computed for another \
                         architecture"
                    )));
                }
            },
            BnMode::Calibrate(collector) => collector.add(tape.cx(), index, x.value())?,
        };
        Ok((Stats::Given, Some(tape.constant(given))))
    }
}
