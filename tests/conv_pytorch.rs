//! Convolution and its gradients against PyTorch's, stored by `fixtures/conv.py` and
//! `fixtures/conv_windows.py`.

use engine::cx::Cx;
use engine::ops::conv2d::Conv2d;
use engine::ops::{Grad, Op};
use engine::tensor::{DType, Shape, Tensor};
use safetensors::SafeTensors;

/// Padding of half the kernel, no dilation, no bias.
const USUAL: &[u8] = include_bytes!("fixtures/conv.safetensors");
/// All others, with a bias.
const WINDOWS: &[u8] = include_bytes!("fixtures/conv_windows.safetensors");

fn load(file: &SafeTensors, name: &str) -> (Vec<usize>, Vec<f64>) {
    let view = file.tensor(name).unwrap();
    let values = view.data().chunks_exact(8);
    let values = values.map(|bytes| f64::from_le_bytes(bytes.try_into().unwrap())).collect();
    (view.shape().to_vec(), values)
}

/// Vectors become 1×1×1×C.
fn upload(cx: &Cx, file: &SafeTensors, dtype: DType, name: &str) -> Tensor {
    let (shape, values) = load(file, name);
    let shape = match shape[..] {
        [c] => Shape::vector(c),
        _ => Shape(shape.try_into().unwrap()),
    };
    let mut t = cx.zeros(shape, dtype).unwrap();
    match dtype {
        DType::F32 => {
            t.host_mut::<f32>().iter_mut().zip(values).for_each(|(t, x)| *t = x as f32);
        }
        _ => t.host_mut::<f64>().copy_from_slice(&values),
    }
    t
}

/// Compares values by the largest error, as a share of the largest value.
fn compare(file: &SafeTensors, name: &str, found: &Tensor, tolerance: f64) {
    let (_, want) = load(file, name);
    assert_eq!(found.shape().elems(), want.len(), "{name}");
    let largest = want.iter().fold(0.0f64, |m, x| m.max(x.abs()));
    let found = found.to_f64();
    assert!(found.iter().all(|x| x.is_finite()), "{name} is not finite");
    let errors = found.into_iter().zip(want).map(|(a, b)| (a - b).abs());
    let error = errors.fold(0.0, f64::max) / largest;
    assert!(error < tolerance, "{name}: error {error:e}");
}

fn check(file: &[u8], op: impl Fn([usize; 5]) -> Conv2d, dtype: DType, tolerance: f64) {
    let file = SafeTensors::deserialize(file).unwrap();
    let cx = Cx::cpu(2).unwrap();
    let has = |name: &str| file.tensor(name).is_ok();
    let cases = (0..).take_while(|i| has(&format!("{i}.op"))).count();
    assert!(cases >= 5, "{cases} cases");
    for i in 0..cases {
        let numbers = load(&file, &format!("{i}.op")).1;
        let op = op(std::array::from_fn(|i| numbers.get(i).map_or(0, |n| *n as usize)));
        let tensor = |name: &str| upload(&cx, &file, dtype, &format!("{i}.{name}"));
        let names: Vec<&str> =
            ["x", "w", "b"].into_iter().filter(|n| has(&format!("{i}.{n}"))).collect();
        let inputs: Vec<Tensor> = names.iter().map(|n| tensor(n)).collect();
        let metas: Vec<_> = inputs.iter().map(Tensor::meta).collect();
        let (y, saved) = op.forward(&cx, &inputs.iter().collect::<Vec<_>>()).unwrap();
        assert_eq!(y.meta(), op.infer(&metas).unwrap(), "{op:?}");
        let mut grads: Vec<Grad> = names.iter().map(|_| Grad::wanted(None)).collect();
        op.backward(&cx, saved, tensor("gy"), &mut grads).unwrap();
        compare(&file, &format!("{i}.y"), &y, tolerance);
        for (name, grad) in names.iter().zip(grads) {
            let grad = grad.into_value().unwrap();
            compare(&file, &format!("{i}.g{name}"), &grad, tolerance);
        }
    }
}

#[test]
fn convolution_is_pytorchs() {
    let op = |[cout, kernel, stride, ..]: [usize; 5]| Conv2d::new(cout, kernel, stride);
    check(USUAL, op, DType::F64, 1e-13);
    check(USUAL, op, DType::F32, 1e-5);
}

#[test]
fn paddings_dilations_even_kernels_and_biases_are_pytorchs() {
    let op = |[cout, kernel, stride, pad, dilation]: [usize; 5]| Conv2d {
        pad,
        dilation,
        ..Conv2d::new(cout, kernel, stride)
    };
    check(WINDOWS, op, DType::F64, 1e-13);
    check(WINDOWS, op, DType::F32, 1e-5);
}

/// A deconvolution's forward pass is a convolution's dgrad.
#[test]
fn dgrad_is_pytorchs_transposed_convolution() {
    let file = SafeTensors::deserialize(WINDOWS).unwrap();
    let cx = Cx::cpu(2).unwrap();
    let [gy, w] = ["t.x", "t.w"].map(|name| upload(&cx, &file, DType::F64, name));
    let [n, h, wide, cout] = gy.shape().0;
    let x = cx.zeros(Shape::nhwc(n, 2 * h, 2 * wide, w.shape().c()), DType::F64).unwrap();
    let op = Conv2d { pad: 0, ..Conv2d::new(cout, 2, 2) };
    let mut grads = [Grad::wanted(None), Grad::unwanted()];
    op.backward(&cx, vec![x, w], gy, &mut grads).unwrap();
    let [gx, _] = grads;
    compare(&file, "t.y", &gx.into_value().unwrap(), 1e-13);
}
