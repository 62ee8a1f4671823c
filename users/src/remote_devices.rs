//! Device lists of users of other servers, kept as long as a room is shared with them.
//!
//! Spec: Server-Server API §"Device Management". A list is fetched whole when somebody asks for it, and from then on
//! the user's server tells what changes. Each update names those before it: one that names an update which never came
//! makes the list stale, and it is fetched again when it is asked for. Nothing is told to servers that share no room,
//! so a list counts only if some room was shared all the time since it was last known to be right.

use std::collections::BTreeMap;
use std::sync::Arc;

use rooms::{RoomNid, UserNid, UserRoom};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json, value::RawValue};
use spec::ids::{ServerName, UserId};
use storage::{Batch, Keyspace, Profile, Read, Stamped, StreamPos, stored};

use crate::{
    QueriedKeys, UserError, Users,
    device_lists::log_remote_device_list_change,
    e2ee::{
        Object,
        cross_signing::{CROSS_SIGNING, KeyUsage, check_remote_key},
    },
};

/// What is known of each remote user's list; stamped with the latest update or fetch.
pub(crate) const REMOTE_DEVICE_LISTS: Keyspace<UserNid, Stamped<ListHead>> =
    Keyspace::new("remote_device_lists", Profile::Points);
/// Owner and device ID → the device's keys as JSON, with its name, as clients get them.
pub(crate) const REMOTE_DEVICES: Keyspace<(UserNid, Arc<str>), Vec<u8>> =
    Keyspace::new("remote_devices", Profile::Points);

/// A user with more devices has no list that is kept: their server is asked each time.
pub(crate) const MAX_DEVICES: usize = 1_000;
/// The largest keys of one device, and of all devices of a user, that are kept.
const MAX_DEVICE_BYTES: usize = 32 * 1024;
const MAX_LIST_BYTES: usize = 2 * 1024 * 1024;
const MAX_DEVICE_ID_BYTES: usize = 255;
const MAX_DISPLAY_NAME_BYTES: usize = 1_000;
/// How many updates are remembered as received: more than any server leaves unreferenced.
const MAX_SEEN: usize = 64;
/// How many member events of one user are looked at to see whether they were in the room all the time.
const MAX_MEMBER_EVENTS: usize = 16;

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ListHead {
    /// `stream_id` of the updates received and of the lists fetched, oldest first.
    seen: Vec<i64>,
    /// Whether the rows are the user's list: it was fetched, and no update was missed since.
    is_current: bool,
    /// How many devices have rows.
    pub(crate) devices: u32,
}
stored!(ListHead, 1);

impl ListHead {
    fn note(&mut self, stream_id: i64) {
        if !self.seen.contains(&stream_id) {
            self.seen.push(stream_id);
            let surplus = self.seen.len().saturating_sub(MAX_SEEN);
            self.seen.drain(..surplus);
        }
    }
}

/// The content of `m.device_list_update`.
#[derive(Debug, Deserialize)]
struct DeviceListUpdate {
    user_id: UserId,
    device_id: String,
    stream_id: i64,
    #[serde(default)]
    prev_id: Vec<i64>,
    #[serde(default)]
    deleted: bool,
    keys: Option<Object>,
    device_display_name: Option<String>,
}

/// The content of `m.signing_key_update`.
#[derive(Debug, Deserialize)]
struct SigningKeyUpdate {
    user_id: UserId,
    master_key: Option<Object>,
    self_signing_key: Option<Object>,
}

/// A whole list as the user's server gave it. What has the wrong shape, or belongs to another user or device, is left
/// out.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RemoteDeviceList {
    /// Version of the list, if the answer has one.
    pub stream_id: Option<i64>,
    /// Device → keys, with the name of the device under `unsigned`.
    pub devices: BTreeMap<String, Object>,
    /// The master key.
    pub master_key: Option<Object>,
    /// The self-signing key, signed by the master key.
    pub self_signing_key: Option<Object>,
}

