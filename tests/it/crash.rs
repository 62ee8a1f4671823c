//! The real program is killed at random moments while clients write; everything that it acknowledged
//! is there afterwards, once, and clients go on where they were.
//!
//! `CONDUIT_CRASH_KILLS` sets the number of kills, `CONDUIT_CRASH_SEED` repeats the choices of a run
//! (not the timing of the machine).

mod clients;
mod ledger;

use std::thread;
use std::time::Duration;

use runtime::Random;
use serde_json::{Value, json};
use testkit::{Account, ConduitProcess};

use clients::{Reader, Writer};
use ledger::{Timeline, read_timeline};

const ROOMS: usize = 4;
const WRITERS: usize = 4;
/// The longest time from the first request to the kill.
const LONGEST_LIFE: Duration = Duration::from_millis(300);
/// After so many kills another server takes over.
const KILLS_OF_A_SERVER: usize = 50;
/// Every so many kills one hits a server that is starting.
const KILL_DURING_START: usize = 5;

/// Who takes part, and where.
struct World {
    owner: Account,
    rooms: Vec<String>,
    writers: Vec<Writer>,
    reader: Reader,
}

fn environment_number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is not a number")))
}

/// A room where every member may set the writers' state.
fn open_room(version: &str) -> Value {
    json!({
        "preset": "public_chat",
        "room_version": version,
        "power_level_content_override": {"events": {"test.mark": 0}},
    })
}

fn random_delay(random: &Random, longest: Duration) -> Duration {
    Duration::from_micros(random.below(u64::try_from(longest.as_micros()).unwrap()))
}

impl World {
    fn set_up(server: &ConduitProcess, random: &Random) -> World {
        let mut owner = Account::register(server.client(), "owner");
        // Old and new room ids and event formats.
        let versions = ["12", "11", "10", "6"];
        let rooms: Vec<_> =
            versions.iter().cycle().take(ROOMS).map(|version| owner.create_room(&open_room(version))).collect();
        let mut reader = Account::register(server.client(), "reader");
        rooms.iter().for_each(|room| reader.join(room));
        let writers = (0..WRITERS).map(|n| {
            let mut account = Account::register(server.client(), &format!("writer{n}"));
            rooms.iter().for_each(|room| account.join(room));
            Writer::new(account, n, (rooms.clone(), reader.user_id.clone()), Random::seeded(random.u64()))
        });
        let writers: Vec<_> = writers.collect();
        let reader = Reader::begin(reader);
        World { owner, rooms, writers, reader }
    }

    /// Everybody writes and reads until the server is killed after `life`.
    fn live(&mut self, server: &mut ConduitProcess, life: Duration) {
        thread::scope(|scope| {
            for writer in &mut self.writers {
                scope.spawn(|| writer.write_until_killed());
            }
            scope.spawn(|| self.reader.read_until_killed());
            thread::sleep(life);
            server.kill();
        });
    }

    fn timelines(&mut self) -> Vec<Timeline> {
        self.rooms.iter().map(|room| read_timeline(&mut self.owner, room)).collect()
    }

    /// Forgets connections to the server that was killed.
    fn reconnect(&mut self) {
        let accounts = self.writers.iter_mut().map(|writer| &mut writer.account).chain([&mut self.reader.account]);
        accounts.chain([&mut self.owner]).for_each(|account| account.client.disconnect());
    }

    /// Checks what is there against what was acknowledged, before and after the clients repeat what
    /// got no answer.
    fn check(&mut self) {
        self.reconnect();
        let timelines = self.timelines();
        for writer in &mut self.writers {
            writer.check(&timelines);
            writer.repeat(&timelines);
        }
        let timelines = self.timelines();
        self.writers.iter_mut().for_each(|writer| writer.check(&timelines));
        self.reader.catch_up();
        self.reader.check(&self.rooms, &timelines);
        self.writers.iter_mut().for_each(|writer| writer.check_messages(&self.reader));
    }
}

fn assert_sound(server: &ConduitProcess) {
    let output = server.run_command(&["fsck"]);
    let (found, told) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && found.is_empty(), "fsck: {}\n{found}{told}", output.status);
}

/// One server with its rooms, killed `kills` times.
fn survive_kills(kills: usize, random: &Random) {
    let mut server = ConduitProcess::new(env!("CARGO_BIN_EXE_conduit"), &["cache_bytes=8MiB"]);
    server.start();
    let mut world = World::set_up(&server, random);
    for kill in 1..=kills {
        // Both promise to outlive the process. Without waiting for the disk, more is under way at the kill.
        server.set(if kill % 2 == 0 { "durability=always" } else { "durability=interval" });
        if kill % KILL_DURING_START == 0 {
            server.kill();
            server.spawn();
            thread::sleep(random_delay(random, LONGEST_LIFE));
            server.kill();
        } else {
            world.live(&mut server, random_delay(random, LONGEST_LIFE));
        }
        assert_sound(&server);
        server.start();
        world.check();
    }
    let events: usize = world.timelines().iter().map(Timeline::len).sum();
    let acknowledged: usize = world.writers.iter().map(Writer::acknowledged).sum();
    let unanswered: usize = world.writers.iter().map(Writer::unanswered).sum();
    let made: usize = world.writers.iter().map(Writer::committed_unanswered).sum();
    println!("{kills} kills, {events} events, {acknowledged} acknowledged, {unanswered} cut off ({made} of them made)");
    assert!(acknowledged > kills && unanswered > kills / 2, "the kills hit nothing");
    assert!(server.terminate().success(), "{}", server.log());
    assert_sound(&server);
}

#[test]
fn kills_lose_nothing_that_was_acknowledged() {
    let kills = usize::try_from(environment_number("CONDUIT_CRASH_KILLS").unwrap_or(50)).unwrap();
    let seed = environment_number("CONDUIT_CRASH_SEED").unwrap_or_else(|| Random::system().u64());
    println!("CONDUIT_CRASH_SEED={seed} CONDUIT_CRASH_KILLS={kills}");
    let random = Random::seeded(seed);
    // Every start reads whole rooms: new ones now and then keep a long run from slowing down.
    for done in (0..kills).step_by(KILLS_OF_A_SERVER) {
        survive_kills(KILLS_OF_A_SERVER.min(kills - done), &random);
    }
}
