//! The JSON model of push rules.

use std::fmt;
use std::str::FromStr;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};

/// The kinds of rules, in the order in which they are evaluated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RuleKind {
    /// Conditions of highest priority.
    Override,
    /// A word pattern on `content.body`.
    Content,
    /// One room; the rule id is the room id.
    Room,
    /// One sender; the rule id is the user id.
    Sender,
    /// Conditions of lowest priority.
    Underride,
}

impl RuleKind {
    /// Every kind, highest priority first.
    pub const ALL: [Self; 5] = [Self::Override, Self::Content, Self::Room, Self::Sender, Self::Underride];

    /// The name used in JSON and in request paths.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Override => "override",
            Self::Content => "content",
            Self::Room => "room",
            Self::Sender => "sender",
            Self::Underride => "underride",
        }
    }

    /// Whether rules of this kind carry a list of conditions.
    pub fn has_conditions(self) -> bool {
        matches!(self, Self::Override | Self::Underride)
    }
}

impl fmt::Display for RuleKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for RuleKind {
    type Err = ();

    fn from_str(name: &str) -> Result<Self, ()> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name).ok_or(())
    }
}

/// What a matching rule does. Client-Server API §Actions.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Notify the user.
    Notify,
    /// Set an entry of the `tweaks` sent to the push gateway.
    SetTweak {
        /// Name of the tweak, such as `sound`.
        tweak: Box<str>,
        /// Its value, where one was given.
        value: Option<Value>,
    },
    /// An action this server does not know; kept, without effect.
    Unknown(Value),
}

impl Action {
    /// The tweak `sound` with the given value.
    pub fn sound(value: &str) -> Self {
        Self::SetTweak { tweak: "sound".into(), value: Some(Value::String(value.to_owned())) }
    }

    /// The tweak `highlight`, which means `true` without a value.
    pub fn highlight() -> Self {
        Self::SetTweak { tweak: "highlight".into(), value: None }
    }

    /// Whether this is one of the historical actions that must be ignored.
    pub(super) fn is_historical(&self) -> bool {
        matches!(self, Self::Unknown(Value::String(name)) if name == "dont_notify" || name == "coalesce")
    }
}

impl Serialize for Action {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Notify => serializer.serialize_str("notify"),
            Self::Unknown(value) => value.serialize(serializer),
            Self::SetTweak { tweak, value } => {
                let mut object = Map::new();
                object.insert("set_tweak".to_owned(), Value::String(tweak.to_string()));
                if let Some(value) = value {
                    object.insert("value".to_owned(), value.clone());
                }
                object.serialize(serializer)
            }
        }
    }
}

impl<'de> Deserialize<'de> for Action {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Value::deserialize(deserializer)? {
            Value::String(name) if name == "notify" => Ok(Self::Notify),
            Value::Object(mut object) => match object.remove("set_tweak") {
                Some(Value::String(tweak)) => {
                    Ok(Self::SetTweak { tweak: tweak.into_boxed_str(), value: object.remove("value") })
                }
                Some(_) => Err(D::Error::custom("`set_tweak` must be a string")),
                None => Ok(Self::Unknown(Value::Object(object))),
            },
            value @ Value::String(_) => Ok(Self::Unknown(value)),
            _ => Err(D::Error::custom("an action must be a string or an object")),
        }
    }
}

/// One condition of an override or underride rule, kept exactly as it was given.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Condition(pub Map<String, Value>);

impl Condition {
    /// The condition's `kind`, where it has one.
    pub fn kind(&self) -> Option<&str> {
        self.text("kind")
    }

    /// A string parameter.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name).and_then(Value::as_str)
    }

    /// A condition from its kind and parameters.
    pub(super) fn build(kind: &str, parameters: &[(&str, Value)]) -> Self {
        let mut object: Map<String, Value> =
            parameters.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
        object.insert("kind".to_owned(), Value::String(kind.to_owned()));
        Self(object)
    }
}

/// One push rule as clients see it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rule {
    /// Unique within the kind; begins with a dot for server-default rules.
    pub rule_id: String,
    /// Whether the server defined the rule.
    pub default: bool,
    /// Disabled rules never match.
    pub enabled: bool,
    /// What to do on a match; may be empty.
    pub actions: Vec<Action>,
    /// Present for override and underride rules. All must hold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conditions: Option<Vec<Condition>>,
    /// Present for content rules: a glob on words of `content.body`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pattern: Option<String>,
    /// Fields the server does not know.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// A user's whole ruleset as clients see it (`global`), each list highest priority first.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Ruleset {
    /// Override rules.
    #[serde(default, rename = "override")]
    pub overrides: Vec<Rule>,
    /// Content rules.
    #[serde(default)]
    pub content: Vec<Rule>,
    /// Room rules.
    #[serde(default)]
    pub room: Vec<Rule>,
    /// Sender rules.
    #[serde(default)]
    pub sender: Vec<Rule>,
    /// Underride rules.
    #[serde(default)]
    pub underride: Vec<Rule>,
}

impl Ruleset {
    /// The rules of one kind, highest priority first.
    pub fn of_kind(&self, kind: RuleKind) -> &[Rule] {
        match kind {
            RuleKind::Override => &self.overrides,
            RuleKind::Content => &self.content,
            RuleKind::Room => &self.room,
            RuleKind::Sender => &self.sender,
            RuleKind::Underride => &self.underride,
        }
    }

    /// The rules of one kind, to be changed.
    pub(super) fn of_kind_mut(&mut self, kind: RuleKind) -> &mut Vec<Rule> {
        match kind {
            RuleKind::Override => &mut self.overrides,
            RuleKind::Content => &mut self.content,
            RuleKind::Room => &mut self.room,
            RuleKind::Sender => &mut self.sender,
            RuleKind::Underride => &mut self.underride,
        }
    }

    /// The rule with this kind and id.
    pub fn rule(&self, kind: RuleKind, rule_id: &str) -> Option<&Rule> {
        self.of_kind(kind).iter().find(|rule| rule.rule_id == rule_id)
    }
}
