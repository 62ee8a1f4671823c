//! What those do who run the server, in rooms in which they may be nobody: through the power of a user of this server who
//! has it, or below the room's rules where that concerns this server alone.

use serde_json::{Map, Value, json};
use spec::ids::{EventId, RoomId, UserId};

use crate::append::Append;
use crate::draft::Draft;
use crate::error::RoomError;
use crate::event::{Event, EventFlags};
use crate::head::Head;
use crate::ids::{RoomNid, RoomSeq, UserNid};
use crate::keyspaces::HEADS;
use crate::membership::{Membership, MembershipChange};
use crate::permissions::levels;
use crate::rooms::Rooms;

/// How many events of a room one step of a redaction looks at.
const LOOKED_AT: usize = 500;

/// A forward extremity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extremity {
    /// The event.
    pub event_id: String,
    /// Its depth.
    pub depth: i64,
    /// The number of the state after it: extremities with one number have one state.
    pub state: u64,
    /// When it was sent, as its sender says, in milliseconds.
    pub sent_at: i64,
}

/// Which events of a user are redacted.
#[derive(Clone, Debug)]
pub struct RedactOrder {
    /// Of which user.
    pub user: UserId,
    /// By whom. Otherwise by the user, if they are of this server and in the room, or else by the most powerful member of
    /// this server.
    pub by: Option<UserId>,
    /// Why, in words.
    pub reason: Option<String>,
    /// How many events at most.
    pub limit: usize,
}

/// What a step of a redaction did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Redacted {
    /// What was redacted.
    pub redacted: Vec<EventId>,
    /// What could not be, and why.
    pub failed: Vec<(EventId, String)>,
    /// Below which number to go on; `None` when the room is done.
    pub next: Option<RoomSeq>,
}

impl Rooms {
    /// The joined member of this server with the most power, if one has any more than others.
    ///
    /// # Errors
    /// Storage errors only.
    pub fn most_powerful_local(&self, room: RoomNid) -> Result<Option<UserId>, RoomError> {
        let head = self.head(room)?;
        let Some(levels) = levels(&head) else { return Ok(None) };
        let mut best: Option<UserId> = None;
        for member in self.local_members(room)? {
            if member.membership != Membership::Join {
                continue;
            }
            let user = self.user_id(member.user)?;
            // Whoever has at least the power of the best and is not at least matched by them has more.
            let is_better = best.as_ref().is_none_or(|best| levels.user(&user) > levels.user(best));
            if is_better {
                best = Some(user);
            }
        }
        Ok(best)
    }

    /// Gives a user of this server the highest power that a member of this server can give, by that member's power, and
    /// lets them in: invited if the room is not open to all. Returns who gave it. Not cancel-safe: they may be in without
    /// the power.
    ///
    /// # Errors
    /// [`RoomError::Refused`] if nobody of this server has the power, [`RoomError::Forbidden`] if they cannot be let in.
    pub async fn make_room_admin(&self, room: RoomNid, user: &UserId) -> Result<UserId, RoomError> {
        self.intern_user(user).await?;
        let (giver, content) = {
            let head = self.head(room)?;
            let giver = self.find_giver(room, &head)?;
            let giver = giver.ok_or(RoomError::Refused("no user of this server has the power in this room"))?;
            (giver.clone(), raise(&head, &giver, user))
        };
        let nid = self.user_nid(user)?.ok_or(RoomError::Inconsistent("a user without a number"))?;
        if let Some(content) = content {
            self.append(room, vec![Draft::state(giver.clone(), "m.room.power_levels", "", content)], None).await?;
        }
        let is_joined = self.membership(room, nid)?.is_some_and(|row| row.membership == Membership::Join);
        if !is_joined {
            self.let_in(room, &giver, user).await?;
        }
        Ok(giver)
    }

    /// The member of this server who can give the most power.
    fn find_giver(&self, room: RoomNid, head: &Head) -> Result<Option<UserId>, RoomError> {
        let Some(levels) = levels(head) else { return Ok(None) };
        let best = self.most_powerful_local(room)?;
        Ok(best.filter(|user| levels.user(user).at_least(levels.required_for_event("m.room.power_levels", true))))
    }

