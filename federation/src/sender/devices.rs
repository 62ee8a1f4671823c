//! Telling other servers of changes of our users' devices and cross-signing keys (Server-Server API §Device Management).
//!
//! A user's changes form a chain by `prev_id`: the positions of all public changes of their list, whichever server was
//! told of them. A server that misses one notices, and fetches the whole list.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rooms::UserNid;
use serde_json::{Map, Value, json};
use spec::ids::ServerName;
use storage::{Read, StreamPos};
use users::{Device, DeviceListChange, UserDevices};

use super::ephemeral::edu;
use super::pack::Packer;
use super::rows::{DEVICE_CHAIN, Progress};
use super::table::Stretch;
use super::{SendError, Sender};

#[cfg(test)]
mod tests;

/// With more devices of one user changed, one EDU says that the list should be fetched.
const MAX_DEVICES_OF_USER: usize = 10;

/// Something to tell of a user's devices.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Update {
    /// A device changed; the list before was that of `prev`, if there was one.
    Device { user: UserNid, device: Arc<str>, pos: StreamPos, prev: Option<StreamPos> },
    /// So much changed that the list as of `pos` should be fetched.
    Whole { user: UserNid, device: Arc<str>, pos: StreamPos },
    /// The cross-signing keys changed.
    SigningKeys { user: UserNid },
}

/// What to tell a server after the changes given, oldest first, in at most `limit` EDUs; and up to which position that
/// is, `None` for all of them. `before` finds the position of a user's change before another.
pub(crate) fn plan_updates<E>(
    changes: &[DeviceListChange],
    limit: usize,
    mut before: impl FnMut(UserNid, StreamPos) -> Result<Option<StreamPos>, E>,
) -> Result<(Vec<Update>, Option<StreamPos>), E> {
    let (covered, done) = cover(changes, limit);
    let mut by_user: BTreeMap<UserNid, (BTreeMap<Arc<str>, StreamPos>, bool)> = BTreeMap::new();
    let mut crowded = BTreeSet::new();
    let mut first: BTreeMap<UserNid, StreamPos> = BTreeMap::new();
    for change in covered {
        first.entry(change.user).or_insert(change.pos);
        let (devices, has_new_keys) = by_user.entry(change.user).or_default();
        match &change.device_id {
            Some(device) => {
                if devices.values().any(|pos| *pos == change.pos) {
                    // Two devices in one commit share a position, which names one EDU only.
                    crowded.insert(change.user);
                }
                devices.insert(device.clone(), change.pos);
            }
            None => *has_new_keys = true,
        }
    }
    let mut updates = Vec::new();
    for (user, (devices, has_new_keys)) in by_user {
        if has_new_keys {
            updates.push(Update::SigningKeys { user });
        }
        let mut devices: Vec<(StreamPos, Arc<str>)> = devices.into_iter().map(|(device, pos)| (pos, device)).collect();
        devices.sort_unstable();
        if crowded.contains(&user) || devices.len() > MAX_DEVICES_OF_USER {
            updates.extend(devices.pop().map(|(pos, device)| Update::Whole { user, device, pos }));
            continue;
        }
        let mut prev = match first.get(&user) {
            Some(first) if !devices.is_empty() => before(user, *first)?,
            _ => None,
        };
        for (pos, device) in devices {
            updates.push(Update::Device { user, device, pos, prev });
            prev = Some(pos);
        }
    }
    Ok((updates, done))
}

/// The first changes, whole commits of them, that take at most `limit` EDUs; and their last position if there are more.
fn cover(changes: &[DeviceListChange], limit: usize) -> (&[DeviceListChange], Option<StreamPos>) {
    let mut told: BTreeMap<UserNid, BTreeSet<Option<Arc<str>>>> = BTreeMap::new();
    let mut count = 0;
    let mut start_of_commit = 0;
    for (index, change) in changes.iter().enumerate() {
        if index > 0 && changes.get(index - 1).is_some_and(|last| last.pos != change.pos) {
            start_of_commit = index;
        }
        let of_user = told.entry(change.user).or_default();
        // What is over this is told in one EDU.
        let counts = change.device_id.is_none() || of_user.len() <= MAX_DEVICES_OF_USER;
        if of_user.insert(change.device_id.clone()) && counts {
            count += 1;
        }
        if count > limit && start_of_commit > 0 {
            let covered = changes.get(..start_of_commit).unwrap_or_default();
            return (covered, covered.last().map(|change| change.pos));
        }
    }
    (changes, None)
}

