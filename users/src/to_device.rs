//! Messages from device to device: queued per device until the device acknowledges them with its next sync.
//!
//! Spec: Client-Server API §"Send-to-Device messaging"; Server-Server API §"Send-to-device messaging".

use std::{collections::BTreeMap, sync::Arc};

use rooms::UserNid;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use spec::ids::UserId;
use storage::{Batch, Keyspace, Profile, Read, StreamPos};

use crate::{
    DeviceNid, UserError, Users,
    devices::DEVICES,
    topics::device_topic,
    transactions::{TRANSACTIONS, TransactionScope, hash_transaction, record_transaction},
};

/// Receiver, position, number within the batch → the event as JSON, ready to be sent.
pub(crate) const TO_DEVICE: Keyspace<(DeviceNid, StreamPos, u32), Vec<u8>> = Keyspace::new("to_device", Profile::Log);

const ENDPOINT: &str = "sendToDevice";
const MAX_MESSAGE_BYTES: usize = 64 * 1024;
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
            && self.store().contains(&TRANSACTIONS, &hash_transaction(scope, ENDPOINT, id))?
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
