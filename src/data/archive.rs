//! Tar archives, plain (read where they lie) and compressed with zstd (unpacked once).

use std::cell::Cell;
use std::collections::HashMap;
use std::io::{self, BufReader, Read};
use std::path::Path;
use std::rc::Rc;

use tar::{Archive, Entries, Entry, EntryType};

use super::cifar;
use super::image::Format;
use super::index::Refusal;
use super::limits::{UNPACKED_BYTES, ZSTD_WINDOW_LOG};
use super::ranges::{Ranges, Unpacked};
use super::scan::{Content, Member, Scan};
use crate::error::{Error, Result};
use crate::outside::{open_regular, printable};
use crate::signals;

/// What may stand between two members: headers with long names, which are held in memory, and
/// zeros between archives that were joined.
const BETWEEN_BYTES: u64 = 16 << 20;

/// Links that are followed one after the other, at most.
const MOST_HOPS: usize = 40;

/// First bytes of a zstd frame.
pub(super) const ZSTD: [u8; 4] = [0x28, 0xB5, 0x2F, 0xFD];

/// Whether a file begins with a tar header: its magic, or (old archives) its checksum.
pub(super) fn is_tar(head: &[u8]) -> bool {
    let Some(block) = head.get(..512) else { return false };
    if &block[257..262] == b"ustar" {
        return true;
    }
    let mut header = tar::Header::new_old();
    header.as_mut_bytes().copy_from_slice(block);
    let sum: u32 = block[..148].iter().chain(&block[156..]).map(|&b| u32::from(b)).sum();
    block[0] != 0 && header.cksum().is_ok_and(|c| c == sum + 8 * 32)
}

/// Adds an archive of either kind.
pub(super) fn scan(scan: &mut Scan) -> Result<()> {
    let path = scan.path.clone();
    let mut head = [0; 4];
    let mut file = open_regular(&path).map_err(|e| Error::read(&path, e))?;
    match file.read_exact(&mut head) {
        Ok(()) if head == ZSTD => scan_zstd(scan),
        Ok(()) => scan_tar(scan),
        Err(e) => Err(cut_short(&path, &e)),
    }
}

/// Adds the images of a plain archive.
pub(super) fn scan_tar(scan: &mut Scan) -> Result<()> {
    let path = scan.path.clone();
    let ranges = Ranges::open(&path, &mut scan.index.kept_open)?;
    let found = gather(scan, |scan, targets| {
        let reader = ranges.reader().map_err(|e| Error::read(&path, e))?;
        let watched = Watched::new(reader, u64::MAX);
        let watch = watched.watch.clone();
        let mut archive = Archive::new(watched);
        // Archives that were joined have zeros between them.
        archive.set_ignore_zeros(true);
        let entries = archive.entries_with_seek().map_err(|e| cut_short(&path, &e))?;
        let mut pass = Pass { scan, watch, place: Place::Archive(&ranges), targets };
        let found = pass.run(entries)?;
        if targets.is_none() {
            warn_without_end(&path, ranges.len(), found.end);
        }
        Ok(found)
    })?;
    scan.push_members(ranges, found)
}

/// Adds the images of an archive compressed with zstd: those that are wanted are unpacked to
/// an unnamed temporary file.
pub(super) fn scan_zstd(scan: &mut Scan) -> Result<()> {
    let path = scan.path.clone();
    let mut unpacked = match scan.index.unpacked.take() {
        Some(unpacked) => unpacked,
        None => Unpacked::new()?,
    };
    let limits = scan.limits().clone();
    let found = gather(scan, |scan, targets| {
        let bad = |e| Error::read(&path, e);
        let file = open_regular(&path).map_err(bad)?;
        let mut decoder = zstd::stream::read::Decoder::new(BufReader::new(file)).map_err(bad)?;
        decoder.window_log_max(limits.zstd_window_log).map_err(bad)?;
        // What was counted before is not counted when it is read again.
        let left = if targets.is_none() { unpacked.left(&limits) } else { limits.unpacked_bytes };
        let watched = Watched::new(decoder, left);
        let watch = watched.watch.clone();
        let mut archive = Archive::new(watched);
        archive.set_ignore_zeros(true);
        let entries = archive.entries().map_err(|e| cut_short(&path, &e))?;
        let place = Place::Unpacked(&mut unpacked);
        let found = Pass { scan, watch: watch.clone(), place, targets }.run(entries)?;
        if targets.is_none() {
            unpacked.count(watch.read.get());
            warn_without_end(&path, watch.read.get(), found.end);
        }
        Ok(found)
    })?;
    let ranges = unpacked.ranges(&path)?;
    scan.index.unpacked = Some(unpacked);
    scan.push_members(ranges, found)
}

