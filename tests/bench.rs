//! The program `bench` from outside.

use std::process::{Command, Output};

use serde_json::Value;

fn bench(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_bench")).args(args).output().unwrap()
}

/// What `bench` wrote to the file behind its last flag; it must succeed.
fn written(args: &[&str]) -> Value {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("result.json");
    let out = bench(&[args, &["--json", file.to_str().unwrap()]].concat());
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap()
}

/// Exit code, stdout and stderr. No line of a result is longer than 120 columns.
fn said(args: &[&str]) -> (i32, String, String) {
    let out = bench(args);
    let text = |bytes| String::from_utf8(bytes).unwrap();
    let (said, error) = (text(out.stdout), text(out.stderr));
    let too_long = said.lines().find(|line| line.chars().count() > 120);
    assert_eq!(too_long, None, "{args:?}");
    (out.status.code().unwrap(), said, error)
}

const EMULATOR: [&str; 5] = ["kernels", "--device", "emulator", "--preset", "tiny"];
const LIMITS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/limits.toml");

/// The sums of all rows are those of the rows, and of ten rows or fewer none is the worst.
#[test]
#[cfg_attr(not(feature = "emulator"), ignore = "needs the cargo feature emulator")]
fn sums_stand_below_what_is_counted() {
    let args = [&EMULATOR[..], &["--archs", "min", "--filter"]].concat();
    let few = [&args[..], &["^(cut_mix|queue_push)/"]].concat();
    let result = written(&few);
    let rows = result["benchmarks"].as_array().unwrap();
    let sum = |key: &str| rows.iter().map(|row| row[key].as_u64().unwrap()).sum::<u64>();
    let (bytes, floor) = (sum("bytes") as f64, sum("bytes_floor") as f64);
    let expected = format!(
        "all rows, once each: {:.1} KiB, {:.2} times the least; {} launches",
        bytes / 1024.0,
        bytes / floor,
        sum("launches")
    );
    let (_, text, _) = said(&few);
    assert!(text.contains(&expected) && !text.contains("that move most"), "{text}");
    let (_, text, _) =
        said(&[&args[..], &["^(augment|avg_pool|cut_mix|cosine|l2_normalise)/"]].concat());
    assert!(text.contains("the 10 that move most, as often as they are used:"), "{text}");
}

