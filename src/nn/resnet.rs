//! The elastic ResNet, of bottleneck or basic blocks (1×1 shortcut with batch norm in the first block
//! of every stage), and what can be read from it.

use std::fmt;
use std::ops::Range;
use std::str::FromStr;

use super::block::{Block, ConvBn, Sizes};
use super::builder::Builder;
use super::mlp::{Mlp, MlpLayers};
use super::norm::BnMode;
use super::params::{ParamSpec, Params};
use crate::error::{Error, Result};
use crate::ops::avg_pool::GlobalAvgPool;
use crate::ops::conv2d::Conv2d;
use crate::ops::l2_normalise::L2Normalise;
use crate::ops::max_pool::MaxPool;
use crate::ops::rows::Rows;
use crate::space::{Arch, STAGES, Space};
use crate::tape::{Tape, Var};

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
    /// The projector's embedding, L2-normalised.
    Z,
    /// The predictor's output for that embedding, L2-normalised: of students in training alone.
    P,
    /// The dense head's output for each position of its level, a row [1, 1, D] each, not normalised:
    /// in training alone.
    Dense,
}

impl Feature {
    /// Those that a frozen net has, which users may ask for.
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
            Feature::P => "p",
            Feature::Dense => "dense",
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

/// The heads behind the backbone in training.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heads {
    /// From pooled features to embeddings.
    pub projector: Mlp,
    /// From the positions of a level to embeddings of their own.
    pub dense: Option<DenseHead>,
    /// From embeddings, before they are normalised, to predictions; of students alone.
    pub predictor: Option<Mlp>,
}

/// A head that is applied to each position: 1×1 convolutions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DenseHead {
    /// Stage whose output it reads, from 0.
    pub stage: usize,
    /// Its layers.
    pub layers: Mlp,
}

impl Heads {
    /// A projector alone.
    pub fn projector(projector: Mlp) -> Self {
        Self { projector, dense: None, predictor: None }
    }
}

/// Strides and dilations of a backbone's stages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trunk {
    /// Stride of each stage's first block.
    pub strides: [usize; STAGES],
    /// Dilation of each stage's 3×3 convolutions. That of its first block has half of it, as the
    /// stage before would with strides of 1 (torchvision's `replace_stride_with_dilation`).
    pub dilations: [usize; STAGES],
}

impl Trunk {
    /// That of a space whose last stage has a position for so many pixels a side of the input:
    /// where strides would go beyond, convolutions are dilated instead.
    ///
    /// # Errors
    /// [`crate::Kind::Usage`] where stem and first stage alone go beyond.
    pub fn with_output_stride(space: &Space, pixels: usize) -> Result<Self> {
        let pooled = if space.stem.maxpool { 2 } else { 1 };
        let stem = space.stem.stride * pooled;
        if pixels < stem || !pixels.is_power_of_two() {
            return Err(Error::usage(format!(
                "expected an output stride of {stem} pixels or more, which the stem has, as a power \
                 of 2; found {pixels}"
            )));
        }
        let (mut strides, mut dilations) = (space.strides(), [1; STAGES]);
        let (mut total, mut dilation) = (stem, 1);
        for (stride, of_stage) in strides.iter_mut().zip(&mut dilations) {
            match total * *stride <= pixels {
                true => total *= *stride,
                false => dilation *= std::mem::replace(stride, 1),
            }
            *of_stage = dilation;
        }
        Ok(Self { strides, dilations })
    }

    /// Stride of block `block` of stage `stage`, and dilation of its convolutions.
    fn of_block(&self, stage: usize, block: usize) -> [usize; 2] {
        match block {
            0 => [self.strides[stage], (self.dilations[stage] / 2).max(1)],
            _ => [1, self.dilations[stage]],
        }
    }
}

