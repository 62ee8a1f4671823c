//! What is kept in memory about rooms, and how it stays in step with the store.
//!
//! Caches of rows that change are filled under the lock of their shard, and corrected by the commit
//! observer on the committer's thread after the write and before its position becomes visible.
//! So a reader at position P finds a cache entry at least as new as P, never an older one.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use quick_cache::{sync, unsync};
use spec::acl::ServerAcl;
use spec::ids::{ServerName, UserId};
use storage::Committed;

use crate::head::Head;
use crate::ids::{RoomNid, RoomSeq, TOPIC_MEMBERSHIP, TOPIC_ROOM, TOPIC_ROOM_GONE, UserNid};
use crate::membership::UserRoom;
use crate::meters::{Length, Lookups, Meters};
use crate::servers::ServerStay;
use crate::snapshot::Node;

const SHARDS: usize = 16;

/// A bounded cache whose loader runs under the lock of the key's shard.
pub(crate) struct LoadingCache<K, V> {
    shards: Vec<Mutex<unsync::Cache<K, V>>>,
    hasher: RandomState,
    lookups: Arc<Lookups>,
}

impl<K: Hash + Eq + Clone, V: Clone> LoadingCache<K, V> {
    fn new(entries: usize) -> Self {
        let shards = (0..SHARDS).map(|_| Mutex::new(unsync::Cache::new(entries.div_ceil(SHARDS)))).collect();
        LoadingCache { shards, hasher: RandomState::new(), lookups: Arc::default() }
    }

    fn shard(&self, key: &K) -> &Mutex<unsync::Cache<K, V>> {
        // The index is below the length, which is never zero.
        &self.shards[self.hasher.hash_one(key) as usize % self.shards.len()]
    }

    pub fn get_or_load<E>(&self, key: K, load: impl FnOnce() -> Result<V, E>) -> Result<V, E> {
        let mut shard = self.shard(&key).lock();
        let known = shard.get(&key);
        self.lookups.count(known.is_some());
        if let Some(value) = known {
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

    fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().len()).sum()
    }
}

/// What a commit under way changes in memory once it is written.
pub(crate) struct Pending {
    pub head: Arc<Head>,
    pub members_changed: bool,
    /// When the first of its events was asked for, if they are ours.
    pub sent_at: Option<Duration>,
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
    /// Rooms whose rows are being taken out, or were.
    pub gone: RwLock<HashSet<RoomNid>>,
    /// At most one commit a room is under way.
    pub pending: Mutex<HashMap<RoomNid, Pending>>,
}

impl Memory {
    pub fn new(entries: usize, (next_user, next_room): (u64, u64), gone: HashSet<RoomNid>) -> Memory {
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
            gone: RwLock::new(gone),
            pending: Mutex::new(HashMap::new()),
        }
    }

    /// The caches of rows that change: their names, lookups and lengths.
    pub fn loading_caches(self: &Arc<Self>) -> [(&'static str, Arc<Lookups>, Length); 4] {
        let (heads, rooms, members, servers) = (self.clone(), self.clone(), self.clone(), self.clone());
        [
            ("room_heads", self.heads.lookups.clone(), Arc::new(move || heads.heads.len())),
            ("user_rooms", self.user_rooms.lookups.clone(), Arc::new(move || rooms.user_rooms.len())),
            ("room_members", self.joined_members.lookups.clone(), Arc::new(move || members.joined_members.len())),
            ("room_servers", self.room_servers.lookups.clone(), Arc::new(move || servers.room_servers.len())),
        ]
    }

    /// Brings the caches up to what was just written.
    pub fn observe(&self, commits: &[Committed], meters: &Meters) {
        let topics = commits.iter().flat_map(|commit| commit.topics.iter().map(|topic| (commit.pos, topic)));
        for (pos, topic) in topics {
            match topic.kind() {
                TOPIC_ROOM => {
                    let room = RoomNid(topic.id());
                    if let Some(pending) = self.pending.lock().remove(&room) {
                        if pending.members_changed {
                            self.joined_members.forget(&room);
                            self.room_servers.forget(&room);
                        }
                        if let Some(at) = pending.sent_at {
                            meters.sent_at.note(pos, room, at);
                        }
                        self.heads.replace(room, pending.head);
                    }
                }
                TOPIC_ROOM_GONE => {
                    let room = RoomNid(topic.id());
                    self.gone.write().insert(room);
                    self.heads.forget(&room);
                    self.joined_members.forget(&room);
                    self.room_servers.forget(&room);
                }
                TOPIC_MEMBERSHIP => self.user_rooms.forget(&UserNid(topic.id())),
                _ => {}
            }
        }
    }
}
