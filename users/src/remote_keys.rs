//! Keys of users wherever they are: those of this server from its rows, the others' from what is kept of them or from
//! their servers, which are asked at the same time.
//!
//! Spec: Client-Server API `POST /keys/query`, `POST /keys/claim`; Server-Server API §"End-to-End Encryption".

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures_util::{StreamExt, future, stream};
use parking_lot::Mutex;
use rooms::UserNid;
use serde_json::Value;
use spec::ids::{ServerName, UserId};
use storage::Read;

use crate::{
    ClaimedKeys, QueriedKeys, RemoteUsers, UserError, Users,
    e2ee::{
        cross_signing::{KeyUsage, public_part},
        parse_object,
    },
    remote_devices::{ListState, REMOTE_DEVICES, RemoteDeviceList},
};

/// How many servers are asked at a time for one request, and how many single users of one server.
const SERVERS_AT_ONCE: usize = 32;
const USERS_AT_ONCE: usize = 8;
/// More stale lists of one server than this are fetched in one request instead of one each.
const MAX_SINGLE_FETCHES: usize = 32;

/// User → device IDs; none of them stands for all.
type WantedDevices = BTreeMap<UserId, Vec<String>>;

/// One request at a time fetches lists of a server: those that wait find them here afterwards.
#[derive(Default)]
pub(crate) struct ListFetches(Mutex<HashMap<ServerName, Weak<tokio::sync::Mutex<()>>>>);

impl ListFetches {
    fn of(&self, server: &ServerName) -> Arc<tokio::sync::Mutex<()>> {
        let mut fetches = self.0.lock();
        if let Some(fetch) = fetches.get(server).and_then(Weak::upgrade) {
            return fetch;
        }
        fetches.retain(|_, fetch| fetch.strong_count() > 0);
        let fetch = Arc::default();
        fetches.insert(server.clone(), Arc::downgrade(&fetch));
        fetch
    }
}

/// Who asks one server, and until when.
#[derive(Clone, Copy)]
struct Question<'a> {
    remote: &'a dyn RemoteUsers,
    viewer: UserNid,
    server: &'a ServerName,
    /// When it is given up, on the monotonic clock.
    deadline: Duration,
}

/// A user whose list is to be fetched.
struct Fetch {
    user: UserNid,
    user_id: UserId,
    state: ListState,
}

impl Users {
    /// Keys of users of this and of other servers as `viewer` may see them, and the servers that did not answer within
    /// `timeout`. Lists of users who share a room with somebody here are answered from what is kept, where that is up
    /// to date. Cancel-safe.
    ///
    /// # Errors
    /// Storage errors only.
    pub async fn query_keys_everywhere(
        &self,
        remote: &dyn RemoteUsers,
        viewer: UserNid,
        wanted: WantedDevices,
        timeout: Duration,
    ) -> Result<(QueriedKeys, BTreeSet<ServerName>), UserError> {
        let (local, by_server) = self.split_by_server(wanted);
        let deadline = self.inner.clock.monotonic().saturating_add(timeout);
        let mut found = self.query_keys(Some(viewer), &local)?;
        let mut asked = Vec::new();
        for (server, wanted) in &by_server {
            let question = Question { remote, viewer, server, deadline };
            asked.push(async move { (server, self.query_server(question, wanted).await) });
        }
        let answers: Vec<_> = stream::iter(asked).buffer_unordered(SERVERS_AT_ONCE).collect().await;
        let mut failures = BTreeSet::new();
        for (server, answer) in answers {
            let (part, is_whole) = answer?;
            found.extend(part);
            if !is_whole {
                failures.insert(server.clone());
            }
        }
        Ok((found, failures))
    }

    /// Claims one-time keys of users of this and of other servers, and names the servers that did not answer within
    /// `timeout`. Dropped meanwhile, keys may have been claimed that nobody gets.
    ///
    /// # Errors
    /// Storage errors only.
    pub async fn claim_keys_everywhere(
        &self,
        remote: &dyn RemoteUsers,
        wanted: BTreeMap<UserId, BTreeMap<String, String>>,
        timeout: Duration,
    ) -> Result<(ClaimedKeys, BTreeSet<ServerName>), UserError> {
        let (local, by_server) = self.split_by_server(wanted);
        let deadline = self.inner.clock.monotonic().saturating_add(timeout);
        let mut claimed = self.claim_keys(&local).await?;
        let mut asked = Vec::new();
        for (server, wanted) in by_server {
            asked.push(async move {
                let request = remote.claim_keys(&server, wanted, self.time_left(deadline));
                let answer = self.within(deadline, request).await;
                (server, answer)
            });
        }
        let answers: Vec<_> = stream::iter(asked).buffer_unordered(SERVERS_AT_ONCE).collect().await;
        let mut failures = BTreeSet::new();
        for (server, answer) in answers {
            match answered(answer)? {
                Some(keys) => claimed.extend(keys),
                None => _ = failures.insert(server),
            }
        }
        Ok((claimed, failures))
    }

