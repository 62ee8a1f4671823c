//! Stays of our users, or of those of others, that end while the room is partial.

use rooms::{CheckedPdu, EventFlags, Membership, Received, RoomError, Verdict};
use spec::ids::{EventId, ServerName};

use super::stage::find;
use super::{run, state_before};
use crate::foreign::{member, set_member};
use crate::server::Server;

#[test]
fn an_invitation_that_overtakes_the_end_of_a_stay_is_shown_after_it() {
    run(|stage| async move {
        let (server, nid) = (&stage.partial, stage.nid(&stage.partial));
        let bob = server.rooms.user_nid(&stage.bob).unwrap().unwrap();
        let membership = || server.rooms.membership(nid, bob).unwrap().map(|row| row.membership);
        // From before the stay; anybody can deliver it again.
        let old = member(&stage.fred, &stage.bob, Membership::Invite);
        let old = stage.forge(old, &stage.join.pdu().prev_events, &stage.of_eve, stage.join.pdu().depth);
        let mut turned = Vec::new();
        for to in [Membership::Leave, Membership::Invite] {
            set_member(&stage.one, &stage.room, &stage.alice, &stage.bob, to).await;
            turned.push(stage.check(&stage.event(&stage.end_of_one().pop().unwrap())));
        }
        let [kick, invite] = <[CheckedPdu; 2]>::try_from(turned).unwrap();
        assert!(!server.rooms.hears_of_invitation(nid, &stage.bob).unwrap());
        for pdu in [&old, &invite] {
            server.rooms.receive_invite(pdu.clone(), stage.version, Vec::new()).await.unwrap();
            assert_eq!(membership(), Some(Membership::Join));
        }
        server.rooms.receive_invite(old, stage.version, Vec::new()).await.unwrap();
        stage.deliver(server, &kick).await.unwrap();
        // What is asked of the room's writer next comes after what it does by itself.
        assert!(server.rooms.finish_partial(nid).await.is_err());
        assert_eq!(membership(), Some(Membership::Invite));
        let row = server.rooms.membership(nid, bob).unwrap().unwrap();
        let shown = server.rooms.event_at(nid, row.seq).unwrap();
        assert_eq!(shown.event_id(), invite.pdu().event_id.as_str());
        assert!(server.rooms.stripped_state(nid, bob).unwrap().is_some());
        server.assert_sound();
    });
}

#[test]
fn an_invitation_that_was_rejected_in_a_stay_that_is_over_lets_in_again() {
    run(|stage| async move {
        let (server, nid) = (&stage.partial, stage.nid(&stage.partial));
        let mut turned = Vec::new();
        for to in [Membership::Leave, Membership::Invite] {
            set_member(&stage.one, &stage.room, &stage.alice, &stage.bob, to).await;
            turned.push(stage.check(&stage.event(&stage.end_of_one().pop().unwrap())));
        }
        let [kick, invite] = <[CheckedPdu; 2]>::try_from(turned).unwrap();
        // The invitation first: he seems joined. Then nobody of the server is in the room any more.
        assert!(matches!(stage.deliver(server, &invite).await.unwrap(), Verdict::Rejected(_)));
        assert_eq!(stage.deliver(server, &kick).await.unwrap(), Verdict::Accepted);
        assert!(!server.rooms.is_resident(nid).unwrap());
        let again = stage.next_stay().await;
        assert!(again.join.pdu().auth_events.contains(&invite.pdu().event_id));
        assert!(matches!(again.enter_partial(server).await, Err(RoomError::Forbidden(_))));
        server.rooms.acquit_left_over(nid).await.unwrap();
        server.assert_sound();
        let flags = stage.flags(server, &invite.pdu().event_id);
        assert!(!flags.has(EventFlags::REJECTED) && !flags.is_visible());
        again.enter_partial(server).await.unwrap();
        again.begin_replay(server).await;
        again.replay(server, Vec::new()).await;
        server.assert_sound();
        assert_eq!(again.current(server), again.current(&again.one));
    });
}

