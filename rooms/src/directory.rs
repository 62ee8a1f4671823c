//! Aliases and the list of public rooms (Client-Server API §Room aliases, §Published room directory).

use std::collections::BTreeSet;

use serde::Serialize;
use spec::ids::{RoomAlias, RoomId};
use storage::{Batch, CommitError, Read, Topic};

use crate::error::RoomError;
use crate::hierarchy::RoomSummary;
use crate::ids::{RoomNid, TOPIC_ALIASES, UserNid};
use crate::keyspaces::{ALIASES, AliasRow, NETWORK_ROOMS, PUBLIC_ROOMS, ROOM_ALIASES};
use crate::rooms::Rooms;

/// An entry of the public room list.
#[derive(Clone, Debug, Serialize)]
pub struct PublicRoom {
    /// The room.
    #[serde(flatten)]
    pub summary: RoomSummary,
}

/// Which room lists are wanted (Client-Server API §Published room directory).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ListedIn {
    /// That of this server.
    #[default]
    Server,
    /// That of one third-party network.
    Network(String),
    /// All of them.
    Anywhere,
}

/// What is asked of the public room list.
#[derive(Clone, Debug, Default)]
pub struct PublicRoomsQuery {
    /// Words to look for in name, topic and alias.
    pub search: Option<String>,
    /// Only rooms of these types; `None` in the list is a room without a type.
    pub room_types: Option<Vec<Option<String>>>,
    /// The most entries.
    pub limit: Option<usize>,
    /// How many entries to skip.
    pub skip: usize,
    /// Which lists.
    pub listed_in: ListedIn,
}

/// A part of the public room list.
#[derive(Clone, Debug)]
pub struct PublicRoomsPage {
    /// The rooms with most members first.
    pub rooms: Vec<PublicRoom>,
    /// How many there are in all.
    pub total: usize,
    /// How many entries to skip for the next page.
    pub next: Option<usize>,
}

impl Rooms {
    /// Gives a room of this server's an alias. Cancel-safe.
    ///
    /// # Errors
    /// [`RoomError::AliasTaken`]; [`RoomError::RoomNotFound`]; [`RoomError::Refused`] for a blocked room.
    pub async fn create_alias(&self, alias: &RoomAlias, room: &RoomId, creator: UserNid) -> Result<(), RoomError> {
        self.expect_unblocked(room)?;
        let room = self.known_room(room)?;
        let mut batch = Batch::new();
        batch.expect_absent(&ALIASES, &alias.as_str().to_owned());
        batch.put(&ALIASES, &alias.as_str().to_owned(), &AliasRow { room, creator });
        batch.put(&ROOM_ALIASES, &(room, alias.as_str().to_owned()), &());
        batch.touch(Topic::new(TOPIC_ALIASES, room.0));
        match self.store.commit(batch).await {
            Ok(_) => Ok(()),
            Err(CommitError::Expectation { .. }) => Err(RoomError::AliasTaken),
            Err(error) => Err(error.into()),
        }
    }

    /// The room of a local alias, and who made the alias.
    ///
    /// # Errors
    /// [`RoomError::AliasNotFound`].
    pub fn find_alias(&self, alias: &RoomAlias) -> Result<(RoomId, UserNid), RoomError> {
        let row = self.store.get(&ALIASES, &alias.as_str().to_owned())?.ok_or(RoomError::AliasNotFound)?;
        Ok((self.room_id(row.room)?, row.creator))
    }

    /// Takes an alias away. Cancel-safe.
    ///
    /// # Errors
    /// [`RoomError::AliasNotFound`].
    pub async fn delete_alias(&self, alias: &RoomAlias) -> Result<(), RoomError> {
        let row = self.store.get(&ALIASES, &alias.as_str().to_owned())?.ok_or(RoomError::AliasNotFound)?;
        let mut batch = Batch::new();
        batch
            .delete(&ALIASES, &alias.as_str().to_owned())
            .delete(&ROOM_ALIASES, &(row.room, alias.as_str().to_owned()))
            .touch(Topic::new(TOPIC_ALIASES, row.room.0));
        self.store.commit(batch).await?;
        Ok(())
    }

    /// The local aliases of a room.
    ///
    /// # Errors
    /// Storage errors only.
    pub fn aliases(&self, room: RoomNid) -> Result<Vec<String>, RoomError> {
        self.store.scan(&ROOM_ALIASES, &room).keys().map(|key| Ok(key?.1)).collect()
    }

