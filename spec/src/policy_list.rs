//! Moderation policy lists: rooms whose state says which users, rooms and servers to keep away (Client-Server API
//! §Moderation policy lists; takedown: MSC4204, hashed entities: MSC4205). What follows from a rule, the caller decides.

use std::collections::HashMap;
use std::sync::Arc;

use base64::{
    Engine,
    alphabet::STANDARD,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::push::glob::Glob;

#[cfg(test)]
mod tests;

/// The longest pattern of a rule that is looked at, in bytes: identifiers are no longer.
const MAX_ENTITY_BYTES: usize = 255;
/// The longest reason that is kept, in characters.
const MAX_REASON_CHARS: usize = 500;
/// Hashes are written with and without padding.
const HASH_BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// What a rule is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum PolicySubject {
    /// Users, by user id.
    User,
    /// Rooms, by room id or alias.
    Room,
    /// Servers, by name.
    Server,
}

/// What a rule recommends. The stronger comes later in the order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Recommendation {
    /// Keep away.
    Ban,
    /// Keep away, and remove what there is (MSC4204).
    Takedown,
}

/// Whom a rule names.
#[derive(Clone, Debug)]
enum Pattern {
    /// One identifier; in lower case for users and servers.
    Literal(Box<str>),
    /// All that match.
    Glob(Glob),
    /// One identifier, by its SHA-256 hash.
    Hash([u8; 32]),
}

/// A rule of a list.
#[derive(Clone, Debug)]
pub struct PolicyRule {
    subject: PolicySubject,
    pattern: Pattern,
    entity: Box<str>,
    recommendation: Recommendation,
    reason: Option<Box<str>>,
}

#[derive(Deserialize)]
struct Content {
    entity: Option<String>,
    hashes: Option<Hashes>,
    #[serde(rename = "org.matrix.msc4205.hashes")]
    unstable_hashes: Option<Hashes>,
    recommendation: Option<String>,
    reason: Option<String>,
}

#[derive(Deserialize)]
struct Hashes {
    sha256: Option<String>,
}

impl PolicySubject {
    /// What rules in state events of this type are about, by today's name and those from before the specification.
    #[must_use]
    pub fn of_type(kind: &str) -> Option<PolicySubject> {
        match kind {
            "m.policy.rule.user" | "m.room.rule.user" | "org.matrix.mjolnir.rule.user" => Some(PolicySubject::User),
            "m.policy.rule.room" | "m.room.rule.room" | "org.matrix.mjolnir.rule.room" => Some(PolicySubject::Room),
            "m.policy.rule.server" | "m.room.rule.server" | "org.matrix.mjolnir.rule.server" => {
                Some(PolicySubject::Server)
            }
            _ => None,
        }
    }

    /// As it is shown to people.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            PolicySubject::User => "user",
            PolicySubject::Room => "room",
            PolicySubject::Server => "server",
        }
    }

    /// Identifiers of rooms are told apart by case, others are not.
    fn fold(self, text: &str) -> Box<str> {
        match self {
            PolicySubject::Room => text.into(),
            PolicySubject::User | PolicySubject::Server => text.to_lowercase().into(),
        }
    }
}

impl Recommendation {
    fn parse(text: &str) -> Option<Recommendation> {
        match text {
            "m.ban" | "org.matrix.mjolnir.ban" => Some(Recommendation::Ban),
            "m.takedown" | "org.matrix.msc4204.takedown" => Some(Recommendation::Takedown),
            _ => None,
        }
    }

    /// As it is shown to people.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Recommendation::Ban => "ban",
            Recommendation::Takedown => "takedown",
        }
    }
}

impl PolicyRule {
    /// Reads a state event of a list: its type and the JSON of its content. `None` for what is no rule, was taken back,
    /// or recommends what is not known.
    #[must_use]
    pub fn read(kind: &str, content: &str) -> Option<PolicyRule> {
        let subject = PolicySubject::of_type(kind)?;
        let Content { entity, hashes, unstable_hashes, recommendation, reason } = serde_json::from_str(content).ok()?;
        let recommendation = Recommendation::parse(&recommendation?)?;
        let hash = hashes.or(unstable_hashes).and_then(|hashes| hashes.sha256);
        let (pattern, entity) = match (entity, hash) {
            (Some(entity), _) => {
                if entity.is_empty() || entity.len() > MAX_ENTITY_BYTES {
                    return None;
                }
                let is_glob = entity.contains(['*', '?']);
                let pattern = match is_glob {
                    true => Pattern::Glob(Glob::new(&entity)),
                    false => Pattern::Literal(subject.fold(&entity)),
                };
                (pattern, entity)
            }
            (None, Some(hash)) => {
                let bytes = HASH_BASE64.decode(&hash).ok()?.try_into().ok()?;
                (Pattern::Hash(bytes), format!("sha256:{hash}"))
            }
            (None, None) => return None,
        };
        let reason = reason.map(|reason| reason.chars().take(MAX_REASON_CHARS).collect::<String>().into());
        Some(PolicyRule { subject, pattern, entity: entity.into(), recommendation, reason })
    }

