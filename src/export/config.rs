//! `config.json` of an export: what the net is, how images are prepared for it, and the
//! arguments that let timm's ResNet build it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize, Serializer};

use super::hub;
use super::layout::{Layout, TIMM_STEM, expressible};
use crate::data::decimals;
use crate::error::{Error, Result};
use crate::eval::record::Learnt;
use crate::nn::{Bn, Heads, Mlp, Supernet};
use crate::space::{Arch, Block, STAGES, Space, StageSpace, StemSpace};

/// Name of the file with the weights.
pub const WEIGHTS: &str = crate::files::EXPORTED_WEIGHTS;
/// The file that describes the net.
pub const CONFIG: &str = "config.json";
/// What `format` says; a reader of another version refuses the folder.
const FORMAT: &str = "engine-export-1";

/// `config.json`. Its keys `architecture`, `model_args` and `pretrained_cfg` are what timm
/// looks for; the first and the last are there only where timm's own ResNet is this net.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Config {
    /// Version of the folder's format.
    pub format: String,
    /// timm's name of the family.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub architecture: Option<String>,
    /// ID of the subnet.
    pub arch: Arch,
    /// The stem.
    pub stem: Stem,
    /// Width of each stage.
    pub widths: [usize; STAGES],
    /// Blocks of each stage.
    pub depths: [usize; STAGES],
    /// Stride of each stage's first block.
    pub strides: [usize; STAGES],
    /// Its blocks.
    #[serde(default)]
    pub block: Block,
    /// Output channels of a block over its width.
    pub expansion: usize,
    /// Channels of C5.
    pub num_features: usize,
    /// Projection head, where the file has one.
    pub head: Option<Head>,
    /// Classifier, where the net was fine-tuned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub classifier: Option<Classifier>,
    /// Channels, height and width of the input.
    pub input_size: [usize; 3],
    /// Mean that is subtracted from each channel (of values in 0..1).
    #[serde(serialize_with = "as_decimals")]
    pub mean: Vec<f32>,
    /// Deviation that each channel is then divided by.
    #[serde(serialize_with = "as_decimals")]
    pub std: Vec<f32>,
    /// Multiply-accumulates of the backbone's convolutions at `input_size`.
    pub macs: u64,
    /// Parameters of the backbone: convolutions and batch norms.
    pub params: u64,
    /// Parameters of the convolutions alone.
    pub conv_params: u64,
    /// Height and width that the supernet was trained for.
    pub resolution: usize,
    /// Where the weights are from.
    #[serde(flatten)]
    pub origin: Origin,
    /// Arguments of `timm.models.resnet.ResNet`.
    pub model_args: ModelArgs,
    /// What timm wants to know about the weights.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pretrained_cfg: Option<PretrainedCfg>,
    /// BLAKE3 of the files, by name.
    pub hashes: BTreeMap<String, String>,
}

fn as_decimals<S: Serializer>(values: &[f32], to: S) -> Result<S::Ok, S::Error> {
    decimals(values).serialize(to)
}

/// The stem of an exported net.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stem {
    /// Output channels.
    pub width: usize,
    /// Kernel size of the convolution.
    pub kernel: usize,
    /// Stride of the convolution.
    pub stride: usize,
    /// Whether a 3×3 stride-2 max-pool follows.
    pub maxpool: bool,
}

/// The projection head of an exported net: Linear (→ BN) → ReLU → Linear (→ BN).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// Width of the hidden layer.
    pub hidden: usize,
    /// Size of the embedding.
    pub dim: usize,
    /// Whether a batch norm follows the first linear layer; the linear layers then have no biases.
    #[serde(default)]
    pub norm: bool,
    /// Whether one without affine parameters follows the last; as `norm` where it is not said.
    #[serde(default)]
    pub last_norm: Option<bool>,
}

impl Head {
    fn of(mlp: &Mlp) -> Result<Self> {
        let described = mlp.0.first().map(|first| Self {
            hidden: first.out,
            dim: mlp.dim(),
            norm: first.bn != Bn::None,
            last_norm: mlp.0.last().map(|last| last.bn != Bn::None),
        });
        described.filter(|head| head.mlp() == *mlp).ok_or_else(|| {
            Error::usage(format!(
                "expected a projection head of two layers, found {} that this format cannot \
                 describe: export without the head",
                mlp.0.len()
            ))
        })
    }

    fn mlp(&self) -> Mlp {
        match self.norm && !self.has_last_norm() {
            true => Mlp::byol(self.hidden, self.dim),
            false => Mlp::moco(self.hidden, self.dim, self.norm),
        }
    }

    /// Whether a batch norm follows the last linear layer.
    pub(super) fn has_last_norm(&self) -> bool {
        self.last_norm.unwrap_or(self.norm)
    }
}

