//! Messages from device to device: queued per device until the device acknowledges them with its next sync.
//!
//! Spec: Client-Server API §"Send-to-Device messaging"; Server-Server API §"Send-to-device messaging".

use std::{collections::BTreeMap, fmt::Write as _, sync::Arc};

use rooms::UserNid;
use serde::{Deserialize, Serialize, Serializer};
use serde_json::{Map, Value, value::RawValue};
use spec::ids::{ServerName, UserId};
use storage::{Batch, Keyspace, Profile, Read, StreamPos};

use crate::{
    DeviceNid, RemoteUsers, Session, UserError, Users,
    devices::DEVICES,
    topics::device_topic,
    transactions::{TRANSACTIONS, TransactionScope, hash_transaction, record_transaction},
};

/// Receiver, position, number within the batch → the event as JSON, ready to be sent.
pub(crate) const TO_DEVICE: Keyspace<(DeviceNid, StreamPos, u32), Vec<u8>> = Keyspace::new("to_device", Profile::Log);

const ENDPOINT: &str = "sendToDevice";
const MAX_MESSAGE_BYTES: usize = 64 * 1024;
const MAX_KIND_BYTES: usize = 255;
/// Longer than the 32 characters that the specification allows, for those who are not strict.
const MAX_MESSAGE_ID_BYTES: usize = 255;
/// The most devices that one message of another server may name, so that a small message makes no large work.
const MAX_REMOTE_TARGETS: usize = 10_000;
/// A request with more than this is committed in several batches.
const BATCH_BYTES: usize = 1024 * 1024;

/// To which devices of a user a message goes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(from = "String")]
pub enum DeviceTarget {
    /// To all of them (`*`).
    All,
    /// To one.
    One(Arc<str>),
}

impl From<String> for DeviceTarget {
    fn from(id: String) -> Self {
        if id == "*" { Self::All } else { Self::One(id.into()) }
    }
}

impl Serialize for DeviceTarget {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(match self {
            Self::All => "*",
            Self::One(id) => id,
        })
    }
}

/// The `messages` of a request: user → device → content.
pub type ToDeviceMessages = BTreeMap<UserId, BTreeMap<DeviceTarget, Box<RawValue>>>;

/// Part of a device's queue.
#[derive(Debug, Default)]
pub struct QueuedMessages {
    /// Events, oldest first, as JSON.
    pub events: Vec<Box<RawValue>>,
    /// The position of the last one: acknowledging it removes these and nothing else.
    pub last: Option<StreamPos>,
    /// Whether more are waiting behind them.
    pub has_more: bool,
}

/// The content of `m.direct_to_device`.
#[derive(Deserialize)]
struct DirectToDevice {
    sender: UserId,
    #[serde(rename = "type")]
    kind: String,
    message_id: String,
    messages: BTreeMap<UserId, BTreeMap<String, Value>>,
}

#[derive(Serialize)]
struct ToDeviceEvent<'a> {
    content: &'a RawValue,
    sender: &'a UserId,
    #[serde(rename = "type")]
    kind: &'a str,
}

