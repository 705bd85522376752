//! Images of the run with the two views that the nets saw of each.

use std::fs;
use std::path::Path;

use serde::Serialize;

use super::run::files_with;
use crate::data::png_address;
use crate::error::{Error, Result};

/// Most images on the page.
const MOST: usize = 8;
/// Larger files are left out: the page should stay light.
const MOST_BYTES: u64 = 1 << 20;

/// An image and its views as `data:` addresses.
#[derive(Serialize)]
pub(super) struct Example {
    source: String,
    views: Vec<String>,
}

/// The run's contact sheet as an address that holds it; none where there is none.
pub(super) fn sheet(run: &Path) -> Result<Option<String>> {
    data_url(&run.join("examples/sheet.png"))
}

/// The examples in `RUN/examples`: `src_i.png`, `view0_i.png`, `view1_i.png`. None where the
/// run wrote none.
pub(super) fn read(run: &Path) -> Result<Vec<Example>> {
    let dir = run.join("examples");
    let mut found = Vec::new();
    for path in files_with(&dir, "png")? {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let Some(rest) = name.strip_prefix("src_") else { continue };
        let views = [0, 1].map(|v| data_url(&dir.join(format!("view{v}_{rest}"))));
        let views = views.into_iter().collect::<Result<Vec<_>>>()?;
        if let Some(source) = data_url(&path)? {
            found.push(Example { source, views: views.into_iter().flatten().collect() });
        }
        if found.len() == MOST {
            break;
        }
    }
    Ok(found)
}

/// A PNG as an address that holds it; nothing where it does not exist or is too large.
fn data_url(path: &Path) -> Result<Option<String>> {
    let size = fs::metadata(path).map(|m| m.len());
    if size.map_or(true, |bytes| bytes > MOST_BYTES) {
        return Ok(None);
    }
    let bytes = fs::read(path).map_err(|e| Error::read(path, e))?;
    Ok(Some(png_address(&bytes)))
}
