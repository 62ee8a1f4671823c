//! Writing the configuration: the documented default file, and the values in force.

use std::fmt::Write;

use runtime::config::{ConfigSection, FieldInfo, SectionInfo};

use super::difference::{Values, list_values};
use super::load::{default_value, find_field, list_keys};
use super::{Config, LoadedConfig};

const HEADER: &str = "\
# The configuration of Conduit. Every key is shown with its default, commented out.
#
# This file is generated (`conduit config default > conduit.toml`): in the repository, change the
# doc comments of the structs instead.
#
# A value can also be given by an environment variable (`server_name` is CONDUIT_SERVER_NAME,
# `log.level` is CONDUIT_LOG__LEVEL) or by `--set log.level=debug`, which win over this file in that
# order. A secret can be kept in a file of its own: `{ file = \"/path\" }`. Any value can be taken
# from an environment variable of another name: `{ env = \"SERVER_NAME\" }`.
# Keys marked (reloadable) are taken over on SIGHUP; the others need a restart.
# `conduit config check` looks for mistakes, `conduit config show` tells where each value is from.
";

/// The content of `conduit.toml`: every key with its documentation and default.
pub fn render_default_config() -> String {
    let mut out = String::from(HEADER);
    render_section(&mut out, &Config::INFO, "");
    out
}

fn render_section(out: &mut String, info: &SectionInfo, prefix: &str) {
    for field in info.fields {
        let key = format!("{prefix}{}", field.name);
        out.push('\n');
        render_docs(out, field.docs, if field.reloadable { " (reloadable)" } else { "" });
        let _ = match (default_value(&key), field.example) {
            (Some(value), _) => writeln!(out, "#{} = {value}", field.name),
            (None, Some(example)) => writeln!(out, "# Not set by default. Example:\n#{} = {example}", field.name),
            (None, None) => writeln!(out, "# Not set by default.\n#{} =", field.name),
        };
    }
    for (name, inner) in info.sections {
        let key = format!("{prefix}{name}");
        out.push('\n');
        render_docs(out, inner.docs, "");
        let _ = writeln!(out, "[{key}]");
        render_section(out, inner, &format!("{key}."));
    }
}

fn render_docs(out: &mut String, docs: &[&str], suffix: &str) {
    for (index, line) in docs.iter().enumerate() {
        let suffix = if index + 1 == docs.len() { suffix } else { "" };
        let _ = writeln!(out, "#{}", format!("{line}{suffix}").trim_end());
    }
}

/// The values in force by key; secrets are not shown.
pub(crate) fn list_effective_values(values: &Values) -> Vec<(String, String)> {
    let mut keys = Vec::new();
    list_keys(&Config::INFO, "", &mut keys);
    let show = |key: String| {
        let shown = match (values.get(&key), find_field(&Config::INFO, &key)) {
            (Some(_), Some(FieldInfo { secret: true, .. })) => "(set, not shown)".to_owned(),
            (Some(value), _) => value.to_string(),
            (None, _) => "(not set)".to_owned(),
        };
        (key, shown)
    };
    keys.into_iter().map(show).collect()
}

/// The values in force, each with its source; secrets are not shown.
pub fn render_effective_config(loaded: &LoadedConfig) -> String {
    let mut out = String::new();
    for (key, shown) in list_effective_values(&list_values(&loaded.config)) {
        let source = loaded.sources.get(&key).map_or_else(|| "default".to_owned(), ToString::to_string);
        let _ = writeln!(out, "{key} = {shown}  # {source}");
    }
    out
}
