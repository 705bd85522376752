//! Proposals from what a region proposal net says, where it says it. Not differentiated.

pub mod checks;
mod kernels;
pub mod work;

use rayon::prelude::*;

use super::expect_shape;
use crate::cx::{Cx, Exec};
use crate::error::{Error, Result};
use crate::geometry::corners::has_area;
use crate::geometry::{Anchors, Corners, LevelOutput, ProposalSettings, proposals};
use crate::tensor::{DType, Shape, Tensor};

/// What a region proposal net says of a level of a batch of N images.
pub struct Level<'a> {
    /// The level's anchors, A at each of its h×w positions.
    pub anchors: &'a Anchors,
    /// A logit of each anchor: [N, h, w, A], of F32.
    pub logits: &'a Tensor,
    /// dx, dy, dw, dh of each anchor: [N, h, w, 4·A], of F32.
    pub deltas: &'a Tensor,
}

impl Level<'_> {
    /// Anchors of an image that are considered.
    fn chosen(&self, settings: &ProposalSettings) -> usize {
        settings.pre.min(self.anchors.len())
    }

    fn check(&self, images: usize) -> Result<()> {
        let Self { anchors, logits, deltas } = self;
        let [_, h, w, _] = logits.shape().0;
        let each = anchors.per_position();
        expect_shape("logits", logits.shape(), Shape::nhwc(images, h, w, each))?;
        expect_shape("deltas", deltas.shape(), Shape::nhwc(images, h, w, 4 * each))?;
        if h * w * each != anchors.len() || w != anchors.width() {
            return Err(Error::usage(format!(
                "expected logits of {} anchors, {} in a row of positions; found {}",
                anchors.len(),
                anchors.width() * each,
                logits.shape()
            )));
        }
        if [logits, deltas].iter().any(|t| t.dtype() != DType::F32) {
            return Err(Error::usage(format!(
                "expected logits and deltas in F32; found {:?} and {:?}",
                logits.dtype(),
                deltas.dtype()
            )));
        }
        Ok(())
    }
}

/// The boxes that [`proposals()`] finds in each image of these `[height, width]` (without padding), bit
/// for bit: [N, R, 1, 4], the best first, where R is the most that an image can have; rows that are
/// left are 0. The host does not wait for it.
///
/// # Errors
/// [`Kind::Usage`](crate::Kind::Usage) for shapes and types that do not fit;
/// [`Kind::Memory`](crate::Kind::Memory) where a device must hold masks of more boxes than it can:
/// those of an image take `pre`² bits a level.
pub fn propose(
    cx: &Cx,
    levels: &[Level],
    sizes: &[[f32; 2]],
    settings: &ProposalSettings,
) -> Result<Tensor> {
    let images = sizes.len();
    levels.iter().try_for_each(|level| level.check(images))?;
    let rows = levels.iter().map(|level| level.chosen(settings)).sum::<usize>().min(settings.post);
    let mut y = cx.zeros(Shape::nhwc(images, rows, 1, 4), DType::F32)?;
    match cx.exec("proposals") {
        _ if y.shape().elems() == 0 => {}
        Exec::DryRun => {}
        Exec::Cpu => {
            let of_image = |(i, y): (usize, &mut [f32])| {
                let outputs: Vec<LevelOutput> =
                    levels.iter().map(|level| level.of_image(i)).collect();
                let found = proposals(&outputs, sizes[i], settings);
                let boxes = y.as_chunks_mut::<4>().0.iter_mut();
                boxes.zip(found).for_each(|(to, proposal)| *to = proposal.bbox);
            };
            y.host_mut::<f32>().par_chunks_exact_mut(4 * rows).enumerate().for_each(of_image);
        }
        Exec::Device(launcher) => kernels::propose(cx, &launcher, levels, sizes, settings, &mut y)?,
    }
    Ok(y)
}

impl<'a> Level<'a> {
    /// What is said of one image, in host memory.
    fn of_image(&self, i: usize) -> LevelOutput<'a> {
        let n = self.anchors.len();
        LevelOutput {
            anchors: self.anchors,
            logits: &self.logits.host()[i * n..(i + 1) * n],
            deltas: &self.deltas.host()[4 * i * n..4 * (i + 1) * n],
        }
    }
}

/// The boxes of each image that [`propose`] found. Waits for them.
///
/// # Errors
/// Those of the device.
pub fn download(cx: &Cx, proposed: &Tensor) -> Result<Vec<Vec<Corners>>> {
    let [images, rows, ..] = proposed.shape().0;
    let values = cx.download(proposed)?;
    let all = values.as_chunks::<4>().0;
    let of_image = |i: usize| {
        // What is proposed has an area; what is 0 has none.
        all[i * rows..(i + 1) * rows].iter().copied().take_while(has_area).collect()
    };
    Ok((0..images).map(of_image).collect())
}