/// Four pieces of work of the largest net of `tiny` on eight images, by hand.
#[test]
#[cfg_attr(not(feature = "emulator"), ignore = "needs the cargo feature emulator")]
fn counts_are_those_worked_out_by_hand() {
    let names = [
        "conv2d/1x1 stride 1, 8x16x16x64 to 16 of 16x64/fprop/bf16",
        "conv2d/3x3 stride 1, 8x16x16x16 to 16 of 16x16/wgrad/bf16",
        "batch_norm/8x16x16x64 of 64/forward/f32",
        "sgd/136 tensors, 1341008 elements/update/f32",
    ];
    let filter = format!("^({})$", names.join("|"));
    let args = ["--archs", "max", "--batch", "8", "--filter", filter.as_str()];
    let result = written(&[&EMULATOR[..], &args].concat());
    assert_eq!((&result["device"], &result["preset"]), (&"emulator".into(), &"tiny".into()));
    let rows = result["benchmarks"].as_array().unwrap();
    assert_eq!(rows.len(), names.len(), "{result}");
    let row = |i: usize| rows.iter().find(|row| row["name"] == names[i]).unwrap();
    let is = |i: usize, counts: &[(&str, u64)]| {
        for (key, expected) in counts {
            assert_eq!(row(i)[key], *expected, "{key} of {}", row(i));
        }
    };

    // Sixteen blocks of 128 pixels and 32 channels, 16 of which there are: each brings its pixels
    // and all of the weight to shared memory once.
    let pixels = 8 * 16 * 16;
    let (x, w, y) = (2 * pixels * 64, 2 * 16 * 64, 2 * pixels * 16);
    is(0, &[("bytes", x + pixels / 128 * w + y), ("bytes_floor", x + w + y)]);
    is(0, &[("flops", 2 * pixels * 64 * 16), ("tensor_useful", pixels * 64 * 16)]);
    is(0, &[("tensor_issued", pixels * 64 * 32)]);

    // Two blocks of columns (128 of 9·16, and what is left), for each of eight splits of 256
    // pixels: the output's gradient is read by both, x once a tap where the tap is inside (46 of
    // 48 rows and columns). The splits' sums are written, read, and added to the gradient.
    let (gy, inside, weight) = (2 * pixels * 16, 8 * 46 * 46, 4 * 9 * 16 * 16);
    let read = 2 * gy + 2 * inside * 16;
    is(1, &[("bytes", read + 2 * 8 * weight + 2 * weight), ("launches", 2)]);
    is(1, &[("bytes_floor", gy + 2 * pixels * 16 + 2 * weight)]);
    is(1, &[("tensor_issued", 8 * 2 * (64 * 128 * 256)), ("tensor_useful", inside * 16 * 16)]);

    // x is read for the statistics and again to be normalised. Eight blocks read eight rows more,
    // by which sums are shifted, and leave two sums a channel; shifts, mean and deviation are
    // written and read. In the last pass each thread reads four parameters of its four channels.
    let (x, channels) = (4 * pixels * 64, 4 * 64);
    let statistics = 8 * 8 * channels + 2 * (8 * 2 * channels) + 2 * channels + 2 * channels;
    is(2, &[("bytes", 3 * x + statistics + 8 * 256 * 4 * 16), ("launches", 3)]);
    is(2, &[("bytes_floor", 2 * x + 2 * channels)]);

    // Weight, momentum and gradient are read and written, and the copies of weights in bf16
    // written: all but batch norms' and biases' are weights. Of 423 chunks of at most 4096 elements
    // each thread finds the tensor, in 3006 steps for all chunks, and reads what it is: four
    // addresses and five numbers.
    let (elems, table) = (1_341_008, 256 * (4 * 3006 + 423 * (4 * 8 + 5 * 4)));
    let least = 24 * elems + 2 * 1_329_328;
    is(3, &[("bytes", least + table), ("bytes_floor", least)]);
}

/// A kernel that becomes worse is noticed without a GPU.
#[test]
#[cfg_attr(not(feature = "emulator"), ignore = "needs the cargo feature emulator")]
fn counts_of_the_smallest_net_keep_their_limits() {
    let args = ["--archs", "min", "--batch", "8", "--limits", LIMITS];
    let (code, text, error) = said(&[&EMULATOR[..], &args].concat());
    assert_eq!(code, 0, "{error}");
    assert!(text.contains("conv2d/") && text.contains("sgd/"), "{text}");
}

#[test]
#[cfg_attr(not(feature = "emulator"), ignore = "needs the cargo feature emulator")]
fn counts_of_large_images_keep_their_limits() {
    let shapes = "conv2d/(7x7|3x3 stride 1, 2x28|1x1 stride 1, 2x56x56x64 to 256|1x1 stride 2, 2x28)\
                  |max_pool|batch_norm/2x112";
    let (code, _, error) = said(&[
        "kernels", "--device", "emulator", "--preset", "data", "--archs", "r50", "--batch", "2",
        "--limits", LIMITS, "--filter", shapes,
    ]);
    assert_eq!(code, 0, "{error}");
}

#[test]
#[cfg_attr(not(feature = "emulator"), ignore = "needs the cargo feature emulator")]
fn a_broken_limit_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("limits.toml");
    std::fs::write(&file, "limit = [{ rows = '^avg_pool/.*/f32', most_bytes = 0.99 }]").unwrap();
    let limits = ["--filter", "^avg_pool/.*/forward", "--limits", file.to_str().unwrap()];
    let (code, _, error) = said(&[&EMULATOR[..], &["--batch", "8"], &limits].concat());
    assert_eq!(code, 7, "{error}");
    assert!(
        error.contains("(avg_pool_forward_f32): bytes over the least 1.000, allowed at most 0.990")
    );
    assert!(error.contains("(avg_pool_forward_bf16): there are no limits"), "{error}");
    assert!(error.contains("/forward/bf16$', most_bytes = 1.02, least_used = 0.98 },"), "{error}");

    // What it says would do does.
    let entries: Vec<&str> = error.lines().filter(|l| l.starts_with("  { rows")).collect();
    std::fs::write(&file, format!("limit = [\n{}\n]", entries.join("\n"))).unwrap();
    let (code, _, error) = said(&[&EMULATOR[..], &["--batch", "8"], &limits].concat());
    assert_eq!(code, 0, "{error}");
}

