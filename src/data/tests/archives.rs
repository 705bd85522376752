//! Archives that are strange or made to do harm.

use std::fs::{self, File};

use super::super::hostile::{archive, compress, names, open_within};
use super::super::limits::{UNPACKED_BYTES, ZSTD_WINDOW_LOG};
use super::*;

#[test]
fn links_in_archives_are_the_images_they_point_at() {
    use tar::EntryType::{Link, Symlink};
    let tree = Tree::new();
    let (one, two) = (png(5, 4, 1), png(6, 4, 2));
    let files: &[(&str, &[u8])] =
        &[("blobs/aa", &one), ("blobs/bb.png", &two), ("notes.txt", b"no image")];
    let links = [
        ("train/cat/0.png", Link, "blobs/aa"),
        ("train/cat/1.png", Link, "train/cat/0.png"),
        ("train/dog/0.png", Symlink, "../../blobs/bb.png"),
        ("train/dog/1.png", Symlink, "./0.png"),
        ("train/dog/2.png", Symlink, "/etc/passwd"),
        ("train/dog/3.png", Symlink, "3.png"),
        ("train/dog/4.png", Link, "nowhere.png"),
        ("train/dog/5.png", Symlink, "../../../../x.png"),
        ("train/dog/all", Symlink, "../cat"),
        ("train/notes", Link, "notes.txt"),
    ];
    archive(&tree.path("x.tar"), files, &links);
    compress(&tree.path("x.tar"), &tree.path("x.tar.zst"));
    for name in ["x.tar", "x.tar.zst"] {
        let set = tree.open(&format!("{name}#train")).unwrap();
        let widths: Vec<usize> =
            (0..set.len()).map(|i| set.load(i).map_or(0, |image| image.width)).collect();
        assert_eq!(widths, [5, 5, 6, 6, 0, 0, 0, 0], "{:?}", names(&set));
        assert_eq!(set.classes(), ["cat", "dog"]);
        assert_eq!((set.label(1), set.label(3), set.other_files()), (Some(0), Some(1), 2));
        kind_of(set.load(4), "a link to something that is not in the archive");
        assert_eq!(tree.open(name).unwrap().len(), 10);
    }
}

#[test]
fn members_that_are_no_plain_files_count() {
    let tree = Tree::new();
    let mut tar = tar::Builder::new(File::create(tree.path("x.tar")).unwrap());
    for (name, kind) in [("a.png", tar::EntryType::Fifo), ("b.jpg", tar::EntryType::Char)] {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_size(0);
        tar.append_data(&mut header, name, &[][..]).unwrap();
    }
    let mut header = tar::Header::new_gnu();
    header.set_size(4);
    tar.append_data(&mut header, "c.png", &b"none"[..]).unwrap();
    tar.finish().unwrap();
    let set = tree.open("x.tar").unwrap();
    assert_eq!(names(&set), ["a.png", "b.jpg", "c.png"]);
    kind_of(set.load(0), "another kind of member");
}

#[test]
fn compressed_archives_are_unpacked_within_limits() {
    let tree = Tree::new();
    let zeros = vec![0; 40 << 20];
    archive(&tree.path("x.tar"), &[("a.png", &png(5, 5, 1)), ("b.png", &zeros)], &[]);
    compress(&tree.path("x.tar"), &tree.path("x.tar.zst"));
    assert!(fs::metadata(tree.path("x.tar.zst")).unwrap().len() < 10_000);
    let within = |unpacked_bytes| {
        open_within(&tree, "x.tar.zst", Limits { unpacked_bytes, ..Limits::default() })
    };
    kind_of(within(32 << 20), UNPACKED_BYTES);
    assert_eq!(within(64 << 20).unwrap().len(), 2);
    // Several archives share the limit.
    let both = ["x.tar.zst", "x.tar.zst"].map(|n| tree.path(n).to_str().unwrap().to_owned());
    let limits = Limits { unpacked_bytes: 64 << 20, ..Limits::default() };
    kind_of(Dataset::open_within(&both, limits), "unpack it once");
    // A member of no use counts as well.
    archive(&tree.path("x.tar"), &[("a.png", &png(5, 5, 1)), ("b.txt", &zeros)], &[]);
    compress(&tree.path("x.tar"), &tree.path("x.tar.zst"));
    kind_of(within(32 << 20), UNPACKED_BYTES);

    let mut encoder = zstd::stream::Encoder::new(Vec::new(), 1).unwrap();
    encoder.window_log(28).unwrap();
    std::io::copy(&mut File::open(tree.path("x.tar")).unwrap(), &mut encoder).unwrap();
    fs::write(tree.path("x.tar.zst"), encoder.finish().unwrap()).unwrap();
    kind_of(tree.open("x.tar.zst"), ZSTD_WINDOW_LOG);
    let limits = Limits { zstd_window_log: 28, ..Limits::default() };
    assert_eq!(open_within(&tree, "x.tar.zst", limits).unwrap().len(), 1);
}

#[test]
fn names_of_members_are_read_within_limits() {
    let tree = Tree::new();
    let mut tar = tar::Builder::new(File::create(tree.path("x.tar")).unwrap());
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::GNULongName);
    header.set_size(100 << 20);
    header.set_cksum();
    tar.append(&header, std::io::Read::take(std::io::repeat(b'a'), 100 << 20)).unwrap();
    let bytes = png(5, 5, 1);
    let mut header = tar::Header::new_gnu();
    header.set_size(bytes.len() as u64);
    tar.append_data(&mut header, "a.png", &bytes[..]).unwrap();
    tar.finish().unwrap();
    compress(&tree.path("x.tar"), &tree.path("x.tar.zst"));
    for name in ["x.tar", "x.tar.zst"] {
        kind_of(tree.open(name), "names or of zeros between two members");
    }
}
