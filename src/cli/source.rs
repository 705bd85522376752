//! Arguments that name a trained net and images, shared by several verbs.

use std::path::PathBuf;
use std::str::FromStr;

use clap::Args;

use crate::cx::Cx;
use crate::error::{Error, Result};
use crate::export::{LoadedModel, ModelSource};
use crate::space::Named;

/// How many of something: a number, or all there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Count {
    /// So many, or all where there are fewer.
    Limit(usize),
    /// All.
    All,
}

impl Count {
    /// How many of `n`.
    pub fn of(self, n: usize) -> usize {
        self.limit().map_or(n, |limit| limit.min(n))
    }

    /// The limit, if there is one.
    pub fn limit(self) -> Option<usize> {
        match self {
            Count::Limit(n) => Some(n),
            Count::All => None,
        }
    }
}

impl FromStr for Count {
    type Err = Error;
    fn from_str(s: &str) -> Result<Self> {
        match (s, s.parse()) {
            ("all", _) => Ok(Count::All),
            (_, Ok(n)) if n > 0 => Ok(Count::Limit(n)),
            _ => Err(Error::usage(format!("{s:?}: expected a number of at least 1, or all"))),
        }
    }
}

/// A subnet: of a supernet's checkpoint, or an exported one.
#[derive(Args, Clone, Debug, Default)]
pub struct ModelArgs {
    /// A run's folder (its newest checkpoint) or a checkpoint's
    #[arg(long, value_name = "RUN|CKPT", required_unless_present = "model")]
    pub ckpt: Option<PathBuf>,
    /// An exported net's folder
    #[arg(long, value_name = "DIR", conflicts_with_all = ["ckpt", "teacher"])]
    pub model: Option<PathBuf>,
    /// The subnet: an ID such as s32-w48.96.192.512-d2.2.5.2, max or min (of the run's space), r50,
    /// or winner (of the run's search). An export holds a single one
    #[arg(long, value_name = "ARCH")]
    pub arch: Option<Named>,
    /// Take the teacher's (EMA) weights instead of the student's
    #[arg(long)]
    pub teacher: bool,
}

impl ModelArgs {
    /// Reads the weights. Exit 2 for an architecture outside the space, 3 for a checkpoint or an
    /// export that cannot be read.
    pub fn open(&self, cx: &Cx) -> Result<LoadedModel> {
        let source = match (&self.model, &self.ckpt) {
            (Some(dir), _) => ModelSource::Export(dir.clone()),
            (None, Some(path)) => {
                ModelSource::Checkpoint { path: path.clone(), teacher: self.teacher }
            }
            (None, None) => {
                return Err(Error::usage(
                    "no net was given: expected --ckpt RUN with --arch ID, or --model DIR",
                ));
            }
        };
        LoadedModel::open(cx, &source, self.arch)
    }
}
