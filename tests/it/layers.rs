//! The layers of docs/architecture.md, checked against what Cargo knows.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde_json::Value;

/// Every crate of the workspace and the crates of the workspace that it may use.
const ALLOWED: &[(&str, &[&str])] = &[
    ("spec", &[]),
    ("storage", &[]),
    ("runtime", &[]),
    ("outbound", &["runtime"]),
    ("turn", &["runtime", "outbound"]),
    ("sfu", &["runtime"]),
    ("rooms", &["spec", "storage", "runtime"]),
    ("users", &["rooms", "spec", "storage", "runtime"]),
    ("media", &["spec", "storage", "runtime", "outbound"]),
    ("sync", &["rooms", "users", "spec", "storage", "runtime"]),
    ("search", &["rooms", "users", "spec", "storage", "runtime"]),
    ("calls", &["rooms", "users", "spec", "storage", "runtime"]),
    ("client_api", &["sync", "search", "calls", "rooms", "users", "media", "spec", "storage", "runtime", "outbound"]),
    ("federation", &["calls", "rooms", "users", "media", "spec", "storage", "runtime", "outbound"]),
    ("push", &["rooms", "users", "spec", "storage", "runtime", "outbound"]),
    ("appservices", &["rooms", "users", "spec", "storage", "runtime", "outbound"]),
    ("admin", &["sync", "search", "calls", "rooms", "users", "media", "spec", "storage", "runtime", "outbound"]),
    (
        "conduit",
        &[
            "admin",
            "client_api",
            "federation",
            "appservices",
            "calls",
            "sfu",
            "turn",
            "sync",
            "search",
            "rooms",
            "users",
            "media",
            "spec",
            "storage",
            "runtime",
            "outbound",
            "push",
            "testkit",
        ],
    ),
    (
        "testkit",
        &[
            "conduit",
            "admin",
            "client_api",
            "federation",
            "sync",
            "search",
            "rooms",
            "users",
            "media",
            "spec",
            "storage",
            "runtime",
            "outbound",
        ],
    ),
];

/// Crates that a layer must not use, with the reason.
const FORBIDDEN: &[(&str, &str, &str)] = &[
    ("spec", "tokio", "the rules of Matrix are pure"),
    ("spec", "getrandom", "the rules of Matrix are pure"),
    ("storage", "axum", "the store knows no HTTP"),
    ("rooms", "axum", "domains know no HTTP"),
    ("users", "axum", "domains know no HTTP"),
    ("media", "axum", "domains know no HTTP"),
    ("sync", "axum", "domains know no HTTP"),
    ("search", "axum", "domains know no HTTP"),
];

struct Package {
    name: String,
    /// Without dev-dependencies: tests may look everywhere.
    dependencies: BTreeSet<String>,
}

fn list_packages() -> Vec<Package> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--offline", "--format-version", "1", "--manifest-path"])
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"))
        .output()
        .expect("cargo runs, it runs this test");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    packages.iter().map(|package| Package { name: name_of(package), dependencies: dependencies_of(package) }).collect()
}

fn name_of(value: &Value) -> String {
    value["name"].as_str().unwrap().to_owned()
}

fn dependencies_of(package: &Value) -> BTreeSet<String> {
    let dependencies = package["dependencies"].as_array().unwrap();
    dependencies.iter().filter(|dependency| dependency["kind"] != "dev").map(name_of).collect()
}

#[test]
fn crates_use_only_what_is_below_them() {
    let allowed: BTreeMap<&str, &[&str]> = ALLOWED.iter().copied().collect();
    let packages = list_packages();
    let names: BTreeSet<&str> = packages.iter().map(|package| package.name.as_str()).collect();
    assert!(names.contains("rooms") && names.contains("conduit"), "the workspace was not read: {names:?}");
    for package in &packages {
        let Some(below) = allowed.get(package.name.as_str()) else {
            panic!("{} is new: give it a layer in docs/architecture.md §2 and in this test", package.name);
        };
        for dependency in package.dependencies.iter().filter(|name| names.contains(name.as_str())) {
            assert!(below.contains(&dependency.as_str()), "{} must not use {dependency}", package.name);
        }
    }
}

#[test]
fn layers_keep_out_what_does_not_belong_to_them() {
    for package in list_packages() {
        for (_, dependency, reason) in FORBIDDEN.iter().filter(|(name, ..)| *name == package.name) {
            assert!(!package.dependencies.contains(*dependency), "{} uses {dependency}: {reason}", package.name);
        }
    }
}
