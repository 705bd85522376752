//! The handle that ops compute through. A [`Cx`] allocates tensors from the pool of its device, and
//! tells an op whether to run natively on the CPU, to launch kernels, or to do nothing while memory
//! is being planned.

mod staging;
mod tables;
mod transfer;

use std::sync::Arc;
use std::time::Instant;

pub use staging::{PendingCopy, StagingRoom, StagingSlot};

use tables::Tables;

use crate::device::{Backend, Driver, Event, Launcher, Layout, MemoryUse, Planner, Pool, host};
use crate::error::{Error, Result};
use crate::tensor::{DType, Meta, Shape, Tensor};

/// What an op has to do on a [`Cx`].
pub enum Exec<'a> {
    /// Run its native code.
    Cpu,
    /// Launch its kernels.
    Device(Launcher<'a>),
    /// Nothing: memory is being planned.
    DryRun,
}

/// A device to compute on: backend, threads, memory pool, and the types that nets compute in.
/// Clones share all of it.
#[derive(Clone)]
pub struct Cx {
    backend: Backend,
    dtype: DType,
    compute_dtype: DType,
    pool: Arc<Pool>,
    tables: Arc<Tables>,
    threads: Arc<rayon::ThreadPool>,
}

impl Cx {
    /// The CPU with a number of threads, see [`host::threads`].
    pub fn cpu(threads: usize) -> Result<Self> {
        Self::new(Backend::Cpu, threads)
    }

    /// A context that only plans the CPU's memory.
    pub fn plan() -> Result<Self> {
        Self::new(Backend::Plan, 1)
    }

    /// A context that plans the memory of this one, on the same threads.
    pub fn planning(&self) -> Self {
        let backend = match &self.backend {
            Backend::Driver(driver) => Backend::Driver(Arc::new(Planner::new(driver.as_ref()))),
            _ => Backend::Plan,
        };
        let pool = Pool::new(backend.place());
        Self { backend, pool, tables: Arc::default(), ..self.clone() }
    }

    /// A context that plans the memory of a GPU that is not here and has so many bytes.
    pub fn planning_gpu(bytes: usize, threads: usize) -> Result<Self> {
        Self::device(Arc::new(Planner::absent_gpu(bytes)), threads)
    }

    /// A device below the driver seam. `threads` are those of the host's side.
    pub fn device(driver: Arc<dyn Driver>, threads: usize) -> Result<Self> {
        Self::new(Backend::Driver(driver), threads)
    }

    /// Any backend; `threads` are those of the host, see [`host::threads`].
    ///
    /// # Errors
    /// [`Kind::Device`](crate::Kind::Device) where so many threads cannot be started.
    pub fn new(backend: Backend, threads: usize) -> Result<Self> {
        let threads = host::threads(threads);
        let threads = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .thread_name(|i| format!("compute-{i}"))
            .build()
            .map_err(|e| {
                Error::device(format!(
                    "cannot start {threads} compute threads: {e}; use fewer --threads, or raise \
                     the limit of processes (ulimit -u) or of memory (ulimit -v)"
                ))
            })?;
        Ok(Self {
            pool: Pool::new(backend.place()),
            backend,
            dtype: DType::F32,
            compute_dtype: DType::F32,
            tables: Arc::default(),
            threads: Arc::new(threads),
        })
    }

    /// The same device, on which nets compute in another type. On the CPU bf16 is that of
    /// products' operands alone: there tensors stay f32.
    pub fn computing_in(&self, compute_dtype: DType) -> Self {
        let narrow_tensors = compute_dtype == DType::BF16 && !matches!(self.backend, Backend::Cpu);
        let dtype = if narrow_tensors { DType::BF16 } else { compute_dtype.accumulation() };
        Self { dtype, compute_dtype, ..self.clone() }
    }

    /// The type that operands of convolutions and linear layers are rounded to: what nets compute
    /// in, as users name it.
    pub fn compute_dtype(&self) -> DType {
        self.compute_dtype
    }

    /// Whether native code rounds the operands of a product, of this type, to bf16.
    pub fn rounds_operands(&self, operand: &Tensor) -> bool {
        self.compute_dtype == DType::BF16 && operand.dtype() == DType::F32
    }

