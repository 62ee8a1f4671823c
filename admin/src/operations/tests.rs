use std::collections::BTreeSet;

use super::groups;

#[test]
fn every_operation_has_a_name_of_its_own_a_group_and_help() {
    let mut names = BTreeSet::new();
    for group in groups() {
        for entry in &group.entries {
            assert_eq!(entry.group, group.name, "{} is listed in another group", entry.name());
            assert!(names.insert(entry.name()), "{} is there twice", entry.name());
            let command = entry.command();
            let about = command.get_about().map(ToString::to_string).unwrap_or_default();
            assert!(!about.is_empty(), "{} has no help", entry.name());
            for argument in command.get_arguments() {
                let id = argument.get_id().as_str();
                assert!(!["yes", "json", "help"].contains(&id), "{}: {id} is taken by the faces", entry.name());
                assert!(argument.get_help().is_some(), "{}: {id} has no help", entry.name());
            }
        }
    }
}