    /// What it is about.
    #[must_use]
    pub fn subject(&self) -> PolicySubject {
        self.subject
    }

    /// Whom it names, as it was written; a hash with `sha256:` in front.
    #[must_use]
    pub fn entity(&self) -> &str {
        &self.entity
    }

    /// What it recommends.
    #[must_use]
    pub fn recommendation(&self) -> Recommendation {
        self.recommendation
    }

    /// Why, if it says so.
    #[must_use]
    pub fn reason(&self) -> Option<&str> {
        self.reason.as_deref()
    }

    /// Whether it names one identifier by its hash.
    #[must_use]
    pub fn is_hash(&self) -> bool {
        matches!(self.pattern, Pattern::Hash(_))
    }

    /// Whether it may name many at once.
    #[must_use]
    pub fn is_glob(&self) -> bool {
        matches!(self.pattern, Pattern::Glob(_))
    }
}

/// A rule, and the list it is of.
#[derive(Clone, Debug)]
pub struct ListedRule {
    /// The list: whatever its reader calls it.
    pub list: Arc<str>,
    /// The rule.
    pub rule: PolicyRule,
}

/// The rules of some lists, ready to be asked. A look costs two hashes and the number of globs.
#[derive(Clone, Debug, Default)]
pub struct PolicyRules {
    rules: Vec<ListedRule>,
    literals: HashMap<(PolicySubject, Box<str>), Vec<usize>>,
    hashes: HashMap<(PolicySubject, [u8; 32]), Vec<usize>>,
    globs: HashMap<PolicySubject, Vec<usize>>,
}

impl PolicyRules {
    /// Adds a rule.
    pub fn add(&mut self, list: &Arc<str>, rule: PolicyRule) {
        let place = self.rules.len();
        match &rule.pattern {
            Pattern::Literal(entity) => self.literals.entry((rule.subject, entity.clone())).or_default().push(place),
            Pattern::Hash(hash) => self.hashes.entry((rule.subject, *hash)).or_default().push(place),
            Pattern::Glob(_) => self.globs.entry(rule.subject).or_default().push(place),
        }
        self.rules.push(ListedRule { list: list.clone(), rule });
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rules.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// All of them, in the order in which they were added.
    #[must_use]
    pub fn all(&self) -> &[ListedRule] {
        &self.rules
    }

    /// The rules that name this identifier.
    pub fn matching(&self, subject: PolicySubject, id: &str) -> impl Iterator<Item = &ListedRule> {
        let literal = self.literals.get(&(subject, subject.fold(id)));
        let hash = match self.hashes.is_empty() {
            true => None,
            false => self.hashes.get(&(subject, Sha256::digest(id.as_bytes()).into())),
        };
        let exact = literal.into_iter().chain(hash).flatten().filter_map(|place| self.rules.get(*place));
        let globs = self.globs.get(&subject).into_iter().flatten().filter_map(|place| self.rules.get(*place));
        exact.chain(globs.filter(move |listed| match &listed.rule.pattern {
            Pattern::Glob(glob) => glob.matches(id),
            Pattern::Literal(_) | Pattern::Hash(_) => false,
        }))
    }

    /// The rule to follow for this identifier: the strongest that names it.
    #[must_use]
    pub fn find(&self, subject: PolicySubject, id: &str) -> Option<&ListedRule> {
        strongest(self.matching(subject, id))
    }

    /// As [`PolicyRules::find`], of the rules that name nobody else.
    #[must_use]
    pub fn find_exact(&self, subject: PolicySubject, id: &str) -> Option<&ListedRule> {
        strongest(self.matching(subject, id).filter(|listed| !listed.rule.is_glob()))
    }
}

fn strongest<'a>(rules: impl Iterator<Item = &'a ListedRule>) -> Option<&'a ListedRule> {
    let mut found: Option<&ListedRule> = None;
    for listed in rules {
        if found.is_none_or(|found| listed.rule.recommendation > found.rule.recommendation) {
            found = Some(listed);
        }
    }
    found
}
