//! One reading of an archive.

use std::io::{self, Read};
use std::rc::Rc;

use tar::{Entries, Entry, EntryType};

use super::cut_short;
use super::links::{Targets, beside};
use super::samples::{self, Labels};
use super::watched::{BETWEEN_BYTES, Watch};
use crate::data::cifar;
use crate::data::image::Format;
use crate::data::index::Refusal;
use crate::data::ranges::{Ranges, Unpacked};
use crate::data::scan::{Content, Member, Scan};
use crate::error::{Error, Result};
use crate::signals;

/// What a pass over an archive found.
#[derive(Default)]
pub(super) struct Found {
    pub members: Vec<Member>,
    /// Links, and the members that they name.
    pub links: Vec<(String, String)>,
    /// Labels of samples.
    pub labels: Labels,
    /// Where the last member ends.
    pub end: u64,
}

impl Found {
    /// How many images there may be.
    fn count(&self) -> usize {
        self.members.len() + self.links.len() + self.labels.len()
    }
}

/// One reading of an archive from its beginning to its end.
pub(super) struct Pass<'a, 'b, 'c> {
    pub scan: &'a mut Scan<'b>,
    pub watch: Rc<Watch>,
    pub place: Place<'c>,
    /// In a second pass, the members that are looked for.
    pub targets: Option<&'a Targets>,
}

/// Where the bytes of members lie when the archive has been read.
pub(super) enum Place<'a> {
    /// Where they are.
    Archive(&'a Ranges),
    /// In a file that they are copied to.
    Unpacked(&'a mut Unpacked),
}

impl Pass<'_, '_, '_> {
    pub(super) fn run<R: Read>(&mut self, mut entries: Entries<R>) -> Result<Found> {
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
                match samples::label_kind(&name).filter(|_| self.targets.is_none()) {
                    Some(kind) => self.label(&mut entry, kind, &name, &mut found)?,
                    None => found.members.extend(self.member(&mut entry, name)?),
                }
            } else if !plain && self.targets.is_none() {
                self.other_kind(&entry, kind, name, &mut found);
            }
            self.scan.expect_room(found.count())?;
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

    /// A plain file that may hold the label of a sample.
    fn label<R: Read>(
        &mut self,
        entry: &mut Entry<R>,
        kind: samples::Kind,
        name: &str,
        found: &mut Found,
    ) -> Result<()> {
        let mut bytes = Vec::new();
        let most = samples::LABEL_BYTES;
        entry.by_ref().take(most + 1).read_to_end(&mut bytes).map_err(|e| self.broken(&e))?;
        let whole = bytes.len() as u64 <= most;
        match whole.then(|| kind.class(&bytes)).flatten() {
            Some(class) => found.labels.note(name, kind, class),
            None => self.scan.index.pass_over(name, &bytes[..bytes.len().min(16)]),
        }
        Ok(())
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
                return Ok(Some(Member::new(name, 0, content)));
            };
            let offset = self.settle(entry, &head, &name)?;
            return Ok(Some(Member::new(name, offset, Content::Image { len })));
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
            Some(records) => Ok(Some(Member::new(name, offset, Content::Records(records)))),
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
                found.members.push(Member::new(name, 0, content));
            }
            _ => self.scan.index.others.note(&name),
        }
    }

    fn ends_inside(&self, name: &str) -> Error {
        cut_short(&self.scan.path, &format!("it ends inside {name:?}"))
    }

    /// Why the archive cannot be read on.
    fn broken(&self, e: &io::Error) -> Error {
        self.watch.broken(&self.scan.path, self.scan.limits(), e)
    }
}

/// A member's name as images have it: without `./` or `/` in front.
fn name_of(bytes: &[u8]) -> String {
    let name = String::from_utf8_lossy(bytes).into_owned();
    name.trim_start_matches("./").trim_start_matches('/').to_owned()
}
