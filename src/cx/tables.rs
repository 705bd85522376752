//! Small tables that kernels read: uploaded once, kept by content.

use std::sync::{Mutex, PoisonError};

use crate::error::Result;
use crate::tensor::Tensor;

/// Tables that are kept; a run uses a few, over and over.
const KEPT: usize = 16;

/// The tables used last, the latest at the end.
#[derive(Default)]
pub(super) struct Tables(Mutex<Vec<(Vec<u8>, Tensor)>>);

impl Tables {
    /// The table with these bytes; `upload` makes it where it is not there.
    pub(super) fn get(
        &self,
        bytes: &[u8],
        upload: impl FnOnce() -> Result<Tensor>,
    ) -> Result<Tensor> {
        let mut tables = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = match tables.iter().position(|(known, _)| known == bytes) {
            Some(i) => tables.remove(i),
            None => (bytes.to_vec(), upload()?),
        };
        let table = entry.1.clone();
        if tables.len() == KEPT {
            tables.remove(0);
        }
        tables.push(entry);
        Ok(table)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use crate::cx::Cx;
    use crate::device::emulator::Emulator;

    #[test]
    #[cfg_attr(not(feature = "emulator"), ignore = "needs the cargo feature emulator")]
    fn what_was_uploaded_lately_is_not_uploaded_again() {
        let cx = Cx::device(Arc::new(Emulator::new(1).unwrap()), 1).unwrap();
        let table = |x: u64| cx.table(&[x, x + 1, 7]).unwrap();
        let first = table(1);
        assert_eq!(cx.download_bytes::<u64>(&first, 3).unwrap(), [1, 2, 7]);
        for _ in 0..3 {
            assert_eq!(table(1).device(), first.device());
            assert_ne!(table(2).device(), first.device());
        }
        let held = cx.memory().live_bytes;
        (100..200).for_each(|x| drop(table(x)));
        assert!(cx.memory().live_bytes <= held + 16 * 256, "old tables are let go");
        assert_eq!(cx.download_bytes::<u64>(&table(1), 3).unwrap(), [1, 2, 7]);
    }

    #[test]
    fn the_cpu_has_no_tables() {
        assert!(Cx::for_tests().table(&[1u32]).is_err());
    }
}
