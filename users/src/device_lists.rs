//! The device list stream: who changed which device, in commit order.
//!
//! Spec: Client-Server API §"Tracking the device list for a user". A reader asks for the part of the log between
//! two positions; the latest position is kept in memory, so that "nothing changed" costs one atomic load.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use rooms::UserNid;
use serde::{Deserialize, Serialize};
use storage::{Batch, Committed, Keyspace, Profile, Read, Stamped, Store, StreamPos, stored};

use crate::{
    UserError, Users,
    topics::{device_lists_topic, user_topic},
};

/// Every change. The device ID is empty when the user's cross-signing keys changed.
pub(crate) const DEVICE_LIST_LOG: Keyspace<(StreamPos, UserNid, Arc<str>), LoggedChange> =
    Keyspace::new("device_list_log", Profile::Log);
/// The position of each user's latest change: `stream_id` towards other servers.
pub(crate) const DEVICE_LIST_VERSION: Keyspace<UserNid, Stamped<()>> =
    Keyspace::new("device_list_version", Profile::Points);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LoggedChange {
    kind: DeviceListChangeKind,
    pub(crate) only_for: Option<UserNid>,
}
stored!(LoggedChange, 1);

/// What happened to a device list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DeviceListChangeKind {
    /// A device was added or its keys, signatures or name changed.
    Updated,
    /// A device was removed.
    Deleted,
    /// The cross-signing keys, or signatures on them, changed.
    CrossSigning,
}

/// One entry of the device list stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceListChange {
    /// When.
    pub pos: StreamPos,
    /// Whose list.
    pub user: UserNid,
    /// Which device; `None` when it concerns the cross-signing keys.
    pub device_id: Option<Arc<str>>,
    /// What happened.
    pub kind: DeviceListChangeKind,
    /// Set when only this user can see the difference (a signature by their user-signing key).
    pub only_for: Option<UserNid>,
}

/// Keeps the position of the latest entry in memory.
#[derive(Default)]
pub(crate) struct LatestDeviceListChange(AtomicU64);

impl LatestDeviceListChange {
    /// Reads the latest position from the log and follows commits from then on.
    pub(crate) fn follow(store: &Store) -> Result<Arc<Self>, UserError> {
        let latest = Arc::new(Self::default());
        let observer = Arc::clone(&latest);
        let topic = device_lists_topic();
        store.on_commit(Arc::new(move |group: &[Committed]| {
            for committed in group {
                if committed.topics.contains(&topic) {
                    observer.0.fetch_max(committed.pos.0, Ordering::Release);
                }
            }
        }));
        if let Some(row) = store.scan(&DEVICE_LIST_LOG, &()).reverse().iter().next() {
            let ((pos, _, _), _) = row?;
            latest.0.fetch_max(pos.0, Ordering::Release);
        }
        Ok(latest)
    }

    fn pos(&self) -> StreamPos {
        StreamPos(self.0.load(Ordering::Acquire))
    }
}

/// Adds a change of `user`'s list, visible to everybody who shares a room with them, to `batch`.
pub(crate) fn log_device_list_change(
    batch: &mut Batch,
    user: UserNid,
    device_id: Option<&Arc<str>>,
    kind: DeviceListChangeKind,
) {
    let device_id = device_id.map_or_else(|| Arc::from(""), Arc::clone);
    batch.put(&DEVICE_LIST_LOG, &(StreamPos::PENDING, user, device_id), &LoggedChange { kind, only_for: None });
    batch.put(&DEVICE_LIST_VERSION, &user, &Stamped { pos: StreamPos::PENDING, value: () });
    batch.touch(user_topic(user));
    batch.touch(device_lists_topic());
}

/// Adds a change of `target` that only `viewer` can see to `batch`.
pub(crate) fn log_private_signature(batch: &mut Batch, target: UserNid, viewer: UserNid) {
    batch.put(
        &DEVICE_LIST_LOG,
        &(StreamPos::PENDING, target, Arc::from("")),
        &LoggedChange { kind: DeviceListChangeKind::CrossSigning, only_for: Some(viewer) },
    );
    batch.touch(user_topic(viewer));
    batch.touch(device_lists_topic());
}

/// Adds a change of a remote user's list to `batch`. It takes the place of the one at `previous`: whoever has not heard
/// of that hears of this one, and a server that sends many leaves one row.
pub(crate) fn log_remote_device_list_change(batch: &mut Batch, user: UserNid, previous: StreamPos) {
    if previous > StreamPos(0) {
        batch.delete(&DEVICE_LIST_LOG, &(previous, user, Arc::from("")));
    }
    log_device_list_change(batch, user, None, DeviceListChangeKind::Updated);
}

impl Users {
    /// Position of the latest change of any device list. No storage access.
    pub fn latest_device_list_change(&self) -> StreamPos {
        self.inner.latest_device_list_change.pos()
    }

    /// The changes after `since` up to and including `until`, oldest first. Costs what changed.
    pub fn device_list_changes(&self, since: StreamPos, until: StreamPos) -> Result<Vec<DeviceListChange>, UserError> {
        if self.latest_device_list_change() <= since || until <= since {
            return Ok(Vec::new());
        }
        let from = (StreamPos(since.0 + 1), UserNid(0), Arc::from(""));
        let mut changes = Vec::new();
        for row in self.store().scan(&DEVICE_LIST_LOG, &()).from(&from).iter() {
            let ((pos, user, device_id), logged) = row?;
            if pos > until {
                break;
            }
            let device_id = Some(device_id).filter(|id| !id.is_empty());
            changes.push(DeviceListChange { pos, user, device_id, kind: logged.kind, only_for: logged.only_for });
        }
        Ok(changes)
    }

    /// Whose keys `viewer` should fetch again after changes in `(since, until]`: each user once, in order of ID
    /// number. Whether the viewer shares a room with them is the caller's to check.
    pub fn users_with_changed_devices(
        &self,
        viewer: UserNid,
        since: StreamPos,
        until: StreamPos,
    ) -> Result<Vec<UserNid>, UserError> {
        let mut users: Vec<UserNid> = self
            .device_list_changes(since, until)?
            .into_iter()
            .filter(|change| change.only_for.is_none_or(|only| only == viewer))
            .map(|change| change.user)
            .collect();
        users.sort_unstable();
        users.dedup();
        Ok(users)
    }

    /// `stream_id` of `user`'s device list towards other servers; 0 when it never changed.
    pub fn device_list_version(&self, user: UserNid) -> Result<StreamPos, UserError> {
        Ok(self.store().get(&DEVICE_LIST_VERSION, &user)?.map_or(StreamPos(0), |stamped| stamped.pos))
    }

    /// Records that remote users' device lists may have changed, whatever is kept of them. Cancel-safe.
    pub async fn record_remote_device_list_changes(&self, users: &[UserNid]) -> Result<(), UserError> {
        if users.is_empty() {
            return Ok(());
        }
        let mut batch = Batch::new();
        for user in users {
            log_remote_device_list_change(&mut batch, *user, self.device_list_version(*user)?);
        }
        self.store().commit(batch).await?;
        Ok(())
    }
}
