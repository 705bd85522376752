//! Regions of a step: proposals of the region proposal net, and those of them that the heads learn
//! from. These are sampled on the host; draws are functions of the seed and the image's position.

use rayon::prelude::*;

use super::grid::Grid;
use crate::cx::Cx;
use crate::data::annotated::ImageTargets;
use crate::error::Result;
use crate::geometry::{
    Anchors, Coder, Corners, Matcher, ProposalSettings, RoiSample, Sampler, mask_target,
};
use crate::nn::dense::RpnOutput;
use crate::ops::proposals::{self, Level};
use crate::rng::{Philox, Purpose};
use crate::tensor::{DType, Shape, Tensor};

/// Boxes that are proposed in each image of these heights and widths, the best first. Waits for what
/// the region proposal net says of the batch, of which no more than these boxes comes to the host.
pub(super) fn proposed(
    cx: &Cx,
    outputs: &[RpnOutput],
    anchors: &[Anchors],
    sizes: &[[usize; 2]],
    settings: &ProposalSettings,
) -> Result<Vec<Vec<Corners>>> {
    let pairs = outputs.iter().zip(anchors);
    let levels: Vec<Level> = pairs
        .map(|(RpnOutput { logits, deltas }, anchors)| Level {
            anchors,
            logits: logits.value(),
            deltas: deltas.value(),
        })
        .collect();
    let sizes: Vec<[f32; 2]> = sizes.iter().map(|size| size.map(|side| side as f32)).collect();
    proposals::download(cx, &proposals::propose(cx, &levels, &sizes, settings)?)
}

/// A region that the heads learn from.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Region {
    /// Image of the batch, and level, from 0.
    pub place: [usize; 2],
    /// Its box.
    pub roi: Corners,
    /// The object of the image that it stands for, its class, and how its box differs; none of the
    /// background.
    pub object: Option<(usize, usize, [f32; 4])>,
}

impl Region {
    /// As the heads take it: image, level, x1, y1, x2, y2.
    pub(super) fn row(&self) -> [f32; 6] {
        let ([image, level], [x1, y1, x2, y2]) = (self.place, self.roi);
        [image as f32, level as f32, x1, y1, x2, y2]
    }
}

/// Regions of one image with their levels, as the heads take them.
pub(super) fn rows(cx: &Cx, placed: &[(usize, Corners)]) -> Result<Tensor> {
    let row =
        |(level, [x1, y1, x2, y2]): &(usize, Corners)| [0.0, *level as f32, *x1, *y1, *x2, *y2];
    let rows: Vec<f32> = placed.iter().flat_map(row).collect();
    cx.upload(Shape::matrix(placed.len(), 6), DType::F32, &rows)
}

/// Samples regions from the proposals of each image, in the order of images and levels.
pub(super) fn sample(
    targets: &[ImageTargets],
    proposed: &[Vec<Corners>],
    grid: &Grid,
    sampler: &Sampler,
    seed: u64,
) -> Vec<Region> {
    let of_image = |(i, (targets, proposed)): (usize, (&ImageTargets, &Vec<Corners>))| {
        let truths: Vec<Corners> = targets.objects.iter().map(|o| o.bbox.corners()).collect();
        let mut rng = Philox::new(seed, Purpose::Proposals, targets.position, 0);
        let chosen = sampler.rois(proposed, &truths, (Matcher::ROI, Coder::ROI), &mut rng);
        let region = |RoiSample { roi, target }: RoiSample| Region {
            place: [i, grid.level(&roi)],
            roi,
            object: target.map(|(o, deltas)| (o, targets.objects[o].class, deltas)),
        };
        let mut regions: Vec<Region> = chosen.into_iter().map(region).collect();
        // Stable: of one level they stay in their order.
        regions.sort_by_key(|region| region.place);
        regions
    };
    let all: Vec<Vec<Region>> =
        targets.par_iter().zip(proposed).enumerate().map(of_image).collect();
    all.concat()
}

/// Regions of objects with masks, and what their masks should be, `side`×`side` each.
pub(super) fn masks(
    targets: &[ImageTargets],
    regions: &[Region],
    side: usize,
) -> Result<Vec<(Region, Vec<f32>)>> {
    let of_region = |region: &Region| {
        let (object, ..) = region.object?;
        let mask = targets[region.place[0]].objects[object].mask.as_ref()?;
        let target = mask_target(mask, &region.roi, side).map(|cells| {
            (region.clone(), cells.into_iter().map(|inside| f32::from(u8::from(inside))).collect())
        });
        Some(target)
    };
    regions.par_iter().filter_map(of_region).collect()
}
