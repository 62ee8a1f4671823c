//! Other servers, as far as tests of this edge need them: none can be reached, except for what a test has laid down,
//! and everything that is asked is written down.

use std::collections::{BTreeMap, HashMap};
use std::sync::Mutex;
use std::time::Duration;

use rooms::{Direction, PolicyQuestion, PolicyServers, Remote, RemoteRooms, RoomError, RoomNid};
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};
use spec::hash::redacted_bytes;
use spec::ids::{EventId, RoomAlias, RoomId, ServerName, UserId};
use spec::policy::POLICY_KEY_ID;
use spec::signing::SigningKey;
use spec::version::RoomVersion;
use users::{ClaimedKeys, QueriedKeys, RemoteAnswer, RemoteUsers, ToDeviceMessages, UserError};

/// See the module.
#[derive(Default)]
pub struct Elsewhere {
    asked: Mutex<Vec<String>>,
    /// Answers of `hierarchy`, by room.
    pub hierarchies: Mutex<HashMap<String, Value>>,
    /// Answers of `resolve_alias`.
    pub aliases: Mutex<HashMap<String, (RoomId, Vec<ServerName>)>>,
    /// Whether invitations, joins and knocks succeed.
    pub accepts: Mutex<bool>,
    /// With what policy servers refuse: status and code, or silence. They sign if there is nothing here.
    pub policy: Mutex<Option<Option<(u16, &'static str)>>>,
}

impl Elsewhere {
    /// What was asked since the last time.
    pub fn take_asked(&self) -> Vec<String> {
        std::mem::take(&mut self.asked.lock().unwrap())
    }

    fn note(&self, what: String) {
        self.asked.lock().unwrap().push(what);
    }

    fn decide<'a>(&self) -> Remote<'a, ()> {
        let accepts = *self.accepts.lock().unwrap();
        Box::pin(std::future::ready(if accepts { Ok(()) } else { Err(unreachable_server()) }))
    }

