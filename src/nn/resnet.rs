//! The elastic bottleneck ResNet (stride on the 3×3 convolution, 1×1 shortcut with batch norm
//! in the first block of every stage) and what can be read from it.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use super::head::{HeadLayers, MlpHead};
use super::norm::{self, Norm};
use super::params::{ParamSpec, Params, Role};
use crate::error::{Error, Result};
use crate::ops::avg_pool::GlobalAvgPool;
use crate::ops::conv2d::Conv2d;
use crate::ops::l2_normalise::L2Normalise;
use crate::ops::max_pool::MaxPool;
use crate::space::{Arch, EXPANSION, STAGES, Space};
use crate::tape::{Tape, Var};
use crate::tensor::Shape;

/// Something that can be read from the net.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Feature {
    /// Output of stage 1, stride 4 (in preset `data`).
    C2,
    /// Output of stage 2.
    C3,
    /// Output of stage 3.
    C4,
    /// Output of stage 4.
    C5,
    /// C5 averaged over positions.
    Pool,
    /// The head's embedding, L2-normalised.
    Z,
}

impl Feature {
    /// All of them.
    pub const ALL: [Feature; 6] =
        [Feature::C2, Feature::C3, Feature::C4, Feature::C5, Feature::Pool, Feature::Z];

    /// The name users write.
    pub fn name(self) -> &'static str {
        match self {
            Feature::C2 => "c2",
            Feature::C3 => "c3",
            Feature::C4 => "c4",
            Feature::C5 => "c5",
            Feature::Pool => "pool",
            Feature::Z => "z",
        }
    }
}

impl fmt::Display for Feature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl serde::Serialize for Feature {
    fn serialize<S: serde::Serializer>(&self, to: S) -> std::result::Result<S::Ok, S::Error> {
        to.serialize_str(self.name())
    }
}

impl FromStr for Feature {
    type Err = Error;
    fn from_str(s: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|f| f.name() == s).ok_or_else(|| {
            Error::usage(format!("{s:?} is not a feature: expected z, c2, c3, c4, c5 or pool"))
        })
    }
}

/// The features that were asked for.
#[derive(Default)]
pub struct Outputs {
    found: Vec<(Feature, Var)>,
}

impl Outputs {
    /// A feature that was asked for. Panics where it was not: a mistake of the caller.
    pub fn get(&self, feature: Feature) -> &Var {
        let hit = self.found.iter().find(|(f, _)| *f == feature);
        &hit.unwrap_or_else(|| panic!("feature {feature} was not asked for")).1
    }
    /// Takes a feature out.
    pub fn take(&mut self, feature: Feature) -> Var {
        let i = self.found.iter().position(|(f, _)| *f == feature);
        self.found.swap_remove(i.unwrap_or_else(|| panic!("feature {feature} was not asked for"))).1
    }
}

/// A convolution and the batch norm behind it.
struct ConvBn {
    conv_label: Arc<str>,
    bn_label: Arc<str>,
    /// Index of the convolution's weight; γ and β follow it.
    first: usize,
    /// Index among the batch norms.
    bn: usize,
    kernel: usize,
    stride: usize,
}

struct Block {
    convs: [ConvBn; 3],
    shortcut: Option<ConvBn>,
}

/// The supernet: layers and names at maximum size. Values are in [`Params`]; a net with one
/// architecture only (an exported one) is the supernet of a space with one point.
pub struct Supernet {
    space: Space,
    specs: Vec<ParamSpec>,
    norms: Vec<String>,
    stem: ConvBn,
    stages: Vec<Vec<Block>>,
    head: Option<HeadLayers>,
}

/// Collects parameters and batch norms while layers are laid out.
struct Layout {
    specs: Vec<ParamSpec>,
    norms: Vec<String>,
}

impl Layout {
    fn conv_bn(
        &mut self,
        conv: String,
        bn: String,
        shape: [usize; 4],
        stride: usize,
        last: bool,
    ) -> ConvBn {
        let [o, k, _, _] = shape;
        let first = self.specs.len();
        let scale = if last { Role::LastNormScale } else { Role::NormScale };
        for (name, shape, role) in [
            (format!("{conv}.weight"), Shape(shape), Role::Conv),
            (format!("{bn}.weight"), Shape::vector(o), scale),
            (format!("{bn}.bias"), Shape::vector(o), Role::NormShift),
        ] {
            self.specs.push(ParamSpec { name, shape, role });
        }
        self.norms.push(bn.clone());
        ConvBn {
            conv_label: Arc::from(conv),
            bn_label: Arc::from(bn),
            first,
            bn: self.norms.len() - 1,
            kernel: k,
            stride,
        }
    }

    fn block(
        &mut self,
        name: &str,
        inputs: usize,
        width: usize,
        stride: usize,
        first: bool,
    ) -> Block {
        let out = width * EXPANSION;
        let mut conv = |i: usize, shape, stride| {
            self.conv_bn(format!("{name}.conv{i}"), format!("{name}.bn{i}"), shape, stride, i == 3)
        };
        let convs = [
            conv(1, [width, 1, 1, inputs], 1),
            conv(2, [width, 3, 3, width], stride),
            conv(3, [out, 1, 1, width], 1),
        ];
        let shortcut = first.then(|| {
            let (conv, bn) = (format!("{name}.downsample.0"), format!("{name}.downsample.1"));
            self.conv_bn(conv, bn, [out, 1, 1, inputs], stride, false)
        });
        Block { convs, shortcut }
    }
}

