//! Reading the configuration: defaults, then the file, then the environment, then `--set`.
//!
//! Each value keeps its source, so that a mistake is reported with the place to correct it.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use runtime::config::{ConfigSection, FieldInfo, SectionInfo};
use toml::{Table, Value};

use super::Config;
use super::secrets::{OpenSecret, read_secret_files};

const ENVIRONMENT_PREFIX: &str = "CONDUIT_";
/// Variables with the prefix that are not keys: they name the file and serve the build scripts.
const RESERVED_VARIABLES: &[&str] = &["CONDUIT_CONFIG", "CONDUIT_CACHE", "CONDUIT_BIN"];

/// Where to read from.
#[derive(Clone, Debug, Default)]
pub struct ConfigSources {
    /// The configuration file; none means defaults.
    pub file: Option<PathBuf>,
    /// Environment variables; those that do not begin with `CONDUIT_` are ignored.
    pub environment: Vec<(String, String)>,
    /// `KEY=VALUE` arguments.
    pub arguments: Vec<String>,
}

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// The configuration file.
    File(PathBuf),
    /// This environment variable.
    Environment(String),
    /// A `--set` argument.
    Argument,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::File(path) => write!(f, "{}", path.display()),
            Source::Environment(name) => write!(f, "environment variable {name}"),
            Source::Argument => f.write_str("--set"),
        }
    }
}

/// A mistake in the configuration; always the operator's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {}: {reason}", path.display())]
    Unreadable { path: PathBuf, reason: String },
    /// The file is not TOML.
    #[error("{} is not TOML: {reason}", path.display())]
    NotToml { path: PathBuf, reason: String },
    /// There is no such key.
    #[error("{origin}: unknown key `{key}`{}", suggestion.as_ref().map(|key| format!("; did you mean `{key}`?")).unwrap_or_default())]
    UnknownKey { key: String, suggestion: Option<String>, origin: Source },
    /// `--set` without `=`.
    #[error("--set {0}: KEY=VALUE expected")]
    NotAnAssignment(String),
    /// The value has the wrong type or form.
    #[error("{origin}: `{key}`: {reason}")]
    BadValue { key: String, reason: String, origin: Source },
    /// The value contradicts others or makes no sense.
    #[error("`{key}`: {reason}")]
    Contradiction { key: String, reason: String },
}

/// All mistakes found, one a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigErrors(pub Vec<ConfigError>);

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.0.iter().enumerate() {
            write!(f, "{}{error}", if index == 0 { "" } else { "\n" })?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}

/// A configuration and how it came about.
#[derive(Clone, Debug)]
pub struct LoadedConfig {
    /// The values.
    pub config: Config,
    /// Where the values that are not defaults come from, by dotted key.
    pub sources: BTreeMap<String, Source>,
    /// Environment variables that look like keys but are not. Only a warning: service managers
    /// and container engines make variables of their own (`CONDUIT_PORT` for a host `conduit`).
    pub warnings: Vec<String>,
    /// Secrets in files that everybody on the machine can read. Only a warning: container engines mount them so.
    pub open_secrets: Vec<OpenSecret>,
}

pub(super) struct Setting {
    pub(super) key: String,
    pub(super) value: Value,
    pub(super) origin: Source,
}

/// Reads, merges and checks the configuration. Reads the configuration file and the files of
/// secrets, nothing else.
///
/// # Errors
/// Every mistake that can be found at once.
pub fn load_config(sources: &ConfigSources) -> Result<LoadedConfig, ConfigErrors> {
    let Gathered { mut settings, mut errors, warnings } = gather(sources);
    let open_secrets = read_secret_files(&mut settings, &mut errors);
    match merge_settings(&settings) {
        Ok(config) if errors.is_empty() => {
            let contradictions = config.find_contradictions();
            errors.extend(contradictions.into_iter().map(|(key, reason)| match origin_of(&settings, key) {
                Some(origin) => ConfigError::BadValue { key: key.to_owned(), reason, origin },
                None => ConfigError::Contradiction { key: key.to_owned(), reason },
            }));
            if errors.is_empty() {
                let sources = settings.into_iter().map(|setting| (setting.key, setting.origin)).collect();
                return Ok(LoadedConfig { config, sources, warnings, open_secrets });
            }
        }
        Ok(_) => {}
        Err(merge_errors) => errors.extend(merge_errors),
    }
    Err(ConfigErrors(errors))
}

/// Every value from everywhere, the stronger ones last.
struct Gathered {
    settings: Vec<Setting>,
    errors: Vec<ConfigError>,
    warnings: Vec<String>,
}