/// A result against itself, against one that was better, and against one made otherwise.
#[test]
#[cfg_attr(not(feature = "emulator"), ignore = "needs the cargo feature emulator")]
fn baselines_of_counts_are_exact() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let args = [&EMULATOR[..], &["--archs", "min", "--filter", "^avg_pool"]].concat();
    let mut result = written(&args);
    let mut against = |name: &str, change: &dyn Fn(&mut Value)| {
        change(&mut result);
        std::fs::write(path(name), result.to_string()).unwrap();
        said(&[&args[..], &["--baseline", &path(name)]].concat())
    };
    let (code, text, error) = against("same.json", &|_| {});
    assert_eq!(code, 0, "{error}");
    assert!(text.contains("none of 28 figures is worse"), "{text}");
    let (code, _, error) = against("better.json", &|r| r["benchmarks"][0]["sectors"] = 1.into());
    assert_eq!(code, 7, "{error}");
    assert!(error.contains("forward/f32: sectors: 1 -> "), "{error}");
    let (code, _, error) = against("other.json", &|r| r["batch"] = 64.into());
    assert_eq!(code, 2, "{error}");
    assert!(error.contains("batch was 64, now 8"), "{error}");
    let (code, text, _) = said(&["report", &path("better.json"), &path("other.json")]);
    assert_eq!(code, 0);
    assert!(text.contains("not made alike") && text.contains("geometric mean"), "{text}");
}

#[test]
fn the_cpu_is_timed_and_compared_with_its_baseline() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("old.json");
    let args = [
        "kernels",
        "--device",
        "cpu",
        "--archs",
        "min",
        "--batch",
        "2",
        "--filter",
        "^avg_pool/.*/forward",
        "--seconds",
        "0.05",
        "--peak-gbs",
        "100",
        "--peak-tflops",
        "1",
    ];
    let mut result = written(&args);
    let row = &result["benchmarks"][0];
    let (ms, floor) = (row["time_ms"].as_f64().unwrap(), row["floor_ms"].as_f64().unwrap());
    assert!(ms > 0.0 && row["bound"] == "memory");
    // Two images' 2·2·256 values of four bytes are read, 256 written, at 100 GB/s.
    assert!((floor - 10240.0 / 100e9 * 1e3).abs() < 1e-12, "{floor}");
    for (factor, expected) in [(100.0, 0), (1e-3, 7)] {
        for row in result["benchmarks"].as_array_mut().unwrap() {
            row["time_ms"] = (ms * factor).into();
            row["noise"] = 0.01.into();
        }
        std::fs::write(&path, result.to_string()).unwrap();
        let compare = ["--baseline", path.to_str().unwrap(), "--fail-over", "50%"];
        let (code, text, error) = said(&[&args[..], &compare].concat());
        assert_eq!(code, expected, "{text}{error}");
        assert!(text.contains("of floor"), "{text}");
    }
}

const STEP: [&str; 9] =
    ["step", "--preset", "tiny", "--batch", "4", "--queue", "64", "--iterations", "3"];

