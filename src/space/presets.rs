//! The search spaces that come with the program.

use super::{Block, STAGES, Space, StageSpace, StemSpace};
use crate::data::{IMAGENET_MEAN, IMAGENET_STD};
use crate::error::{Error, Result};

/// Names of the presets, the largest first.
pub const NAMES: [&str; 3] = ["data", "cifar", "tiny"];

/// What they are, in the same order.
pub const ABOUT: [&str; 3] = [
    "The paper's Table 1, for 224×224 pixels.",
    "Half of the widths, for 32×32 pixels: a GPU's work.",
    "Small nets for 32×32 pixels: minutes of two CPU cores.",
];

/// Strides of a ResNet's stages.
pub const STRIDES: [usize; STAGES] = [1, 2, 2, 2];

/// Numbers `lo`, `lo + step`, … up to and with `hi`: how the paper writes a dimension.
fn steps(lo: usize, hi: usize, step: usize) -> Vec<usize> {
    (lo..=hi).step_by(step).collect()
}

/// Numbers of blocks of the paper's Table 1.
fn table1_depths() -> [Vec<usize>; STAGES] {
    [steps(2, 4, 1), steps(2, 6, 2), steps(5, 29, 2), steps(2, 4, 1)]
}

fn stages(widths: [Vec<usize>; STAGES], depths: [Vec<usize>; STAGES]) -> [StageSpace; STAGES] {
    let mut rest = widths.into_iter().zip(depths).zip(STRIDES);
    std::array::from_fn(|_| {
        let ((widths, depths), stride) = rest.next().expect("three arrays of four");
        StageSpace { widths, depths, stride }
    })
}

/// A space of bottlenecks for RGB images, normalised as ImageNet's are.
fn preset(name: &str, resolution: usize, stem: StemSpace, stages: [StageSpace; STAGES]) -> Space {
    Space {
        name: name.into(),
        like: name.into(),
        resolution,
        mean: IMAGENET_MEAN.to_vec(),
        std: IMAGENET_STD.to_vec(),
        block: Block::Bottleneck,
        stem,
        stages,
    }
}

/// `data`: the paper's Table 1, for 224×224 pixels.
pub fn data() -> Space {
    let widths = [steps(48, 80, 16), steps(96, 160, 32), steps(192, 320, 64), steps(384, 640, 128)];
    let stem = StemSpace { kernel: 7, stride: 2, maxpool: true, widths: steps(32, 64, 16) };
    preset("data", 224, stem, stages(widths, table1_depths()))
}

/// `cifar`: half of Table 1's widths, its depths, and a stem that keeps 32×32 pixels.
pub fn cifar() -> Space {
    let widths = [steps(24, 40, 8), steps(48, 80, 16), steps(96, 160, 32), steps(192, 320, 64)];
    let stem = StemSpace { kernel: 3, stride: 1, maxpool: false, widths: steps(16, 32, 8) };
    preset("cifar", 32, stem, stages(widths, table1_depths()))
}

/// `tiny`: for 32×32 pixels, small enough for two CPU cores.
pub fn tiny() -> Space {
    let widths = [steps(8, 16, 8), steps(16, 32, 8), steps(32, 64, 16), steps(64, 128, 32)];
    let depths = [steps(1, 2, 1), steps(1, 3, 1), steps(2, 6, 1), steps(1, 2, 1)];
    let stem = StemSpace { kernel: 3, stride: 2, maxpool: false, widths: steps(8, 16, 8) };
    preset("tiny", 32, stem, stages(widths, depths))
}

/// The preset with this name.
pub fn by_name(name: &str) -> Result<Space> {
    match name {
        "data" => Ok(data()),
        "cifar" => Ok(cifar()),
        "tiny" => Ok(tiny()),
        _ => Err(Error::usage(format!(
            "unknown preset {name:?}{}: expected one of {}, or a file *.toml with a space of your own",
            crate::error::nearest(name, NAMES),
            NAMES.join(", ")
        ))),
    }
}