fn gather(sources: &ConfigSources) -> Gathered {
    let (mut settings, mut errors, mut warnings) = (Vec::new(), Vec::new(), Vec::new());
    if let Some(path) = &sources.file {
        match read_table(path) {
            Ok(table) => {
                flatten_table(&Config::INFO, "", table, &Source::File(path.clone()), &mut settings, &mut errors);
            }
            Err(error) => errors.push(error),
        }
    }
    for (name, text) in &sources.environment {
        let Some(key) = name.strip_prefix(ENVIRONMENT_PREFIX) else { continue };
        if RESERVED_VARIABLES.contains(&name.as_str()) {
            continue;
        }
        let key = key.to_lowercase().replace("__", ".");
        match find_field(&Config::INFO, &key) {
            Some(field) => {
                let origin = Source::Environment(name.clone());
                settings.push(Setting { value: parse_text(field, &key, text), key, origin });
            }
            None => warnings.push(describe_unknown_variable(name, &key)),
        }
    }
    for argument in &sources.arguments {
        match parse_argument(argument) {
            Ok(setting) => settings.push(setting),
            Err(error) => errors.push(error),
        }
    }
    read_named_variables(&mut settings, &sources.environment, &mut errors);
    Gathered { settings, errors, warnings }
}

/// Where the data of the server are: for commands to a running one, which judges its configuration itself. What is wrong
/// with it keeps nobody from them.
pub(crate) fn find_data_dir(sources: &ConfigSources) -> PathBuf {
    let settings = gather(sources).settings;
    let named = apply_settings(settings.iter().filter(|setting| setting.key == "data_dir"));
    named.unwrap_or_default().data_dir
}

fn read_table(path: &Path) -> Result<Table, ConfigError> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| ConfigError::Unreadable { path: path.to_owned(), reason: error.to_string() })?;
    text.parse().map_err(|error: toml::de::Error| {
        // The place only: the error's own text shows the line, which may hold a secret.
        let place = error.span().map(|span| describe_place(&text, span.start)).unwrap_or_default();
        ConfigError::NotToml { path: path.to_owned(), reason: format!("{place}{}", error.message()) }
    })
}

fn describe_place(text: &str, offset: usize) -> String {
    let before = text.get(..offset).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    format!("line {line}, column {column}: ")
}

fn flatten_table(
    info: &SectionInfo,
    prefix: &str,
    table: Table,
    origin: &Source,
    settings: &mut Vec<Setting>,
    errors: &mut Vec<ConfigError>,
) {
    for (name, value) in table {
        let key = format!("{prefix}{name}");
        if info.fields.iter().any(|field| field.name == name) {
            settings.push(Setting { key, value, origin: origin.clone() });
            continue;
        }
        match (info.sections.iter().find(|(section, _)| *section == name), value) {
            (Some((_, inner)), Value::Table(table)) => {
                flatten_table(inner, &format!("{key}."), table, origin, settings, errors);
            }
            (Some(_), _) => {
                let reason = format!("a section is expected: [{key}]");
                errors.push(ConfigError::BadValue { key, reason, origin: origin.clone() });
            }
            (None, _) => {
                let suggestion = suggest_key(&key);
                errors.push(ConfigError::UnknownKey { key, suggestion, origin: origin.clone() });
            }
        }
    }
}

fn parse_argument(argument: &str) -> Result<Setting, ConfigError> {
    let (key, text) = argument.split_once('=').ok_or_else(|| ConfigError::NotAnAssignment(argument.to_owned()))?;
    let key = key.trim().to_owned();
    match find_field(&Config::INFO, &key) {
        Some(field) => Ok(Setting { value: parse_text(field, &key, text.trim()), key, origin: Source::Argument }),
        None => {
            let suggestion = suggest_key(&key);
            Err(ConfigError::UnknownKey { key, suggestion, origin: Source::Argument })
        }
    }
}

/// Text from outside a TOML file: TOML where it is, else a plain string; and for a key that is a
/// string anyway quotes are optional, so that a token `12345` stays text.
fn parse_text(field: &FieldInfo, key: &str, text: &str) -> Value {
    let plain = || Value::String(text.to_owned());
    let parsed = format!("value = {text}").parse::<Table>().ok().and_then(|mut table| table.remove("value"));
    match parsed {
        Some(Value::String(text)) => Value::String(text),
        Some(Value::Table(table)) => Value::Table(table),
        Some(value) if !is_text_key(field, key) => value,
        _ => plain(),
    }
}

fn is_text_key(field: &FieldInfo, key: &str) -> bool {
    let default = default_value(key);
    let example = || format!("value = {}", field.example?).parse::<Table>().ok()?.remove("value");
    field.secret || matches!(default.or_else(example), Some(Value::String(_)))
}

/// The default of a key, if it has one.
pub(super) fn default_value(key: &str) -> Option<Value> {
    let mut value = Value::try_from(Config::default()).ok()?;
    for part in key.split('.') {
        value = value.as_table_mut()?.remove(part)?;
    }
    Some(value)
}

