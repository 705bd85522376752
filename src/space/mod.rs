//! The search space (paper, Table 1): which widths and depths a subnet may have, how
//! architectures are named, what they cost, and how they are drawn.

pub mod arch;
pub mod budget;
pub mod cost;
pub mod named;
mod own;
pub mod presets;
pub mod sample;

pub use arch::Arch;
pub use budget::{Budget, Metric};
pub use cost::Cost;
pub use named::Named;
pub use sample::{Policy, Sampler};

use serde::{Deserialize, Serialize};

use crate::data::Input;
use crate::error::{Error, Result};

/// Stages of a ResNet.
pub const STAGES: usize = 4;

crate::choice! {
    /// A residual block (He et al., 2016). The 3×3 convolution that comes first has its stride, and so
    /// has the 1×1 shortcut of a stage's first block.
    #[derive(Default)]
    pub enum Block("block") {
        /// 1×1, 3×3 and 1×1 convolutions; four times as many outputs as the width (ResNet-50).
        #[default]
        Bottleneck = "bottleneck",
        /// Two 3×3 convolutions; as many outputs as the width (ResNet-18).
        Basic = "basic",
    }
}

impl Block {
    /// Output channels over the width.
    pub const fn expansion(self) -> usize {
        match self {
            Self::Bottleneck => 4,
            Self::Basic => 1,
        }
    }

    /// Kernel sizes of its convolutions, in order.
    pub const fn kernels(self) -> &'static [usize] {
        match self {
            Self::Bottleneck => &[1, 3, 1],
            Self::Basic => &[3, 3],
        }
    }

    /// Which of its convolutions has the stride.
    pub const fn strided(self) -> usize {
        match self {
            Self::Bottleneck => 1,
            Self::Basic => 0,
        }
    }
}

/// The stem: one convolution, batch norm, ReLU and, optionally, a 3×3 stride-2 max-pool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StemSpace {
    /// Kernel size, odd.
    pub kernel: usize,
    /// Stride of the convolution.
    pub stride: usize,
    /// Whether the max-pool follows.
    pub maxpool: bool,
    /// Output channels to choose from, ascending.
    pub widths: Vec<usize>,
}

/// One stage of blocks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StageSpace {
    /// Widths to choose from, ascending: output channels of the block's first convolution; the
    /// stage's output has [`Block::expansion`] times as many.
    pub widths: Vec<usize>,
    /// Numbers of blocks to choose from, ascending.
    pub depths: Vec<usize>,
    /// Stride of the first block.
    pub stride: usize,
}

/// A search space: what its nets read, their stem and their four stages. One that comes with the
/// program is written as its name in settings and files, one of the user's own as all that it is.
#[derive(Clone, Debug, PartialEq)]
pub struct Space {
    /// Name of the preset, or the architecture's ID where the space is a single net.
    pub name: String,
    /// The preset whose defaults of training it has.
    pub like: String,
    /// Height and width of the input, in pixels.
    pub resolution: usize,
    /// Mean that is subtracted from each channel of the input, of values in 0..1.
    pub mean: Vec<f32>,
    /// Deviation that each channel is then divided by; as many as there are means.
    pub std: Vec<f32>,
    /// The blocks of the stages.
    pub block: Block,
    /// The stem.
    pub stem: StemSpace,
    /// The stages.
    pub stages: [StageSpace; STAGES],
}

/// Names of an architecture's nine dimensions, in the order of [`dims`].
const DIMS: [&str; 1 + 2 * STAGES] = [
    "stem width",
    "width of stage 1",
    "width of stage 2",
    "width of stage 3",
    "width of stage 4",
    "depth of stage 1",
    "depth of stage 2",
    "depth of stage 3",
    "depth of stage 4",
];

/// Stem, widths and depths of an architecture in one list.
fn dims(arch: &Arch) -> [usize; 1 + 2 * STAGES] {
    let ([a, b, c, d], [i, j, k, l]) = (arch.widths, arch.depths);
    [arch.stem, a, b, c, d, i, j, k, l]
}

fn from_dims([stem, a, b, c, d, i, j, k, l]: [usize; 1 + 2 * STAGES]) -> Arch {
    Arch { stem, widths: [a, b, c, d], depths: [i, j, k, l] }
}

