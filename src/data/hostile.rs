//! Data sets that are damaged, strange or made to do harm.

use std::ffi::CString;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::path::Path;
use std::sync::Arc;

use super::limits::{DECODE_BYTES, FILE_BYTES, PIXELS};
use super::tests::{Tree, kind_of, options, png, survey_all};
use super::*;

pub(super) fn open_within(tree: &Tree, name: &str, limits: Limits) -> crate::Result<Dataset> {
    Dataset::open_within(&[tree.path(name).to_str().unwrap().to_owned()], limits)
}

pub(super) fn names(set: &Dataset) -> Vec<String> {
    (0..set.len()).map(|i| set.name(i)).collect()
}

/// Writes an archive: names with their contents, or with the kind of a link and its target.
pub(super) fn archive(
    path: &Path,
    files: &[(&str, &[u8])],
    links: &[(&str, tar::EntryType, &str)],
) {
    let mut tar = tar::Builder::new(File::create(path).unwrap());
    for (name, bytes) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, name, *bytes).unwrap();
    }
    for (name, kind, target) in links {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(*kind);
        header.set_size(0);
        tar.append_link(&mut header, name, target).unwrap();
    }
    tar.finish().unwrap();
}

pub(super) fn compress(from: &Path, to: &Path) {
    fs::write(to, zstd::encode_all(File::open(from).unwrap(), 1).unwrap()).unwrap();
}

fn fifo(path: &Path) {
    let name = CString::new(path.as_os_str().as_bytes()).unwrap();
    // SAFETY: the name ends with a zero byte.
    assert_eq!(unsafe { libc::mkfifo(name.as_ptr(), 0o600) }, 0);
}

fn record(label: u8) -> Vec<u8> {
    [&[label][..], &[label.wrapping_mul(20); 3072]].concat()
}

#[test]
fn damaged_cifar_files_are_never_passed_over() {
    let tree = Tree::new();
    let dir = tree.path("cifar");
    fs::create_dir(&dir).unwrap();
    let whole: Vec<u8> = (0..20).flat_map(|i| record(i % 10)).collect();
    let write = |name: &str, bytes: &[u8]| fs::write(dir.join(name), bytes).unwrap();
    write("data_batch_1.bin", &whole);
    assert_eq!(tree.open("cifar").unwrap().len(), 20);
    // One byte short: the last record cannot be read, the others can.
    write("data_batch_1.bin", &whole[..whole.len() - 1]);
    let set = tree.open("cifar").unwrap();
    assert_eq!((set.len(), set.classes().len(), set.label(19)), (20, 10, None));
    assert!((0..19).all(|i| set.load(i).is_ok()));
    kind_of(set.load(19), "cut short");
    // One byte too many, under any name.
    write("data_batch_1.bin", &[&whole[..], &[0]].concat());
    assert_eq!(tree.open("cifar").unwrap().len(), 21);
    fs::rename(dir.join("data_batch_1.bin"), dir.join("mine.bin")).unwrap();
    let set = tree.open("cifar").unwrap();
    assert_eq!((set.len(), set.load(20).is_err()), (21, true));
    fs::remove_file(dir.join("mine.bin")).unwrap();
    // A label out of range.
    let mut bad = whole.clone();
    bad[3 * 3073] = 77;
    write("test_batch.bin", &bad);
    let set = tree.open("cifar").unwrap();
    assert_eq!((set.len(), set.label(3), set.label(4)), (20, None, Some(4)));
    kind_of(set.load(3), "label is out of range");
    archive(&tree.path("c.tar"), &[("test_batch.bin", &bad)], &[]);
    compress(&tree.path("c.tar"), &tree.path("c.tar.zst"));
    for name in ["c.tar", "c.tar.zst", "cifar/test_batch.bin"] {
        let set = tree.open(name).unwrap();
        assert_eq!((set.len(), set.load(3).is_err(), set.load(5).is_ok()), (20, true, true));
    }
    // Nothing but the name says that it is one.
    write("test_batch.bin", b"");
    kind_of(tree.open("cifar").unwrap().load(0), "cut short");
    write("test_batch.bin", &[200; 9000]);
    let set = Arc::new(tree.open("cifar").unwrap());
    assert_eq!(set.len(), 3);
    kind_of(TrainLoader::new(set, options(2)).unwrap().next(), "none of the 3");
    // Another file that ends in .bin is none of them.
    fs::rename(dir.join("test_batch.bin"), dir.join("weights.bin")).unwrap();
    kind_of(tree.open("cifar"), "weights.bin");
    // CIFAR-100: the name decides where labels do not.
    let fine = [&[9u8, 40][..], &[0; 3072]].concat();
    write("train.bin", &[&fine[..], &fine, &fine[..100]].concat());
    let set = tree.open("cifar/train.bin").unwrap();
    assert_eq!((set.len(), set.classes()), (3, &["40".to_owned()][..]));
}

