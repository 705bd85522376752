//! What the headers of a column's pages claim, before the reader of Parquet believes them.

use crate::data::limits::FILE_BYTES;
use crate::data::ranges::Ranges;

/// The longest header of a page.
const HEADER_BYTES: u64 = 64 << 10;
/// The longest dictionary: writers end theirs at about a megabyte.
const DICTIONARY_BYTES: i64 = 64 << 20;
/// Least bytes of a dictionary's value.
const VALUE_BYTES: i64 = 4;
/// How values may be encoded: plain, or as indices of a dictionary in one of two versions. Decoders
/// of other encodings believe how many values there are.
const ENCODINGS: [i64; 3] = [0, 2, 8];
/// Structures within structures, at most.
const DEPTH: usize = 8;

/// Walks the pages of a column of a file, from `start` on, `len` bytes. Errors, in words that follow
/// a path: a page that is longer than `most` when unpacked, or does not lie within the column.
pub(super) fn check(file: &Ranges, start: u64, len: u64, most: u64) -> Result<(), String> {
    let end = start.checked_add(len).filter(|end| *end <= file.len());
    let end = end.ok_or("a column does not lie within the file")?;
    let mut at = start;
    while at < end {
        let mut head = vec![0; HEADER_BYTES.min(end - at) as usize];
        file.read_at(at, &mut head).map_err(|e| e.to_string())?;
        let mut fields = Fields { bytes: &head, at: 0 };
        let page = Page::read(&mut fields).ok_or("the header of a page is damaged")?;
        if page.unpacked < 0 || page.unpacked as u64 > most {
            return Err(format!(
                "expected pages of at most {most} bytes ({FILE_BYTES}), found {}",
                page.unpacked
            ));
        }
        if page.encoding.is_some_and(|encoding| !ENCODINGS.contains(&encoding)) {
            return Err("expected values that are plain or indices of a dictionary".into());
        }
        if page.dictionary.is_some_and(|values| {
            !(0..=page.unpacked / VALUE_BYTES).contains(&values) || page.unpacked > DICTIONARY_BYTES
        }) {
            return Err("a dictionary claims more values than it can hold".into());
        }
        let stored = u64::try_from(page.stored).map_err(|_| "a page's length is negative")?;
        at += fields.at as u64 + stored;
    }
    match at == end {
        true => Ok(()),
        false => Err("a page does not lie within its column".into()),
    }
}

/// What the header of a page says.
#[derive(Default)]
struct Page {
    unpacked: i64,
    stored: i64,
    /// Values of a page that is a dictionary.
    dictionary: Option<i64>,
    /// How the values of a page are encoded.
    encoding: Option<i64>,
}

impl Page {
    fn read(fields: &mut Fields) -> Option<Self> {
        let mut page = Self::default();
        let mut id = 0;
        while let Some((field, kind)) = fields.field(&mut id)? {
            match field {
                2 => page.unpacked = fields.number(kind)?,
                3 => page.stored = fields.number(kind)?,
                DATA | DICTIONARY | DATA_V2 if kind == STRUCT => page.read_inner(fields, field)?,
                _ => fields.skip(kind, 0)?,
            }
        }
        Some(page)
    }

    /// The part of a header that a kind of page has.
    fn read_inner(&mut self, fields: &mut Fields, part: i64) -> Option<()> {
        let mut id = 0;
        while let Some((field, kind)) = fields.field(&mut id)? {
            match (part, field) {
                (DICTIONARY, 1) => self.dictionary = Some(fields.number(kind)?),
                (DATA | DICTIONARY, 2) | (DATA_V2, 4) => self.encoding = Some(fields.number(kind)?),
                _ => fields.skip(kind, 0)?,
            }
        }
        Some(())
    }
}

/// Fields of a page's header that a kind of page has.
const DATA: i64 = 5;
const DICTIONARY: i64 = 7;
const DATA_V2: i64 = 8;
/// A structure, as a field's kind.
const STRUCT: u8 = 12;

