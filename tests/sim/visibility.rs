//! No event reaches a server that history visibility forbids.

use testkit::sim::{Mood, Witness, World};

use crate::seeds::for_each_seed;

const STEPS: u64 = 50;

#[test]
fn no_event_reaches_a_server_that_may_not_see_it() {
    for_each_seed("no_event_reaches_a_server_that_may_not_see_it", |seed| {
        let visibility = ["joined", "invited", "shared", "world_readable"][seed as usize % 4];
        let mut world = World::new(seed, Mood::Quarrelsome, visibility);
        let witness = Witness::install(&world.network, world.version);
        // In half of the worlds everybody is there from the start.
        if seed % 8 < 4 {
            world.gather();
        }
        world.wander(STEPS);
        world.come_to_rest();
        let pictures = world.all_pictures();
        let leaks = witness.leaks(&pictures);
        if !leaks.is_empty() && std::env::var("SEED").is_ok() {
            pictures.iter().for_each(|picture| eprintln!("{}", picture.render()));
        }
        assert!(leaks.is_empty(), "seed {seed} ({visibility}): {leaks:#?}\n{}", world.log());
        // Where everybody was, much was said.
        assert!(seed % 8 >= 4 || witness.deliveries() > 5, "seed {seed}: the servers spoke with each other");
        world.assert_sound();
    });
}
