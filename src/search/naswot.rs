//! NASWOT (Mellor, Turner, Storkey, Crowley, "Neural architecture search without training", ICML
//! 2021): how well an untrained net tells the images of one mini-batch apart. Each ReLU of each image
//! is on or off; these bits are the image's code. With N_A ReLUs and Hamming distance d_H, the kernel
//! of codes c is K_ij = N_A − d_H(c_i, c_j), and the score is ln |det K|. It is what a search has to
//! beat: it costs no training at all.

use crate::cx::Cx;
use crate::error::Result;
use crate::nn::{BnMode, Init, Params, Role, Supernet};
use crate::space::{Arch, Space};
use crate::tape::Tape;
use crate::tensor::Tensor;

/// Images of the mini-batch.
pub const IMAGES: usize = 128;

/// The score of `arch` with random weights of a seed on images `x` [N, H, W, 3]; the higher the
/// better. `None` where two images have the same code, so that the determinant is 0.
///
/// # Errors
/// [`crate::Kind::Usage`] for an architecture outside the space; those of the ops.
pub fn naswot(cx: &Cx, space: &Space, arch: &Arch, x: Tensor, seed: u64) -> Result<Option<f64>> {
    space.check(arch)?;
    let net = Supernet::new(&space.single(arch), None);
    let mut specs = net.specs().to_vec();
    // With γ = 0, as training begins, no block would do anything.
    let scales = specs.iter_mut().filter(|spec| spec.role == Role::NormScale);
    scales.for_each(|spec| spec.init = Init::Constant(1.0));
    let params = Params::init(cx, &specs, seed)?;
    let mut kernel = Kernel::new(x.shape().n());
    let mut see = |cx: &Cx, y: &Tensor| -> Result<()> {
        kernel.add(&cx.download(y)?);
        Ok(())
    };
    let mut tape = Tape::inference(cx);
    let x = tape.constant(x);
    net.forward(&mut tape, &params, x, arch, &mut BnMode::Watched(&mut see), &[])?;
    Ok(kernel.log_determinant())
}

/// K, summed over layers.
struct Kernel {
    images: usize,
    /// N_A − d_H of each pair of images.
    equal: Vec<u64>,
}

impl Kernel {
    fn new(images: usize) -> Self {
        Self { images, equal: vec![0; images * images] }
    }

    /// Adds the outputs of a layer's ReLUs, those of each image together.
    fn add(&mut self, values: &[f32]) {
        let units = values.len() / self.images.max(1);
        let word = |bits: &[f32]| {
            bits.iter().enumerate().fold(0u64, |word, (i, v)| word | u64::from(*v > 0.0) << i)
        };
        let code = |image: &[f32]| image.chunks(64).map(word).collect::<Vec<u64>>();
        let codes: Vec<Vec<u64>> = values.chunks_exact(units.max(1)).map(code).collect();
        for (i, a) in codes.iter().enumerate() {
            for (j, b) in codes.iter().enumerate() {
                let differ: u32 = a.iter().zip(b).map(|(a, b)| (a ^ b).count_ones()).sum();
                self.equal[i * self.images + j] += units as u64 - u64::from(differ);
            }
        }
    }

    /// ln |det K|, by Gaussian elimination with partial pivoting; none for a singular matrix.
    fn log_determinant(&self) -> Option<f64> {
        let n = self.images;
        let mut rows: Vec<Vec<f64>> = self
            .equal
            .chunks_exact(n.max(1))
            .map(|row| row.iter().map(|&equal| equal as f64).collect())
            .collect();
        let scale = rows.iter().flatten().fold(0.0f64, |most, v| most.max(*v));
        let mut sum = 0.0;
        for k in 0..n {
            let pivot = (k..n).max_by(|&a, &b| rows[a][k].abs().total_cmp(&rows[b][k].abs()))?;
            rows.swap(k, pivot);
            let (done, rest) = rows.split_at_mut(k + 1);
            let row = &done[k];
            // What rounding leaves of 0.
            if row[k].abs() <= scale * f64::EPSILON * n as f64 {
                return None;
            }
            sum += row[k].abs().ln();
            for other in rest {
                let factor = other[k] / row[k];
                (k..n).for_each(|j| other[j] -= factor * row[j]);
            }
        }
        (n > 0).then_some(sum)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::{Philox, Purpose};
    use crate::search::fixture;
    use crate::tensor::{DType, Shape};

    #[test]
    fn kernel_and_determinant_are_numpys() {
        let fixture = fixture::read();
        let naswot = &fixture["naswot"];
        let layers: Vec<Vec<f32>> = serde_json::from_value(naswot["layers"].clone()).unwrap();
        let expected: Vec<u64> = serde_json::from_value(naswot["kernel"].clone()).unwrap();
        let mut kernel = Kernel::new(naswot["images"].as_u64().unwrap() as usize);
        layers.iter().for_each(|layer| kernel.add(layer));
        assert_eq!(kernel.equal, expected);
        let found = kernel.log_determinant().unwrap();
        let expected = naswot["log_determinant"].as_f64().unwrap();
        assert!((found - expected).abs() < 1e-10 * expected.abs(), "{found} {expected}");
    }

    #[test]
    fn equal_images_have_no_score() {
        let mut kernel = Kernel::new(3);
        kernel.add(&[1.0, -1.0, 2.0, 1.0, -1.0, 2.0, -1.0, 1.0, 0.0]);
        assert_eq!(kernel.log_determinant(), None);
    }

    #[test]
    fn a_net_has_one_score_a_seed() {
        let cx = Cx::for_tests();
        let space = Space::preset("tiny").unwrap();
        let mut rng = Philox::new(1, Purpose::Check, 0, 0);
        let shape = Shape([8, 32, 32, 3]);
        let values: Vec<f32> = (0..shape.elems()).map(|_| rng.normal()).collect();
        let score = |arch: &Arch, seed| {
            let x = cx.upload(shape, DType::F32, &values).unwrap();
            naswot(&cx, &space, arch, x, seed).unwrap().unwrap()
        };
        assert_eq!(score(&space.min(), 1), score(&space.min(), 1));
        assert_ne!(score(&space.min(), 1), score(&space.min(), 2));
        // More ReLUs, larger numbers in K.
        assert!(score(&space.max(), 1) > score(&space.min(), 1));
    }
}
