//! Users of servers that exist by their signing key alone: they take part in a room of the server under test.

use rooms::{CheckedPdu, Draft, Membership, RoomNid, Verdict};
use serde_json::{Map, Value, json};
use spec::ids::{EventId, RoomId, ServerName, UserId};
use spec::pdu::Pdu;
use spec::signing::SigningKey;
use spec::version::RoomVersionRules;

use crate::server::{Server, object, text};

#[derive(Clone)]
pub struct Foreign {
    pub name: ServerName,
    key: SigningKey,
}

impl Foreign {
    pub fn new(name: &str) -> Foreign {
        Foreign { name: ServerName::parse(name).unwrap(), key: SigningKey::from_seed([99; 32], "1").unwrap() }
    }

    pub fn user(&self, name: &str) -> UserId {
        UserId::parse(format!("@{name}:{}", self.name)).unwrap()
    }

    pub fn sign(&self, mut object: Map<String, Value>, rules: &RoomVersionRules) -> CheckedPdu {
        if rules.pair_references {
            let id = format!("${}:{}", object["depth"], self.name);
            object.insert("event_id".into(), id.into());
        }
        CheckedPdu::of_ours(Pdu::sign(object, &self.name, &self.key, rules).unwrap().into())
    }

    /// An event on top of the room as it is, not sent.
    pub fn prepare(&self, server: &Server, room: RoomNid, draft: Draft) -> CheckedPdu {
        let rules = server.rooms.head(room).unwrap().rules();
        self.sign(server.rooms.prepare(room, draft).unwrap(), rules)
    }

    pub async fn send(&self, server: &Server, room: &RoomId, draft: Draft) -> EventId {
        let nid = server.rooms.known_room(room).unwrap();
        server.rooms.intern_user(&draft.sender).await.unwrap();
        let pdu = self.prepare(server, nid, draft);
        let id = pdu.pdu().event_id.clone();
        assert_eq!(server.rooms.receive(pdu).await.unwrap(), Verdict::Accepted);
        id
    }

    pub async fn say(&self, server: &Server, room: &RoomId, by: &UserId, body: &str) -> EventId {
        self.send(server, room, Draft::message(by.clone(), "m.room.message", text(body))).await
    }

    /// Changes their own membership.
    pub async fn turn(&self, server: &Server, room: &RoomId, user: &UserId, to: Membership) -> EventId {
        self.send(server, room, member(user, user, to)).await
    }
}

pub fn member(sender: &UserId, target: &UserId, to: Membership) -> Draft {
    let content = object(json!({"membership": to.as_str()}));
    Draft::state(sender.clone(), "m.room.member", target.as_str(), content)
}

/// A local user changes the membership of anybody.
pub async fn set_member(server: &Server, room: &RoomId, by: &UserId, of: &UserId, to: Membership) -> EventId {
    server.rooms.intern_user(of).await.unwrap();
    server.append(room, member(by, of, to)).await.unwrap()
}