    /// Has a member invite a user unless anybody may come, and the user join, of whom the room need not know. Cancel-safe
    /// but for the invitation, which may stay.
    ///
    /// # Errors
    /// What forbids either.
    pub async fn let_in(&self, room: RoomNid, member: &UserId, user: &UserId) -> Result<(), RoomError> {
        let room_id = self.room_id(room)?;
        let head = self.head(room)?;
        let is_open = head.join_rules().is_some_and(|event| {
            event
                .content::<Map<String, Value>>()
                .is_ok_and(|content| content.get("join_rule") == Some(&"public".into()))
        });
        if !is_open {
            self.set_membership(&room_id, member, user, Membership::Invite).await?;
        }
        self.set_membership(&room_id, user, user, Membership::Join).await
    }

    async fn set_membership(
        &self,
        room: &RoomId,
        sender: &UserId,
        target: &UserId,
        membership: Membership,
    ) -> Result<(), RoomError> {
        let (sender, target) = (sender.clone(), target.clone());
        self.change_membership(room, MembershipChange { sender, target, membership, content: Map::new() }).await
    }

    /// Has the most powerful member of this server remove a user from a room, or ban them. A user of this server leaves
    /// by themselves where nobody has the power. Cancel-safe.
    ///
    /// # Errors
    /// What forbids it; [`RoomError::Refused`] if nobody of this server is in the room.
    pub async fn remove_member(
        &self,
        room: RoomNid,
        user: &UserId,
        reason: Option<&str>,
        ban: bool,
    ) -> Result<(), RoomError> {
        let content: Map<String, Value> =
            reason.map(|reason| ("reason".to_owned(), reason.into())).into_iter().collect();
        let membership = if ban { Membership::Ban } else { Membership::Leave };
        let room_id = self.room_id(room)?;
        let refusal = match self.most_powerful_local(room)?.filter(|member| member != user) {
            Some(sender) => {
                let change = MembershipChange { sender, target: user.clone(), membership, content };
                match self.change_membership(&room_id, change).await {
                    Ok(()) => return Ok(()),
                    Err(refusal) => refusal,
                }
            }
            None => RoomError::Refused("nobody of this server has the power in this room"),
        };
        match self.user_nid(user)?.filter(|_| user.server_name() == self.server_name().as_str() && !ban) {
            Some(user) => self.remove_local_user(room, user).await,
            None => Err(refusal),
        }
    }

    /// The forward extremities of a room.
    ///
    /// # Errors
    /// Storage errors only.
    pub fn forward_extremities(&self, room: RoomNid) -> Result<Vec<Extremity>, RoomError> {
        let head = self.head(room)?;
        let read = |(id, seq): &(Box<str>, RoomSeq)| {
            let event = self.event_at(room, *seq)?;
            let (depth, sent_at, state) = (event.depth(), event.origin_server_ts(), event.state_after().0);
            Ok(Extremity { event_id: id.to_string(), depth, state, sent_at })
        };
        head.row.extremities.iter().map(read).collect()
    }

    /// Drops all forward extremities but the newest, of which it says how many. The current state is that after the one
    /// which stays. Cancel-safe.
    ///
    /// # Errors
    /// [`RoomError::StateIncomplete`] for a partial room; [`RoomError::Busy`]; storage errors.
    pub async fn drop_forward_extremities(&self, room: RoomNid) -> Result<usize, RoomError> {
        self.submit_job(room, |append| append.keep_newest_extremity()).await
    }

