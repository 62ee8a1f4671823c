//! To-device messages and key counts of the device that asks (Client-Server API §Send-to-Device messaging,
//! §End-to-End Encryption).

use std::sync::Arc;

use quick_cache::sync::Cache;
use storage::StreamPos;
use users::{DeviceNid, QueuedMessages, Session, device_topic};

use crate::error::SyncError;
use crate::json::{Array, Object, write_number};
use crate::sync::{Inner, Sync};

const DEVICES: usize = 10_000;
/// The most messages of one answer.
pub(crate) const MESSAGES: usize = 100;

/// What is known of a device since some position; stands while nothing touches the device's topic.
#[derive(Clone)]
pub(crate) struct DeviceFact {
    pos: StreamPos,
    has_messages: bool,
    /// `device_one_time_keys_count` and `device_unused_fallback_key_types` as members of an object.
    pub key_counts: Arc<str>,
}

pub(crate) struct DeviceFacts(Cache<DeviceNid, DeviceFact>);

impl DeviceFacts {
    pub fn new() -> DeviceFacts {
        DeviceFacts(Cache::new(DEVICES))
    }
}

impl Inner {
    /// What is known of the device now.
    pub fn device_fact(&self, device: DeviceNid) -> Result<DeviceFact, SyncError> {
        if let Some(fact) = self.devices.0.get(&device)
            && !self.feed.may_have_changed(device_topic(device), fact.pos)
        {
            return Ok(fact);
        }
        let pos = self.store.visible();
        let counts = self.users.key_counts(device)?;
        let has_messages =
            !self.users.queued_messages(device, StreamPos::ZERO, StreamPos::PENDING, 1)?.events.is_empty();
        let mut json = Vec::new();
        let mut object = Object::open(&mut json);
        let mut keys = Object::open(object.key("device_one_time_keys_count"));
        for (algorithm, count) in &counts.one_time_keys {
            write_number(keys.key(algorithm), *count);
        }
        // Clients upload keys only where they are told that there are none.
        if !counts.one_time_keys.contains_key("signed_curve25519") {
            keys.number("signed_curve25519", 0);
        }
        keys.close();
        let mut types = Array::open(object.key("device_unused_fallback_key_types"));
        counts.unused_fallback_types.iter().for_each(|kind| types.text(kind));
        types.close();
        object.close();
        let inner = json.get(1..json.len() - 1).and_then(|inner| std::str::from_utf8(inner).ok());
        let fact = DeviceFact { pos, has_messages, key_counts: inner.unwrap_or_default().into() };
        self.devices.0.insert(device, fact.clone());
        Ok(fact)
    }

    /// The messages after `since`.
    pub fn read_messages(
        &self,
        caller: &Session,
        fact: &DeviceFact,
        since: StreamPos,
        until: StreamPos,
        limit: usize,
    ) -> Result<QueuedMessages, SyncError> {
        if !fact.has_messages {
            return Ok(QueuedMessages::default());
        }
        Ok(self.users.queued_messages(caller.device, since, until, limit.clamp(1, MESSAGES))?)
    }
}

impl Sync {
    /// Deletes the messages up to `until`, which the device has; in the background, since nobody needs to wait for it
    /// and the next request does it again if it fails.
    pub(crate) fn acknowledge_messages(&self, caller: &Session, until: StreamPos) -> Result<(), SyncError> {
        let device = caller.device;
        if until == StreamPos::ZERO || !self.0.device_fact(device)?.has_messages {
            return Ok(());
        }
        let sync = self.clone();
        let runtime = tokio::runtime::Handle::current();
        self.0.tasks.spawn("to-device acknowledgement", async move {
            let tasks = sync.0.tasks.clone();
            let deleted = tasks.compute("to-device acknowledgement", move || {
                let deleted = runtime.block_on(sync.0.users.acknowledge_messages(device, until));
                sync.0.devices.0.remove(&device);
                deleted
            });
            match deleted.await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::warn!(%error, "to-device messages could not be deleted"),
                Err(error) => tracing::warn!(%error, "to-device messages could not be deleted"),
            }
        });
        Ok(())
    }
}
