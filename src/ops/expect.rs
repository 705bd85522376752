//! What an op expects of its inputs: errors name what does not fit.

use crate::error::{Error, Result};
use crate::tensor::{DType, Meta, Shape};

/// Fails unless there is one input for each of `names`, none empty and all of one type.
pub fn expect_inputs(inputs: &[Meta], names: &[&str]) -> Result<()> {
    expect_mixed(inputs, names, &[])
}

/// The same, but those of `names` that are in `accumulated` are of the first input's [`DType::accumulation`].
pub fn expect_mixed(inputs: &[Meta], names: &[&str], accumulated: &[&str]) -> Result<()> {
    if inputs.len() != names.len() {
        let (expected, found) = (names.join(", "), inputs.len());
        return Err(Error::usage(format!("expected the inputs {expected}; found {found} inputs")));
    }
    for (meta, name) in inputs.iter().zip(names) {
        expect_float(name, meta)?;
        if meta.shape.elems() == 0 {
            return Err(Error::usage(format!("{name} of shape {} is empty", meta.shape)));
        }
        let first = inputs[0].dtype;
        let expected = if accumulated.contains(name) { first.accumulation() } else { first };
        if meta.dtype != expected {
            return Err(Error::usage(format!(
                "expected {expected:?} for {name}, as {} is {first:?}; found {:?}",
                names[0], meta.dtype
            )));
        }
    }
    Ok(())
}

/// Fails on an input that does not hold floats, such as labels.
pub fn expect_float(name: &str, meta: &Meta) -> Result<()> {
    if meta.dtype != DType::I32 {
        return Ok(());
    }
    let (shape, dtype) = (meta.shape, meta.dtype);
    Err(Error::usage(format!("expected floats for {name}; found {shape} in {dtype:?}")))
}

/// Fails unless an input holds integers, such as labels, of the expected shape.
pub fn expect_index(name: &str, meta: &Meta, shape: Shape) -> Result<()> {
    if meta.dtype == DType::I32 {
        return expect_shape(name, meta.shape, shape);
    }
    let (found, dtype) = (meta.shape, meta.dtype);
    Err(Error::usage(format!("expected I32 for {name}; found {found} in {dtype:?}")))
}

/// Fails unless an input has the expected shape.
pub fn expect_shape(name: &str, found: Shape, expected: Shape) -> Result<()> {
    if found == expected {
        return Ok(());
    }
    Err(Error::usage(format!("expected {name} of shape {expected}; found {found}")))
}