/// Fields in Thrift's compact protocol, one after the other.
struct Fields<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Fields<'_> {
    fn byte(&mut self) -> Option<u8> {
        let byte = *self.bytes.get(self.at)?;
        self.at += 1;
        Some(byte)
    }

    fn varint(&mut self) -> Option<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7F) << shift;
            if byte < 0x80 {
                return Some(value);
            }
        }
        None
    }

    /// The next field's number and kind; `Some(None)` at the end of its structure.
    #[allow(clippy::option_option, reason = "a structure's end is no damage")]
    fn field(&mut self, id: &mut i64) -> Option<Option<(i64, u8)>> {
        let head = self.byte()?;
        if head == 0 {
            return Some(None);
        }
        *id = match head >> 4 {
            0 => zigzag(self.varint()?),
            step => id.checked_add(step.into())?,
        };
        Some(Some((*id, head & 0xF)))
    }

    /// A whole number of 16, 32 or 64 bits.
    fn number(&mut self, kind: u8) -> Option<i64> {
        matches!(kind, 4..=6).then_some(())?;
        self.varint().map(zigzag)
    }

    fn skip(&mut self, kind: u8, depth: usize) -> Option<()> {
        let step = |fields: &mut Self, n: u64| {
            fields.at = fields.at.checked_add(usize::try_from(n).ok()?)?;
            (fields.at <= fields.bytes.len()).then_some(())
        };
        match kind {
            // Booleans are their kind.
            1 | 2 => Some(()),
            3 => step(self, 1),
            4..=6 => self.varint().map(|_| ()),
            7 => step(self, 8),
            8 => {
                let len = self.varint()?;
                step(self, len)
            }
            9 | 10 if depth < DEPTH => {
                let head = self.byte()?;
                let len = if head >> 4 == 15 { self.varint()? } else { (head >> 4).into() };
                // In lists, booleans have a byte.
                let kind = if matches!(head & 0xF, 1 | 2) { 3 } else { head & 0xF };
                (0..len).try_for_each(|_| self.skip(kind, depth + 1))
            }
            STRUCT if depth < DEPTH => {
                let mut id = 0;
                while let Some((_, kind)) = self.field(&mut id)? {
                    self.skip(kind, depth + 1)?;
                }
                Some(())
            }
            _ => None,
        }
    }
}

fn zigzag(n: u64) -> i64 {
    (n >> 1) as i64 ^ -((n & 1) as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The page of a dictionary, with four bytes of values.
    fn dictionary(unpacked: i64, values: i64, encoding: i64) -> Vec<u8> {
        let field = |n: i64| {
            let mut bytes = vec![0x15];
            let mut rest = (n << 1 ^ n >> 63) as u64;
            while rest >= 0x80 {
                bytes.push(rest as u8 | 0x80);
                rest >>= 7;
            }
            bytes.push(rest as u8);
            bytes
        };
        let outer = [field(2), field(unpacked), field(4)].concat();
        let inner = [field(values), field(encoding)].concat();
        [&outer[..], &[0x4C], &inner, &[0, 0], &[9; 4]].concat()
    }

    #[test]
    fn pages_that_claim_too_much_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let check = |bytes: &[u8], len: usize| {
            let path = dir.path().join("x");
            std::fs::write(&path, bytes).unwrap();
            super::check(&Ranges::open(&path, &mut 0).unwrap(), 0, len as u64, 1000)
        };
        let whole = dictionary(100, 25, 0);
        assert_eq!(check(&whole, whole.len()), Ok(()));
        let two = [&whole[..], &whole].concat();
        assert_eq!(check(&two, two.len()), Ok(()));
        for (bytes, words) in [
            (dictionary(100, 26, 0), "more values"),
            (dictionary(100, -1, 0), "more values"),
            (dictionary(1001, 2, 0), "at most 1000 bytes"),
            (dictionary(-1, 0, 0), "at most 1000 bytes"),
            (dictionary(100, 2, 6), "plain or indices"),
            (whole[..6].to_vec(), "header of a page is damaged"),
            (whole[..whole.len() - 1].to_vec(), "within its column"),
        ] {
            let said = check(&bytes, bytes.len()).unwrap_err();
            assert!(said.contains(words), "{said}: {words}");
        }
        assert!(check(&whole, whole.len() + 1).unwrap_err().contains("within the file"));
    }
}
