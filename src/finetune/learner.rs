//! What objectives of fine-tuning have in common: weights, gradients, an optimizer, and statistics of
//! a backbone whose batch norms stay as they are.

use std::collections::BTreeMap;

use super::rates;
use crate::config::{Config, TunedBn};
use crate::cx::Cx;
use crate::error::{Error, Kind, Result};
use crate::export::subnet::{known_stats_from_torch, known_stats_to_torch};
use crate::nn::{BnMode, Collector, Gradients, Params, RunningStats, Supernet};
use crate::ops::global_norm::all_finite;
use crate::optim::{self, Optimizer};
use crate::tape::{Tape, Var};
use crate::tensor::{DType, Tensor};
use crate::train::checkpoint::Checkpoint;
use crate::train::dump::Dump;
use crate::train::objective::{At, Saved, StepBatch};

/// Batches, and images at most, that statistics of batch norms are taken of.
const STATISTICS: [usize; 2] = [200, 2048];
/// The file of a checkpoint with the statistics of a frozen backbone.
const FROZEN: &str = "statistics";

/// Training images that statistics of batch norms are taken of.
pub(super) fn statistics_images(config: &Config) -> usize {
    (STATISTICS[0] * config.train.batch).min(STATISTICS[1])
}

/// The part of an objective that learns.
pub(super) struct Learner {
    pub params: Params,
    pub grads: Gradients,
    pub optimizer: Optimizer,
    pub accum: usize,
    pub bn_group: usize,
    /// Images that the backbone's batch norms have their statistics of, where they keep them.
    frozen_images: Option<usize>,
    /// Those, once they are known.
    frozen: Option<RunningStats>,
}

/// Whether a parameter is the backbone's.
fn is_of_body(name: &str) -> bool {
    ["conv1.", "bn1.", "layer"].iter().any(|start| name.starts_with(start))
}

impl Learner {
    /// Freshly initialised, for a dense task.
    pub(super) fn of_dense(cx: &Cx, net: &Supernet, config: &Config) -> Result<Self> {
        let factors = rates::factors(config, net.specs(), |spec| match is_of_body(&spec.name) {
            true => config.train.lr,
            false => config.finetune.lr_head,
        });
        let is_frozen = config.finetune.bn == TunedBn::Frozen;
        Self::new(cx, net, config, factors, is_frozen.then(|| statistics_images(config)))
    }

    /// Freshly initialised. `factors` are the parameters' learning rates as shares of the run's;
    /// `frozen_images` is how many images a frozen backbone has its statistics of.
    pub(super) fn new(
        cx: &Cx,
        net: &Supernet,
        config: &Config,
        factors: Vec<f64>,
        frozen_images: Option<usize>,
    ) -> Result<Self> {
        let specs = net.specs();
        Ok(Self {
            params: Params::init(cx, specs, config.seed)?.ready(cx)?,
            grads: Gradients::zeros(cx, specs)?,
            optimizer: Optimizer::new(cx, config.tuned_sgd(), specs)?.with_factors(factors),
            accum: config.train.accum,
            bn_group: config.train.bn_group,
            frozen_images,
            frozen: None,
        })
    }

    /// Whether the backbone's batch norms keep their statistics.
    pub(super) fn is_frozen(&self) -> bool {
        self.frozen_images.is_some()
    }

    /// Statistics of the backbone, where they stay as they are. A plan has none: it takes as much
    /// with a batch's own.
    pub(super) fn frozen(&self) -> Option<&RunningStats> {
        self.frozen.as_ref()
    }

    /// Images that [`Learner::warm_up`] wants.
    pub(super) fn warm_up_images(&self) -> usize {
        self.frozen_images.unwrap_or(0)
    }

    /// Takes statistics of the backbone, which `body` runs on images.
    pub(super) fn warm_up(
        &mut self,
        cx: &Cx,
        next: &mut dyn FnMut() -> Result<StepBatch>,
        body: impl Fn(&mut Tape, &Params, Var, &mut BnMode) -> Result<()>,
    ) -> Result<()> {
        let mut collector = Collector::new();
        while collector.images() < self.warm_up_images() {
            let mut batch = next()?;
            let mut tape = Tape::inference(cx);
            let x = tape.constant(batch.views.swap_remove(0));
            body(&mut tape, &self.params, x, &mut BnMode::Calibrate(&mut collector))?;
        }
        self.frozen = Some(collector.finish(cx)?);
        Ok(())
    }

    /// Adds the gradients of a loss times `weight`.
    pub(super) fn backward(&mut self, tape: Tape, loss: Var, weight: f64) -> Result<()> {
        let gradient = tape.cx().full(loss.value().shape(), DType::F32, weight)?;
        tape.backward(loss, gradient, self.grads.slots())
    }

