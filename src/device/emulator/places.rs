//! Places in code: return addresses in the emulator's messages become file and line.

use std::ffi::c_void;

/// Replaces each `{pc:HEX}` of a message by `file:line`.
pub(super) fn resolve(message: &str) -> String {
    let mut out = String::new();
    let mut rest = message;
    while let Some((before, after)) = rest.split_once("{pc:") {
        let (hex, after) = after.split_once('}').unwrap_or((after, ""));
        out.push_str(before);
        out.push_str(&usize::from_str_radix(hex, 16).map_or(String::new(), place));
        rest = after;
    }
    out + rest
}

/// The line of a kernel that a call which returns to `pc` stands on. Functions of
/// `kernels/include` are inlined into kernels: the line is that of their caller.
fn place(pc: usize) -> String {
    let mut inner: Option<String> = None;
    let mut outer: Option<String> = None;
    // The call itself ends one byte before the address that it returns to.
    backtrace::resolve((pc - 1) as *mut c_void, |symbol| {
        let (Some(file), Some(line)) = (symbol.filename(), symbol.lineno()) else { return };
        let file = file.to_string_lossy();
        let file = file.rfind("kernels/").map_or(&*file, |i| &file[i..]);
        let text = format!("{file}:{line}");
        if !file.starts_with("kernels/include/") && outer.is_none() {
            outer = Some(text);
        } else if inner.is_none() {
            inner = Some(text);
        }
    });
    outer.or(inner).unwrap_or_else(|| "an unknown line (the program's line tables are gone)".into())
}
