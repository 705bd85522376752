//! Which architectures a training step and a search look at.

use super::{Arch, Budget, Metric, Space, dims, from_dims};
use crate::error::Result;
use crate::rng::{Philox, Purpose};

crate::choice! {
    /// How the students of a training step are drawn.
    pub enum Policy("sampling policy") {
        /// The largest and two uniformly drawn ones (Algorithm 1).
        Paper = "paper",
        /// The largest, the smallest and one uniformly drawn (the authors' released code).
        Sandwich = "sandwich",
        /// The largest and two drawn uniformly over groups of compute, so that the smallest and
        /// largest nets, which a uniform draw almost never meets, are trained as often as
        /// the middling ones.
        Balanced = "balanced",
    }
}

/// Draws the students of each training step; a draw is a function of seed and step.
pub struct Sampler {
    space: Space,
    policy: Policy,
    seed: u64,
    /// For [`Policy::Balanced`]: indices of the architectures of every group that has any.
    groups: Vec<Vec<u32>>,
}

impl Sampler {
    /// A sampler of a space.
    pub fn new(policy: Policy, space: &Space, seed: u64) -> Result<Self> {
        let groups = match policy {
            Policy::Paper | Policy::Sandwich => Vec::new(),
            Policy::Balanced => compute_groups(space)?,
        };
        Ok(Self { space: space.clone(), policy, seed, groups })
    }

    /// The three students of a step, the largest first; the one net of a space that has no other.
    pub fn draw(&self, step: u64) -> Vec<Arch> {
        let mut rng = Philox::new(self.seed, Purpose::Sampler, step, 0);
        let mut archs = vec![self.space.max()];
        if self.space.count() == 1 {
            return archs;
        }
        match self.policy {
            Policy::Paper => {
                archs.extend([self.space.uniform(&mut rng), self.space.uniform(&mut rng)])
            }
            Policy::Sandwich => archs.extend([self.space.min(), self.space.uniform(&mut rng)]),
            Policy::Balanced => archs.extend([self.balanced(&mut rng), self.balanced(&mut rng)]),
        }
        archs
    }

    fn balanced(&self, rng: &mut Philox) -> Arch {
        let group = &self.groups[rng.below(self.groups.len())];
        self.space.nth(group[rng.below(group.len())] as usize)
    }
}

fn compute_groups(space: &Space) -> Result<Vec<Vec<u32>>> {
    let budgets = space.default_groups(Metric::Macs)?;
    let mut groups = vec![Vec::new(); budgets.len()];
    for (index, (_, macs)) in space.values(Metric::Macs)?.into_iter().enumerate() {
        if let Some(g) = budgets.iter().position(|b| b.contains(macs)) {
            groups[g].push(index as u32);
        }
    }
    groups.retain(|g| !g.is_empty());
    Ok(groups)
}

impl Space {
    /// An architecture whose dimensions are drawn uniformly and independently.
    pub fn uniform(&self, rng: &mut Philox) -> Arch {
        from_dims(self.options().map(|o| o[rng.below(o.len())]))
    }

    /// The candidates of a search within a budget: all architectures inside where there are no
    /// more than `samples` (or no limit is given), else that many, drawn without replacement;
    /// in lexicographic order. Exit 2 where the budget holds none.
    pub fn candidates(
        &self,
        budget: &Budget,
        samples: Option<usize>,
        seed: u64,
    ) -> Result<Vec<Arch>> {
        let inside = self.within(budget)?;
        match samples {
            Some(n) if n < inside.len() => {
                // The budget's ends select the stream, so groups of a search do not share draws.
                let stream = budget.lo ^ budget.hi.rotate_left(32);
                let mut rng = Philox::new(seed, Purpose::Candidates, stream, budget.metric as u16);
                let mut chosen: Vec<Arch> =
                    rng.sample(inside.len(), n).into_iter().map(|i| inside[i]).collect();
                chosen.sort_by_key(dims);
                Ok(chosen)
            }
            _ => Ok(inside),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_keep_their_word() {
        let space = Space::preset("data").unwrap();
        for name in Policy::NAMES {
            let policy: Policy = name.parse().unwrap();
            let sampler = Sampler::new(policy, &space, 7).unwrap();
            let again = Sampler::new(policy, &space, 7).unwrap();
            let mut distinct = std::collections::HashSet::new();
            for step in 0..200 {
                let archs = sampler.draw(step);
                assert_eq!(archs, again.draw(step));
                assert_eq!((archs.len(), archs[0]), (3, space.max()));
                assert_eq!(archs[1] == space.min(), policy == Policy::Sandwich);
                assert!(archs.iter().all(|a| space.on_grid(a)));
                distinct.extend(archs);
            }
            assert!(distinct.len() > 150, "{name}: {}", distinct.len());
        }
    }

    #[test]
    fn balanced_draws_meet_the_small_and_the_large() {
        let space = Space::preset("data").unwrap();
        let share = |policy| {
            let sampler = Sampler::new(policy, &space, 1).unwrap();
            let small = |a: &Arch| !(2_000_000_000..12_000_000_000).contains(&space.cost(a).macs);
            (0..2000).flat_map(|s| sampler.draw(s)[1..].to_vec()).filter(small).count() as f64
                / 4000.0
        };
        // Five of fifteen groups hold 4.3 % of the architectures.
        assert!((share(Policy::Balanced) - 5.0 / 15.0).abs() < 0.03);
        assert!((share(Policy::Paper) - 3677.0 / 85_293.0).abs() < 0.015);
    }

    #[test]
    fn candidates_are_all_or_a_seeded_sample() {
        let space = Space::preset("data").unwrap();
        let few = space.candidates(&"1G..2G".parse().unwrap(), Some(100), 0).unwrap();
        assert_eq!(few.len(), 34);
        let budget: Budget = "3G..4G".parse().unwrap();
        let some = space.candidates(&budget, Some(100), 0).unwrap();
        assert_eq!(some, space.candidates(&budget, Some(100), 0).unwrap());
        assert_ne!(some, space.candidates(&budget, Some(100), 1).unwrap());
        let mut unique = some.clone();
        unique.dedup();
        assert_eq!((some.len(), unique.len()), (100, 100));
        assert!(some.iter().all(|a| budget.contains(space.cost(a).macs)));
        assert_eq!(space.candidates(&budget, None, 0).unwrap().len(), 8597);
    }
}
