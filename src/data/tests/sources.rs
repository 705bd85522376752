//! What a path holds.

use std::fs;

use super::*;

#[test]
fn every_container_holds_the_same_images() {
    let tree = Tree::new();
    let folder = tree.open("set#train").unwrap();
    assert_eq!((folder.len(), folder.classes()), (12, &["cat".to_owned(), "dog".to_owned()][..]));
    assert_eq!((folder.name(0).as_str(), folder.label(0)), ("train/cat/0.png", Some(0)));
    same(&folder, &tree.open("set/train").unwrap(), "train/");

    let tar = tree.tar("set.tar");
    same(&folder, &tree.open("set.tar#train").unwrap(), "");
    let packed = zstd::encode_all(&fs::read(&tar).unwrap()[..], 1).unwrap();
    fs::write(tree.path("set.tar.zst"), packed).unwrap();
    same(&folder, &tree.open("set.tar.zst#train").unwrap(), "");
    let whole = tree.open("set").unwrap();
    assert_eq!((whole.len(), whole.classes().len(), whole.other_files()), (16, 2, 1));
    same(&whole, &tree.open("set.tar.zst").unwrap(), "");

    let pack = tree.path("set.pack");
    let packed =
        pack::write(&whole, &pack, pack::Form::default(), CorruptPolicy::default()).unwrap();
    assert_eq!((packed.images, packed.corrupt, packed.resized), (16, 0, 0));
    assert_eq!(packed.bytes, fs::metadata(&pack).unwrap().len());
    same(&whole, &tree.open("set.pack").unwrap(), "");
    same(&folder, &tree.open("set.pack#train").unwrap(), "");

    let lines: String = (0..folder.len()).map(|i| format!("set/{}\n", folder.name(i))).collect();
    fs::write(tree.path("list.txt"), lines).unwrap();
    same(&folder, &tree.open("list.txt").unwrap(), "set/");

    let one = tree.open("set/train/dog/3.png").unwrap();
    assert_eq!((one.len(), one.classes().len(), one.label(0)), (1, 0, None));
}

#[test]
fn shards_are_one_data_set() {
    let tree = Tree::new();
    fs::create_dir(tree.path("shards")).unwrap();
    for (i, class) in ["cat", "dog"].iter().enumerate() {
        let file = fs::File::create(tree.path(&format!("shards/{i}.tar"))).unwrap();
        let mut tar = tar::Builder::new(file);
        tar.append_dir_all(class, tree.path("set/train").join(class)).unwrap();
        tar.finish().unwrap();
    }
    let folder = tree.open("set/train").unwrap();
    same(&folder, &tree.open("shards").unwrap(), "");
    let both = ["shards/0.tar", "shards/1.tar"].map(|s| tree.path(s).to_str().unwrap().to_owned());
    same(&folder, &Dataset::open(&both).unwrap(), "");
}

#[test]
fn cifar_binary_files_are_recognised() {
    let tree = Tree::new();
    let dir = tree.path("cifar");
    fs::create_dir(&dir).unwrap();
    let record = |label: u8| {
        let mut r = vec![label];
        r.extend((0..3072).map(|i| (i / 1024 * 80 + i % 7) as u8));
        r
    };
    fs::write(dir.join("data_batch_1.bin"), [record(3), record(9)].concat()).unwrap();
    fs::write(dir.join("test_batch.bin"), record(3)).unwrap();
    let train = tree.open("cifar#train").unwrap();
    assert_eq!((train.len(), train.name(1).as_str()), (2, "train/data_batch_1.bin/00001"));
    assert_eq!(train.classes(), ["cat", "truck"]);
    let image = train.load(0).unwrap();
    assert_eq!((image.width, image.height, &image.rgb[3..6]), (32, 32, &[1, 83, 165][..]));
    assert_eq!(tree.open("cifar").unwrap().len(), 3);
    let mut tar = tar::Builder::new(fs::File::create(tree.path("c.tar")).unwrap());
    tar.append_dir_all("cifar", &dir).unwrap();
    tar.finish().unwrap();
    assert_eq!(tree.open("c.tar").unwrap().len(), 3);
    let pack = tree.path("c.pack");
    pack::write(&train, &pack, pack::Form::default(), CorruptPolicy::default()).unwrap();
    same(&train, &tree.open("c.pack").unwrap(), "");
    let mut test = tree.open("cifar#test").unwrap();
    assert_eq!(test.label(0), Some(0));
    test.relabel(&["bird".into(), "cat".into()]).unwrap();
    assert_eq!(test.label(0), Some(1));
    kind_of(test.relabel(&["bird".into()]), "\"cat\"");
}

#[test]
fn sources_that_cannot_be_used_say_why() {
    let tree = Tree::new();
    fs::create_dir(tree.path("empty")).unwrap();
    kind_of(tree.open("empty"), "no image in");
    kind_of(tree.open("nowhere"), "cannot read");
    kind_of(tree.open("set#trian"), "test, train");
    fs::write(tree.path("x.txt"), "set/train/cat/77.png\n").unwrap();
    kind_of(tree.open("x.txt"), "77.png");
    fs::write(tree.path("x.tgz"), [0x1F, 0x8B, 8, 0]).unwrap();
    kind_of(tree.open("x.tgz"), "cut short");
    fs::write(tree.path("x.bin"), [7u8; 100].map(|_| 0u8)).unwrap();
    kind_of(tree.open("x.bin"), "is none of");
    fs::write(tree.path("nothing"), "").unwrap();
    kind_of(tree.open("nothing"), "is none of");
}

#[test]
fn archives_cut_anywhere_are_refused() {
    let tree = Tree::new();
    let bytes = fs::read(tree.tar("set.tar")).unwrap();
    let packed = zstd::encode_all(&bytes[..], 1).unwrap();
    for part in [0.2, 0.5, 0.7] {
        let cut = (bytes.len() as f64 * part) as usize / 512 * 512 + 100;
        fs::write(tree.path("cut.tar"), &bytes[..cut]).unwrap();
        kind_of(tree.open("cut.tar"), "cut short");
        fs::write(tree.path("cut.zst"), &packed[..(packed.len() as f64 * part) as usize]).unwrap();
        kind_of(tree.open("cut.zst"), "cut short");
    }
}

#[test]
fn packed_files_are_held_against_their_checksums() {
    let tree = Tree::new();
    let path = tree.path("set.pack");
    let set = tree.open("set").unwrap();
    pack::write(
        &set,
        &path,
        pack::Form { max_side: Some(20), channels: 3 },
        CorruptPolicy::default(),
    )
    .unwrap();
    let small = tree.open("set.pack").unwrap();
    let image = small.load(0).unwrap();
    assert_eq!(image.width.max(image.height), 20);
    let whole = fs::read(&path).unwrap();
    for cut in [10, 57, whole.len() / 2, whole.len() - 1] {
        fs::write(&path, &whole[..cut]).unwrap();
        kind_of(tree.open("set.pack"), "not a whole packed file");
    }
    let mut changed = whole.clone();
    let last = changed.len() - 60;
    changed[last] ^= 1;
    fs::write(&path, &changed).unwrap();
    kind_of(tree.open("set.pack"), "not a whole packed file");
    let mut changed = whole;
    changed[8 + 16 + 60] ^= 1;
    fs::write(&path, &changed).unwrap();
    kind_of(tree.open("set.pack").unwrap().load(0), "checksum");
}
