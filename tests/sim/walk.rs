//! Servers agree, whatever the order and the partition.

use testkit::sim::{Mood, World, compare_pictures};

use crate::seeds::for_each_seed;

/// How many things happen in a world.
const STEPS: u64 = 60;

fn check(world: &World) {
    let pictures = world.pictures();
    let mut problems = compare_pictures(&pictures);
    for picture in &pictures {
        // Whoever obeys the rules is never judged to have broken them.
        let rejected =
            picture.rejected().map(|(id, event)| format!("{} rejected {id}: {}", picture.server, event.describe()));
        problems.extend(rejected);
    }
    if !problems.is_empty() && std::env::var("SEED").is_ok() {
        pictures.iter().for_each(|picture| eprintln!("{}", picture.render()));
    }
    let version = world.version.as_str();
    assert!(problems.is_empty(), "seed {} (version {version}): {problems:#?}\n{}", world.seed, world.log());
    world.assert_sound();
}

#[test]
fn servers_agree_after_peaceful_days() {
    for_each_seed("servers_agree_after_peaceful_days", |seed| {
        let mut world = World::new(seed, Mood::Peaceful, "shared");
        world.wander(STEPS);
        world.come_to_rest();
        check(&world);
    });
}

#[test]
fn servers_agree_after_quarrels() {
    for_each_seed("servers_agree_after_quarrels", |seed| {
        let mut world = World::new(seed, Mood::Quarrelsome, "shared");
        world.gather();
        world.wander(STEPS);
        world.come_to_rest();
        check(&world);
    });
}
