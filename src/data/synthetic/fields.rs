//! Functions over an image that are cut where a class's form ends.

use std::f32::consts::{PI, TAU};

use crate::rng::Philox;

/// Evaluates `f` at the centre of every pixel, in coordinates −0.5 to 0.5 that are turned by
/// `angle` around `centre`.
fn fill(side: usize, angle: f32, centre: [f32; 2], f: impl Fn(f32, f32) -> f32) -> Vec<f32> {
    let (sin, cos) = angle.sin_cos();
    let pixel = |i: usize| {
        let x = ((i % side) as f32 + 0.5) / side as f32 - 0.5 - centre[0];
        let y = ((i / side) as f32 + 0.5) / side as f32 - 0.5 - centre[1];
        f(cos * x + sin * y, cos * y - sin * x)
    };
    (0..side * side).map(pixel).collect()
}

/// A function that is small inside the shape and grows outwards, in units of the side of a
/// square of the shape's area.
pub(super) fn shape_field(class: &str, share: f32, side: usize, rng: &mut Philox) -> Vec<f32> {
    let angle = rng.range(-0.3, 0.3);
    let centre = [rng.range(-0.12, 0.12), rng.range(-0.12, 0.12)];
    let unit = share.sqrt();
    fill(side, angle, centre, |x, y| {
        let (x, y) = (x / unit, y / unit);
        let r = x.hypot(y);
        let bar = |x: f32, y: f32, long: f32| (x.abs() / long).max(y.abs());
        match class {
            "bar" => bar(x, y, 3.5),
            "cross" => bar(x, y, 3.5).min(bar(y, x, 3.5)),
            "square" => x.abs().max(y.abs()),
            "triangle" => (-y).max(y * 0.5 + x.abs() * 0.75f32.sqrt()),
            // Radius over the radius of a five-pointed star in that direction.
            "star" => {
                let sector = y.atan2(x).rem_euclid(TAU / 5.0) - PI / 5.0;
                r * (1.0 + 1.3 * (1.0 - sector.abs() / (PI / 5.0)))
            }
            "ring" => (r - 0.52).abs(),
            "crescent" => (r - 0.75).max(0.55 - (x - 0.35).hypot(y)),
            _ => r,
        }
    })
}

/// Distance to a hand that comes in from below: a palm, a wrist, and five fingers that are
/// stretched or folded.
pub(super) fn hand_field(class: &str, side: usize, rng: &mut Philox) -> Vec<f32> {
    // Thumb to little finger.
    let stretched = match class {
        "call" => [true, false, false, false, true],
        "fist" => [false; 5],
        "five" => [true; 5],
        "four" => [false, true, true, true, true],
        "gun" => [true, true, false, false, false],
        "point" => [false, true, false, false, false],
        "rock" => [false, true, false, false, true],
        _ => [false, true, true, false, false],
    };
    // Where each finger begins, its direction from upright and its length.
    let fingers = [
        ([-0.12, 0.02], -1.0, 0.17),
        ([-0.095, -0.12], -0.25, 0.22),
        ([-0.03, -0.14], -0.07, 0.25),
        ([0.035, -0.135], 0.13, 0.23),
        ([0.1, -0.11], 0.35, 0.18),
    ];
    let mut limbs = vec![([0.0, 0.0], [0.0, 0.0], 0.14), ([0.0, 0.1], [0.0, 0.7], 0.09)];
    for (is_long, (from, angle, length)) in stretched.into_iter().zip(fingers) {
        let angle: f32 = angle + rng.range(-0.08, 0.08);
        let length = if is_long { length * rng.range(0.92, 1.08) } else { 0.03 };
        let to = [from[0] + length * angle.sin(), from[1] - length * angle.cos()];
        limbs.push((from, to, 0.032));
    }
    let centre = [rng.range(-0.03, 0.03), 0.12 + rng.range(-0.03, 0.03)];
    let (angle, size) = (rng.range(-0.08, 0.08), rng.range(0.94, 1.06));
    fill(side, angle, centre, |x, y| {
        let to_limb = |(from, to, radius): &([f32; 2], [f32; 2], f32)| {
            let (along, at) =
                ([to[0] - from[0], to[1] - from[1]], [x / size - from[0], y / size - from[1]]);
            let length = (along[0] * along[0] + along[1] * along[1]).max(1e-9);
            let t = ((at[0] * along[0] + at[1] * along[1]) / length).clamp(0.0, 1.0);
            (at[0] - t * along[0]).hypot(at[1] - t * along[1]) - radius
        };
        limbs.iter().map(to_limb).fold(f32::MAX, f32::min)
    })
}