/// All keys that outside checks read, memory as planned, floors where peaks are given, and rows
/// that can be compared.
#[test]
fn a_step_is_timed_by_its_parts_and_compared_with_its_baseline() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let peaks = ["--peak-gbs", "20", "--peak-tflops", "0.1"];
    let args = [&STEP[..], &["--device", "cpu"], &peaks].concat();
    let mut result = written(&[&args[..], &["--parts"]].concat());
    for key in ["iteration_ms", "iteration_ms_min", "iteration_ms_max", "images_per_s"] {
        assert!(result[key].as_f64() > Some(0.0), "{key}: {result}");
    }
    let number = |v: &Value| v.as_f64().unwrap();
    let parts = &result["parts"];
    let students = parts["student"].as_array().unwrap();
    assert_eq!((students.len(), &result["device"]), (3, &"cpu".into()));
    assert!(number(&parts["ema"]) < number(&parts["teacher"]), "{result}");
    assert!(number(&parts["loss"]) > 0.0);
    assert_eq!((&result["allocations"], &result["launches"]), (&0.into(), &Value::Null));
    let [peak, planned] = ["peak_bytes", "planned_bytes"].map(|key| result[key].as_u64().unwrap());
    assert!(0 < peak && peak <= planned && result["reserved_bytes"] == planned, "{result}");
    let rows = result["benchmarks"].as_array().unwrap();
    let names: Vec<&str> = rows.iter().map(|row| row["name"].as_str().unwrap()).collect();
    for beginning in
        ["iteration", "teacher: forward", "alone: max s16", "alone: min s8", "apart: loss"]
    {
        assert!(names.iter().any(|name| name.starts_with(beginning)), "{names:?}");
    }
    let floors = |wanted: &dyn Fn(&str) -> bool| -> f64 {
        let wanted = rows.iter().filter(|row| wanted(row["name"].as_str().unwrap()));
        wanted.map(|row| number(&row["floor_ms"])).sum()
    };
    let is_part = |n: &str| n == "teacher" || n.starts_with("student ") || n == "optimizer";
    let (whole, parts) = (floors(&|name| name == "iteration"), floors(&is_part));
    assert!(whole > 0.0 && (whole / parts - 1.0).abs() < 1e-9, "{result}");

    for (factor, expected) in [(100.0, 0), (1e-3, 7)] {
        for row in result["benchmarks"].as_array_mut().unwrap() {
            row["time_ms"] = (number(&row["time_ms"]) * factor).into();
            row["noise"] = 0.01.into();
        }
        std::fs::write(path("old"), result.to_string()).unwrap();
        let compare =
            ["--baseline", &path("old"), "--fail-over", "50%", "--filter", "^(iter|stud)"];
        let (code, text, error) = said(&[&args[..], &compare].concat());
        assert_eq!(code, expected, "{text}{error}");
        assert!(text.contains("* ") && text.contains("of floor") && !text.contains("optimizer"));
    }
    for (key, value) in [("device", "cuda:0"), ("queue", "65536")] {
        let mut other = result.clone();
        other[key] = value.into();
        std::fs::write(path("other"), other.to_string()).unwrap();
        let (code, _, error) = said(&[&args[..], &["--baseline", &path("other")]].concat());
        assert_eq!(code, 2, "{error}");
        assert!(error.contains(&format!("{key} was \"{value}\"")), "{error}");
    }
    let (code, text, error) = said(&["report", &path("old"), &path("other")]);
    assert_eq!(code, 0, "{error}");
    assert!(text.contains("alone: max") && text.contains("1.000"), "{text}");
}

/// The emulator's times mean nothing; kernels are as many in every iteration, and may not become
/// more.
#[test]
#[cfg_attr(not(feature = "emulator"), ignore = "needs the cargo feature emulator")]
fn launches_of_a_step_are_counted_on_the_emulator() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("old").to_str().unwrap().to_owned();
    let args = [
        "step",
        "--device",
        "emulator",
        "--preset",
        "tiny",
        "--batch",
        "2",
        "--queue",
        "64",
        "--archs",
        "min",
        "--iterations",
        "2",
        "--warmup",
        "1",
    ];
    let mut result = written(&args);
    let launches = result["launches"].as_u64().unwrap();
    assert!(launches > 0, "{result}");
    assert_eq!(result["launches_min"], result["launches_max"]);
    assert_eq!((&result["allocations"], &result["gap_ms"]), (&0.into(), &Value::Null));
    assert_eq!(result["benchmarks"][0]["time_ms"], Value::Null);
    result["benchmarks"][0]["launches"] = (launches - 1).into();
    std::fs::write(&path, result.to_string()).unwrap();
    let (code, text, error) = said(&[&args[..], &["--baseline", &path]].concat());
    assert_eq!(code, 7, "{text}{error}");
    assert!(error.contains("iteration: launches"), "{error}");
    assert!(text.contains(&format!("{launches} kernels an iteration")), "{text}");
    assert!(text.contains("say nothing about a GPU") && !text.contains(" ms"), "{text}");
}

