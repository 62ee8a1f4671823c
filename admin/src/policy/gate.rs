//! Who is refused at once, from memory.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;
use rooms::{Deed, Gate};
use serde_json::{Value, json};
use spec::ids::{ServerName, UserId};
use spec::policy_list::{ListedRule, PolicyRules, PolicySubject};

use super::PolicyLists;

/// How many refusals wait to be recorded; further ones are counted only.
const MAX_REFUSALS: usize = 1_000;

/// Refusals that are not recorded yet.
#[derive(Default)]
pub(super) struct Refusals(Mutex<Waiting>);

#[derive(Default)]
struct Waiting {
    refusals: VecDeque<Value>,
    left_out: u64,
}

impl Refusals {
    fn add(&self, refusal: Value) {
        let mut waiting = self.0.lock();
        if waiting.refusals.len() < MAX_REFUSALS {
            waiting.refusals.push_back(refusal);
        } else {
            waiting.left_out = waiting.left_out.saturating_add(1);
        }
    }

    /// Takes what waits, and how many there were besides.
    pub fn take(&self) -> (VecDeque<Value>, u64) {
        let Waiting { refusals, left_out } = std::mem::take(&mut *self.0.lock());
        (refusals, left_out)
    }
}

/// The gate of the rooms. Users of this server are not judged by it: it is for the configuration to say what becomes of
/// them.
pub(crate) struct PolicyGate {
    pub lists: Arc<PolicyLists>,
    pub server_name: ServerName,
}

impl Gate for PolicyGate {
    fn judge(&self, deed: &Deed<'_>) -> Result<(), &'static str> {
        let rules = self.lists.rules();
        if rules.is_empty() {
            return Ok(());
        }
        let room = deed.room.and_then(|room| rules.find(PolicySubject::Room, room.as_str()));
        let found = room.map(|rule| (rule, "a policy list that this server follows names the room")).or_else(|| {
            let sender = self.find_rule(&rules, deed.sender);
            sender.map(|rule| (rule, "a policy list that this server follows names you")).or_else(|| {
                let target = self.find_rule(&rules, deed.target);
                target.map(|rule| (rule, "a policy list that this server follows names the user"))
            })
        });
        let Some((listed, reason)) = found else { return Ok(()) };
        self.lists.refusals.add(json!({
            "membership": deed.membership.as_str(),
            "sender": deed.sender,
            "target": deed.target,
            "room": deed.room,
            "list": &*listed.list,
            "rule": listed.rule.entity(),
        }));
        self.lists.news.notify_one();
        Err(reason)
    }

    fn hears(&self, user: &UserId) -> bool {
        self.find_rule(&self.lists.rules(), user).is_none()
    }
}

impl PolicyGate {
    fn find_rule<'a>(&self, rules: &'a PolicyRules, user: &UserId) -> Option<&'a ListedRule> {
        if user.server_name() == self.server_name.as_str() {
            return None;
        }
        find_rule_for_user(rules, user)
    }
}

/// The rule that names a user, or else their server, with or without its port.
pub(super) fn find_rule_for_user<'a>(rules: &'a PolicyRules, user: &UserId) -> Option<&'a ListedRule> {
    names_of(user).find_map(|(subject, id)| rules.find(subject, &id))
}

/// All rules that name a user or their server.
pub(super) fn rules_naming<'a>(rules: &'a PolicyRules, user: &UserId) -> Vec<&'a ListedRule> {
    names_of(user).flat_map(|(subject, id)| rules.matching(subject, &id).collect::<Vec<_>>()).collect()
}

/// By what rules name a user.
fn names_of(user: &UserId) -> impl Iterator<Item = (PolicySubject, String)> {
    let server = user.server_name().to_owned();
    let host = ServerName::parse(&server).ok().map(|server| server.host().to_owned());
    let host = host.filter(|host| *host != server);
    let servers = [Some(server), host].into_iter().flatten().map(|server| (PolicySubject::Server, server));
    std::iter::once((PolicySubject::User, user.to_string())).chain(servers)
}

#[cfg(test)]
mod tests;
