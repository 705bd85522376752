//! `README.md` of an export: how each of its layouts is loaded.

use super::config::{Classifier, Config, Origin};
use super::folder::Form;
use super::layout::{Layout, TIMM_STEM};
use super::parity::Parity;
use crate::space::budget::macs;

const TEMPLATE: &str = include_str!("README.template.md");

/// What is added where timm can build the net from the export's own folder.
const LOCAL_DIR: &str = "
Its stem is timm's own, so `timm.create_model(\"local-dir:.\", pretrained=True)` does the same.";
/// What is added where timm cannot.
const OWN_STEM: &str = "
`timm.create_model` cannot build it from this folder: its stem or its first blocks are not those of
timm's ResNet.";

/// The file's text.
pub(super) fn readme(config: &Config, parity: &Parity, form: &Form) -> String {
    let list = |x: &[f32]| x.iter().map(f32::to_string).collect::<Vec<_>>().join(", ");
    let channels = config.input_size[0];
    let samples = if channels == 3 { "RGB" } else { "samples" };
    let others = match (&config.head, &config.classifier) {
        (Some(_), _) => " and `z`",
        (_, Some(_)) => " and `scores` (of the classes in `config.json`)",
        _ => "",
    };
    let Origin { method, step, .. } = &config.origin;
    let trained = match &config.classifier {
        Some(Classifier { classes, learnt }) => format!(
            "fine-tuned on {} labelled images of {} classes (recipe {}, {step} steps)",
            learnt.train_images,
            classes.len(),
            learnt.recipe
        ),
        None => format!("trained without labels ({method}, {step} steps)"),
    };
    let has = |layout| form.layouts.contains(&layout);
    let library = match (has(Layout::Transformers), has(Layout::Timm)) {
        (true, _) => "transformers",
        (_, true) => "timm",
        _ => "pytorch",
    };
    let layouts: String = form.layouts.iter().map(|&layout| about(layout, config, form)).collect();
    let fields = [
        ("{library}", library.to_owned()),
        ("{arch}", config.arch.to_string()),
        ("{preset}", config.origin.preset.name.clone()),
        ("{resolution}", config.resolution.to_string()),
        ("{channels}", channels.to_string()),
        ("{samples}", samples.to_owned()),
        ("{mean}", list(&config.mean)),
        ("{std}", list(&config.std)),
        ("{macs}", macs(config.macs)),
        ("{mparams}", format!("{:.3}", config.params as f64 / 1e6)),
        ("{features}", config.num_features.to_string()),
        ("{images}", parity.reloaded.images.to_string()),
        ("{max_rel}", format!("{:.1e}", parity.max_rel)),
        ("{timm}", if config.is_timms() { LOCAL_DIR } else { OWN_STEM }.to_owned()),
        ("{layouts}", layouts),
        ("{z}", others.to_owned()),
        ("{trained}", trained),
        ("{output}", if config.classifier.is_some() { "scores" } else { "pool" }.to_owned()),
    ];
    fields.iter().fold(TEMPLATE.to_owned(), |text, (key, value)| text.replace(key, value))
}

/// How a layout is loaded.
fn about(layout: Layout, config: &Config, form: &Form) -> String {
    let outputs = match (&config.head, &config.classifier) {
        (Some(_), _) => ", `pool` and `z`",
        (_, Some(_)) => ", `pool` and `logits`",
        _ => " and `pool`",
    };
    match layout {
        Layout::Torchvision | Layout::Detectron2 | Layout::Mmdet => String::new(),
        Layout::Onnx => format!(
            "
With `onnxruntime`, or any other reader of ONNX (opset 17):

```python
import onnxruntime
net = onnxruntime.InferenceSession(\"model.onnx\")
c2, c3, c4, c5, pool = net.run([\"c2\", \"c3\", \"c4\", \"c5\", \"pool\"], {{\"pixel_values\": x}})
```

`x` is a float32 array [N, {}, H, W] of any N, H and W, {}. Outputs: `c2` to `c5`{outputs}.
Batch norms are folded into the convolutions.
",
            config.input_size[0],
            match form.onnx_normalises {
                true => "values in 0..1: the graph subtracts the mean and divides by the deviation",
                false => "normalised as above",
            }
        ),
        Layout::Transformers => "
With `transformers`:

```python
from transformers import AutoImageProcessor, AutoModel
net = AutoModel.from_pretrained(\"transformers\")  # ResNetBackbone: feature_maps, c2 to c5
x = AutoImageProcessor.from_pretrained(\"transformers\")(image, return_tensors=\"pt\")
pool = net(**x).pooler_output
```
"
        .to_owned(),
        Layout::Timm => format!(
            "
With `timm`, by its own call:

```python
import timm
net = timm.create_model(\"local-dir:timm\", pretrained=True)  # net(x) is `pool`
```
{}",
            padding(config)
        ),
    }
}

/// What timm's layout costs where the stem is padded.
fn padding(config: &Config) -> String {
    if config.arch.stem == TIMM_STEM {
        return String::new();
    }
    let more = config.macs_with_stem(TIMM_STEM).saturating_sub(config.macs);
    format!(
        "
timm's stem has {TIMM_STEM} channels, this net's {}: the others are 0 for every image, and stay so when
it is trained. They cost {} MMACs more ({:.1} %).
",
        config.arch.stem,
        more / 1_000_000,
        100.0 * more as f64 / config.macs as f64
    )
}
