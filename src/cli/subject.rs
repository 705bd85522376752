//! The subnet that a verb works on: `--ckpt … --arch ID`, or `--model DIR`.

use std::path::PathBuf;

use super::source::{ModelArgs, find_arch};
use crate::cx::Cx;
use crate::error::{Error, Result};
use crate::eval::Images;
use crate::eval::record::Net;
use crate::export;
use crate::nn::{Params, RunningStats, Subnet, Supernet};
use crate::space::{Arch, Named, Space};
use crate::train::{Checkpoint, checkpoint};

/// A net with weights, of which a subnet is wanted.
pub struct Subject {
    net: Supernet,
    params: Params,
    /// Batch norm statistics that came with it.
    stats: Option<RunningStats>,
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
    /// Its run's folder, where it lies in one.
    pub run_dir: Option<PathBuf>,
}

impl Subject {
    /// Reads the weights. Exit 2 for an architecture outside the space, 3 for a checkpoint or
    /// an export that cannot be read.
    pub fn open(cx: &Cx, args: &ModelArgs) -> Result<Self> {
        if let Some(dir) = &args.model {
            let model = export::load(cx, dir)?;
            // It is its space's largest and smallest, too.
            let none = || Err(Error::usage("an export has no search"));
            let same = |named: Named| {
                named.within(model.net.space(), none).is_ok_and(|arch| arch == model.arch)
            };
            if let Some(other) = args.arch.filter(|named| !same(*named)) {
                return Err(Error::usage(format!(
                    "--arch {other}: {} is an export of {}; leave --arch out, or give --ckpt",
                    dir.display(),
                    model.arch
                )));
            }
            return Ok(Self {
                arch: Some(model.arch),
                preset: model.config.origin.preset.clone(),
                step: model.config.origin.step,
                weights: "student",
                seed: 0,
                run_dir: None,
                net: model.net,
                params: model.params,
                stats: Some(model.stats),
            });
        }
        let path = args.ckpt.as_ref().ok_or_else(|| {
            Error::usage("no net was given: expected --ckpt RUN with --arch ID, or --model DIR")
        })?;
        let checkpoint = Checkpoint::open(path)?;
        let net = checkpoint.supernet()?;
        let arch = args.arch.map(|named| find_arch(named, &checkpoint)).transpose()?;
        let (params, weights) = if args.teacher {
            (checkpoint.teacher(cx, net.specs())?, "teacher")
        } else {
            (checkpoint.student(cx, net.specs())?, "student")
        };
        Ok(Self {
            net,
            params,
            stats: None,
            arch,
            preset: checkpoint.state.preset.clone(),
            step: checkpoint.state.step,
            weights,
            seed: checkpoint.state.seed,
            run_dir: checkpoint.run_dir(),
        })
    }

    /// Its search space; a single architecture where it is an export.
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