/// The classifier of an exported net.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Classifier {
    /// Names of its classes, in the order of its outputs.
    pub classes: Vec<String>,
    /// How it was learnt.
    #[serde(flatten)]
    pub learnt: Learnt,
}

/// Where an export's weights are from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Origin {
    /// The search space that it is of: a preset's name, or a space of the user's own.
    pub preset: Space,
    /// Self-supervised method.
    pub method: String,
    /// Training steps.
    pub step: u64,
    /// Images that the batch norm statistics are from.
    pub bn_images: usize,
    /// Where these images are from.
    pub bn_data: Vec<String>,
}

/// Arguments of timm's ResNet. That has one plain stem: 7×7 pixels, stride 2, 64 channels whatever
/// `stem_width` says, and a max-pool. Where this net's is another, its arguments stand here too:
/// timm, which does not know them, then ends with their names in place of building another net.
/// `load_timm` in `model.py` leaves them out and puts the true stem in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelArgs {
    /// Blocks of each stage.
    pub layers: [usize; STAGES],
    /// Width of each stage.
    pub channels: [usize; STAGES],
    /// Output channels of the stem.
    pub stem_width: usize,
    /// Outputs of the classifier; 0: there is none.
    pub num_classes: usize,
    /// Channels of the input, where they are not 3.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_chans: Option<usize>,
    /// Kernel size of the stem's convolution, where timm's ResNet is not this net; so the next two.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stem_kernel: Option<usize>,
    /// Stride of the stem's convolution.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stem_stride: Option<usize>,
    /// Whether a max-pool follows the stem.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stem_maxpool: Option<bool>,
}

/// timm's description of weights.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PretrainedCfg {
    /// Channels, height and width of the input.
    pub input_size: [usize; 3],
    /// Mean of each channel.
    #[serde(serialize_with = "as_decimals")]
    pub mean: Vec<f32>,
    /// Deviation of each channel.
    #[serde(serialize_with = "as_decimals")]
    pub std: Vec<f32>,
    /// Resampling.
    pub interpolation: String,
    /// Side of the centre crop over that of the resized image.
    pub crop_pct: f32,
    /// First convolution.
    pub first_conv: Option<String>,
    /// Classifier, which the file does not have.
    pub classifier: String,
}

impl Config {
    /// The description of a net that consists of one architecture. Hashes are still missing.
    ///
    /// # Errors
    /// [`crate::Kind::Usage`] for a head that a description cannot say.
    pub fn of(net: &Supernet, origin: Origin) -> Result<Self> {
        let head = net.heads().map(|heads| Head::of(&heads.projector)).transpose()?;
        let space = net.space();
        let (arch, cost) = (space.max(), space.cost(&space.max()));
        let stem = &space.stem;
        let side = space.resolution;
        let is_timms = is_timms(space);
        let other = |x: usize| (!is_timms).then_some(x);
        Ok(Self {
            format: FORMAT.into(),
            architecture: is_timms.then(|| hub::family(space.block).into()),
            arch,
            stem: Stem {
                width: arch.stem,
                kernel: stem.kernel,
                stride: stem.stride,
                maxpool: stem.maxpool,
            },
            widths: arch.widths,
            depths: arch.depths,
            strides: space.strides(),
            block: space.block,
            expansion: space.block.expansion(),
            num_features: space.outputs(&arch, STAGES - 1),
            head,
            classifier: None,
            input_size: [space.channels(), side, side],
            mean: space.mean.clone(),
            std: space.std.clone(),
            macs: cost.macs,
            params: cost.params,
            conv_params: cost.conv_params,
            resolution: side,
            origin,
            model_args: ModelArgs {
                layers: arch.depths,
                channels: arch.widths,
                stem_width: arch.stem,
                num_classes: 0,
                in_chans: Some(space.channels()).filter(|channels| *channels != 3),
                stem_kernel: other(stem.kernel),
                stem_stride: other(stem.stride),
                stem_maxpool: (!is_timms).then_some(stem.maxpool),
            },
            pretrained_cfg: is_timms.then(|| PretrainedCfg {
                input_size: [space.channels(), side, side],
                mean: space.mean.clone(),
                std: space.std.clone(),
                interpolation: "bilinear".into(),
                crop_pct: 0.875,
                first_conv: hub::first_conv(space.channels()).map(str::to_owned),
                classifier: "fc".into(),
            }),
            hashes: BTreeMap::new(),
        })
    }

    /// Whether `timm.create_model` builds this net from the folder.
    pub fn is_timms(&self) -> bool {
        self.architecture.is_some()
    }

