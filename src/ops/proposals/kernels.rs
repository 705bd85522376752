//! Launches of `kernels/proposals.cu`.

use bytemuck::NoUninit;

use super::Level;
use crate::cx::Cx;
use crate::device::{Geometry, Launcher, size};
use crate::error::Result;
use crate::geometry::{Coder, ProposalSettings};
use crate::ops::vector::THREADS;
use crate::tensor::{DType, Meta, Shape, Tensor};

/// Threads of a block that selects.
const SELECT_THREADS: u32 = 1024;
/// Boxes of a word of a mask, its bytes, and words that a block makes of each row.
const WORD: u32 = 64;
const WORD_BYTES: usize = 8;
const BLOCK_WORDS: u32 = 4;
/// Masks of so many bytes are made at a time, or those of one image.
const MASKS_BYTES: usize = 64 << 20;
/// Bytes of a box, and of a key of an anchor and of a logit.
const BOX_BYTES: usize = 16;
const ANCHOR_KEY_BYTES: usize = 8;
const KEY_BYTES: usize = 4;

/// `ProposalsSelectParams`.
#[derive(Clone, Copy, Debug, NoUninit)]
#[repr(C)]
struct SelectParams {
    anchors: u32,
    chosen: u32,
}

/// `ProposalsDecodeParams`.
#[derive(Clone, Copy, Debug, NoUninit)]
#[repr(C)]
struct DecodeParams {
    anchors: u32,
    chosen: u32,
    per_position: u32,
    columns: u32,
    stride: f32,
    most: f32,
    weights: [f32; 4],
}

/// `ProposalsOverlapParams`.
#[derive(Clone, Copy, Debug, NoUninit)]
#[repr(C)]
struct OverlapParams {
    chosen: u32,
    words: u32,
    threshold: f32,
}

/// `ProposalsSuppressParams`.
#[derive(Clone, Copy, Debug, NoUninit)]
#[repr(C)]
struct SuppressParams {
    chosen: u32,
    words: u32,
    most: u32,
    level: u32,
    levels: u32,
}

/// `ProposalsMergeParams`.
#[derive(Clone, Copy, Debug, NoUninit)]
#[repr(C)]
struct MergeParams {
    images: u32,
    levels: u32,
    most: u32,
    rows: u32,
}

/// Memory for `n` values of so many bytes, for kernels alone.
fn memory(cx: &Cx, n: usize, bytes: usize) -> Result<Tensor> {
    let words = size(n * bytes / DType::F32.size_bytes())?;
    cx.scratch(Meta::new(Shape::vector(words as usize), DType::F32))
}

/// Boxes of each level that stay, the best first: [images][levels][most], and their numbers.
struct Lists {
    most: usize,
    keys: Tensor,
    boxes: Tensor,
    counts: Tensor,
}

/// Puts the best boxes of images of these heights and widths into `y` [images, rows, 1, 4], which is
/// 0 before.
pub(super) fn propose(
    cx: &Cx,
    launcher: &Launcher,
    levels: &[Level],
    sizes: &[[f32; 2]],
    settings: &ProposalSettings,
    y: &mut Tensor,
) -> Result<()> {
    let [images, rows, ..] = y.shape().0;
    let most = levels.iter().map(|level| level.chosen(settings)).max().unwrap_or(0);
    let most = most.min(settings.post);
    let all = images * levels.len();
    let mut lists = Lists {
        most,
        keys: memory(cx, all * most, KEY_BYTES)?,
        boxes: memory(cx, all * most, BOX_BYTES)?,
        counts: cx.zeros(Shape::matrix(images, levels.len()), DType::F32)?,
    };
    let sizes = cx.upload(Shape::matrix(images, 2), DType::F32, sizes.as_flattened())?;
    for (i, level) in levels.iter().enumerate() {
        let chosen = level.chosen(settings);
        if chosen > 0 {
            let boxes = Boxes::decode(cx, launcher, level, [images, chosen], &sizes, settings)?;
            boxes.suppress(cx, launcher, settings.nms, [i, levels.len()], &mut lists)?;
        }
    }
    let [images, levels, most, rows] =
        [size(images)?, size(levels.len())?, size(most)?, size(rows)?];
    let params = MergeParams { images, levels, most, rows };
    let Lists { keys, boxes, counts, .. } = &lists;
    let pointers = [keys.device(), boxes.device(), counts.device(), y.device_mut()];
    let geometry = Geometry::cover(size(all * lists.most)?, THREADS);
    launcher.launch("proposals_merge_f32", geometry, &pointers, &params)
}

