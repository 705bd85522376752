//! What an architecture costs: multiply-accumulates (MACs) and parameters of the backbone's
//! convolutions, which is what the paper's tables call FLOPs and Params.

use super::{Arch, Space};

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
}

impl Space {
    /// Cost of an architecture at this space's resolution.
    pub fn cost(&self, arch: &Arch) -> Cost {
        self.cost_at(arch, self.resolution)
    }

    /// Cost of an architecture for images of another size, at least 1.
    pub fn cost_at(&self, arch: &Arch, resolution: usize) -> Cost {
        let mut cost = Cost::ZERO;
        let stem = &self.stem;
        let mut size = output_size(resolution, stem.kernel, stem.stride);
        cost.conv_bn([self.channels(), arch.stem, stem.kernel, size], 1);
        if stem.maxpool {
            size = output_size(size, 3, 2);
        }
        let mut cin = arch.stem;
        for (s, stage) in self.stages.iter().enumerate() {
            let (cout, before) = (self.outputs(arch, s), size);
            size = output_size(size, 3, stage.stride);
            cost.conv_bn([cin, cout, 1, size], 1);
            self.block_cost(&mut cost, [cin, arch.widths[s]], [before, size], 1);
            self.block_cost(&mut cost, [cout, arch.widths[s]], [size; 2], arch.depths[s] - 1);
            cin = cout;
        }
        cost
    }

    /// Adds `times` blocks of this width, without shortcuts; those of `before` × `before` pixels end
    /// at `size` × `size`.
    fn block_cost(
        &self,
        cost: &mut Cost,
        [mut cin, width]: [usize; 2],
        [before, size]: [usize; 2],
        times: usize,
    ) {
        let kernels = self.block.kernels();
        for (i, &kernel) in kernels.iter().enumerate() {
            let last = i + 1 == kernels.len();
            let cout = if last { self.block.expansion() * width } else { width };
            // The convolutions in front of the one that strides see the larger map.
            let size = if i < self.block.strided() { before } else { size };
            cost.conv_bn([cin, cout, kernel, size], times);
            cin = cout;
        }
    }
}