impl Space {
    /// The preset with this name (see [`presets::NAMES`]), or the space that a file `*.toml` holds.
    ///
    /// # Errors
    /// Exit 2 for an unknown name, and for a file that cannot be read or holds no space.
    pub fn preset(name: &str) -> Result<Self> {
        if name.ends_with(own::ENDING) { own::read(name.as_ref()) } else { presets::by_name(name) }
    }

    /// Channels of the input.
    pub fn channels(&self) -> usize {
        self.mean.len()
    }

    /// What its nets read.
    pub fn input(&self) -> Input {
        Input { side: self.resolution, mean: self.mean.clone(), std: self.std.clone() }
    }

    /// Channels of a stage's output, stages from 0, in an architecture.
    pub fn outputs(&self, arch: &Arch, stage: usize) -> usize {
        self.block.expansion() * arch.widths[stage]
    }

    /// Stride of each stage.
    pub fn strides(&self) -> [usize; STAGES] {
        std::array::from_fn(|i| self.stages[i].stride)
    }

    /// The space that has this architecture only: what an exported net is, and what trains a net
    /// by itself.
    pub fn single(&self, arch: &Arch) -> Self {
        Self {
            name: arch.to_string(),
            stem: StemSpace { widths: vec![arch.stem], ..self.stem },
            stages: std::array::from_fn(|i| StageSpace {
                widths: vec![arch.widths[i]],
                depths: vec![arch.depths[i]],
                stride: self.stages[i].stride,
            }),
            ..self.clone()
        }
    }

    /// What each dimension can be, in the order of [`dims`]; ascending, never empty.
    fn options(&self) -> [&[usize]; 1 + 2 * STAGES] {
        let [a, b, c, d] = &self.stages;
        [
            &self.stem.widths,
            &a.widths,
            &b.widths,
            &c.widths,
            &d.widths,
            &a.depths,
            &b.depths,
            &c.depths,
            &d.depths,
        ]
    }

    /// The largest architecture: the supernet itself.
    pub fn max(&self) -> Arch {
        from_dims(self.options().map(|o| o[o.len() - 1]))
    }

    /// The smallest architecture.
    pub fn min(&self) -> Arch {
        from_dims(self.options().map(|o| o[0]))
    }

    /// Number of architectures.
    pub fn count(&self) -> usize {
        self.options().iter().map(|o| o.len()).product()
    }

    /// The architecture with an index below [`Space::count`], in lexicographic order of
    /// stem, widths, depths.
    pub fn nth(&self, mut index: usize) -> Arch {
        let options = self.options();
        let mut dims = [0; 1 + 2 * STAGES];
        for (dim, options) in dims.iter_mut().zip(options).rev() {
            *dim = options[index % options.len()];
            index /= options.len();
        }
        from_dims(dims)
    }

    /// All architectures, in lexicographic order.
    pub fn enumerate(&self) -> impl Iterator<Item = Arch> + '_ {
        (0..self.count()).map(|i| self.nth(i))
    }

    /// The preset that an architecture belongs to: the one on whose grid it lies, else the largest
    /// that contains it; none where it fits in no preset.
    pub fn preset_of(arch: &Arch) -> Option<Self> {
        let all = presets::NAMES.iter().filter_map(|name| Self::preset(name).ok());
        let all: Vec<Self> = all.collect();
        let on_grid = all.iter().find(|space| space.on_grid(arch));
        on_grid.or_else(|| all.iter().find(|space| space.contains(arch))).cloned()
    }

    /// Whether an architecture fits inside the largest one, on the grid or not.
    pub fn contains(&self, arch: &Arch) -> bool {
        dims(arch).iter().zip(dims(&self.max())).all(|(&d, max)| 1 <= d && d <= max)
    }

    /// Whether an architecture is one of those that [`Space::enumerate`] gives.
    pub fn on_grid(&self, arch: &Arch) -> bool {
        dims(arch).iter().zip(self.options()).all(|(d, options)| options.contains(d))
    }

    /// Exit 2 with the dimension that is too large unless the architecture fits inside the
    /// largest one.
    pub fn check(&self, arch: &Arch) -> Result<()> {
        let max = self.max();
        let outside = dims(arch).into_iter().zip(dims(&max)).zip(DIMS);
        match outside.into_iter().find(|((d, max), _)| !(1..=*max).contains(d)) {
            None => Ok(()),
            Some(((found, most), name)) => Err(Error::usage(format!(
                "{arch} does not fit in space {}: its {name} is {found}, expected 1 to {most} \
                 (the largest architecture is {max})",
                self.name
            ))),
        }
    }
}