/// Every subnet with its passes, its relation at every level, and the whole of its scoring.
#[test]
#[cfg_attr(not(feature = "emulator"), ignore = "needs the cargo feature emulator")]
fn a_search_is_timed_by_its_parts() {
    let args = ["search", "--preset", "tiny", "--images", "8", "--iterations", "2"];
    let on_cpu = [&args[..], &["--device", "cpu"]].concat();
    let result = written(&[&on_cpu[..], &["--subnets", "2"]].concat());
    let rate = |key: &str| result[key].as_f64().unwrap();
    let whole = rate("images_subnets_per_s_with_recalibration");
    assert!(whole > 0.0 && whole < rate("images_subnets_per_s"), "{result}");
    assert_eq!(result["features"], serde_json::json!(["c2", "c3", "c4", "c5"]));
    let rows = result["benchmarks"].as_array().unwrap();
    // The teacher; two subnets' statistics, passes, four levels, and scoring.
    assert_eq!(rows.len(), 1 + 2 * 7, "{result}");
    assert!(rows.iter().all(|row| row["time_ms"].as_f64() > Some(0.0)), "{result}");

    let (code, text, error) = said(&[&on_cpu[..], &["--task", "cls", "--archs", "min"]].concat());
    assert_eq!(code, 0, "{error}");
    assert!(text.contains("metric z") && text.contains("images x subnets a second"), "{text}");
    let emulated = ["--device", "emulator", "--task", "det-c4", "--archs", "min"];
    let result = written(&[&args[..], &emulated].concat());
    let rows = result["benchmarks"].as_array().unwrap();
    assert!(rows.iter().all(|row| row["launches"].as_u64() > Some(0)), "{result}");
    assert_eq!(
        (&rows[0]["time_ms"], &result["images_subnets_per_s"]),
        (&Value::Null, &Value::Null)
    );
}

/// Steps are compared by their parts.
#[test]
fn steps_are_reported_side_by_side() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, ms: f64| {
        let path = dir.path().join(name).to_str().unwrap().to_owned();
        let step = serde_json::json!({
            "iteration_ms": ms, "archs": ["s8-w8.16.32.64-d1.1.2.1"],
            "parts": {"teacher": 1.0, "student": [ms - 2.0], "optimizer": 1.0},
        });
        std::fs::write(&path, step.to_string()).unwrap();
        path
    };
    let (code, text, error) = said(&["report", &write("old", 4.0), &write("new", 10.0)]);
    assert_eq!(code, 0, "{error}");
    let words: Vec<&str> = text.lines().nth(1).unwrap().split_whitespace().collect();
    assert_eq!(words, ["*", "student", "0", "2.0000", "8.0000", "4.000"], "{text}");
}

#[test]
#[cfg_attr(not(feature = "emulator"), ignore = "needs the cargo feature emulator")]
fn checks_run_on_the_emulator_and_end_with_their_number() {
    let out = bench(&["check", "--device", "emulator", "--filter", "^relu/odd.shape"]);
    let text = String::from_utf8(out.stdout).unwrap();
    assert_eq!((out.status.code(), text.as_str()), (Some(0), "5 passed, 0 failed, 1 skipped\n"));
}

