//! Rooms: the one event pipeline, the timeline, state snapshots, membership, visibility, relations,
//! receipts, typing and the room directory.
//!
//! Invariants:
//! - A room's events, extremities, snapshots, membership indexes and relations change only in its
//!   writer ([`writer`]), one commit at a time; everything an event changes is in the one batch that
//!   stores it.
//! - In-memory heads and memberships change on the committer's thread before the commit's position
//!   becomes visible, so that whoever reads at a position sees at least what was committed by it.
//! - Events are read through a [`view::RoomView`], which is bound to one room and to what its
//!   viewer may see. No function takes an event id from outside and returns the event without one.
//! - No network call happens inside a room's queue: what a policy server has to sign waits beside it.

mod append;
mod backfill;
mod block;
mod build;
mod checked;
mod create;
mod delayed;
mod delete;
mod departures;
mod directory;
mod draft;
mod early_invites;
mod encounters;
mod enter;
mod error;
mod event;
pub mod fsck;
mod gate;
mod govern;
mod growth;
mod head;
mod hierarchy;
mod ids;
mod interner;
mod invites;
mod judge;
mod keyspaces;
mod left_over;
mod maintenance;
mod membership;
mod memory;
mod meters;
mod news;
mod outliers;
mod overview;
mod partial;
mod permissions;
mod place;
mod policy;
mod purge;
mod receipts;
mod receive;
mod recent;
mod relations;
mod remote;
mod render;
mod replay;
mod resolve;
mod restricted;
mod resync;
mod retention;
mod rooms;
mod server_view;
mod servers;
mod sizes;
mod snapshot;
mod state;
mod sticky;
mod timeline;
mod typing;
mod upgrade;
mod view;
mod visibility;
mod writer;

pub use block::Block;
pub use checked::{CheckedPdu, Unusable};
pub use create::{CreateRoom, Preset};
pub use delayed::{DelayError, DelayedEvent, DelayedEventsConfig, DelayedOutcome, NewDelayedEvent};
pub use delete::{RoomData, RoomDataError};
pub use departures::Departure;
pub use directory::{ListedIn, PublicRoom, PublicRoomsPage, PublicRoomsQuery};
pub use draft::{Draft, Transaction};
pub use error::RoomError;
pub use event::{Event, EventFlags};
pub use gate::{Deed, Gate};
pub use govern::{Extremity, RedactOrder, Redacted};
pub use head::Head;
pub use hierarchy::RoomSummary;
pub use ids::{
    RoomNid, RoomSeq, SnapshotId, TOPIC_ACCOUNTS, TOPIC_ADMINS, TOPIC_ALIASES, TOPIC_DEVICE, TOPIC_DEVICE_LISTS,
    TOPIC_EPHEMERAL, TOPIC_MEMBERSHIP, TOPIC_PROFILES, TOPIC_PUSHERS, TOPIC_ROOM, TOPIC_ROOM_GONE, TOPIC_USER, UserNid,
};
pub use keyspaces::KEYSPACES;
pub use membership::{LocalMember, Membership, MembershipChange, UserRoom};
pub use news::NewEvents;
pub use overview::{RoomOrder, RoomOverview, RoomsPage, RoomsQuery};
pub use partial::{GivenState, PartialRoom};
pub use policy::{PolicyQuestion, PolicyServers, names_policy_server};
pub use purge::{Purge, PurgeOrder, PurgeProgress};
pub use receipts::{Receipt, ReceiptKind};
pub use receive::{Received, Verdict};
pub use recent::RecentEvents;
pub use relations::{Bundle, RelationQuery};
pub use remote::{Remote, RemoteRooms};
pub use render::{EventFormat, Renderer};
pub use replay::{Finish, PartialEvent};
pub use restricted::RestrictedJoin;
pub use retention::{Retention, RetentionConfig, RetentionSource};
pub use rooms::{Rooms, RoomsConfig, RoomsParts};
pub use server_view::{JoinState, ServerView};
pub use servers::ServerStay;
pub use sticky::MAX_STICKY_MS;
pub use timeline::{Cursor, Direction, Page};
pub use view::RoomView;