/// The supernet: layers and names at maximum size. Values are in [`Params`]; a net with one
/// architecture only (an exported one) is the supernet of a space with one point.
///
/// Parameters are in the order backbone, projector, dense head, then those that only students have.
pub struct Supernet {
    space: Space,
    specs: Vec<ParamSpec>,
    norms: Vec<String>,
    stem: ConvBn,
    stages: Vec<Vec<Block>>,
    heads: Option<Heads>,
    projector: Option<MlpLayers>,
    /// With the stage that it reads.
    dense: Option<(usize, MlpLayers)>,
    predictor: Option<MlpLayers>,
    /// Parameters that the teacher has too: the first so many.
    shared: usize,
}

impl Supernet {
    /// The net of a space, with heads or without.
    pub fn new(space: &Space, heads: Option<&Heads>) -> Self {
        Self::extended(space, heads, |_, _| ()).0
    }

    /// The same with layers of the caller's behind it: `extend` appends their parameters, given the
    /// channels of C5 at their maximum.
    pub fn extended<T>(
        space: &Space,
        heads: Option<&Heads>,
        extend: impl FnOnce(&mut Builder, usize) -> T,
    ) -> (Self, T) {
        let max = space.max();
        let mut builder = Builder::default();
        let k = space.stem.kernel;
        let stem =
            builder.conv_bn("conv1".into(), "bn1".into(), [max.stem, k, k, space.channels()], 1.0);
        let mut inputs = max.stem;
        let mut stages = Vec::with_capacity(STAGES);
        for s in 0..STAGES {
            let width = max.widths[s];
            let mut blocks = Vec::with_capacity(max.depths[s]);
            for b in 0..max.depths[s] {
                let name = format!("layer{}.{b}", s + 1);
                blocks.push(builder.block(&name, space.block, inputs, width, b == 0));
                inputs = space.outputs(&max, s);
            }
            stages.push(blocks);
        }
        let projector = heads.map(|heads| builder.mlp("head", inputs, &heads.projector));
        let dense = heads.and_then(|heads| heads.dense.as_ref()).map(|head| {
            (head.stage, builder.mlp("dense", space.outputs(&max, head.stage), &head.layers))
        });
        let shared = builder.params();
        let predictor = heads.and_then(|heads| {
            let predictor = heads.predictor.as_ref()?;
            Some(builder.mlp("predictor", heads.projector.dim(), predictor))
        });
        let extension = extend(&mut builder, inputs);
        let (specs, norms) = builder.finish();
        let (space, heads) = (space.clone(), heads.cloned());
        #[rustfmt::skip]
        let net = Self { space, specs, norms, stem, stages, heads, projector, dense, predictor, shared };
        (net, extension)
    }

    /// The space whose maximum this is.
    pub fn space(&self) -> &Space {
        &self.space
    }

    /// The heads' sizes, where there are any.
    pub fn heads(&self) -> Option<&Heads> {
        self.heads.as_ref()
    }

    /// All parameters, in order.
    pub fn specs(&self) -> &[ParamSpec] {
        &self.specs
    }

    /// The parameters that a teacher has too: backbone, projector and dense head.
    pub fn shared(&self) -> &[ParamSpec] {
        &self.specs[..self.shared]
    }

    /// Names of all batch norms, by index.
    pub fn norms(&self) -> &[String] {
        &self.norms
    }

