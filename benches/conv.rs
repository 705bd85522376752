//! Times convolution on the CPU. `cargo bench --bench conv -- THREADS N,H,W,CIN,COUT,K,STRIDE …`
//! prints, for every shape, the least time of fprop, dgrad and wgrad in milliseconds, separated
//! by tabs. `benches/peers/compare.py` runs it and PyTorch in turn.

use std::time::{Duration, Instant};

use engine::device::Cx;
use engine::ops::Op;
use engine::ops::conv2d::Conv2d;
use engine::rng::{Philox, Purpose};
use engine::tape::Grad;
use engine::tensor::{DType, Shape, Tensor};

/// How long one pass is repeated.
const BUDGET: Duration = Duration::from_millis(300);

fn normal(cx: &Cx, shape: Shape, seed: u64) -> Tensor {
    let mut rng = Philox::new(seed, Purpose::Check, 0, 0);
    let values: Vec<f32> = (0..shape.elems()).map(|_| rng.normal()).collect();
    cx.upload(shape, DType::F32, &values).expect("memory for the benchmark")
}

/// Least time of a call, in milliseconds, after two to warm up.
fn least_ms(mut call: impl FnMut()) -> f64 {
    call();
    call();
    let (start, mut best) = (Instant::now(), f64::INFINITY);
    while start.elapsed() < BUDGET {
        let t = Instant::now();
        call();
        best = best.min(t.elapsed().as_secs_f64() * 1e3);
    }
    best
}

fn bench(cx: &Cx, [n, h, w, cin, cout, kernel, stride]: [usize; 7]) -> [f64; 3] {
    let op = Conv2d { cout, kernel, stride };
    let x = normal(cx, Shape([n, h, w, cin]), 1);
    let weight = normal(cx, Shape([cout, kernel, kernel, cin]), 2);
    let forward = || op.forward(cx, &[&x, &weight]).expect("shapes fit");
    let gy = normal(cx, forward().0.shape(), 3);
    let backward = |input: usize, sum: &mut Option<Tensor>| {
        let mut grads = [Grad::unwanted(), Grad::unwanted()];
        grads[input] = Grad::wanted(sum.take());
        let saved = vec![x.clone(), weight.clone()];
        op.backward(cx, saved, gy.clone(), &mut grads).expect("shapes fit");
        let [gx, gw] = grads.map(Grad::into_value);
        gw.or(gx)
    };
    // As in training: the gradient of the input is new, that of the weight is added to.
    let mut sum = Some(cx.copy(&weight).expect("memory for the benchmark"));
    [
        least_ms(|| drop(forward())),
        least_ms(|| drop(backward(0, &mut None))),
        least_ms(|| sum = backward(1, &mut sum)),
    ]
}

fn main() {
    let mut args = std::env::args().skip(1).filter(|a| a != "--bench");
    let threads = args.next().and_then(|t| t.parse().ok()).unwrap_or(0);
    let cx = Cx::cpu(threads).expect("threads");
    eprintln!("{} threads, {}", cx.threads(), engine::ops::gemm::instructions());
    for arg in args {
        let numbers: Vec<usize> = arg.split(',').filter_map(|x| x.parse().ok()).collect();
        let Ok(shape) = numbers.try_into() else {
            eprintln!("expected N,H,W,CIN,COUT,K,STRIDE, found {arg}");
            std::process::exit(2);
        };
        let [f, d, w] = cx.install(|| bench(&cx, shape));
        println!("{arg}\t{f:.4}\t{d:.4}\t{w:.4}");
    }
}
