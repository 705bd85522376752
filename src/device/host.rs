//! The host's own memory and cores: how much this process may still take, and by what it is
//! bounded. Everything that plans or reports memory asks here.

use std::fmt;
use std::fs;
use std::path::{Component, Path, PathBuf};

/// Compute threads a core, at most: more of them only wait for each other.
const MOST_THREADS_A_CORE: usize = 4;

/// Memory that this process may still take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Available {
    /// How much, in bytes.
    pub bytes: usize,
    /// What bounds it.
    pub bound: Bound,
}

/// What bounds the memory of a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Bound {
    /// The machine's memory.
    Machine,
    /// A control group, a container's say: this one or one above it.
    Cgroup(PathBuf),
    /// `RLIMIT_AS`: addresses, whether used or not.
    AddressSpace,
    /// `RLIMIT_DATA`: private memory that can be written.
    Data,
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Machine => f.write_str("the machine's memory"),
            Self::Cgroup(dir) => write!(f, "the memory limit of cgroup {}", dir.display()),
            Self::AddressSpace => f.write_str("ulimit -v"),
            Self::Data => f.write_str("ulimit -d"),
        }
    }
}

/// Memory that this process may still take, where the system tells: the least of what the machine
/// has left, of the headroom of its cgroups (v1 and v2, all ancestors), and of what `ulimit -v`
/// and `ulimit -d` leave.
pub fn available() -> Option<Available> {
    System::here().available()
}

/// Bytes of [`available`].
pub fn available_bytes() -> Option<usize> {
    available().map(|a| a.bytes)
}

/// Memory of the machine, or of the container where that is less, in bytes.
pub fn total_bytes() -> Option<usize> {
    System::here().total_bytes()
}

/// Whether `ulimit` bounds addresses, of which each thread's arena takes many.
pub fn addresses_are_limited() -> bool {
    System::here().limit("Max address space").is_some()
}

/// Cores that this process may use.
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Name of the processor, as the system tells it; none where it does not.
pub fn cpu_model() -> Option<String> {
    let text = System::here().read("proc/cpuinfo")?;
    let (_, name) = text.lines().find_map(|l| l.strip_prefix("model name")?.split_once(':'))?;
    Some(name.trim().to_owned())
}

/// How many threads are started where so many are wanted: 0 means one a core, and more than four
/// a core are not. No environment variable has a say.
pub fn threads(wanted: usize) -> usize {
    match wanted {
        0 => cores(),
        n => n.min(MOST_THREADS_A_CORE * cores()),
    }
}

/// Where the system tells about memory: the files below a root, which tests make up.
struct System {
    root: PathBuf,
}

/// Names of a cgroup's files, in one of the two versions.
struct Names {
    limit: &'static str,
    usage: &'static str,
    /// Field of `memory.stat`: cached parts of files that nobody uses, which are given up first.
    reclaimable: &'static str,
}

const V2: Names =
    Names { limit: "memory.max", usage: "memory.current", reclaimable: "inactive_file" };
const V1: Names = Names {
    limit: "memory.limit_in_bytes",
    usage: "memory.usage_in_bytes",
    reclaimable: "total_inactive_file",
};

impl System {
    fn here() -> Self {
        Self { root: "/".into() }
    }

    fn read(&self, path: impl AsRef<Path>) -> Option<String> {
        fs::read_to_string(self.root.join(path)).ok()
    }

