//! Export of one subnet as a net of its own, with proof that it is the same net.
//!
//! The folder holds `model.safetensors` (the subnet's weights at their true size, torchvision's
//! names, recalibrated batch norm), `config.json` ([`Config`]), `parity.json` ([`Parity`]),
//! `README.md` and `model.py`, which load it in PyTorch, and what other libraries load
//! ([`Layout`]). [`write()`] makes it, [`load`] opens it.

pub mod config;
pub mod folder;
mod hub;
mod layers;
pub mod layout;
pub mod model;
mod onnx;
pub mod parity;
mod readme;
pub mod subnet;
#[cfg(test)]
mod tests;

use std::path::PathBuf;

pub use config::{Config, Origin};
pub use folder::{Form, SubnetSource, write};
pub use layout::Layout;
pub use model::{Head, LoadedModel, Model, ModelSource, describe, load};
pub use parity::Parity;

use crate::config::Task;
use crate::cx::Cx;
use crate::data::Input;
use crate::error::{Error, Result};
use crate::eval::images::{self, Images};
use crate::files::staged::Staged;
use crate::nn;
use crate::space::Arch;
use crate::tensor::{DType, Tensor};
use crate::train::checkpoint::Checkpoint;

/// Images that batch norms are recalibrated on where nothing else is said.
pub const BN_IMAGES: usize = 2048;
/// Most images on which the export is compared with the supernet.
const PARITY_IMAGES: usize = 16;

/// What to export from where.
pub struct Options {
    /// A run's folder or one of its checkpoints.
    pub ckpt: PathBuf,
    /// The subnet.
    pub arch: Arch,
    /// Images that its batch norm statistics are computed from.
    pub bn_data: Vec<String>,
    /// How many of them.
    pub bn_images: usize,
    /// The folder to make.
    pub out: PathBuf,
    /// Whether an export that is there already may be replaced.
    pub overwrite: bool,
    /// What to write, and how much it may differ.
    pub form: Form,
    /// Seed of the choice of images; the run's where `None`.
    pub seed: Option<u64>,
    /// Threads that decode images.
    pub workers: usize,
}

/// Exports a subnet of a checkpoint: recalibrates its batch norms, writes the folder and
/// compares what was written with the subnet inside the supernet. All of it in f32, whatever
/// the context's type.
///
/// # Errors
/// [`crate::Kind::Usage`] for an architecture outside the space or a folder in the way,
/// [`crate::Kind::Data`] for images or checkpoints that cannot be read, and
/// [`crate::Kind::Parity`], leaving no folder, where the export is not the same net.
pub fn export(cx: &Cx, options: &Options) -> Result<(Config, Parity)> {
    let cx = &cx.computing_in(DType::F32);
    let staged = Staged::begin(&options.out, &folder::EXPORT, options.overwrite)?;
    let checkpoint = Checkpoint::open(&options.ckpt)?;
    let net = checkpoint.supernet()?;
    net.space().check(&options.arch)?;
    layout::check(&options.form.layouts, &net.space().single(&options.arch))?;
    let params = checkpoint.student(cx, net.specs())?;
    let state = &checkpoint.state;
    let images = choose(options, state.seed, net.space().input())?;
    let (head, stats) = match Head::of_run(cx, &checkpoint, &net)? {
        Some((head, stats)) => (Some(head), stats),
        None if state.tuned.as_ref().is_some_and(|tuned| tuned.task != Task::Cls.as_str()) => {
            return Err(Error::usage(format!(
                "{} is a net for another task than classes of images: expected a run of engine \
                 train, or of engine finetune --task cls",
                checkpoint.dir.display()
            )));
        }
        None if state.tuned.is_some() => return Err(not_ended(&checkpoint)),
        None => {
            let n = images.len();
            tracing::info!("batch norm statistics of {} from {n} images", options.arch);
            let batches = images.tensors(cx, n)?;
            (None, nn::recalibrate(cx, &net, &params, &options.arch, batches)?)
        }
    };
    let source = SubnetSource {
        net: &net,
        params: &params,
        arch: options.arch,
        stats: &stats,
        head: head.as_ref(),
        origin: Origin {
            preset: state.preset.clone(),
            method: state.method.clone(),
            step: state.step,
            bn_images: head.as_ref().map_or(images.len(), |head| head.bn_images),
            bn_data: head.as_ref().map_or(&options.bn_data, |head| &head.learnt.train_data).clone(),
        },
    };
    let probe = images.tensors(cx, PARITY_IMAGES)?.collect::<Result<Vec<Tensor>>>()?;
    folder::write_into(cx, &source, &probe, staged, &options.form)
}

/// A fine-tuning whose classifier and statistics are not there.
pub fn not_ended(checkpoint: &Checkpoint) -> Error {
    Error::usage(format!(
        "{} is not the end of a fine-tuning: expected a run that has come to its end; go on with \
         engine finetune --resume",
        checkpoint.dir.display()
    ))
}

/// The images for the batch norms: a seeded draw.
fn choose(options: &Options, run_seed: u64, input: Input) -> Result<Images> {
    let dataset = crate::data::Dataset::open(&options.bn_data)?;
    if dataset.len() < 2 {
        return Err(Error::data(format!(
            "{} holds {} images, expected at least 2 for the batch norm statistics",
            options.bn_data.join(" "),
            dataset.len()
        )));
    }
    let seed = options.seed.unwrap_or(run_seed);
    let indices = images::draw(dataset.len(), Some(options.bn_images), seed);
    Ok(Images::new(std::sync::Arc::new(dataset), indices, input, options.workers))
}
