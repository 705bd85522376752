//! Where other libraries keep the tensors of nets for dense tasks, and in which order their values.
//!
//! torchvision's names are those of its detectors (`MaskRCNN`), MMDetection's and MMSegmentation's
//! those of their models, detectron2's those of `GeneralizedRCNN`.

use crate::config::Task;
use crate::export::Layout;

/// A tensor of ours in another library.
#[derive(Debug, PartialEq)]
pub(super) struct Place {
    /// What it is called there.
    pub name: String,
    /// How its values differ.
    pub change: Change,
}

/// How the values of another library differ.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Change {
    /// Not at all.
    Nothing,
    /// A linear layer reads regions as (channel, row, column); ours reads (row, column, channel), of
    /// so many positions.
    ChannelsFirst(usize),
    /// The background is the first class; ours is the last one.
    BackgroundFirst,
    /// So many rows of zeros, for the background, come first; ours has none.
    Zeros(usize),
}

/// Positions of the regions that a box head reads.
const POSITIONS: usize = 49;

/// Our layers, without numbers; the least number; and what torchvision and MMDetection call them:
/// `{i}` counts from 0, `{part}` is the convolution or its batch norm.
const LAYERS: [(&str, usize, &str, &str); 13] = [
    ("fpn_lateral", 2, "backbone.fpn.inner_blocks.{i}.{part}", "neck.lateral_convs.{i}.{part}"),
    ("fpn_output", 2, "backbone.fpn.layer_blocks.{i}.{part}", "neck.fpn_convs.{i}.{part}"),
    ("rpn_head.conv", 0, "rpn.head.conv.0.0", "rpn_head.rpn_conv"),
    ("rpn_head.objectness_logits", 0, "rpn.head.cls_logits", "rpn_head.rpn_cls"),
    ("rpn_head.anchor_deltas", 0, "rpn.head.bbox_pred", "rpn_head.rpn_reg"),
    (
        "box_head.conv",
        1,
        "roi_heads.box_head.{i}.{part}",
        "roi_head.bbox_head.shared_convs.{i}.{part}",
    ),
    ("box_head.fc", 1, "roi_heads.box_head.{fc}", "roi_head.bbox_head.shared_fcs.{i}"),
    (
        "box_predictor.cls_score",
        0,
        "roi_heads.box_predictor.cls_score",
        "roi_head.bbox_head.fc_cls",
    ),
    (
        "box_predictor.bbox_pred",
        0,
        "roi_heads.box_predictor.bbox_pred",
        "roi_head.bbox_head.fc_reg",
    ),
    (
        "mask_head.mask_fcn",
        1,
        "roi_heads.mask_head.{i}.{part}",
        "roi_head.mask_head.convs.{i}.{part}",
    ),
    ("mask_head.deconv", 0, "roi_heads.mask_predictor.conv5_mask", "roi_head.mask_head.upsample"),
    (
        "mask_head.predictor",
        0,
        "roi_heads.mask_predictor.mask_fcn_logits",
        "roi_head.mask_head.conv_logits",
    ),
    // The batch norm behind the last stage, of which MMDetection knows nothing.
    ("res", 5, "roi_heads.box_head.norm", ""),
];

/// Where a layout keeps the tensor that we call `ours`, of a net for `task`; `convs`: whether the box
/// head has convolutions. None where it has no place.
pub(super) fn place(layout: Layout, task: Task, convs: bool, ours: &str) -> Option<Place> {
    let (layer, value) = ours.rsplit_once('.')?;
    let is_body = ["conv1.", "bn1.", "layer"].iter().any(|start| ours.starts_with(start));
    let name = match (layout, task) {
        (Layout::Torchvision | Layout::Mmdet, Task::Seg) if is_body => format!("backbone.{ours}"),
        // Its heads have MMSegmentation's names.
        (Layout::Torchvision | Layout::Mmdet, Task::Seg) => ours.to_owned(),
        (_, Task::Seg) => return None,
        (_, _) if is_body => body(layout, task, ours)?,
        (Layout::Detectron2, _) if ours.starts_with("fpn_") => format!("backbone.{ours}"),
        (Layout::Detectron2, _) if ours.starts_with("rpn_") => format!("proposal_generator.{ours}"),
        (Layout::Detectron2, _) => format!("roi_heads.{ours}"),
        (Layout::Torchvision | Layout::Mmdet, _) => {
            format!("{}.{value}", head(layout, convs, layer)?)
        }
        _ => return None,
    };
    let change = match (layer, value, layout) {
        ("box_head.fc1", "weight", _) => Change::ChannelsFirst(POSITIONS),
        ("box_predictor.cls_score", _, Layout::Torchvision) => Change::BackgroundFirst,
        ("box_predictor.bbox_pred", _, Layout::Torchvision) => Change::Zeros(4),
        ("mask_head.predictor", _, Layout::Torchvision) => Change::Zeros(1),
        _ => Change::Nothing,
    };
    Some(Place { name, change })
}