#[test]
fn archives_beside_images_are_refused() {
    let tree = Tree::new();
    let shard = tree.tar("x.tar");
    fs::rename(shard, tree.path("set/x.tar")).unwrap();
    kind_of(tree.open("set"), "16 images, CIFAR or IDX files and 1 archives");
    assert_eq!(tree.open("set#train").unwrap().len(), 12);
    assert_eq!(tree.open("set/x.tar").unwrap().len(), 16);
}

#[test]
fn only_regular_files_are_opened() {
    let tree = Tree::new();
    let set = tree.path("set/train");
    fifo(&set.join("cat/pipe.png"));
    fifo(&set.join("cat/pipe"));
    symlink("/dev/zero", set.join("dog/zero.png")).unwrap();
    symlink("nowhere", set.join("dog/dangling.jpg")).unwrap();
    symlink("nowhere", set.join("dog/dangling.txt")).unwrap();
    let opened = tree.open("set/train").unwrap();
    assert_eq!((opened.len(), opened.other_files()), (15, 2));
    let unreadable: Vec<String> =
        (0..15).filter_map(|i| opened.load(i).err().map(|e| e.to_string())).collect();
    for words in ["pipe.png: expected a regular file, found a pipe", "zero.png: ", "dangling.jpg: "]
    {
        assert!(unreadable.iter().any(|e| e.contains(words)), "{words}: {unreadable:?}");
    }
    assert_eq!(unreadable.len(), 3);
    fifo(&tree.path("list.txt"));
    kind_of(tree.open("list.txt"), "found a pipe");
    kind_of(tree.open("set/train/cat/pipe.png"), "found a pipe");
    symlink("/dev/zero", tree.path("endless")).unwrap();
    kind_of(tree.open("endless"), "found a device");
    fs::create_dir(tree.path("shards")).unwrap();
    fifo(&tree.path("shards/0.tar"));
    kind_of(tree.open("shards"), "found a pipe");
}

#[test]
fn folders_that_cannot_be_read_say_so() {
    as_nobody(closed_folders);
}

/// Runs a test as somebody to whom folders can be closed: they never are to the superuser.
fn as_nobody(test: impl FnOnce() + Send) {
    const NOBODY: libc::uid_t = 65_534;
    let run = || {
        // SAFETY: neither takes a pointer. The system call changes this thread alone.
        unsafe {
            if libc::geteuid() == 0 {
                assert_eq!(libc::syscall(libc::SYS_setresuid, NOBODY, NOBODY, NOBODY), 0);
            }
        }
        test();
    };
    let ended = std::thread::scope(|scope| scope.spawn(run).join());
    ended.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
}

fn closed_folders() {
    let tree = Tree::new();
    let closed = |name: &str| {
        let path = tree.path(name);
        fs::create_dir(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o000)).unwrap();
        path
    };
    let found = closed("set/lost+found");
    assert!(fs::read_dir(&found).is_err());
    assert_eq!(tree.open("set").unwrap().len(), 16);
    let mine = closed("set/train/mine");
    kind_of(tree.open("set"), "make it readable");
    // So that they can be removed.
    for path in [found, mine] {
        fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
    }
}