    pub(crate) async fn move_aliases(&self, from: RoomNid, to: RoomNid) -> Result<(), RoomError> {
        let mut batch = Batch::new();
        for alias in self.aliases(from)? {
            let Some(row) = self.store.get(&ALIASES, &alias)? else { continue };
            batch.put(&ALIASES, &alias, &AliasRow { room: to, ..row });
            batch.delete(&ROOM_ALIASES, &(from, alias.clone())).put(&ROOM_ALIASES, &(to, alias), &());
        }
        if !batch.is_empty() {
            batch.touch(Topic::new(TOPIC_ALIASES, from.0)).touch(Topic::new(TOPIC_ALIASES, to.0));
            self.store.commit(batch).await?;
        }
        Ok(())
    }

    /// Whether the room is in the public room list.
    ///
    /// # Errors
    /// Storage errors only.
    pub fn is_public(&self, room: RoomNid) -> Result<bool, RoomError> {
        Ok(self.store.contains(&PUBLIC_ROOMS, &room)?)
    }

    /// Lists the room publicly, or no more. Cancel-safe.
    ///
    /// # Errors
    /// [`RoomError::RoomNotFound`].
    pub async fn set_public(&self, room: &RoomId, public: bool) -> Result<(), RoomError> {
        let room = self.known_room(room)?;
        if self.is_public(room)? == public {
            return Ok(());
        }
        let mut batch = Batch::new();
        if public {
            batch.put(&PUBLIC_ROOMS, &room, &())
        } else {
            batch.delete(&PUBLIC_ROOMS, &room)
        };
        self.store.commit(batch).await?;
        Ok(())
    }

    /// Lists the room in a third-party network, or no more (Application Service API §Published room directories).
    /// Cancel-safe.
    ///
    /// # Errors
    /// [`RoomError::RoomNotFound`].
    pub async fn set_listed_in_network(&self, network: &str, room: &RoomId, listed: bool) -> Result<(), RoomError> {
        let key = (network.to_owned(), self.known_room(room)?);
        let mut batch = Batch::new();
        if listed {
            batch.put(&NETWORK_ROOMS, &key, &());
        } else {
            batch.delete(&NETWORK_ROOMS, &key);
        }
        self.store.commit(batch).await?;
        Ok(())
    }

    fn listed_rooms(&self, lists: &ListedIn) -> Result<BTreeSet<RoomNid>, RoomError> {
        let mut rooms = BTreeSet::new();
        if matches!(lists, ListedIn::Server | ListedIn::Anywhere) {
            for room in self.store.scan(&PUBLIC_ROOMS, &()).keys() {
                rooms.insert(room?);
            }
        }
        match lists {
            ListedIn::Server => {}
            ListedIn::Network(network) => {
                for key in self.store.scan(&NETWORK_ROOMS, network).keys() {
                    rooms.insert(key?.1);
                }
            }
            ListedIn::Anywhere => {
                for key in self.store.scan(&NETWORK_ROOMS, &()).keys() {
                    rooms.insert(key?.1);
                }
            }
        }
        Ok(rooms)
    }

    /// A part of the public room list.
    ///
    /// # Errors
    /// Storage errors only.
    pub fn public_rooms(&self, query: &PublicRoomsQuery) -> Result<PublicRoomsPage, RoomError> {
        let wanted = query.search.as_deref().map(str::to_lowercase);
        let mut rooms = Vec::new();
        for room in self.listed_rooms(&query.listed_in)? {
            let summary = self.summary(room)?;
            let matches_type = query.room_types.as_ref().is_none_or(|types| types.contains(&summary.room_type));
            let texts = [&summary.name, &summary.topic, &summary.canonical_alias];
            let matches_text = wanted.as_ref().is_none_or(|wanted| {
                texts.into_iter().flatten().any(|text| text.to_lowercase().contains(wanted.as_str()))
            });
            if matches_type && matches_text {
                rooms.push(PublicRoom { summary });
            }
        }
        rooms.sort_by(|a, b| {
            let key =
                |room: &PublicRoom| (std::cmp::Reverse(room.summary.num_joined_members), room.summary.room_id.clone());
            key(a).cmp(&key(b))
        });
        let total = rooms.len();
        let end = query.limit.map_or(total, |limit| query.skip.saturating_add(limit).min(total));
        let rooms = rooms.drain(query.skip.min(total)..end.max(query.skip.min(total))).collect();
        Ok(PublicRoomsPage { rooms, total, next: (end < total).then_some(end) })
    }
}
