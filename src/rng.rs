//! Counter-based randomness: Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy
//! as 1, 2, 3", SC 2011). Every draw is a function of the seed, a purpose and two indices
//! (say step and image), so it does not depend on threads, order or earlier draws, and a
//! resumed run draws what the uninterrupted one would have drawn.

/// What a stream of draws is for; streams of different purposes never overlap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum Purpose {
    /// Initial weights; `a` = index of the parameter.
    Init = 1,
    /// Architectures of a step; `a` = step.
    Sampler = 2,
    /// Order of the images; `a` = epoch.
    Shuffle = 3,
    /// Augmentation; `a` = image's position in the run, `b` = view.
    Augment = 4,
    /// Permutation of the teacher's batch; `a` = step, `b` = micro-batch.
    ShuffleBn = 5,
    /// Initial queue of negatives.
    Queue = 6,
    /// Images used for search, recalibration or evaluation.
    Subset = 7,
    /// Candidates of a search.
    Candidates = 8,
    /// Bootstrap resampling.
    Bootstrap = 9,
    /// Images drawn by the program itself.
    Synthetic = 10,
    /// Linear probe's order and weights.
    Probe = 11,
    /// Substitute for an image that cannot be read; `a` = its index.
    Substitute = 12,
    /// Data of the ops' own cases.
    Check = 13,
    /// Windows and partners of CutMix; `a` = step.
    CutMix = 14,
    /// Channels that dropout sets to 0; `a` = step, `b` = layer.
    Dropout = 15,
    /// Anchors that losses are computed of; `a` = image's position in the run.
    Anchors = 16,
    /// Proposals that losses are computed of; `a` = image's position in the run.
    Proposals = 17,
    /// Crops of images with labels; `a` = image's position in the run.
    Crop = 18,
    /// Photometric distortion; `a` = image's position in the run.
    Photometric = 19,
    /// Sizes and flips of images with annotations; `a` = image's position in the run.
    Resize = 20,
}

/// A stream of random numbers.
#[derive(Clone, Debug)]
pub struct Philox {
    key: [u32; 2],
    counter: [u32; 4],
    block: [u32; 4],
    used: usize,
}

impl Philox {
    /// The stream for `seed`, `purpose` and the indices `a`, `b`. The key is the seed; the
    /// counter holds purpose and `b` (16 + 16 bits), the low 64 bits `a` and the position:
    /// `b` < 65,536, and a stream has 2³² blocks of four numbers.
    pub fn new(seed: u64, purpose: Purpose, a: u64, b: u16) -> Self {
        let tag = (purpose as u32) << 16 | u32::from(b);
        Self {
            key: [seed as u32, (seed >> 32) as u32],
            counter: [0, a as u32, (a >> 32) as u32, tag],
            block: [0; 4],
            used: 4,
        }
    }

    /// The next 32 bits.
    pub fn next_u32(&mut self) -> u32 {
        if self.used == 4 {
            self.block = philox4x32_10(self.counter, self.key);
            self.counter[0] = self.counter[0].wrapping_add(1);
            self.used = 0;
        }
        self.used += 1;
        self.block[self.used - 1]
    }

    /// Uniform in [0, 1), 24 bits.
    pub fn uniform(&mut self) -> f32 {
        (self.next_u32() >> 8) as f32 * (1.0 / 16_777_216.0)
    }

    /// Uniform in [lo, hi).
    pub fn range(&mut self, lo: f32, hi: f32) -> f32 {
        lo + (hi - lo) * self.uniform()
    }

    /// Uniform integer below `n` (n ≥ 1), by multiplication with rejection of the biased part.
    pub fn below(&mut self, n: usize) -> usize {
        let n = n as u64;
        loop {
            let wide = u64::from(self.next_u32()) << 32 | u64::from(self.next_u32());
            let product = u128::from(wide) * u128::from(n);
            if (product as u64) >= n.wrapping_neg() % n {
                return (product >> 64) as usize;
            }
        }
    }

    /// True with probability `p`.
    pub fn chance(&mut self, p: f32) -> bool {
        self.uniform() < p
    }

    /// Standard normal, by Box and Muller; uses two draws.
    pub fn normal(&mut self) -> f32 {
        let u = 1.0 - f64::from(self.uniform());
        let v = f64::from(self.uniform());
        ((-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos()) as f32
    }

    /// Fisher–Yates shuffle.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            items.swap(i, self.below(i + 1));
        }
    }

    /// `k` of the indices 0..n in random order (all of them where `k` ≥ `n`).
    pub fn sample(&mut self, n: usize, k: usize) -> Vec<usize> {
        let mut all: Vec<usize> = (0..n).collect();
        let k = k.min(n);
        for i in 0..k {
            let j = i + self.below(n - i);
            all.swap(i, j);
        }
        all.truncate(k);
        all
    }
}

/// One block of Philox4x32 with ten rounds.
pub fn philox4x32_10(mut c: [u32; 4], mut k: [u32; 2]) -> [u32; 4] {
    for round in 0..10 {
        if round > 0 {
            k = [k[0].wrapping_add(0x9E37_79B9), k[1].wrapping_add(0xBB67_AE85)];
        }
        let p0 = u64::from(c[0]) * 0xD251_1F53;
        let p1 = u64::from(c[2]) * 0xCD9E_8D57;
        c = [
            (p1 >> 32) as u32 ^ c[1] ^ k[0],
            p1 as u32,
            (p0 >> 32) as u32 ^ c[3] ^ k[1],
            p0 as u32,
        ];
    }
    c
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_answers() {
        // Random123's kat_vectors for philox4x32 with 10 rounds.
        assert_eq!(
            philox4x32_10([0; 4], [0; 2]),
            [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]
        );
        assert_eq!(
            philox4x32_10([u32::MAX; 4], [u32::MAX; 2]),
            [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]
        );
        assert_eq!(
            philox4x32_10(
                [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344],
                [0xa409_3822, 0x299f_31d0]
            ),
            [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1]
        );
    }

    #[test]
    fn streams_are_reproducible_and_distinct() {
        let draw = |p, a, b| Philox::new(7, p, a, b).next_u32();
        assert_eq!(draw(Purpose::Init, 3, 1), draw(Purpose::Init, 3, 1));
        assert_ne!(draw(Purpose::Init, 3, 1), draw(Purpose::Init, 3, 2));
        assert_ne!(draw(Purpose::Init, 3, 1), draw(Purpose::Init, 4, 1));
        assert_ne!(draw(Purpose::Init, 3, 1), draw(Purpose::Queue, 3, 1));
    }

    #[test]
    fn draws_have_the_right_moments() {
        let mut rng = Philox::new(1, Purpose::Check, 0, 0);
        let n = 100_000;
        let normals: Vec<f64> = (0..n).map(|_| f64::from(rng.normal())).collect();
        let mean = normals.iter().sum::<f64>() / n as f64;
        let var = normals.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n as f64;
        assert!(mean.abs() < 0.02 && (var - 1.0).abs() < 0.02, "{mean} {var}");
        let hits = (0..n).filter(|_| rng.below(3) == 1).count() as f64 / n as f64;
        assert!((hits - 1.0 / 3.0).abs() < 0.01, "{hits}");
        let mut all = rng.sample(50, 50);
        all.sort_unstable();
        assert_eq!(all, (0..50).collect::<Vec<_>>());
    }
}