fn cut_short(path: &Path, e: &dyn std::fmt::Display) -> Error {
    Error::data(format!(
        "cannot read {} as a tar archive: {e}; it may be cut short or damaged: copy or make it \
         again",
        printable(path)
    ))
}

fn warn_without_end(path: &Path, len: u64, end: u64) {
    if len < end.next_multiple_of(512) + 512 {
        tracing::warn!("{} has no end marker: it may be cut short", printable(path));
    }
}

/// What a pass over an archive found.
#[derive(Default)]
struct Found {
    members: Vec<Member>,
    /// Links, and the members that they name.
    links: Vec<(String, String)>,
    /// Where the last member ends.
    end: u64,
}

/// Members that links point at, and whether one of the links has the name of an image.
type Targets = HashMap<String, bool>;

/// Members of an archive, its links among them. A second pass looks for what links point at and
/// the first passed over: a member outside the folder that is wanted, or without the name of an
/// image.
fn gather(
    scan: &mut Scan,
    mut pass: impl FnMut(&mut Scan, Option<&Targets>) -> Result<Found>,
) -> Result<Vec<Member>> {
    let Found { mut members, links, .. } = pass(scan, None)?;
    if links.is_empty() {
        return Ok(members);
    }
    let links: Vec<(String, String)> = {
        let targets: HashMap<&str, &str> =
            links.iter().map(|(name, target)| (name.as_str(), target.as_str())).collect();
        let last = |target: &String| {
            let mut target = target.as_str();
            for _ in 0..MOST_HOPS {
                target = targets.get(target).copied().unwrap_or(target);
            }
            target.to_owned()
        };
        links.iter().map(|(name, target)| (name.clone(), last(target))).collect()
    };
    let contents = |members: &[Member]| -> HashMap<String, (u64, Content)> {
        members.iter().map(|m| (m.name.clone(), (m.offset, m.content.clone()))).collect()
    };
    let mut known = contents(&members);
    let mut wanted = Targets::new();
    for (name, target) in &links {
        let image = Format::is_image_name(name);
        if !known.contains_key(target) && (image || scan.wanted.is_some()) {
            *wanted.entry(target.clone()).or_default() |= image;
        }
    }
    if !wanted.is_empty() {
        known.extend(contents(&pass(scan, Some(&wanted))?.members));
    }
    for (name, target) in links {
        match known.get(&target) {
            Some((offset, content)) => {
                let content = content.clone();
                members.push(Member { name, offset: *offset, content });
            }
            None if Format::is_image_name(&name) => {
                members.push(Member { name, offset: 0, content: Content::Refused(Refusal::Link) });
            }
            None => scan.index.others.note(&name),
        }
    }
    Ok(members)
}

/// One reading of an archive from its beginning to its end.
struct Pass<'a, 'b, 'c> {
    scan: &'a mut Scan<'b>,
    watch: Rc<Watch>,
    place: Place<'c>,
    /// In a second pass, the members that are looked for.
    targets: Option<&'a Targets>,
}

