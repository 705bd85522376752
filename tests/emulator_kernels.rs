//! Kernels that belong to no differentiable op, on the emulator against the CPU, each family of
//! the registry in a test of its own. Each check runs in several schedules.
#![cfg(feature = "emulator")]

use std::sync::Arc;

use engine::cx::Cx;
use engine::device::emulator::{Emulator, Races};
use engine::ops::check::run;
use engine::registry::FAMILIES;

fn all_pass(name: &str) {
    let emulator = Arc::new(Emulator::new(2).unwrap());
    // These kernels pass values on through global memory too.
    emulator.check_races(Races::Everywhere);
    let cx = Cx::device(emulator, 1).unwrap();
    let family = FAMILIES.iter().find(|family| family.name == name).expect("a family's name");
    let checks = (family.checks)();
    let (count, mut failures) = (checks.len(), Vec::new());
    assert!(count > 0, "there is nothing to check");
    let summary = run(
        &cx,
        checks,
        |_| true,
        |name, outcome| {
            failures.extend(outcome.as_ref().err().map(|why| format!("{name}: {why}")));
        },
    );
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    assert_eq!(summary.passed, count, "checks were skipped");
}

macro_rules! families {
    ($($name:ident),* $(,)?) => {
        $(
            #[test]
            fn $name() {
                all_pass(stringify!($name));
            }
        )*
        const TESTED: &[&str] = &[$(stringify!($name)),*];
    };
}

families!(
    augment,
    cut_mix,
    global_norm,
    index_select,
    knn,
    matching,
    philox,
    proposals,
    queue_mean,
    queue_push,
    relation,
    resize_bilinear,
    sgd
);

#[test]
fn every_family_is_tested() {
    let registered: Vec<&str> = FAMILIES.iter().map(|family| family.name).collect();
    assert_eq!(registered, TESTED);
}