/// The layer of a head.
fn head(layout: Layout, convs: bool, layer: &str) -> Option<String> {
    let (module, is_norm) = match layer.strip_suffix(".norm") {
        Some(module) => (module, true),
        None => (layer, false),
    };
    let digits = module.len() - module.trim_end_matches(|c: char| c.is_ascii_digit()).len();
    let (base, number) = module.split_at(module.len() - digits);
    let (_, least, torchvision, mmdet) = LAYERS.iter().find(|(name, ..)| *name == base)?;
    let i = number.parse::<usize>().unwrap_or(0).checked_sub(*least)?;
    let (path, parts) = match layout {
        Layout::Torchvision => (torchvision, ["0", "1"]),
        _ => (mmdet, ["conv", "bn"]),
    };
    // torchvision's head with convolutions is one sequence: its linear layer follows four of them and a
    // layer that flattens.
    let fc = if convs { "5".to_owned() } else { format!("fc{}", 6 + i) };
    let path = path.replace("{i}", &i.to_string()).replace("{fc}", &fc);
    Some(path.replace("{part}", parts[usize::from(is_norm)])).filter(|path| !path.is_empty())
}

/// A tensor of the backbone of a detector, whose last stage is a head without a feature pyramid.
fn body(layout: Layout, task: Task, ours: &str) -> Option<String> {
    let is_head = task == Task::DetC4 && ours.starts_with("layer4.");
    match (layout, is_head) {
        (Layout::Torchvision, false) => Some(format!("backbone.body.{ours}")),
        (Layout::Torchvision, true) => Some(format!("roi_heads.box_head.{ours}")),
        (Layout::Mmdet, false) => Some(format!("backbone.{ours}")),
        (Layout::Mmdet, true) => Some(format!("roi_head.shared_head.{ours}")),
        (Layout::Detectron2, _) => {
            let name = detectron2(ours)?;
            Some(match (task, is_head) {
                (_, true) => format!("roi_heads.{name}"),
                (Task::DetC4, _) => format!("backbone.{name}"),
                _ => format!("backbone.bottom_up.{name}"),
            })
        }
        _ => None,
    }
}

/// detectron2's name of a tensor of a ResNet: `layer1.0.bn2.weight` is `res2.0.conv2.norm.weight`.
fn detectron2(ours: &str) -> Option<String> {
    let (at, rest) = match ours.strip_prefix("layer") {
        Some(rest) => {
            let (stage, rest) = rest.split_once('.')?;
            let (block, rest) = rest.split_once('.')?;
            (format!("res{}.{block}", stage.parse::<usize>().ok()? + 1), rest)
        }
        None => ("stem".to_owned(), ours),
    };
    let layer = match rest.strip_prefix("downsample.") {
        Some(rest) => format!("shortcut.{rest}").replace(".0.", ".").replace(".1.", ".norm."),
        None => match rest.strip_prefix("bn") {
            Some(rest) => format!("conv{}", rest.replacen('.', ".norm.", 1)),
            None => rest.to_owned(),
        },
    };
    Some(format!("{at}.{layer}"))
}

impl Change {
    /// Dimensions and values as the library has them.
    pub(super) fn apply(self, shape: &[usize], values: &[f32]) -> (Vec<usize>, Vec<f32>) {
        let (rows, row) = (shape[0], values.len() / shape[0].max(1));
        let mut shape = shape.to_vec();
        let values = match self {
            Self::Nothing => values.to_vec(),
            Self::ChannelsFirst(positions) => transposed(values, row, [positions, row / positions]),
            Self::BackgroundFirst => {
                let (classes, background) = values.split_at((rows - 1) * row);
                [background, classes].concat()
            }
            Self::Zeros(more) => {
                shape[0] += more;
                [&vec![0.0; more * row], values].concat()
            }
        };
        (shape, values)
    }

    /// The inverse of [`Change::apply`]. None where there are too few rows or columns.
    pub(super) fn undo(self, shape: &[usize], values: &[f32]) -> Option<(Vec<usize>, Vec<f32>)> {
        let rows = *shape.first().filter(|rows| **rows > 0)?;
        let row = values.len() / rows;
        let mut shape = shape.to_vec();
        let values = match self {
            Self::Nothing => values.to_vec(),
            Self::ChannelsFirst(positions) if row.is_multiple_of(positions) && row > 0 => {
                transposed(values, row, [row / positions, positions])
            }
            Self::ChannelsFirst(_) => return None,
            Self::BackgroundFirst => {
                let (background, classes) = values.split_at(row);
                [classes, background].concat()
            }
            Self::Zeros(more) => {
                shape[0] = rows.checked_sub(more)?;
                values.get(more * row..)?.to_vec()
            }
        };
        Some((shape, values))
    }
}

