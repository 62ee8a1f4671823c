//! Authorisation of random events, allowed and not, must come out the same in both implementations.

use std::sync::Arc;

use ruma_state_res::{check_state_dependent_auth_rules, check_state_independent_auth_rules};
use spec::{
    auth::{check_auth_events, check_state},
    version::RoomVersion,
};

use crate::{
    random_room::RandomRoom,
    ruma_event::{RumaEvent, ruma_rules},
};

#[test]
fn random_events_are_judged_alike() {
    let (mut allowed, mut denied) = (0, 0);
    for version in RoomVersion::ALL.into_iter().skip(1) {
        let (rules, theirs) = (version.rules(), ruma_rules(version).authorization);
        for seed in 0..40 {
            let (mut room, mut state) = RandomRoom::new(version, seed);
            for step in 0..40 {
                let event = room.propose(&state);
                let look_up = |kind: &str, key: &str| {
                    state.get(&(kind.into(), key.into())).and_then(|id| room.events.get(id)).cloned()
                };
                let auth_events: Vec<_> = event.auth_events.iter().map(|id| Arc::clone(&room.events[id])).collect();
                let ours = check_auth_events(rules, &event, &auth_events);
                let fetch =
                    |id: &ruma_common::EventId| room.events.get(id.as_str()).map(|event| RumaEvent::from(&**event));
                let second = check_state_independent_auth_rules(&theirs, RumaEvent::from(&event), fetch);
                assert_eq!(ours.is_ok(), second.is_ok(), "{version} {seed} {step}: {ours:?} {second:?}");

                let ours = check_state(rules, &event, &look_up);
                let second = check_state_dependent_auth_rules(&theirs, RumaEvent::from(&event), |kind, key| {
                    look_up(&kind.to_string(), key).map(|event| RumaEvent::from(&*event))
                });
                assert_eq!(ours.is_ok(), second.is_ok(), "{version} {seed} {step}: {ours:?} {second:?} {event:?}");
                if ours.is_ok() {
                    allowed += 1;
                    room.accept(&mut state, event);
                } else {
                    denied += 1;
                }
            }
        }
    }
    assert!(allowed > 1000 && denied > 1000, "{allowed} {denied}");
}
