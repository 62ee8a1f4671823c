//! Letting users into calls.

use std::time::Duration;

use spec::ids::{RoomId, ServerName, UserId};
use users::Right;

use crate::calls::Calls;
use crate::error::CallError;
use crate::grants::GrantRow;
use crate::ports::{Grant, RemoteSeat};
use crate::seat::{LegKey, Seat};

/// For how long a call counts as open that a user of this server was let into and has not joined yet. Clients ask for
/// their token before they announce themselves, and those of other servers may be faster at joining.
const OPEN_FOR: Duration = Duration::from_secs(300);
/// How many calls count as open in this way.
const MAX_OPENED: usize = 10_000;

/// By which way a user came, which decides what they may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entrance {
    /// By the service for everybody, with an OpenID token. Users of other servers may join calls that are open, and
    /// publish there.
    Service,
    /// By the client-server API of this server.
    Client,
    /// By the federation API: users of other servers, who publish on their own server.
    Federation,
}

/// What a client needs to join.
#[derive(Clone, PartialEq, Eq)]
pub struct Access {
    /// The address of the media server.
    pub url: String,
    /// The token.
    pub jwt: String,
}

impl std::fmt::Debug for Access {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Access").field("url", &self.url).finish_non_exhaustive()
    }
}

impl Calls {
    /// Lets a user into a call whose identity was proven: gives them a token for the media server, and remembers for
    /// whom it is. Cancel-safe.
    ///
    /// # Errors
    /// [`CallError::NotInRoom`], [`CallError::Forbidden`], [`CallError::BadRequest`], [`CallError::Off`].
    pub async fn admit(&self, user: &UserId, seat: &Seat, entrance: Entrance) -> Result<Access, CallError> {
        let (media, addresses) = self.media()?;
        let (key, grant) = self.seat_guest(user, seat, entrance)?;
        let may_create = match entrance {
            Entrance::Service => self.is_own(user) || self.is_open(&key.room),
            Entrance::Client | Entrance::Federation => true,
        };
        let token = media.token(&Grant {
            room: key.room.clone(),
            identity: key.identity.clone(),
            can_publish: grant.can_publish,
            may_create,
            lifetime: self.config.token_lifetime.duration(),
        });
        let access = Access { url: addresses.media.clone(), jwt: token };
        self.keep_grant(&key, &grant).await?;
        if self.is_own(user) {
            self.open(key.room);
        }
        Ok(access)
    }

    /// Who would sit there, if they may.
    pub(crate) fn seat_guest(
        &self,
        user: &UserId,
        seat: &Seat,
        entrance: Entrance,
    ) -> Result<(LegKey, GrantRow), CallError> {
        seat.check()?;
        let nid = self.rooms.user_nid(user)?.ok_or(CallError::NotInRoom)?;
        let room = self.rooms.room_nid(&seat.room)?.ok_or(CallError::NotInRoom)?;
        self.check_guest(room, nid, user, seat.member.device())?;
        if self.is_own(user) && !self.users.has_right(nid, Right::Call)? {
            return Err(CallError::Forbidden("your role on this server may not take part in calls"));
        }
        let device = seat.any_device().map(str::to_owned);
        let grant = GrantRow {
            user: nid,
            device,
            room,
            slot: seat.slot.clone(),
            can_publish: entrance != Entrance::Federation,
            expires_ms: self.new_expiry(),
        };
        Ok((seat.names(user), grant))
    }

    /// Refuses an address that is not the one of the media server here.
    ///
    /// # Errors
    /// [`CallError::OtherMediaServer`], [`CallError::Off`].
    pub fn check_url(&self, url: &str) -> Result<(), CallError> {
        let (_, addresses) = self.media()?;
        match url.trim_end_matches('/') == addresses.media {
            true => Ok(()),
            false => Err(CallError::OtherMediaServer),
        }
    }

    /// A token for the media server of another homeserver, for a user of this one who is in the room. Cancel-safe.
    ///
    /// # Errors
    /// [`CallError::NotInRoom`], [`CallError::RemoteRefused`], [`CallError::RemoteUnavailable`], [`CallError::Off`].
    pub async fn ask_for_token(&self, server: &ServerName, wanted: &RemoteSeat) -> Result<String, CallError> {
        self.media()?;
        self.seat_guest(&wanted.user, &wanted.seat, Entrance::Client)?;
        self.remote.token(server, wanted).await
    }

    /// A token for a user of another server, whose server asks for it. Cancel-safe.
    ///
    /// # Errors
    /// As [`Calls::admit`]; [`CallError::Forbidden`] for users who are not of that server,
    /// [`CallError::OtherMediaServer`].
    pub async fn admit_for(&self, origin: &ServerName, wanted: &RemoteSeat) -> Result<Access, CallError> {
        if wanted.user.server_name() != origin.as_str() {
            return Err(CallError::Forbidden("the user is not of your server"));
        }
        self.check_url(&wanted.url)?;
        self.expect_server_allowed(&wanted.seat.room, origin)?;
        self.admit(&wanted.user, &wanted.seat, Entrance::Federation).await
    }

    /// Keeps out servers that the room's access control list keeps out.
    fn expect_server_allowed(&self, room: &RoomId, server: &ServerName) -> Result<(), CallError> {
        let room = self.rooms.room_nid(room)?.ok_or(CallError::NotInRoom)?;
        match self.rooms.is_server_allowed(room, server)? {
            true => Ok(()),
            false => Err(CallError::Forbidden("the room's access control list keeps your server out")),
        }
    }

    fn is_own(&self, user: &UserId) -> bool {
        user.server_name() == self.rooms.server_name().as_str()
    }

    fn is_open(&self, room: &str) -> bool {
        let now = self.clock.monotonic();
        self.opened.lock().get(room).is_some_and(|until| *until > now)
    }

    fn open(&self, room: String) {
        let now = self.clock.monotonic();
        let mut opened = self.opened.lock();
        if opened.len() >= MAX_OPENED {
            opened.retain(|_, until| *until > now);
        }
        if opened.len() < MAX_OPENED {
            opened.insert(room, now.saturating_add(OPEN_FOR));
        }
    }
}