    /// The type of nets' tensors: of images, activations and their gradients, embeddings,
    /// and the weights as ops read them. Sums, statistics, losses and what the optimizer keeps
    /// are f32.
    pub fn dtype(&self) -> DType {
        self.dtype
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

    /// Whether ops launch kernels, on a GPU or on the emulator.
    pub fn is_device(&self) -> bool {
        self.backend.runs_kernels()
    }

    /// Whether this context only plans: values can neither be read nor written.
    pub fn is_plan(&self) -> bool {
        match &self.backend {
            Backend::Cpu => false,
            Backend::Plan => true,
            Backend::Driver(driver) => driver.plans(),
        }
    }

    /// Bytes that tensors could still take, where that is known.
    pub fn available_bytes(&self) -> Result<Option<usize>> {
        match &self.backend {
            Backend::Driver(driver) => driver.available_bytes(),
            _ => Ok(host::available_bytes()),
        }
    }

    /// What an op has to do here.
    pub fn exec<'a>(&'a self, op: &'a str) -> Exec<'a> {
        match &self.backend {
            Backend::Cpu => Exec::Cpu,
            Backend::Plan => Exec::DryRun,
            Backend::Driver(driver) => Exec::Device(Launcher { driver: driver.as_ref(), op }),
        }
    }

    /// Runs an op that has native code only.
    pub fn run_native(&self, op: &str, native: impl FnOnce() -> Result<()>) -> Result<()> {
        match self.exec(op) {
            Exec::Cpu => native(),
            Exec::DryRun => Ok(()),
            Exec::Device(launcher) => Err(Error::device(format!(
                "op {op} has no kernel for {}; use --device cpu",
                launcher.driver.name()
            ))),
        }
    }

    /// A tensor with unspecified contents (on the CPU in builds with debug assertions: NaN).
    pub fn alloc(&self, meta: Meta) -> Result<Tensor> {
        let has_type = match self.backend {
            Backend::Cpu => meta.dtype != DType::BF16,
            Backend::Plan => true,
            Backend::Driver(_) => meta.dtype != DType::F64,
        };
        if !has_type {
            let device = self.name();
            return Err(Error::device(format!("{device} does not compute in {:?}", meta.dtype)));
        }
        Ok(Tensor::from_buffer(self.pool.take(meta.size_bytes())?, meta))
    }

    /// Memory that only kernels need, for partial results: nothing on the CPU.
    pub fn scratch(&self, meta: Meta) -> Result<Tensor> {
        match self.backend {
            Backend::Driver(_) => self.alloc(meta),
            _ => self.alloc(Meta::new(Shape::vector(0), meta.dtype)),
        }
    }

    /// What computes, for messages.
    pub fn name(&self) -> String {
        self.backend.name()
    }

    /// Marks where the work given so far ends, for taking times.
    pub fn record_event(&self) -> Result<Event> {
        match &self.backend {
            Backend::Driver(driver) => driver.record_event(),
            _ => Ok(Event::new(Instant::now())),
        }
    }

    /// Milliseconds that the work between two marks took. Waits for it.
    pub fn ms_between(&self, from: &Event, to: &Event) -> Result<f64> {
        match &self.backend {
            Backend::Driver(driver) => driver.ms_between(from, to).map(f64::from),
            _ => {
                let [from, to] = [from, to].map(Event::of_driver::<Instant>);
                Ok(to.duration_since(*from).as_secs_f64() * 1e3)
            }
        }
    }

    /// Names what follows on a profiler's time line (`step/teacher`), until the value is
    /// dropped.
    pub fn range(&self, name: &str) -> Range<'_> {
        match &self.backend {
            Backend::Driver(driver) if !name.is_empty() => {
                driver.range_begins(name);
                Range(Some(driver.as_ref()))
            }
            _ => Range(None),
        }
    }

    /// How many buffers of each size tensors have taken.
    pub fn layout(&self) -> Layout {
        self.pool.layout()
    }

    /// Takes the memory that a plan found to be needed, see [`Pool::reserve`].
    pub fn reserve(&self, layout: &Layout) -> Result<()> {
        self.pool.reserve(layout)
    }

    /// Memory in use, its peak, and how often the pool had to grow.
    pub fn memory(&self) -> MemoryUse {
        self.pool.memory()
    }
}

/// A named stretch of a profiler's time line; see [`Cx::range`].
pub struct Range<'a>(Option<&'a dyn Driver>);

impl Drop for Range<'_> {
    fn drop(&mut self) {
        if let Some(driver) = self.0 {
            driver.range_ends();
        }
    }
}
