//! Push rules of each user: the edits in account data, the compiled rules in memory.
//!
//! Spec: Client-Server API §"Push Rules". Users without edits share one compiled ruleset.

use std::sync::Arc;

use rooms::UserNid;
use serde_json::value::RawValue;
use spec::push::{Action, CompiledRuleset, EditError, NewRule, Placement, PushEdits, RuleKind, Ruleset};
use storage::{Batch, Read};

use crate::{
    UserError, Users,
    account_data::{GLOBAL_DATA, put_global},
    cache::ReadCache,
};

pub(crate) const PUSH_RULES_TYPE: &str = "m.push_rules";

/// Compiled rules by user.
pub(crate) struct CompiledRules(ReadCache<UserNid, Arc<CompiledRuleset>>);

impl CompiledRules {
    pub(crate) fn new() -> Self {
        Self(ReadCache::new(20_000))
    }

    pub(crate) fn forget(&self, user: UserNid) {
        self.0.forget(&user);
    }
}

impl Users {
    /// All push rules of a user, defaults included.
    pub fn push_rules(&self, user: UserNid) -> Result<Ruleset, UserError> {
        let user_id = self.rooms().user_id(user)?;
        Ok(self.push_edits(user)?.ruleset(&user_id))
    }

    /// The rules ready for evaluation. In memory after the first call.
    pub fn compiled_push_rules(&self, user: UserNid) -> Result<Arc<CompiledRuleset>, UserError> {
        self.inner.compiled_push_rules.0.get_or_read(&user, || Ok(CompiledRuleset::compile(&self.push_edits(user)?)))
    }

    /// Adds or replaces a rule of the user. Cancel-safe.
    ///
    /// # Errors
    /// `PushRule`.
    pub async fn put_push_rule(
        &self,
        user: UserNid,
        kind: RuleKind,
        rule_id: &str,
        rule: NewRule,
        placement: Placement<'_>,
    ) -> Result<(), UserError> {
        self.edit_push_rules(user, |edits| edits.put_rule(kind, rule_id, rule.clone(), placement)).await
    }

    /// Deletes a rule of the user. Cancel-safe.
    ///
    /// # Errors
    /// `PushRule`.
    pub async fn delete_push_rule(&self, user: UserNid, kind: RuleKind, rule_id: &str) -> Result<(), UserError> {
        self.edit_push_rules(user, |edits| edits.delete_rule(kind, rule_id)).await
    }

    /// Switches a rule, own or default, on or off. Cancel-safe.
    ///
    /// # Errors
    /// `PushRule`.
    pub async fn set_push_rule_enabled(
        &self,
        user: UserNid,
        kind: RuleKind,
        rule_id: &str,
        enabled: bool,
    ) -> Result<(), UserError> {
        self.edit_push_rules(user, |edits| edits.set_enabled(kind, rule_id, enabled)).await
    }

    /// Sets the actions of a rule, own or default. Cancel-safe.
    ///
    /// # Errors
    /// `PushRule`.
    pub async fn set_push_rule_actions(
        &self,
        user: UserNid,
        kind: RuleKind,
        rule_id: &str,
        actions: &[Action],
    ) -> Result<(), UserError> {
        self.edit_push_rules(user, |edits| edits.set_actions(kind, rule_id, actions.to_vec())).await
    }

    /// The content of the `m.push_rules` account data.
    pub(crate) fn push_rules_content(&self, user: UserNid) -> Result<Box<RawValue>, UserError> {
        #[derive(serde::Serialize)]
        struct Content {
            global: Ruleset,
        }
        serde_json::value::to_raw_value(&Content { global: self.push_rules(user)? })
            .map_err(|_| UserError::Inconsistent("push rules do not serialise"))
    }

    fn push_edits(&self, user: UserNid) -> Result<PushEdits, UserError> {
        let row = self.store().get(&GLOBAL_DATA, &(user, PUSH_RULES_TYPE.to_owned()))?;
        row.map_or(Ok(PushEdits::default()), |row| parse_edits(&row.value))
    }

    async fn edit_push_rules(
        &self,
        user: UserNid,
        edit: impl Fn(&mut PushEdits) -> Result<(), EditError>,
    ) -> Result<(), UserError> {
        let key = (user, PUSH_RULES_TYPE.to_owned());
        loop {
            let old = self.store().get(&GLOBAL_DATA, &key)?;
            let mut edits = old.as_ref().map_or(Ok(PushEdits::default()), |row| parse_edits(&row.value))?;
            edit(&mut edits)?;
            let json =
                serde_json::to_vec(&edits).map_err(|_| UserError::Inconsistent("push rules do not serialise"))?;
            let mut batch = Batch::new();
            match &old {
                Some(old) if old.value == json => return Ok(()),
                Some(old) => batch.expect_equals(&GLOBAL_DATA, &key, old),
                None => batch.expect_absent(&GLOBAL_DATA, &key),
            };
            put_global(&mut batch, &key, old.as_ref(), json);
            if self.try_commit(batch).await?.is_some() {
                return Ok(());
            }
        }
    }
}

fn parse_edits(json: &[u8]) -> Result<PushEdits, UserError> {
    serde_json::from_slice(json).map_err(|_| UserError::Inconsistent("stored push rules are not readable"))
}

#[cfg(test)]
mod tests;
