//! What services need to encrypt: messages to their devices (MSC4203), changed device lists and what is left of their
//! keys (MSC3202).

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use serde_json::value::RawValue;
use spec::ids::UserId;
use storage::{Batch, StreamPos};
use users::{AppServiceDevice, DeviceNid};

use crate::Dispatcher;
use crate::error::DispatchError;
use crate::line::Line;

/// The most devices that one transaction speaks of.
const MAX_DEVICES: usize = 100;
/// The most users whose device lists have changed in one transaction.
const MAX_LISTS: usize = 1_000;

type OfDevices<T> = BTreeMap<UserId, BTreeMap<String, T>>;

#[derive(Default, Serialize)]
struct ChangedLists {
    changed: BTreeSet<UserId>,
    left: [(); 0],
}

/// The part of a transaction that is about encryption.
#[derive(Default, Serialize)]
pub(crate) struct Encryption {
    #[serde(rename = "de.sorunome.msc2409.to_device", skip_serializing_if = "Vec::is_empty")]
    to_device: Vec<Box<RawValue>>,
    #[serde(rename = "org.matrix.msc3202.device_lists", skip_serializing_if = "Option::is_none")]
    lists: Option<ChangedLists>,
    #[serde(rename = "org.matrix.msc3202.device_one_time_keys_count", skip_serializing_if = "BTreeMap::is_empty")]
    one_time_keys: OfDevices<BTreeMap<String, u64>>,
    #[serde(
        rename = "org.matrix.msc3202.device_unused_fallback_key_types",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    fallback_keys: OfDevices<Vec<String>>,
    /// Up to where changes of device lists are told with this, unless more are waiting.
    #[serde(skip)]
    pub lists_upto: Option<StreamPos>,
}

impl Encryption {
    /// Whether there is nothing to tell.
    pub fn is_empty(&self) -> bool {
        self.to_device.is_empty() && self.lists.is_none() && self.one_time_keys.is_empty()
    }
}

impl Dispatcher {
    /// Notes a device with news for the service whose it is.
    pub(crate) fn note_device(&self, device: DeviceNid) -> Result<(), DispatchError> {
        if let Some(owned) = self.users.appservice_device(device)?
            && let Some(line) = self.line(owned.service.id())
        {
            line.waiting.lock().devices.insert(device);
            line.news.notify_one();
        }
        Ok(())
    }

    /// Notes what waits for a service and is not noted: messages, changes of device lists after a position, and the keys
    /// of its own user, which may have been claimed unnoticed.
    pub(crate) fn note_waiting_devices(&self, line: &Line, since: StreamPos) -> Result<(), DispatchError> {
        if !line.service.wants_encryption() {
            return Ok(());
        }
        for device in self.users.devices_with_messages()? {
            let owner = self.users.appservice_device(device)?;
            if owner.is_some_and(|owner| owner.service.id() == line.service.id()) {
                line.waiting.lock().devices.insert(device);
            }
        }
        if let Some(sender) = self.rooms.user_nid(line.service.sender())? {
            let devices = self.users.devices(sender)?.into_iter().map(|device| device.nid);
            line.waiting.lock().devices.extend(devices);
        }
        let interest = self.interest();
        let Some(index) = interest.index_of(line.service.id()) else { return Ok(()) };
        let upto = *self.done.lock();
        let mut changed = BTreeSet::new();
        for change in self.users.device_list_changes(since, upto)? {
            if change.only_for.is_none() && interest.around_user(change.user)?.contains(&index) {
                changed.insert(change.user);
            }
        }
        let mut waiting = line.waiting.lock();
        waiting.lists.extend(changed);
        waiting.lists_upto = waiting.lists_upto.max(upto);
        Ok(())
    }

    /// Takes what is about encryption off a line, and off the queues of the devices in the commit of `batch`.
    pub(crate) fn take_encryption(
        &self,
        line: &Line,
        batch: &mut Batch,
        mut left: usize,
    ) -> Result<Option<Encryption>, DispatchError> {
        if !line.service.wants_encryption() {
            return Ok(None);
        }
        let (devices, lists, lists_upto) = {
            let mut waiting = line.waiting.lock();
            let devices: Vec<DeviceNid> = waiting.devices.iter().take(MAX_DEVICES).copied().collect();
            let lists: Vec<_> = waiting.lists.iter().take(MAX_LISTS).copied().collect();
            for device in &devices {
                waiting.devices.remove(device);
            }
            for user in &lists {
                waiting.lists.remove(user);
            }
            // What is left would be lost with a restart if it counted as told.
            (devices, lists, waiting.lists.is_empty().then_some(waiting.lists_upto))
        };
        let mut told = Encryption { lists_upto, ..Encryption::default() };
        if !lists.is_empty() {
            let changed = lists.into_iter().map(|user| self.rooms.user_id(user)).collect::<Result<_, _>>()?;
            told.lists = Some(ChangedLists { changed, left: [] });
        }
        for device in devices {
            let Some(owned) = self.users.appservice_device(device)? else { continue };
            let (messages, has_more) = match left {
                0 => (Vec::new(), true),
                left => self.users.take_messages(batch, device, left)?,
            };
            if has_more {
                line.waiting.lock().devices.insert(device);
            }
            for message in messages {
                left = left.saturating_sub(message.get().len());
                told.to_device.extend(address(&message, &owned));
            }
            let AppServiceDevice { user_id, device_id, .. } = owned;
            let counts = self.users.key_counts(device)?;
            let of_user = told.one_time_keys.entry(user_id.clone()).or_default();
            let of_device = of_user.entry(device_id.to_string()).or_default();
            of_device.extend(counts.one_time_keys);
            // As in /sync: a count that is absent could be one that did not change.
            of_device.entry("signed_curve25519".to_owned()).or_insert(0);
            let of_user = told.fallback_keys.entry(user_id).or_default();
            of_user.insert(device_id.to_string(), counts.unused_fallback_types);
        }
        Ok(Some(told))
    }
}

/// A message with whom it is to.
fn address(message: &RawValue, device: &AppServiceDevice) -> Option<Box<RawValue>> {
    #[derive(Serialize)]
    struct Receiver<'a> {
        to_user_id: &'a UserId,
        to_device_id: &'a str,
    }
    let receiver = Receiver { to_user_id: &device.user_id, to_device_id: &device.device_id };
    let receiver = serde_json::to_string(&receiver).ok()?;
    let fields = message.get().strip_prefix('{')?;
    let open = receiver.strip_suffix('}')?;
    RawValue::from_string(format!("{open},{fields}")).ok()
}
