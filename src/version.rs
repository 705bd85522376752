//! The version of the running binary. Only binaries know the commit of their build: were it in the
//! library, every commit would compile all of it again.

use std::sync::OnceLock;

static VERSION: OnceLock<String> = OnceLock::new();

/// Says which version runs, before anything asks.
pub(crate) fn set(version: &str) {
    // A second word of it changes nothing.
    let _ = VERSION.set(version.to_owned());
}

/// `0.1.0 (cb57edc12)`: with the commit where the binary's build had one, without it in a library.
pub fn version() -> &'static str {
    VERSION.get().map_or(env!("CARGO_PKG_VERSION"), String::as_str)
}

/// The version, with the commit where the build had one: for binaries.
#[macro_export]
macro_rules! version_of_build {
    () => {{
        #[cfg(in_repository)]
        const VERSION: &str = git_version::git_version!(
            args = ["--always", "--exclude=*", "--abbrev=9"],
            prefix = concat!(env!("CARGO_PKG_VERSION"), " ("),
            suffix = ")",
            fallback = env!("CARGO_PKG_VERSION")
        );
        #[cfg(not(in_repository))]
        const VERSION: &str = env!("CARGO_PKG_VERSION");
        VERSION
    }};
}