impl Users {
    /// Queues messages for local devices. Users and devices that do not exist are skipped; messages to other servers
    /// are the caller's. Returns false if this transaction was queued before. Cancel-safe for requests below 1 MiB;
    /// a larger one that is cut off may be queued twice in part when it is repeated.
    ///
    /// # Errors
    /// `TooLarge` for a message above 64 KiB, `InvalidParam`.
    pub async fn queue_to_device(
        &self,
        sender: &UserId,
        kind: &str,
        transaction: Option<(TransactionScope<'_>, &str)>,
        messages: &ToDeviceMessages,
    ) -> Result<bool, UserError> {
        if let Some((scope, id)) = transaction
            && self.was_queued(scope, id)?
        {
            return Ok(false);
        }
        let mut batch = Batch::new();
        let mut index = 0;
        for (user_id, targets) in messages {
            let Some(user) = self.rooms().user_nid(user_id)? else { continue };
            for (target, content) in targets {
                let json = render_event(sender, kind, content)?;
                for device in self.target_devices(user, target)? {
                    if batch.size() + json.len() > BATCH_BYTES {
                        self.store().commit(std::mem::take(&mut batch)).await?;
                    }
                    batch.put(&TO_DEVICE, &(device, StreamPos::PENDING, index), &json);
                    batch.touch(device_topic(device));
                    index += 1;
                }
            }
        }
        if let Some((scope, id)) = transaction {
            record_transaction(&mut batch, scope, ENDPOINT, id, self.now_ms());
        } else if batch.is_empty() {
            return Ok(true);
        }
        Ok(self.try_commit(batch).await?.is_some())
    }

    fn was_queued(&self, scope: TransactionScope<'_>, id: &str) -> Result<bool, UserError> {
        Ok(self.store().contains(&TRANSACTIONS, &hash_transaction(scope, ENDPOINT, id))?)
    }

    /// Sends messages of a device to devices wherever they are: those of other servers are handed to `remote` first,
    /// and only then is the transaction remembered, with what is queued here. Repeated after it was cut off in between,
    /// other servers get the same message again under the same id, by which they know it. Returns false if this
    /// transaction was sent before. Cancel-safe as [`Users::queue_to_device`].
    ///
    /// # Errors
    /// As [`Users::queue_to_device`], before anything is sent; those of `remote`.
    pub async fn send_to_devices(
        &self,
        remote: &dyn RemoteUsers,
        session: &Session,
        kind: &str,
        transaction: &str,
        messages: ToDeviceMessages,
    ) -> Result<bool, UserError> {
        let scope = TransactionScope::Device(session.device);
        if self.was_queued(scope, transaction)? {
            return Ok(false);
        }
        if kind.len() > MAX_KIND_BYTES {
            return Err(UserError::InvalidParam("the type of a message has at most 255 bytes"));
        }
        for content in messages.values().flat_map(BTreeMap::values) {
            render_event(&session.user_id, kind, content)?;
        }
        let own = self.rooms().server_name();
        let (local, others): (ToDeviceMessages, ToDeviceMessages) =
            messages.into_iter().partition(|(user, _)| user.server_name() == own.as_str());
        if !others.is_empty() {
            let message_id = hash_transaction(scope, kind, transaction).iter().take(12).fold(
                String::with_capacity(24),
                |mut id, byte| {
                    // Writing to a String never fails.
                    let _ = write!(id, "{byte:02x}");
                    id
                },
            );
            remote.send_to_device(&session.user_id, kind, &message_id, others).await?;
        }
        self.queue_to_device(&session.user_id, kind, Some((scope, transaction)), &local).await
    }

    /// Takes in an `m.direct_to_device` EDU of `origin`: queues its messages for devices of this server. A message that
    /// came before changes nothing, for a day; contents that no client could read are left out. Cancel-safe as
    /// [`Users::queue_to_device`].
    ///
    /// # Errors
    /// `BadJson`, `TooLarge`; `Forbidden` if the sender is not of the server that sent it.
    pub async fn receive_to_device(&self, origin: &ServerName, content: Map<String, Value>) -> Result<(), UserError> {
        let message: DirectToDevice = serde_json::from_value(Value::Object(content))
            .map_err(|_| UserError::BadJson("this is no message to devices"))?;
        if message.sender.server_name() != origin.as_str() {
            return Err(UserError::Forbidden("a server speaks for its own users only"));
        }
        if message.kind.len() > MAX_KIND_BYTES || message.message_id.len() > MAX_MESSAGE_ID_BYTES {
            return Err(UserError::TooLarge("the type or the id of the message"));
        }
        if message.messages.values().map(BTreeMap::len).sum::<usize>() > MAX_REMOTE_TARGETS {
            return Err(UserError::TooLarge("the number of receivers"));
        }
        let own = self.rooms().server_name().as_str();
        let mut messages = ToDeviceMessages::new();
        for (user_id, targets) in message.messages {
            // Nothing is remembered of messages that reach nobody: ids would fill the store.
            if user_id.server_name() != own || self.active_user(&user_id)?.is_none() {
                continue;
            }
            let mut contents = BTreeMap::new();
            for (device, content) in targets {
                if let Some(content) = readable_content(&message.sender, &message.kind, &content) {
                    contents.insert(DeviceTarget::from(device), content);
                }
            }
            if !contents.is_empty() {
                messages.insert(user_id, contents);
            }
        }
        if messages.is_empty() {
            return Ok(());
        }
        let transaction = Some((TransactionScope::Server(origin.as_str()), message.message_id.as_str()));
        self.queue_to_device(&message.sender, &message.kind, transaction, &messages).await?;
        Ok(())
    }

    fn target_devices(&self, user: UserNid, target: &DeviceTarget) -> Result<Vec<DeviceNid>, UserError> {
        match target {
            DeviceTarget::All => self.device_nids(user),
            DeviceTarget::One(device_id) => {
                let row = self.store().get(&DEVICES, &(user, Arc::clone(device_id)))?;
                Ok(row.into_iter().map(|row| row.nid).collect())
            }
        }
    }

    /// The oldest messages of a device after `since`, up to and including `until`: about `limit`, and always whole
    /// batches, so that a position is enough to acknowledge them.
    pub fn queued_messages(
        &self,
        device: DeviceNid,
        since: StreamPos,
        until: StreamPos,
        limit: usize,
    ) -> Result<QueuedMessages, UserError> {
        let mut queued = QueuedMessages::default();
        for row in self.store().scan(&TO_DEVICE, &device).from(&(device, since.next(), 0)).iter() {
            let ((_, pos, _), json) = row?;
            if pos > until {
                break;
            }
            if queued.events.len() >= limit && queued.last != Some(pos) {
                queued.has_more = true;
                break;
            }
            let event = String::from_utf8(json)
                .ok()
                .and_then(|json| RawValue::from_string(json).ok())
                .ok_or(UserError::Inconsistent("a queued message is not JSON"))?;
            queued.events.push(event);
            queued.last = Some(pos);
        }
        Ok(queued)
    }

    /// Deletes the messages up to and including `until`: the device has them. One seek if there are none. Cancel-safe.
    pub async fn acknowledge_messages(&self, device: DeviceNid, until: StreamPos) -> Result<(), UserError> {
        let mut batch = Batch::new();
        for row in self.store().scan(&TO_DEVICE, &device).iter() {
            let (key, _) = row?;
            if key.1 > until {
                break;
            }
            batch.delete(&TO_DEVICE, &key);
            if batch.size() > BATCH_BYTES {
                self.store().commit(std::mem::take(&mut batch)).await?;
                break;
            }
        }
        if !batch.is_empty() {
            self.store().commit(batch).await?;
        }
        Ok(())
    }
}

/// The content of a message of another server, if clients can read it.
fn readable_content(sender: &UserId, kind: &str, content: &Value) -> Option<Box<RawValue>> {
    if !spec::json::is_shallow(content) {
        return None;
    }
    let content = serde_json::value::to_raw_value(content).ok()?;
    render_event(sender, kind, &content).is_ok().then_some(content)
}

fn render_event(sender: &UserId, kind: &str, content: &RawValue) -> Result<Vec<u8>, UserError> {
    if !content.get().starts_with('{') {
        return Err(UserError::BadJson("the content of a message is an object"));
    }
    let json = serde_json::to_vec(&ToDeviceEvent { content, sender, kind })
        .map_err(|_| UserError::Inconsistent("a message does not serialise"))?;
    if json.len() > MAX_MESSAGE_BYTES { Err(UserError::TooLarge("the message")) } else { Ok(json) }
}

#[cfg(test)]
mod tests;