impl Sender {
    /// Adds the EDUs about device lists, and notes up to where that is done.
    pub(super) fn gather_device_lists(
        &self,
        server: &ServerName,
        pending: Option<Stretch<StreamPos>>,
        whole_lists: &[UserNid],
        limit: usize,
        packer: &mut Packer,
    ) -> Result<(), SendError> {
        let limit = limit.min(packer.edus_left());
        for user in whole_lists.iter().take(limit) {
            if !self.gather_whole_list(*user, packer)? {
                return Ok(());
            }
            packer.acks.whole_lists.push(*user);
        }
        let limit = limit.saturating_sub(whole_lists.len());
        let Some(stretch) = pending.filter(|_| limit > 0) else { return Ok(()) };
        let changes = self.device_changes_for(server, stretch)?;
        let (updates, done) = plan_updates(&changes, limit, |user, pos| self.change_before(user, pos))?;
        let mut lists: BTreeMap<UserNid, Option<UserDevices>> = BTreeMap::new();
        let mut edus = Vec::new();
        for update in &updates {
            let (Update::Device { user, .. } | Update::Whole { user, .. } | Update::SigningKeys { user }) = update;
            if !lists.contains_key(user) {
                lists.insert(*user, self.users.user_devices(&self.rooms.user_id(*user)?)?);
            }
            let list = lists.get(user).and_then(Option::as_ref);
            // The list is of devices with keys; others have a name all the same.
            let named = match update {
                Update::Device { device, .. } | Update::Whole { device, .. } => self.users.device(*user, device)?,
                Update::SigningKeys { .. } => None,
            };
            edus.push(render_update(update, self.rooms.user_id(*user)?.as_str(), list, named.as_ref()));
        }
        // All or nothing: the position is one for all of them. Where it does not fit, the next transaction is emptier.
        let bytes: usize = edus.iter().map(|edu| edu.to_string().len()).sum();
        if bytes > packer.bytes_left() && !packer.is_empty() {
            return Ok(());
        }
        for edu in edus {
            packer.add_edu(&edu);
        }
        packer.acks.devices = Some(Progress { from: stretch.after, to: done.unwrap_or(stretch.latest) });
        Ok(())
    }

    /// The changes of users of ours that share a room with the server.
    fn device_changes_for(
        &self,
        server: &ServerName,
        stretch: Stretch<StreamPos>,
    ) -> Result<Vec<DeviceListChange>, SendError> {
        let mut shares = BTreeMap::new();
        let mut changes = Vec::new();
        for change in self.users.device_list_changes(stretch.after, stretch.latest)? {
            if change.only_for.is_some() || !self.is_local(change.user)? {
                continue;
            }
            let shares = match shares.get(&change.user) {
                Some(shares) => *shares,
                None => {
                    let found = self.shares_room(change.user, server)?;
                    shares.insert(change.user, found);
                    found
                }
            };
            if shares {
                changes.push(change);
            }
        }
        Ok(changes)
    }

    fn change_before(&self, user: UserNid, pos: StreamPos) -> Result<Option<StreamPos>, SendError> {
        let earlier = self.store.scan(&DEVICE_CHAIN, &user).until(&(user, pos)).reverse();
        Ok(earlier.keys().next().transpose()?.map(|(_, pos)| pos))
    }

    fn gather_whole_list(&self, user: UserNid, packer: &mut Packer) -> Result<bool, SendError> {
        let user_id = self.rooms.user_id(user)?;
        let Some(list) = self.users.user_devices(&user_id)? else { return Ok(true) };
        let Some(device) = list.devices.first().map(|device| Arc::from(device.device_id.as_str())) else {
            return Ok(true);
        };
        let update = Update::Whole { user, device, pos: StreamPos(list.stream_id) };
        Ok(packer.add_edu(&render_update(&update, user_id.as_str(), Some(&list), None)))
    }
}

/// The EDU, with the device as it is now: as it stands in the list of those with keys, or else as it is named.
fn render_update(update: &Update, user_id: &str, list: Option<&UserDevices>, named: Option<&Device>) -> Value {
    let (device, pos, prev) = match update {
        Update::Device { device, pos, prev, .. } => (device, *pos, *prev),
        // Naming itself as what comes before, it can be applied only by a server that has the list already.
        Update::Whole { device, pos, .. } => (device, *pos, Some(*pos)),
        Update::SigningKeys { .. } => return render_signing_keys(user_id, list),
    };
    let mut content = Map::new();
    content.insert("user_id".to_owned(), user_id.into());
    content.insert("device_id".to_owned(), Value::from(&**device));
    content.insert("stream_id".to_owned(), pos.0.into());
    let prev: Vec<u64> = prev.iter().map(|prev| prev.0).collect();
    content.insert("prev_id".to_owned(), json!(prev));
    let keyed = list.and_then(|list| list.devices.iter().find(|found| found.device_id == **device));
    content.insert("deleted".to_owned(), (keyed.is_none() && named.is_none()).into());
    if let Some(found) = keyed {
        content.insert("keys".to_owned(), found.keys.clone());
    }
    let name = match keyed {
        Some(found) => found.device_display_name.as_deref(),
        None => named.and_then(|device| device.display_name.as_deref()),
    };
    if let Some(name) = name {
        content.insert("device_display_name".to_owned(), name.into());
    }
    edu("m.device_list_update", Value::Object(content))
}

fn render_signing_keys(user_id: &str, list: Option<&UserDevices>) -> Value {
    let mut content = Map::from_iter([("user_id".to_owned(), user_id.into())]);
    let keys = list.map(|list| [("master_key", &list.master_key), ("self_signing_key", &list.self_signing_key)]);
    for (name, key) in keys.into_iter().flatten() {
        if let Some(key) = key {
            content.insert(name.to_owned(), key.clone());
        }
    }
    edu("m.signing_key_update", Value::Object(content))
}
