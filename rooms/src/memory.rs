//! What is kept in memory about rooms, and how it stays in step with the store.
//!
//! Caches of rows that change are filled under the lock of their shard, and corrected by the commit
//! observer on the committer's thread after the write and before its position becomes visible.
//! So a reader at position P finds a cache entry at least as new as P, never an older one.

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use parking_lot::Mutex;
use quick_cache::{sync, unsync};
use spec::acl::ServerAcl;
use spec::ids::{ServerName, UserId};
use storage::Committed;

use crate::head::Head;
use crate::ids::{RoomNid, RoomSeq, TOPIC_MEMBERSHIP, TOPIC_ROOM, UserNid};
use crate::membership::UserRoom;
use crate::servers::ServerStay;
use crate::snapshot::Node;

const SHARDS: usize = 16;

/// A bounded cache whose loader runs under the lock of the key's shard.
pub(crate) struct LoadingCache<K, V> {
    shards: Vec<Mutex<unsync::Cache<K, V>>>,
    hasher: RandomState,
}

impl<K: Hash + Eq + Clone, V: Clone> LoadingCache<K, V> {
    fn new(entries: usize) -> Self {
        let shards = (0..SHARDS).map(|_| Mutex::new(unsync::Cache::new(entries.div_ceil(SHARDS)))).collect();
        LoadingCache { shards, hasher: RandomState::new() }
    }

    fn shard(&self, key: &K) -> &Mutex<unsync::Cache<K, V>> {
        // The index is below the length, which is never zero.
        &self.shards[self.hasher.hash_one(key) as usize % self.shards.len()]
    }

    pub fn get_or_load<E>(&self, key: K, load: impl FnOnce() -> Result<V, E>) -> Result<V, E> {
        let mut shard = self.shard(&key).lock();
        if let Some(value) = shard.get(&key) {
            return Ok(value.clone());
        }
        let value = load()?;
        shard.insert(key, value.clone());
        Ok(value)
    }

    pub fn replace(&self, key: K, value: V) {
        self.shard(&key).lock().insert(key, value);
    }

    pub fn forget(&self, key: &K) {
        self.shard(key).lock().remove(key);
    }
}

/// What a commit under way changes in memory once it is written.
pub(crate) struct Pending {
    pub head: Arc<Head>,
    pub members_changed: bool,
}

/// The caches.
pub(crate) struct Memory {
    pub heads: LoadingCache<RoomNid, Arc<Head>>,
    pub user_rooms: LoadingCache<UserNid, Arc<BTreeMap<RoomNid, UserRoom>>>,
    pub joined_members: LoadingCache<RoomNid, Arc<Vec<UserNid>>>,
    pub room_servers: LoadingCache<RoomNid, Arc<BTreeMap<ServerName, ServerStay>>>,
    /// By the event that they were read from, and whether it was redacted then.
    pub acls: sync::Cache<RoomNid, ((RoomSeq, bool), Arc<ServerAcl>)>,
    pub nodes: sync::Cache<(RoomNid, u64), Arc<Node>>,
    pub user_nids: sync::Cache<Box<str>, UserNid>,
    pub user_ids: sync::Cache<UserNid, UserId>,
    pub room_nids: sync::Cache<Box<str>, RoomNid>,
    pub next_user: AtomicU64,
    pub next_room: AtomicU64,
    /// At most one commit a room is under way.
    pub pending: Mutex<HashMap<RoomNid, Pending>>,
}

impl Memory {
    pub fn new(entries: usize, (next_user, next_room): (u64, u64)) -> Memory {
        Memory {
            heads: LoadingCache::new(entries),
            user_rooms: LoadingCache::new(entries),
            joined_members: LoadingCache::new(entries),
            room_servers: LoadingCache::new(entries),
            acls: sync::Cache::new(entries),
            nodes: sync::Cache::new(entries * 4),
            user_nids: sync::Cache::new(entries * 2),
            user_ids: sync::Cache::new(entries * 2),
            room_nids: sync::Cache::new(entries),
            next_user: AtomicU64::new(next_user),
            next_room: AtomicU64::new(next_room),
            pending: Mutex::new(HashMap::new()),
        }
    }

    /// Brings the caches up to what was just written.
    pub fn observe(&self, commits: &[Committed]) {
        for topic in commits.iter().flat_map(|commit| commit.topics.iter()) {
            match topic.kind() {
                TOPIC_ROOM => {
                    let room = RoomNid(topic.id());
                    if let Some(pending) = self.pending.lock().remove(&room) {
                        if pending.members_changed {
                            self.joined_members.forget(&room);
                            self.room_servers.forget(&room);
                        }
                        self.heads.replace(room, pending.head);
                    }
                }
                TOPIC_MEMBERSHIP => self.user_rooms.forget(&UserNid(topic.id())),
                _ => {}
            }
        }
    }
}