/// Where the bytes of members lie when the archive has been read.
enum Place<'a> {
    /// Where they are.
    Archive(&'a Ranges),
    /// In a file that they are copied to.
    Unpacked(&'a mut Unpacked),
}

impl Pass<'_, '_, '_> {
    fn run<R: Read>(&mut self, mut entries: Entries<R>) -> Result<Found> {
        let mut found = Found::default();
        let mut unread = 0;
        loop {
            self.watch.between.set(Some(BETWEEN_BYTES.saturating_add(unread)));
            signals::go_on()?;
            let entry = entries.next();
            self.watch.between.set(None);
            let Some(entry) = entry else { return Ok(found) };
            let mut entry = entry.map_err(|e| self.broken(&e))?;
            let name = name_of(&entry.path_bytes());
            let kind = entry.header().entry_type();
            let plain = kind.is_file() || kind.is_contiguous();
            found.end = entry.raw_file_position() + if plain { entry.size() } else { 0 };
            if let Place::Archive(ranges) = &self.place
                && plain
                && found.end > ranges.len()
            {
                return Err(self.ends_inside(&name));
            }
            if plain && self.takes(&name) {
                found.members.extend(self.member(&mut entry, name)?);
            } else if !plain && self.targets.is_none() {
                self.other_kind(&entry, kind, name, &mut found);
            }
            self.scan.expect_room(found.members.len() + found.links.len())?;
            if kind.is_gnu_sparse() {
                // Its holes would be read as zeros.
                unread = entry.header().entry_size().unwrap_or(0);
            } else if let Place::Unpacked(_) = self.place {
                // Here, so that what stands between members can be limited.
                io::copy(&mut entry, &mut io::sink()).map_err(|e| self.broken(&e))?;
                unread = 0;
            }
        }
    }

    /// Whether a member's name lets it be looked at.
    fn takes(&mut self, name: &str) -> bool {
        if let Some(targets) = self.targets {
            return targets.contains_key(name);
        }
        let base = name.rsplit('/').next().unwrap_or_default();
        if base.starts_with('.') {
            self.scan.index.others.note(name);
            return false;
        }
        // Records of CIFAR files get the names of their folders later.
        base.ends_with(".bin") || self.scan.wants(name)
    }

    /// A plain file, if it is an image or holds CIFAR's records.
    fn member<R: Read>(&mut self, entry: &mut Entry<R>, name: String) -> Result<Option<Member>> {
        let size = entry.size();
        let mut head = Vec::new();
        entry.by_ref().take(16).read_to_end(&mut head).map_err(|e| self.broken(&e))?;
        let image = Format::is_image_name(&name)
            || Format::sniff(&head).is_some()
            || self.targets.is_some_and(|targets| targets.get(&name) == Some(&true));
        if image {
            let len = u32::try_from(size).ok().filter(|_| size <= self.scan.limits().file_bytes);
            let Some(len) = len else {
                let content = Content::Refused(Refusal::TooLarge);
                return Ok(Some(Member { name, offset: 0, content }));
            };
            let offset = self.settle(entry, &head, &name)?;
            return Ok(Some(Member { name, offset, content: Content::Image { len } }));
        }
        if !name.ends_with(".bin") {
            if self.targets.is_none() {
                self.scan.index.pass_over(&name, &head);
            }
            return Ok(None);
        }
        let offset = self.settle(entry, &head, &name)?;
        let path = self.scan.path.clone();
        let records = match &mut self.place {
            Place::Archive(ranges) => cifar::recognise(&name, size, ranges, offset),
            Place::Unpacked(to) => cifar::recognise(&name, size, &to.ranges(&path)?, offset),
        };
        match records.map_err(|e| Error::read(&path, e))? {
            Some(records) => Ok(Some(Member { name, offset, content: Content::Records(records) })),
            None => {
                if let Place::Unpacked(to) = &mut self.place {
                    to.cut(offset)?;
                }
                self.scan.index.bins.note(&name);
                Ok(None)
            }
        }
    }

    /// Where the bytes of a member lie from now on; `head` is what was read of them.
    fn settle<R: Read>(&mut self, entry: &mut Entry<R>, head: &[u8], name: &str) -> Result<u64> {
        let to = match &mut self.place {
            Place::Archive(_) => return Ok(entry.raw_file_position()),
            Place::Unpacked(to) => to,
        };
        let offset = to.len();
        to.append(head)?;
        let mut piece = [0; 32 << 10];
        loop {
            let Place::Unpacked(to) = &mut self.place else { return Ok(offset) };
            match entry.read(&mut piece) {
                Ok(0) if to.len() - offset < entry.size() => return Err(self.ends_inside(name)),
                Ok(0) => return Ok(offset),
                Ok(n) => to.append(&piece[..n])?,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(self.broken(&e)),
            }
        }
    }

    /// What is no plain file: links are kept for later, others count where they seem to be
    /// images.
    fn other_kind<R: Read>(
        &mut self,
        entry: &Entry<R>,
        kind: EntryType,
        name: String,
        found: &mut Found,
    ) {
        let says_nothing = kind.is_dir() || kind.is_pax_global_extensions();
        if says_nothing || !self.takes(&name) {
            return;
        }
        let target = entry.link_name_bytes();
        match target {
            Some(target) if kind.is_hard_link() => found.links.push((name, name_of(&target))),
            Some(target) if kind.is_symlink() => {
                let target = String::from_utf8_lossy(&target).into_owned();
                // One that leads out of the archive names nothing in it.
                let inside = beside(&name, &target).unwrap_or_default();
                found.links.push((name, inside));
            }
            _ if Format::is_image_name(&name) => {
                let content = Content::Refused(Refusal::NotPlain);
                found.members.push(Member { name, offset: 0, content });
            }
            _ => self.scan.index.others.note(&name),
        }
    }

    fn ends_inside(&self, name: &str) -> Error {
        cut_short(&self.scan.path, &format!("it ends inside {name:?}"))
    }

    /// Why the archive cannot be read on.
    fn broken(&self, e: &io::Error) -> Error {
        let path = &self.scan.path;
        let limits = self.scan.limits();
        match self.watch.tripped.get() {
            Some(Tripped::Whole) => Error::data(format!(
                "{}: compressed archives are unpacked whenever they are opened; expected at most \
                 {} bytes in all, found more; unpack it once and for all (zstd -d) and give the \
                 .tar, or set {UNPACKED_BYTES} higher",
                printable(path),
                limits.unpacked_bytes,
            )),
            Some(Tripped::Between) => cut_short(
                path,
                &format!("over {BETWEEN_BYTES} bytes of names or of zeros between two members"),
            ),
            None if e.to_string().contains("too much memory") => Error::data(format!(
                "{}: unpacking it asks for more memory than 2^{} bytes, which is the limit; set \
                 {ZSTD_WINDOW_LOG}=31, or unpack it (zstd -d --long=31) and give the .tar",
                printable(path),
                limits.zstd_window_log,
            )),
            None => cut_short(path, e),
        }
    }
}

