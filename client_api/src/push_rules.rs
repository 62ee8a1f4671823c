//! Client-Server API §"Push Rules: API".

use axum::extract::State;
use serde::Deserialize;
use serde_json::json;
use spec::push::{Action, NewRule, Placement, Rule, RuleKind, Ruleset};
use users::Users;

use crate::error::ApiError;
use crate::extract::{Args, User};
use crate::json::{Answer, JsonBody, answer, answer_empty};
use crate::query::Query;

type RuleArgs = Args<(String, String)>;

fn parse_kind(kind: &str) -> Result<RuleKind, ApiError> {
    kind.parse().map_err(|()| ApiError::invalid_param("kind is override, underride, sender, room or content"))
}

fn find_rule<'a>(rules: &'a Ruleset, kind: &str, id: &str) -> Result<&'a Rule, ApiError> {
    rules.rule(parse_kind(kind)?, id).ok_or_else(|| ApiError::not_found("push rule not found"))
}

/// `GET /pushrules/`.
pub(crate) async fn get_all(user: User, State(users): State<Users>) -> Answer {
    answer(&json!({"global": users.push_rules(user.user)?}))
}

/// `GET /pushrules/global/`.
pub(crate) async fn get_global(user: User, State(users): State<Users>) -> Answer {
    answer(&users.push_rules(user.user)?)
}

/// `GET /pushrules/global/{kind}/{ruleId}`.
pub(crate) async fn get_rule(user: User, Args((kind, id)): RuleArgs, State(users): State<Users>) -> Answer {
    answer(find_rule(&users.push_rules(user.user)?, &kind, &id)?)
}

/// `PUT /pushrules/global/{kind}/{ruleId}`.
pub(crate) async fn put_rule(
    user: User,
    Args((kind, id)): RuleArgs,
    query: Query,
    State(users): State<Users>,
    JsonBody(rule): JsonBody<NewRule>,
) -> Answer {
    let (before, after) = (query.text("before")?, query.text("after")?);
    let placement = Placement { before: before.as_deref(), after: after.as_deref() };
    users.put_push_rule(user.user, parse_kind(&kind)?, &id, rule, placement).await?;
    answer_empty()
}

/// `DELETE /pushrules/global/{kind}/{ruleId}`.
pub(crate) async fn delete_rule(user: User, Args((kind, id)): RuleArgs, State(users): State<Users>) -> Answer {
    users.delete_push_rule(user.user, parse_kind(&kind)?, &id).await?;
    answer_empty()
}

/// `GET /pushrules/global/{kind}/{ruleId}/actions`.
pub(crate) async fn get_actions(user: User, Args((kind, id)): RuleArgs, State(users): State<Users>) -> Answer {
    answer(&json!({"actions": find_rule(&users.push_rules(user.user)?, &kind, &id)?.actions}))
}

#[derive(Deserialize)]
pub(crate) struct ActionsBody {
    actions: Vec<Action>,
}

/// `PUT /pushrules/global/{kind}/{ruleId}/actions`.
pub(crate) async fn set_actions(
    user: User,
    Args((kind, id)): RuleArgs,
    State(users): State<Users>,
    JsonBody(body): JsonBody<ActionsBody>,
) -> Answer {
    users.set_push_rule_actions(user.user, parse_kind(&kind)?, &id, &body.actions).await?;
    answer_empty()
}

/// `GET /pushrules/global/{kind}/{ruleId}/enabled`.
pub(crate) async fn get_enabled(user: User, Args((kind, id)): RuleArgs, State(users): State<Users>) -> Answer {
    answer(&json!({"enabled": find_rule(&users.push_rules(user.user)?, &kind, &id)?.enabled}))
}

#[derive(Deserialize)]
pub(crate) struct EnabledBody {
    enabled: bool,
}

/// `PUT /pushrules/global/{kind}/{ruleId}/enabled`.
pub(crate) async fn set_enabled(
    user: User,
    Args((kind, id)): RuleArgs,
    State(users): State<Users>,
    JsonBody(body): JsonBody<EnabledBody>,
) -> Answer {
    users.set_push_rule_enabled(user.user, parse_kind(&kind)?, &id, body.enabled).await?;
    answer_empty()
}