impl RemoteDeviceList {
    /// Reads the answer of `GET /user/devices/{userId}`.
    ///
    /// # Errors
    /// `BadJson` for another shape, or the list of another user.
    pub fn parse(user_id: &UserId, answer: &RawValue) -> Result<Self, UserError> {
        #[derive(Deserialize)]
        struct Answer {
            user_id: UserId,
            stream_id: i64,
            devices: Vec<Device>,
            master_key: Option<Object>,
            self_signing_key: Option<Object>,
        }
        #[derive(Deserialize)]
        struct Device {
            device_id: String,
            keys: Object,
            device_display_name: Option<String>,
        }
        let answer: Answer =
            serde_json::from_str(answer.get()).map_err(|_| UserError::BadJson("this is no list of devices"))?;
        if answer.user_id != *user_id {
            return Err(UserError::BadJson("this is the device list of another user"));
        }
        let mut list = Self { stream_id: Some(answer.stream_id), ..Self::default() };
        for device in answer.devices {
            list.add_device(user_id, device.device_id, device.keys, device.device_display_name.as_deref());
        }
        list.set_cross_signing(user_id, answer.master_key, answer.self_signing_key);
        Ok(list)
    }

    /// Takes one user's part out of the answer of `POST /user/keys/query`. `None` if the answer does not speak of
    /// them.
    pub fn take(user_id: &UserId, answer: &mut QueriedKeys) -> Option<Self> {
        let devices = answer.device_keys.remove(user_id);
        let [master_key, self_signing_key] = [&mut answer.master_keys, &mut answer.self_signing_keys].map(|keys| {
            keys.remove(user_id).and_then(|key| if let Value::Object(key) = key { Some(key) } else { None })
        });
        if devices.is_none() && master_key.is_none() {
            return None;
        }
        let mut list = Self::default();
        for (device_id, keys) in devices.unwrap_or_default() {
            let Value::Object(keys) = keys else { continue };
            let name = keys.get("unsigned").and_then(|unsigned| unsigned.get("device_display_name"));
            let name = name.and_then(Value::as_str).map(str::to_owned);
            list.add_device(user_id, device_id, keys, name.as_deref());
        }
        list.set_cross_signing(user_id, master_key, self_signing_key);
        Some(list)
    }

    fn add_device(&mut self, user_id: &UserId, device_id: String, keys: Object, name: Option<&str>) {
        if let Some(keys) = check_device(user_id, &device_id, keys, name) {
            self.devices.insert(device_id, keys);
        }
    }

    fn set_cross_signing(&mut self, user_id: &UserId, master: Option<Object>, self_signing: Option<Object>) {
        self.master_key = master.filter(|key| check_remote_key(user_id, KeyUsage::Master, key, None).is_ok());
        self.self_signing_key = self_signing
            .filter(|key| check_remote_key(user_id, KeyUsage::SelfSigning, key, self.master_key.as_ref()).is_ok());
    }
}

/// The keys of a device as they are kept, if they are the keys of this device.
fn check_device(user_id: &UserId, device_id: &str, mut keys: Object, name: Option<&str>) -> Option<Object> {
    let text = |name: &str| keys.get(name).and_then(Value::as_str);
    let fits = text("user_id") == Some(user_id.as_str())
        && text("device_id") == Some(device_id)
        && (1..=MAX_DEVICE_ID_BYTES).contains(&device_id.len())
        && keys.get("algorithms").is_some_and(Value::is_array)
        && keys.get("keys").and_then(Value::as_object).is_some_and(|keys| keys.values().all(Value::is_string))
        && keys.get("signatures").is_none_or(Value::is_object);
    // Only what this server understands is passed on of what nobody signed.
    keys.remove("unsigned");
    if let Some(name) = name.filter(|name| name.len() <= MAX_DISPLAY_NAME_BYTES) {
        keys.insert("unsigned".to_owned(), json!({ "device_display_name": name }));
    }
    let fits = fits && keys.values().all(spec::json::is_shallow);
    let fits = fits && serde_json::to_vec(&keys).is_ok_and(|json| json.len() <= MAX_DEVICE_BYTES);
    fits.then_some(keys)
}