/// A member's name as images have it: without `./` or `/` in front.
fn name_of(bytes: &[u8]) -> String {
    let name = String::from_utf8_lossy(bytes).into_owned();
    name.trim_start_matches("./").trim_start_matches('/').to_owned()
}

/// What `target` means in a link called `name`; `None` where it leads out of the archive.
fn beside(name: &str, target: &str) -> Option<String> {
    if target.starts_with('/') {
        return None;
    }
    let mut folders: Vec<&str> = name.split('/').collect();
    folders.pop();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                folders.pop()?;
            }
            part => folders.push(part),
        }
    }
    Some(folders.join("/"))
}

/// A reader that knows how far it came, and how far it may go.
struct Watched<R> {
    inner: R,
    watch: Rc<Watch>,
}

struct Watch {
    read: Cell<u64>,
    /// Bytes that may be read in all.
    most: u64,
    /// Bytes that may be read before the next member begins.
    between: Cell<Option<u64>>,
    tripped: Cell<Option<Tripped>>,
}

#[derive(Clone, Copy)]
enum Tripped {
    Whole,
    Between,
}

impl<R> Watched<R> {
    fn new(inner: R, most: u64) -> Self {
        let (read, between, tripped) = (Cell::new(0), Cell::new(None), Cell::new(None));
        Self { inner, watch: Rc::new(Watch { read, most, between, tripped }) }
    }
}

impl<R: Read> Read for Watched<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(into)?;
        let watch = &self.watch;
        watch.read.set(watch.read.get() + n as u64);
        let between = watch.between.get();
        let left = between.map(|left| left.checked_sub(n as u64));
        let tripped = match left {
            _ if watch.read.get() > watch.most => Tripped::Whole,
            Some(None) => Tripped::Between,
            Some(left) => {
                watch.between.set(left);
                return Ok(n);
            }
            None => return Ok(n),
        };
        watch.tripped.set(Some(tripped));
        Err(io::Error::other("a limit"))
    }
}

impl<R: io::Seek> io::Seek for Watched<R> {
    fn seek(&mut self, to: io::SeekFrom) -> io::Result<u64> {
        self.inner.seek(to)
    }
}

#[cfg(test)]
mod tests {
    use super::beside;

    #[test]
    fn links_name_members_from_where_they_lie() {
        let inside = |name, target| beside(name, target).unwrap_or_default();
        assert_eq!(inside("a/b/x.png", "y.png"), "a/b/y.png");
        assert_eq!(inside("a/b/x.png", "../c/./y.png"), "a/c/y.png");
        assert_eq!(inside("x.png", "a/y.png"), "a/y.png");
        assert_eq!(beside("x.png", "../y.png"), None);
        assert_eq!(beside("x.png", "/y.png"), None);
    }
}