#[test]
fn files_are_read_within_limits() {
    let tree = Tree::new();
    let sparse = File::create(tree.path("set/train/cat/0.png")).unwrap();
    sparse.set_len(3 << 40).unwrap();
    let set = tree.open("set#train").unwrap();
    kind_of(set.load(0), FILE_BYTES);
    assert!(set.load(1).is_ok());
    let small = Limits { file_bytes: 100, ..Limits::default() };
    let set = open_within(&tree, "set#train", small.clone()).unwrap();
    kind_of(set.load(1), FILE_BYTES);
    fs::write(tree.path("list.txt"), "set/train/cat/1.png\n".repeat(10)).unwrap();
    kind_of(open_within(&tree, "list.txt", small.clone()), FILE_BYTES);
    fs::remove_file(tree.path("set/train/cat/0.png")).unwrap();
    tree.tar("x.tar");
    let set = open_within(&tree, "x.tar", small.clone()).unwrap();
    assert_eq!(set.len(), 15);
    kind_of(set.load(1), FILE_BYTES);
    let whole = tree.open("set/test").unwrap();
    pack::write(&whole, &tree.path("x.pack"), pack::Form::default(), CorruptPolicy::default())
        .unwrap();
    kind_of(open_within(&tree, "x.pack", small), FILE_BYTES);
    let set = open_within(&tree, "set/test", Limits { pixels: 1000, ..Limits::default() }).unwrap();
    kind_of(set.load(0), PIXELS);
}

#[test]
fn decoding_waits_for_memory_and_names_what_never_fits() {
    let dir = tempfile::tempdir().unwrap();
    let deep = ::image::ImageBuffer::from_pixel(500, 400, ::image::Rgba([9u16; 4]));
    for i in 0..8 {
        ::image::DynamicImage::from(deep.clone())
            .save(dir.path().join(format!("{i}.png")))
            .unwrap();
    }
    let paths = [dir.path().to_str().unwrap().to_owned()];
    let open = |decode_bytes| {
        Dataset::open_within(&paths, Limits { decode_bytes, ..Limits::default() }).unwrap()
    };
    kind_of(open(2_000_000).load(0), DECODE_BYTES);
    // Eleven bytes a pixel and a little more: one at a time, whatever the threads.
    let set = Arc::new(open(3_000_000));
    let o = LoaderOptions { workers: 4, ..options(4) };
    let mut loader = TrainLoader::new(set.clone(), o.clone()).unwrap();
    for _ in 0..4 {
        loader.next().unwrap();
    }
    let batches =
        eval_batches(set.clone(), &[0, 1, 2, 3, 4, 5, 6, 7], &Input::rgb(16), 8, 4).unwrap();
    assert!(batches.into_iter().all(|b| b.is_ok()));
    // Batches of images hold more than that, up to a limit of their own.
    let o = LoaderOptions { deliver: Deliver::Decoded, ..o };
    TrainLoader::new(set, o.clone()).unwrap().next().unwrap();
    let limits = Limits { batch_bytes: 2_000_000, ..Limits::default() };
    let set = Arc::new(Dataset::open_within(&paths, limits).unwrap());
    kind_of(TrainLoader::new(set, o).unwrap().next(), "ENGINE_MAX_BATCH_BYTES");
}

#[test]
fn lists_of_images_stay_within_limits() {
    let tree = Tree::new();
    tree.tar("x.tar");
    compress(&tree.path("x.tar"), &tree.path("x.tar.zst"));
    fs::write(tree.path("list.txt"), "set/train/cat/1.png\n".repeat(16)).unwrap();
    let set = tree.open("set").unwrap();
    pack::write(&set, &tree.path("x.pack"), pack::Form::default(), CorruptPolicy::default())
        .unwrap();
    fs::write(tree.path("test.bin"), record(3).repeat(16)).unwrap();
    for name in ["set", "x.tar", "x.tar.zst", "list.txt", "x.pack", "test.bin"] {
        let within = |images| open_within(&tree, name, Limits { images, ..Limits::default() });
        assert_eq!(within(16).unwrap().len(), 16, "{name}");
        kind_of(within(15), "ENGINE_MAX_IMAGES");
    }
}