/// How much is known here of a remote user's list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ListState {
    /// No room is shared with the user: nothing is kept.
    Untracked,
    /// It is to be fetched. The position is that of the latest update, to notice one that comes meanwhile; `was_known`
    /// is whether the list has been here before.
    Outdated { seen: Option<StreamPos>, was_known: bool },
    /// The rows are right.
    Current,
}

impl Users {
    /// Takes in an `m.device_list_update`: applies it if it follows on what is known, otherwise the list is fetched
    /// again when it is asked for. Local users who share a room are told of the change. Repeated updates change
    /// nothing. Cancel-safe.
    ///
    /// # Errors
    /// `BadJson`; `Forbidden` if the user is not of the server that sent it.
    pub async fn receive_device_list_update(
        &self,
        origin: &ServerName,
        content: Map<String, Value>,
    ) -> Result<(), UserError> {
        let update: DeviceListUpdate = parse_update(content)?;
        let Some(user) = self.find_tracked(origin, &update.user_id)? else {
            return self.note_unsure_list(origin, &update.user_id).await;
        };
        loop {
            let old = self.store().get(&REMOTE_DEVICE_LISTS, &user)?;
            let mut head = old.as_ref().map(|row| row.value.clone()).unwrap_or_default();
            if head.seen.contains(&update.stream_id) {
                return Ok(());
            }
            let mut batch = Batch::new();
            expect_head(&mut batch, user, old.as_ref());
            let follows =
                head.is_current && !update.prev_id.is_empty() && update.prev_id.iter().all(|id| head.seen.contains(id));
            head.is_current = follows && self.apply_update(&mut batch, user, &update, &mut head)?;
            head.note(update.stream_id);
            batch.put(&REMOTE_DEVICE_LISTS, &user, &Stamped::pending(head));
            self.log_remote_change(&mut batch, user)?;
            if self.try_commit(batch).await?.is_some() {
                return Ok(());
            }
        }
    }

    /// Whether the update could be applied.
    fn apply_update(
        &self,
        batch: &mut Batch,
        user: UserNid,
        update: &DeviceListUpdate,
        head: &mut ListHead,
    ) -> Result<bool, UserError> {
        if update.device_id.is_empty() || update.device_id.len() > MAX_DEVICE_ID_BYTES {
            return Ok(false);
        }
        let key: (UserNid, Arc<str>) = (user, update.device_id.as_str().into());
        let is_there = self.store().contains(&REMOTE_DEVICES, &key)?;
        let keys = match &update.keys {
            Some(keys) if !update.deleted => keys.clone(),
            // A device without keys is of no use to anybody here.
            _ => {
                batch.delete(&REMOTE_DEVICES, &key);
                head.devices = head.devices.saturating_sub(u32::from(is_there));
                return Ok(true);
            }
        };
        let name = update.device_display_name.as_deref();
        let Some(keys) = check_device(&update.user_id, &update.device_id, keys, name) else { return Ok(false) };
        let devices = head.devices.saturating_add(u32::from(!is_there));
        if usize::try_from(devices).is_ok_and(|devices| devices > MAX_DEVICES) {
            return Ok(false);
        }
        head.devices = devices;
        batch.put(&REMOTE_DEVICES, &key, &render(&keys)?);
        Ok(true)
    }

