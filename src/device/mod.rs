//! Where tensors live and ops run. A [`Cx`] is the handle that everything computes through:
//! it allocates from a [`pool`], and runs an op natively on the CPU, on a [`driver::Driver`]
//! (CUDA or its emulator), or not at all while memory is being planned.

pub mod driver;
pub mod pool;

use std::sync::Arc;

pub use driver::Driver;
pub use pool::{Buffer, MemoryUse, Pool};

use crate::error::{Error, Result};
use crate::tensor::{DType, Meta, Real, Shape, Tensor};

/// What runs the ops of a [`Cx`].
#[derive(Clone)]
pub enum Backend {
    /// Native code on the host's threads.
    Cpu,
    /// Shapes only: buffers are counted but hold nothing and no op runs. A dry run of the
    /// real program on it is the memory plan.
    Plan,
    /// Kernels on a device below the driver seam.
    Driver(Arc<dyn Driver>),
}

/// A device to compute on: backend, threads and memory pool.
pub struct Cx {
    backend: Backend,
    pool: Arc<Pool>,
    threads: rayon::ThreadPool,
}

impl Cx {
    /// The CPU with a number of threads (0 = all cores).
    pub fn cpu(threads: usize) -> Result<Self> {
        Self::new(Backend::Cpu, threads)
    }

    /// A context that only plans memory.
    pub fn plan() -> Result<Self> {
        Self::new(Backend::Plan, 1)
    }

    fn new(backend: Backend, threads: usize) -> Result<Self> {
        let real = !matches!(backend, Backend::Plan);
        let threads = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .thread_name(|i| format!("compute-{i}"))
            .build()
            .map_err(|e| Error::device(format!("cannot start compute threads: {e}")))?;
        Ok(Self { backend, pool: Pool::new(real), threads })
    }

    /// The CPU with one thread, for tests.
    pub fn for_tests() -> Self {
        Self::cpu(1).expect("a thread can be started")
    }

    /// Runs `f` on the compute threads: parallel iterators inside use them. Verbs enter here
    /// once; ops never do.
    pub fn install<R: Send>(&self, f: impl FnOnce() -> R + Send) -> R {
        self.threads.install(f)
    }

    /// Number of compute threads.
    pub fn threads(&self) -> usize {
        self.threads.current_num_threads()
    }

    /// What runs the ops.
    pub fn backend(&self) -> &Backend {
        &self.backend
    }

    /// Whether this context only plans: values can neither be read nor written.
    pub fn is_plan(&self) -> bool {
        matches!(self.backend, Backend::Plan)
    }

    /// Runs an op's native code: on the CPU now, not at all while planning. An op that has a
    /// kernel matches on [`Cx::backend`] instead and launches it there.
    pub fn run(&self, op: &str, cpu: impl FnOnce() -> Result<()>) -> Result<()> {
        match &self.backend {
            Backend::Cpu => cpu(),
            Backend::Plan => Ok(()),
            Backend::Driver(driver) => Err(Error::device(format!(
                "op {op} has no kernel for {}; use --device cpu",
                driver.name()
            ))),
        }
    }

    /// A tensor with unspecified contents (in builds with debug assertions: NaN).
    pub fn alloc(&self, meta: Meta) -> Result<Tensor> {
        Ok(Tensor::from_buffer(self.pool.take(meta.size_bytes())?, meta))
    }

    /// A tensor of zeros.
    pub fn zeros(&self, shape: Shape, dtype: DType) -> Result<Tensor> {
        self.full(shape, dtype, 0.0)
    }

    /// A tensor of one value.
    pub fn full(&self, shape: Shape, dtype: DType, value: f64) -> Result<Tensor> {
        let mut t = self.alloc(Meta::new(shape, dtype))?;
        if !self.is_plan() {
            crate::dispatch!(dtype, T => t.host_mut::<T>().fill(T::of(value)));
        }
        Ok(t)
    }

    /// A tensor with the values of a slice, which are converted to `dtype`.
    pub fn upload(&self, shape: Shape, dtype: DType, values: &[f32]) -> Result<Tensor> {
        assert_eq!(shape.elems(), values.len(), "values for a tensor of shape {shape}");
        let mut t = self.alloc(Meta::new(shape, dtype))?;
        if !self.is_plan() {
            match dtype {
                DType::F32 => t.host_mut::<f32>().copy_from_slice(values),
                DType::F64 => {
                    let out = t.host_mut::<f64>().iter_mut();
                    out.zip(values).for_each(|(o, v)| *o = f64::of(f64::from(*v)));
                }
            }
        }
        Ok(t)
    }

    /// The tensor's values in host memory as f32 (zeros while planning).
    pub fn download(&self, t: &Tensor) -> Result<Vec<f32>> {
        if self.is_plan() {
            return Ok(vec![0.0; t.shape().elems()]);
        }
        Ok(crate::dispatch!(t.dtype(), T => t.host::<T>().iter().map(|x| x.f64() as f32).collect()))
    }

    /// A copy of a tensor in a buffer of its own.
    pub fn copy(&self, t: &Tensor) -> Result<Tensor> {
        let mut out = self.alloc(t.meta())?;
        if !self.is_plan() {
            crate::dispatch!(t.dtype(), T => out.host_mut::<T>().copy_from_slice(t.host::<T>()));
        }
        Ok(out)
    }

    /// Memory in use, its peak, and how often the pool had to grow.
    pub fn memory(&self) -> MemoryUse {
        self.pool.memory()
    }
}
