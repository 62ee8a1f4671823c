//! What the tests of this crate start from: a domain on a memory store with a clock that stands still.

use std::{
    cell::Cell,
    pin::pin,
    sync::Arc,
    task::{Context, Poll, Wake, Waker},
    thread::{self, Thread},
};

use rooms::{CreateRoom, Membership, MembershipChange, Preset, Rooms, RoomsConfig, RoomsParts};
use runtime::{Clock, Metrics, Random, Tasks};
use serde_json::{Map, Value};
use spec::{
    ids::{RoomId, ServerName, UserId},
    signing::SigningKey,
    version::RoomVersion,
};
use storage::{Backend, Options, Store};

use crate::{AccountKind, AdminRights, DeviceLogin, NewAccount, Session, Users, UsersConfig};

pub(crate) struct Fixture {
    pub(crate) users: Users,
    pub(crate) clock: Clock,
    pub(crate) store: Store,
    pub(crate) rooms: Rooms,
    runtime: tokio::runtime::Runtime,
    /// Whether the test has broken something on purpose.
    is_broken: Cell<bool>,
}

impl Drop for Fixture {
    /// Whatever a test does leaves the store sound.
    fn drop(&mut self) {
        if !thread::panicking() && !self.is_broken.get() {
            assert_eq!(crate::fsck::check(&self.store).unwrap().problems, []);
        }
    }
}

impl Fixture {
    pub(crate) fn new() -> Self {
        Self::with_config(UsersConfig::default())
    }

    pub(crate) fn with_config(config: UsersConfig) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let mut keyspaces = crate::KEYSPACES.to_vec();
        keyspaces.extend_from_slice(rooms::KEYSPACES);
        let store = Store::open(Options::new(Backend::Memory, keyspaces)).unwrap();
        let clock = Clock::fake(1_700_000_000_000);
        let guard = runtime.enter();
        let rooms = open_rooms(&store, &clock);
        drop(guard);
        let users = Users::open(store.clone(), rooms.clone(), clock.clone(), Random::seeded(7), config).unwrap();
        Self { users, clock, store, rooms, runtime, is_broken: Cell::new(false) }
    }

    /// What is broken in the store, which is expected from then on.
    pub(crate) fn take_problems(&self) -> Vec<crate::fsck::Problem> {
        self.is_broken.set(true);
        crate::fsck::check(&self.store).unwrap().problems
    }

    /// The same store opened anew, as after a restart.
    pub(crate) fn reopen(&self) -> Users {
        let config = self.users.config().clone();
        Users::open(self.store.clone(), self.rooms.clone(), self.clock.clone(), Random::seeded(8), config).unwrap()
    }

    pub(crate) fn run<F: Future>(&self, future: F) -> F::Output {
        self.runtime.block_on(future)
    }

    /// An account without a password: creating one with a password costs a hash.
    pub(crate) fn account(&self, localpart: &str) -> crate::Account {
        self.run(self.users.create_account(NewAccount {
            localpart,
            password: None,
            kind: AccountKind::User,
            admin: AdminRights::Denied,
            registration_token: None,
        }))
        .unwrap()
    }

    /// A public room of an account of this server.
    pub(crate) fn room(&self, creator: &UserId) -> RoomId {
        self.run(self.rooms.create_room(CreateRoom::new(creator.clone(), RoomVersion::V11, Preset::PublicChat)))
            .unwrap()
    }

    /// Makes a user, of whatever server, join or leave a room.
    pub(crate) fn set_membership(&self, room: &RoomId, user: &UserId, membership: Membership) {
        self.set_member(room, user, membership, Map::new());
    }

    /// As [`Fixture::set_membership`], with more content of the member event.
    pub(crate) fn set_member(&self, room: &RoomId, user: &UserId, membership: Membership, content: Map<String, Value>) {
        self.run(self.rooms.intern_user(user)).unwrap();
        let change = MembershipChange { sender: user.clone(), target: user.clone(), membership, content };
        self.run(self.rooms.change_membership(room, change)).unwrap();
    }

    /// A logged-in device of an account, which is created if it does not exist.
    pub(crate) fn session(&self, localpart: &str, device_id: &str) -> Arc<Session> {
        let user_id = self.users.parse_local_user(localpart).unwrap();
        let user = match self.users.account_by_id(&user_id).unwrap() {
            Some(account) => account.user,
            None => self.account(localpart).user,
        };
        let login = DeviceLogin { device_id: Some(device_id), ..DeviceLogin::default() };
        let session = self.run(self.users.start_session(user, login)).unwrap();
        self.run(self.users.authenticate(&session.tokens.access_token)).unwrap()
    }
}

fn open_rooms(store: &Store, clock: &Clock) -> Rooms {
    let parts = RoomsParts {
        store: store.clone(),
        clock: clock.clone(),
        random: Random::seeded(3),
        tasks: Tasks::new(&Metrics::new()),
        server_name: ServerName::parse("example.org").unwrap(),
        signing_key: Arc::new(SigningKey::from_seed([1; 32], "1").unwrap()),
        config: RoomsConfig::default(),
        policy_servers: None,
    };
    Rooms::new(parts).unwrap()
}

/// Runs a future on a thread of its own, without any runtime.
pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut context = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return output;
        }
        thread::park();
    }
}
