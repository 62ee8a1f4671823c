//! One administrator's commands, one after the other, and the question that one of them may have raised.

use std::sync::Arc;
use std::time::Duration;

use rooms::{RoomSeq, UserNid};
use runtime::CancellationToken;
use spec::ids::UserId;
use storage::Batch;
use tokio::sync::{mpsc, watch};

use super::page::Page;
use super::progress;
use super::rows::{ADMIN_ROOM_RUNNING, RunningRow};
use super::voice::Voice;
use super::words::{Message, PREFIX, Typed};
use crate::admin::Admin;
use crate::arguments::QuestionKind;
use crate::caller::{Actor, Caller, Face};
use crate::entry::Prepared;
use crate::error::AdminError;
use crate::operation::Effect;
use crate::outcome::Outcome;
use crate::tree::{self, Order, Parsed};

/// For how long a question waits for its answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(5 * 60);
/// What is said of a command that was asked about and not confirmed.
const NOT_DONE: &str = "Nothing was done.";

/// A message of the administrator.
#[derive(Debug)]
pub(super) struct Incoming {
    pub seq: RoomSeq,
    pub event_id: String,
    pub message: Message,
}

/// The commands of one administrator.
pub(super) struct Line {
    admin: Admin,
    voice: Voice,
    user: UserNid,
    user_id: UserId,
    asked: Option<Asked>,
}

/// A command that waits for a `yes`.
struct Asked {
    order: Order,
    /// The message of the command.
    event_id: String,
    until: Duration,
}

/// What a command came to.
enum Reply {
    Page(Page),
    File(crate::outcome::File),
}

impl Line {
    pub fn new(admin: Admin, voice: Voice, user: UserNid, user_id: UserId) -> Line {
        Line { admin, voice, user, user_id, asked: None }
    }

    /// Takes what the administrator says until shutdown. A command that runs is awaited.
    pub async fn run(mut self, mut incoming: mpsc::Receiver<Incoming>, shutdown: CancellationToken) {
        loop {
            let clock = self.admin.clock().clone();
            let until = self.asked.as_ref().map(|asked| asked.until);
            let heard = tokio::select! {
                heard = incoming.recv() => heard,
                () = clock.sleep_until(until.unwrap_or_default()), if until.is_some() => {
                    self.drop_question("Nobody said yes within five minutes. Nothing was done.").await;
                    continue;
                }
                () = shutdown.cancelled() => return,
            };
            let Some(Incoming { seq, event_id, message }) = heard else { return };
            self.take(seq, &event_id, message).await;
            self.settle(seq).await;
        }
    }

    async fn take(&mut self, seq: RoomSeq, event_id: &str, message: Message) {
        match message {
            Message::Talk(text) => {
                let Some(asked) = self.asked.take() else { return };
                if !text.trim().eq_ignore_ascii_case("yes") {
                    return self.say(Page::text(NOT_DONE), &asked.event_id).await;
                }
                if self.begin(seq, event_id).await {
                    let reply = self.perform(asked.order, &asked.event_id).await;
                    self.reply(reply, &asked.event_id, None).await;
                }
            }
            Message::Malformed { reason, raw } => {
                self.drop_question(NOT_DONE).await;
                let words: Vec<String> = raw.split_whitespace().skip(1).map(str::to_owned).collect();
                let removed = self.remove_secrets(&words, raw.contains("```"), event_id).await;
                let page = Page::text(format!("The command cannot be read: {reason}."));
                self.reply(Reply::Page(page), event_id, removed).await;
            }
            Message::Command(typed) => {
                self.drop_question("The command before was not confirmed. Nothing was done.").await;
                let removed = self.remove_secrets(&typed.words, typed.file.is_some(), event_id).await;
                let reply = match read(typed, removed.is_some()) {
                    Ok(order) if order.prepared.entry.effect == Effect::Destroys && !order.yes => {
                        let page = question(&order.prepared);
                        let until = self.admin.clock().monotonic().saturating_add(ANSWER_WITHIN);
                        self.asked = Some(Asked { order, event_id: event_id.to_owned(), until });
                        Reply::Page(page)
                    }
                    Ok(order) => self.perform(order, event_id).await,
                    Err(page) => Reply::Page(page),
                };
                self.reply(reply, event_id, removed).await;
            }
        }
    }

    /// Notes that a confirmed command runs. `false` if that could not be noted: then it must not run.
    async fn begin(&self, seq: RoomSeq, event_id: &str) -> bool {
        let mut batch = Batch::new();
        batch.put(&ADMIN_ROOM_RUNNING, &seq, &RunningRow { event_id: event_id.to_owned() });
        let noted = self.admin.store().commit(batch).await;
        noted.inspect_err(|error| tracing::error!(%error, "a confirmed command was not run")).is_ok()
    }

    /// A message was answered, and needs no answer after a restart.
    async fn settle(&self, seq: RoomSeq) {
        let mut batch = Batch::new();
        batch.delete(&ADMIN_ROOM_RUNNING, &seq);
        if let Err(error) = self.admin.store().commit(batch).await {
            tracing::error!(%error, "an answered command of the admin room stays noted");
        }
    }

