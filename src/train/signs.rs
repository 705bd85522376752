//! Warnings of signs, beside how embeddings lie, that a method does not learn.

use std::collections::BTreeMap;

use crate::ssl::Sign;

/// Steps in a row that a sign must last until it is said.
const LASTING_STEPS: u32 = 20;

/// For how many steps each sign has been bad.
#[derive(Default)]
pub(super) struct Signs(BTreeMap<&'static str, u32>);

impl Signs {
    /// Takes a step's signs in. Gives what is to be said, once for as long as it lasts.
    pub(super) fn observe(&mut self, signs: &[Sign]) -> Vec<String> {
        let mut said = Vec::new();
        for sign in signs {
            let bad = self.0.entry(sign.name).or_default();
            let Some(warning) = &sign.warning else {
                *bad = 0;
                continue;
            };
            *bad = bad.saturating_add(1);
            if *bad == LASTING_STEPS {
                said.push(warning.clone());
            }
        }
        said
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lasts_is_said_once() {
        let sign = |bad: bool| Sign {
            name: "entropy",
            value: 1.0,
            warning: bad.then(|| "too sharp".to_owned()),
        };
        let mut signs = Signs::default();
        let mut said = |bad: bool, steps: usize| -> Vec<usize> {
            (0..steps).filter(|_| !signs.observe(&[sign(bad)]).is_empty()).collect()
        };
        assert!(said(true, 19).is_empty());
        assert!(said(false, 1).is_empty());
        assert_eq!(said(true, 100), [19]);
        assert!(said(false, 5).is_empty());
        assert_eq!(said(true, 100), [19]);
    }
}
