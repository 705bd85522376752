//! Links inside archives, and the members that they name.

use std::collections::HashMap;

use super::pass::Found;
use crate::data::image::Format;
use crate::data::index::Refusal;
use crate::data::scan::{Content, Member, Scan};
use crate::error::Result;

/// Links that are followed one after the other, at most.
const MOST_HOPS: usize = 40;

/// Members that links point at, and whether one of the links has the name of an image.
pub(super) type Targets = HashMap<String, bool>;

/// Members of an archive, its links among them. A second pass looks for what links point at and
/// the first passed over: a member outside the folder that is wanted, or without the name of an
/// image.
pub(super) fn gather(
    scan: &mut Scan,
    mut pass: impl FnMut(&mut Scan, Option<&Targets>) -> Result<Found>,
) -> Result<Vec<Member>> {
    let Found { mut members, links, labels, .. } = pass(scan, None)?;
    if !links.is_empty() {
        follow(scan, &mut pass, &mut members, links)?;
    }
    if !labels.apply(scan, &mut members) {
        members.sort_by(|a, b| (&a.name, a.offset).cmp(&(&b.name, b.offset)));
    }
    Ok(members)
}

/// Adds what links point at under the links' own names.
fn follow(
    scan: &mut Scan,
    pass: &mut impl FnMut(&mut Scan, Option<&Targets>) -> Result<Found>,
    members: &mut Vec<Member>,
    links: Vec<(String, String)>,
) -> Result<()> {
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
    let mut known = contents(members);
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
                members.push(Member::new(name, *offset, content));
            }
            None if Format::is_image_name(&name) => {
                members.push(Member::new(name, 0, Content::Refused(Refusal::Link)));
            }
            None => scan.index.others.note(&name),
        }
    }
    Ok(())
}

/// What `target` means in a link called `name`; `None` where it leads out of the archive.
pub(super) fn beside(name: &str, target: &str) -> Option<String> {
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
