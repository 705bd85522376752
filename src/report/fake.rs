//! Folders of runs that never happened, with everything that a report can show.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::rng::{Philox, Purpose};
use crate::space::{Arch, Budget, Metric, Space};

/// Writes a run of so many steps of preset `preset`, with examples, and two
/// searches of about so many candidates.
pub(crate) fn write(dir: &Path, preset: &str, steps: u64, candidates: usize) {
    let space = Space::preset(preset).unwrap();
    fs::create_dir_all(dir.join("examples")).unwrap();
    let put = |path: &str, text: String| fs::write(dir.join(path), text).unwrap();
    put(
        "config.toml",
        format!(
            "preset = \"{preset}\"  # command line\nmethod = \"moco\"  # default\nseed = 7  # default\n\n\
             [train]\nbatch = 128  # default\n\n[moco]\nqueue = 4096  # default\ndim = 128  # default\n"
        ),
    );
    put("cmd.txt", format!("engine train --data pictures --out runs/first --preset {preset}\n"));
    put("env.json", json!({"version": "0.1.0", "cpu": {"model": "a CPU", "cores": 2}}).to_string());
    put("status.json", json!({"state": "done", "step": steps, "steps": steps}).to_string());
    put("metrics.jsonl", metrics(&space, steps));
    put("probe.jsonl", probes(&space, steps));
    for i in 0..4 {
        for (k, name) in ["src", "view0", "view1"].into_iter().enumerate() {
            picture(i, k).save(dir.join(format!("examples/{name}_{i}.png"))).unwrap();
        }
    }
    if candidates > 0 {
        evaluations(&dir.join("eval"), &space);
        search(&dir.join("search/cls-pictures"), &space, candidates, &["z"]);
        search(
            &dir.join("search/det-fpn-pictures"),
            &space,
            candidates / 2,
            &["c2", "c3", "c4", "c5"],
        );
    }
}

fn picture(i: u32, k: usize) -> image::RgbImage {
    image::RgbImage::from_fn(32, 32, |x, y| {
        let (x, y) = (x as f32 - 9.0 - 2.0 * k as f32, y as f32 - 14.0 - i as f32);
        let inside = (x * x + y * y).sqrt() < 5.0 + 2.0 * i as f32 + k as f32;
        let shade = (x * 3.0 + y * 2.0) as u8;
        image::Rgb(if inside { [230, 120 + 30 * i as u8, 60 * k as u8] } else { [40, shade, 150] })
    })
}

fn random(space: &Space, rng: &mut Philox) -> Arch {
    let mut pick = |v: &[usize]| v[rng.below(v.len())];
    Arch {
        stem: pick(&space.stem.widths),
        widths: std::array::from_fn(|i| pick(&space.stages[i].widths)),
        depths: std::array::from_fn(|i| pick(&space.stages[i].depths)),
    }
}

fn metrics(space: &Space, steps: u64) -> String {
    let mut rng = Philox::new(1, Purpose::Check, 0, 0);
    let top = space.cost(&space.max()).macs as f64;
    let mut text = String::new();
    for step in 0..steps {
        let t = step as f64 / steps as f64;
        let archs = [space.max(), random(space, &mut rng), random(space, &mut rng)];
        let mut losses = serde_json::Map::new();
        for a in &archs {
            let small = (top / space.cost(a).macs as f64).ln();
            let fall = 1.0 - (-4.0 * t).exp();
            let loss = 8.6 - 5.2 * fall + 0.18 * small * fall + 0.25 * f64::from(rng.normal());
            losses.insert(a.to_string(), json!(loss));
        }
        let lost = step % 97 == 5;
        let spread = 0.25 + 0.7 * (1.0 - (-6.0 * t).exp());
        let row = json!({
            "step": step, "epoch": t * 10.0, "time_s": step as f64 * 0.21,
            "loss": losses.values().filter_map(Value::as_f64).sum::<f64>(), "losses": losses,
            "archs": archs.map(|a| a.to_string()),
            "lr": 0.06 * 0.5 * (1.0 + (std::f64::consts::PI * t).cos()), "ema": 0.99,
            "grad_norm": if lost { Value::Null } else { json!(2.0 + (-9.0 * t).exp() * 6.0 + f64::from(rng.uniform())) },
            "feature_std": 0.088 * spread, "spread": spread, "teacher_spread": 0.97 * spread,
            "rank": 40.0 * spread, "teacher_rank": 39.0 * spread,
            "health": if spread < 0.5 { "narrow" } else { "healthy" },
            "images_per_s": 610.0 + 14.0 * f64::from(rng.normal()) - if step % 150 == 0 { 250.0 } else { 0.0 },
            "data_wait_ms": 1.0 + 3.0 * f64::from(rng.uniform()),
            "device_mem_bytes": 412_000_000u64,
        });
        text += &(row.to_string() + "\n");
    }
    text + "{\"step\": 99999, \"lo"
}

/// What `--probe` leaves; the first line is on other images.
fn probes(space: &Space, steps: u64) -> String {
    let line = |i: u64| {
        let knn = |least: f64| least + 0.04 * i as f64;
        let net = |arch: Arch, knn: f64| json!({"arch": arch, "knn": knn, "stderr": 0.015});
        json!({
            "step": i * steps / 10, "epoch": i as f64, "data": if i == 0 { "other" } else { "labelled" },
            "images": 2000, "k": 20, "chance": 0.125, "pixels": 0.41,
            "nets": [net(space.max(), knn(0.27)), net(space.min(), knn(0.2))],
        })
    };
    std::iter::once(line(0))
        .chain((0..=10).map(|i| {
            let mut line = line(i);
            line["data"] = json!("labelled");
            line
        }))
        .map(|line| line.to_string() + "\n")
        .collect()
}

