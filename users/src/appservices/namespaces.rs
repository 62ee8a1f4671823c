//! Namespaces: which ids a service cares for (Application Service API §"Registration").
//!
//! The specification leaves open where an expression has to match. Here it has to match from the first character on, as
//! the registrations of the field expect; those that mean whole ids say so themselves (`…:example\.org`).

use regex::{RegexSet, RegexSetBuilder};
use serde::Deserialize;

use super::RegistrationError;

/// The most expressions of one kind.
const MAX_NAMESPACES: usize = 1_000;
/// The longest expression, in bytes.
const MAX_REGEX_BYTES: usize = 1_024;
/// The most memory that the compiled expressions of one kind take, in bytes.
const MAX_COMPILED_BYTES: usize = 4 * 1024 * 1024;

/// One entry of a registration.
#[derive(Debug, Deserialize)]
pub(super) struct Namespace {
    regex: String,
    #[serde(default)]
    exclusive: bool,
}

/// The compiled expressions of one kind.
#[derive(Debug)]
pub(super) struct Namespaces {
    set: RegexSet,
    exclusive: RegexSet,
}

impl Namespaces {
    pub fn compile(kind: &'static str, entries: &[Namespace]) -> Result<Namespaces, RegistrationError> {
        if entries.len() > MAX_NAMESPACES {
            return Err(RegistrationError::invalid(kind, format!("more than {MAX_NAMESPACES} entries")));
        }
        for Namespace { regex, .. } in entries {
            if regex.is_empty() || regex.len() > MAX_REGEX_BYTES {
                let reason = format!("an expression has 1 to {MAX_REGEX_BYTES} bytes");
                return Err(RegistrationError::invalid(kind, reason));
            }
            // One by one first, so that the operator is told which one is wrong.
            build_set(&[regex]).map_err(|error| RegistrationError::Namespace {
                kind,
                regex: regex.clone(),
                reason: error.to_string(),
            })?;
        }
        let all = |error: regex::Error| RegistrationError::invalid(kind, error.to_string());
        let every: Vec<&String> = entries.iter().map(|entry| &entry.regex).collect();
        let exclusive: Vec<&String> =
            entries.iter().filter(|entry| entry.exclusive).map(|entry| &entry.regex).collect();
        Ok(Namespaces { set: build_set(&every).map_err(all)?, exclusive: build_set(&exclusive).map_err(all)? })
    }

    /// Whether an id is in one of them.
    pub fn holds(&self, id: &str) -> bool {
        self.set.is_match(id)
    }

    /// Whether an id is in one of the exclusive ones.
    pub fn holds_exclusively(&self, id: &str) -> bool {
        self.exclusive.is_match(id)
    }
}

fn build_set(expressions: &[&String]) -> Result<RegexSet, regex::Error> {
    let anchored = expressions.iter().map(|regex| format!(r"\A(?:{regex})"));
    RegexSetBuilder::new(anchored).size_limit(MAX_COMPILED_BYTES).dfa_size_limit(MAX_COMPILED_BYTES).build()
}