/// `{ env = "NAME" }` as a value means the content of that environment variable.
fn read_named_variables(settings: &mut Vec<Setting>, environment: &[(String, String)], errors: &mut Vec<ConfigError>) {
    settings.retain_mut(|setting| {
        let name = match setting.value.as_table() {
            Some(table) if table.len() == 1 => table.get("env").and_then(Value::as_str).map(str::to_owned),
            _ => None,
        };
        let (Some(name), Some(field)) = (name, find_field(&Config::INFO, &setting.key)) else { return true };
        let Some((_, text)) = environment.iter().find(|(variable, _)| *variable == name) else {
            let reason = format!("the environment variable {name} is not set");
            errors.push(ConfigError::BadValue { key: setting.key.clone(), reason, origin: setting.origin.clone() });
            return false;
        };
        setting.value = parse_text(field, &setting.key, text);
        setting.origin = Source::Environment(name);
        true
    });
}

fn origin_of(settings: &[Setting], key: &str) -> Option<Source> {
    settings.iter().rev().find(|setting| setting.key == key).map(|setting| setting.origin.clone())
}

fn merge_settings(settings: &[Setting]) -> Result<Config, Vec<ConfigError>> {
    if let Ok(config) = apply_settings(settings.iter()) {
        return Ok(config);
    }
    // Something does not fit: try each value alone to find out which.
    let errors: Vec<_> = settings
        .iter()
        .filter_map(|setting| {
            let error = apply_settings([setting].into_iter()).err()?;
            let (key, origin) = (setting.key.clone(), setting.origin.clone());
            // The error quotes the value.
            let is_secret = find_field(&Config::INFO, &key).is_some_and(|field| field.secret);
            let reason = if is_secret { "a text is expected".to_owned() } else { error };
            Some(ConfigError::BadValue { key, reason, origin })
        })
        .collect();
    Err(errors)
}

fn apply_settings<'a>(settings: impl Iterator<Item = &'a Setting>) -> Result<Config, String> {
    let mut table = Table::new();
    for setting in settings {
        let mut parts: Vec<&str> = setting.key.split('.').collect();
        let Some(name) = parts.pop() else { continue };
        let mut inner = &mut table;
        for part in parts {
            let section = inner.entry(part).or_insert_with(|| Value::Table(Table::new()));
            inner = section.as_table_mut().ok_or_else(|| format!("`{part}` is not a section"))?;
        }
        inner.insert(name.to_owned(), setting.value.clone());
    }
    table.try_into().map_err(|error: toml::de::Error| error.message().to_owned())
}

/// The description of a dotted key.
pub(super) fn find_field<'a>(info: &'a SectionInfo, key: &str) -> Option<&'a FieldInfo> {
    match key.split_once('.') {
        Some((section, rest)) => {
            let (_, inner) = info.sections.iter().find(|(name, _)| *name == section)?;
            find_field(inner, rest)
        }
        None => info.fields.iter().find(|field| field.name == key),
    }
}

/// All dotted keys.
pub(super) fn list_keys(info: &SectionInfo, prefix: &str, keys: &mut Vec<String>) {
    keys.extend(info.fields.iter().map(|field| format!("{prefix}{}", field.name)));
    for (name, inner) in info.sections {
        list_keys(inner, &format!("{prefix}{name}."), keys);
    }
}

fn describe_unknown_variable(name: &str, key: &str) -> String {
    let hint = suggest_key(key).map(|key| {
        let variable = key.to_uppercase().replace('.', "__");
        format!("; did you mean {ENVIRONMENT_PREFIX}{variable}?")
    });
    format!("environment variable {name} is ignored: there is no key `{key}`{}", hint.unwrap_or_default())
}

/// The known key that looks most like `unknown`, if any looks like it at all.
fn suggest_key(unknown: &str) -> Option<String> {
    let mut keys = Vec::new();
    list_keys(&Config::INFO, "", &mut keys);
    let last = |key: &str| key.rsplit('.').next().unwrap_or_default().to_owned();
    let distance = |key: &String| {
        // Also a right name in the wrong section is close.
        let misplaced = edit_distance(&last(key), &last(unknown)) + 1;
        edit_distance(key, unknown).min(misplaced)
    };
    let best = keys.into_iter().map(|key| (distance(&key), key)).min()?;
    (best.0 <= 1 + unknown.len() / 4).then_some(best.1)
}

/// Insertions, deletions and replacements that turn `a` into `b`.
fn edit_distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.chars().count()).collect();
    for (deleted, letter) in a.chars().enumerate() {
        let mut diagonal = deleted;
        let mut left = deleted + 1;
        for (cell, other) in row.iter_mut().skip(1).zip(b.chars()) {
            let replaced = diagonal + usize::from(letter != other);
            diagonal = *cell;
            left = replaced.min(diagonal + 1).min(left + 1);
            *cell = left;
        }
        if let Some(first) = row.first_mut() {
            *first = deleted + 1;
        }
    }
    row.last().copied().unwrap_or_default()
}
