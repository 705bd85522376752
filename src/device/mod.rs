//! Where tensors live and ops run. A [`Cx`] is the handle that everything computes through:
//! it allocates from a [`pool`], and runs an op natively on the CPU, on a [`driver::Driver`]
//! (CUDA or its emulator), or not at all while memory is being planned.

mod ahead;
pub mod allocator;
pub mod choice;
pub mod cuda;
pub mod driver;
pub mod emulator;
pub mod gpu_code;
pub mod guarded;
pub mod host;
pub mod kernels;
pub mod peaks;
mod planner;
pub mod pool;
pub mod ptxas;
mod tables;

use std::sync::Arc;
use std::time::Instant;

pub use ahead::{PendingCopy, StagingSlot};
pub use choice::{Chosen, DeviceChoice, choose};
pub use driver::{DevicePtr, Driver, Event, Geometry, Hardware, Launcher, launches, size};
pub use pool::{Buffer, Layout, MemoryUse, PART_ALIGN, Place, Pool, split_bytes};

use bytemuck::{AnyBitPattern, NoUninit};
use half::bf16;
use planner::Planner;
use tables::Tables;

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

impl Backend {
    /// Name for messages and reports.
    pub fn name(&self) -> String {
        match self {
            Self::Cpu => "cpu".into(),
            Self::Plan => "a memory plan".into(),
            Self::Driver(driver) => driver.name(),
        }
    }
}

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
    operands: DType,
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
        let pool = Pool::new(place(&backend));
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
            pool: Pool::new(place(&backend)),
            backend,
            dtype: DType::F32,
            operands: DType::F32,
            tables: Arc::default(),
            threads: Arc::new(threads),
        })
    }

    /// The same device, on which nets compute in another type. On the CPU bf16 is that of
    /// products' operands alone: there tensors stay f32.
    pub fn computing_in(&self, operands: DType) -> Self {
        let narrow_tensors = operands == DType::BF16 && !matches!(self.backend, Backend::Cpu);
        let dtype = if narrow_tensors { DType::BF16 } else { operands.wide() };
        Self { dtype, operands, ..self.clone() }
    }

    /// The type that operands of convolutions and linear layers are rounded to: what nets compute
    /// in, as users name it.
    pub fn operands(&self) -> DType {
        self.operands
    }

    /// Whether native code rounds the operands of a product, of this type, to bf16.
    pub fn narrows(&self, operand: &Tensor) -> bool {
        self.operands == DType::BF16 && operand.dtype() == DType::F32
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
        matches!(self.backend, Backend::Driver(_))
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

    /// A tensor of zeros.
    pub fn zeros(&self, shape: Shape, dtype: DType) -> Result<Tensor> {
        self.full(shape, dtype, 0.0)
    }

    /// Sets all values to zero.
    pub fn clear(&self, t: &mut Tensor) -> Result<()> {
        match &self.backend {
            Backend::Cpu => crate::dispatch!(t.dtype(), T => t.host_mut::<T>().fill(T::of(0.0))),
            Backend::Plan => {}
            Backend::Driver(driver) => driver.fill(t.device_mut(), 0, t.meta().size_bytes())?,
        }
        Ok(())
    }

    /// A tensor of one value.
    ///
    /// # Errors
    /// [`Kind::Usage`](crate::Kind::Usage) for a value that is no integer in a tensor of
    /// integers.
    pub fn full(&self, shape: Shape, dtype: DType, value: f64) -> Result<Tensor> {
        if dtype == DType::I32 {
            let whole = value as i32;
            if f64::from(whole) != value {
                return Err(Error::usage(format!(
                    "expected a 32-bit integer to fill a tensor {shape} of I32 with; found {value}"
                )));
            }
            return self.upload_i32(shape, &vec![whole; shape.elems()]);
        }
        let mut t = self.alloc(Meta::new(shape, dtype))?;
        match &self.backend {
            Backend::Cpu => crate::dispatch!(dtype, T => t.host_mut::<T>().fill(T::of(value))),
            Backend::Plan => {}
            Backend::Driver(driver) if value.to_bits() == 0 => {
                driver.fill(t.device_mut(), 0, t.meta().size_bytes())?;
            }
            Backend::Driver(_) => {
                return self.upload(shape, dtype, &vec![value as f32; shape.elems()]);
            }
        }
        Ok(t)
    }

    /// A tensor with the values of a slice, which are converted to `dtype`. Integers are
    /// refused: see [`Cx::upload_i32`].
    pub fn upload(&self, shape: Shape, dtype: DType, values: &[f32]) -> Result<Tensor> {
        assert_eq!(shape.elems(), values.len(), "values for a tensor of shape {shape}");
        self.expect_floats(Meta::new(shape, dtype), "upload_i32")?;
        let mut t = self.alloc(Meta::new(shape, dtype))?;
        match &self.backend {
            Backend::Cpu => crate::dispatch!(dtype, T => {
                let out = t.host_mut::<T>().iter_mut();
                out.zip(values).for_each(|(o, v)| *o = T::of(f64::from(*v)));
            }),
            Backend::Plan => {}
            Backend::Driver(driver) => {
                let narrow: Vec<bf16>;
                let bytes = match dtype {
                    DType::BF16 => {
                        narrow = values.iter().map(|v| bf16::from_f32(*v)).collect();
                        bytemuck::cast_slice(&narrow)
                    }
                    _ => bytemuck::cast_slice(values),
                };
                driver.copy_to_device(t.device_mut(), bytes)?;
            }
        }
        Ok(t)
    }

    /// A tensor of integers with the values of a slice.
    pub fn upload_i32(&self, shape: Shape, values: &[i32]) -> Result<Tensor> {
        assert_eq!(shape.elems(), values.len(), "values for a tensor of shape {shape}");
        let mut t = self.alloc(Meta::new(shape, DType::I32))?;
        match &self.backend {
            Backend::Cpu => t.host_mut().copy_from_slice(values),
            Backend::Plan => {}
            Backend::Driver(driver) => {
                driver.copy_to_device(t.device_mut(), bytemuck::cast_slice(values))?;
            }
        }
        Ok(t)
    }

    /// Fails on a tensor of integers, for which there is another function.
    fn expect_floats(&self, meta: Meta, other: &str) -> Result<()> {
        if meta.dtype != DType::I32 {
            return Ok(());
        }
        let shape = meta.shape;
        Err(Error::usage(format!("expected floats for a tensor {shape}; found I32; use {other}")))
    }

    /// Device memory with the bytes of a slice, as a vector of type f32 whose values mean
    /// nothing. Errors where there is no device.
    pub fn upload_bytes<T: NoUninit>(&self, values: &[T]) -> Result<Tensor> {
        let bytes: &[u8] = bytemuck::cast_slice(values);
        let mut t = self.alloc(Meta::new(Shape::vector(bytes.len().div_ceil(4)), DType::F32))?;
        self.driver()?.copy_to_device(t.device_mut(), bytes)?;
        Ok(t)
    }

    /// As [`Cx::upload_bytes`], for tables that are the same from step to step: what was
    /// uploaded lately is not uploaded again.
    pub fn table<T: NoUninit>(&self, values: &[T]) -> Result<Tensor> {
        self.tables.get(bytemuck::cast_slice(values), || self.upload_bytes(values))
    }

    /// Reads the first bytes of a tensor on a device as plain values.
    pub fn download_bytes<T: AnyBitPattern + NoUninit>(
        &self,
        t: &Tensor,
        len: usize,
    ) -> Result<Vec<T>> {
        let mut values = vec![T::zeroed(); len];
        self.driver()?.copy_to_host(bytemuck::cast_slice_mut(&mut values), t.device())?;
        Ok(values)
    }

    fn driver(&self) -> Result<&dyn Driver> {
        match &self.backend {
            Backend::Driver(driver) => Ok(driver.as_ref()),
            _ => Err(Error::device(format!("{} has no memory for kernels", self.name()))),
        }
    }

    /// The tensor's values in host memory as f32 (zeros while planning). Integers are refused:
    /// see [`Cx::download_i32`].
    pub fn download(&self, t: &Tensor) -> Result<Vec<f32>> {
        self.expect_floats(t.meta(), "download_i32")?;
        let mut values = vec![0.0; t.shape().elems()];
        match (&self.backend, t.dtype()) {
            (Backend::Cpu, dtype) => crate::dispatch!(dtype, T => {
                values.iter_mut().zip(t.host::<T>()).for_each(|(v, x)| *v = x.f64() as f32);
            }),
            (Backend::Plan, _) => {}
            (Backend::Driver(driver), DType::BF16) => {
                let mut narrow = vec![bf16::ZERO; values.len()];
                driver.copy_to_host(bytemuck::cast_slice_mut(&mut narrow), t.device())?;
                values.iter_mut().zip(narrow).for_each(|(v, x)| *v = x.to_f32());
            }
            (Backend::Driver(driver), _) => {
                driver.copy_to_host(bytemuck::cast_slice_mut(&mut values), t.device())?;
            }
        }
        Ok(values)
    }

    /// The values of a tensor of integers in host memory (zeros while planning).
    ///
    /// # Errors
    /// [`Kind::Usage`](crate::Kind::Usage) for a tensor of another type.
    pub fn download_i32(&self, t: &Tensor) -> Result<Vec<i32>> {
        if t.dtype() != DType::I32 {
            return Err(Error::usage(format!(
                "expected a tensor of I32; found {t:?}; use download"
            )));
        }
        let mut values = vec![0; t.shape().elems()];
        match &self.backend {
            Backend::Cpu => values.copy_from_slice(t.host()),
            Backend::Plan => {}
            Backend::Driver(driver) => {
                driver.copy_to_host(bytemuck::cast_slice_mut(&mut values), t.device())?;
            }
        }
        Ok(values)
    }

    /// A copy of a tensor in a buffer of its own.
    pub fn copy(&self, t: &Tensor) -> Result<Tensor> {
        let mut out = self.alloc(t.meta())?;
        match &self.backend {
            Backend::Cpu => crate::dispatch_element!(t.dtype(), T => {
                out.host_mut::<T>().copy_from_slice(t.host::<T>());
            }),
            Backend::Plan => {}
            Backend::Driver(driver) => {
                driver.copy(out.device_mut(), t.device(), t.meta().size_bytes())?;
            }
        }
        Ok(out)
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

/// Where the tensors of a backend lie.
fn place(backend: &Backend) -> Place {
    match backend {
        Backend::Cpu => Place::Host,
        Backend::Plan => Place::Planned,
        Backend::Driver(driver) => Place::Device(driver.clone()),
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
