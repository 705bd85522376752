//! Whether a net learns: how far its embeddings lie apart, in how many directions, and a verdict on
//! both. The loss alone does not tell: a net that gives all images one embedding has a loss of
//! ln(1+K), and one that learns may stand above that.

use serde::{Deserialize, Serialize};

crate::choice! {
    /// The verdict on training, from the best to the worst.
    #[derive(PartialOrd, Ord, Default)]
    pub enum Health("health") {
        /// Embeddings lie apart, in many directions.
        #[default]
        Healthy = "healthy",
        /// Spread below [`NARROW_SPREAD`], or [`rank_share`] below [`NARROW_RANK_SHARE`].
        Narrow = "narrow",
        /// Spread below [`COLLAPSING_SPREAD`].
        Collapsing = "collapsing",
        /// Spread below [`COLLAPSED_SPREAD`]: all images have nearly one embedding.
        Collapsed = "collapsed",
    }
}

/// Spread below which embeddings are as good as one point. Runs that learnt nothing had 0.003 to
/// 0.11 throughout; the least of runs that learnt was 0.14 to 0.2, for a few steps.
pub const COLLAPSED_SPREAD: f64 = 0.15;
/// Spread below which embeddings are on their way there.
pub const COLLAPSING_SPREAD: f64 = 0.3;
/// Spread below which embeddings lie closer together than an untrained net's (0.5).
pub const NARROW_SPREAD: f64 = 0.5;
/// Share of the expected rank below which embeddings use too few directions.
pub const NARROW_RANK_SHARE: f64 = 0.1;
/// A rank that is enough however many images there are: that of 32 random directions in 128
/// dimensions. Nets that name 97 % of images right have some 8, whatever the number of images; nets
/// that learnt nothing have 1.3 to 3.5.
const ENOUGH_RANK: f64 = 25.0;
/// Steps of a run from which on ranks count in its verdict. In the first few hundred steps of runs
/// that then learnt well the rank dips to 2 or 3 of 25 and recovers: a warning there would be false.
pub const RANK_STEPS: u64 = 300;
/// Steps that verdicts look back on.
pub const MEMORY_STEPS: u64 = 20;
/// By how much a mean must exceed a threshold until the verdict is the better one, so that a net
/// on the threshold does not flip between the two.
const RECOVERY: f64 = 1.1;
/// Steps that a new verdict must last until it is said.
const LASTING_STEPS: u64 = 5;
/// Spread of a single batch below which a net is collapsed, however few steps it was trained.
const POINT_SPREAD: f64 = 0.01;
/// Most rows that a rank is taken of, so that its cost is bounded.
const RANK_ROWS: usize = 512;

impl Health {
    /// The verdict on a spread and, where it is known, a share of the expected rank.
    pub fn of(spread: f64, rank_share: Option<f64>) -> Self {
        match spread {
            s if s < COLLAPSED_SPREAD => Self::Collapsed,
            s if s < COLLAPSING_SPREAD => Self::Collapsing,
            s if s < NARROW_SPREAD => Self::Narrow,
            _ if rank_share.is_some_and(|share| share < NARROW_RANK_SHARE) => Self::Narrow,
            _ => Self::Healthy,
        }
    }
}

/// Share of the expected rank that embeddings reach, both counted from the one direction that any
/// two points have; none where a batch is too small to tell.
pub fn rank_share(rank: f64, expected_rank: f64) -> Option<f64> {
    let expected = expected_rank.min(ENOUGH_RANK);
    (expected > 2.0).then(|| (rank - 1.0).max(0.0) / (expected - 1.0))
}

/// How the embeddings of a batch lie.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Scatter {
    /// Standard deviation over the batch, averaged over the D dimensions: 1/√D at most.
    pub std: f64,
    /// `std` · √D: 1 where embeddings lie evenly on the sphere, 0 where they are one point.
    pub spread: f64,
    /// Participation ratio (tr C)² / ‖C‖² of their covariance C: how many directions they use,
    /// from 1 to D. 0 where all are equal. Of a large batch the first 512 rows are taken.
    pub rank: f64,
    /// The rank that as many random directions have, see [`expected_rank`].
    pub expected_rank: f64,
}

