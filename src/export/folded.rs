//! A second, plain implementation of an exported net, for the proof of parity: batch norms are
//! folded into the convolutions, everything is computed in f64 by direct loops, from the
//! tensors of the file. It shares nothing with the ops.

use rayon::prelude::*;

use super::config::Config;
use crate::error::{Error, Result};
use crate::files::Named;
use crate::nn::CLASSIFIER;
use crate::ops::batch_norm::EPS;

/// Output pixels that a thread computes at a time, so that weights are read once for all.
const PIXELS: usize = 16;

/// A convolution with its batch norm folded in.
struct Conv {
    /// [k, k, I, O].
    weight: Vec<f64>,
    bias: Vec<f64>,
    inputs: usize,
    kernel: usize,
    stride: usize,
}

/// y = Wx + b.
struct Linear {
    weight: Vec<f64>,
    bias: Vec<f64>,
}

/// A block: reduce, spatial, expand and, in a stage's first block, the shortcut.
struct Block {
    convs: [Conv; 3],
    shortcut: Option<Conv>,
}

/// One image's feature map, H×W×C.
struct Map {
    values: Vec<f64>,
    height: usize,
    width: usize,
    channels: usize,
}

/// An exported net with folded batch norms.
pub(super) struct Net {
    stem: Conv,
    maxpool: bool,
    stages: Vec<Vec<Block>>,
    head: Option<[Linear; 2]>,
    classifier: Option<Linear>,
}

fn tensor<'a>(named: &'a Named, name: &str) -> Result<(&'a [usize], Vec<f64>)> {
    let found = named.get(name).ok_or_else(|| {
        Error::data(format!("the export lacks the tensor {name:?}: export the subnet again"))
    })?;
    Ok((&found.0, found.1.iter().map(|&x| f64::from(x)).collect()))
}

impl Conv {
    /// W' = W·γ/√(var+ε), b' = β − mean·γ/√(var+ε).
    fn folded(named: &Named, conv: &str, bn: &str, stride: usize) -> Result<Self> {
        let (shape, values) = tensor(named, &format!("{conv}.weight"))?;
        let &[outputs, inputs, kernel, _] = shape else {
            return Err(Error::data(format!("{conv}.weight has shape {shape:?}, expected four")));
        };
        let part = |what: &str| Ok::<_, Error>(tensor(named, &format!("{bn}.{what}"))?.1);
        let (gamma, beta) = (part("weight")?, part("bias")?);
        let (mean, var) = (part("running_mean")?, part("running_var")?);
        let taps = kernel * kernel;
        let (mut weight, mut bias) = (vec![0.0; values.len()], vec![0.0; outputs]);
        for o in 0..outputs {
            let scale = gamma[o] / (var[o] + EPS).sqrt();
            bias[o] = beta[o] - mean[o] * scale;
            for i in 0..inputs {
                for tap in 0..taps {
                    weight[(tap * inputs + i) * outputs + o] =
                        values[(o * inputs + i) * taps + tap] * scale;
                }
            }
        }
        Ok(Self { weight, bias, inputs, kernel, stride })
    }

    fn apply(&self, x: &Map) -> Map {
        let channels = self.bias.len();
        let size = |n: usize| (n + 2 * (self.kernel / 2) - self.kernel) / self.stride + 1;
        let (height, width) = (size(x.height), size(x.width));
        let mut values = vec![0.0; height * width * channels];
        values.par_chunks_mut(PIXELS * channels).enumerate().for_each(|(chunk, out)| {
            out.chunks_exact_mut(channels).for_each(|pixel| pixel.copy_from_slice(&self.bias));
            for tap in 0..self.kernel * self.kernel {
                self.add_tap(x, tap, width, chunk * PIXELS, out);
            }
        });
        Map { values, height, width, channels }
    }

