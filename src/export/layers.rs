//! Which layers an exported net has, by torchvision's names: what the layouts of files share.

use super::config::Config;
use crate::nn::CLASSIFIER;
use crate::space::{self, STAGES};

/// A convolution without bias, and the batch norm behind it.
pub(super) struct ConvBn {
    pub conv: String,
    pub bn: String,
    pub stride: usize,
}

/// A linear layer and the batch norm behind it, if there is one.
pub(super) struct Linear {
    pub linear: String,
    pub bn: Option<String>,
}

/// A residual block. A ReLU follows each of its convolutions; the last one's comes after the sum.
pub(super) struct Block {
    pub name: String,
    pub convs: Vec<ConvBn>,
    /// The projection of the input, where the input itself is not added.
    pub shortcut: Option<ConvBn>,
}

/// All layers, in order. The sizes of weights are those of the tensors.
pub(super) struct Layers {
    pub stem: ConvBn,
    pub maxpool: bool,
    pub stages: Vec<Vec<Block>>,
    /// The projection head, with a ReLU between its layers.
    pub head: Vec<Linear>,
    /// The classifier behind the pooled features.
    pub classifier: Option<Linear>,
}

impl Layers {
    /// Those of an export.
    pub(super) fn of(config: &Config) -> Self {
        let Config { stem, block, depths, strides, .. } = config;
        let mut layers = Self::backbone((stem.stride, stem.maxpool), *block, *depths, *strides);
        let linear = |name: &str, bn: Option<&str>| Linear {
            linear: name.to_owned(),
            bn: bn.map(str::to_owned),
        };
        if let Some(head) = &config.head {
            layers.head = match head.norm {
                true => {
                    let last = head.has_last_norm().then_some("head.4");
                    vec![linear("head.0", Some("head.1")), linear("head.3", last)]
                }
                false => vec![linear("head.0", None), linear("head.2", None)],
            };
        }
        layers.classifier = config.classifier.as_ref().map(|_| linear(CLASSIFIER, None));
        layers
    }

    /// A backbone that projects in the first block of each stage.
    pub(super) fn backbone(
        (stem_stride, maxpool): (usize, bool),
        kind: space::Block,
        depths: [usize; STAGES],
        strides: [usize; STAGES],
    ) -> Self {
        let stage = |s: usize| {
            let block = |b: usize| {
                let stride = if b == 0 { strides[s] } else { 1 };
                Block::new(format!("layer{}.{b}", s + 1), kind, stride, b == 0)
            };
            (0..depths[s]).map(block).collect()
        };
        Self {
            stem: ConvBn { conv: "conv1".into(), bn: "bn1".into(), stride: stem_stride },
            maxpool,
            stages: (0..STAGES).map(stage).collect(),
            head: Vec::new(),
            classifier: None,
        }
    }
}

impl Block {
    fn new(name: String, kind: space::Block, stride: usize, projects: bool) -> Self {
        let conv = |i: usize| {
            let stride = if i == kind.strided() { stride } else { 1 };
            let i = i + 1;
            ConvBn { conv: format!("{name}.conv{i}"), bn: format!("{name}.bn{i}"), stride }
        };
        let shortcut = projects.then(|| ConvBn {
            conv: format!("{name}.downsample.0"),
            bn: format!("{name}.downsample.1"),
            stride,
        });
        Self { convs: (0..kind.kernels().len()).map(conv).collect(), shortcut, name }
    }
}
