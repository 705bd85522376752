//! Boxes as differences to others, which nets predict (Girshick et al., "Rich feature hierarchies",
//! 2014, appendix C), in detectron2's order of operations.

use super::Corners;
use super::exp::exp;

/// How differences are scaled.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Coder {
    /// Factors of dx, dy, dw and dh.
    pub weights: [f32; 4],
}

impl Coder {
    /// The greatest dw and dh, ln(1000/16).
    pub const MOST: f32 = 4.135_166_6;
    /// That of region proposals.
    pub const RPN: Self = Self { weights: [1.0; 4] };
    /// That of box heads.
    pub const ROI: Self = Self { weights: [10.0, 10.0, 5.0, 5.0] };

    /// The differences from `source` to `target`: (dx, dy) are those of the centres over the
    /// source's size, (dw, dh) logarithms of ratios of the sizes. Both must have width and height.
    pub fn encode(&self, source: &Corners, target: &Corners) -> [f32; 4] {
        let ([x, y], [w, h]) = centre_and_size(source);
        let ([tx, ty], [tw, th]) = centre_and_size(target);
        let [wx, wy, ww, wh] = self.weights;
        [wx * (tx - x) / w, wy * (ty - y) / h, ww * (tw / w).ln(), wh * (th / h).ln()]
    }

    /// The box that differs so from `source`; dw and dh grow it by 1000/16 at most.
    pub fn decode(&self, source: &Corners, deltas: &[f32; 4]) -> Corners {
        let ([x, y], [w, h]) = centre_and_size(source);
        let [dx, dy, dw, dh] = std::array::from_fn(|i| deltas[i] / self.weights[i]);
        let (x, y) = (dx * w + x, dy * h + y);
        let (w, h) = (exp(at_most(dw)) * w, exp(at_most(dh)) * h);
        [x - 0.5 * w, y - 0.5 * h, x + 0.5 * w, y + 0.5 * h]
    }
}

fn centre_and_size(b: &Corners) -> ([f32; 2], [f32; 2]) {
    let (w, h) = (b[2] - b[0], b[3] - b[1]);
    ([b[0] + 0.5 * w, b[1] + 0.5 * h], [w, h])
}

/// Unlike `min` this keeps what is no number, so that it is noticed.
fn at_most(x: f32) -> f32 {
    if x > Coder::MOST { Coder::MOST } else { x }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_encoded_is_decoded_and_growth_has_an_end() {
        let (source, target) = ([10.0, 20.0, 50.0, 40.0], [12.0, 8.0, 32.0, 72.0]);
        for coder in [Coder::RPN, Coder::ROI] {
            let deltas = coder.encode(&source, &target);
            for (found, expected) in coder.decode(&source, &deltas).iter().zip(target) {
                assert!((found - expected).abs() < 1e-4);
            }
        }
        assert_eq!(Coder::RPN.encode(&source, &target)[..2], [-0.2, 0.5]);
        assert_eq!(Coder::MOST, (1000.0f64 / 16.0).ln() as f32);
        let far = Coder::RPN.decode(&source, &[0.0, 0.0, 100.0, -100.0]);
        assert!((far[2] - far[0] - 2500.0).abs() < 0.1 && far[3] == far[1], "{far:?}");
        assert!(Coder::RPN.decode(&source, &[0.0, 0.0, f32::NAN, 0.0])[0].is_nan());
    }
}
