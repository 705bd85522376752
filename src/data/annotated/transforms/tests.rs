use super::*;
use crate::geometry::polygon::rasterise;

/// An image whose pixels tell where they are.
fn image(width: usize, height: usize) -> Image {
    let pixel = |i: usize| [(i % width) as u8, (i / width) as u8, 7];
    Image { width, height, rgb: (0..width * height).flat_map(pixel).collect() }
}

fn sample() -> Sample {
    let xy = vec![10.0, 6.0, 30.0, 6.0, 30.0, 20.0, 10.0, 20.0];
    let rle = rasterise(&xy, 30, 40).unwrap();
    let bbox = BBox { x: 10.0, y: 6.0, w: 20.0, h: 14.0 };
    let target = |mask| Target { bbox, class: 1, mask: Some(mask) };
    let targets = vec![target(Mask::Polygons(vec![xy])), target(Mask::Rle(rle))];
    Sample { image: image(40, 30), targets }
}

/// Both masks of [`sample`] are those of this box.
fn expect_box(sample: &Sample, [x, y, w, h]: [f64; 4]) {
    for target in &sample.targets {
        assert_eq!(target.bbox, BBox { x, y, w, h });
        let pixels = match target.mask.as_ref().unwrap() {
            Mask::Rle(rle) => rle.clone(),
            Mask::Polygons(polygons) => {
                let (h, w) = (sample.image.height as u32, sample.image.width as u32);
                rasterise(&polygons[0], h, w).unwrap()
            }
        };
        assert_eq!(pixels.bbox(), target.bbox);
        assert_eq!(pixels.area() as f64, target.bbox.area());
    }
}

#[test]
fn boxes_and_masks_follow_their_image() {
    let mut moved = sample();
    moved.flip().unwrap();
    expect_box(&moved, [10.0, 6.0, 20.0, 14.0]);
    assert_eq!(moved.image.rgb[..6], [39, 0, 7, 38, 0, 7]);
    moved.targets[0].bbox.x = 12.0;
    moved.flip().unwrap();
    assert_eq!(moved.targets[0].bbox.x, 8.0);
    assert_eq!(moved.image, sample().image);

    let mut moved = sample();
    moved.resize([80, 90]).unwrap();
    assert_eq!((moved.image.width, moved.image.height), (80, 90));
    expect_box(&moved, [20.0, 18.0, 40.0, 42.0]);
    moved.flip().unwrap();
    moved.resize([40, 30]).unwrap();
    expect_box(&moved, [10.0, 6.0, 20.0, 14.0]);
}

#[test]
fn views_are_functions_of_seed_and_position() {
    let views = DetectionViews { short: vec![30, 60, 90], longest: 100, flip_p: 0.5 };
    let (mut sizes, mut flips) = (vec![], 0);
    for position in 0..200 {
        let (size, flip) = views.draw([40, 30], 1, position);
        assert_eq!((size, flip), views.draw([40, 30], 1, position));
        sizes.push(size);
        flips += u32::from(flip);
    }
    for size in [[40, 30], [80, 60], [100, 75]] {
        let count = sizes.iter().filter(|s| **s == size).count();
        assert!((45..90).contains(&count), "{size:?}: {count}");
    }
    assert!((80..120).contains(&flips), "{flips}");
    let mut varied = sample();
    views.apply(&mut varied, 1, 3).unwrap();
    let ([width, _], _) = views.draw([40, 30], 1, 3);
    assert_eq!(varied.image.width, width);
    let scale = width as f64 / 40.0;
    expect_box(&varied, [10.0, 6.0, 20.0, 14.0].map(|v| v * scale));
}

#[test]
fn sizes_are_rounded_as_there() {
    for (size, short, expected) in [
        ([640, 480], 800, [1067, 800]),
        ([375, 500], 480, [480, 640]),
        ([2000, 500], 800, [1333, 333]),
        ([500, 2000], 800, [333, 1333]),
        ([5000, 1], 800, [1333, 1]),
    ] {
        assert_eq!(shortest_edge(size, short, 1333), expected);
    }
    assert_eq!(fitted([2048, 1024], [2049, 1025]), [2049, 1025]);
    assert_eq!(fitted([500, 375], [512, 2048]), [683, 512]);
}

