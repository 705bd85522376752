//! The exponential function, in operations that every machine rounds alike: libraries differ in the
//! last bit, and kernels must find the boxes that native code finds.

use std::f64::consts::LOG2_E;

/// A number beside which an f64 has no fraction: adding and subtracting it rounds.
const ROUND: f64 = 1.5 * (1u64 << 52) as f64;
/// ln 2 in two parts, of which the first has few digits: its multiples are exact.
const LN_2: [f64; 2] = [0.693_147_180_369_123_8, 1.908_214_929_270_587_7e-10];
/// 1/n!, of 13 down to 0.
#[rustfmt::skip]
const INVERSE_FACTORIALS: [f64; 14] = [
    1.0 / 6_227_020_800.0, 1.0 / 479_001_600.0, 1.0 / 39_916_800.0, 1.0 / 3_628_800.0, 1.0 / 362_880.0,
    1.0 / 40_320.0, 1.0 / 5_040.0, 1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 1.0 / 2.0, 1.0, 1.0,
];
/// Below this the result is 0.
const LEAST: f64 = -110.0;

/// eˣ to the nearest f32, for x up to 80: 2ᵏ·eʳ with |r| ≤ ln 2 / 2, whose series is summed in f64.
/// `kernels/include/exp.h` has the same operations.
pub fn exp(x: f32) -> f32 {
    let x = f64::from(x);
    let x = if x < LEAST { LEAST } else { x };
    let k = (x * LOG2_E + ROUND) - ROUND;
    let r = (x - k * LN_2[0]) - k * LN_2[1];
    let series = INVERSE_FACTORIALS.iter().fold(0.0, |sum, term| sum * r + term);
    let power = f64::from_bits(((k as i64 + 1023) as u64) << 52);
    (series * power) as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_nearest_f32() {
        // Bits of numbers of both signs, in steps that share no divisor with their places.
        let mut count = 0;
        for bits in (0..=u32::MAX).step_by(4099) {
            let x = f32::from_bits(bits);
            if x.abs() <= 80.0 || x < 0.0 {
                count += 1;
                assert_eq!(exp(x).to_bits(), (f64::from(x).exp() as f32).to_bits(), "e^{x}");
            }
        }
        assert!(count > 700_000);
        assert_eq!(
            [exp(0.0), exp(-0.0), exp(1.0), exp(-1e9)],
            [1.0, 1.0, std::f32::consts::E, 0.0]
        );
        assert!(exp(f32::NAN).is_nan() && exp(f32::NEG_INFINITY) == 0.0);
    }
}