    fn split_by_server<T>(
        &self,
        wanted: BTreeMap<UserId, T>,
    ) -> (BTreeMap<UserId, T>, BTreeMap<ServerName, BTreeMap<UserId, T>>) {
        let own = self.rooms().server_name();
        let (mut local, mut by_server) = (BTreeMap::new(), BTreeMap::<ServerName, BTreeMap<UserId, T>>::new());
        for (user, wish) in wanted {
            if user.server_name() == own.as_str() {
                local.insert(user, wish);
            } else if let Ok(server) = ServerName::parse(user.server_name()) {
                by_server.entry(server).or_default().insert(user, wish);
            }
        }
        (local, by_server)
    }

    fn time_left(&self, deadline: Duration) -> Duration {
        deadline.saturating_sub(self.inner.clock.monotonic())
    }

    /// Runs a request until the deadline; a failure of the other server if the time is over.
    async fn within<T>(
        &self,
        deadline: Duration,
        request: impl Future<Output = Result<T, UserError>>,
    ) -> Result<T, UserError> {
        let late = || UserError::RemoteUnavailable("a server that was asked for keys".to_owned());
        let left = self.time_left(deadline);
        if left.is_zero() {
            return Err(late());
        }
        self.inner.clock.timeout(left, request).await.unwrap_or_else(|| Err(late()))
    }

    /// The keys of users of one server, and whether all were found out.
    async fn query_server(
        &self,
        question: Question<'_>,
        wanted: &WantedDevices,
    ) -> Result<(QueriedKeys, bool), UserError> {
        let mut found = QueriedKeys::default();
        let (mut outdated, mut strangers) = (WantedDevices::new(), WantedDevices::new());
        for (user_id, devices) in wanted {
            let user = self.rooms().user_nid(user_id)?;
            let state = user.map(|user| self.remote_list_state(user)).transpose()?;
            match (user, state) {
                (Some(user), Some(ListState::Current)) => {
                    let list = self.kept_list(user)?;
                    self.add_list(question.viewer, user_id, devices, list, &mut found)?;
                }
                (Some(_), Some(ListState::Outdated { .. })) => _ = outdated.insert(user_id.clone(), devices.clone()),
                _ => _ = strangers.insert(user_id.clone(), devices.clone()),
            }
        }
        let fetched = self.refresh_lists(question, &outdated);
        let (fetched, passed) = future::join(fetched, self.ask_about_strangers(question, &strangers)).await;
        let mut is_whole = true;
        for (part, is_answered) in [fetched?, passed?] {
            found.extend(part);
            is_whole &= is_answered;
        }
        Ok((found, is_whole))
    }

    /// Asks for users who share no room with anybody here; nothing is kept of the answer.
    async fn ask_about_strangers(
        &self,
        question: Question<'_>,
        wanted: &WantedDevices,
    ) -> Result<(QueriedKeys, bool), UserError> {
        let mut found = QueriedKeys::default();
        if wanted.is_empty() {
            return Ok((found, true));
        }
        let left = self.time_left(question.deadline);
        let request = question.remote.query_keys(question.server, wanted.clone(), left);
        let Some(mut answer) = answered(self.within(question.deadline, request).await)? else {
            return Ok((found, false));
        };
        for (user_id, devices) in wanted {
            if let Some(list) = RemoteDeviceList::take(user_id, &mut answer) {
                self.add_list(question.viewer, user_id, devices, list, &mut found)?;
            }
        }
        Ok((found, true))
    }

    /// Fetches lists that are unknown or stale, keeps them and answers from them.
    async fn refresh_lists(
        &self,
        question: Question<'_>,
        wanted: &WantedDevices,
    ) -> Result<(QueriedKeys, bool), UserError> {
        let mut found = QueriedKeys::default();
        if wanted.is_empty() {
            return Ok((found, true));
        }
        let turn = self.inner.list_fetches.of(question.server);
        let Ok(_turn) = self.within(question.deadline, async { Ok(turn.lock().await) }).await else {
            return Ok((found, false));
        };
        let (mut single, mut together) = (Vec::new(), Vec::new());
        for (user_id, devices) in wanted {
            let Some(user) = self.rooms().user_nid(user_id)? else { continue };
            let state = self.remote_list_state(user)?;
            let fetch = || Fetch { user, user_id: user_id.clone(), state };
            match state {
                // Whoever had the turn before has fetched it.
                ListState::Current => {
                    let list = self.kept_list(user)?;
                    self.add_list(question.viewer, user_id, devices, list, &mut found)?;
                }
                ListState::Outdated { seen: Some(_), .. } if single.len() < MAX_SINGLE_FETCHES => single.push(fetch()),
                ListState::Outdated { .. } | ListState::Untracked => together.push(fetch()),
            }
        }
        let fetches = future::join(self.fetch_one_by_one(question, single), self.fetch_together(question, together));
        let (mut fetched, others) = fetches.await;
        fetched.extend(others);
        let mut is_whole = true;
        for (fetch, list) in fetched {
            match answered(list)? {
                Some(Some(list)) => {
                    self.store_remote_devices(fetch.user, fetch.state, &list).await?;
                    let devices = wanted.get(&fetch.user_id).map(Vec::as_slice).unwrap_or_default();
                    self.add_list(question.viewer, &fetch.user_id, devices, list, &mut found)?;
                }
                Some(None) => {}
                None => is_whole = false,
            }
        }
        Ok((found, is_whole))
    }