/// A function whose lower half is one colour and whose upper half the other.
pub(super) fn texture_field(class: &str, side: usize, rng: &mut Philox) -> Vec<f32> {
    let angle = rng.range(-0.2, 0.2);
    let waves = TAU * rng.range(3.5, 5.0);
    let phase = [rng.range(0.0, TAU), rng.range(0.0, TAU)];
    let upright = |f: &dyn Fn(f32, f32) -> f32| fill(side, 0.0, [0.0; 2], f);
    match class {
        "stripes" => fill(side, angle, [0.0; 2], |x, _| (waves * x + phase[0]).sin()),
        "checks" => fill(side, angle, [0.0; 2], |x, y| {
            (waves * x + phase[0]).sin() * (waves * y + phase[1]).sin()
        }),
        "waves" => fill(side, angle, [0.0; 2], |x, y| {
            (waves * x + phase[0] + 2.2 * (1.6 * waves.sqrt() * TAU * y / 2.0 + phase[1]).sin())
                .sin()
        }),
        "rings" => {
            let centre = [rng.range(-0.4, 0.4), rng.range(-0.4, 0.4)];
            fill(side, 0.0, centre, |x, y| (waves * x.hypot(y) + phase[0]).sin())
        }
        "cells" | "spots" => {
            let points = Points::new((waves / TAU) as usize + 1, rng);
            let cells = class == "cells";
            upright(&|x, y| {
                let [first, second] = points.nearest(x + 0.5, y + 0.5);
                if cells { first - second } else { first }
            })
        }
        "clouds" => {
            let octaves = [2, 4, 8].map(|n| Lattice::new(n, rng));
            upright(&|x, y| {
                octaves.iter().zip([1.0, 0.5, 0.25]).map(|(o, w)| w * o.at(x + 0.5, y + 0.5)).sum()
            })
        }
        // Finer than anything else: grains of two pixels.
        _ => {
            let lattice = Lattice::new((side / 2).max(2), rng);
            upright(&|x, y| lattice.at(x + 0.5, y + 0.5))
        }
    }
}

/// Points scattered over the unit square, one in each cell of a grid.
struct Points {
    n: usize,
    /// With a border of one cell.
    at: Vec<[f32; 2]>,
}

impl Points {
    fn new(n: usize, rng: &mut Philox) -> Self {
        let width = n + 2;
        let at = (0..width * width)
            .map(|i| {
                let cell = [i % width, i / width];
                cell.map(|c| (c as f32 - 1.0 + rng.range(0.1, 0.9)) / n as f32)
            })
            .collect();
        Self { n, at }
    }

    /// Distances to the nearest point and the second nearest, in cells.
    fn nearest(&self, x: f32, y: f32) -> [f32; 2] {
        let width = self.n + 2;
        let cell = |v: f32| ((v * self.n as f32) as usize).min(self.n - 1);
        let mut best = [f32::MAX; 2];
        for row in cell(y)..cell(y) + 3 {
            for [px, py] in &self.at[row * width + cell(x)..][..3] {
                let d = (px - x).hypot(py - y) * self.n as f32;
                if d < best[0] {
                    best = [d, best[0]];
                } else if d < best[1] {
                    best[1] = d;
                }
            }
        }
        best
    }
}

/// Random values on a lattice over the unit square, smoothly interpolated.
struct Lattice {
    n: usize,
    values: Vec<f32>,
}

impl Lattice {
    fn new(n: usize, rng: &mut Philox) -> Self {
        Self { n, values: (0..(n + 1) * (n + 1)).map(|_| rng.uniform()).collect() }
    }

    fn at(&self, x: f32, y: f32) -> f32 {
        let place = |v: f32| {
            let v = v * self.n as f32;
            let cell = (v as usize).min(self.n - 1);
            let t = v - cell as f32;
            (cell, t * t * (3.0 - 2.0 * t))
        };
        let ((i, u), (j, v)) = (place(x), place(y));
        let value = |j: usize, i: usize| self.values[j * (self.n + 1) + i];
        let row = |j: usize| value(j, i) + u * (value(j, i + 1) - value(j, i));
        row(j) + v * (row(j + 1) - row(j))
    }
}