/// Each row of `row` values, a matrix of this height and width, transposed.
fn transposed(values: &[f32], row: usize, [height, width]: [usize; 2]) -> Vec<f32> {
    let of_row = |values: &[f32]| -> Vec<f32> {
        (0..width)
            .flat_map(|x| (0..height).map(move |y| (x, y)))
            .map(|(x, y)| values[y * width + x])
            .collect()
    };
    values.chunks_exact(row.max(1)).flat_map(of_row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(layout: Layout, task: Task, ours: &str) -> String {
        place(layout, task, false, ours).map_or("-".to_owned(), |place| place.name)
    }

    #[test]
    fn layers_of_detectors_by_name() {
        use Layout::{Detectron2, Mmdet, Torchvision};
        use Task::{DetC4, DetFpn, Seg};
        for (layout, task, ours, theirs) in [
            (Torchvision, DetFpn, "conv1.weight", "backbone.body.conv1.weight"),
            (Torchvision, DetFpn, "layer4.0.bn1.bias", "backbone.body.layer4.0.bn1.bias"),
            (Torchvision, DetC4, "layer4.0.bn1.bias", "roi_heads.box_head.layer4.0.bn1.bias"),
            (Torchvision, DetFpn, "fpn_lateral3.weight", "backbone.fpn.inner_blocks.1.0.weight"),
            (
                Torchvision,
                DetFpn,
                "fpn_output5.norm.running_var",
                "backbone.fpn.layer_blocks.3.1.running_var",
            ),
            (Torchvision, DetFpn, "rpn_head.conv.bias", "rpn.head.conv.0.0.bias"),
            (Torchvision, DetFpn, "box_head.fc2.bias", "roi_heads.box_head.fc7.bias"),
            (Torchvision, DetFpn, "mask_head.mask_fcn4.weight", "roi_heads.mask_head.3.0.weight"),
            (Torchvision, DetC4, "res5.norm.weight", "roi_heads.box_head.norm.weight"),
            (Torchvision, Seg, "layer1.0.conv1.weight", "backbone.layer1.0.conv1.weight"),
            (Mmdet, Seg, "decode_head.convs.0.bn.bias", "decode_head.convs.0.bn.bias"),
            (Mmdet, DetFpn, "fpn_lateral2.norm.weight", "neck.lateral_convs.0.bn.weight"),
            (Mmdet, DetC4, "layer4.1.bn1.bias", "roi_head.shared_head.layer4.1.bn1.bias"),
            (Mmdet, DetC4, "res5.norm.weight", "-"),
            (Detectron2, Seg, "decode_head.conv_seg.bias", "-"),
            (
                Detectron2,
                DetC4,
                "layer4.0.downsample.1.bias",
                "roi_heads.res5.0.shortcut.norm.bias",
            ),
        ] {
            assert_eq!(name(layout, task, ours), theirs, "{layout} {task} {ours}");
        }
        let convs = place(Torchvision, DetFpn, true, "box_head.fc1.weight").unwrap();
        assert_eq!(convs.name, "roi_heads.box_head.5.weight");
        assert_eq!(convs.change, Change::ChannelsFirst(49));
    }

    #[test]
    fn changes_are_undone() {
        let values: Vec<f32> = (0..12).map(|v| v as f32).collect();
        let (shape, changed) = Change::ChannelsFirst(2).apply(&[2, 6], &values);
        // Two positions of three channels.
        assert_eq!(changed[..6], [0.0, 3.0, 1.0, 4.0, 2.0, 5.0]);
        assert_eq!(Change::ChannelsFirst(2).undo(&shape, &changed).unwrap().1, values);
        let (_, changed) = Change::BackgroundFirst.apply(&[3, 4], &values);
        assert_eq!(changed[..5], [8.0, 9.0, 10.0, 11.0, 0.0]);
        for change in [Change::Nothing, Change::BackgroundFirst, Change::Zeros(4)] {
            let (shape, changed) = change.apply(&[3, 4], &values);
            assert_eq!(shape[0] * 4, changed.len());
            assert_eq!(change.undo(&shape, &changed).unwrap(), (vec![3, 4], values.clone()));
        }
        assert_eq!(Change::Zeros(4).undo(&[3, 4], &values), None);
        assert_eq!(Change::ChannelsFirst(49).undo(&[3, 4], &values), None);
    }
}