#[test]
fn what_follows_a_stay_whose_members_never_came_needs_its_own_state() {
    run(|stage| async move {
        let server = &stage.partial;
        let leave = member(&stage.bob, &stage.bob, Membership::Leave);
        let leave = server.append(&stage.room, leave).await.unwrap();
        stage.one.rooms.receive(stage.check(&find(server, &stage.room, leave.as_str()).unwrap())).await.unwrap();
        set_member(&stage.one, &stage.room, &stage.alice, &stage.bob, Membership::Invite).await;
        let invite = stage.end_of_one().pop().unwrap();
        let again = stage.next_stay().await;
        again.enter_partial(server).await.unwrap();
        again.begin_replay(server).await;
        again.replay(server, Vec::new()).await;
        // The room is full, and of the stay before it is not known who else was in it.
        let (rooms, nid) = (&server.rooms, stage.nid(server));
        let join = again.join.pdu().event_id.clone();
        assert_eq!(rooms.events_without_states(nid, &[join, leave.clone()]).unwrap(), std::slice::from_ref(&leave));
        let invited = stage.check(&stage.event(&invite));
        let late = rooms.receive(invited.clone()).await;
        assert!(matches!(&late, Err(RoomError::Missing(missing)) if *missing == [leave]), "{late:?}");
        assert_eq!(rooms.backfill(nid, vec![invited.clone().into()]).await.unwrap(), 0);
        let before = state_before(&stage, &invite);
        stage.fetch(server, &before).await;
        let received = Received { state_before: Some(before), ..invited.into() };
        assert_eq!(rooms.backfill(nid, vec![received]).await.unwrap(), 1);
        assert!(stage.flags(server, &invite).is_visible());
        server.assert_sound();
    });
}

#[test]
fn a_server_that_was_wrongly_believed_kicked_is_noted_although_it_has_left() {
    run(|stage| async move {
        // Only the server that lets in is named; Gus of the far server comes afterwards, and Fred was never heard of.
        let server = Server::named("two.test", 2);
        let told: Vec<EventId> =
            stage.before.iter().filter(|id| stage.event(id).kind() != "m.room.member").cloned().collect();
        let nid = server.rooms.begin_room(&stage.room, stage.version).await.unwrap();
        stage.fetch(&server, &told).await;
        let via = ServerName::parse("one.test").unwrap();
        server.rooms.enter_partial(nid, stage.join.clone(), told, &via, vec![via.clone()]).await.unwrap();
        set_member(&stage.one, &stage.room, &stage.alice, &stage.fred, Membership::Leave).await;
        let gone = stage.end_of_one().pop().unwrap();
        let gus = stage.far.user("gus");
        stage.far.turn(&stage.one, &stage.room, &gus, Membership::Join).await;
        let came = stage.end_of_one();
        for id in [&gone, &came[0]] {
            stage.deliver(&server, &stage.check(&stage.event(id))).await.unwrap();
        }
        assert!(server.rooms.is_server_joined(nid, &stage.far.name).unwrap());
        let kick = stage.bogus_kick(&gus, &came, 100);
        assert_eq!(stage.deliver(&server, &kick).await.unwrap(), Verdict::Accepted);
        let since = find(&server, &stage.room, kick.pdu().event_id.as_str()).unwrap().pos();
        assert!(!server.rooms.is_server_joined(nid, &stage.far.name).unwrap());
        // Then he really leaves.
        stage.far.turn(&stage.one, &stage.room, &gus, Membership::Leave).await;
        let left = stage.end_of_one().pop().unwrap();
        stage.deliver(&server, &stage.check(&stage.event(&left))).await.unwrap();
        stage.begin_replay(&server).await;
        stage.replay(&server, Vec::new()).await;
        assert!(!server.rooms.is_server_joined(nid, &stage.far.name).unwrap());
        assert_eq!(server.rooms.missed_servers(nid).unwrap(), [(stage.far.name.clone(), since)]);
    });
}