    /// The norm of the gradients.
    ///
    /// # Errors
    /// [`Kind::Diverged`] where it or a loss is not finite; `find` runs a pass that says where.
    pub(super) fn expect_finite(
        &self,
        cx: &Cx,
        step: u64,
        losses: &[(String, f64)],
        find: impl FnOnce(&Params) -> Result<()>,
    ) -> Result<f64> {
        let norm = optim::grad_norm(cx, &self.grads)?;
        if !norm.is_finite() || !losses.iter().all(|(_, loss)| loss.is_finite()) {
            return Err(self.diverged(cx, step, find));
        }
        Ok(norm)
    }

    /// Updates the weights, and sets the gradients to zero.
    pub(super) fn update(&mut self, cx: &Cx, at: &At) -> Result<()> {
        self.optimizer.update(cx, &mut self.params, &mut self.grads, at.lr)
    }

    /// Keeps weights before the step, gradients and losses for a replay elsewhere.
    pub(super) fn dump(
        &self,
        cx: &Cx,
        net: &Supernet,
        losses: &[(String, f64)],
        dump: &mut Dump,
    ) -> Result<()> {
        dump.params(cx, "before", &self.params)?;
        dump.gradients(cx, &self.grads, net.specs())?;
        for (name, loss) in losses {
            dump.values(&format!("loss.{name}"), vec![1], vec![*loss as f32]);
        }
        if let Some(stats) = &self.frozen {
            for (name, shape, values) in known_stats_to_torch(cx, net, stats)? {
                dump.values(&format!("frozen.{name}"), shape, values);
            }
        }
        let space = net.space();
        dump.note("arch", space.max().to_string());
        let strides: Vec<String> = space.strides().iter().map(usize::to_string).collect();
        dump.note("stem_stride", space.stem.stride.to_string());
        dump.note("stem_maxpool", space.stem.maxpool.to_string());
        dump.note("stage_strides", strides.join(","));
        dump.note("accum", self.accum.to_string());
        dump.note("bn_group", self.bn_group.to_string());
        Ok(())
    }

    /// Where the first value that is not finite appears.
    fn diverged(&self, cx: &Cx, step: u64, find: impl FnOnce(&Params) -> Result<()>) -> Error {
        let place = || -> Result<String> {
            for (spec, value) in self.params.specs().iter().zip(self.params.values()) {
                if !all_finite(cx, value)? {
                    return Ok(format!("the parameter {}", spec.name));
                }
            }
            Ok(find(&self.params).err().map_or("a gradient".to_owned(), |e| e.to_string()))
        };
        place().map_or_else(
            |e| e,
            |place| {
                Error::new(
                    Kind::Diverged,
                    format!(
                        "fine-tuning diverged in step {step}: the first value that is not finite \
                         is in {place}; start again with a lower train.lr and finetune.lr_head, or \
                         a longer finetune.warmup"
                    ),
                )
            },
        )
    }

    /// All that a checkpoint keeps.
    pub(super) fn state(&self, cx: &Cx, net: &Supernet) -> Result<Saved> {
        let optimizer = self.optimizer.state(cx, net.specs())?;
        let mut contents = vec![("student", self.params.to_torch(cx)?), ("optimizer", optimizer)];
        if let Some(stats) = &self.frozen {
            contents.push((FROZEN, known_stats_to_torch(cx, net, stats)?));
        }
        Ok(Saved { contents, pointers: BTreeMap::new() })
    }

    /// Takes up what [`Learner::state`] gave.
    pub(super) fn restore(
        &mut self,
        cx: &Cx,
        net: &Supernet,
        checkpoint: &Checkpoint,
    ) -> Result<()> {
        self.params = checkpoint.student(cx, net.specs())?;
        let (optimizer, origin) = checkpoint.named("optimizer")?;
        self.optimizer.restore(cx, net.specs(), &optimizer, &origin)?;
        if self.is_frozen() {
            let (named, origin) = checkpoint.named(FROZEN)?;
            self.frozen = Some(known_stats_from_torch(cx, net, &named, &origin)?);
        }
        Ok(())
    }

    /// Weights to start from.
    pub(super) fn start_from(&mut self, cx: &Cx, params: Params) -> Result<()> {
        self.params = params.ready(cx)?;
        Ok(())
    }

    /// Numbers of a checkpoint.
    pub(super) fn state_elems(&self) -> usize {
        2 * self.params.elems()
    }
}

/// The sum of losses that nobody waited for yet, by name.
pub(super) fn download(cx: &Cx, losses: &[(&'static str, Tensor)]) -> Result<Vec<(String, f64)>> {
    let mut sums: Vec<(String, f64)> = Vec::new();
    for (name, loss) in losses {
        let value = f64::from(cx.download(loss)?[0]);
        match sums.iter_mut().find(|(known, _)| known == name) {
            Some((_, sum)) => *sum += value,
            None => sums.push(((*name).to_owned(), value)),
        }
    }
    Ok(sums)
}