    /// A line of a file such as `/proc/meminfo`, in bytes.
    fn kib(&self, path: &str, name: &str) -> Option<usize> {
        let text = self.read(path)?;
        let line = text.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(':'))?;
        line.trim().strip_suffix("kB")?.trim().parse::<usize>().ok()?.checked_mul(1024)
    }

    /// A soft limit of the process; none where it is unlimited.
    fn limit(&self, name: &str) -> Option<usize> {
        let text = self.read("proc/self/limits")?;
        let line = text.lines().find_map(|l| l.strip_prefix(name))?;
        line.split_whitespace().next()?.parse().ok()
    }

    fn available(&self) -> Option<Available> {
        let one = |bytes: Option<usize>, bound| bytes.map(|bytes| Available { bytes, bound });
        let left = |limit: &str, used: &str| {
            let (limit, used) = (self.limit(limit)?, self.kib("proc/self/status", used)?);
            Some(limit.saturating_sub(used))
        };
        let machine = one(self.kib("proc/meminfo", "MemAvailable"), Bound::Machine);
        let addresses = one(left("Max address space", "VmSize"), Bound::AddressSpace);
        let data = one(left("Max data size", "VmData"), Bound::Data);
        let cgroups = self.cgroups().into_iter().map(|(dir, limit, used)| Available {
            bytes: limit.saturating_sub(used),
            bound: Bound::Cgroup(dir),
        });
        // Where two are equal the first is named.
        machine.into_iter().chain(cgroups).chain(addresses).chain(data).min_by_key(|a| a.bytes)
    }

    fn total_bytes(&self) -> Option<usize> {
        let cgroups = self.cgroups().into_iter().map(|(_, limit, _)| limit);
        self.kib("proc/meminfo", "MemTotal").into_iter().chain(cgroups).min()
    }

    /// The cgroups that bound memory, with limit and use in bytes: the process's own and all
    /// above it that can be seen from here.
    fn cgroups(&self) -> Vec<(PathBuf, usize, usize)> {
        let mut found = Vec::new();
        let own = self.read("proc/self/cgroup").unwrap_or_default();
        let mounts = self.read("proc/self/mountinfo").unwrap_or_default();
        for line in own.lines() {
            let mut fields = line.splitn(3, ':');
            let (Some(_), Some(controllers), Some(path)) =
                (fields.next(), fields.next(), fields.next())
            else {
                continue;
            };
            let is_v2 = controllers.is_empty();
            if !is_v2 && !controllers.split(',').any(|c| c == "memory") {
                continue;
            }
            let names = if is_v2 { &V2 } else { &V1 };
            let Some((root, mount)) = mounts.lines().find_map(|line| cgroup_mount(line, is_v2))
            else {
                continue;
            };
            // In a container the mount may show a part of the tree only.
            let below = Path::new(path).strip_prefix(&root).unwrap_or(Path::new(""));
            let seen = below.components().all(|c| matches!(c, Component::Normal(_)));
            let leaf = if seen { mount.join(below) } else { mount.clone() };
            for dir in leaf.ancestors().take_while(|dir| dir.starts_with(&mount)) {
                found.extend(self.cgroup(dir, names).map(|(l, u)| (dir.to_path_buf(), l, u)));
            }
        }
        found
    }

    /// Limit and use of one cgroup; none where it has no limit.
    fn cgroup(&self, dir: &Path, names: &Names) -> Option<(usize, usize)> {
        let dir = dir.strip_prefix("/").unwrap_or(dir);
        let number = |name: &str| self.read(dir.join(name))?.trim().parse::<usize>().ok();
        let limit = number(names.limit)?;
        let used = number(names.usage).unwrap_or(0);
        let stat = self.read(dir.join("memory.stat")).unwrap_or_default();
        let field = |line: &str| line.strip_prefix(names.reclaimable)?.trim().parse().ok();
        let reclaimable: usize = stat.lines().find_map(field).unwrap_or(0);
        Some((limit, used.saturating_sub(reclaimable)))
    }
}

