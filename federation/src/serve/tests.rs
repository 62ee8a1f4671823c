//! The list of endpoints.

use std::collections::BTreeSet;
use std::path::Path;

use super::route_table;

/// Operations of the specification that this server calls and does not serve.
const CALLED_ONLY: [&str; 1] = [
    // Policy servers sign events; homeservers ask them to.
    "/_matrix/policy/v1/sign",
];

fn operations() -> Vec<(String, String, String)> {
    let list = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/endpoints.tsv");
    let list = std::fs::read_to_string(list).expect("the list of endpoints");
    let rows = list.lines().filter(|row| row.starts_with("server-server\t"));
    rows.map(|row| {
        let mut columns = row.split('\t').skip(1).map(str::to_owned);
        let (method, path) = (columns.next().expect("a method"), columns.next().expect("a path"));
        (method, path, columns.nth(2).expect("an authentication"))
    })
    .collect()
}

#[test]
fn every_operation_between_servers_is_served() {
    let routes = route_table();
    let operations = operations();
    assert_eq!(operations.len(), 36);
    let mut missing = Vec::new();
    for (method, path, auth) in operations {
        let found = routes.iter().find(|route| route.method.as_str() == method && route.path == path);
        match found {
            None if CALLED_ONLY.contains(&&*path) => {}
            None => missing.push(format!("{method} {path}")),
            // The list has it from the specification's descriptions, where one of them is wrong.
            Some(route) => {
                let is_signed = route.auth == super::Auth::Server;
                assert_eq!(is_signed, auth == "federation signature", "{method} {path}");
            }
        }
    }
    assert_eq!(missing, Vec::<String>::new());
}

#[test]
fn routes_are_named_once() {
    let routes = route_table();
    let names: BTreeSet<(&str, &str)> = routes.iter().map(|route| (route.method.as_str(), route.path)).collect();
    assert_eq!(names.len(), routes.len());
}
