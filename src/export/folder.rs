//! The export's folder: written aside, proven, renamed; and read back.

use std::path::Path;

use super::config::{CONFIG, Classifier, Config, Origin, WEIGHTS};
use super::model::{Head, load_with_tensors};
use super::parity::{self, Parity};
use super::subnet;
use crate::cx::Cx;
use crate::error::Result;
use crate::files::owned::Kind;
use crate::files::staged::Staged;
use crate::files::{self, sealed};
use crate::nn::{Params, RunningStats, Supernet};
use crate::space::Arch;
use crate::space::budget::macs;
use crate::tensor::Tensor;

const PARITY: &str = "parity.json";
const MODEL_PY: &str = include_str!("model.py");
const README: &str = include_str!("README.template.md");

/// A subnet inside a supernet, ready to be exported.
pub struct SubnetSource<'a> {
    /// The supernet.
    pub net: &'a Supernet,
    /// Its weights.
    pub params: &'a Params,
    /// The subnet.
    pub arch: Arch,
    /// The subnet's batch norm statistics, by the supernet's indices.
    pub stats: &'a RunningStats,
    /// The classifier, where the net was fine-tuned.
    pub head: Option<&'a Head>,
    /// Where all this is from.
    pub origin: Origin,
}

/// An export's folder as [`crate::files::owned`] sees it.
pub static EXPORT: Kind = Kind {
    name: "export",
    ours: &[&[WEIGHTS, CONFIG, PARITY, "model.py", "README.md"]],
    flags: "--overwrite to replace it",
    is_older: |_| false,
};

/// Writes a subnet into the folder `out`, reads it back, and compares the two on `images`
/// (batches [n, H, W, 3]). The folder appears only once all of that has gone well.
///
/// # Errors
/// [`crate::Kind::Parity`] beyond the tolerance, [`crate::Kind::Usage`] for a folder in the
/// way, [`crate::Kind::Device`] where the disk refuses.
pub fn write(
    cx: &Cx,
    source: &SubnetSource,
    images: &[Tensor],
    out: &Path,
    tolerance: f64,
    overwrite: bool,
) -> Result<(Config, Parity)> {
    write_into(cx, source, images, Staged::begin(out, &EXPORT, overwrite)?, tolerance)
}

/// [`write()`], where the folder is this process's already.
pub(super) fn write_into(
    cx: &Cx,
    source: &SubnetSource,
    images: &[Tensor],
    staged: Staged,
    tolerance: f64,
) -> Result<(Config, Parity)> {
    let fill = |dir: &Path| -> Result<(Config, Parity)> {
        write_net(cx, source, dir)?;
        let (model, named) = load_with_tensors(cx, dir)?;
        let parity = parity::compare(cx, source, &model, &named, images, tolerance)?;
        parity.require()?;
        files::write_json(&dir.join(PARITY), &parity)?;
        files::write_text(&dir.join("model.py"), MODEL_PY)?;
        files::write_text(&dir.join("README.md"), &readme(&model.config, &parity))?;
        Ok((model.config, parity))
    };
    match fill(staged.dir()) {
        Ok(made) => staged.commit().map(|()| made),
        Err(e) => {
            // The first error is the one that matters.
            let _ = staged.abandon();
            Err(e)
        }
    }
}

/// Writes `model.safetensors` and `config.json`.
fn write_net(cx: &Cx, source: &SubnetSource, dir: &Path) -> Result<()> {
    let (small, params) = subnet::extract(cx, source.net, source.params, &source.arch)?;
    let stats = subnet::extract_stats(cx, source.net, source.stats, &small)?;
    let mut tensors = params.to_torch(cx)?;
    tensors.extend(subnet::stats_to_torch(cx, &small, &stats)?);
    let mut config = Config::of(&small, source.origin.clone())?;
    if let Some(head) = source.head {
        tensors.extend(head.classifier.to_torch(cx)?);
        config.model_args.num_classes = head.classes.len();
        config.classifier =
            Some(Classifier { classes: head.classes.clone(), learnt: head.learnt.clone() });
    }
    let metadata = [
        ("arch", source.arch.to_string()),
        ("preset", config.origin.preset.clone()),
        ("method", config.origin.method.clone()),
        ("step", config.origin.step.to_string()),
    ];
    let path = dir.join(WEIGHTS);
    files::write_safetensors(&path, &tensors, &metadata)?;
    config.hashes.insert(WEIGHTS.into(), files::hash(&path)?);
    sealed::write_json(&dir.join(CONFIG), &config)
}

/// What the README adds where timm can build the net by itself.
const LOCAL_DIR: &str = "
Its stem is timm's own, so `timm.create_model(\"local-dir:.\", pretrained=True)` does the same.";
/// What it adds where timm cannot.
const OWN_STEM: &str = "
`timm.create_model` cannot build it: its stem or its first blocks are not those of timm's ResNet.";

fn readme(config: &Config, parity: &Parity) -> String {
    let list = |x: &[f32; 3]| x.map(|x| x.to_string()).join(", ");
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
    let fields = [
        ("{arch}", config.arch.to_string()),
        ("{preset}", config.origin.preset.clone()),
        ("{resolution}", config.resolution.to_string()),
        ("{mean}", list(&config.mean)),
        ("{std}", list(&config.std)),
        ("{macs}", macs(config.macs)),
        ("{mparams}", format!("{:.3}", config.params as f64 / 1e6)),
        ("{features}", config.num_features.to_string()),
        ("{images}", parity.reloaded.images.to_string()),
        ("{max_rel}", format!("{:.1e}", parity.max_rel)),
        ("{timm}", if config.is_timms() { LOCAL_DIR } else { OWN_STEM }.to_owned()),
        ("{z}", others.to_owned()),
        ("{trained}", trained),
        ("{output}", if config.classifier.is_some() { "scores" } else { "pool" }.to_owned()),
    ];
    fields.iter().fold(README.to_owned(), |text, (key, value)| text.replace(key, value))
}
