//! Which service cares for which event (Application Service API §"Registration").
//!
//! A room is of interest by its id, by a local alias, or while a user of the service is joined. Besides, an event is of
//! interest that a user of the service sent, or that is about one. The first three are remembered by room, as the event
//! up to which they hold: for rooms that the service's last user has left, that is their leaving, so that a service that
//! was away is still told of what came before.
//!
//! What is remembered is corrected by the follower before it looks at the events of the same commits; it is read under
//! the lock under which it is corrected, so that no late reader brings back what was true before.

use std::sync::Arc;

use parking_lot::Mutex;
use quick_cache::{sync, unsync};
use rooms::{Event, Membership, RoomNid, RoomSeq, Rooms, UserNid};
use spec::ids::UserId;
use users::{AppService, AppServices};

use crate::error::DispatchError;

/// Of how many rooms and users it is remembered who cares for them.
const REMEMBERED: usize = 20_000;
/// No end in sight.
const FOREVER: RoomSeq = RoomSeq(i64::MAX);

/// A service's interest in a room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stay {
    /// The last event that is of interest; before the first one if none is.
    until: RoomSeq,
    /// A joined user of the service, if that is the reason.
    witness: Option<UserNid>,
}

const NEVER: Stay = Stay { until: RoomSeq::MIN, witness: None };

/// Who cares for what, for one set of services. Services are known by their place in it.
pub(crate) struct Interest {
    services: Vec<Arc<AppService>>,
    rooms: Rooms,
    of_users: sync::Cache<UserNid, Arc<[usize]>>,
    of_rooms: Mutex<unsync::Cache<RoomNid, Arc<[Stay]>>>,
}

impl Interest {
    pub fn new(services: Arc<AppServices>, rooms: Rooms) -> Interest {
        Interest {
            services: services.iter().cloned().collect(),
            rooms,
            of_users: sync::Cache::new(REMEMBERED),
            of_rooms: Mutex::new(unsync::Cache::new(REMEMBERED)),
        }
    }

    pub fn services(&self) -> &[Arc<AppService>] {
        &self.services
    }

    /// The place of a service.
    pub fn index_of(&self, id: &str) -> Option<usize> {
        self.services.iter().position(|service| service.id() == id)
    }

    /// The services whose user this is.
    pub fn of_user(&self, user: UserNid) -> Result<Arc<[usize]>, DispatchError> {
        if let Some(known) = self.of_users.get(&user) {
            return Ok(known);
        }
        let owners: Arc<[usize]> = self.owners_of(&self.rooms.user_id(user)?).into();
        self.of_users.insert(user, owners.clone());
        Ok(owners)
    }

    fn owners_of(&self, user: &UserId) -> Vec<usize> {
        let owners = self.services.iter().enumerate().filter(|(_, service)| service.owns_user(user));
        owners.map(|(index, _)| index).collect()
    }

    fn of_room(&self, room: RoomNid) -> Result<Arc<[Stay]>, DispatchError> {
        let mut of_rooms = self.of_rooms.lock();
        if let Some(known) = of_rooms.get(&room) {
            return Ok(known.clone());
        }
        let stays: Arc<[Stay]> = self.look_at_room(room)?.into();
        of_rooms.insert(room, stays.clone());
        Ok(stays)
    }

    /// One look at the local members, whatever the number of services.
    fn look_at_room(&self, room: RoomNid) -> Result<Vec<Stay>, DispatchError> {
        let mut stays = vec![NEVER; self.services.len()];
        for member in self.rooms.local_members(room)? {
            for index in self.of_user(member.user)?.iter() {
                let Some(stay) = stays.get_mut(*index) else { continue };
                if member.membership == Membership::Join {
                    *stay = Stay { until: FOREVER, witness: Some(member.user) };
                } else if let Some(left_at) = member.left_at {
                    stay.until = stay.until.max(left_at);
                }
            }
        }
        let (room_id, aliases) = (self.rooms.room_id(room)?, self.rooms.aliases(room)?);
        for (service, stay) in self.services.iter().zip(&mut stays) {
            if service.wants_room(&room_id, &aliases) {
                *stay = Stay { until: FOREVER, witness: None };
            }
        }
        Ok(stays)
    }

    /// Corrects what is remembered of a room after a member's membership has changed.
    pub fn note_membership(&self, room: RoomNid, user: UserNid) -> Result<(), DispatchError> {
        let owners = self.of_user(user)?;
        if owners.is_empty() {
            return Ok(());
        }
        let mut of_rooms = self.of_rooms.lock();
        let Some(known) = of_rooms.get(&room).cloned() else { return Ok(()) };
        let is_joined = self.rooms.membership(room, user)?.is_some_and(|row| row.membership == Membership::Join);
        let mut stays = known.to_vec();
        for index in owners.iter() {
            let Some(stay) = stays.get_mut(*index) else { continue };
            match stay {
                // Whoever else is there, or the room itself, is reason enough.
                Stay { until: FOREVER, witness } if *witness != Some(user) => {}
                Stay { until: FOREVER, .. } if is_joined => {}
                stay if is_joined => *stay = Stay { until: FOREVER, witness: Some(user) },
                _ => {
                    of_rooms.remove(&room);
                    return Ok(());
                }
            }
        }
        of_rooms.insert(room, stays.into());
        Ok(())
    }

    /// Forgets what is remembered of a room, whose aliases have changed.
    pub fn forget_room(&self, room: RoomNid) {
        self.of_rooms.lock().remove(&room);
    }

    /// The services that care for what happens in a room now.
    pub fn in_room(&self, room: RoomNid) -> Result<Vec<usize>, DispatchError> {
        let stays = self.of_room(room)?;
        Ok(stays.iter().enumerate().filter(|(_, stay)| stay.until == FOREVER).map(|(index, _)| index).collect())
    }

    /// The services that care for an event of a room's timeline.
    pub fn in_event(&self, event: &Event) -> Result<Vec<usize>, DispatchError> {
        let stays = self.of_room(event.room())?;
        let by_room = stays.iter().enumerate().filter(|(_, stay)| stay.until >= event.seq());
        let mut found: Vec<usize> = by_room.map(|(index, _)| index).collect();
        found.extend(self.of_user(event.sender_nid())?.iter());
        if let Some(target) = member_target(event)
            && let Some(target) = self.rooms.user_nid(&target)?
        {
            found.extend(self.of_user(target)?.iter());
        }
        found.sort_unstable();
        found.dedup();
        Ok(found)
    }

    /// The services that may know of a user's presence and devices: theirs, and those in a room with them.
    pub fn around_user(&self, user: UserNid) -> Result<Vec<usize>, DispatchError> {
        let mut found = self.of_user(user)?.to_vec();
        for room in self.rooms.joined_rooms(user)? {
            if found.len() >= self.services.len() {
                break;
            }
            found.extend(self.in_room(room)?);
            found.sort_unstable();
            found.dedup();
        }
        Ok(found)
    }
}

/// Whom a member event is about.
pub(crate) fn member_target(event: &Event) -> Option<UserId> {
    if event.kind() != "m.room.member" {
        return None;
    }
    UserId::parse(event.state_key()?).ok()
}
