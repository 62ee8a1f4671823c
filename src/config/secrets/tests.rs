use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use runtime::config::{ConfigSection, SectionInfo};

use super::*;
use crate::config::check::examine;
use crate::config::{
    ConfigSources, LoadedConfig, differences_from_defaults, list_effective_values, list_values, load_config,
    render_differences, render_effective_config,
};

const SECRET: &str = "a-very-long-and-secret-word";

/// Every key that is marked as a secret.
fn secret_keys() -> Vec<String> {
    fn collect(info: &SectionInfo, prefix: &str, keys: &mut Vec<String>) {
        let secrets = info.fields.iter().filter(|field| field.secret);
        keys.extend(secrets.map(|field| format!("{prefix}{}", field.name)));
        for (name, inner) in info.sections {
            collect(inner, &format!("{prefix}{name}."), keys);
        }
    }
    let mut keys = Vec::new();
    collect(&Config::INFO, "", &mut keys);
    keys
}

fn write(folder: &Path, name: &str, content: &[u8], mode: u32) -> String {
    let path = folder.join(name);
    fs::write(&path, content).unwrap();
    fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
    path.to_str().unwrap().to_owned()
}

/// The sources of a configuration file in which a key has this value.
fn sources(folder: &Path, key: &str, value: &str) -> ConfigSources {
    let text = match key.rsplit_once('.') {
        Some((section, name)) => format!("[{section}]\n{name} = {value}\n"),
        None => format!("{key} = {value}\n"),
    };
    let file = folder.join("conduit.toml");
    fs::write(&file, text).unwrap();
    ConfigSources { file: Some(file), ..ConfigSources::default() }
}

/// Everything that commands and operations show of a configuration.
fn everything_shown(loaded: &LoadedConfig) -> String {
    let values = list_values(&loaded.config);
    [
        render_effective_config(loaded),
        render_differences(loaded),
        format!("{:?}", differences_from_defaults(&loaded.config)),
        format!("{:?}", list_effective_values(&values)),
        examine(&loaded.config).iter().map(|finding| format!("{finding}\n")).collect(),
        loaded.open_secrets.iter().map(|open| format!("{open}\n")).collect(),
        loaded.warnings.join("\n"),
    ]
    .join("\n")
}

fn value_of(loaded: &LoadedConfig, key: &str) -> Option<String> {
    list_values(&loaded.config).get(key)?.as_str().map(str::to_owned)
}

#[test]
fn every_secret_is_read_from_a_file_and_shown_nowhere() {
    let keys = secret_keys();
    assert!(keys.len() >= 3 && keys.contains(&"turn.secret".to_owned()), "{keys:?}");
    for key in &keys {
        let folder = tempfile::tempdir().unwrap();
        let path = write(folder.path(), "secret", format!(" {SECRET}\r\n\n").as_bytes(), 0o640);
        let table = format!("{{ file = {path:?} }}");
        let in_file = sources(folder.path(), key, &table);
        let elsewhere = tempfile::tempdir().unwrap();
        let inline = sources(elsewhere.path(), key, &format!("{SECRET:?}"));
        let as_argument = ConfigSources { arguments: vec![format!("{key}={table}")], ..ConfigSources::default() };
        let name = format!("CONDUIT_{}", key.to_uppercase().replace('.', "__"));
        let as_variable = ConfigSources { environment: vec![(name, table)], ..ConfigSources::default() };
        for sources in [in_file, as_argument, as_variable, inline] {
            let loaded = load_config(&sources).unwrap_or_else(|errors| panic!("{key}: {errors}"));
            assert_eq!(value_of(&loaded, key).as_deref(), Some(SECRET), "{key}");
            assert_eq!(loaded.open_secrets, []);
            let shown = everything_shown(&loaded);
            assert!(shown.contains(key.rsplit('.').next().unwrap()), "{key}: {shown}");
            assert!(!shown.contains(SECRET), "{key}: {shown}");
        }
    }
}

#[test]
fn a_file_that_cannot_be_a_secret_is_refused_and_named() {
    for key in secret_keys() {
        let folder = tempfile::tempdir().unwrap();
        let here = folder.path();
        let long = vec![b'x'; usize::try_from(MAX_SECRET).unwrap() + 1];
        let cases = [
            (here.join("missing").to_str().unwrap().to_owned(), "No such file"),
            (here.to_str().unwrap().to_owned(), "it is a folder"),
            (write(here, "empty", b" \n", 0o600), "it is empty"),
            (write(here, "long", &long, 0o600), "it is longer"),
            (write(here, "binary", b"\xff\xfe", 0o600), "UTF-8"),
        ];
        for (path, reason) in cases {
            let errors = load_config(&sources(here, &key, &format!("{{ file = {path:?} }}"))).unwrap_err();
            let [ConfigError::Unreadable { path: named, .. }] = errors.0.as_slice() else { panic!("{key}: {errors}") };
            assert_eq!(named, Path::new(&path));
            assert!(errors.to_string().contains(reason), "{key}: {errors}");
        }
        // A table of another form is not quoted.
        let errors = load_config(&sources(here, &key, &format!("{{ fiel = {SECRET:?} }}"))).unwrap_err();
        assert!(!errors.to_string().contains(SECRET) && errors.to_string().contains(&key), "{errors}");
    }
}

#[test]
fn a_file_that_everybody_can_read_is_a_warning() {
    for key in secret_keys() {
        let folder = tempfile::tempdir().unwrap();
        let path = write(folder.path(), "secret", SECRET.as_bytes(), 0o644);
        let loaded = load_config(&sources(folder.path(), &key, &format!("{{ file = {path:?} }}"))).unwrap();
        assert_eq!(loaded.open_secrets, [OpenSecret { key: key.clone(), path: path.clone().into() }]);
        assert_eq!(value_of(&loaded, &key).as_deref(), Some(SECRET));
        let shown = everything_shown(&loaded);
        assert!(shown.contains(&path) && !shown.contains(SECRET), "{key}: {shown}");
    }
}

#[test]
fn only_secrets_can_be_in_files() {
    let folder = tempfile::tempdir().unwrap();
    let path = write(folder.path(), "name", b"example.org", 0o600);
    let errors = load_config(&sources(folder.path(), "server_name", &format!("{{ file = {path:?} }}"))).unwrap_err();
    assert!(errors.to_string().contains("server_name"), "{errors}");
}