    /// Redacts the next events of a user in a room, from the newest on, below a number if there is one. Events that are
    /// state are left alone but for the user's own memberships, whose content is. Not cancel-safe: some may be redacted.
    ///
    /// # Errors
    /// [`RoomError::Refused`] if nobody may redact; [`RoomError::Busy`]; storage errors. Of single events it tells.
    pub async fn redact_events_of(
        &self,
        room: RoomNid,
        order: &RedactOrder,
        below: Option<RoomSeq>,
    ) -> Result<Redacted, RoomError> {
        let mut done = Redacted::default();
        let Some(user) = self.user_nid(&order.user)? else { return Ok(done) };
        let by = self.choose_redactor(room, order)?;
        let until = below.unwrap_or(RoomSeq::FIRST_OUTLIER);
        let events = self.events_back(room, RoomSeq::MIN, until, LOOKED_AT)?;
        let is_last = events.len() < LOOKED_AT;
        for event in events {
            done.next = Some(event.seq());
            if done.redacted.len() + done.failed.len() >= order.limit {
                // This one is for the next step.
                done.next = Some(event.seq().next());
                return Ok(done);
            }
            if !is_redactable(&event, user) {
                continue;
            }
            let id = EventId::parse(event.event_id()).map_err(|_| RoomError::Inconsistent("malformed event id"))?;
            let content = order.reason.iter().map(|reason| ("reason".to_owned(), reason.as_str().into())).collect();
            match self.append(room, vec![Draft::redaction(by.clone(), id.clone(), content)], None).await {
                Ok(_) => done.redacted.push(id),
                Err(error @ (RoomError::Busy | RoomError::Storage(_) | RoomError::Commit(_))) => return Err(error),
                Err(error) => done.failed.push((id, error.to_string())),
            }
        }
        done.next = done.next.filter(|_| !is_last);
        Ok(done)
    }

    fn choose_redactor(&self, room: RoomNid, order: &RedactOrder) -> Result<UserId, RoomError> {
        if let Some(by) = &order.by {
            return Ok(by.clone());
        }
        if order.user.server_name() == self.server_name().as_str()
            && let Some(user) = self.user_nid(&order.user)?
            && self.membership(room, user)?.is_some_and(|row| row.membership == Membership::Join)
        {
            return Ok(order.user.clone());
        }
        self.most_powerful_local(room)?.ok_or(RoomError::Refused("nobody of this server is in this room"))
    }
}

impl Append<'_> {
    fn keep_newest_extremity(&mut self) -> Result<usize, RoomError> {
        if self.head.is_partial() {
            return Err(RoomError::StateIncomplete);
        }
        let extremities = &self.head.row.extremities;
        let Some(newest) = extremities.iter().max_by_key(|(_, seq)| *seq).cloned() else { return Ok(0) };
        let dropped = extremities.len().saturating_sub(1);
        if dropped > 0 {
            self.head.row.extremities = vec![newest];
            self.resolve_current_state()?;
            // The state may be the same.
            self.batch.put(&HEADS, &self.head.room, &self.head.row);
        }
        Ok(dropped)
    }
}

/// The power levels with a user's as high as the giver's, unless they have that.
fn raise(head: &Head, giver: &UserId, user: &UserId) -> Option<Map<String, Value>> {
    let levels = levels(head)?;
    if levels.user(user) >= levels.user(giver) {
        return None;
    }
    let mut content: Map<String, Value> =
        head.power_levels().and_then(|event| event.content().ok()).unwrap_or_default();
    let highest = content
        .get("users")
        .and_then(|users| users.get(giver.as_str()))
        .or_else(|| content.get("users_default"))
        .and_then(Value::as_i64);
    // A creator of version 12 has more than any number says, and no number of their own.
    let level = highest.unwrap_or(100).max(100);
    if !content.get("users").is_some_and(Value::is_object) {
        content.insert("users".into(), json!({}));
    }
    if let Some(Value::Object(users)) = content.get_mut("users") {
        users.insert(user.as_str().to_owned(), level.into());
    }
    Some(content)
}

fn is_redactable(event: &Event, user: UserNid) -> bool {
    let flags = event.flags();
    let is_state = event.state_key().is_some() && event.kind() != "m.room.member";
    flags.is_visible()
        && !flags.has(EventFlags::REDACTED)
        && event.sender_nid() == user
        && event.kind() != "m.room.redaction"
        && !is_state
}