#[test]
fn files_that_are_shortened_meanwhile_are_errors() {
    let tree = Tree::new();
    let path = tree.tar("x.tar");
    let set = Arc::new(tree.open("x.tar#train").unwrap());
    let mut loader = TrainLoader::new(set.clone(), options(4)).unwrap();
    loader.next().unwrap();
    File::options().write(true).open(&path).unwrap().set_len(1000).unwrap();
    kind_of(set.load(11), "has become shorter");
    let failed = std::iter::repeat_with(|| loader.next()).take(20).find_map(Result::err);
    assert_eq!(failed.unwrap().kind(), crate::Kind::Data);
    // Of many archives most are opened for each image.
    fs::create_dir(tree.path("shards")).unwrap();
    let one = png(5, 5, 1);
    for i in 0..300 {
        archive(&tree.path(&format!("shards/{i:03}.tar")), &[("a.png", &one)], &[]);
    }
    let set = tree.open("shards").unwrap();
    assert_eq!(set.len(), 300);
    assert!((0..300).all(|i| set.load(i).is_ok()));
    let last = tree.path("shards/299.tar");
    let later = std::time::SystemTime::now() + std::time::Duration::from_secs(9);
    File::options().write(true).open(&last).unwrap().set_modified(later).unwrap();
    kind_of(set.load(299), "changed since it was opened");
    fs::remove_file(&last).unwrap();
    kind_of(set.load(299), "299.tar");
}

#[test]
fn digests_follow_contents_and_not_places() {
    let tree = Tree::new();
    let digest = |name: &str| tree.open(name).unwrap().digest().unwrap();
    let first = digest("set");
    assert_eq!((first.len(), &first), (64, &digest("set")));
    tree.tar("x.tar");
    assert_eq!(first, digest("x.tar"));
    fs::rename(tree.path("set"), tree.path("moved")).unwrap();
    assert_eq!(first, digest("moved"));
    let one = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
    assert_eq!(first, one.install(|| digest("moved")));
    let file = tree.path("moved/train/cat/3.png");
    let bytes = fs::read(&file).unwrap();
    fs::write(&file, png(9, 9, 9)).unwrap();
    let other = digest("moved");
    assert_ne!(first, other);
    fs::remove_file(&file).unwrap();
    symlink("nowhere", &file).unwrap();
    let unreadable = digest("moved");
    assert!(unreadable != first && unreadable != other);
    fs::remove_file(&file).unwrap();
    fs::write(tree.path("moved/train/cat/3b.png"), &bytes).unwrap();
    assert_ne!(first, digest("moved"));
    fs::rename(tree.path("moved/train/cat/3b.png"), &file).unwrap();
    assert_eq!(first, digest("moved"));
}

#[test]
fn of_large_sets_a_sample_enters_the_digest() {
    let tree = Tree::new();
    let dir = tree.path("large");
    fs::create_dir(&dir).unwrap();
    // 1024 sparse files of 100 kB.
    for i in 0..1024 {
        File::create(dir.join(format!("{i:04}.png"))).unwrap().set_len(100_000).unwrap();
    }
    let digest = || tree.open("large").unwrap().digest().unwrap();
    let first = digest();
    let change = |i: usize| {
        let file = File::options().write(true).open(dir.join(format!("{i:04}.png"))).unwrap();
        file.write_all_at(b"x", 50_000).unwrap();
    };
    change(1);
    assert_eq!(first, digest());
    change(2);
    assert_ne!(first, digest());
}

#[test]
fn names_are_printable_in_messages_and_whole_elsewhere() {
    let tree = Tree::new();
    let name = "a\x1b[2J\nerror: b\u{202e}.png";
    fs::write(tree.path("set/train").join(name), "no image").unwrap();
    let set = tree.open("set/train").unwrap();
    assert_eq!(set.name(0), name);
    let e = set.load(0).unwrap_err().to_string();
    assert!(e.contains(r"a\x1b[2J\nerror: b\u{202e}.png: not an image"), "{e}");
    assert!(!e.contains(['\x1b', '\n', '\u{202e}']), "{e}");
    let survey = survey_all(&set);
    assert!(survey.corrupt[0].file.ends_with(name));
}