    /// Adds what one tap of the kernel contributes to the output pixels from `first` on.
    fn add_tap(&self, x: &Map, tap: usize, width: usize, first: usize, out: &mut [f64]) {
        let channels = self.bias.len();
        let (dy, dx, pad) = (tap / self.kernel, tap % self.kernel, self.kernel / 2);
        // The input pixel that each output pixel reads; none beyond the border.
        let source = |pixel: usize| {
            let y = (pixel / width * self.stride + dy).checked_sub(pad)?;
            let x_ = (pixel % width * self.stride + dx).checked_sub(pad)?;
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

impl Map {
    fn relu(mut self) -> Self {
        self.values.iter_mut().for_each(|x| *x = x.max(0.0));
        self
    }

    /// 3×3, stride 2, padding 1.
    fn max_pool(&self) -> Self {
        let half = |n: usize| (n - 1) / 2 + 1;
        let (height, width, channels) = (half(self.height), half(self.width), self.channels);
        let mut values = vec![f64::NEG_INFINITY; height * width * channels];
        for (pixel, out) in values.chunks_exact_mut(channels).enumerate() {
            let (p, q) = (pixel / width, pixel % width);
            for y in (2 * p).saturating_sub(1)..(2 * p + 2).min(self.height) {
                for x in (2 * q).saturating_sub(1)..(2 * q + 2).min(self.width) {
                    let input = &self.values[(y * self.width + x) * channels..];
                    out.iter_mut().zip(input).for_each(|(o, x)| *o = o.max(*x));
                }
            }
        }
        Map { values, height, width, channels }
    }

    /// The average over positions, C values.
    fn pool(&self) -> Vec<f64> {
        let mut sums = vec![0.0; self.channels];
        for pixel in self.values.chunks_exact(self.channels) {
            sums.iter_mut().zip(pixel).for_each(|(s, x)| *s += x);
        }
        let positions = (self.height * self.width) as f64;
        sums.into_iter().map(|s| s / positions).collect()
    }
}

impl Linear {
    fn new(named: &Named, name: &str) -> Result<Self> {
        let (shape, weight) = tensor(named, &format!("{name}.weight"))?;
        let bias = format!("{name}.bias");
        let bias = match named.contains_key(&bias) {
            true => tensor(named, &bias)?.1,
            false => vec![0.0; shape.first().copied().unwrap_or(0)],
        };
        Ok(Self { weight, bias })
    }

    /// Without a bias of its own, and the batch norm behind it folded in; a norm without γ and β
    /// has 1 and 0.
    fn folded(named: &Named, linear: &str, bn: &str) -> Result<Self> {
        let mut weight = tensor(named, &format!("{linear}.weight"))?.1;
        let statistics = |what: &str| Ok::<_, Error>(tensor(named, &format!("{bn}.{what}"))?.1);
        let (mean, var) = (statistics("running_mean")?, statistics("running_var")?);
        let affine = |what: &str, or: f64| match named.contains_key(&format!("{bn}.{what}")) {
            true => statistics(what),
            false => Ok(vec![or; mean.len()]),
        };
        let (gamma, mut bias) = (affine("weight", 1.0)?, affine("bias", 0.0)?);
        let inputs = weight.len() / mean.len().max(1);
        for (o, row) in weight.chunks_exact_mut(inputs.max(1)).enumerate() {
            let scale = gamma[o] / (var[o] + EPS).sqrt();
            row.iter_mut().for_each(|w| *w *= scale);
            bias[o] -= mean[o] * scale;
        }
        Ok(Self { weight, bias })
    }

    fn apply(&self, x: &[f64]) -> Vec<f64> {
        let rows = self.weight.chunks_exact(x.len()).zip(&self.bias);
        rows.map(|(w, b)| b + w.iter().zip(x).map(|(w, x)| w * x).sum::<f64>()).collect()
    }
}

impl Net {
    /// From an export's description and the tensors of its file.
    ///
    /// # Errors
    /// [`crate::Kind::Data`] where a tensor is missing or has the wrong number of dimensions.
    pub(super) fn new(config: &Config, named: &Named) -> Result<Self> {
        let stem = Conv::folded(named, "conv1", "bn1", config.stem.stride)?;
        let mut stages = Vec::new();
        for (s, (&depth, &stride)) in config.depths.iter().zip(&config.strides).enumerate() {
            let block = |b: usize| -> Result<Block> {
                let (name, stride) =
                    (format!("layer{}.{b}", s + 1), if b == 0 { stride } else { 1 });
                let conv = |i: usize, stride| {
                    Conv::folded(
                        named,
                        &format!("{name}.conv{i}"),
                        &format!("{name}.bn{i}"),
                        stride,
                    )
                };
                let shortcut = |name: String| {
                    Conv::folded(named, &format!("{name}.0"), &format!("{name}.1"), stride)
                };
                Ok(Block {
                    convs: [conv(1, 1)?, conv(2, stride)?, conv(3, 1)?],
                    shortcut: (b == 0)
                        .then(|| shortcut(format!("{name}.downsample")))
                        .transpose()?,
                })
            };
            stages.push((0..depth).map(block).collect::<Result<Vec<_>>>()?);
        }
        let head = match &config.head {
            Some(head) if head.norm => Some([
                Linear::folded(named, "head.0", "head.1")?,
                match head.has_last_norm() {
                    true => Linear::folded(named, "head.3", "head.4")?,
                    false => Linear::new(named, "head.3")?,
                },
            ]),
            Some(_) => Some([Linear::new(named, "head.0")?, Linear::new(named, "head.2")?]),
            None => None,
        };
        let classifier = config.classifier.as_ref().map(|_| Linear::new(named, CLASSIFIER));
        let (maxpool, classifier) = (config.stem.maxpool, classifier.transpose()?);
        Ok(Self { stem, maxpool, stages, head, classifier })
    }

    /// C2, C3, C4, C5 (each H×W×C) and, with a head, z, and with a classifier its scores of one
    /// image, H×W×3.
    pub(super) fn features(&self, image: &[f32], height: usize, width: usize) -> Vec<Vec<f64>> {
        let values = image.iter().map(|&x| f64::from(x)).collect();
        let mut x = self.stem.apply(&Map { values, height, width, channels: 3 }).relu();
        if self.maxpool {
            x = x.max_pool();
        }
        let mut found = Vec::new();
        for stage in &self.stages {
            for block in stage {
                x = block.apply(x);
            }
            found.push(x.values.clone());
        }
        if let Some([first, second]) = &self.head {
            let hidden = first.apply(&x.pool()).into_iter().map(|x| x.max(0.0)).collect::<Vec<_>>();
            let z = second.apply(&hidden);
            let norm = z.iter().map(|x| x * x).sum::<f64>().sqrt().max(1e-12);
            found.push(z.into_iter().map(|x| x / norm).collect());
        }
        found.extend(self.classifier.as_ref().map(|classifier| classifier.apply(&x.pool())));
        found
    }
}

impl Block {
    fn apply(&self, x: Map) -> Map {
        let [reduce, spatial, expand] = &self.convs;
        let mut y = expand.apply(&spatial.apply(&reduce.apply(&x).relu()).relu());
        let shortcut = match &self.shortcut {
            Some(shortcut) => shortcut.apply(&x),
            None => x,
        };
        y.values.iter_mut().zip(&shortcut.values).for_each(|(y, s)| *y += s);
        y.relu()
    }
}