impl Scatter {
    /// Of the embeddings `z` [N, D], rows of unit length.
    pub fn of(z: &[f32], dim: usize) -> Self {
        let rows = z.len() / dim.max(1);
        let std = column_std(z, rows, dim);
        let used = rows.min(RANK_ROWS);
        Self {
            std,
            spread: std * (dim as f64).sqrt(),
            rank: participation(&z[..used * dim], used, dim),
            expected_rank: expected_rank(rows, dim),
        }
    }
}

/// Rank of N random directions in D dimensions, (N−1)·D / (N−1+D): about N·D / (N+D), less what
/// the mean takes; N is 512 at most, as in [`Scatter::rank`].
pub fn expected_rank(rows: usize, dim: usize) -> f64 {
    let (free, dim) = (rows.min(RANK_ROWS).saturating_sub(1) as f64, dim as f64);
    if free == 0.0 || dim == 0.0 { 0.0 } else { free * dim / (free + dim) }
}

/// Standard deviation over rows, averaged over columns.
fn column_std(z: &[f32], rows: usize, dim: usize) -> f64 {
    let column = |j: usize| {
        let at = |i: usize| f64::from(z[i * dim + j]);
        let mean = (0..rows).map(at).sum::<f64>() / rows as f64;
        ((0..rows).map(|i| (at(i) - mean).powi(2)).sum::<f64>() / rows as f64).sqrt()
    };
    (0..dim).map(column).sum::<f64>() / dim as f64
}

/// (tr G)² / ‖G‖² of the centred rows' Gram matrix, N×N or D×D, whichever is smaller: both have
/// the covariance's eigenvalues, up to one factor that cancels.
fn participation(z: &[f32], rows: usize, dim: usize) -> f64 {
    let mut means = vec![0.0; dim];
    for row in z.chunks_exact(dim.max(1)) {
        means.iter_mut().zip(row).for_each(|(m, &x)| *m += f64::from(x) / rows as f64);
    }
    // `lines` vectors of `length` numbers, of which the Gram matrix holds the products.
    let (lines, length) = if rows <= dim { (rows, dim) } else { (dim, rows) };
    let mut centred = vec![0.0; rows * dim];
    for i in 0..rows {
        for j in 0..dim {
            let to = if rows <= dim { i * dim + j } else { j * rows + i };
            centred[to] = f64::from(z[i * dim + j]) - means[j];
        }
    }
    let line = |i: usize| &centred[i * length..(i + 1) * length];
    let (mut trace, mut squares) = (0.0, 0.0);
    for i in 0..lines {
        let own = dot(line(i), line(i));
        trace += own;
        squares += own * own;
        squares += (0..i).map(|k| 2.0 * dot(line(i), line(k)).powi(2)).sum::<f64>();
    }
    // Rounding leaves equal rows a little apart.
    if trace <= 1e-12 * rows as f64 { 0.0 } else { trace * trace / squares }
}

/// A dot product in eight sums, which fixes its order and lets the compiler use vectors.
fn dot(a: &[f64], b: &[f64]) -> f64 {
    let mut sums = [0.0; 8];
    let (a, b) = (a.chunks_exact(8), b.chunks_exact(8));
    let rest: f64 = a.remainder().iter().zip(b.remainder()).map(|(x, y)| x * y).sum();
    for (x, y) in a.zip(b) {
        for k in 0..8 {
            sums[k] += x[k] * y[k];
        }
    }
    sums.iter().sum::<f64>() + rest
}

