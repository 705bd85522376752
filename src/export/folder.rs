//! The export's folder: written aside, proven, renamed; and read back.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::config::{CONFIG, Classifier, Config, Origin, WEIGHTS};
use super::hub;
use super::layers::Layers;
use super::layout::Layout;
use super::model::{Head, load_with_tensors};
use super::onnx;
use super::parity::{self, Comparison, Parity, Probes};
use super::readme::readme;
use super::subnet;
use crate::cx::Cx;
use crate::error::Result;
use crate::files::owned::Kind;
use crate::files::staged::Staged;
use crate::files::{self, Named, sealed};
use crate::nn::{Params, RunningStats, Supernet};
use crate::space::Arch;
use crate::tensor::Tensor;

/// The file that says how closely an export agrees with its source.
pub const PARITY: &str = "parity.json";
const MODEL_PY: &str = include_str!("model.py");

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
    ours: &[
        &[WEIGHTS, CONFIG, PARITY, "model.py", "README.md", onnx::FILE],
        &["transformers/config.json", "transformers/model.safetensors"],
        &["transformers/preprocessor_config.json", "timm/config.json", "timm/model.safetensors"],
        &["detectron2/model.safetensors", "mmdet/model.safetensors"],
    ],
    flags: "--overwrite to replace it",
    is_older: |_| false,
};

/// What an export's folder holds beside the weights, and what passes as the same net.
#[derive(Clone, Debug, PartialEq)]
pub struct Form {
    /// Layouts beside torchvision's, which is always there.
    pub layouts: BTreeSet<Layout>,
    /// Whether `model.onnx` takes images in 0..1 and normalises them itself.
    pub onnx_normalises: bool,
    /// Largest relative difference that passes, see [`parity`].
    pub tolerance: f64,
}

impl Form {
    /// Torchvision's names alone.
    pub fn plain(tolerance: f64) -> Self {
        Self { layouts: BTreeSet::new(), onnx_normalises: false, tolerance }
    }
}

/// Writes a subnet into the folder `out`, reads it back, and compares the two on `images`
/// (batches [n, H, W, 3]). The folder appears only once all of that has gone well.
///
/// # Errors
/// [`crate::Kind::Parity`] beyond the tolerance, [`crate::Kind::Usage`] for a folder in the
/// way or a layout that cannot hold the net, [`crate::Kind::Device`] where the disk refuses.
pub fn write(
    cx: &Cx,
    source: &SubnetSource,
    images: &[Tensor],
    out: &Path,
    form: &Form,
    overwrite: bool,
) -> Result<(Config, Parity)> {
    super::layout::check(&form.layouts, &source.net.space().single(&source.arch))?;
    write_into(cx, source, images, Staged::begin(out, &EXPORT, overwrite)?, form)
}

/// [`write()`], where the folder is this process's already and the layouts can hold the net.
pub(super) fn write_into(
    cx: &Cx,
    source: &SubnetSource,
    images: &[Tensor],
    staged: Staged,
    form: &Form,
) -> Result<(Config, Parity)> {
    let fill = |dir: &Path| -> Result<(Config, Parity)> {
        write_net(cx, source, dir)?;
        let (model, named) = load_with_tensors(cx, dir)?;
        let (reloaded, probes) = parity::compare_reloaded(cx, source, &model, &named, images)?;
        let config = model.config;
        let mut layouts = BTreeMap::new();
        for &layout in &form.layouts {
            if let Some(comparison) = write_layout(layout, dir, &config, &named, &probes, form)? {
                layouts.insert(layout, comparison);
            }
        }
        let folded = match layouts.get(&Layout::Onnx) {
            Some(comparison) => comparison.clone(),
            None => probes.compare(&onnx::build(&Layers::of(&config), &named, None)?, false)?,
        };
        let parity = Parity::new(form.tolerance, reloaded, folded, layouts);
        parity.require()?;
        files::write_json(&dir.join(PARITY), &parity)?;
        files::write_text(&dir.join("model.py"), MODEL_PY)?;
        files::write_text(&dir.join("README.md"), &readme(&config, &parity, form))?;
        Ok((config, parity))
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

/// Writes the files of a layout, reads them back, and compares what they say with the subnet. None
/// for torchvision's, whose files are there already.
fn write_layout(
    layout: Layout,
    dir: &Path,
    config: &Config,
    named: &Named,
    probes: &Probes,
    form: &Form,
) -> Result<Option<Comparison>> {
    match layout {
        // The last two are of nets for dense tasks, which are refused here.
        Layout::Torchvision | Layout::Detectron2 | Layout::Mmdet => Ok(None),
        Layout::Onnx => {
            onnx::write(dir, config, named, form.onnx_normalises)?;
            probes.compare(&onnx::read(dir)?, form.onnx_normalises).map(Some)
        }
        Layout::Transformers | Layout::Timm => {
            let library = if layout == Layout::Timm { &hub::TIMM } else { &hub::TRANSFORMERS };
            hub::write(library, dir, config, named)?;
            let (layers, found) = hub::read(library, dir, named)?;
            probes.compare(&onnx::build(&layers, &found, None)?, false).map(Some)
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
        ("preset", config.origin.preset.name.clone()),
        ("method", config.origin.method.clone()),
        ("step", config.origin.step.to_string()),
    ];
    let path = dir.join(WEIGHTS);
    files::write_safetensors(&path, &tensors, &metadata)?;
    config.hashes.insert(WEIGHTS.into(), files::hash(&path)?);
    sealed::write_json(&dir.join(CONFIG), &config)
}
