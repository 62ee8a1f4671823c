//! What a user changed: own rules, and overrides of the default rules.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::defaults::{DEFAULT_RULES, DefaultRule, MASTER_RULE, find_default};
use super::rule::{Action, Condition, Rule, RuleKind, Ruleset};
use crate::ids::UserId;

/// The largest JSON form of a user's edits, in bytes; it keeps them within one stored value and bounds the
/// work of evaluating them.
pub const MAX_EDITS_BYTES: usize = 64 * 1024;

/// The longest glob pattern, in characters.
const MAX_PATTERN_CHARS: usize = 256;

/// The longest rule id, in bytes.
const MAX_RULE_ID_BYTES: usize = 512;

/// Why an edit was refused. Every variant is the client's fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EditError {
    /// No such rule: 404 `M_NOT_FOUND`.
    #[error("the push rule was not found")]
    NotFound,
    /// The rule id begins with a dot: 400 `M_INVALID_PARAM`.
    #[error("rule ids beginning with a dot are reserved for server-default rules")]
    ReservedId,
    /// The rule id is empty, too long or holds a slash or backslash: 400 `M_INVALID_PARAM`.
    #[error("a rule id must have 1 to 512 bytes and no slash or backslash")]
    InvalidId,
    /// `before` or `after` names no rule of the user in this kind: 400 `M_UNKNOWN`.
    #[error("before/after rule not found: {0}")]
    NeighbourNotFound(String),
    /// A content rule came without a pattern: 400 `M_MISSING_PARAM`.
    #[error("a content rule needs a pattern")]
    MissingPattern,
    /// A pattern is empty or too long: 400 `M_INVALID_PARAM`.
    #[error("a pattern must have 1 to 256 characters")]
    InvalidPattern,
    /// A condition has no `kind`: 400 `M_INVALID_PARAM`.
    #[error("a condition needs a kind")]
    InvalidCondition,
    /// The user's rules as a whole would exceed [`MAX_EDITS_BYTES`]: 400 `M_TOO_LARGE`.
    #[error("too many push rules")]
    TooLarge,
}

/// The body of `PUT /pushrules/global/{kind}/{ruleId}`.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct NewRule {
    /// What to do on a match.
    pub actions: Vec<Action>,
    /// For override and underride rules.
    #[serde(default)]
    pub conditions: Option<Vec<Condition>>,
    /// For content rules.
    #[serde(default)]
    pub pattern: Option<String>,
    /// Fields the server does not know; kept.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// Where a rule goes among the user's own rules of its kind.
#[derive(Clone, Copy, Debug, Default)]
pub struct Placement<'a> {
    /// Directly above this rule; wins over `after`.
    pub before: Option<&'a str>,
    /// Directly below this rule.
    pub after: Option<&'a str>,
}

/// A user's edit of one default rule.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct DefaultEdit {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    enabled: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    actions: Option<Vec<Action>>,
}

/// Everything a user changed in the push rules; stored as JSON (it holds free JSON values).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PushEdits {
    #[serde(default)]
    own: Ruleset,
    /// By rule id, which is unique among the default rules of all kinds.
    #[serde(default)]
    defaults: BTreeMap<String, DefaultEdit>,
}

impl PushEdits {
    /// Whether the user has changed nothing.
    pub fn is_empty(&self) -> bool {
        self.defaults.is_empty() && RuleKind::ALL.into_iter().all(|kind| self.own.of_kind(kind).is_empty())
    }

    /// Adds or replaces a user's own rule. A new rule is enabled and goes on top of its kind unless placed;
    /// a replaced rule keeps its place, unless placed, and its enabled state. Historical actions are dropped.
    pub fn put_rule(
        &mut self,
        kind: RuleKind,
        rule_id: &str,
        new: NewRule,
        placement: Placement<'_>,
    ) -> Result<(), EditError> {
        check_new_rule(kind, rule_id, &new)?;
        let mut next = self.clone();
        let rules = next.own.of_kind_mut(kind);
        let previous = rules.iter().position(|rule| rule.rule_id == rule_id);
        let enabled = previous.and_then(|index| rules.get(index)).is_none_or(|rule| rule.enabled);
        let rule = build_rule(kind, rule_id, enabled, new);
        let unplaced = placement.before.is_none() && placement.after.is_none();
        match previous {
            Some(index) if unplaced => rules[index] = rule,
            _ => {
                // A rule placed next to itself stays where it is.
                let neighbour = placement.before.or(placement.after);
                if neighbour == Some(rule_id)
                    && let Some(index) = previous
                {
                    rules[index] = rule;
                } else {
                    rules.retain(|other| other.rule_id != rule_id);
                    let index = find_place(rules, placement)?;
                    rules.insert(index, rule);
                }
            }
        }
        self.replace_with(next)
    }

    /// Removes a user's own rule. Default rules cannot be removed and count as not found.
    pub fn delete_rule(&mut self, kind: RuleKind, rule_id: &str) -> Result<(), EditError> {
        let rules = self.own.of_kind_mut(kind);
        let index = rules.iter().position(|rule| rule.rule_id == rule_id).ok_or(EditError::NotFound)?;
        rules.remove(index);
        Ok(())
    }

    /// Enables or disables a rule, own or default.
    pub fn set_enabled(&mut self, kind: RuleKind, rule_id: &str, enabled: bool) -> Result<(), EditError> {
        if let Some(default) = find_default(kind, rule_id) {
            self.edit_default(default, |edit| {
                edit.enabled = (enabled != default.enabled).then_some(enabled);
            });
            return Ok(());
        }
        self.own_rule_mut(kind, rule_id)?.enabled = enabled;
        Ok(())
    }

