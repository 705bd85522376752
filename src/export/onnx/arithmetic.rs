//! The operators that exports use, in f64 by direct loops, for one image at a time. They share nothing
//! with the ops.

use rayon::prelude::*;

/// Output pixels that a thread computes at a time, so that weights are read once for all.
const PIXELS: usize = 16;

/// An operator with its attributes and weights.
pub(super) enum Op {
    Conv(Conv),
    Relu,
    Add,
    MaxPool(Window),
    GlobalAveragePool,
    Flatten,
    Gemm {
        weight: Vec<f64>,
        bias: Vec<f64>,
    },
    ReduceL2,
    /// At least so much.
    Clip(f64),
    Div,
    /// Minus one number for each channel.
    Sub(Vec<f64>),
    /// Times one number for each channel.
    Mul(Vec<f64>),
}

/// One image's values, H×W×C; a vector is 1×1×C.
#[derive(Clone)]
pub(super) struct Map {
    pub values: Vec<f64>,
    pub height: usize,
    pub width: usize,
    pub channels: usize,
}

/// A square window, with padding on all sides.
#[derive(Clone, Copy)]
pub(super) struct Window {
    pub kernel: usize,
    pub stride: usize,
    pub pad: usize,
}

/// A convolution with a bias.
pub(super) struct Conv {
    /// [k, k, I, O].
    pub weight: Vec<f64>,
    pub bias: Vec<f64>,
    pub inputs: usize,
    pub window: Window,
}

impl Op {
    /// The output for these inputs; else what does not fit, in words.
    pub(super) fn apply(&self, inputs: Vec<Map>) -> Result<Map, String> {
        let count = inputs.len();
        let mut inputs = inputs.into_iter();
        let one = |map: Option<Map>| map.ok_or(format!("{count} inputs are too few"));
        let mut x = one(inputs.next())?;
        match self {
            Op::Conv(conv) => return conv.apply(&x),
            Op::MaxPool(window) => return x.max_pool(*window),
            Op::GlobalAveragePool => return Ok(x.average()),
            Op::Gemm { weight, bias } => return x.gemm(weight, bias),
            Op::Relu => x.at_least(0.0),
            Op::Clip(least) => x.at_least(*least),
            Op::Add => {
                let y = one(inputs.next())?;
                if x.size() != y.size() {
                    return Err(format!("a sum of {:?} and {:?}", x.size(), y.size()));
                }
                x.values.iter_mut().zip(&y.values).for_each(|(x, y)| *x += y);
            }
            Op::Flatten => x.expect_vector()?,
            Op::ReduceL2 => {
                x.expect_vector()?;
                let norm = x.values.iter().map(|x| x * x).sum::<f64>().sqrt();
                x = Map { values: vec![norm], channels: 1, ..x };
            }
            Op::Div => match one(inputs.next())?.values[..] {
                [by] => x.values.iter_mut().for_each(|x| *x /= by),
                ref more => return Err(format!("a division by {} numbers", more.len())),
            },
            Op::Sub(c) => x.channelwise(c, |x, c| x - c)?,
            Op::Mul(c) => x.channelwise(c, |x, c| x * c)?,
        }
        Ok(x)
    }
}

impl Map {
    fn size(&self) -> [usize; 3] {
        [self.height, self.width, self.channels]
    }

    fn expect_vector(&self) -> Result<(), String> {
        match self.height * self.width {
            1 => Ok(()),
            _ => Err(format!("expected a vector, found {:?}", self.size())),
        }
    }

    /// NaN stays NaN.
    fn at_least(&mut self, least: f64) {
        self.values.iter_mut().filter(|x| **x < least).for_each(|x| *x = least);
    }

    fn channelwise(&mut self, c: &[f64], f: impl Fn(f64, f64) -> f64) -> Result<(), String> {
        if c.len() != self.channels {
            return Err(format!("{} numbers for {} channels", c.len(), self.channels));
        }
        let pixels = self.values.chunks_exact_mut(c.len());
        pixels.for_each(|pixel| pixel.iter_mut().zip(c).for_each(|(x, &c)| *x = f(*x, c)));
        Ok(())
    }