/// Means over the newest steps: of all steps up to [`MEMORY_STEPS`], then an exponential moving
/// average.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Mean {
    /// Of the spread.
    pub spread: f64,
    /// Of the rank.
    pub rank: f64,
    /// Of the expected rank.
    pub expected_rank: f64,
}

impl Mean {
    fn add(&mut self, s: &Scatter, weight: f64) {
        let towards = |mean: &mut f64, x: f64| *mean += weight * (x - *mean);
        towards(&mut self.spread, s.spread);
        towards(&mut self.rank, s.rank);
        towards(&mut self.expected_rank, s.expected_rank);
    }

    /// The verdict on these means after so many steps, each divided by `margin`.
    fn judge(&self, steps: u64, margin: f64) -> Health {
        let share = rank_share(self.rank, self.expected_rank).filter(|_| steps >= RANK_STEPS);
        Health::of(self.spread / margin, share.map(|share| share / margin))
    }
}

impl std::fmt::Display for Mean {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { spread, rank, expected_rank } = self;
        write!(f, "spread {spread:.3}, rank {rank:.1} of about {expected_rank:.0}")
    }
}

/// How training stands.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Standing {
    /// Spread of the first student's embeddings in the last step.
    pub spread: f64,
    /// Their rank.
    pub rank: f64,
    /// The rank of as many random directions.
    pub expected_rank: f64,
    /// The verdict.
    pub health: Health,
}

impl std::fmt::Display for Standing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { spread, rank, expected_rank, health } = self;
        write!(f, "{health} (spread {spread:.3}, rank {rank:.1} of about {expected_rank:.0})")
    }
}

/// A verdict that has lasted and that differs from the one said before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// What was said before.
    pub from: Health,
    /// What is to be said now.
    pub to: Health,
}

/// What is remembered of a run's health from step to step; part of a checkpoint's state, so that a
/// resumed run judges as one that was not interrupted.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Watch {
    /// Steps looked at.
    pub steps: u64,
    /// Newest batch of the first student.
    pub last: Scatter,
    /// Means of the first student's.
    pub student: Mean,
    /// Means of the teacher's.
    pub teacher: Mean,
    /// The verdict: the worse of student's and teacher's.
    pub health: Health,
    /// The last verdict that was said.
    said: Health,
    /// For how many steps the verdict has differed from it in the same way.
    differs: u64,
}

impl Watch {
    /// Takes a step's embeddings in. Gives the verdict that is to be said, if any: one that has
    /// lasted, from step [`MEMORY_STEPS`] on; ranks count from step [`RANK_STEPS`] on.
    pub fn observe(&mut self, student: &Scatter, teacher: &Scatter) -> Option<Change> {
        self.steps += 1;
        self.last = *student;
        let weight = 1.0 / self.steps.min(MEMORY_STEPS) as f64;
        self.student.add(student, weight);
        self.teacher.add(teacher, weight);
        let before = self.health;
        self.health = self.judge(1.0);
        if self.health < before {
            self.health = self.judge(RECOVERY).min(before);
        }
        let same_way = (self.health > self.said) == (before > self.said);
        self.differs = match self.health == self.said {
            true => 0,
            false if before != self.said && same_way => self.differs + 1,
            false => 1,
        };
        if self.differs < LASTING_STEPS || self.steps < MEMORY_STEPS {
            return None;
        }
        let change = Change { from: self.said, to: self.health };
        (self.said, self.differs) = (self.health, 0);
        Some(change)
    }

    fn judge(&self, margin: f64) -> Health {
        self.student.judge(self.steps, margin).max(self.teacher.judge(self.steps, margin))
    }

    /// Whether a run that ends now is a failure: collapsed, or, where there were too few steps for
    /// a verdict, one point.
    pub fn ends_collapsed(&self) -> bool {
        match self.steps < MEMORY_STEPS {
            true => self.steps > 0 && self.last.spread < POINT_SPREAD,
            false => self.health == Health::Collapsed,
        }
    }