    /// Takes in an `m.signing_key_update`: the new cross-signing keys of a user. Keys that are not valid make the list
    /// stale. Local users who share a room are told. Cancel-safe.
    ///
    /// # Errors
    /// `BadJson`; `Forbidden` if the user is not of the server that sent it.
    pub async fn receive_signing_key_update(
        &self,
        origin: &ServerName,
        content: Map<String, Value>,
    ) -> Result<(), UserError> {
        let update: SigningKeyUpdate = parse_update(content)?;
        let Some(user) = self.find_tracked(origin, &update.user_id)? else {
            return self.note_unsure_list(origin, &update.user_id).await;
        };
        loop {
            let old = self.store().get(&REMOTE_DEVICE_LISTS, &user)?;
            let mut head = old.as_ref().map(|row| row.value.clone()).unwrap_or_default();
            let mut batch = Batch::new();
            expect_head(&mut batch, user, old.as_ref());
            let master = match &update.master_key {
                Some(master) => Some(master.clone()),
                None => self.cross_signing_key(user, KeyUsage::Master)?,
            };
            let given = [
                (KeyUsage::Master, update.master_key.as_ref(), None),
                (KeyUsage::SelfSigning, update.self_signing_key.as_ref(), master.as_ref()),
            ];
            let mut is_valid = true;
            for (usage, key, signer) in given {
                let Some(key) = key else { continue };
                match check_remote_key(&update.user_id, usage, key, signer) {
                    Ok(json) => _ = batch.put(&CROSS_SIGNING, &(user, usage.index()), &json),
                    Err(_) => is_valid = false,
                }
            }
            head.is_current &= is_valid;
            batch.put(&REMOTE_DEVICE_LISTS, &user, &Stamped::pending(head));
            self.log_remote_change(&mut batch, user)?;
            if self.try_commit(batch).await?.is_some() {
                return Ok(());
            }
        }
    }

    /// Keeps a list that was fetched; `state` is what was known when the request was made. A list that is too large is
    /// not kept, and one that an update has overtaken stays stale. Cancel-safe.
    pub(crate) async fn store_remote_devices(
        &self,
        user: UserNid,
        state: ListState,
        list: &RemoteDeviceList,
    ) -> Result<(), UserError> {
        let ListState::Outdated { seen, was_known } = state else { return Ok(()) };
        loop {
            let old = self.store().get(&REMOTE_DEVICE_LISTS, &user)?;
            let mut batch = Batch::new();
            expect_head(&mut batch, user, old.as_ref());
            let Some(differs) = self.replace_rows(&mut batch, user, list)? else { return Ok(()) };
            let mut head = old.as_ref().map(|row| row.value.clone()).unwrap_or_default();
            // The others were told by the update that made the list stale.
            let is_news = was_known && head.is_current && differs;
            head.is_current = old.map(|row| row.pos) == seen;
            head.devices = u32::try_from(list.devices.len()).unwrap_or(u32::MAX);
            list.stream_id.into_iter().for_each(|stream_id| head.note(stream_id));
            batch.put(&REMOTE_DEVICE_LISTS, &user, &Stamped::pending(head));
            if is_news {
                self.log_remote_change(&mut batch, user)?;
            }
            if self.try_commit(batch).await?.is_some() {
                return Ok(());
            }
        }
    }

    /// Replaces the rows by the list, and says whether that changes any; `None` if the list is too large.
    fn replace_rows(
        &self,
        batch: &mut Batch,
        user: UserNid,
        list: &RemoteDeviceList,
    ) -> Result<Option<bool>, UserError> {
        let mut new = BTreeMap::new();
        let mut bytes = 0;
        for (device_id, keys) in &list.devices {
            let json = render(keys)?;
            bytes += json.len();
            new.insert(Arc::<str>::from(device_id.as_str()), json);
        }
        if new.len() > MAX_DEVICES || bytes > MAX_LIST_BYTES {
            return Ok(None);
        }
        let mut differs = false;
        for row in self.store().scan(&REMOTE_DEVICES, &user).iter() {
            let ((_, device_id), json) = row?;
            match new.get(&device_id) {
                Some(same) if *same == json => _ = new.remove(&device_id),
                Some(_) => {}
                None => {
                    batch.delete(&REMOTE_DEVICES, &(user, device_id));
                    differs = true;
                }
            }
        }
        differs |= !new.is_empty();
        for (device_id, json) in new {
            batch.put(&REMOTE_DEVICES, &(user, device_id), &json);
        }
        for (usage, key) in [(KeyUsage::Master, &list.master_key), (KeyUsage::SelfSigning, &list.self_signing_key)] {
            let row_key = (user, usage.index());
            let json = key.as_ref().map(render).transpose()?;
            if self.store().get(&CROSS_SIGNING, &row_key)? == json {
                continue;
            }
            differs = true;
            match json {
                Some(json) => batch.put(&CROSS_SIGNING, &row_key, &json),
                None => batch.delete(&CROSS_SIGNING, &row_key),
            };
        }
        Ok(Some(differs))
    }