/// The chosen anchors of a level as boxes, the greatest logits first: [images][chosen].
struct Boxes {
    images: usize,
    chosen: usize,
    keys: Tensor,
    boxes: Tensor,
}

impl Boxes {
    fn decode(
        cx: &Cx,
        launcher: &Launcher,
        level: &Level,
        [images, chosen]: [usize; 2],
        sizes: &Tensor,
        settings: &ProposalSettings,
    ) -> Result<Self> {
        let Level { anchors, logits, deltas } = level;
        size(deltas.shape().elems())?;
        let all = anchors.len() as u32;
        let mut found = memory(cx, images * chosen, ANCHOR_KEY_BYTES)?;
        let params = SelectParams { anchors: all, chosen: chosen as u32 };
        let geometry = Geometry::linear(images as u32, SELECT_THREADS);
        let pointers = [logits.device(), found.device_mut()];
        launcher.launch("proposals_select_f32", geometry, &pointers, &params)?;

        let mut keys = memory(cx, images * chosen, KEY_BYTES)?;
        let mut boxes = memory(cx, images * chosen, BOX_BYTES)?;
        let cell = cx.table(anchors.cell())?;
        let params = DecodeParams {
            anchors: all,
            chosen: chosen as u32,
            per_position: anchors.per_position() as u32,
            columns: anchors.width() as u32,
            stride: anchors.stride(),
            most: Coder::MOST,
            weights: settings.coder.weights,
        };
        let grid = [(chosen as u32).div_ceil(THREADS), images as u32, 1];
        let geometry = Geometry { grid, ..Geometry::linear(1, THREADS) };
        let pointers = [
            found.device(),
            deltas.device(),
            cell.device(),
            sizes.device(),
            keys.device_mut(),
            boxes.device_mut(),
        ];
        launcher.launch("proposals_decode_f32", geometry, &pointers, &params)?;
        Ok(Self { images, chosen, keys, boxes })
    }

    /// Puts those that stay into the lists of a level.
    fn suppress(
        &self,
        cx: &Cx,
        launcher: &Launcher,
        threshold: f32,
        [level, levels]: [usize; 2],
        lists: &mut Lists,
    ) -> Result<()> {
        let (all, most) = (self.chosen, lists.most);
        let (chosen, level, levels_of_all) = (size(all)?, level as u32, levels as u32);
        let words = chosen.div_ceil(WORD);
        let of_image = size(all * words as usize)? as usize;
        let at_once = (MASKS_BYTES / WORD_BYTES / of_image).clamp(1, self.images);
        let mut masks = memory(cx, at_once * of_image, WORD_BYTES)?;
        for first in (0..self.images).step_by(at_once) {
            let n = at_once.min(self.images - first) as u32;
            let boxes = self.boxes.device().offset(first * all * BOX_BYTES);
            let params = OverlapParams { chosen, words, threshold };
            let grid = [words.div_ceil(BLOCK_WORDS), words, n];
            let geometry = Geometry { grid, ..Geometry::linear(1, THREADS) };
            let pointers = [boxes, masks.device_mut()];
            launcher.launch("proposals_overlap_f32", geometry, &pointers, &params)?;

            let params =
                SuppressParams { chosen, words, most: most as u32, level, levels: levels_of_all };
            let geometry = Geometry::linear(n, THREADS).shared(words * WORD_BYTES as u32);
            let list = first * levels;
            let pointers = [
                masks.device(),
                self.keys.device().offset(first * all * KEY_BYTES),
                boxes,
                lists.keys.device_mut().offset(list * most * KEY_BYTES),
                lists.boxes.device_mut().offset(list * most * BOX_BYTES),
                lists.counts.device_mut().offset(list * KEY_BYTES),
            ];
            launcher.launch("proposals_suppress_f32", geometry, &pointers, &params)?;
        }
        Ok(())
    }
}