    fn max_pool(&self, window: Window) -> Result<Self, String> {
        let Window { kernel, stride, pad } = window;
        let (height, width) = (window.outputs(self.height)?, window.outputs(self.width)?);
        let channels = self.channels;
        let mut values = vec![f64::NEG_INFINITY; height * width * channels];
        let inside = |at: usize, most: usize| {
            let first = at * stride;
            first.saturating_sub(pad)..(first + kernel).saturating_sub(pad).min(most)
        };
        for (pixel, out) in values.chunks_exact_mut(channels).enumerate() {
            for y in inside(pixel / width, self.height) {
                for x in inside(pixel % width, self.width) {
                    let input = &self.values[(y * self.width + x) * channels..];
                    out.iter_mut().zip(input).for_each(|(o, x)| *o = o.max(*x));
                }
            }
        }
        Ok(Map { values, height, width, channels })
    }

    /// The average over positions.
    fn average(&self) -> Self {
        let mut values = vec![0.0; self.channels];
        for pixel in self.values.chunks_exact(self.channels) {
            values.iter_mut().zip(pixel).for_each(|(s, x)| *s += x);
        }
        let positions = (self.height * self.width) as f64;
        values.iter_mut().for_each(|s| *s /= positions);
        Map { values, height: 1, width: 1, channels: self.channels }
    }

    /// Wx + b.
    fn gemm(&self, weight: &[f64], bias: &[f64]) -> Result<Self, String> {
        self.expect_vector()?;
        if weight.len() != self.channels * bias.len() {
            let (inputs, outputs) = (self.channels, bias.len());
            return Err(format!("{} weights for {inputs} to {outputs} numbers", weight.len()));
        }
        let rows = weight.chunks_exact(self.channels).zip(bias);
        let dot = |w: &[f64]| w.iter().zip(&self.values).map(|(w, x)| w * x).sum::<f64>();
        let values = rows.map(|(w, b)| b + dot(w)).collect();
        Ok(Map { values, height: 1, width: 1, channels: bias.len() })
    }
}

impl Window {
    /// Output positions along a side.
    fn outputs(self, inputs: usize) -> Result<usize, String> {
        let room = (inputs + 2 * self.pad).checked_sub(self.kernel);
        room.map(|room| room / self.stride + 1)
            .ok_or(format!("a window of {} in {inputs} pixels", self.kernel))
    }
}

impl Conv {
    fn apply(&self, x: &Map) -> Result<Map, String> {
        if x.channels != self.inputs {
            return Err(format!("a weight for {} channels, given {}", self.inputs, x.channels));
        }
        let channels = self.bias.len();
        let (height, width) = (self.window.outputs(x.height)?, self.window.outputs(x.width)?);
        let mut values = vec![0.0; height * width * channels];
        values.par_chunks_mut(PIXELS * channels).enumerate().for_each(|(chunk, out)| {
            out.chunks_exact_mut(channels).for_each(|pixel| pixel.copy_from_slice(&self.bias));
            for tap in 0..self.window.kernel * self.window.kernel {
                self.add_tap(x, tap, width, chunk * PIXELS, out);
            }
        });
        Ok(Map { values, height, width, channels })
    }

    /// Adds what one tap of the kernel contributes to the output pixels from `first` on.
    fn add_tap(&self, x: &Map, tap: usize, width: usize, first: usize, out: &mut [f64]) {
        let channels = self.bias.len();
        let Window { kernel, stride, pad } = self.window;
        let (dy, dx) = (tap / kernel, tap % kernel);
        // The input pixel that each output pixel reads; none beyond the border.
        let source = |pixel: usize| {
            let y = (pixel / width * stride + dy).checked_sub(pad)?;
            let x_ = (pixel % width * stride + dx).checked_sub(pad)?;
            (y < x.height && x_ < x.width).then_some((y * x.width + x_) * x.channels)
        };
        let mut pixels: Vec<(usize, &mut [f64])> = out
            .chunks_exact_mut(channels)
            .enumerate()
            .filter_map(|(i, pixel)| Some((source(first + i)?, pixel)))
            .collect();
        let rows = self.weight[tap * self.inputs * channels..].chunks_exact(channels);
        for (i, row) in rows.take(self.inputs).enumerate() {
            for (at, pixel) in &mut pixels {
                let value = x.values[*at + i];
                // Half of what follows a ReLU is 0.
                if value != 0.0 {
                    pixel.iter_mut().zip(row).for_each(|(y, w)| *y += value * w);
                }
            }
        }
    }
}
