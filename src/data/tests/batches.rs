//! Batches of images, for training and for evaluation.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use super::*;

#[test]
fn batches_hold_as_many_views_as_asked_for_and_the_classes() {
    let tree = Tree::new();
    let set = Arc::new(tree.open("set#train").unwrap());
    let views = vec![Views::moco_v2(), Views::weak(), Views::moco_v2()];
    for deliver in [Deliver::Views, Deliver::Decoded] {
        let o = LoaderOptions { views: views.clone(), labels: true, deliver, ..options(5) };
        let batch = TrainLoader::new(set.clone(), o.clone()).unwrap().next().unwrap();
        let labels = batch.indices.iter().map(|&i| set.label(i).unwrap()).collect();
        assert_eq!(batch.targets, Some(Targets::Classes(labels)));
        let three = views_of(batch.views, &o);
        let two = TrainLoader::new(set.clone(), options(5)).unwrap().next().unwrap();
        assert_eq!(three.len(), 3);
        assert_eq!((two.targets, &views_of(two.views, &o)[..]), (None, &three[..2]));
        assert_ne!(three[0], three[2]);
    }
}

#[test]
fn batches_do_not_depend_on_workers_and_resume_where_asked() {
    let tree = Tree::new();
    let set = Arc::new(tree.open("set#train").unwrap());
    let take = |deliver, workers, start_step, n| {
        let o = LoaderOptions { deliver, workers, start_step, ..options(5) };
        let mut loader = TrainLoader::new(set.clone(), o.clone()).unwrap();
        assert_eq!(loader.steps_per_epoch(), 2);
        (0..n)
            .map(|_| {
                let b = loader.next().unwrap();
                (b.step, b.epoch, b.indices, views_of(b.views, &o))
            })
            .collect::<Vec<_>>()
    };
    let all = take(Deliver::Views, 1, 0, 7);
    assert_eq!(all, take(Deliver::Views, 3, 0, 7));
    assert_eq!(all[3..], take(Deliver::Views, 2, 3, 4));
    // The views are the same wherever they are rendered.
    assert_eq!(all, take(Deliver::Decoded, 3, 0, 7));
    assert_eq!(all[3..], take(Deliver::Decoded, 1, 3, 4));
    assert_eq!((all[3].0, all[3].1), (3, 1));
    assert_ne!(all[0].2, all[2].2);
    let mut epoch = [&all[0].2[..], &all[1].2[..]].concat();
    epoch.sort_unstable();
    epoch.dedup();
    assert_eq!(epoch.len(), 10);
    assert_ne!(all[0].3[0], all[0].3[1]);
    assert!(all[0].3[0].iter().all(|v| v.is_finite() && v.abs() < 3.0));
}

#[test]
fn a_small_set_fills_its_batch_by_repeating() {
    let tree = Tree::new();
    let set = Arc::new(tree.open("set#test").unwrap());
    let mut loader = TrainLoader::new(set, options(6)).unwrap();
    let batch = loader.next().unwrap();
    assert_eq!((batch.indices.len(), loader.steps_per_epoch()), (6, 1));
    assert_eq!(batch.indices[..2], batch.indices[4..]);
}

fn spoil(path: &Path) {
    fs::write(path, b"\xFF\xD8\xFF\xE0 no jpeg").unwrap();
}

#[test]
fn unreadable_images_are_replaced_and_counted() {
    let tree = Tree::new();
    for i in 0..4 {
        spoil(&tree.path(&format!("set/train/cat/{i}.png")));
    }
    // Nothing lies under the name that stands for one that is not UTF-8.
    let name = std::ffi::OsStr::from_bytes(b"4\xff.png");
    fs::rename(tree.path("set/train/cat/4.png"), tree.path("set/train/cat").join(name)).unwrap();
    let set = Arc::new(tree.open("set#train").unwrap());
    let take = |deliver, workers| {
        let o = LoaderOptions { deliver, workers, ..options(12) };
        let mut loader = TrainLoader::new(set.clone(), o).unwrap();
        let indices: Vec<_> = (0..3).map(|_| loader.next().unwrap().indices).collect();
        let said = loader.replaced();
        assert!(
            said.len() == 5 && said.iter().any(|line| line.contains("cat/4\u{fffd}.png")),
            "{said:?}"
        );
        indices
    };
    let indices = take(Deliver::Views, 1);
    assert!(indices.iter().flatten().all(|&i| i >= 5));
    assert_eq!(indices, take(Deliver::Views, 2));
    assert_eq!(indices, take(Deliver::Decoded, 2));
    let stop = LoaderOptions { on_corrupt: OnCorrupt::Stop, ..options(12) };
    kind_of(TrainLoader::new(set.clone(), stop).unwrap().next(), "on_corrupt");
    let all: Vec<usize> = (0..12).collect();
    let shown: Vec<usize> = eval_batches(set, &all, &Input::rgb(16), 12, 2)
        .unwrap()
        .flat_map(|b| b.unwrap().indices)
        .collect();
    assert_eq!(shown[5..], all[5..]);
    assert!(shown[..5].iter().all(|&i| i >= 5));
}

#[test]
fn too_many_unreadable_images_stop_the_run() {
    let tree = Tree::new();
    for class in ["cat", "dog"] {
        for i in 0..6 {
            spoil(&tree.path(&format!("set/train/{class}/{i}.png")));
        }
    }
    let mut loader =
        TrainLoader::new(Arc::new(tree.open("set#train").unwrap()), options(4)).unwrap();
    let e = std::iter::repeat_with(|| loader.next()).take(9).find_map(Result::err);
    // All twelve may be known to be bad before the eleventh is one too many.
    let said = e.unwrap().to_string();
    assert!(said.contains("max_corrupt") || said.contains("none of the 12"), "{said}");
    kind_of(loader.next(), "stopped");
    let few = Arc::new(tree.open("set/train/cat").unwrap());
    kind_of(TrainLoader::new(few, options(4)).unwrap().next(), "none of the 6");
}

#[test]
fn eval_takes_the_centre_in_order() {
    let tree = Tree::new();
    let set = Arc::new(tree.open("set").unwrap());
    let batches = eval_batches(set.clone(), &[3, 1, 1, 7, 0], &Input::rgb(16), 2, 2).unwrap();
    assert_eq!(batches.batches(), 3);
    let all: Vec<EvalBatch> = batches.map(Result::unwrap).collect();
    let indices: Vec<_> = all.iter().map(|b| b.indices.clone()).collect();
    assert_eq!(indices, [vec![3, 1], vec![1, 7], vec![0]]);
    assert_eq!(all[0].x[16 * 16 * 3..], all[1].x[..16 * 16 * 3]);
    assert_eq!(all[2].x.len(), 16 * 16 * 3);
    // An image of the right size stays as it is.
    fs::create_dir(tree.path("exact")).unwrap();
    fs::write(tree.path("exact/a.png"), png(16, 16, 3)).unwrap();
    let exact = Arc::new(tree.open("exact").unwrap());
    let image = exact.load(0).unwrap();
    let x = eval_batches(exact, &[0], &Input::rgb(16), 1, 1).unwrap().next().unwrap().unwrap().x;
    for (i, v) in image.rgb.iter().enumerate() {
        let expected = (f32::from(*v) / 255.0 - IMAGENET_MEAN[i % 3]) / IMAGENET_STD[i % 3];
        assert!((x[i] - expected).abs() < 1e-6, "{} {expected}", x[i]);
    }
    assert_eq!(eval_batches(set, &[99], &Input::rgb(16), 2, 2).err().unwrap().kind(), Kind::Usage);
}
