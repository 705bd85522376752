//! `transformers/`: for `AutoModel` and `ResNetBackbone`.

use serde_json::{Value, json};

use super::super::config::Config;
use super::super::layout::Layout;
use super::{Library, Place, four};
use crate::data::decimals;
use crate::space::{Arch, Block};

pub(in super::super) static TRANSFORMERS: Library = Library {
    layout: Layout::Transformers,
    place: |name, shape| Some(Place { name: rename(name)?, shape: shape.to_vec() }),
    config: |config| {
        json!({
            "model_type": "resnet",
            "architectures": ["ResNetModel"],
            "num_channels": config.input_size[0],
            "embedding_size": config.stem.width,
            "hidden_sizes": config.widths.map(|width| config.expansion * width),
            "depths": config.depths,
            "layer_type": config.block,
            "hidden_act": "relu",
            "downsample_in_first_stage": false,
            // The stride is the 3×3 convolution's.
            "downsample_in_bottleneck": false,
            "out_features": ["stage1", "stage2", "stage3", "stage4"],
            "torch_dtype": "float32",
        })
    },
    builds: |config| {
        let block: Block = config["layer_type"].as_str()?.parse().ok()?;
        let arch = Arch {
            stem: usize::try_from(config["embedding_size"].as_u64()?).ok()?,
            widths: four(&config["hidden_sizes"])?.map(|outputs| outputs / block.expansion()),
            depths: four(&config["depths"])?,
        };
        Some((block, arch))
    },
    more: |config| vec![("preprocessor_config.json", preprocessor(config))],
};

/// How images are prepared: the shorter side is resized to the resolution over 0.875, and the centre
/// cut out.
fn preprocessor(config: &Config) -> Value {
    json!({
        "image_processor_type": "ConvNextImageProcessor",
        "do_resize": true,
        "size": { "shortest_edge": config.resolution },
        "crop_pct": 0.875,
        // Bilinear.
        "resample": 2,
        "do_rescale": true,
        "rescale_factor": 1.0 / 255.0,
        "do_normalize": true,
        "image_mean": decimals(&config.mean),
        "image_std": decimals(&config.std),
    })
}

/// transformers' name for one of the backbone's tensors.
fn rename(name: &str) -> Option<String> {
    let part = |layer: &str| match layer.starts_with("conv") {
        true => "convolution",
        false => "normalization",
    };
    let parts: Vec<&str> = name.split('.').collect();
    Some(match parts[..] {
        [layer @ ("conv1" | "bn1"), what] => {
            format!("embedder.embedder.{}.{what}", part(layer))
        }
        [stage, block, "downsample", layer, what] => {
            let layer = if layer == "0" { "convolution" } else { "normalization" };
            format!("{}.layers.{block}.shortcut.{layer}.{what}", stage_of(stage)?)
        }
        [stage, block, layer, what] => {
            let number = layer.strip_prefix("conv").or(layer.strip_prefix("bn"))?;
            let index = number.parse::<usize>().ok()?.checked_sub(1)?;
            let (stage, part) = (stage_of(stage)?, part(layer));
            format!("{stage}.layers.{block}.layer.{index}.{part}.{what}")
        }
        _ => return None,
    })
}

/// `encoder.stages.0` for `layer1`.
fn stage_of(layer: &str) -> Option<String> {
    let number: usize = layer.strip_prefix("layer")?.parse().ok()?;
    Some(format!("encoder.stages.{}", number.checked_sub(1)?))
}
