//! Nets that are read back: an export, or a checkpoint of which subnets are wanted.

use std::path::{Path, PathBuf};

use super::config::{CONFIG, Config, WEIGHTS};
use super::subnet;
use crate::config::Task;
use crate::cx::Cx;
use crate::error::{Error, Result};
use crate::eval::Images;
use crate::eval::record::{Learnt, Net};
use crate::files::{self, Named as NamedTensors, sealed};
use crate::nn::{Classifier, Params, RunningStats, Subnet, Supernet};
use crate::search::winners::find_arch;
use crate::space::{Arch, Named, STAGES, Space};
use crate::train::{Checkpoint, Finished, checkpoint};

/// An exported net.
pub struct Model {
    /// The net: the supernet of a space that has one architecture.
    pub net: Supernet,
    /// Its weights.
    pub params: Params,
    /// Its batch norm statistics.
    pub stats: RunningStats,
    /// Its classifier, where it was fine-tuned.
    pub head: Option<Head>,
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

/// What an export's `config.json` says.
///
/// # Errors
/// [`crate::Kind::Data`] where it is missing or damaged.
pub fn describe(dir: &Path) -> Result<Config> {
    let path = dir.join(CONFIG);
    if !path.is_file() {
        return Err(Error::data(format!(
            "{} is not an export: it has no {CONFIG}; expected the --out folder of engine export",
            dir.display()
        )));
    }
    sealed::read_json_or_older(&path).map_err(|e| e.and("export the subnet again"))
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
pub(super) fn load_with_tensors(cx: &Cx, dir: &Path) -> Result<(Model, NamedTensors)> {
    let config = describe(dir)?;
    let net = config.net(&dir.join(CONFIG).display().to_string())?;
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
    let head = config.classifier.as_ref().map(|described| -> Result<Head> {
        let (width, classes) = (config.num_features, described.classes.len());
        Ok(Head {
            classifier: Classifier::from_torch(cx, width, classes, &named, &origin)?,
            classes: described.classes.clone(),
            learnt: described.learnt.clone(),
            bn_images: config.origin.bn_images,
        })
    });
    let head = head.transpose()?;
    Ok((Model { head, arch: config.arch, net, params, stats, config }, named))
}

/// The classifier of a net that was fine-tuned.
pub struct Head {
    /// Its weights.
    pub classifier: Classifier,
    /// Names of its classes.
    pub classes: Vec<String>,
    /// How it was learnt.
    pub learnt: Learnt,
    /// Images that the batch norms' statistics are from.
    pub bn_images: usize,
}

impl Head {
    /// Of a fine-tuned run, with the statistics that belong to it; none where the run has not come
    /// to its end.
    pub(super) fn of_run(
        cx: &Cx,
        checkpoint: &Checkpoint,
        net: &Supernet,
    ) -> Result<Option<(Self, RunningStats)>> {
        let tuned =
            checkpoint.state.tuned.as_ref().filter(|tuned| tuned.task == Task::Cls.as_str());
        let Some(tuned) = tuned else { return Ok(None) };
        let Some((facts, named, origin)) = Finished::read(checkpoint)? else { return Ok(None) };
        let stats = subnet::stats_from_torch(cx, net, &named, &origin)?;
        let (width, classes) = (net.space().outputs(&tuned.arch, STAGES - 1), tuned.classes.len());
        let classifier = Classifier::from_torch(cx, width, classes, &named, &origin)?;
        let Finished { learnt, bn_images, .. } = facts;
        let head = Self { classifier, classes: tuned.classes.clone(), learnt, bn_images };
        Ok(Some((head, stats)))
    }
}

/// Where a net with weights is read from.
#[derive(Clone, Debug)]
pub enum ModelSource {
    /// An export's folder.
    Export(PathBuf),
    /// A run's folder or one of its checkpoints.
    Checkpoint {
        /// The folder.
        path: PathBuf,
        /// Whether the teacher's weights are wanted, not the student's.
        teacher: bool,
    },
}

/// A net with weights, of which subnets are wanted.
pub struct LoadedModel {
    net: Supernet,
    params: Params,
    /// Batch norm statistics that came with it.
    stats: Option<RunningStats>,
    /// The classifier that came with it.
    pub head: Option<Head>,
    /// The subnet that was named.
    pub arch: Option<Arch>,
    /// Name of its space.
    pub preset: String,
    /// Training step.
    pub step: u64,
    /// `student` or `teacher`.
    pub weights: &'static str,
    /// Seed of its run.
    pub seed: u64,
    /// Its run's folder, if it lies in one.
    pub run_dir: Option<PathBuf>,
    /// Whether that run fine-tuned it.
    pub is_tuned: bool,
}

impl LoadedModel {
    /// Reads the weights; `arch` is what `--arch` names.
    ///
    /// # Errors
    /// Exit 2 for an architecture outside the space, 3 for a checkpoint or an export that cannot
    /// be read.
    pub fn open(cx: &Cx, source: &ModelSource, arch: Option<Named>) -> Result<Self> {
        match source {
            ModelSource::Export(dir) => Self::from_export(cx, dir, arch),
            ModelSource::Checkpoint { path, teacher } => {
                Self::from_checkpoint(cx, path, *teacher, arch)
            }
        }
    }

    fn from_export(cx: &Cx, dir: &Path, arch: Option<Named>) -> Result<Self> {
        let model = load(cx, dir)?;
        // It is its space's largest and smallest, too.
        let none = || Err(Error::usage("an export has no search"));
        let same = |named: Named| {
            named.within(model.net.space(), none).is_ok_and(|arch| arch == model.arch)
        };
        if let Some(other) = arch.filter(|named| !same(*named)) {
            return Err(Error::usage(format!(
                "--arch {other}: {} is an export of {}; leave --arch out, or give --ckpt",
                dir.display(),
                model.arch
            )));
        }
        Ok(Self {
            arch: Some(model.arch),
            preset: model.config.origin.preset.name.clone(),
            step: model.config.origin.step,
            weights: "student",
            seed: 0,
            run_dir: None,
            is_tuned: false,
            net: model.net,
            params: model.params,
            stats: Some(model.stats),
            head: model.head,
        })
    }

    fn from_checkpoint(cx: &Cx, path: &Path, teacher: bool, arch: Option<Named>) -> Result<Self> {
        let checkpoint = Checkpoint::open(path)?;
        let net = checkpoint.supernet()?;
        let arch = arch.map(|named| find_arch(named, &checkpoint)).transpose()?;
        let tuned = checkpoint.state.tuned.as_ref();
        let arch = arch.or(tuned.map(|tuned| tuned.arch));
        if let (true, Some(tuned)) = (teacher, tuned) {
            return Err(Error::usage(format!(
                "--teacher: {} is a fine-tuned net ({}), which has no teacher",
                path.display(),
                tuned.arch
            )));
        }
        let (head, stats) = Head::of_run(cx, &checkpoint, &net)?.unzip();
        let (params, weights) = if teacher {
            (checkpoint.teacher(cx, net.specs())?, "teacher")
        } else {
            (checkpoint.student(cx, net.specs())?, "student")
        };
        Ok(Self {
            net,
            params,
            stats,
            head,
            arch,
            preset: checkpoint.state.preset.name.clone(),
            step: checkpoint.state.step,
            weights,
            seed: checkpoint.state.seed,
            run_dir: checkpoint.run_dir(),
            is_tuned: checkpoint.state.tuned.is_some(),
        })
    }

    /// Its search space; of one architecture if it is an export.
    pub fn space(&self) -> &Space {
        self.net.space()
    }

    /// The subnet that was named.
    pub fn named(&self) -> Result<Arch> {
        self.arch.ok_or_else(|| {
            Error::usage(
                "no subnet was named: expected --arch with an ID such as s32-w48.96.192.512-d2.2.5.2, \
                 or max, min, r50 or winner",
            )
        })
    }

    /// A subnet with the statistics that came with it, else with some from `bn`.
    pub fn subnet(&self, cx: &Cx, arch: Arch, bn: &Images) -> Result<Subnet<'_>> {
        match &self.stats {
            Some(stats) => Ok(Subnet::with_stats(&self.net, &self.params, arch, stats.clone())),
            None => self.subnet_of(cx, &self.params, arch, bn),
        }
    }

    /// The weights before training, from the checkpoint of step 0 in the same run; where there is
    /// none, the reason.
    pub fn untrained(&self, cx: &Cx) -> Result<Result<Params, String>> {
        let Some(run) = &self.run_dir else {
            return Ok(Err(match self.stats {
                Some(_) => "an export holds no untrained net: give --ckpt RUN with --arch".into(),
                None => "the checkpoint lies in no run's folder, so there is no step 0".into(),
            }));
        };
        if self.is_tuned {
            return Ok(Err("a fine-tuned run begins with what it was given".into()));
        }
        let first = checkpoint::place(run, 0);
        if self.step == 0 {
            return Ok(Err("this net itself is untrained (step 0)".into()));
        }
        if !first.exists() {
            return Ok(Err(format!("there is no checkpoint {}", first.display())));
        }
        Checkpoint::open(&first)?.student(cx, self.net.specs()).map(Ok)
    }

    /// A subnet of other weights of the same net, with statistics from `bn`.
    pub fn subnet_of<'a>(
        &'a self,
        cx: &Cx,
        params: &'a Params,
        arch: Arch,
        bn: &Images,
    ) -> Result<Subnet<'a>> {
        Subnet::recalibrated(cx, &self.net, params, arch, bn.tensors(cx, bn.len())?)
    }

    /// A subnet whose batch norms use each batch's own statistics.
    pub fn batch_normalised(&self, arch: Arch) -> Subnet<'_> {
        Subnet::batch_normalised(&self.net, &self.params, arch)
    }

    /// How many images its statistics come from, where `bn` is offered.
    pub fn bn_images(&self, bn: &Images) -> Option<usize> {
        self.stats.is_none().then(|| bn.len())
    }

    /// What a subnet is, for results.
    pub fn describe(&self, arch: Arch) -> Net {
        Net::new(arch, self.space(), &self.preset, self.step, self.weights)
    }
}