    /// How training stands; none before the first step.
    pub fn standing(&self) -> Option<Standing> {
        let Scatter { spread, rank, expected_rank, .. } = self.last;
        (self.steps > 0).then_some(Standing { spread, rank, expected_rank, health: self.health })
    }

    /// The means of both nets in words.
    pub fn in_words(&self) -> String {
        let Self { student, teacher, .. } = self;
        format!(
            "{student} (teacher: {teacher}; spread is 1 where images lie apart, 0 at one point)"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::{Philox, Purpose};

    /// Random directions, rows of unit length.
    fn directions(rows: usize, dim: usize) -> Vec<f32> {
        let mut rng = Philox::new(5, Purpose::Check, 0, 0);
        let mut z: Vec<f32> = (0..rows * dim).map(|_| rng.normal()).collect();
        for row in z.chunks_exact_mut(dim) {
            let norm = row.iter().map(|x| x * x).sum::<f32>().sqrt();
            row.iter_mut().for_each(|x| *x /= norm);
        }
        z
    }

    #[test]
    fn random_directions_spread_and_fill_the_space() {
        for (rows, dim) in [(16, 128), (128, 128), (500, 64), (700, 64), (7, 3)] {
            let found = Scatter::of(&directions(rows, dim), dim);
            let loss = (1.0 - 1.0 / rows as f64).sqrt();
            assert!((found.spread - loss).abs() < 0.06, "{rows}×{dim}: {found:?}");
            let n = rows.min(512) as f64;
            let formula = n * dim as f64 / (n + dim as f64);
            assert!((found.rank / formula - 1.0).abs() < 0.2, "{rows}×{dim}: {found:?}");
            assert!(
                (found.rank / found.expected_rank - 1.0).abs() < 0.12,
                "{rows}×{dim}: {found:?}"
            );
            assert_eq!(found.std * (dim as f64).sqrt(), found.spread);
        }
    }

    #[test]
    fn a_point_has_no_spread_and_two_clusters_have_rank_1() {
        let z = directions(2, 32);
        let point: Vec<f32> = z[..32].repeat(24);
        let found = Scatter::of(&point, 32);
        assert!(found.spread < 1e-6 && found.rank == 0.0, "{found:?}");
        let found = Scatter::of(&z.repeat(12), 32);
        assert!((found.rank - 1.0).abs() < 1e-9, "{found:?}");
        // Three clusters of equal distances have two directions, whichever Gram matrix is smaller.
        for copies in [2, 40] {
            let axes: Vec<f32> = (0..24).map(|i| f32::from(i % 9 == 0)).collect();
            let found = Scatter::of(&axes.repeat(copies), 8);
            assert!((found.rank - 2.0).abs() < 1e-9, "{found:?}");
        }
    }

    fn scatter(spread: f64, rank: f64) -> Scatter {
        Scatter { std: 0.0, spread, rank, expected_rank: 64.0 }
    }

    /// A verdict on steps that are all alike.
    fn verdict(student: Scatter, teacher: Scatter) -> Health {
        let mut watch = Watch::default();
        for _ in 0..RANK_STEPS {
            watch.observe(&student, &teacher);
        }
        watch.health
    }

    #[test]
    fn verdicts_follow_the_worse_net() {
        let good = scatter(0.9, 40.0);
        for (spread, rank, expected) in [
            (0.51, 30.0, Health::Healthy),
            (0.49, 30.0, Health::Narrow),
            (0.9, 3.0, Health::Narrow),
            (0.9, 6.0, Health::Healthy),
            (0.29, 30.0, Health::Collapsing),
            (0.14, 30.0, Health::Collapsed),
            (0.0, 0.0, Health::Collapsed),
        ] {
            let bad = scatter(spread, rank);
            assert_eq!([verdict(bad, good), verdict(good, bad)], [expected; 2], "{bad:?}");
        }
        // Two images have one direction: no verdict on their rank.
        assert_eq!(rank_share(1.0, expected_rank(2, 128)), None);
        assert_eq!(serde_json::to_string(&Health::Collapsing).unwrap(), "\"collapsing\"");
    }

    #[test]
    fn ranks_count_once_they_mean_something_and_spreads_from_the_start() {
        let flat = scatter(0.9, 2.5);
        let mut watch = Watch::default();
        for step in 1..RANK_STEPS {
            assert_eq!(watch.observe(&flat, &flat), None, "step {step}");
            assert_eq!(watch.health, Health::Healthy, "step {step}");
        }
        let said: Vec<_> = (0..50).filter_map(|_| watch.observe(&flat, &flat)).collect();
        assert_eq!(said, [Change { from: Health::Healthy, to: Health::Narrow }]);

        let near = scatter(0.4, 40.0);
        let mut watch = Watch::default();
        let said: Vec<_> = (0..MEMORY_STEPS).filter_map(|_| watch.observe(&near, &near)).collect();
        assert_eq!(said, [Change { from: Health::Healthy, to: Health::Narrow }]);
    }

    #[test]
    fn an_odd_batch_changes_nothing_and_a_lasting_change_is_said_once() {
        let mut watch = Watch::default();
        let mut steps = |n: usize, spread: f64| -> Vec<(usize, Change)> {
            let s = scatter(spread, 40.0 * spread);
            (0..n).filter_map(|i| watch.observe(&s, &s).map(|change| (i, change))).collect()
        };
        assert!(steps(100, 0.9).is_empty());
        assert!(steps(1, 0.0).is_empty());
        assert!(steps(30, 0.9).is_empty());
        let worse = steps(100, 0.01);
        assert!(worse.last().is_some_and(|(at, c)| *at < 50 && c.to == Health::Collapsed));
        assert!(worse.windows(2).all(|w| w[0].1.to < w[1].1.to), "{worse:?}");
        // On a threshold it does not flip.
        let back = steps(400, 0.155);
        assert!(back.is_empty(), "{back:?}");
        let back = steps(400, 0.2);
        let expected = Change { from: Health::Collapsed, to: Health::Collapsing };
        assert_eq!(back.iter().map(|b| b.1).collect::<Vec<_>>(), [expected]);
        let changes: usize = (0..50).map(|i| steps(1, 0.29 + 0.02 * f64::from(i % 2)).len()).sum();
        assert_eq!(changes, 0);
    }

    #[test]
    fn nothing_is_said_of_the_first_steps_and_a_point_is_no_success() {
        let (good, point) = (scatter(0.9, 40.0), scatter(0.001, 1.0));
        let mut watch = Watch::default();
        assert!(!watch.ends_collapsed() && watch.standing().is_none());
        assert_eq!(watch.observe(&good, &good), None);
        for step in 2..20 {
            assert_eq!(watch.observe(&point, &good), None, "step {step}");
            assert!(watch.ends_collapsed());
        }
        let said = watch.observe(&point, &good).unwrap();
        assert_eq!(said, Change { from: Health::Healthy, to: Health::Collapsed });
        assert!(watch.ends_collapsed());
        assert_eq!(watch.observe(&point, &good), None);
    }

    #[test]
    fn a_watch_goes_on_from_its_file_bit_for_bit() {
        let mut rng = Philox::new(6, Purpose::Check, 0, 0);
        let mut next = || scatter(f64::from(rng.uniform()), 30.0 * f64::from(rng.uniform()));
        let (mut whole, mut parts) = (Watch::default(), Watch::default());
        for _ in 0..200 {
            let (student, teacher) = (next(), next());
            let text = serde_json::to_string(&parts).unwrap();
            parts = serde_json::from_str(&text).unwrap();
            assert_eq!(whole.observe(&student, &teacher), parts.observe(&student, &teacher));
            assert_eq!(whole, parts);
        }
        assert_eq!(serde_json::from_str::<Watch>("{}").unwrap(), Watch::default());
    }
}
