//! Where a detector's anchors lie.

use crate::geometry::{Anchors, Corners, fpn_level};
use crate::nn::dense::{DetNet, RATIOS};

/// Strides and anchors of the levels of a net.
#[derive(Clone, Debug)]
pub(super) struct Grid {
    strides: Vec<usize>,
    sizes: Vec<Vec<f64>>,
    /// What the sides of a batch of images are multiples of.
    multiple: usize,
    /// Levels that regions are read from.
    region_levels: usize,
}

/// The stride of the first level of an FPN on a ResNet for large images.
const USUAL_STRIDE: f32 = 4.0;

impl Grid {
    pub(super) fn of(net: &DetNet) -> Self {
        let strides = net.strides();
        let sizes = (0..strides.len()).map(|level| net.anchor_sizes(level)).collect();
        let (multiple, region_levels) = (net.multiple(), net.region_levels());
        Self { strides, sizes, multiple, region_levels }
    }

    /// Stride and sizes of anchors of each level.
    pub(super) fn levels(&self) -> impl Iterator<Item = (usize, &[f64])> {
        self.strides.iter().zip(&self.sizes).map(|(stride, sizes)| (*stride, &sizes[..]))
    }

    /// Height and width of a batch of images of at most this size.
    pub(super) fn padded(&self, size: [usize; 2]) -> [usize; 2] {
        size.map(|side| side.next_multiple_of(self.multiple))
    }

    /// The anchors of each level of images of this height and width.
    pub(super) fn anchors(&self, [height, width]: [usize; 2]) -> Vec<Anchors> {
        let level = |(&stride, sizes): (&usize, &Vec<f64>)| {
            let positions = [height.div_ceil(stride), width.div_ceil(stride)];
            Anchors::new(stride, sizes, &RATIOS, positions)
        };
        self.strides.iter().zip(&self.sizes).map(level).collect()
    }

    /// The level that a region is read from, counted from 0: the larger, the higher.
    pub(super) fn level(&self, roi: &Corners) -> usize {
        if self.region_levels == 1 {
            return 0;
        }
        let scale = USUAL_STRIDE / self.strides[0] as f32;
        (fpn_level(&roi.map(|v| v * scale)) - 2).min(self.region_levels - 1)
    }
}