    /// Fetches whole lists with their versions (Server-Server API `GET /user/devices/{userId}`).
    async fn fetch_one_by_one(&self, question: Question<'_>, fetches: Vec<Fetch>) -> Vec<FetchedList> {
        let mut asked = Vec::new();
        for fetch in fetches {
            asked.push(async move {
                let answer = self.within(question.deadline, question.remote.user_devices(&fetch.user_id)).await;
                let list = match answer {
                    // The user is gone, or never was.
                    Err(UserError::NotFound(_)) => Ok(Some(RemoteDeviceList::default())),
                    answer => answer.and_then(|answer| RemoteDeviceList::parse(&fetch.user_id, &answer).map(Some)),
                };
                (fetch, list)
            });
        }
        stream::iter(asked).buffer_unordered(USERS_AT_ONCE).collect().await
    }

    /// Fetches the lists of many users at once (Server-Server API `POST /user/keys/query`).
    async fn fetch_together(&self, question: Question<'_>, fetches: Vec<Fetch>) -> Vec<FetchedList> {
        if fetches.is_empty() {
            return Vec::new();
        }
        let users = fetches.iter().map(|fetch| (fetch.user_id.clone(), Vec::new())).collect();
        let request = question.remote.query_keys(question.server, users, self.time_left(question.deadline));
        let mut answer = self.within(question.deadline, request).await;
        let mut fetched = Vec::new();
        for fetch in fetches {
            let list = match &mut answer {
                Ok(answer) => Ok(RemoteDeviceList::take(&fetch.user_id, answer)),
                Err(_) => Err(UserError::RemoteUnavailable(question.server.as_str().to_owned())),
            };
            fetched.push((fetch, list));
        }
        fetched
    }

    fn kept_list(&self, user: UserNid) -> Result<RemoteDeviceList, UserError> {
        let mut list = RemoteDeviceList {
            master_key: self.cross_signing_key(user, KeyUsage::Master)?,
            self_signing_key: self.cross_signing_key(user, KeyUsage::SelfSigning)?,
            ..RemoteDeviceList::default()
        };
        for row in self.store().scan(&REMOTE_DEVICES, &user).iter() {
            let ((_, device_id), json) = row?;
            list.devices.insert(device_id.to_string(), parse_object(&json)?);
        }
        Ok(list)
    }

    /// Adds a list to an answer, with the signatures that `viewer` has made.
    fn add_list(
        &self,
        viewer: UserNid,
        user_id: &UserId,
        wanted: &[String],
        list: RemoteDeviceList,
        found: &mut QueriedKeys,
    ) -> Result<(), UserError> {
        let signatures = match self.rooms().user_nid(user_id)? {
            Some(user) => Some(self.signatures_on(user, Some(viewer))?),
            None => None,
        };
        let mut devices = BTreeMap::new();
        for (device_id, keys) in list.devices {
            if wanted.is_empty() || wanted.contains(&device_id) {
                devices.insert(device_id, Value::Object(keys));
            }
        }
        found.device_keys.insert(user_id.clone(), devices);
        if let Some(mut key) = list.master_key {
            if let (Some(signatures), Some(public)) = (&signatures, public_part(&key).map(str::to_owned)) {
                signatures.merge_into(&mut key, &public);
            }
            found.master_keys.insert(user_id.clone(), Value::Object(key));
        }
        if let Some(key) = list.self_signing_key {
            found.self_signing_keys.insert(user_id.clone(), Value::Object(key));
        }
        Ok(())
    }
}

/// A user and their list; none if their server does not speak of them.
type FetchedList = (Fetch, Result<Option<RemoteDeviceList>, UserError>);

/// What was answered; `None` if the other server failed.
fn answered<T>(answer: Result<T, UserError>) -> Result<Option<T>, UserError> {
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(
            error @ (UserError::Storage(_)
            | UserError::Commit(_)
            | UserError::Rooms(_)
            | UserError::Inconsistent(_)
            | UserError::ShuttingDown),
        ) => Err(error),
        Err(_) => Ok(None),
    }
}

#[cfg(test)]
mod tests;