#[test]
fn crowds_go_and_boxes_are_cut_off() {
    let text = r#"{"images": [{"id": 1, "width": 40, "height": 30}], "categories": [{"id": 3, "name": "a"}],
        "annotations": [
        {"image_id": 1, "category_id": 3, "bbox": [-5, 10, 20, 40], "segmentation": [[0, 0, 9, 0, 9, 9]]},
        {"image_id": 1, "category_id": 3, "bbox": [1, 1, 20, 4], "iscrowd": 1},
        {"image_id": 1, "category_id": 3, "bbox": [40, 1, 20, 4]},
        {"image_id": 1, "category_id": 3, "bbox": [1, 1, 0, 4]}]}"#;
    let objects = super::super::coco::parse(text.as_bytes(), "x").unwrap();
    let sample = Sample::new(image(40, 30), &objects, &objects.by_image()[0]).unwrap();
    let [target] = &sample.targets[..] else { panic!("{sample:?}") };
    assert_eq!(target.bbox, BBox { x: 0.0, y: 10.0, w: 15.0, h: 20.0 });
    assert_eq!(target.mask, Some(Mask::Polygons(vec![vec![0.0, 0.0, 9.0, 0.0, 9.0, 9.0]])));
    let e = Sample::new(image(41, 30), &objects, &[0]).unwrap_err().to_string();
    assert!(e.contains("masks of 30x41") && e.contains("one of 30x40"), "{e}");
}

fn views() -> SegmentationViews {
    SegmentationViews {
        size: [40, 30],
        scale: [1.0, 1.0],
        crop: [16, 12],
        most_of_class: 0.75,
        flip_p: 0.5,
        photometric: None,
    }
}

#[test]
fn crops_are_mixed_and_labels_stay_with_their_pixels() {
    // Class 1 in the right quarter, nothing in the top rows.
    let class = |i: usize| match (i % 40, i / 40) {
        (_, 0..5) => NO_CLASS,
        (30.., _) => 1,
        _ => 0,
    };
    let labels = LabelImage { width: 40, height: 30, labels: (0..1200).map(class).collect() };
    let (mut mixed, mut flips) = (0, 0);
    for position in 0..200 {
        let (image, found) = views().apply((image(40, 30), labels.clone()), 5, position);
        assert_eq!((image.width, image.height, found.width, found.height), (16, 12, 16, 12));
        for (pixel, label) in image.rgb.chunks_exact(3).zip(&found.labels) {
            assert_eq!(*label, class(usize::from(pixel[1]) * 40 + usize::from(pixel[0])));
        }
        let counts = [0, 1].map(|c| found.labels.iter().filter(|l| **l == c).count());
        mixed += usize::from(counts.iter().all(|c| 4 * c < 3 * (counts[0] + counts[1])));
        flips += usize::from(image.rgb[0] > image.rgb[3]);
    }
    // A third of all crops would be, by chance.
    assert!(mixed > 180, "{mixed}");
    assert!((80..120).contains(&flips), "{flips}");
    let small = SegmentationViews { size: [20, 10], scale: [0.5, 0.5], ..views() };
    let (image, found) = small.apply((image(40, 30), labels.clone()), 5, 0);
    assert_eq!((image.width, image.height, found.width, found.height), (7, 5, 7, 5));
}

#[test]
fn distortions_are_drawn_half_the_time_within_their_range() {
    let photometric = Photometric::default();
    let mut counts = [0; 5];
    for a in 0..400 {
        let d = photometric.draw(&mut Philox::new(2, Purpose::Photometric, a, 0));
        assert!(d.brightness.is_none_or(|b| b.abs() <= 32.0));
        assert!(d.contrast.iter().chain(&d.saturation).all(|f| (0.5..=1.5).contains(f)));
        assert!(d.hue.is_none_or(|h| (-18..18).contains(&h)));
        let happens = [d.brightness.is_some(), d.contrast.is_some(), d.saturation.is_some()];
        let happens = happens.into_iter().chain([d.hue.is_some(), d.contrast_last]);
        counts.iter_mut().zip(happens).for_each(|(count, yes)| *count += i32::from(yes));
    }
    assert!(counts.iter().all(|c| (160..240).contains(c)), "{counts:?}");
    let mut same = image(9, 9);
    Distortion::default().apply(&mut same);
    assert_eq!(same, image(9, 9));
}

#[test]
fn padding_is_nothing() {
    let normalise = crate::data::Normalise::new(&[0.5; 3], &[0.25; 3]);
    let image = Image { width: 2, height: 1, rgb: vec![0, 255, 0, 255, 0, 255] };
    let mut out = vec![9.0; 18];
    normalise_padded(&image, &normalise, 3, &mut out);
    let expected = [-2.0, 2.0, -2.0, 2.0, -2.0, 2.0];
    assert!(out[..6].iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-6), "{out:?}");
    assert_eq!(out[6..], [0.0; 12]);
}
