//! Golden pictures of mistakes: file, line, column, cure.
//!
//! A case is a file `tests/suite/golden/KIND/CODE[.note].yaml`; what twin says of it stands beside it. `UPDATE_GOLDEN=1`
//! writes the pictures anew.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::support::root;

pub(crate) fn folder(kind: &str) -> PathBuf {
    root().join("tests/suite/golden").join(kind)
}

fn stem(case: &Path) -> String {
    case.file_stem().unwrap().to_string_lossy().into_owned()
}

fn cases(kind: &str) -> Vec<PathBuf> {
    let mut cases: Vec<PathBuf> = std::fs::read_dir(folder(kind))
        .unwrap()
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|kind| kind == "yaml"))
        .collect();
    cases.sort();
    cases
}

/// Compares all pictures; `problems` gives a case's codes, and how they are told.
pub(crate) fn pictures(kind: &str, problems: impl Fn(&Path) -> (Vec<&'static str>, String)) {
    let mut wrong = Vec::new();
    for case in cases(kind) {
        let stem = stem(&case);
        // What other cases extend.
        if stem.starts_with("base-") {
            continue;
        }
        let (codes, picture) = problems(&case);
        let wanted = stem.split('.').next().unwrap();
        if wanted != "several" && !codes.contains(&wanted) {
            wrong.push(format!("{stem}: raised {codes:?}"));
        }
        let golden = case.with_extension("txt");
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::write(&golden, &picture).unwrap();
        }
        let known = std::fs::read_to_string(&golden).unwrap_or_default();
        if known != picture {
            wrong.push(format!("{stem}: says now\n{picture}"));
        }
        for sign in ["help: ", &format!("[{stem}.yaml:"), "╰"] {
            if !picture.contains(sign) {
                wrong.push(format!("{stem}: does not show {sign}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Proves that each code has a case.
pub(crate) fn cover(kind: &str, codes: &[&[&'static str]]) {
    let cased: BTreeSet<String> = cases(kind)
        .iter()
        .map(|case| stem(case).split('.').next().unwrap().to_owned())
        .collect();
    let lacking: Vec<&&str> = codes
        .iter()
        .copied()
        .flatten()
        .filter(|code| !cased.contains(**code))
        .collect();
    assert!(lacking.is_empty(), "no case for {lacking:?}");
}
