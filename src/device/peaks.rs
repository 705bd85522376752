//! What GPUs can do at best, as their data sheets say.

/// NVIDIA's data sheets: name as the driver tells it, TB/s, dense TFLOP/s in bf16 (tensor cores)
/// and in fp32 (the other cores, on which this program computes in fp32).
///
/// H100 and H200: "NVIDIA H100 Tensor Core GPU" and "NVIDIA H200 Tensor Core GPU" data sheets,
/// which give bf16 with sparsity, twice the dense rate. A100: "NVIDIA A100 Tensor Core GPU".
const GPUS: [(&str, f64, f64, f64); 9] = [
    ("NVIDIA H200", 4.8, 989.5, 67.0),
    ("NVIDIA H200 NVL", 4.8, 835.5, 60.0),
    ("NVIDIA H100 80GB HBM3", 3.35, 989.5, 67.0),
    ("NVIDIA H100 NVL", 3.9, 835.5, 60.0),
    ("NVIDIA H100 PCIe", 2.0, 756.5, 51.0),
    ("NVIDIA A100-SXM4-80GB", 2.039, 312.0, 19.5),
    ("NVIDIA A100-SXM4-40GB", 1.555, 312.0, 19.5),
    ("NVIDIA A100 80GB PCIe", 1.935, 312.0, 19.5),
    ("NVIDIA A100-PCIE-40GB", 1.555, 312.0, 19.5),
];

/// Peak figures of a device, as far as they are known.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Peaks {
    /// Bandwidth of its memory, in GB/s.
    pub gbs: Option<f64>,
    /// TFLOP/s in bf16.
    pub tflops_bf16: Option<f64>,
    /// TFLOP/s in fp32.
    pub tflops_fp32: Option<f64>,
}

impl Peaks {
    /// Those of a GPU of this name; nothing is known of others.
    pub fn of(name: Option<&str>) -> Self {
        let known = GPUS.iter().find(|gpu| Some(gpu.0) == name);
        known.map_or(Self::default(), |(_, tbs, bf16, fp32)| Self {
            gbs: Some(1e3 * tbs),
            tflops_bf16: Some(*bf16),
            tflops_fp32: Some(*fp32),
        })
    }
}
