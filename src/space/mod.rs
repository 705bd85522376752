//! The search space (paper, Table 1): which widths and depths a subnet may have, how
//! architectures are named, what they cost, and how they are drawn.

pub mod arch;
pub mod budget;
pub mod cost;
pub mod named;
pub mod presets;
pub mod sample;

pub use arch::Arch;
pub use budget::{Budget, Metric};
pub use cost::Cost;
pub use named::Named;
pub use sample::{Policy, Sampler};

use crate::error::{Error, Result};

/// Stages of a ResNet.
pub const STAGES: usize = 4;
/// Output channels of a bottleneck block over its width.
pub const EXPANSION: usize = 4;

/// The stem: one convolution, batch norm, ReLU and, optionally, a 3×3 stride-2 max-pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StemSpace {
    /// Kernel size, 7 or 3.
    pub kernel: usize,
    /// Stride of the convolution.
    pub stride: usize,
    /// Whether the max-pool follows.
    pub maxpool: bool,
    /// Output channels to choose from, ascending.
    pub widths: Vec<usize>,
}

/// One stage of bottleneck blocks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StageSpace {
    /// Widths to choose from, ascending: output channels of the 1×1-reduce and the 3×3
    /// convolutions; the stage's output has [`EXPANSION`] times as many.
    pub widths: Vec<usize>,
    /// Numbers of blocks to choose from, ascending.
    pub depths: Vec<usize>,
    /// Stride of the first block's 3×3 convolution and of its shortcut.
    pub stride: usize,
}

/// A search space: stem, four stages, and the input size that costs refer to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Space {
    /// Name of the preset, or the architecture's ID where the space is a single net.
    pub name: String,
    /// Height and width of the input, in pixels.
    pub resolution: usize,
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
    /// The preset with this name (see [`presets::NAMES`]); exit 2 for an unknown one.
    pub fn preset(name: &str) -> Result<Self> {
        presets::by_name(name)
    }

    /// A space with one architecture only, behind a stem like `stem`: what an exported net is.
    pub fn single(arch: &Arch, resolution: usize, stem: &StemSpace) -> Self {
        Self {
            name: arch.to_string(),
            resolution,
            stem: StemSpace { widths: vec![arch.stem], ..*stem },
            stages: std::array::from_fn(|i| StageSpace {
                widths: vec![arch.widths[i]],
                depths: vec![arch.depths[i]],
                stride: presets::STRIDES[i],
            }),
        }
    }

    /// The space with no architecture but `arch`, of the same resolution and strides.
    pub fn only(&self, arch: &Arch) -> Self {
        let mut only = Self::single(arch, self.resolution, &self.stem);
        for (to, from) in only.stages.iter_mut().zip(&self.stages) {
            to.stride = from.stride;
        }
        only
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
