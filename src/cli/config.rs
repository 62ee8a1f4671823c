//! `conduit config check` and `conduit config diff`.

use std::process::ExitCode;

use serde_json::json;

use super::{describe_errors, print};
use crate::config::check::{Finding, Level, examine};
use crate::config::{ConfigSources, LoadedConfig, differences_from_defaults, load_config, render_differences};

/// Looks for everything that is wrong, and says what to do.
pub(super) fn check(sources: &ConfigSources, as_json: bool) -> ExitCode {
    let (findings, unreadable) = match load_config(sources) {
        Ok(loaded) => {
            let mut findings = examine(&loaded.config);
            findings.extend(loaded.open_secrets.iter().map(Finding::of_open_secret));
            findings.extend(loaded.warnings.into_iter().map(Finding::of_environment));
            (findings, None)
        }
        Err(errors) => (errors.0.iter().map(Finding::of_error).collect(), Some(errors)),
    };
    let has_errors = findings.iter().any(|finding| finding.level == Level::Error);
    let file = sources.file.as_ref().map(|path| path.display().to_string());
    let text = if as_json {
        format!("{}\n", json!({ "ok": !has_errors, "file": file, "findings": findings }))
    } else if let Some(errors) = unreadable {
        eprintln!("conduit: {}", describe_errors(&errors));
        String::new()
    } else {
        describe(&findings, file.as_deref())
    };
    if let Err(message) = print(&text) {
        eprintln!("conduit: {message}");
        return ExitCode::FAILURE;
    }
    if has_errors { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn describe(findings: &[Finding], file: Option<&str>) -> String {
    let mut text: String = findings.iter().map(|finding| format!("{finding}\n")).collect();
    let errors = findings.iter().filter(|finding| finding.level == Level::Error).count();
    let warnings = findings.len() - errors;
    text.push_str(&match (file, errors, warnings) {
        (Some(path), 0, 0) => format!("{path} is fine\n"),
        (None, 0, 0) => "there is no configuration file; the defaults are fine\n".to_owned(),
        (_, errors, warnings) => format!("errors: {errors}, warnings: {warnings}\n"),
    });
    text
}

/// Prints what differs from the defaults.
pub(super) fn show_differences(loaded: &LoadedConfig, as_json: bool) -> Result<(), String> {
    if !as_json {
        return print(&render_differences(loaded));
    }
    let differences = differences_from_defaults(&loaded.config);
    let items: Vec<_> = differences
        .iter()
        .map(|difference| {
            let source = loaded.sources.get(&difference.key).map(ToString::to_string);
            json!({ "key": difference.key, "default": difference.before, "value": difference.after, "source": source })
        })
        .collect();
    print(&format!("{}\n", json!({ "items": items })))
}
