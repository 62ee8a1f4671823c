//! Arguments whose content is not written among the others: secrets that are asked for, and files.

use std::borrow::Cow;
use std::convert::Infallible;
use std::str::FromStr;
use std::sync::{Arc, OnceLock};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::error::AdminError;

/// The largest file or secret that an operation is given, in bytes.
const MAX_CONTENT: usize = 8 * 1024 * 1024;

/// Where content arrives; clones share it.
type Content = Arc<OnceLock<String>>;

/// A password or another secret. It is never shown and never recorded. On a command line `-` asks for it.
#[derive(Clone)]
pub struct Secret(Content);

/// A file's content, as text. On a command line it is a path, or `-` for the standard input; in JSON the content.
#[derive(Clone)]
pub struct Document {
    name: Arc<str>,
    content: Content,
}

/// Something that a face has to ask for before an operation can run.
#[derive(Clone, Debug)]
pub struct Question {
    /// What is asked for.
    pub kind: QuestionKind,
    content: Content,
}

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum QuestionKind {
    /// A secret, for the argument of this name.
    Secret(String),
    /// The content of the file of this name.
    Document(String),
}

impl Question {
    /// Gives the answer. Only the first one counts.
    ///
    /// # Errors
    /// `TooLarge`.
    pub fn answer(&self, content: String) -> Result<(), AdminError> {
        if content.len() > MAX_CONTENT {
            return Err(AdminError::TooLarge(format!("more than {MAX_CONTENT} bytes were given")));
        }
        // Whoever was first has been heard.
        let _ = self.content.set(content);
        Ok(())
    }
}

impl Secret {
    /// A secret in clear.
    pub fn new(secret: impl Into<String>) -> Secret {
        Secret(Arc::new(OnceLock::from(secret.into())))
    }

    /// In clear.
    ///
    /// # Errors
    /// `Invalid` if it was to be asked for and was not.
    pub fn reveal(&self) -> Result<&str, AdminError> {
        self.0.get().map(String::as_str).ok_or_else(|| AdminError::invalid("the secret was not given"))
    }

    pub(crate) fn question(&self, argument: &str) -> Option<Question> {
        let asked = self.0.get().is_none();
        asked.then(|| Question { kind: QuestionKind::Secret(argument.to_owned()), content: self.0.clone() })
    }
}

impl Document {
    /// The content.
    ///
    /// # Errors
    /// `Invalid` if the file was not given.
    pub fn text(&self) -> Result<&str, AdminError> {
        let text = self.content.get().map(String::as_str);
        text.ok_or_else(|| AdminError::invalid(format!("the content of {} was not given", self.name)))
    }

    pub(crate) fn question(&self) -> Option<Question> {
        let asked = self.content.get().is_none();
        let kind = QuestionKind::Document(self.name.to_string());
        asked.then(|| Question { kind, content: self.content.clone() })
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl std::fmt::Debug for Document {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Document").field("name", &self.name).finish_non_exhaustive()
    }
}

impl FromStr for Secret {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(if text == "-" { Secret(Content::default()) } else { Secret::new(text) })
    }
}

impl FromStr for Document {
    type Err = Infallible;

    fn from_str(path: &str) -> Result<Self, Infallible> {
        Ok(Document { name: path.into(), content: Content::default() })
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str("(secret)")
    }
}

impl Serialize for Document {
    /// Its name: what is recorded of it.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.name)
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Secret::new)
    }
}

impl<'de> Deserialize<'de> for Document {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let content = String::deserialize(deserializer)?;
        Ok(Document { name: "(content)".into(), content: Arc::new(OnceLock::from(content)) })
    }
}

impl JsonSchema for Secret {
    fn schema_name() -> Cow<'static, str> {
        "Secret".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "format": "password", "writeOnly": true})
    }
}

impl JsonSchema for Document {
    fn schema_name() -> Cow<'static, str> {
        "Document".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "description": "the content of a file, as text"})
    }
}
