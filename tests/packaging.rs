//! Ways to install that no test can go: what they need is there.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// What `.dockerignore` lets through, which names everything by itself.
fn sent_to_docker() -> Vec<String> {
    let text = fs::read_to_string(Path::new(ROOT).join(".dockerignore")).unwrap();
    let mut lines = text.lines().filter(|line| !line.starts_with('#'));
    assert_eq!(lines.next(), Some("*"));
    lines.map(|line| line.strip_prefix('!').unwrap().to_owned()).collect()
}

/// Docker gets what the Dockerfile copies, and Cargo can read the package that it gets.
#[test]
fn the_dockerfile_has_what_it_copies() {
    let sent = sent_to_docker();
    let dockerfile = fs::read_to_string(Path::new(ROOT).join("Dockerfile")).unwrap();
    let copied: Vec<&str> = dockerfile
        .lines()
        .filter(|line| line.starts_with("COPY ") && !line.contains("--from="))
        .flat_map(|line| {
            line.split(' ').skip(1).collect::<Vec<_>>().split_last().unwrap().1.to_vec()
        })
        .filter(|source| *source != ".")
        .collect();
    assert!(!copied.is_empty());
    assert!(copied.iter().all(|source| sent.iter().any(|name| name == source)), "{copied:?}");
    let rust = env!("CARGO_PKG_RUST_VERSION");
    let pinned = dockerfile.split("--default-toolchain ").nth(1).unwrap();
    let minor = |version: &str| version.split('.').nth(1).unwrap().parse::<u32>().unwrap();
    assert!(minor(pinned) >= minor(rust), "{rust} is needed");

    let dir = tempfile::tempdir().unwrap();
    for name in &sent {
        let (from, to) = (Path::new(ROOT).join(name), dir.path().join(name));
        assert!(from.exists(), ".dockerignore: there is no {name}");
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        symlink(from, to).unwrap();
    }
    let metadata = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--offline", "--format-version", "1"])
        .current_dir(dir.path())
        .output()
        .unwrap();
    assert!(metadata.status.success(), "{}", String::from_utf8_lossy(&metadata.stderr));
}
