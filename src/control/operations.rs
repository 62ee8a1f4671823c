//! Operations of administrators over the control socket. Whoever may open it is the operator: it is the way in when
//! every administrator is locked out.

use std::sync::Arc;

use admin::arguments::QuestionKind;
use admin::tree::{Order, Parsed, parse};
use admin::{Actor, Admin, AdminError, Caller, Effect, Face, Outcome};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::serve::Dialogue;
use super::{ControlAnswer, ControlQuestion, ControlReply};

/// What stands before the words in help and in mistakes.
const NAME: &str = "conduit admin";

/// Performs the operation of a command line, and asks the client for what is missing.
pub(super) async fn perform(admin: &Admin, words: Vec<String>, dialogue: &mut Dialogue) -> Result<String, String> {
    let Order { prepared, json, yes } = match parse(NAME, words) {
        Parsed::Run(order) => order,
        Parsed::Answer { text, is_error: false } => return Ok(text),
        Parsed::Answer { text, is_error: true } => return Err(text),
    };
    for question in &prepared.questions {
        let asked = match &question.kind {
            QuestionKind::Secret(name) => ControlQuestion::Secret(name.clone()),
            QuestionKind::Document(name) => ControlQuestion::Read(name.clone()),
        };
        match dialogue.ask(asked).await? {
            ControlAnswer::Text(text) => question.answer(text).map_err(|error| error.to_string())?,
            ControlAnswer::Confirmed(_) => return Err("there was no answer".to_owned()),
        }
    }
    if prepared.entry.effect == Effect::Destroys && !yes {
        let asked = ControlQuestion::Confirm(format!("{}: this cannot be brought back", prepared.entry.name()));
        if dialogue.ask(asked).await? != ControlAnswer::Confirmed(true) {
            return Err("nothing was done".to_owned());
        }
    }
    let replies = dialogue.replies.clone();
    // Progress is for whoever is still there to read it.
    let progress = Arc::new(move |text| drop(replies.send(ControlReply::Progress(text))));
    let caller = Caller::new(Actor::Operator, Face::CommandLine).with_progress(progress);
    let outcome = admin.perform(&caller, prepared).await.map_err(describe)?;
    if let Outcome::File(file) = &outcome {
        let content = STANDARD.encode(&file.bytes);
        dialogue.say(ControlReply::File { name: file.name.clone(), content });
    }
    if json {
        serde_json::to_string_pretty(&outcome.to_json()).map_err(|error| error.to_string())
    } else {
        Ok(outcome.to_string())
    }
}

/// The operator reads causes too.
fn describe(error: AdminError) -> String {
    if let AdminError::Internal(source) = &error {
        tracing::error!(error = %source, "an operation failed");
    }
    error.to_string()
}
