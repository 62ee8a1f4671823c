use super::{Parsed, build, parse};
use crate::operations::groups;

fn words(line: &str) -> Vec<String> {
    line.split_whitespace().map(str::to_owned).collect()
}

fn answer(line: &str) -> (String, bool) {
    match parse("!admin", words(line)) {
        Parsed::Answer { text, is_error } => (text, is_error),
        Parsed::Run(order) => panic!("{line} is {:?}", order.prepared),
    }
}

#[test]
fn the_tree_is_well_formed() {
    build("!admin", &groups()).debug_assert();
}

#[test]
fn an_operation_is_found_with_its_options() {
    let Parsed::Run(order) = parse("!admin", words("server version --json")) else { panic!("it is there") };
    assert_eq!(order.prepared.entry.name(), "server version");
    assert!(order.json && !order.yes);
}

#[test]
fn there_is_help_at_every_level() {
    for line in ["", "--help", "server", "server --help", "server version --help"] {
        let (text, is_error) = answer(line);
        assert!(!is_error && text.contains("Usage: !admin"), "{line}: {text}");
    }
    assert!(answer("server --help").0.contains("version"));
}

#[test]
fn a_typo_gets_a_suggestion() {
    let (text, is_error) = answer("server versoin");
    assert!(is_error && text.contains("version"), "{text}");
    assert!(answer("sevrer version").0.contains("'server'"));
}
