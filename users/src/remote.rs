//! The port through which accounts reach other servers; the federation edge implements it, the
//! client-server edge calls it.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use serde_json::{Map, Value, value::RawValue};
use spec::ids::{ServerName, UserId};

use crate::{ClaimedKeys, QueriedKeys, ToDeviceMessages, UserError};

/// What a port returns: a boxed future.
pub type RemoteAnswer<'a, T> = Pin<Box<dyn Future<Output = Result<T, UserError>> + Send + 'a>>;

/// What other servers can be asked about their users, and told for them.
pub trait RemoteUsers: Send + Sync {
    /// Keys of users of one other server; an empty list of devices means all. What that server says
    /// about users that are not its own is left out (Server-Server API §End-to-End Encryption).
    /// `timeout` is how long the caller waits; it drops the future then.
    fn query_keys<'a>(
        &'a self,
        server: &'a ServerName,
        users: BTreeMap<UserId, Vec<String>>,
        timeout: Duration,
    ) -> RemoteAnswer<'a, QueriedKeys>;

    /// Claims one-time keys of users of one other server: user → device → algorithm.
    fn claim_keys<'a>(
        &'a self,
        server: &'a ServerName,
        wanted: BTreeMap<UserId, BTreeMap<String, String>>,
        timeout: Duration,
    ) -> RemoteAnswer<'a, ClaimedKeys>;

    /// A user's profile, or one field of it (§Querying for information).
    fn profile<'a>(&'a self, user: &'a UserId, field: Option<&'a str>) -> RemoteAnswer<'a, Map<String, Value>>;

    /// Queues messages durably for devices of users of other servers; the queue delivers them, and by `message_id` (at
    /// most 32 characters) a receiver knows a message that it has already (§Send-to-device messaging).
    fn send_to_device<'a>(
        &'a self,
        sender: &'a UserId,
        kind: &'a str,
        message_id: &'a str,
        messages: ToDeviceMessages,
    ) -> RemoteAnswer<'a, ()>;

    /// Devices and keys of a user of another server, for the list that is tracked here: the answer
    /// of `GET /user/devices/{userId}` (§Device Management). `NotFound` if there is no such user.
    fn user_devices<'a>(&'a self, user: &'a UserId) -> RemoteAnswer<'a, Box<RawValue>>;
}