    /// The user, if they belong to `origin` and share a room with somebody here.
    fn find_tracked(&self, origin: &ServerName, user_id: &UserId) -> Result<Option<UserNid>, UserError> {
        if user_id.server_name() != origin.as_str() {
            return Err(UserError::Forbidden("a server speaks for its own users only"));
        }
        let Some(user) = self.rooms().user_nid(user_id)? else { return Ok(None) };
        Ok(if self.is_tracked(user)? { Some(user) } else { None })
    }

    /// Whether the user is in a room with somebody here, so that their server tells of their devices.
    pub(crate) fn is_tracked(&self, user: UserNid) -> Result<bool, UserError> {
        for room in self.rooms().joined_rooms(user)? {
            if self.rooms().is_resident(room)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    pub(crate) fn remote_list_state(&self, user: UserNid) -> Result<ListState, UserError> {
        if !self.is_tracked(user)? {
            return Ok(ListState::Untracked);
        }
        let head = self.store().get(&REMOTE_DEVICE_LISTS, &user)?;
        if let Some(row) = &head
            && row.value.is_current
            && self.was_tracked_since(user, row.pos)?
        {
            return Ok(ListState::Current);
        }
        let was_known = head.as_ref().is_some_and(|row| row.value.is_current);
        Ok(ListState::Outdated { seen: head.map(|row| row.pos), was_known })
    }

    /// Whether there is a room in which the user and somebody here have been since `pos` without interruption.
    fn was_tracked_since(&self, user: UserNid, pos: StreamPos) -> Result<bool, UserError> {
        for (room, row) in self.rooms().user_rooms(user)?.iter() {
            if row.membership == rooms::Membership::Join
                && self.was_resident_since(*room, pos)?
                && self.was_joined_since(*room, row, pos)?
            {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn was_resident_since(&self, room: RoomNid, pos: StreamPos) -> Result<bool, UserError> {
        let servers = self.rooms().room_servers(room)?;
        let Some(stay) = servers.get(self.rooms().server_name().as_str()) else { return Ok(false) };
        Ok(stay.until.is_none() && self.rooms().event_at(room, stay.since)?.pos() <= pos)
    }

    fn was_joined_since(&self, room: RoomNid, row: &UserRoom, pos: StreamPos) -> Result<bool, UserError> {
        if row.pos <= pos {
            return Ok(true);
        }
        // A new name or avatar is a new member event too.
        let mut seq = Some(row.seq);
        for _ in 0..MAX_MEMBER_EVENTS {
            let Some(at) = seq else { return Ok(false) };
            let event = self.rooms().event_at(room, at)?;
            let content = event.content_as::<Map<String, Value>>();
            if content.as_ref().and_then(|content| content.get("membership")?.as_str()) != Some("join") {
                return Ok(false);
            }
            if event.pos() <= pos {
                return Ok(true);
            }
            seq = event.replaces();
        }
        Ok(false)
    }

    fn log_remote_change(&self, batch: &mut Batch, user: UserNid) -> Result<(), UserError> {
        let previous = self.device_list_version(user)?;
        log_remote_device_list_change(batch, user, previous);
        Ok(())
    }
}

fn parse_update<T: serde::de::DeserializeOwned>(content: Map<String, Value>) -> Result<T, UserError> {
    serde_json::from_value(Value::Object(content)).map_err(|_| UserError::BadJson("the update has the wrong shape"))
}

fn expect_head(batch: &mut Batch, user: UserNid, old: Option<&Stamped<ListHead>>) {
    match old {
        Some(old) => batch.expect_equals(&REMOTE_DEVICE_LISTS, &user, old),
        None => batch.expect_absent(&REMOTE_DEVICE_LISTS, &user),
    };
}

fn render(keys: &Object) -> Result<Vec<u8>, UserError> {
    serde_json::to_vec(keys).map_err(|_| UserError::Inconsistent("a key does not serialise"))
}

#[cfg(test)]
pub(crate) mod tests;
