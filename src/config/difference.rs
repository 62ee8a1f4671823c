//! What differs between two configurations.

use std::collections::BTreeMap;

use runtime::config::{ConfigSection, FieldInfo};
use serde::Serialize;
use toml::Value;

use super::load::{find_field, list_keys};
use super::{Config, LoadedConfig, Source};

/// The value of each key that has one.
pub(crate) type Values = BTreeMap<String, Value>;

/// One key that differs. Values of secrets are left out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// The dotted key.
    pub key: String,
    /// The value on one side, as TOML; absent if there is none.
    pub before: Option<String>,
    /// The value on the other side.
    pub after: Option<String>,
}

/// All values of a configuration, by dotted key.
pub(crate) fn list_values(config: &Config) -> Values {
    let mut keys = Vec::new();
    list_keys(&Config::INFO, "", &mut keys);
    let values = Value::try_from(config).ok();
    let find = |key: &str| {
        let found = key.split('.').try_fold(values.as_ref()?, |value, part| value.as_table()?.get(part));
        found.cloned()
    };
    keys.into_iter().filter_map(|key| find(&key).map(|value| (key, value))).collect()
}

/// The keys whose values differ, in order.
pub(crate) fn compare(before: &Values, after: &Values) -> Vec<Difference> {
    let mut keys: Vec<&String> = before.keys().chain(after.keys()).collect();
    keys.sort_unstable();
    keys.dedup();
    let differing = keys.into_iter().filter(|key| before.get(*key) != after.get(*key));
    differing
        .map(|key| Difference {
            key: key.clone(),
            before: before.get(key).map(|value| show(key, value)),
            after: after.get(key).map(|value| show(key, value)),
        })
        .collect()
}

/// A value as it may be shown.
fn show(key: &str, value: &Value) -> String {
    match find_field(&Config::INFO, key) {
        Some(FieldInfo { secret: true, .. }) | None => "(not shown)".to_owned(),
        Some(_) => value.to_string(),
    }
}

/// Whether a changed value of the key is taken over without a restart.
pub(crate) fn is_reloadable(key: &str) -> bool {
    find_field(&Config::INFO, key).is_some_and(|field| field.reloadable)
}

/// What differs from the defaults, as a configuration file, each with where it comes from. Secrets are not shown.
pub fn render_differences(loaded: &LoadedConfig) -> String {
    let differences = differences_from_defaults(&loaded.config);
    if differences.is_empty() {
        return "# Everything is as by default.\n".to_owned();
    }
    let mut out = String::new();
    let mut section = "";
    // Keys of the program itself come before all sections, as TOML wants it.
    let (inner, outer): (Vec<_>, Vec<_>) = differences.iter().partition(|difference| difference.key.contains('.'));
    for difference in outer.into_iter().chain(inner) {
        let (in_section, name) = difference.key.rsplit_once('.').unwrap_or(("", &difference.key));
        if in_section != section {
            out.push_str(&format!("\n[{in_section}]\n"));
            section = in_section;
        }
        let source = loaded.sources.get(&difference.key).map_or_else(String::new, Source::to_string);
        let by_default = difference.before.as_deref().unwrap_or("not set");
        match &difference.after {
            Some(value) if value == "(not shown)" => out.push_str(&format!("# {name} is set and not shown")),
            Some(value) => out.push_str(&format!("{name} = {value}")),
            None => out.push_str(&format!("# {name} is not set")),
        }
        out.push_str(&format!("  # {source}; by default {by_default}\n"));
    }
    out
}

/// What differs from the defaults.
pub fn differences_from_defaults(config: &Config) -> Vec<Difference> {
    compare_with_defaults(&list_values(config))
}

/// What of these values differs from the defaults.
pub(crate) fn compare_with_defaults(values: &Values) -> Vec<Difference> {
    compare(&list_values(&Config::default()), values)
}
