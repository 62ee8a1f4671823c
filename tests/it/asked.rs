//! `complement/asked.tsv`: what the acceptance suite Complement asks, and the tests of ours that ask the same.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Tests of the suite at its top level, without the package that no server passes (msc2836).
const ASKED: usize = 208;

/// What stands in a file where a test is defined.
fn definition(file: &str, name: &str) -> String {
    match file.rsplit_once('.') {
        Some((_, "py")) => format!("@scenario(\"{name}\""),
        Some((_, "go")) => format!("func {name}("),
        _ => format!("fn {name}("),
    }
}

#[test]
fn every_test_that_answers_the_acceptance_suite_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let table = std::fs::read_to_string(root.join("complement/asked.tsv")).unwrap();
    let rows: Vec<Vec<&str>> = table.lines().skip(1).map(|line| line.split('\t').collect()).collect();
    let (mut files, mut asked) = (BTreeMap::new(), BTreeSet::new());
    for row in &rows {
        let &[package, test, ours, note] = row.as_slice() else { panic!("a row of {} columns: {row:?}", row.len()) };
        asked.insert((package, test.split('/').next().unwrap_or_default()));
        assert!(!ours.is_empty() || !note.is_empty(), "{test}: neither a test nor a reason");
        for named in ours.split(' ').filter(|named| !named.is_empty()) {
            let (file, name) = named.split_once("::").unwrap_or_else(|| panic!("{test}: {named}"));
            let text = files.entry(file).or_insert_with(|| {
                std::fs::read_to_string(root.join(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
            });
            assert!(text.contains(&definition(file, name)), "{test}: {file} has no {name}");
        }
    }
    assert!(rows.windows(2).all(|pair| pair[0][..2] < pair[1][..2]), "rows are sorted, and none is there twice");
    assert_eq!(asked.len(), ASKED);
}
