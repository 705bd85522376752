//! What nets are compared by: accuracy after fine-tuning on a share of the labels, or what they are
//! worth for a dense task.

use super::TOP1;
use crate::config::Task;
use crate::error::Result;
use crate::space::Arch;
use crate::study::cells::{Made, Source};
use crate::study::dense::Target;
use crate::study::lab::Lab;
use crate::study::table::Row;

/// A way to test nets.
pub(super) enum Test<'a> {
    /// Fine-tuned on this share of the labels of the study's own images.
    Labels(f64),
    /// Fine-tuned for a dense task.
    Dense(Target<'a>),
}

impl Test<'_> {
    /// The task.
    pub(super) fn task(&self) -> Task {
        match self {
            Self::Labels(_) => Task::Cls,
            Self::Dense(target) => target.task,
        }
    }

    /// The images of the task, for a search.
    pub(super) fn images<'a>(&'a self, lab: &'a Lab) -> &'a Source {
        match self {
            Self::Labels(_) => lab.train,
            Self::Dense(target) => &target.set.images,
        }
    }

    /// Tests nets, each of a run.
    pub(super) fn cells(&self, lab: &Lab, nets: &[(Made, Arch)]) -> Result<Vec<Made>> {
        let each = nets.iter().map(|(run, arch)| match self {
            Self::Labels(share) => lab.tuned(run, arch, *share, lab.sizes.tune_seeds),
            Self::Dense(target) => Ok(vec![lab.dense(Some(run), arch, target, lab.seed())?]),
        });
        Ok(each.collect::<Result<Vec<_>>>()?.concat())
    }

    /// The row with the numbers of cells, beside those of the baseline.
    pub(super) fn row(
        &self,
        lab: &Lab,
        row: Row,
        cells: &[Made],
        baseline: Option<&[Made]>,
    ) -> Row {
        match self {
            Self::Labels(_) => {
                let row = row.measured(cells, &[TOP1]);
                match baseline {
                    Some(baseline) => row.against(cells, baseline, lab.seed()),
                    None => row,
                }
            }
            Self::Dense(target) => {
                let columns = target.columns();
                let row = row.scored(cells, columns);
                match baseline {
                    Some(baseline) => row.against_by(cells, baseline, columns[0]),
                    None => row,
                }
            }
        }
    }
}
