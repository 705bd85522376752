//! Kernels that belong to no differentiable op, on the emulator against the CPU: the
//! optimizer, norms, random draws, views, the queue, the relation score, nearest neighbours.
//! Each check runs in several schedules.

use std::sync::Arc;

use engine::cx::Cx;
use engine::device::emulator::{Emulator, Races};
use engine::ops::Check;
use engine::ops::check::{draws, run};

fn all_pass(checks: Vec<(String, Check)>) {
    let emulator = Arc::new(Emulator::new(2).unwrap());
    // These kernels pass values on through global memory too.
    emulator.check_races(Races::Everywhere);
    let cx = Cx::device(emulator, 1).unwrap();
    let (count, mut failures) = (checks.len(), Vec::new());
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

#[test]
fn draws_are_those_of_the_cpu() {
    all_pass(draws::checks());
}

#[test]
fn norms_are_those_of_the_cpu() {
    all_pass(engine::ops::norm::checks::checks());
}

#[test]
fn updates_are_those_of_the_cpu() {
    all_pass(engine::optim::checks());
}

#[test]
fn views_are_those_of_the_cpu() {
    all_pass(engine::data::augment_checks());
}

#[test]
fn the_queue_holds_the_newest() {
    all_pass(engine::ops::queue_push::checks::checks());
}

#[test]
fn relation_scores_are_those_of_the_cpu() {
    all_pass(engine::ops::relation::checks::checks());
}

#[test]
fn nearest_neighbours_are_those_of_the_cpu() {
    all_pass(engine::eval::knn::checks::checks());
}
