//! Samples of several files, as WebDataset stores them: members of one key, which is their name up
//! to the first dot of its last part. `a/0001.jpg` and `a/0001.cls` are an image and its label.

use std::collections::{HashMap, HashSet};

use serde_json::Value;

use crate::data::image::is_ending;
use crate::data::index::Group;
use crate::data::scan::{Content, Member, Scan};
use crate::data::unsupported::Others;

/// The longest file that is looked at for a label.
pub(super) const LABEL_BYTES: u64 = 64 << 10;
/// The longest label.
const CLASS_BYTES: usize = 200;
/// Names under which JSON files hold a label; the first that is there counts.
const NAMES: [&str; 3] = ["label", "cls", "class"];

/// A file that may hold a sample's label. The first kind that a sample has counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    /// `.cls`: a number or a word.
    Cls,
    /// `.json`: an object.
    Json,
}

/// A member's key, and its ending without the first dot.
fn split(name: &str) -> (&str, &str) {
    let base = name.rfind('/').map_or(0, |at| at + 1);
    match name[base..].find('.') {
        Some(dot) => (&name[..base + dot], &name[base + dot + 1..]),
        None => (name, ""),
    }
}

/// Whether a member may hold a label, as far as its name says.
pub(super) fn label_kind(name: &str) -> Option<Kind> {
    match split(name).1 {
        "cls" => Some(Kind::Cls),
        "json" => Some(Kind::Json),
        _ => None,
    }
}

impl Kind {
    /// The class that such a file names; none where it names none.
    pub(super) fn class(self, bytes: &[u8]) -> Option<String> {
        let class = match self {
            Self::Cls => std::str::from_utf8(bytes).ok()?.trim().to_owned(),
            Self::Json => {
                let object: Value = serde_json::from_slice(bytes).ok()?;
                match NAMES.iter().find_map(|name| object.get(name))? {
                    Value::String(class) => class.clone(),
                    Value::Number(number) => number.as_u64()?.to_string(),
                    _ => return None,
                }
            }
        };
        (!class.is_empty() && class.len() <= CLASS_BYTES && !class.contains('\n')).then_some(class)
    }
}

/// Labels that an archive holds beside its images.
#[derive(Debug, Default)]
pub(super) struct Labels {
    of: HashMap<String, (Kind, String)>,
    files: Others,
}

impl Labels {
    /// A label in a file called `name`.
    pub(super) fn note(&mut self, name: &str, kind: Kind, class: String) {
        self.files.note(name);
        let key = split(name).0;
        if self.of.get(key).is_none_or(|(known, _)| kind < *known) {
            self.of.insert(key.to_owned(), (kind, class));
        }
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.of.len()
    }

    /// Where an image has a label here, the archive is one of samples: each has one image, the
    /// first with an image's ending, and they keep the archive's order. Says whether it is.
    pub(super) fn apply(self, scan: &mut Scan, members: &mut Vec<Member>) -> bool {
        let is_image = |m: &Member| !matches!(m.content, Content::Records(_));
        let labelled = |m: &Member| is_image(m) && self.of.contains_key(split(&m.name).0);
        if !members.iter().any(labelled) {
            scan.index.others.add(&self.files);
            return false;
        }
        let mut seen = HashSet::new();
        let mut taken = Vec::with_capacity(members.len());
        for mut member in members.drain(..) {
            if is_image(&member) {
                let (key, ending) = split(&member.name);
                if !is_ending(ending) || !seen.insert(key.to_owned()) {
                    scan.index.others.note(&member.name);
                    continue;
                }
                let class = self.of.get(key).map(|(_, class)| Group::Named(class.clone()));
                member.group = Some(class.unwrap_or(Group::None));
            }
            taken.push(member);
        }
        *members = taken;
        let from = format!("{}: .cls and .json files", scan.path.display());
        scan.index.labels_from.push(from);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_end_at_the_first_dot_of_the_last_part() {
        assert_eq!(split("a.b/0001.seg.png"), ("a.b/0001", "seg.png"));
        assert_eq!(split("x.jpg"), ("x", "jpg"));
        assert_eq!(split("a/none"), ("a/none", ""));
        assert_eq!((label_kind("a/1.cls"), label_kind("a/1.b.cls")), (Some(Kind::Cls), None));
    }

    #[test]
    fn labels_are_numbers_or_words() {
        let json = |text: &str| Kind::Json.class(text.as_bytes());
        assert_eq!(Kind::Cls.class(b" 12\n").as_deref(), Some("12"));
        assert_eq!(Kind::Cls.class(b"black cat").as_deref(), Some("black cat"));
        assert_eq!(Kind::Cls.class(b"\n"), None);
        assert_eq!(json(r#"{"class": "x", "label": 3}"#).as_deref(), Some("3"));
        assert_eq!(json(r#"{"cls": "dog"}"#).as_deref(), Some("dog"));
        for none in ["{}", "[1]", r#"{"label": [1]}"#, r#"{"label": -1}"#, "rubbish", ""] {
            assert_eq!(json(none), None, "{none}");
        }
    }
}
