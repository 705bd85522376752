//! A net that was fine-tuned for a dense task, as a run or an export holds it.

use super::{det, seg};
use crate::config::{Config, Task};
use crate::error::{Error, Result};
use crate::eval::record::{Learnt, Net};
use crate::export::not_ended;
use crate::files::Named;
use crate::nn::Supernet;
use crate::space::{Arch, Space};
use crate::train::{Checkpoint, Finished};

/// Its settings, its weights and where they are from.
#[derive(Clone, Debug)]
pub struct TunedNet {
    /// What it was fine-tuned for.
    pub task: Task,
    /// The settings of its layers and tests.
    pub config: Config,
    /// Its backbone.
    pub arch: Arch,
    /// Names of the classes.
    pub classes: Vec<String>,
    /// How it was learnt.
    pub learnt: Learnt,
    /// Images that its batch norms' statistics are from.
    pub bn_images: usize,
    /// Training step of its weights.
    pub step: u64,
    /// Weights and statistics by the net's names, in PyTorch's layout.
    pub named: Named,
    /// What these tensors are called in messages.
    pub origin: String,
}

impl TunedNet {
    /// The task of a run, where that is a dense one.
    pub fn task_of(checkpoint: &Checkpoint) -> Option<Task> {
        let task = checkpoint.state.tuned.as_ref().and_then(|tuned| tuned.task.parse().ok());
        task.filter(|task| *task != Task::Cls)
    }

    /// That of a run that has come to its end.
    ///
    /// # Errors
    /// [`crate::Kind::Usage`] for a run of none of these tasks, or one that has not ended.
    pub fn of_run(checkpoint: &Checkpoint, tasks: &[Task]) -> Result<Self> {
        let task = Self::task_of(checkpoint).filter(|task| tasks.contains(task));
        let (Some(tuned), Some(task)) = (checkpoint.state.tuned.as_ref(), task) else {
            return Err(Error::usage(format!(
                "{} is not a run of engine finetune --task {}; name one that has come to its end",
                checkpoint.dir.display(),
                words(tasks)
            )));
        };
        let (finished, stats, _) =
            Finished::read(checkpoint)?.ok_or_else(|| not_ended(checkpoint))?;
        let (mut named, origin) = checkpoint.named("student")?;
        named.extend(stats);
        let Finished { learnt, bn_images, .. } = finished;
        Ok(Self {
            task,
            config: checkpoint.config()?,
            arch: tuned.arch,
            classes: tuned.classes.clone(),
            learnt,
            bn_images,
            step: checkpoint.state.step,
            named,
            origin,
        })
    }

    /// The same, where it is for one of these tasks.
    ///
    /// # Errors
    /// [`crate::Kind::Usage`] where it is not.
    pub fn expect(self, tasks: &[Task]) -> Result<Self> {
        match tasks.contains(&self.task) {
            true => Ok(self),
            false => Err(Error::usage(format!(
                "{} is of a net for {}: expected one for {}",
                self.origin,
                self.task,
                words(tasks)
            ))),
        }
    }

    /// The space of its architecture alone.
    ///
    /// # Errors
    /// [`crate::Kind::Usage`] where the settings are of another space.
    pub fn space(&self) -> Result<Space> {
        self.config.tuned_space(&self.arch)
    }

    /// What it is, for results.
    pub fn describe(&self) -> Net {
        let preset = &self.config.preset;
        Net::new(self.arch, preset, &preset.name, self.step, "student")
    }

    /// Names of all its tensors: weights, then statistics.
    ///
    /// # Errors
    /// Those of its layers, where settings do not fit.
    pub fn tensors(&self) -> Result<Vec<String>> {
        let of = |net: &Supernet| {
            let weights = net.specs().iter().map(|spec| spec.name.clone());
            let stats = net.norms().iter().flat_map(|norm| {
                ["running_mean", "running_var"].map(|what| format!("{norm}.{what}"))
            });
            weights.chain(stats).collect()
        };
        match self.task {
            Task::Seg => Ok(of(seg::net(self)?.net())),
            _ => Ok(of(det::net(self)?.net())),
        }
    }
}

fn words(tasks: &[Task]) -> String {
    tasks.iter().map(|task| task.as_str()).collect::<Vec<_>>().join(" or ")
}
