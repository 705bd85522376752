//! Layouts of an export's files, and which nets each can hold.

use std::collections::BTreeSet;

use crate::choice;
use crate::error::{Error, Result};
use crate::space::{Space, presets};

choice! {
    /// What an export's folder holds, for the libraries that read it.
    #[derive(PartialOrd, Ord)]
    pub enum Layout ("layout") {
        /// `model.safetensors` with torchvision's names: always there.
        Torchvision = "torchvision",
        /// `model.onnx`.
        Onnx = "onnx",
        /// `transformers/`, for `AutoModel` and `ResNetBackbone`.
        Transformers = "transformers",
        /// `timm/`, for `create_model`.
        Timm = "timm",
        /// `detectron2/`, of nets fine-tuned for detection.
        Detectron2 = "detectron2",
        /// `mmdet/`, for MMDetection and MMSegmentation, of nets fine-tuned for detection or segmentation.
        Mmdet = "mmdet",
    }
}

/// Channels of the stem of timm's ResNet, whatever its arguments say.
pub(super) const TIMM_STEM: usize = 64;

impl Layout {
    const ALL: [Self; 4] = [Self::Torchvision, Self::Onnx, Self::Transformers, Self::Timm];
}

/// Whether a layout can hold the net of a space of one point.
///
/// # Errors
/// The reason, in words.
pub fn expressible(layout: Layout, space: &Space) -> Result<(), String> {
    let (name, stem) = match layout {
        Layout::Torchvision | Layout::Onnx => return Ok(()),
        Layout::Transformers => ("transformers", space.max().stem),
        Layout::Timm => ("timm", TIMM_STEM),
        Layout::Detectron2 | Layout::Mmdet => {
            return Err(
                "this layout is of runs of engine finetune --task seg, det-c4 or det-fpn; of a \
                        backbone python model.py in the export's folder writes it"
                    .into(),
            );
        }
    };
    let arch = space.max();
    let theirs = (7, 2, true);
    if (space.stem.kernel, space.stem.stride, space.stem.maxpool) != theirs {
        return Err(format!(
            "its stem is a {k}×{k} convolution of stride {} {} max-pool, {name}'s is 7×7 of stride 2 \
             with one",
            space.stem.stride,
            if space.stem.maxpool { "with" } else { "without" },
            k = space.stem.kernel,
        ));
    }
    let strides = space.strides();
    if strides != presets::STRIDES {
        return Err(format!(
            "its stages have strides {strides:?}, {name}'s have {:?}",
            presets::STRIDES
        ));
    }
    if arch.stem > stem {
        return Err(format!("its stem has {} channels, {name}'s has {stem}", arch.stem));
    }
    // The first blocks of the other stages have a stride, so that everybody projects there.
    if space.outputs(&arch, 0) == stem {
        return Err(format!(
            "its first block projects {stem} channels to {stem}, where {name} adds them as they are"
        ));
    }
    Ok(())
}

/// Exit 2 unless all of these layouts can hold the net.
pub(super) fn check(layouts: &BTreeSet<Layout>, space: &Space) -> Result<()> {
    let fits = |layout: &Layout| expressible(*layout, space).is_ok();
    let Some((layout, reason)) = layouts
        .iter()
        .find_map(|layout| expressible(*layout, space).err().map(|reason| (layout, reason)))
    else {
        return Ok(());
    };
    let others: Vec<&str> =
        Layout::ALL.iter().filter(|l| fits(l)).map(|layout| layout.as_str()).collect();
    Err(Error::usage(format!(
        "--layout {layout} cannot hold {}: {reason}; expected {}",
        space.max(),
        others.join(" or ")
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reason(layout: Layout, preset: &str, arch: &str) -> String {
        let space = Space::preset(preset).unwrap().single(&arch.parse().unwrap());
        expressible(layout, &space).err().unwrap_or_default()
    }

    #[test]
    fn each_layout_says_what_it_cannot_hold() {
        use Layout::{Onnx, Timm, Torchvision, Transformers};
        let small = "s8-w8.16.32.64-d1.1.2.1";
        for layout in [Torchvision, Onnx] {
            assert_eq!(reason(layout, "tiny", small), "");
        }
        for layout in [Transformers, Timm] {
            assert!(reason(layout, "tiny", small).contains("3×3 convolution of stride 2 without"));
            assert!(reason(layout, "cifar", small).contains("of stride 1"));
            for on_grid in Space::preset("data").unwrap().enumerate().step_by(997) {
                assert_eq!(reason(layout, "data", &on_grid.to_string()), "");
            }
        }
        // Off the grid: a stage that adds its input as it is, each library where its stem says so.
        let equal = "s48-w12.64.128.256-d2.2.5.2";
        assert!(reason(Transformers, "data", equal).contains("projects 48 channels to 48"));
        assert_eq!(reason(Timm, "data", equal), "");
        let padded = "s48-w16.64.128.256-d2.2.5.2";
        assert_eq!(reason(Transformers, "data", padded), "");
        assert!(reason(Timm, "data", padded).contains("projects 64 channels to 64"));
        let mut wide = Space::preset("data").unwrap();
        wide.stem.widths = vec![96];
        assert!(expressible(Timm, &wide).unwrap_err().contains("has 96 channels, timm's has 64"));
        assert_eq!(expressible(Transformers, &wide), Ok(()));
        wide.stages[2].stride = 1;
        assert!(expressible(Transformers, &wide).unwrap_err().contains("[1, 2, 1, 2]"));
        let said = check(&BTreeSet::from([Torchvision, Timm]), &wide).unwrap_err();
        let said = said.to_string();
        assert!(said.starts_with("--layout timm cannot hold s96-"), "{said}");
        assert!(said.ends_with("expected torchvision or onnx"), "{said}");
    }
}