/// What `engine eval` leaves: nets before and after training on two sets of pictures, and a
/// ranking.
fn evaluations(dir: &Path, space: &Space) {
    fs::create_dir_all(dir).unwrap();
    let archs = [space.min(), space.nth(space.count() / 2), space.max()];
    for (i, arch) in archs.iter().enumerate() {
        for (pictures, step) in [("shapes", 0), ("shapes", 300), ("textures", 0), ("textures", 300)]
        {
            let skill = if step == 0 { 0.2 } else { 0.6 + 0.08 * i as f64 };
            let value = json!({
                "arch": arch, "macs": space.cost(arch).macs, "params": 1, "preset": space.name,
                "step": step, "weights": "student", "protocol": "knn", "features": "pool",
                "train": {"data": [format!("p/{pictures}/train")], "images": 2000},
                "test": {"data": [format!("p/{pictures}/test")], "images": 500},
                "classes": 8, "chance": 0.125, "bn_images": 512,
                "accuracy": {"k20": skill, "k200": skill - 0.02},
                "stderr": {"k20": 0.02, "k200": 0.02},
                "baselines": {
                    "untrained": {"absent": "evaluated on its own"},
                    "pixels": {"accuracy": {"k20": 0.413, "k200": 0.40}},
                    "histogram": {"accuracy": {"k20": 0.337, "k200": 0.33}},
                },
                "remarks": if step > 0 && i == 0 { vec!["The net is below raw pixels."] } else { vec![] },
            });
            fs::write(dir.join(format!("knn-{i}-{pictures}-{step}.json")), value.to_string())
                .unwrap();
        }
    }
    let mut rng = Philox::new(3, Purpose::Check, 0, 0);
    let subnet = |i: usize| {
        let score = 0.5 + 0.01 * i as f64;
        let accuracy = score + 0.03 * f64::from(rng.normal());
        json!({"arch": space.nth(i * 7), "macs": 1000 * i, "score": score, "accuracy": accuracy})
    };
    let ranking = json!({
        "protocol": "knn", "candidates": "runs/x/search/cls-pictures/candidates.jsonl",
        "correlation": {"spearman": 0.93, "kendall": 0.8, "spearman_macs": null},
        "subnets": (0..30).map(subnet).collect::<Vec<_>>(),
    });
    fs::write(dir.join("correlation-knn.json"), ranking.to_string()).unwrap();
}

/// A search's folder.
pub(crate) fn search(dir: &Path, space: &Space, candidates: usize, levels: &[&str]) {
    fs::create_dir_all(dir).unwrap();
    let mut rng = Philox::new(2, Purpose::Check, 0, 0);
    let top = space.cost(&space.max()).macs as f64;
    let mut all: Vec<(Arch, f64)> = Vec::new();
    let mut text = String::new();
    for _ in 0..candidates {
        let arch = random(space, &mut rng);
        let cost = space.cost(&arch);
        let share = (cost.macs as f64 / top).powf(0.35);
        let parts: serde_json::Map<String, Value> = levels
            .iter()
            .map(|l| ((*l).to_owned(), json!(0.35 + 0.5 * share + 0.02 * f64::from(rng.normal()))))
            .collect();
        let score: f64 = parts.values().filter_map(Value::as_f64).sum();
        all.push((arch, score));
        let row = json!({
            "arch": arch.to_string(), "macs": cost.macs, "params": cost.params, "score": score,
            "levels": parts, "ci95": [score - 0.012, score + 0.012], "images": 500,
            "bn_images": 512, "teacher_step": 300,
        });
        text += &(row.to_string() + "\n");
    }
    fs::write(dir.join("candidates.jsonl"), text).unwrap();
    let edges = [0.05, 0.12, 0.25, 0.5, 1.001].map(|share| (top * share / 1e5) as u64 * 100_000);
    let budget = |w: &[u64]| {
        let budget = Budget { metric: Metric::Macs, lo: w[0], hi: w[1] };
        let within = |a: &Arch| (w[0]..w[1]).contains(&space.cost(a).macs);
        let mut inside: Vec<_> = all.iter().filter(|(a, _)| within(a)).collect();
        inside.sort_by(|a, b| b.1.total_cmp(&a.1));
        let winner = |(i, (arch, score)): (usize, &&(Arch, f64))| {
            let cost = space.cost(arch);
            json!({
                "rank": i + 1, "arch": arch.to_string(), "macs": cost.macs, "params": cost.params,
                "score": score, "ci95": [score - 0.012, score + 0.012], "images": 500,
                "bn_images": 512, "teacher_step": 300, "levels": {},
                "p_best": 0.61 / (i + 1) as f64, "tied": i < 2,
            })
        };
        let winners: Vec<Value> = inside.iter().take(3).enumerate().map(winner).collect();
        json!({
            "budget": budget.to_string(), "metric": "macs", "population": 1000,
            "candidates": inside.len(), "winners": winners, "ties": [],
        })
    };
    let budgets: Vec<Value> = edges.windows(2).map(budget).collect();
    fs::write(dir.join("winners.json"), json!({ "budgets": budgets }).to_string()).unwrap();
    fs::write(
        dir.join("search.json"),
        json!({"preset": space.name, "task": "cls", "images": 500}).to_string(),
    )
    .unwrap();
}
