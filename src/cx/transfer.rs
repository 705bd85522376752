//! Values that go into tensors and come out of them.

use bytemuck::{AnyBitPattern, NoUninit};
use half::bf16;

use super::Cx;
use crate::device::{Backend, Driver};
use crate::error::{Error, Result};
use crate::tensor::{DType, Meta, Real, Shape, Tensor};

impl Cx {
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
}
