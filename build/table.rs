//! The table of kernels, from the `KERNEL(` lines of their sources: names, arguments and launch
//! bounds. Every driver checks launches against it, so it must not depend on what a build holds,
//! GPU code or the emulator. The emulator's tests compare it with what the host's compiler says.
//!
//! What is read is what kernels use: macros with arguments and `##`, whole numbers and
//! `constexpr` names as launch bounds, pointers, and a plain struct as last argument.

use std::collections::HashMap;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

type Result<T> = std::result::Result<T, String>;

/// Writes the kernels of `sources` as a Rust array, sorted by name.
pub(crate) fn write(sources: &[PathBuf], headers: &[PathBuf], into: &Path) -> Result<()> {
    let shared: Vec<String> = headers.iter().map(|path| read(path)).collect::<Result<_>>()?;
    let mut kernels = Vec::new();
    for path in sources {
        let text = read(path)?;
        let file = File::new(&text, &shared);
        let found = file.kernels().map_err(|e| format!("{}: {e}", path.display()))?;
        kernels.extend(found.into_iter().map(|kernel| (kernel, path)));
    }
    kernels.sort_by(|(a, _), (b, _)| a.name.cmp(&b.name));
    let mut text = String::from("[\n");
    for (Kernel { name, pointers, params_bytes, max_threads }, path) in kernels {
        let _ = writeln!(
            text,
            "    Kernel {{ name: {name:?}, file: {path:?}, pointers: {pointers}, \
             params_bytes: {params_bytes}, max_threads: {max_threads} }},"
        );
    }
    text.push_str("]\n");
    fs::write(into, text).map_err(|e| format!("cannot write {}: {e}", into.display()))
}

struct Kernel {
    name: String,
    pointers: usize,
    params_bytes: usize,
    max_threads: usize,
}

/// A source's text without comments, each directive on one line.
fn read(path: &Path) -> Result<String> {
    let text =
        fs::read_to_string(path).map_err(|e| format!("cannot read {}: {e}", path.display()))?;
    let mut out = String::with_capacity(text.len());
    let mut rest = text.as_str();
    while let Some(at) = rest.find("//").into_iter().chain(rest.find("/*")).min() {
        out.push_str(&rest[..at]);
        let end = if rest[at..].starts_with("//") { "\n" } else { "*/" };
        let len = rest[at..].find(end).unwrap_or(rest.len() - at);
        rest = rest[at + len..].strip_prefix("*/").unwrap_or(&rest[at + len..]);
    }
    out.push_str(rest);
    Ok(out.replace("\\\n", " "))
}

/// `#define NAME(parameters) body`.
struct Macro {
    parameters: Vec<String>,
    body: String,
}

struct File<'a> {
    /// Without directives, then the text of headers.
    code: String,
    shared: &'a [String],
    macros: HashMap<String, Macro>,
}

impl<'a> File<'a> {
    fn new(text: &str, shared: &'a [String]) -> Self {
        let (mut code, mut macros) = (String::new(), HashMap::new());
        for line in text.lines() {
            match line.trim_start().strip_prefix('#') {
                None => code.extend([line, "\n"]),
                Some(directive) => macros.extend(definition(directive)),
            }
        }
        Self { code, shared, macros }
    }

    fn kernels(&self) -> Result<Vec<Kernel>> {
        let code = self.expand(&self.code)?;
        let mut kernels = Vec::new();
        for (at, name) in words(&code) {
            let behind = &code[at + name.len()..];
            let arguments = match name {
                "KERNEL" | "KERNEL_RESIDENT" => arguments(behind),
                _ => continue,
            };
            let (arguments, _) = arguments.ok_or(format!("{name} without arguments"))?;
            let [name, threads, .., signature] = &arguments[..] else {
                return Err(format!("{name}: too few arguments"));
            };
            let wrong = |what: &str| format!("kernel {name}: {what}");
            let (signature, _) = self::arguments(signature).ok_or(wrong("no signature"))?;
            let (params, pointers) = signature.split_last().ok_or(wrong("no arguments"))?;
            if let Some(other) = pointers.iter().find(|argument| !argument.contains('*')) {
                return Err(wrong(&format!("{other:?} is no pointer")));
            }
            let params = params.split_whitespace().next().unwrap_or_default();
            kernels.push(Kernel {
                name: name.clone(),
                pointers: pointers.len(),
                params_bytes: self.layout(params).map_err(|e| wrong(&e))?.size,
                max_threads: self.number(threads).map_err(|e| wrong(&e))?,
            });
        }
        Ok(kernels)
    }

    /// Code with this file's macros replaced.
    fn expand(&self, code: &str) -> Result<String> {
        let (mut out, mut done) = (String::new(), 0);
        for (at, word) in words(code).filter(|(_, word)| self.macros.contains_key(*word)) {
            let Macro { parameters, body } = &self.macros[word];
            if at < done {
                continue;
            }
            let (given, len) = arguments(&code[at + word.len()..])
                .filter(|(given, _)| given.len() == parameters.len())
                .ok_or(format!("{word}: expected {} arguments", parameters.len()))?;
            out.push_str(&code[done..at]);
            done = at + word.len() + len;
            let mut last = 0;
            let mut filled = String::new();
            for (at, word) in words(body) {
                if let Some(i) = parameters.iter().position(|parameter| parameter == word) {
                    filled.push_str(&body[last..at]);
                    filled.push_str(&given[i]);
                    last = at + word.len();
                }
            }
            filled.push_str(&body[last..]);
            out.push_str(&self.expand(&filled.replace("##", ""))?);
        }
        out.push_str(&code[done..]);
        Ok(out)
    }

