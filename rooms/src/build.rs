//! Building events of ours: the place in the DAG, the events that authorise them, hash and signature.

use std::cell::RefCell;
use std::sync::Arc;

use serde_json::{Map, Value, json};
use spec::auth;
use spec::pdu::{MAX_PREV_EVENTS, Pdu};

use crate::append::Append;
use crate::draft::Draft;
use crate::error::RoomError;
use crate::ids::RoomNid;
use crate::rooms::Rooms;
use crate::sticky::STICKY_KEY;

impl Append<'_> {
    /// The signed event of a draft, on top of the room as it is.
    pub(crate) fn build(&self, draft: Draft) -> Result<Arc<Pdu>, RoomError> {
        self.sign(self.build_object(draft)?)
    }

    fn sign(&self, mut object: Map<String, Value>) -> Result<Arc<Pdu>, RoomError> {
        let rules = self.head.rules();
        if rules.pair_references {
            let id = format!("${}:{}", self.rooms.random.token(24), self.rooms.server_name.as_str());
            object.insert("event_id".into(), id.into());
        }
        Ok(Arc::new(Pdu::sign(object, &self.rooms.server_name, &self.rooms.signing_key, rules)?))
    }

    /// The event of a draft, without id, hash and signature.
    fn build_object(&self, draft: Draft) -> Result<Map<String, Value>, RoomError> {
        let head = &self.head;
        let rules = head.rules();
        let content = serde_json::value::to_raw_value(&draft.content)
            .map_err(|_| RoomError::Invalid("content cannot be written"))?;
        let mut auth_events = Vec::new();
        for (kind, key) in auth::auth_types(rules, &draft.kind, &draft.sender, draft.state_key.as_deref(), &content) {
            if let Some(event) = self.current(&kind, &key)? {
                auth_events.push(Value::from(event.event_id.as_str()));
            }
        }
        // The newest, where there are more than an event may cite: the others stay extremities.
        let extremities = &head.row.extremities;
        let cited = extremities.iter().skip(extremities.len().saturating_sub(MAX_PREV_EVENTS));
        let prev_events: Vec<Value> = cited.map(|(id, _)| Value::from(&**id)).collect();
        let mut object = Map::new();
        object.insert("auth_events".into(), reference(auth_events, rules));
        object.insert("prev_events".into(), reference(prev_events, rules));
        object.insert("content".into(), Value::Object(draft.content));
        object.insert("depth".into(), head.row.depth.saturating_add(1).min(spec::canonical::MAX_INTEGER).into());
        let now = draft.timestamp.unwrap_or(self.rooms.clock.now_ms() as i64);
        object.insert("origin_server_ts".into(), now.into());
        let creates = &*draft.kind == "m.room.create" && rules.room_id_is_create_hash;
        if !creates {
            object.insert("room_id".into(), head.room_id.as_str().into());
        }
        if rules.pair_references {
            object.insert("origin".into(), self.rooms.server_name.as_str().into());
        }
        object.insert("sender".into(), draft.sender.as_str().into());
        object.insert("type".into(), draft.kind.into_string().into());
        if let Some(state_key) = draft.state_key {
            object.insert("state_key".into(), state_key.into_string().into());
        }
        if let Some(sticky_ms) = draft.sticky_ms {
            object.insert(STICKY_KEY.into(), json!({"duration_ms": sticky_ms}));
        }
        if let Some(redacts) = draft.redacts {
            if rules.redacts_in_content {
                object["content"]["redacts"] = redacts.as_str().into();
            } else {
                object.insert("redacts".into(), redacts.as_str().into());
            }
        }
        Ok(object)
    }

    /// Whether the room's current state allows an event of ours.
    pub(crate) fn authorise(&self, pdu: &Arc<Pdu>) -> Result<(), RoomError> {
        if &*pdu.kind == "m.room.create" {
            return Ok(auth::check_auth_events(self.head.rules(), pdu, &[])?);
        }
        let failed = RefCell::new(None);
        let state = |kind: &str, key: &str| match self.current(kind, key) {
            Ok(event) => event,
            Err(error) => {
                *failed.borrow_mut() = Some(error);
                None
            }
        };
        let verdict = auth::check_state(self.head.rules(), pdu, &state);
        match failed.into_inner() {
            Some(error) => Err(error),
            None => Ok(verdict?),
        }
    }
}

impl Rooms {
    /// An event that another server's user is to complete and sign: on top of the room as it is, and allowed by it.
    /// Commits nothing (Server-Server API §Joining Rooms, §Knocking on a Room, §Leaving Rooms).
    ///
    /// # Errors
    /// [`RoomError::Forbidden`] with the rule that forbids it.
    pub fn prepare(&self, room: RoomNid, draft: Draft) -> Result<Map<String, Value>, RoomError> {
        let append = Append::new(self, (*self.head(room)?).clone());
        let object = append.build_object(draft)?;
        // The rules look at a whole event: this one is signed by us for the test, and thrown away.
        append.authorise(&append.sign(object.clone())?)?;
        Ok(object)
    }

    /// An event of ours that another server has to sign too before it is committed: signed, and allowed by the room as
    /// it is (Server-Server API §Inviting to a room). Commits nothing.
    ///
    /// # Errors
    /// [`RoomError::Forbidden`] with the rule that forbids it.
    pub fn prepare_signed(&self, room: RoomNid, draft: Draft) -> Result<Arc<Pdu>, RoomError> {
        let append = Append::new(self, (*self.head(room)?).clone());
        let pdu = append.build(draft)?;
        append.authorise(&pdu)?;
        Ok(pdu)
    }
}

/// `prev_events` and `auth_events`: ids, or in room versions 1 and 2 pairs of id and hashes.
fn reference(ids: Vec<Value>, rules: &spec::version::RoomVersionRules) -> Value {
    if rules.pair_references { ids.into_iter().map(|id| json!([id, {}])).collect() } else { ids.into() }
}
