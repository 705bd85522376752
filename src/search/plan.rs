//! Which architectures a search looks at.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::space::{Arch, Budget, Metric, Space};

/// What was asked for.
#[derive(Clone, Debug, PartialEq)]
pub enum Selection {
    /// These architectures, which need not be on the space's grid.
    Archs(Vec<Arch>),
    /// From every budget, all architectures where there are no more than `samples` (or no
    /// limit is given), else a seeded draw.
    Budgets {
        /// One or more budgets that do not overlap; where none is given, round groups that
        /// cover the space.
        budgets: Vec<Budget>,
        /// What limits the groups where no budget is given.
        metric: Metric,
        /// Most candidates of a budget.
        samples: Option<usize>,
    },
}

/// Candidates among which a winner is sought.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Group {
    /// The budget as users write it, `3G..4G`; `given` for a list of architectures.
    pub budget: String,
    /// What the budget limits.
    pub metric: Metric,
    /// Architectures of the space inside the budget; of latencies, those that were timed.
    pub population: usize,
    /// Those that are looked at.
    #[serde(skip)]
    pub archs: Vec<Arch>,
}

impl Selection {
    /// The groups, none of them empty.
    ///
    /// # Errors
    /// [`crate::Kind::Usage`] for an architecture outside the space or budgets that hold none.
    pub fn groups(&self, space: &Space, seed: u64) -> Result<Vec<Group>> {
        match self {
            Selection::Archs(archs) => Ok(vec![given(space, archs)?]),
            Selection::Budgets { budgets, metric, samples } if budgets.is_empty() => {
                let all = space.default_groups(*metric)?;
                within(space, &all, *samples, seed)
            }
            Selection::Budgets { budgets, samples, .. } => within(space, budgets, *samples, seed),
        }
    }
}

fn given(space: &Space, archs: &[Arch]) -> Result<Group> {
    let mut distinct: Vec<Arch> = Vec::with_capacity(archs.len());
    for arch in archs {
        space.check(arch)?;
        if !distinct.contains(arch) {
            distinct.push(*arch);
        }
    }
    if distinct.is_empty() {
        return Err(Error::usage("no architecture was given: expected --arch ID, or a budget"));
    }
    let population = distinct.len();
    Ok(Group { budget: "given".into(), metric: Metric::Macs, population, archs: distinct })
}

fn within(
    space: &Space,
    budgets: &[Budget],
    samples: Option<usize>,
    seed: u64,
) -> Result<Vec<Group>> {
    let counts = space.count_groups(budgets)?;
    let mut groups = Vec::new();
    for (budget, &population) in budgets.iter().zip(&counts) {
        if population > 0 {
            let archs = space.candidates(budget, samples, seed)?;
            groups.push(Group {
                budget: budget.to_string(),
                metric: budget.metric,
                population,
                archs,
            });
        }
    }
    match budgets.first() {
        // Says where the space's architectures are.
        Some(first) if groups.is_empty() => space.within(first).map(|_| groups),
        _ => Ok(groups),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tiny() -> Space {
        Space::preset("tiny").unwrap()
    }

    fn budgets(list: &[(u64, u64)], samples: Option<usize>) -> Selection {
        let budget = |&(lo, hi)| Budget { metric: Metric::Macs, lo, hi };
        Selection::Budgets {
            budgets: list.iter().map(budget).collect(),
            metric: Metric::Macs,
            samples,
        }
    }

    #[test]
    fn small_groups_are_whole_and_large_ones_sampled() {
        let space = tiny();
        let max = space.cost(&space.max()).macs;
        let groups = budgets(&[(0, max / 2), (max, max + 1)], Some(10)).groups(&space, 1).unwrap();
        assert_eq!(groups[0].archs.len(), 10);
        assert!(groups[0].population > 10);
        assert_eq!((groups[1].archs.as_slice(), groups[1].population), (&[space.max()][..], 1));
    }

    #[test]
    fn empty_groups_are_left_out_unless_all_are() {
        let space = tiny();
        let top = space.cost(&space.max()).macs;
        let some = budgets(&[(0, 1), (top, top + 1)], None).groups(&space, 0).unwrap();
        assert_eq!(some.len(), 1);
        let none = budgets(&[(0, 1), (1, 2)], None).groups(&space, 0).unwrap_err();
        assert_eq!(none.kind(), crate::Kind::Usage);
    }

    #[test]
    fn the_default_covers_the_space() {
        let space = tiny();
        let groups = budgets(&[], None).groups(&space, 0).unwrap();
        assert_eq!(groups.iter().map(|g| g.archs.len()).sum::<usize>(), space.count());
    }

    #[test]
    fn given_architectures_are_checked_and_distinct() {
        let space = tiny();
        let two = Selection::Archs(vec![space.max(), space.min(), space.max()]);
        assert_eq!(two.groups(&space, 0).unwrap()[0].archs, [space.max(), space.min()]);
        let outside = Arch { stem: 1000, ..space.min() };
        let err = Selection::Archs(vec![outside]).groups(&space, 0).unwrap_err();
        assert_eq!(err.kind(), crate::Kind::Usage);
    }
}
