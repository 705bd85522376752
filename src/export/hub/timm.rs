//! `timm/`: for `timm.create_model("local-dir:…", pretrained=True)`. The backbone alone: then timm
//! loads it strictly, so that a wrong name is an error.
//!
//! timm's ResNet has a stem of 64 channels. A narrower one gets channels that are 0 for every image:
//! rows of zeros in the convolution, γ = β = mean = 0 in its batch norm, and columns of zeros in the
//! two convolutions that read it. They get no gradient, so they stay 0 when the net is trained.

use clap::ValueEnum;
use serde_json::json;

use super::super::layout::{Layout, TIMM_STEM};
use super::{Library, Place, four};
use crate::data::decimals;
use crate::space::{Arch, Block};

pub(in super::super) static TIMM: Library = Library {
    layout: Layout::Timm,
    place,
    config: |config| {
        json!({
            "architecture": family(config.block),
            "num_classes": 0,
            "num_features": config.num_features,
            "global_pool": "avg",
            "model_args": {
                "layers": config.depths,
                "channels": config.widths,
                "in_chans": config.input_size[0],
            },
            "pretrained_cfg": {
                "num_classes": 0,
                "input_size": config.input_size,
                "interpolation": "bilinear",
                "crop_pct": 0.875,
                "crop_mode": "center",
                "mean": decimals(&config.mean),
                "std": decimals(&config.std),
                "first_conv": first_conv(config.input_size[0]),
                "classifier": "fc",
            },
        })
    },
    builds: |config| {
        let args = &config["model_args"];
        let (widths, depths) = (four(&args["channels"])?, four(&args["layers"])?);
        let of = |block: &Block| config["architecture"] == family(*block);
        let block = Block::value_variants().iter().copied().find(of)?;
        Some((block, Arch { stem: TIMM_STEM, widths, depths }))
    },
    more: |_| Vec::new(),
};

/// timm's function that builds nets of such blocks, of any widths and depths.
pub(in super::super) fn family(block: Block) -> &'static str {
    match block {
        Block::Bottleneck => "resnet50",
        Block::Basic => "resnet18",
    }
}

/// The layer that timm adapts to other channels than 3, for images of so many: none where the weights
/// are for other channels already.
pub(in super::super) fn first_conv(channels: usize) -> Option<&'static str> {
    (channels == 3).then_some("conv1")
}

/// Torchvision's names, with the padding.
fn place(name: &str, shape: &[usize]) -> Option<Place> {
    if !name.starts_with("layer") && !name.starts_with("conv1.") && !name.starts_with("bn1.") {
        return None;
    }
    let mut shape = shape.to_vec();
    // The dimension that is the stem's channels.
    let stem = match name {
        "layer1.0.conv1.weight" | "layer1.0.downsample.0.weight" => Some(1),
        _ if name.starts_with("layer") => None,
        _ => Some(0),
    };
    if let Some(channels) = stem.and_then(|dim| shape.get_mut(dim)) {
        *channels = TIMM_STEM;
    }
    Some(Place { name: name.to_owned(), shape })
}
