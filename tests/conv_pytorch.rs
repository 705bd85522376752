//! Convolution and its gradients against PyTorch's, stored by `fixtures/conv.py`.

use engine::device::Cx;
use engine::ops::Op;
use engine::ops::conv2d::Conv2d;
use engine::tape::Grad;
use engine::tensor::{DType, Shape, Tensor};
use safetensors::SafeTensors;

const FIXTURE: &[u8] = include_bytes!("fixtures/conv.safetensors");

fn load(file: &SafeTensors, name: &str) -> (Vec<usize>, Vec<f64>) {
    let view = file.tensor(name).unwrap();
    let values = view.data().chunks_exact(8);
    let values = values.map(|bytes| f64::from_le_bytes(bytes.try_into().unwrap())).collect();
    (view.shape().to_vec(), values)
}

/// Largest error, as a share of the largest value.
fn error(found: &Tensor, want: &[f64]) -> f64 {
    let largest = want.iter().fold(0.0f64, |m, x| m.max(x.abs()));
    let errors = found.to_f64().into_iter().zip(want).map(|(a, b)| (a - b).abs());
    errors.fold(0.0, f64::max) / largest
}

fn check(dtype: DType, tolerance: f64) {
    let file = SafeTensors::deserialize(FIXTURE).unwrap();
    let cx = Cx::cpu(2).unwrap();
    let upload = |name: &str| {
        let (shape, values) = load(&file, name);
        let mut t = cx.zeros(Shape(shape.try_into().unwrap()), dtype).unwrap();
        match dtype {
            DType::F32 => {
                t.host_mut::<f32>().iter_mut().zip(values).for_each(|(t, x)| *t = x as f32);
            }
            _ => t.host_mut::<f64>().copy_from_slice(&values),
        }
        t
    };
    for i in 0..file.len() / 7 {
        let op = load(&file, &format!("{i}.op")).1;
        let [cout, kernel, stride] = [op[0] as usize, op[1] as usize, op[2] as usize];
        let op = Conv2d::new(cout, kernel, stride);
        let (x, w) = (upload(&format!("{i}.x")), upload(&format!("{i}.w")));
        assert!(op.infer(&[x.meta(), w.meta()]).is_ok());
        let (y, saved) = op.forward(&cx, &[&x, &w]).unwrap();
        let mut grads = [Grad::wanted(None), Grad::wanted(None)];
        op.backward(&cx, saved, upload(&format!("{i}.gy")), &mut grads).unwrap();
        let [gx, gw] = grads.map(|g| g.into_value().unwrap());
        for (name, found) in [("y", y), ("gx", gx), ("gw", gw)] {
            let (shape, want) = load(&file, &format!("{i}.{name}"));
            assert_eq!(found.shape().0.to_vec(), shape, "shape of {name} of case {i}");
            let error = error(&found, &want);
            assert!(error < tolerance, "{name} of case {i}, {op:?}: error {error:e}");
        }
    }
}

#[test]
fn convolution_is_pytorchs() {
    check(DType::F64, 1e-13);
    check(DType::F32, 1e-5);
}
