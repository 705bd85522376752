//! Batch norm statistics of one subnet, and a subnet that is ready to compute features.

use super::norm::{BnMode, Collector, RunningStats};
use super::params::Params;
use super::resnet::{Feature, Outputs, Supernet};
use crate::cx::Cx;
use crate::error::{Error, Result};
use crate::space::Arch;
use crate::tape::Tape;
use crate::tensor::Tensor;

/// New batch norm statistics of `arch`: the average, weighted by images, of what its
/// batch norms see while every batch [N, H, W, 3] is normalised by its own statistics. It is
/// PyTorch's `reset_running_stats` with `momentum=None`.
///
/// # Errors
/// Those of the batches, and [`crate::Kind::Data`] where there is none.
pub fn recalibrate(
    cx: &Cx,
    net: &Supernet,
    params: &Params,
    arch: &Arch,
    batches: impl IntoIterator<Item = Result<Tensor>>,
) -> Result<RunningStats> {
    // The projector is run only for batch norms of its own.
    let has_norms = net.heads().is_some_and(|heads| heads.projector.has_batch_norm());
    let wanted: &[Feature] = if has_norms { &[Feature::Z] } else { &[] };
    let mut collector = Collector::new();
    for x in batches {
        let mut tape = Tape::inference(cx);
        let x = tape.constant(x?);
        net.forward(&mut tape, params, x, arch, &mut BnMode::Calibrate(&mut collector), wanted)?;
    }
    if collector.images() == 0 && !cx.is_plan() {
        return Err(Error::data(format!(
            "no images to compute the batch norm statistics of {arch} from: expected at least 1"
        )));
    }
    collector.finish(cx)
}

/// One architecture of a supernet with its batch norms settled: a frozen net.
pub struct Subnet<'a> {
    net: &'a Supernet,
    params: &'a Params,
    arch: Arch,
    stats: Option<RunningStats>,
}

impl<'a> Subnet<'a> {
    /// With statistics recomputed from `batches`, see [`recalibrate`].
    pub fn recalibrated(
        cx: &Cx,
        net: &'a Supernet,
        params: &'a Params,
        arch: Arch,
        batches: impl IntoIterator<Item = Result<Tensor>>,
    ) -> Result<Self> {
        let stats = recalibrate(cx, net, params, &arch, batches)?;
        Ok(Self::with_stats(net, params, arch, stats))
    }

    /// With statistics computed before.
    pub fn with_stats(
        net: &'a Supernet,
        params: &'a Params,
        arch: Arch,
        stats: RunningStats,
    ) -> Self {
        Self { net, params, arch, stats: Some(stats) }
    }

    /// Normalising every batch by its own statistics: what it says of an image depends on
    /// the batch that the image is in.
    pub fn batch_normalised(net: &'a Supernet, params: &'a Params, arch: Arch) -> Self {
        Self { net, params, arch, stats: None }
    }

    /// Whether what it says of an image does not depend on the batch.
    pub fn is_frozen(&self) -> bool {
        self.stats.is_some()
    }

    /// Its architecture.
    pub fn arch(&self) -> &Arch {
        &self.arch
    }

    /// Height and width of the images it expects.
    pub fn resolution(&self) -> usize {
        self.net.space().resolution
    }

    /// Features of images `x` [N, H, W, 3].
    pub fn features(&self, cx: &Cx, x: Tensor, wanted: &[Feature]) -> Result<Outputs> {
        let mut tape = Tape::inference(cx);
        let x = tape.constant(x);
        let mut norm = match &self.stats {
            Some(stats) => BnMode::Frozen(stats),
            None => BnMode::Batch { group: 0 },
        };
        self.net.forward(&mut tape, self.params, x, &self.arch, &mut norm, wanted)
    }
}