    async fn perform(&self, order: Order, event_id: &str) -> Reply {
        let (progress, heard) = watch::channel(String::new());
        let caller = Caller::new(Actor::User(self.user, self.user_id.clone()), Face::Room);
        let caller = caller.with_progress(Arc::new(move |text| drop(progress.send(text))));
        let show = progress::show(&self.voice, self.admin.clock(), event_id, heard);
        let work = self.admin.perform(&caller, order.prepared);
        tokio::pin!(work);
        let outcome = tokio::select! {
            outcome = &mut work => outcome,
            () = show => work.await,
        };
        match outcome {
            Ok(Outcome::File(file)) => Reply::File(file),
            Ok(outcome) => {
                let page = match order.json {
                    true => Page::columns(serde_json::to_string_pretty(&outcome.to_json()).unwrap_or_default()),
                    false => Page::of(&outcome),
                };
                Reply::Page(match outcome.has_secret() {
                    true => page.removed_after(self.admin.config().secrets_shown),
                    false => page,
                })
            }
            Err(error) => Reply::Page(refusal(&error)),
        }
    }

    /// Removes a message that may hold secrets. `None` if it holds none; else whether it was removed.
    async fn remove_secrets(&self, words: &[String], has_file: bool, event_id: &str) -> Option<bool> {
        if !has_file && !tree::may_hold_secrets(words) {
            return None;
        }
        let removed = self.voice.redact(event_id).await;
        Some(removed.inspect_err(|error| tracing::error!(%error, "a message with secrets was not removed")).is_ok())
    }

    async fn drop_question(&mut self, text: &str) {
        if let Some(asked) = self.asked.take() {
            self.say(Page::text(text), &asked.event_id).await;
        }
    }

    async fn reply(&self, reply: Reply, event_id: &str, removed: Option<bool>) {
        let note = removed.map(|removed| match removed {
            true => Page::text("Your message may have held secrets and was removed from the room."),
            false => Page::text("Your message may have held secrets and could not be removed: remove it yourself."),
        });
        match (reply, note) {
            (Reply::Page(page), None) => self.say(page, event_id).await,
            (Reply::Page(page), Some(note)) => self.say(page.and(&note), event_id).await,
            (Reply::File(file), note) => {
                match self.voice.send_file(&file, Some(event_id), false).await {
                    Ok(_) => {}
                    Err(error) => self.say(refusal(&error), event_id).await,
                }
                if let Some(note) = note {
                    self.say(note, event_id).await;
                }
            }
        }
    }

    async fn say(&self, page: Page, event_id: &str) {
        if let Err(error) = self.voice.say(&page, Some(event_id)).await {
            tracing::error!(%error, "an answer in the admin room was not sent");
        }
    }
}

/// The operation of a command, with its file; or what to answer instead. What a mistaken command held is not repeated
/// if it may have held secrets.
fn read(typed: Typed, is_secret: bool) -> Result<Order, Page> {
    let Typed { words, file } = typed;
    let mut parsed = tree::parse(PREFIX, words.clone());
    if file.is_some() && matches!(parsed, Parsed::Answer { is_error: true, .. }) {
        // The name of the file need not be written: the code block is the file.
        let named = tree::parse(PREFIX, words.into_iter().chain(["-".to_owned()]).collect());
        if matches!(named, Parsed::Run(_)) {
            parsed = named;
        }
    }
    let order = match parsed {
        Parsed::Run(order) => order,
        Parsed::Answer { is_error: true, .. } if is_secret => {
            return Err(Page::text("The command cannot be read. Write --help behind it, without its arguments."));
        }
        Parsed::Answer { text, .. } => return Err(Page::columns(text)),
    };
    let mut file = file;
    for question in &order.prepared.questions {
        let given = match &question.kind {
            QuestionKind::Document(_) => {
                let missing =
                    "Write the content of the file into a code block below the command, between lines of ```.";
                file.take().ok_or(missing)
            }
            QuestionKind::Secret(_) => Err("Write the secret into the command: the message is removed afterwards."),
        };
        given.map_err(Page::text).and_then(|content| question.answer(content).map_err(|error| refusal(&error)))?;
    }
    match file {
        Some(_) => Err(Page::text("This command takes no file; it was not run.")),
        None => Ok(order),
    }
}

/// What is asked before something is destroyed.
fn question(prepared: &Prepared) -> Page {
    let about = prepared.entry.command().get_about().map(ToString::to_string).unwrap_or_default();
    let mut text = format!("{}: {about}\n", prepared.entry.name());
    for (name, value) in prepared.arguments.as_object().into_iter().flatten() {
        match value {
            serde_json::Value::Null | serde_json::Value::Bool(false) => {}
            serde_json::Value::String(value) => text.push_str(&format!("{name}: {value}\n")),
            value => text.push_str(&format!("{name}: {value}\n")),
        }
    }
    Page::text(text).and(&Page::text("This cannot be undone. Say yes within five minutes if it is meant."))
}

/// What somebody reads of an error: nothing of what is inside the server.
fn refusal(error: &AdminError) -> Page {
    match error {
        AdminError::Internal(inner) => {
            tracing::error!(error = %inner, "an operation from the admin room failed inside the server");
            Page::text("Something failed inside the server. Its log says what.")
        }
        error => Page::text(error.to_string()),
    }
}

#[cfg(test)]
mod tests;