/// Root and mount point of a line of `mountinfo`, where it is the mount of the cgroups that bound
/// memory.
fn cgroup_mount(line: &str, is_v2: bool) -> Option<(String, PathBuf)> {
    let (mount, kind) = line.split_once(" - ")?;
    let mut mount = mount.split(' ').skip(3).map(|path| path.replace("\\040", " "));
    let (root, point) = (mount.next()?, mount.next()?);
    let mut kind = kind.split(' ');
    let (name, options) = (kind.next()?, kind.nth(1).unwrap_or_default());
    let wanted = match is_v2 {
        true => name == "cgroup2",
        false => name == "cgroup" && options.split(',').any(|o| o == "memory"),
    };
    wanted.then(|| (root, point.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A machine of 1000 MiB, 800 of them available, and a process of 100 MiB.
    fn system(files: &[(&str, &str)]) -> (tempfile::TempDir, System) {
        let dir = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("proc/meminfo", "MemTotal:        1024000 kB\nMemAvailable:     819200 kB\n");
        write(
            "proc/self/status",
            "VmPeak:\t  204800 kB\nVmSize:\t  102400 kB\nVmData:\t   51200 kB\n",
        );
        files.iter().for_each(|(path, text)| write(path, text));
        let system = System { root: dir.path().into() };
        (dir, system)
    }

    const MIB: usize = 1 << 20;

    #[track_caller]
    fn expect(files: &[(&str, &str)], mib: usize, bound: Bound) {
        let (_dir, system) = system(files);
        assert_eq!(system.available(), Some(Available { bytes: mib * MIB, bound }));
    }

    fn limits(addresses: &str, data: &str) -> String {
        format!(
            "Limit                     Soft Limit           Hard Limit           Units     \n\
             Max data size             {data}            unlimited            bytes     \n\
             Max address space         {addresses}            unlimited            bytes     \n"
        )
    }

    #[test]
    fn the_machine_and_ulimits_bound_memory() {
        expect(&[], 800, Bound::Machine);
        let free = limits("unlimited", "unlimited");
        expect(&[("proc/self/limits", &free)], 800, Bound::Machine);
        let addresses = limits(&(300 * MIB).to_string(), "unlimited");
        expect(&[("proc/self/limits", &addresses)], 200, Bound::AddressSpace);
        let data = limits(&(300 * MIB).to_string(), &(60 * MIB).to_string());
        expect(&[("proc/self/limits", &data)], 10, Bound::Data);
        let over = limits(&(99 * MIB).to_string(), "unlimited");
        expect(&[("proc/self/limits", &over)], 0, Bound::AddressSpace);
    }

    const V2_MOUNT: &str =
        "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";

    #[test]
    fn the_tightest_ancestor_counts() {
        let mib = |n: usize| format!("{}\n", n * MIB);
        let (own, parent, used) = (mib(500), mib(400), mib(150));
        let files = [
            ("proc/self/cgroup", "0::/a/b\n"),
            ("proc/self/mountinfo", V2_MOUNT),
            ("sys/fs/cgroup/a/b/memory.max", own.as_str()),
            ("sys/fs/cgroup/a/b/memory.current", used.as_str()),
            ("sys/fs/cgroup/a/memory.max", parent.as_str()),
            ("sys/fs/cgroup/a/memory.current", used.as_str()),
        ];
        let a = || Bound::Cgroup("/sys/fs/cgroup/a".into());
        expect(&files, 250, a());
        // What files' caches take is given up first.
        let stat = format!("anon 7\ninactive_file {}\nactive_file 9\n", 50 * MIB);
        let cached = [&files[..], &[("sys/fs/cgroup/a/memory.stat", stat.as_str())]].concat();
        expect(&cached, 300, a());
        let (_dir, system) = system(&cached);
        assert_eq!(system.total_bytes(), Some(400 * MIB));
        // "max" is no limit; the root has no file at all.
        let b = [&files[..4], &[("sys/fs/cgroup/a/memory.max", "max\n")]].concat();
        expect(&b, 350, Bound::Cgroup("/sys/fs/cgroup/a/b".into()));
    }

    #[test]
    fn version_1_and_mixed_trees_are_read() {
        let mounts = "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755\n\
                      32 31 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n\
                      35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
                      41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
        let none = "9223372036854771712\n";
        let (limit, used) = (format!("{}\n", 512 * MIB), format!("{}\n", 112 * MIB));
        let stat = format!("inactive_file 1\ntotal_inactive_file {}\n", 12 * MIB);
        let files = [
            ("proc/self/cgroup", "9:name=systemd:/\n4:cpu,memory:/job/task\n0::/\n"),
            ("proc/self/mountinfo", mounts),
            ("sys/fs/cgroup/memory/memory.limit_in_bytes", none),
            ("sys/fs/cgroup/memory/job/memory.limit_in_bytes", limit.as_str()),
            ("sys/fs/cgroup/memory/job/memory.usage_in_bytes", used.as_str()),
            ("sys/fs/cgroup/memory/job/memory.stat", stat.as_str()),
            ("sys/fs/cgroup/memory/job/task/memory.limit_in_bytes", none),
        ];
        expect(&files, 412, Bound::Cgroup("/sys/fs/cgroup/memory/job".into()));
    }

    #[test]
    fn a_container_sees_its_own_part_of_the_tree() {
        let limit = format!("{}\n", 256 * MIB);
        for (path, root) in [("/docker/x", "/docker/x"), ("/", "/"), ("/../../x", "/")] {
            let own = format!("0::{path}\n");
            let mount = V2_MOUNT.replacen(" / ", &format!(" {root} "), 1);
            let files = [
                ("proc/self/cgroup", own.as_str()),
                ("proc/self/mountinfo", mount.as_str()),
                ("sys/fs/cgroup/memory.max", limit.as_str()),
            ];
            expect(&files, 256, Bound::Cgroup("/sys/fs/cgroup".into()));
        }
    }

    #[test]
    fn this_machine_tells() {
        let available = available().unwrap();
        assert!(available.bytes <= total_bytes().unwrap(), "{available:?}");
        assert_eq!((threads(0), threads(1)), (cores(), 1));
        assert_eq!(threads(1024), 1024.min(4 * cores()));
    }
}