    /// Sets the actions of a rule, own or default. Historical actions are dropped.
    pub fn set_actions(&mut self, kind: RuleKind, rule_id: &str, actions: Vec<Action>) -> Result<(), EditError> {
        let actions = drop_historical(actions);
        let mut next = self.clone();
        match find_default(kind, rule_id) {
            Some(default) => next.edit_default(default, |edit| {
                edit.actions = (actions != default.actions()).then_some(actions);
            }),
            None => next.own_rule_mut(kind, rule_id)?.actions = actions,
        }
        self.replace_with(next)
    }

    /// The whole ruleset as the client sees it: the master rule, then per kind the user's own rules and the
    /// default rules with this user's edits applied.
    pub fn ruleset(&self, user: &UserId) -> Ruleset {
        let mut ruleset = self.own.clone();
        for default in DEFAULT_RULES {
            let mut rule = default.render(user);
            rule.enabled = self.default_enabled(default);
            rule.actions = self.default_actions(default);
            let rules = ruleset.of_kind_mut(default.kind);
            let index = if default.rule_id == MASTER_RULE { 0 } else { rules.len() };
            rules.insert(index, rule);
        }
        ruleset
    }

    /// The user's own rules of a kind, highest priority first.
    pub(super) fn own_rules(&self, kind: RuleKind) -> &[Rule] {
        self.own.of_kind(kind)
    }

    /// Whether a default rule is enabled for this user.
    pub(super) fn default_enabled(&self, default: &DefaultRule) -> bool {
        self.defaults.get(default.rule_id).and_then(|edit| edit.enabled).unwrap_or(default.enabled)
    }

    /// The actions of a default rule for this user.
    pub(super) fn default_actions(&self, default: &DefaultRule) -> Vec<Action> {
        let edited = self.defaults.get(default.rule_id).and_then(|edit| edit.actions.clone());
        edited.unwrap_or_else(|| default.actions())
    }

    fn own_rule_mut(&mut self, kind: RuleKind, rule_id: &str) -> Result<&mut Rule, EditError> {
        self.own.of_kind_mut(kind).iter_mut().find(|rule| rule.rule_id == rule_id).ok_or(EditError::NotFound)
    }

    /// Changes the edit of a default rule and forgets it when nothing differs from the default any more.
    fn edit_default(&mut self, default: &DefaultRule, change: impl FnOnce(&mut DefaultEdit)) {
        let edit = self.defaults.entry(default.rule_id.to_owned()).or_default();
        change(edit);
        if *edit == DefaultEdit::default() {
            self.defaults.remove(default.rule_id);
        }
    }

    fn replace_with(&mut self, next: Self) -> Result<(), EditError> {
        let bytes = serde_json::to_vec(&next).map_err(|_| EditError::TooLarge)?;
        if bytes.len() > MAX_EDITS_BYTES {
            return Err(EditError::TooLarge);
        }
        *self = next;
        Ok(())
    }
}

fn drop_historical(mut actions: Vec<Action>) -> Vec<Action> {
    actions.retain(|action| !action.is_historical());
    actions
}

fn build_rule(kind: RuleKind, rule_id: &str, enabled: bool, new: NewRule) -> Rule {
    let mut other = new.other;
    for name in ["rule_id", "default", "enabled"] {
        other.remove(name);
    }
    Rule {
        rule_id: rule_id.to_owned(),
        default: false,
        enabled,
        actions: drop_historical(new.actions),
        conditions: kind.has_conditions().then(|| new.conditions.unwrap_or_default()),
        pattern: new.pattern.filter(|_| kind == RuleKind::Content),
        other,
    }
}

fn check_new_rule(kind: RuleKind, rule_id: &str, new: &NewRule) -> Result<(), EditError> {
    if rule_id.starts_with('.') {
        return Err(EditError::ReservedId);
    }
    if rule_id.is_empty() || rule_id.len() > MAX_RULE_ID_BYTES || rule_id.contains(['/', '\\']) {
        return Err(EditError::InvalidId);
    }
    if kind == RuleKind::Content {
        let pattern = new.pattern.as_deref().ok_or(EditError::MissingPattern)?;
        if pattern.is_empty() || pattern.chars().count() > MAX_PATTERN_CHARS {
            return Err(EditError::InvalidPattern);
        }
    }
    if kind.has_conditions() {
        for condition in new.conditions.iter().flatten() {
            condition.kind().ok_or(EditError::InvalidCondition)?;
            if condition.text("pattern").is_some_and(|pattern| pattern.chars().count() > MAX_PATTERN_CHARS) {
                return Err(EditError::InvalidPattern);
            }
        }
    }
    Ok(())
}

/// The index at which a rule lands, given the user's other rules of its kind.
fn find_place(rules: &[Rule], placement: Placement<'_>) -> Result<usize, EditError> {
    let index_of = |rule_id: &str| {
        let found = rules.iter().position(|rule| rule.rule_id == rule_id);
        found.ok_or_else(|| EditError::NeighbourNotFound(rule_id.to_owned()))
    };
    match (placement.before, placement.after) {
        (Some(before), _) => index_of(before),
        (None, Some(after)) => Ok(index_of(after)? + 1),
        (None, None) => Ok(0),
    }
}
