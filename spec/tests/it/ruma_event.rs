//! The same events as the independent implementation sees them.

use ruma_common::{
    MilliSecondsSinceUnixEpoch, OwnedEventId, OwnedRoomId, OwnedUserId, RoomId, RoomVersionId, UserId,
    room_version_rules::RoomVersionRules,
};
use ruma_events::TimelineEventType;
use ruma_state_res::Event;
use serde_json::value::RawValue;
use spec::{pdu::Pdu, version::RoomVersion};

#[derive(Clone, Debug)]
pub struct RumaEvent {
    id: OwnedEventId,
    room_id: Option<OwnedRoomId>,
    sender: OwnedUserId,
    time: MilliSecondsSinceUnixEpoch,
    kind: TimelineEventType,
    content: Box<RawValue>,
    state_key: Option<String>,
    prev_events: Vec<OwnedEventId>,
    auth_events: Vec<OwnedEventId>,
}

/// The rules of the same version.
pub fn ruma_rules(version: RoomVersion) -> RoomVersionRules {
    RoomVersionId::try_from(version.as_str()).unwrap().rules().unwrap()
}

impl From<&Pdu> for RumaEvent {
    fn from(pdu: &Pdu) -> Self {
        let ids = |ids: &[spec::ids::EventId]| ids.iter().map(|id| id.as_str().try_into().unwrap()).collect();
        let json = pdu.to_object().unwrap();
        Self {
            id: pdu.event_id.as_str().try_into().unwrap(),
            room_id: json.get("room_id").map(|id| id.as_str().unwrap().try_into().unwrap()),
            sender: pdu.sender.as_str().try_into().unwrap(),
            time: MilliSecondsSinceUnixEpoch((pdu.origin_server_ts as u32).into()),
            kind: TimelineEventType::from(&*pdu.kind),
            content: pdu.content.clone(),
            state_key: pdu.state_key.as_deref().map(str::to_owned),
            prev_events: ids(&pdu.prev_events),
            auth_events: ids(&pdu.auth_events),
        }
    }
}

impl Event for RumaEvent {
    type Id = OwnedEventId;

    fn event_id(&self) -> &OwnedEventId {
        &self.id
    }

    fn room_id(&self) -> Option<&RoomId> {
        self.room_id.as_deref()
    }

    fn sender(&self) -> &UserId {
        &self.sender
    }

    fn origin_server_ts(&self) -> MilliSecondsSinceUnixEpoch {
        self.time
    }

    fn event_type(&self) -> &TimelineEventType {
        &self.kind
    }

    fn content(&self) -> &RawValue {
        &self.content
    }

    fn state_key(&self) -> Option<&str> {
        self.state_key.as_deref()
    }

    fn prev_events(&self) -> Box<dyn DoubleEndedIterator<Item = &OwnedEventId> + '_> {
        Box::new(self.prev_events.iter())
    }

    fn auth_events(&self) -> Box<dyn DoubleEndedIterator<Item = &OwnedEventId> + '_> {
        Box::new(self.auth_events.iter())
    }

    fn redacts(&self) -> Option<&OwnedEventId> {
        None
    }

    fn rejected(&self) -> bool {
        false
    }
}
