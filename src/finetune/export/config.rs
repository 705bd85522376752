//! `config.json` of an export for a dense task: what the net is, how images are prepared for it, and
//! what is said of them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::config::{BoxHead, Config, Det, Method, Seg, Task, TunedBn};
use crate::data::decimals;
use crate::error::{Error, Result};
use crate::eval::record::Learnt;
use crate::files::Named;
use crate::finetune::tuned_net::TunedNet;
use crate::finetune::{det, seg};
use crate::nn::Trunk;
use crate::nn::dense::{DetNet, RATIOS};
use crate::space::{Arch, STAGES, Space};

/// What `format` says; a reader of another version refuses the folder.
const FORMAT: &str = "engine-dense-export-1";

/// `config.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Description {
    /// Version of the folder's format.
    pub format: String,
    /// The task.
    pub task: Task,
    /// ID of the backbone.
    pub arch: Arch,
    /// Names of the classes, in order.
    pub classes: Vec<String>,
    /// The search space that the backbone is of.
    pub preset: Space,
    /// Training step of the weights.
    pub step: u64,
    /// How they were learnt.
    pub learnt: Learnt,
    /// Images that the statistics of batch norms are from.
    pub bn_images: usize,
    /// Statistics of the body's batch norms in fine-tuning.
    pub bn: TunedBn,
    /// Settings of segmentation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seg: Option<Seg>,
    /// Settings of detection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub det: Option<Det>,
    /// What follows from all this, for readers that cannot work it out: layers, anchors, and mean and
    /// deviation of pixels.
    pub layers: Value,
    /// BLAKE3 of the files, by name.
    pub hashes: BTreeMap<String, String>,
}

impl Description {
    /// Of a net. Hashes are still missing.
    ///
    /// # Errors
    /// Those of its layers.
    pub fn of(tuned: &TunedNet) -> Result<Self> {
        let TunedNet { task, config, arch, classes, learnt, bn_images, step, .. } = tuned.clone();
        Ok(Self {
            format: FORMAT.into(),
            layers: layers(tuned)?,
            task,
            arch,
            classes,
            learnt,
            bn_images,
            step,
            bn: config.finetune.bn,
            seg: (task == Task::Seg).then_some(config.seg),
            det: (task != Task::Seg).then_some(config.det),
            preset: config.preset,
            hashes: BTreeMap::new(),
        })
    }

    /// The net that this describes, with its tensors; `origin` names their file.
    ///
    /// # Errors
    /// [`crate::Kind::Data`] where the description is of another version or contradicts itself.
    pub fn net(&self, named: Named, origin: String) -> Result<TunedNet> {
        if self.format != FORMAT {
            return Err(Error::data(format!(
                "config.json beside {origin} has format {:?}, expected {FORMAT:?}: export the run \
                 again with this version",
                self.format
            )));
        }
        let mut config = Config::defaults(&self.preset, Method::Moco);
        config.finetune.bn = self.bn;
        match (self.task, &self.seg, &self.det) {
            (Task::Seg, Some(seg), _) => config.seg = seg.clone(),
            (Task::DetC4 | Task::DetFpn, _, Some(det)) => config.det = det.clone(),
            _ => {
                return Err(Error::data(format!(
                    "config.json beside {origin} has no settings for task {}: export the run again",
                    self.task
                )));
            }
        }
        config.validate()?;
        Ok(TunedNet {
            task: self.task,
            config,
            arch: self.arch,
            classes: self.classes.clone(),
            learnt: self.learnt.clone(),
            bn_images: self.bn_images,
            step: self.step,
            named,
            origin,
        })
    }
}

fn layers(tuned: &TunedNet) -> Result<Value> {
    let space = tuned.space()?;
    let (mean, std) = (decimals(&space.mean), decimals(&space.std));
    let of = |trunk: &Trunk, head: (&str, Value)| json!({ "mean": mean, "std": std, "body": body(&space, &tuned.arch, trunk), head.0: head.1 });
    if tuned.task == Task::Seg {
        let net = seg::net(tuned)?;
        let head = json!({ "channels": net.fcn().channels, "aux": net.fcn().aux });
        return Ok(of(net.trunk(), ("fcn", head)));
    }
    let net = det::net(tuned)?;
    Ok(of(net.trunk(), ("detector", detector(&net, tuned.config.det.box_head))))
}

fn body(space: &Space, arch: &Arch, trunk: &Trunk) -> Value {
    let stem = &space.stem;
    json!({
        "stem": {
            "width": arch.stem,
            "kernel": stem.kernel,
            "stride": stem.stride,
            "maxpool": stem.maxpool,
        },
        "widths": arch.widths,
        "depths": arch.depths,
        "strides": trunk.strides,
        "dilations": trunk.dilations,
        "block": space.block,
        "outputs": std::array::from_fn::<usize, STAGES, _>(|s| space.outputs(arch, s)),
    })
}

fn detector(net: &DetNet, kind: BoxHead) -> Value {
    let (detector, strides) = (net.detector(), net.strides());
    let [convs, fcs, units] = detector.box_head;
    let sizes: Vec<Vec<f64>> = (0..strides.len()).map(|level| net.anchor_sizes(level)).collect();
    json!({
        "fpn": detector.fpn,
        "channels": detector.channels,
        "box_head": { "kind": kind, "convs": convs, "fcs": fcs, "units": units },
        "norm": detector.norm,
        "head_norm": detector.head_norm,
        "mask": detector.mask,
        "strides": strides,
        "anchor_sizes": sizes,
        "anchor_ratios": RATIOS,
        "size_multiple": net.multiple(),
        "region_levels": net.region_levels(),
    })
}
