//! The export's folder: written aside, proven, renamed; and read back.

use std::path::Path;

use super::config::{Config, Origin, WEIGHTS};
use super::parity::{self, Parity};
use super::subnet;
use crate::cx::Cx;
use crate::error::{Error, Result};
use crate::files::owned::Kind;
use crate::files::staged::Staged;
use crate::files::{self, Named, sealed};
use crate::nn::{Params, RunningStats, Subnet, Supernet};
use crate::space::Arch;
use crate::space::budget::macs;
use crate::tensor::Tensor;

const CONFIG: &str = "config.json";
const PARITY: &str = "parity.json";
const MODEL_PY: &str = include_str!("model.py");
const README: &str = include_str!("README.template.md");

/// A subnet inside a supernet, ready to be exported.
pub struct Subject<'a> {
    /// The supernet.
    pub net: &'a Supernet,
    /// Its weights.
    pub params: &'a Params,
    /// The subnet.
    pub arch: Arch,
    /// The subnet's batch norm statistics, by the supernet's indices.
    pub stats: &'a RunningStats,
    /// Where all this is from.
    pub origin: Origin,
}

/// An exported net.
pub struct Model {
    /// The net: the supernet of a space that has one architecture.
    pub net: Supernet,
    /// Its weights.
    pub params: Params,
    /// Its batch norm statistics.
    pub stats: RunningStats,
    /// Its architecture.
    pub arch: Arch,
    /// Its `config.json`.
    pub config: Config,
}

impl Model {
    /// The net as one that is ready to compute features.
    pub fn subnet(&self) -> Subnet<'_> {
        Subnet::with_stats(&self.net, &self.params, self.arch, self.stats.clone())
    }
}

/// Opens an export.
///
/// # Errors
/// [`crate::Kind::Data`] where a file is missing, truncated, was changed after the export, or
/// does not fit the description.
pub fn load(cx: &Cx, dir: &Path) -> Result<Model> {
    let (model, _) = load_with_tensors(cx, dir)?;
    Ok(model)
}

/// [`load`], with the tensors of the file as well.
fn load_with_tensors(cx: &Cx, dir: &Path) -> Result<(Model, Named)> {
    let config_path = dir.join(CONFIG);
    if !config_path.is_file() {
        return Err(Error::data(format!(
            "{} is not an export: it has no {CONFIG}; expected the --out folder of engine export",
            dir.display()
        )));
    }
    let config: Config =
        sealed::read_json_or_older(&config_path).map_err(|e| e.and("export the subnet again"))?;
    let net = config.net(&config_path.display().to_string())?;
    let path = dir.join(WEIGHTS);
    let (expected, found) = (config.hashes.get(WEIGHTS), files::hash(&path)?);
    if expected != Some(&found) {
        return Err(Error::data(format!(
            "{} is damaged or was changed: its BLAKE3 is {found}, {CONFIG} says {}; export the \
             subnet again",
            path.display(),
            expected.map_or("nothing", |h| h)
        )));
    }
    let (named, _) = files::read_safetensors(&path)?;
    let origin = path.display().to_string();
    let params = Params::from_torch(cx, net.specs(), &named, &origin)?.ready(cx)?;
    let stats = subnet::stats_from_torch(cx, &net, &named, &origin)?;
    Ok((Model { arch: config.arch, net, params, stats, config }, named))
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
    subject: &Subject,
    images: &[Tensor],
    out: &Path,
    tolerance: f64,
    overwrite: bool,
) -> Result<(Config, Parity)> {
    write_into(cx, subject, images, Staged::begin(out, &EXPORT, overwrite)?, tolerance)
}

/// [`write()`], where the folder is this process's already.
pub(super) fn write_into(
    cx: &Cx,
    subject: &Subject,
    images: &[Tensor],
    staged: Staged,
    tolerance: f64,
) -> Result<(Config, Parity)> {
    let fill = |dir: &Path| -> Result<(Config, Parity)> {
        write_net(cx, subject, dir)?;
        let (model, named) = load_with_tensors(cx, dir)?;
        let parity = parity::compare(cx, subject, &model, &named, images, tolerance)?;
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
fn write_net(cx: &Cx, subject: &Subject, dir: &Path) -> Result<()> {
    let (small, params) = subnet::extract(cx, subject.net, subject.params, &subject.arch)?;
    let stats = subnet::extract_stats(subject.net, subject.stats, &small)?;
    let mut tensors = params.to_torch(cx)?;
    tensors.extend(subnet::stats_to_torch(cx, &small, &stats)?);
    let mut config = Config::of(&small, subject.origin.clone())?;
    let metadata = [
        ("arch", subject.arch.to_string()),
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
    let fields = [
        ("{arch}", config.arch.to_string()),
        ("{preset}", config.origin.preset.clone()),
        ("{method}", config.origin.method.clone()),
        ("{step}", config.origin.step.to_string()),
        ("{resolution}", config.resolution.to_string()),
        ("{mean}", list(&config.mean)),
        ("{std}", list(&config.std)),
        ("{macs}", macs(config.macs)),
        ("{mparams}", format!("{:.3}", config.params as f64 / 1e6)),
        ("{features}", config.num_features.to_string()),
        ("{images}", parity.reloaded.images.to_string()),
        ("{max_rel}", format!("{:.1e}", parity.max_rel)),
        ("{timm}", if config.is_timms() { LOCAL_DIR } else { OWN_STEM }.to_owned()),
        ("{z}", if config.head.is_some() { " and `z`" } else { "" }.to_owned()),
    ];
    fields.iter().fold(README.to_owned(), |text, (key, value)| text.replace(key, value))
}