    /// As the real port: a room of which no server is known cannot be asked for.
    fn enter<'a>(&self, room: &RoomId, via: &[ServerName]) -> Remote<'a, ()> {
        if via.is_empty() && room.server_name().is_none_or(|server| server == "hs.test") {
            return Box::pin(std::future::ready(Err(RoomError::RoomNotFound)));
        }
        self.decide()
    }
}

/// The key of every policy server.
pub fn policy_key() -> SigningKey {
    SigningKey::from_seed([9; 32], "policy_server").unwrap()
}

impl PolicyServers for Elsewhere {
    fn sign<'a>(&'a self, question: PolicyQuestion<'a>) -> Remote<'a, Map<String, Value>> {
        let (server, event) = (question.server.clone(), question.event.to_object().unwrap());
        self.note(format!("sign {server} {}", question.event.kind));
        let answer = match *self.policy.lock().unwrap() {
            None => {
                let signature = policy_key().sign(&redacted_bytes(&event, RoomVersion::V12.rules()));
                let answer = json!({ server.as_str(): { POLICY_KEY_ID: signature } });
                Ok(answer.as_object().unwrap().clone())
            }
            Some(None) => Err(unreachable_server()),
            Some(Some((status, errcode))) => {
                let (errcode, message) = (errcode.to_owned(), "not like this".to_owned());
                let retry_after_ms = (status == 429).then_some(2500);
                Err(RoomError::NotRecommended { server, status, errcode, message, retry_after_ms })
            }
        };
        Box::pin(std::future::ready(answer))
    }
}

fn unreachable_server() -> RoomError {
    RoomError::RemoteUnavailable("far.test".into())
}

fn names(servers: &[ServerName]) -> String {
    servers.iter().map(ServerName::as_str).collect::<Vec<_>>().join(",")
}

impl RemoteRooms for Elsewhere {
    fn join<'a>(
        &'a self,
        user: &'a UserId,
        room: &'a RoomId,
        via: &'a [ServerName],
        _: Map<String, Value>,
    ) -> Remote<'a, ()> {
        self.note(format!("join {user} {room} {}", names(via)));
        self.enter(room, via)
    }

    fn knock<'a>(
        &'a self,
        user: &'a UserId,
        room: &'a RoomId,
        via: &'a [ServerName],
        _: Map<String, Value>,
    ) -> Remote<'a, ()> {
        self.note(format!("knock {user} {room} {}", names(via)));
        self.enter(room, via)
    }

    fn leave<'a>(&'a self, user: &'a UserId, room: &'a RoomId, _: Map<String, Value>) -> Remote<'a, ()> {
        self.note(format!("leave {user} {room}"));
        self.decide()
    }

    fn invite<'a>(
        &'a self,
        sender: &'a UserId,
        _: &'a RoomId,
        target: &'a UserId,
        content: Map<String, Value>,
    ) -> Remote<'a, ()> {
        self.note(format!("invite {sender} {target} {}", Value::Object(content)));
        self.decide()
    }

    fn resolve_alias<'a>(&'a self, alias: &'a RoomAlias) -> Remote<'a, (RoomId, Vec<ServerName>)> {
        self.note(format!("alias {alias}"));
        let found = self.aliases.lock().unwrap().get(alias.as_str()).cloned();
        Box::pin(std::future::ready(found.ok_or(RoomError::AliasNotFound)))
    }

    fn public_rooms<'a>(&'a self, server: &'a ServerName, query: Map<String, Value>) -> Remote<'a, Map<String, Value>> {
        self.note(format!("public rooms {server} {}", Value::Object(query)));
        let status = 403;
        let (errcode, message) = ("M_FORBIDDEN".to_owned(), "not for you".to_owned());
        let refused = RoomError::RemoteRefused { server: server.clone(), status, errcode, message };
        Box::pin(std::future::ready(Err(refused)))
    }

    fn hierarchy<'a>(&'a self, room: &'a RoomId, via: &'a [ServerName], _: bool) -> Remote<'a, Map<String, Value>> {
        self.note(format!("hierarchy {room} {}", names(via)));
        let answer = self.hierarchies.lock().unwrap().get(room.as_str()).and_then(|answer| answer.as_object().cloned());
        Box::pin(std::future::ready(answer.ok_or_else(unreachable_server)))
    }

    fn backfill<'a>(&'a self, _: RoomNid, _: usize) -> Remote<'a, bool> {
        self.note("backfill".to_owned());
        Box::pin(std::future::ready(Ok(false)))
    }

    fn event_near<'a>(&'a self, _: RoomNid, _: i64, _: Direction) -> Remote<'a, Option<(EventId, i64)>> {
        self.note("event near".to_owned());
        Box::pin(std::future::ready(Ok(None)))
    }
}

fn no_answer<'a, T: Send + 'a>() -> RemoteAnswer<'a, T> {
    Box::pin(std::future::ready(Err(UserError::RemoteUnavailable("far.test".into()))))
}

impl RemoteUsers for Elsewhere {
    fn query_keys<'a>(
        &'a self,
        _: &'a ServerName,
        _: BTreeMap<UserId, Vec<String>>,
        _: Duration,
    ) -> RemoteAnswer<'a, QueriedKeys> {
        no_answer()
    }

    fn claim_keys<'a>(
        &'a self,
        _: &'a ServerName,
        _: BTreeMap<UserId, BTreeMap<String, String>>,
        _: Duration,
    ) -> RemoteAnswer<'a, ClaimedKeys> {
        no_answer()
    }

    fn profile<'a>(&'a self, _: &'a UserId, _: Option<&'a str>) -> RemoteAnswer<'a, Map<String, Value>> {
        no_answer()
    }

    fn send_to_device<'a>(
        &'a self,
        _: &'a UserId,
        _: &'a str,
        _: &'a str,
        _: ToDeviceMessages,
    ) -> RemoteAnswer<'a, ()> {
        no_answer()
    }

    fn user_devices<'a>(&'a self, _: &'a UserId) -> RemoteAnswer<'a, Box<RawValue>> {
        no_answer()
    }
}
