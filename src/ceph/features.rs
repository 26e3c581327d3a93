//! The features of RBD images, by the names that `rbd(8)` uses.

use super::failure::{Failure, Outcome};
use super::ffi::rbd::*;

const FEATURES: [(&str, u64); 12] = [
    ("layering", RBD_FEATURE_LAYERING),
    ("striping", RBD_FEATURE_STRIPINGV2),
    ("exclusive-lock", RBD_FEATURE_EXCLUSIVE_LOCK),
    ("object-map", RBD_FEATURE_OBJECT_MAP),
    ("fast-diff", RBD_FEATURE_FAST_DIFF),
    ("deep-flatten", RBD_FEATURE_DEEP_FLATTEN),
    ("journaling", RBD_FEATURE_JOURNALING),
    ("data-pool", RBD_FEATURE_DATA_POOL),
    ("operations", RBD_FEATURE_OPERATIONS),
    ("migrating", RBD_FEATURE_MIGRATING),
    ("non-primary", RBD_FEATURE_NON_PRIMARY),
    ("dirty-cache", RBD_FEATURE_DIRTY_CACHE),
];

/// The features' bits. An unknown name is refused with the known ones.
pub(super) fn bits<S: AsRef<str>>(names: &[S]) -> Outcome<u64> {
    names.iter().try_fold(0, |bits, name| {
        let name = name.as_ref();
        let known = FEATURES.iter().find(|(known, _)| *known == name);
        known.map(|(_, bit)| bits | bit).ok_or_else(|| {
            let known: Vec<_> = FEATURES.iter().map(|(known, _)| *known).collect();
            Failure::invalid(format!("there is no feature {name:?}, only {}", known.join(", ")))
        })
    })
}

/// The features' names. A feature that is newer than this list appears as its bit, `bit-20`: what
/// cannot be named must still not be taken for supported.
pub(super) fn names(bits: u64) -> Vec<String> {
    (0..u64::BITS)
        .filter(|bit| bits & (1 << bit) != 0)
        .map(|bit| match FEATURES.iter().find(|(_, known)| *known == 1 << bit) {
            Some((name, _)) => (*name).to_owned(),
            None => format!("bit-{bit}"),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_bits_correspond() {
        for (name, bit) in FEATURES {
            assert_eq!(bits(&[name]), Ok(bit));
            assert_eq!(names(bit), [name]);
        }
        assert_eq!(names(1 | 1 << 20), ["layering", "bit-20"]);
        assert_eq!(bits::<&str>(&[]), Ok(0));
    }

    #[test]
    fn an_unknown_feature_is_refused_with_the_known_ones() {
        let error = bits(&["layering", "raid"]).expect_err("unknown").message;
        assert!(error.contains("\"raid\"") && error.contains("exclusive-lock"), "{error}");
    }
}
