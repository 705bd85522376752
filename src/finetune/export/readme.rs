//! `README.md` of an export for a dense task.

use super::{Description, Proof};
use crate::config::Task;
use crate::export::Layout;

const TEMPLATE: &str = include_str!("README.template.md");

/// The file's text.
pub(super) fn readme(config: &Description, proof: &Proof) -> String {
    let is_seg = config.task == Task::Seg;
    let what = match config.task {
        Task::Seg => "A fully convolutional net",
        Task::DetC4 => "Faster R-CNN on C4",
        _ => "Mask R-CNN with a feature pyramid",
    };
    let answer = match is_seg {
        true => "`found` is the class of each pixel, [H, W].",
        false => {
            "`found` has `boxes` (x1, y1, x2, y2 in pixels), `scores`, `labels` (numbers of \
             `net.classes`) and, of a net with a mask head, `masks`."
        }
    };
    let layouts: String = proof.tensors.keys().map(|&layout| about(layout, config.task)).collect();
    let fields = [
        ("{pipeline}", if is_seg { "image-segmentation" } else { "object-detection" }.to_owned()),
        ("{arch}", config.arch.to_string()),
        ("{task}", if is_seg { "segmentation" } else { "detection" }.to_owned()),
        ("{what}", what.to_owned()),
        ("{images}", config.learnt.train_images.to_string()),
        ("{count}", config.classes.len().to_string()),
        ("{recipe}", config.learnt.recipe.clone()),
        ("{step}", config.step.to_string()),
        ("{classes}", config.classes.join(", ")),
        ("{answer}", answer.to_owned()),
        ("{names}", if is_seg { "MMSegmentation's" } else { "torchvision's" }.to_owned()),
        ("{layouts}", layouts),
        ("{compared}", proof.images.to_string()),
    ];
    fields.iter().fold(TEMPLATE.to_owned(), |text, (key, value)| text.replace(key, value))
}

/// How a layout is loaded.
fn about(layout: Layout, task: Task) -> String {
    match (layout, task) {
        (Layout::Detectron2, _) => "
`python model.py detectron2 OUT.pth` writes `detectron2/model.safetensors` as a checkpoint for `MODEL.WEIGHTS`. It wants
`RESNETS.STRIDE_IN_1X1 False`, `INPUT.FORMAT RGB`, mean and deviation times 255 as `PIXEL_MEAN` and `PIXEL_STD`, `SyncBN` or `BN` as
the norms of backbone and FPN, and sizes, anchors and thresholds of `config.json`. For other widths than a ResNet-50's register a
backbone that calls `ResNet.make_stage`.
"
        .to_owned(),
        (Layout::Mmdet, Task::Seg) => "
`python model.py mmdet OUT.pth` writes the same weights as a checkpoint for MMSegmentation (`EncoderDecoder`, two `FCNHead`).
"
        .to_owned(),
        (Layout::Mmdet, _) => "
`python model.py mmdet OUT.pth` writes `mmdet/model.safetensors` as a checkpoint for MMDetection (classes as here, the background
last; `AnchorGenerator(scale_major=False)` where a position has anchors of several sizes).
"
        .to_owned(),
        _ => String::new(),
    }
}