impl Supernet {
    /// The net of a space, with a projection head or without.
    pub fn new(space: &Space, head: Option<&MlpHead>) -> Self {
        let max = space.max();
        let mut layout = Layout { specs: Vec::new(), norms: Vec::new() };
        let k = space.stem.kernel;
        let stem_shape = [max.stem, k, k, 3];
        let stem =
            layout.conv_bn("conv1".into(), "bn1".into(), stem_shape, space.stem.stride, false);
        let mut inputs = max.stem;
        let mut stages = Vec::with_capacity(STAGES);
        for s in 0..STAGES {
            let width = max.widths[s];
            let mut blocks = Vec::with_capacity(max.depths[s]);
            for b in 0..max.depths[s] {
                let stride = if b == 0 { space.stages[s].stride } else { 1 };
                let name = format!("layer{}.{b}", s + 1);
                blocks.push(layout.block(&name, inputs, width, stride, b == 0));
                inputs = width * EXPANSION;
            }
            stages.push(blocks);
        }
        let head = head.map(|h| HeadLayers::new(h, inputs, &mut layout.specs, &mut layout.norms));
        let Layout { specs, norms } = layout;
        Self { space: space.clone(), specs, norms, stem, stages, head }
    }

    /// The space whose maximum this is.
    pub fn space(&self) -> &Space {
        &self.space
    }

    /// The projection head's sizes, where there is one.
    pub fn head(&self) -> Option<&MlpHead> {
        self.head.as_ref().map(HeadLayers::spec)
    }

    /// All parameters, in order.
    pub fn specs(&self) -> &[ParamSpec] {
        &self.specs
    }

    /// Names of all batch norms, by index.
    pub fn norms(&self) -> &[String] {
        &self.norms
    }

    /// Runs the subnet `arch` on pictures `x` [N, H, W, 3] of the type that the parameters are
    /// ready for, and returns what is wanted.
    pub fn forward(
        &self,
        tape: &mut Tape,
        params: &Params,
        x: Var,
        arch: &Arch,
        norm: &mut Norm,
        wanted: &[Feature],
    ) -> Result<Outputs> {
        self.space.check(arch)?;
        let mut out = Outputs::default();
        let mut h = self.stem.forward(tape, params, &x, arch.stem, norm, None, true)?;
        drop(x);
        if self.space.stem.maxpool {
            h = tape.apply(MaxPool, &[&h])?;
        }
        for (s, blocks) in self.stages.iter().enumerate() {
            for block in &blocks[..arch.depths[s]] {
                h = block.forward(tape, params, h, arch.widths[s], norm)?;
            }
            if wanted.contains(&Feature::ALL[s]) {
                out.found.push((Feature::ALL[s], h.clone()));
            }
        }
        if wanted.contains(&Feature::Pool) || wanted.contains(&Feature::Z) {
            let pooled = tape.apply(GlobalAvgPool, &[&h])?;
            drop(h);
            if wanted.contains(&Feature::Z) {
                let head = self.head.as_ref().ok_or_else(|| {
                    Error::usage("this model has no projection head, so it has no feature z")
                })?;
                let z = head.forward(tape, params, &pooled, norm)?;
                out.found.push((Feature::Z, tape.apply(L2Normalise, &[&z])?));
            }
            if wanted.contains(&Feature::Pool) {
                out.found.push((Feature::Pool, pooled));
            }
        }
        Ok(out)
    }
}

impl ConvBn {
    /// relu?(bn(conv(x)) + residual?), with the first `cout` output channels.
    #[allow(clippy::too_many_arguments)]
    fn forward(
        &self,
        tape: &mut Tape,
        params: &Params,
        x: &Var,
        cout: usize,
        norm: &mut Norm,
        residual: Option<Var>,
        relu: bool,
    ) -> Result<Var> {
        let param = |tape: &Tape, i: usize| tape.param(params.operand(i).clone(), i);
        tape.label(&self.conv_label);
        let w = param(tape, self.first);
        let conv = Conv2d::new(cout, self.kernel, self.stride);
        let y = tape.apply(conv, &[x, &w])?;
        tape.label(&self.bn_label);
        let (stats, given) = norm.resolve(tape, self.bn, &y)?;
        let (gamma, beta) = (param(tape, self.first + 1), param(tape, self.first + 2));
        let mut inputs = vec![&y, &gamma, &beta];
        inputs.extend(residual.as_ref());
        if let Some((mean, var)) = &given {
            inputs.extend([mean, var]);
        }
        tape.apply(norm::op(stats, residual.is_some(), relu), &inputs)
    }
}

impl Block {
    fn forward(
        &self,
        tape: &mut Tape,
        params: &Params,
        x: Var,
        width: usize,
        norm: &mut Norm,
    ) -> Result<Var> {
        let [reduce, spatial, expand] = &self.convs;
        let out = width * EXPANSION;
        let h = reduce.forward(tape, params, &x, width, norm, None, true)?;
        let h = spatial.forward(tape, params, &h, width, norm, None, true)?;
        let residual = match &self.shortcut {
            Some(shortcut) => shortcut.forward(tape, params, &x, out, norm, None, false)?,
            None => x.clone(),
        };
        drop(x);
        expand.forward(tape, params, &h, out, norm, Some(residual), true)
    }
}