    /// Runs the subnet `arch` on images `x` [N, H, W, C] of the type that the parameters are
    /// ready for, and returns what is wanted.
    ///
    /// # Errors
    /// [`crate::Kind::Usage`] for an architecture that is not of the space and for a feature of a
    /// head that the net has not; those of the ops.
    pub fn forward(
        &self,
        tape: &mut Tape,
        params: &Params,
        x: Var,
        arch: &Arch,
        norm: &mut BnMode,
        wanted: &[Feature],
    ) -> Result<Outputs> {
        let mut out = Outputs::default();
        let wants = |feature| wanted.contains(&feature);
        let dense = match wants(Feature::Dense) {
            true => Some(self.dense.as_ref().ok_or_else(|| {
                Error::usage("this model has no dense head, so it has no feature dense")
            })?),
            false => None,
        };
        let mut read = None;
        let h = self.stem(tape, params, x, arch, norm)?;
        let h =
            self.stages(tape, params, h, arch, 0..STAGES, &self.trunk(), norm, |s, level| {
                if wants(Feature::ALL[s]) {
                    out.found.push((Feature::ALL[s], level.clone()));
                }
                if dense.is_some_and(|(stage, _)| *stage == s) {
                    read = Some(level.clone());
                }
            })?;
        if let Some(((_, layers), level)) = dense.zip(read) {
            let rows = tape.apply(Rows, &[&level])?;
            drop(level);
            out.found.push((Feature::Dense, layers.forward(tape, params, &rows, norm)?));
        }
        if !(wants(Feature::Pool) || wants(Feature::Z) || wants(Feature::P)) {
            return Ok(out);
        }
        let pooled = tape.apply(GlobalAvgPool, &[&h])?;
        drop(h);
        if wants(Feature::Z) || wants(Feature::P) {
            let projector = self.projector.as_ref().ok_or_else(|| {
                Error::usage("this model has no projection head, so it has no feature z")
            })?;
            let z = projector.forward(tape, params, &pooled, norm)?;
            if wants(Feature::P) {
                let predictor = self.predictor.as_ref().ok_or_else(|| {
                    Error::usage("this model has no predictor, so it has no feature p")
                })?;
                let p = predictor.forward(tape, params, &z, norm)?;
                out.found.push((Feature::P, tape.apply(L2Normalise, &[&p])?));
            }
            if wants(Feature::Z) {
                out.found.push((Feature::Z, tape.apply(L2Normalise, &[&z])?));
            }
        }
        if wants(Feature::Pool) {
            out.found.push((Feature::Pool, pooled));
        }
        Ok(out)
    }

    /// The space's strides, without dilation.
    pub fn trunk(&self) -> Trunk {
        Trunk { strides: self.space.strides(), dilations: [1; STAGES] }
    }

    /// What stage 1 reads: the stem's output, pooled where the space pools.
    ///
    /// # Errors
    /// [`crate::Kind::Usage`] for an architecture that is not of the space; those of the ops.
    pub fn stem(
        &self,
        tape: &mut Tape,
        params: &Params,
        x: Var,
        arch: &Arch,
        norm: &mut BnMode,
    ) -> Result<Var> {
        self.space.check(arch)?;
        let conv = Conv2d::new(arch.stem, self.space.stem.kernel, self.space.stem.stride);
        let h = self.stem.forward(tape, params, &x, conv, norm, None, true)?;
        drop(x);
        if self.space.stem.maxpool { tape.apply(MaxPool, &[&h]) } else { Ok(h) }
    }

    /// Runs a range of stages, counted from 0, on the output of the stage before them; `each` gets
    /// the output of every stage.
    ///
    /// # Errors
    /// Those of [`Supernet::stem`].
    #[allow(clippy::too_many_arguments)]
    pub fn stages(
        &self,
        tape: &mut Tape,
        params: &Params,
        x: Var,
        arch: &Arch,
        range: Range<usize>,
        trunk: &Trunk,
        norm: &mut BnMode,
        mut each: impl FnMut(usize, &Var),
    ) -> Result<Var> {
        self.space.check(arch)?;
        let mut h = x;
        for s in range {
            for (b, block) in self.stages[s][..arch.depths[s]].iter().enumerate() {
                let sizes = Sizes {
                    kind: self.space.block,
                    width: arch.widths[s],
                    stride_and_dilation: trunk.of_block(s, b),
                };
                h = block.forward(tape, params, h, sizes, norm)?;
            }
            each(s, &h);
        }
        Ok(h)
    }
}
