//! The outbox: to-device messages for users of other servers, kept until their server has them (Server-Server API
//! §Send-to-device messaging).

use std::collections::BTreeMap;

use serde_json::value::RawValue;
use serde_json::{Map, Value, json};
use spec::ids::{ServerName, UserId};
use storage::{Batch, Read, StreamPos};
use users::{DeviceTarget, ToDeviceMessages, UserError};

use super::Sender;
use super::rows::OUTBOX;

#[cfg(test)]
mod tests;

/// The most messages that wait for one server; above it the oldest go.
const MAX_WAITING: usize = 10_000;
/// The largest message to one device, in bytes.
const MAX_MESSAGE_BYTES: usize = 64 * 1024;
/// An EDU is closed above this size, so that the row stays below what the store takes.
const EDU_BYTES: usize = 16 * 1024;
/// A commit is split above this size.
const BATCH_BYTES: usize = 1024 * 1024;
/// `message_id` may have 32 characters: this many are kept where a number is added.
const MESSAGE_ID_KEPT: usize = 26;

/// The messages of one EDU: user → device → content.
type Parcel = Map<String, Value>;

impl Sender {
    /// Queues messages for devices of users of other servers; they are sent even after a restart. Those for users of
    /// this server, and for servers that federation is not allowed with, are left out. `message_id` has at most 32
    /// characters; by it a server knows messages that it has. Cancel-safe for requests below
    /// 1 MiB; a larger one that is cut off may be queued in part.
    ///
    /// # Errors
    /// `TooLarge` for a message above 64 KiB, `BadJson` for one that is not an object; failures of the store.
    pub async fn queue_to_device(
        &self,
        sender: &UserId,
        kind: &str,
        message_id: &str,
        messages: ToDeviceMessages,
    ) -> Result<(), UserError> {
        let parcels = self.sort_by_server(&messages)?;
        let mut batch = Batch::new();
        let mut index = 0u32;
        let mut queued: Vec<(ServerName, usize)> = Vec::new();
        for (server, parcels) in parcels {
            let count = parcels.len();
            for (number, parcel) in parcels.into_iter().enumerate() {
                let content = json!({
                    "sender": sender,
                    "type": kind,
                    "message_id": number_message(message_id, number),
                    "messages": parcel,
                });
                let key = (server.as_str().to_owned(), StreamPos::PENDING, index);
                batch.put(&OUTBOX, &key, &content.to_string().into_bytes());
                index = index.saturating_add(1);
                if batch.size() > BATCH_BYTES {
                    self.store.commit(std::mem::take(&mut batch)).await?;
                }
            }
            queued.push((server, count));
        }
        if !batch.is_empty() {
            self.store.commit(batch).await?;
        }
        for (server, count) in queued {
            let waiting = {
                let mut table = self.table.lock();
                let destination = table.destination(&server);
                destination.has_outbox = true;
                destination.outbox = destination.outbox.saturating_add(count);
                let waiting = destination.outbox;
                table.wake(&server);
                waiting
            };
            if waiting > MAX_WAITING {
                self.drop_oldest(&server, waiting - MAX_WAITING).await?;
            }
        }
        self.wake.notify_one();
        Ok(())
    }

    fn sort_by_server(&self, messages: &ToDeviceMessages) -> Result<BTreeMap<ServerName, Vec<Parcel>>, UserError> {
        let mut parcels: BTreeMap<ServerName, Vec<(usize, Parcel)>> = BTreeMap::new();
        for (user, devices) in messages {
            let Ok(server) = ServerName::parse(user.server_name()) else { continue };
            if server == self.server_name || !self.destinations.is_allowed(&server) {
                continue;
            }
            let of_server = parcels.entry(server).or_default();
            for (target, content) in devices {
                add_message(of_server, user, target, content)?;
            }
        }
        let bare = |parcels: Vec<(usize, Parcel)>| parcels.into_iter().map(|(_, parcel)| parcel).collect();
        Ok(parcels.into_iter().map(|(server, parcels)| (server, bare(parcels))).collect())
    }

    async fn drop_oldest(&self, server: &ServerName, count: usize) -> Result<(), UserError> {
        let mut batch = Batch::new();
        let mut dropped = 0usize;
        for key in self.store.scan(&OUTBOX, &server.as_str().to_owned()).keys().take(count) {
            batch.delete(&OUTBOX, &key?);
            dropped += 1;
        }
        self.store.commit(batch).await?;
        if let Some(destination) = self.table.lock().get(server) {
            destination.outbox = destination.outbox.saturating_sub(dropped);
        }
        tracing::warn!(destination = %server, dropped, "too many messages wait for a server: the oldest are dropped");
        Ok(())
    }
}

/// A server may get several EDUs of one request; the first has the id itself. Repeating the request gives the same ids.
fn number_message(message_id: &str, number: usize) -> String {
    if number == 0 {
        return message_id.to_owned();
    }
    let kept: String = message_id.chars().take(MESSAGE_ID_KEPT).collect();
    format!("{kept}.{number}")
}

/// Adds a message to the last parcel, or to a new one if that is full.
fn add_message(
    parcels: &mut Vec<(usize, Parcel)>,
    user: &UserId,
    target: &DeviceTarget,
    content: &RawValue,
) -> Result<(), UserError> {
    let size = content.get().len();
    if size > MAX_MESSAGE_BYTES {
        return Err(UserError::TooLarge("the message"));
    }
    let content: Map<String, Value> =
        serde_json::from_str(content.get()).map_err(|_| UserError::BadJson("the content of a message is an object"))?;
    let device = match target {
        DeviceTarget::All => "*",
        DeviceTarget::One(device) => device,
    };
    if parcels.last().is_none_or(|(bytes, _)| bytes.saturating_add(size) > EDU_BYTES) {
        parcels.push((0, Parcel::new()));
    }
    let Some((bytes, parcel)) = parcels.last_mut() else { return Ok(()) };
    // With what is around it: ids, quotes, commas.
    *bytes = bytes.saturating_add(size + user.as_str().len() + device.len() + 16);
    let devices = parcel.entry(user.as_str()).or_insert_with(|| Value::Object(Map::new()));
    if let Some(devices) = devices.as_object_mut() {
        devices.insert(device.to_owned(), Value::Object(content));
    }
    Ok(())
}
