//! What an architecture costs: multiply-accumulates (MACs) and parameters of the backbone's
//! convolutions, which is what the paper's tables call FLOPs and Params.

use super::{Arch, EXPANSION, STAGES, Space, StemSpace};

/// Cost of a backbone (stem to C5, without any head) for one image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cost {
    /// Multiply-accumulates of the convolutions.
    pub macs: u64,
    /// Weights of the convolutions.
    pub conv_params: u64,
    /// Weights of the convolutions, and γ and β of the batch norms.
    pub params: u64,
}

/// Pixels a side after a convolution or pooling with padding `kernel / 2`.
pub fn output_size(size: usize, kernel: usize, stride: usize) -> usize {
    (size + 2 * (kernel / 2) - kernel) / stride + 1
}

impl Cost {
    const ZERO: Cost = Cost { macs: 0, conv_params: 0, params: 0 };

    /// Adds `times` convolutions with batch norm whose output is `size` × `size`.
    fn conv_bn(&mut self, [cin, cout, kernel, size]: [usize; 4], times: usize) {
        let weights = (cin * cout * kernel * kernel) as u64;
        let times = times as u64;
        let macs = (times * weights).saturating_mul((size * size) as u64);
        self.macs = self.macs.saturating_add(macs);
        self.conv_params += times * weights;
        self.params += times * (weights + 2 * cout as u64);
    }

    /// Cost of `arch` behind a stem of this kind, for `resolution` × `resolution` pixels
    /// (at least 1).
    pub fn of(arch: &Arch, stem: &StemSpace, strides: [usize; STAGES], resolution: usize) -> Cost {
        let mut cost = Cost::ZERO;
        let mut size = output_size(resolution, stem.kernel, stem.stride);
        cost.conv_bn([3, arch.stem, stem.kernel, size], 1);
        if stem.maxpool {
            size = output_size(size, 3, 2);
        }
        let mut cin = arch.stem;
        for ((&width, &depth), stride) in arch.widths.iter().zip(&arch.depths).zip(strides) {
            let (cout, before) = (EXPANSION * width, size);
            size = output_size(size, 3, stride);
            // Block 0: the 3×3 convolution strides, so its 1×1 before it sees the larger map.
            cost.conv_bn([cin, width, 1, before], 1);
            cost.conv_bn([cin, cout, 1, size], 1);
            cost.conv_bn([cout, width, 1, size], depth - 1);
            cost.conv_bn([width, width, 3, size], depth);
            cost.conv_bn([width, cout, 1, size], depth);
            cin = cout;
        }
        cost
    }
}

impl Space {
    /// Cost of an architecture at this space's resolution.
    pub fn cost(&self, arch: &Arch) -> Cost {
        self.cost_at(arch, self.resolution)
    }

    /// Cost of an architecture for images of another size.
    pub fn cost_at(&self, arch: &Arch, resolution: usize) -> Cost {
        let strides = std::array::from_fn(|i| self.stages[i].stride);
        Cost::of(arch, &self.stem, strides, resolution)
    }
}