    /// A whole number, or a `constexpr` that is one.
    fn number(&self, text: &str) -> Result<usize> {
        let text = text.trim();
        if let Ok(number) = text.parse() {
            return Ok(number);
        }
        let value = self.texts().find_map(|code| {
            let lines = code.lines().filter_map(|l| l.trim().strip_prefix("constexpr "));
            let mut values = lines.filter_map(|l| l.strip_suffix(';')?.split_once('='));
            values.find(|(name, _)| name.split_whitespace().last() == Some(text)).map(|(_, v)| v)
        });
        value.and_then(|v| v.trim().parse().ok()).ok_or(format!("{text:?} is no number"))
    }

    fn texts(&self) -> impl Iterator<Item = &str> {
        std::iter::once(&self.code).chain(self.shared).map(String::as_str)
    }

    /// How a type lies in memory.
    fn layout(&self, name: &str) -> Result<Layout> {
        let plain = |size| Ok(Layout { size, align: size });
        match name {
            "u8" => return plain(1),
            "bf16" => return plain(2),
            "u32" | "i32" | "float" => return plain(4),
            "u64" | "i64" | "double" => return plain(8),
            _ => {}
        }
        let opening = format!("struct {name} {{");
        let body = self
            .texts()
            .find_map(|code| braced(&code[code.find(&opening)? + opening.len() - 1..]))
            .ok_or(format!("there is no struct {name}"))?;
        let mut all = Layout { size: 0, align: 1 };
        for member in members(body) {
            let (ty, names) = member.split_once(char::is_whitespace).unwrap_or((&member, ""));
            for name in names.split(',') {
                let Layout { size, align } = match member.contains('*') {
                    true => Layout { size: 8, align: 8 },
                    false => self.layout(ty)?,
                };
                let count = match name.split_once('[') {
                    Some((_, count)) => self.number(count.trim().trim_end_matches(']'))?,
                    None => 1,
                };
                all.size = all.size.next_multiple_of(align) + size * count;
                all.align = all.align.max(align);
            }
        }
        all.size = all.size.next_multiple_of(all.align);
        Ok(all)
    }
}

struct Layout {
    size: usize,
    align: usize,
}

/// The data members of a struct's body: `u32 a, b`. Functions are left out.
fn members(body: &str) -> Vec<String> {
    let (mut plain, mut depth) = (String::new(), 0);
    for c in body.chars() {
        match c {
            '{' => depth += 1,
            '}' => {
                depth -= 1;
                plain.push(';');
            }
            _ if depth == 0 => plain.push(c),
            _ => {}
        }
    }
    let statements = plain.split(';').map(|s| s.trim().trim_start_matches("const ").to_owned());
    let no_data = |s: &str| s.is_empty() || s.contains('(') || s.starts_with("static ");
    statements.filter(|s| !no_data(s)).collect()
}

/// A `#define` with parameters, without its `#`.
fn definition(directive: &str) -> Option<(String, Macro)> {
    let rest = directive.trim_start().strip_prefix("define")?.trim_start();
    let name = &rest[..rest.find(|c: char| !is_word(c))?];
    let (parameters, len) =
        rest[name.len()..].starts_with('(').then(|| arguments(&rest[name.len()..]))??;
    let body = rest[name.len() + len..].to_owned();
    Some((name.to_owned(), Macro { parameters, body }))
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

/// The names and numbers in a text, and where they begin.
fn words(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let place = |word: &str| word.as_ptr() as usize - text.as_ptr() as usize;
    let words = text.split(|c: char| !is_word(c)).filter(|word| !word.is_empty());
    words.map(move |word| (place(word), word))
}

/// What stands in braces at the beginning of a text.
fn braced(text: &str) -> Option<&str> {
    let mut depth = 0;
    for (at, c) in text.char_indices() {
        depth += i32::from(c == '{') - i32::from(c == '}');
        if depth == 0 {
            return text.get(1..at);
        }
    }
    None
}

/// The arguments in parentheses at the beginning of a text, and how long all that is.
fn arguments(text: &str) -> Option<(Vec<String>, usize)> {
    let (mut depth, mut all, mut last) = (0, Vec::new(), 0);
    for (at, c) in text.char_indices() {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            c if depth == 0 && !c.is_whitespace() => return None,
            _ => {}
        }
        if depth == 1 && c == '(' && last == 0 {
            last = at + 1;
        } else if last > 0 && (depth == 1 && c == ',' || depth == 0) {
            all.push(text[last..at].trim().to_owned());
            last = at + 1;
        }
        if depth == 0 && last > 0 {
            return Some((all, at + 1));
        }
    }
    None
}
