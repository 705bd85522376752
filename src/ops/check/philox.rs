//! Random numbers drawn on a device, by `kernels/include/philox.h`, against [`Philox`].

use bytemuck::NoUninit;

use super::{Check, Outcome, on_schedules};
use crate::cx::{Cx, Exec};
use crate::device::Geometry;
use crate::rng::{Philox, Purpose};
use crate::tensor::{DType, Meta, Shape};

/// `PhiloxDrawsParams`.
#[derive(Clone, Copy, Debug, NoUninit)]
#[repr(C)]
struct Params {
    seed: u64,
    a: u64,
    purpose: u32,
    b: u32,
    streams: u32,
    draws: u32,
}

/// Words that [`expected`] gives; the last but one to four are normal draws.
const DRAWS: usize = 29;
const NORMAL: std::ops::Range<usize> = 24..28;
const STREAMS: u32 = 300;

/// All checks, as (name, check). They skip the CPU, which they compare with.
pub fn checks() -> Vec<(String, Check)> {
    let case = |name: &str, seed: u64, purpose: Purpose, a: u64, b: u16| -> (String, Check) {
        (format!("philox/{name}"), Box::new(move |cx| against_cpu(cx, seed, purpose, a, b)))
    };
    vec![
        case("seed 0", 0, Purpose::Init, 0, 0),
        case("second view", 1, Purpose::Augment, 123_456_789, 1),
        case("large seed", u64::MAX - 7, Purpose::Check, 5, u16::MAX),
        // The first index passes 2³² on the way.
        case("large index", 0x0123_4567_89ab_cdef, Purpose::Shuffle, (1 << 32) - 100, 3),
    ]
}

/// One draw of each kind after the other, as in `kernels/philox.cu`.
fn expected(mut rng: Philox) -> Vec<u32> {
    let mut out = Vec::with_capacity(DRAWS);
    out.extend((0..7).map(|_| rng.next_u32()));
    out.extend((0..3).map(|_| rng.uniform().to_bits()));
    out.extend((0..3).map(|_| rng.range(-0.3, 1.7).to_bits()));
    for limit in [1, 3, 1000, 3 << 62] {
        let below = rng.below(limit) as u64;
        out.extend([below as u32, (below >> 32) as u32]);
    }
    out.extend((0..3).map(|_| u32::from(rng.chance(0.3))));
    out.extend((0..4).map(|_| rng.normal().to_bits()));
    out.push(rng.next_u32());
    out
}

/// All draws are the same bits; normal ones the same to one unit in the last place, and
/// absolutely to what a cosine near 0 keeps.
fn against_cpu(cx: &Cx, seed: u64, purpose: Purpose, a: u64, b: u16) -> Result<Outcome, String> {
    let params = Params {
        seed,
        a,
        purpose: purpose as u32,
        b: b.into(),
        streams: STREAMS,
        draws: DRAWS as u32,
    };
    on_schedules(cx, |cx| -> Result<Vec<u32>, String> {
        let found = draw(cx, &params).map_err(|e| e.to_string())?;
        for (i, found) in found.chunks_exact(DRAWS).enumerate() {
            let expected = expected(Philox::new(seed, purpose, a + i as u64, b));
            for (k, (found, expected)) in found.iter().zip(expected).enumerate() {
                let [x, y] = [*found, expected].map(f32::from_bits);
                let near = found.abs_diff(expected) <= 1 || (x - y).abs() <= 1e-14;
                if *found != expected && !(NORMAL.contains(&k) && near) {
                    let what = format!("{found:#010x}, expected {expected:#010x}");
                    return Err(format!("stream {i}, draw {k}: {what}"));
                }
            }
        }
        Ok(found)
    })
}

fn draw(cx: &Cx, params: &Params) -> crate::Result<Vec<u32>> {
    let Exec::Device(launcher) = cx.exec("philox") else { return Ok(Vec::new()) };
    let words = STREAMS as usize * DRAWS;
    let mut out = cx.alloc(Meta::new(Shape::vector(words), DType::F32))?;
    let geometry = Geometry::cover(STREAMS, 128);
    launcher.launch("philox_draws", geometry, &[out.device_mut()], params)?;
    cx.download_bytes(&out, words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_draw_has_its_place() {
        let words = expected(Philox::new(1, Purpose::Check, 0, 0));
        assert_eq!(words.len(), DRAWS);
        let values: Vec<f32> = words[NORMAL].iter().map(|w| f32::from_bits(*w)).collect();
        assert!(values.iter().all(|x| x.abs() < 6.0), "{values:?}");
    }
}