#[test]
#[cfg_attr(not(feature = "emulator"), ignore = "needs the cargo feature emulator")]
fn what_cannot_run_says_why() {
    for (args, code, expected) in [
        (&["kernels", "--device", "cpu", "--limits", LIMITS][..], 2, "--device emulator"),
        (&["kernels", "--device", "emulator", "--archs", "r50"], 2, "does not fit"),
        (&["kernels", "--device", "emulator", "--archs", "largest"], 2, "max, min, r50"),
        (&["kernels", "--device", "emulator", "--fail-over", "much"], 2, "percentage"),
        (&["kernels", "--device", "cpu", "--peak-gbs", "0"], 2, "above 0"),
        (&["kernels", "--device", "emulator", "--filter", "nothing"], 2, "--filter"),
        (&["step", "--device", "cpu", "--iterations", "0"], 2, "--iterations is 0"),
        (&["step", "--device", "cpu", "--archs", "largest"], 2, "max, min, r50"),
        (&["step", "--device", "emulator", "--parts"], 2, "another --device"),
        (&["search", "--device", "cpu", "--subnets", "0"], 2, "at least 1"),
        (&["search", "--device", "cpu", "--images", "1"], 2, "at least 2"),
        (&["search", "--device", "cpu", "--task", "det"], 2, "det-c4"),
        (&["search", "--device", "cpu", "--images", "2", "--filter", "nothing"], 2, "--filter"),
        (&["check", "--filter", "nothing"], 2, "--filter"),
        (&["check", "--filter", "("], 2, "--filter"),
    ] {
        let out = bench(args);
        let text = String::from_utf8(out.stderr).unwrap();
        assert_eq!(out.status.code(), Some(code), "{args:?}: {text}");
        assert!(text.contains(expected), "{args:?}: {text}");
    }
}

/// On the CPU the loader's bench says what it always said; a device adds its own part.
#[test]
#[cfg_attr(not(feature = "emulator"), ignore = "needs the cargo feature emulator")]
fn the_loader_is_timed_alone_and_with_a_device() {
    let dir = tempfile::tempdir().unwrap();
    for i in 0..5 {
        let image = image::RgbImage::from_fn(20 + i, 16, |x, y| image::Rgb([x as u8, y as u8, 9]));
        image.save(dir.path().join(format!("{i}.png"))).unwrap();
    }
    let file = dir.path().join("loader.json");
    let timed = |device: &str| -> (String, Value) {
        let (data, json) = (dir.path().to_str().unwrap(), file.to_str().unwrap());
        let args = ["loader", "--data", data, "--device", device, "--json", json];
        let out = bench(&[&args[..], &["--resolution", "8", "--seconds", "0.1"]].concat());
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        let json = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
        (String::from_utf8(out.stdout).unwrap(), json)
    };
    let (text, json) = timed("cpu");
    assert_eq!((text.lines().count(), json["benchmarks"].as_array().unwrap().len()), (6, 3));
    let positive = |json: &Value, key: &str| assert!(json[key].as_f64() > Some(0.0), "{json}");
    for key in ["decode_per_s", "augment_per_s", "both_per_s"] {
        positive(&json, key);
    }
    let (text, json) = timed("emulator");
    assert!(text.contains("tell nothing about a GPU"), "{text}");
    for key in ["both_per_s", "lay_out_per_s", "copy_per_s", "views_per_s", "together_per_s"] {
        positive(&json, key);
    }
    assert_eq!((&json["device"], &json["batch"]), (&"emulator".into(), &5.into()));
    assert_eq!(json["benchmarks"].as_array().unwrap().len(), 7);

    // One row, held to a baseline that was faster, and to one of other images.
    let old = dir.path().join("old.json");
    let mut faster = json.clone();
    faster["benchmarks"] = serde_json::json!([{"name": "decode", "time_ms": 1e-9, "noise": 0.0}]);
    let again = |old_json: &Value| {
        std::fs::write(&old, old_json.to_string()).unwrap();
        let (data, old) = (dir.path().to_str().unwrap(), old.to_str().unwrap());
        let args = ["loader", "--data", data, "--device", "emulator", "--filter", "^decode$"];
        let rest = ["--resolution", "8", "--seconds", "0.1", "--baseline", old];
        said(&[&args[..], &rest].concat())
    };
    let (code, text, error) = again(&faster);
    assert_eq!((code, text.lines().count()), (7, 6), "{error}");
    faster["mean_bytes"] = 1.into();
    assert_eq!(again(&faster).0, 2);
}
