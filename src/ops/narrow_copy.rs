//! Gradients of wide outputs as operands of products: launches of `kernels/narrow_copy.cu`.

use bytemuck::NoUninit;

use super::vector;
use crate::cx::{Cx, Exec};
use crate::device::size;
use crate::error::Result;
use crate::tensor::{DType, Meta, Tensor};

/// `NarrowCopyParams`.
#[derive(Clone, Copy, Debug, NoUninit)]
#[repr(C)]
struct Params {
    elems: u32,
}

/// `x` in a type that is narrower, or itself where it has the type. In host memory tensors are never
/// narrow.
pub(super) fn narrow_copy(cx: &Cx, op: &str, x: &Tensor, dtype: DType) -> Result<Tensor> {
    if x.dtype() == dtype {
        return Ok(x.clone());
    }
    let mut y = cx.alloc(Meta::new(x.shape(), dtype))?;
    if let Exec::Device(launcher) = cx.exec(op) {
        let elems = x.shape().elems();
        let params = Params { elems: size(elems)? };
        let pointers = [x.device(), y.device_mut()];
        let geometry = vector::elementwise(elems, dtype)?;
        launcher.launch("narrow_copy_bf16", geometry, &pointers, &params)?;
    }
    Ok(y)
}