    /// The net that this describes, without values.
    ///
    /// # Errors
    /// [`crate::Kind::Data`] where the description contradicts itself or is of another
    /// version; `origin` names the file.
    pub fn net(&self, origin: &str) -> Result<Supernet> {
        if self.format != FORMAT {
            return Err(Error::data(format!(
                "{origin} has format {:?}, expected {FORMAT:?}: export the subnet again with this \
                 version",
                self.format
            )));
        }
        let arch = Arch { stem: self.stem.width, widths: self.widths, depths: self.depths };
        let sizes = [self.stem.kernel, self.stem.stride, self.resolution, self.stem.width];
        let numbers = sizes.iter().chain(&self.strides).chain(&self.widths).chain(&self.depths);
        let possible = numbers.into_iter().all(|n| (1..=MOST).contains(n));
        if arch != self.arch
            || self.expansion != self.block.expansion()
            || self.mean.len() != self.input_size[0]
            || self.std.len() != self.input_size[0]
            || self.mean.is_empty()
            || !possible
            || self.stem.kernel.is_multiple_of(2)
        {
            return Err(Error::data(format!(
                "{origin} contradicts itself: arch is {}, stem, widths and depths say {arch} with \
                 expansion {}, stem kernel {} and strides {:?}; export the subnet again",
                self.arch, self.expansion, self.stem.kernel, self.strides
            )));
        }
        let heads = self.head.as_ref().map(|head| Heads::projector(head.mlp()));
        Ok(Supernet::new(&self.space(), heads.as_ref()))
    }

    /// Multiply-accumulates of the backbone with a stem of another width.
    pub(super) fn macs_with_stem(&self, width: usize) -> u64 {
        self.space().cost(&Arch { stem: width, ..self.arch }).macs
    }

    fn space(&self) -> Space {
        Space {
            name: self.arch.to_string(),
            like: self.origin.preset.like.clone(),
            resolution: self.resolution,
            mean: self.mean.clone(),
            std: self.std.clone(),
            block: self.block,
            stem: StemSpace {
                kernel: self.stem.kernel,
                stride: self.stem.stride,
                maxpool: self.stem.maxpool,
                widths: vec![self.stem.width],
            },
            stages: std::array::from_fn(|i| StageSpace {
                widths: vec![self.widths[i]],
                depths: vec![self.depths[i]],
                stride: self.strides[i],
            }),
        }
    }
}

/// Whether timm's ResNet is the net of a space of one point, without padding.
fn is_timms(space: &Space) -> bool {
    space.max().stem == TIMM_STEM && expressible(Layout::Timm, space).is_ok()
}

/// Larger numbers than this in a description are taken for damage.
const MOST: usize = 99_999;

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn config(preset: &str, arch: &str) -> Value {
        let arch: Arch = arch.parse().unwrap();
        let net = Supernet::new(&Space::preset(preset).unwrap().single(&arch), None);
        let origin = Origin {
            preset: Space::preset(preset).unwrap(),
            method: "moco".into(),
            step: 1,
            bn_images: 8,
            bn_data: Vec::new(),
        };
        let config = Config::of(&net, origin).unwrap();
        let written = json!(config);
        let read: Config = serde_json::from_value(written.clone()).unwrap();
        assert_eq!(read, config);
        written
    }

    #[test]
    fn only_what_timm_builds_looks_like_its_folder() {
        let keys = |config: &Value| -> Vec<String> {
            config["model_args"].as_object().unwrap().keys().cloned().collect()
        };
        let r50 = config("data", "s64-w64.128.256.512-d3.4.6.3");
        assert_eq!(r50["architecture"], "resnet50");
        assert_eq!(r50["pretrained_cfg"]["first_conv"], "conv1");
        // These are arguments of timm's ResNet, all of them.
        assert_eq!(keys(&r50), ["layers", "channels", "stem_width", "num_classes"]);
        let others = [
            ("data", "s32-w48.96.192.384-d2.2.5.2"),
            ("cifar", "s32-w32.64.128.256-d3.4.6.3"),
            ("tiny", "s8-w8.16.32.64-d1.1.2.1"),
        ];
        for (preset, arch) in others {
            let config = config(preset, arch);
            for key in ["architecture", "pretrained_cfg"] {
                assert!(config.get(key).is_none(), "{preset}: {key}");
            }
            // timm's ResNet has no such argument, and says so.
            assert!(keys(&config).contains(&"stem_kernel".to_owned()), "{config}");
        }
    }

    #[test]
    fn exports_of_earlier_versions_are_read() {
        let mut old = config("tiny", "s8-w8.16.32.64-d1.1.2.1");
        old["architecture"] = json!("resnet50");
        old["model_args"] = json!({
            "layers": [1, 1, 2, 1], "channels": [8, 16, 32, 64], "stem_width": 8, "num_classes": 0,
        });
        old["pretrained_cfg"] =
            config("data", "s64-w64.128.256.512-d3.4.6.3")["pretrained_cfg"].clone();
        let read: Config = serde_json::from_value(old).unwrap();
        read.net("config.json").unwrap();
    }
}
