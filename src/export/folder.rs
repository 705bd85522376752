//! The export's folder: written aside, proven, renamed; and read back.

use std::fs;
use std::path::Path;

use super::config::{Config, Origin, WEIGHTS};
use super::parity::{self, Parity};
use super::{aside, subnet};
use crate::device::Cx;
use crate::error::{Error, Result};
use crate::files::{self, Named};
use crate::nn::{Params, RunningStats, Subnet, Supernet};
use crate::space::Arch;
use crate::tensor::Tensor;

const CONFIG: &str = "config.json";
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
    let config: Config = files::read_json(&config_path)?;
    let net = config.net(&config_path.display().to_string())?;
    let path = dir.join(WEIGHTS);
    let (expected, found) = (config.hashes.get(WEIGHTS), hash(&path)?);
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

fn hash(path: &Path) -> Result<String> {
    let bytes = fs::read(path).map_err(|e| Error::read(path, e))?;
    Ok(blake3::hash(&bytes).to_hex().to_string())
}

/// Exit 2 unless a folder can be made at `out`: nothing is there, or `overwrite` and what is
/// there is an export (or empty).
pub(super) fn check_target(out: &Path, overwrite: bool) -> Result<()> {
    if out.file_name().is_none() {
        return Err(Error::usage(format!(
            "--out {}: expected the name of a folder",
            out.display()
        )));
    }
    if !out.exists() {
        return Ok(());
    }
    if !overwrite {
        return Err(Error::usage(format!(
            "{} exists already: choose another --out, or replace it with --overwrite",
            out.display()
        )));
    }
    let empty = || fs::read_dir(out).is_ok_and(|mut entries| entries.next().is_none());
    let export = || files::read_json::<Config>(&out.join(CONFIG)).is_ok();
    if out.is_dir() && (empty() || export()) {
        return Ok(());
    }
    Err(Error::usage(format!(
        "{} is not an export, so --overwrite does not replace it: choose another --out",
        out.display()
    )))
}

/// Writes a subnet into the folder `out`, reads it back, and compares the two on `pictures`
/// (batches [n, H, W, 3]). The folder appears only once all of that has gone well.
///
/// # Errors
/// [`crate::Kind::Parity`] beyond the tolerance, [`crate::Kind::Usage`] for a folder in the
/// way, [`crate::Kind::Device`] where the disk refuses.
pub fn write(
    cx: &Cx,
    subject: &Subject,
    pictures: &[Tensor],
    out: &Path,
    tolerance: f64,
    overwrite: bool,
) -> Result<(Config, Parity)> {
    check_target(out, overwrite)?;
    let part = aside(out, ".part");
    remove(&part)?;
    let fill = || -> Result<(Config, Parity)> {
        files::create_dir(&part)?;
        write_net(cx, subject, &part)?;
        let (model, named) = load_with_tensors(cx, &part)?;
        let parity = parity::compare(cx, subject, &model, &named, pictures, tolerance)?;
        parity.require()?;
        files::write_json(&part.join("parity.json"), &parity)?;
        files::write_text(&part.join("model.py"), MODEL_PY)?;
        files::write_text(&part.join("README.md"), &readme(&model.config, &parity))?;
        files::sync_dir(&part)?;
        replace(out, &part)?;
        Ok((model.config, parity))
    };
    fill().inspect_err(|_| {
        // The first error is the one that matters; what is left is named so that it shows.
        let _ = fs::remove_dir_all(&part);
    })
}

/// Writes `model.safetensors` and `config.json`.
fn write_net(cx: &Cx, subject: &Subject, dir: &Path) -> Result<()> {
    let (small, params) = subnet::extract(cx, subject.net, subject.params, &subject.arch)?;
    let stats = subnet::extract_stats(subject.net, subject.stats, &small)?;
    let mut tensors = params.to_torch(cx)?;
    tensors.extend(subnet::stats_to_torch(cx, &small, &stats)?);
    let mut config = Config::of(&small, subject.origin.clone());
    let metadata = [
        ("arch", subject.arch.to_string()),
        ("preset", config.origin.preset.clone()),
        ("method", config.origin.method.clone()),
        ("step", config.origin.step.to_string()),
    ];
    let path = dir.join(WEIGHTS);
    files::write_safetensors(&path, &tensors, &metadata)?;
    config.hashes.insert(WEIGHTS.into(), hash(&path)?);
    files::write_json(&dir.join(CONFIG), &config)
}

/// Puts the folder `part` in the place of `out`.
fn replace(out: &Path, part: &Path) -> Result<()> {
    let old = aside(out, ".old");
    let failed = |e: std::io::Error| Error::write(out, files::disk_hint(&e));
    let existed = out.exists();
    if existed {
        remove(&old)?;
        fs::rename(out, &old).map_err(failed)?;
    }
    if let Err(e) = fs::rename(part, out) {
        if existed {
            // Puts the earlier export back; the error that is reported is the first.
            let _ = fs::rename(&old, out);
        }
        return Err(failed(e));
    }
    let parent = out.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    files::sync_dir(parent)?;
    if existed { remove(&old) } else { Ok(()) }
}

fn remove(dir: &Path) -> Result<()> {
    match fs::remove_dir_all(dir) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::write(dir, e)),
        _ => Ok(()),
    }
}

/// What the README adds where timm can build the net by itself.
const LOCAL_DIR: &str = "
Its stem is timm's own, so `timm.create_model(\"local-dir:.\", pretrained=True)` does the same.";

/// Whether the stem is the one that timm's plain ResNet has.
fn timms_stem(config: &Config) -> bool {
    let s = &config.stem;
    (s.width, s.kernel, s.stride, s.maxpool) == (64, 7, 2, true) && config.strides == [1, 2, 2, 2]
}

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
        ("{gmacs}", format!("{:.3}", config.macs as f64 / 1e9)),
        ("{mparams}", format!("{:.3}", config.params as f64 / 1e6)),
        ("{features}", config.num_features.to_string()),
        ("{images}", parity.reloaded.images.to_string()),
        ("{max_rel}", format!("{:.1e}", parity.max_rel)),
        ("{timm}", if timms_stem(config) { LOCAL_DIR } else { "" }.to_owned()),
        ("{z}", if config.head.is_some() { " and `z`" } else { "" }.to_owned()),
    ];
    fields.iter().fold(README.to_owned(), |text, (key, value)| text.replace(key, value))
}
