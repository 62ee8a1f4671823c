use super::*;

#[test]
fn calls_go_to_the_thread_with_the_fewest_participants_and_stay_there() {
    let directory = Arc::new(Directory::new(2));
    let first = directory.approach("first");
    directory.open("first");
    directory.note_load(first.thread, 3);
    let second = directory.approach("second");
    assert_ne!(first.thread, second.thread);
    directory.note_load(second.thread, 9);
    assert_eq!(directory.approach("second").thread, second.thread, "however full");
    assert_eq!(directory.participants(), 12);
}

#[test]
fn a_call_that_nobody_opened_is_forgotten() {
    let directory = Arc::new(Directory::new(1));
    let (one, other) = (directory.approach("room"), directory.approach("room"));
    drop(one);
    assert_eq!(directory.places.lock().len(), 1, "somebody is still coming");
    drop(other);
    assert_eq!(directory.places.lock().len(), 0);
    assert_eq!(directory.thread_of("room"), None);
}

#[test]
fn a_call_that_ends_while_somebody_comes_keeps_its_place() {
    let directory = Arc::new(Directory::new(2));
    let late = directory.approach("room");
    directory.open("room");
    directory.note_load(late.thread, 5);
    directory.close("room");
    assert_eq!((directory.rooms(), directory.has_room("room")), (0, false));
    let later = directory.approach("room");
    assert_eq!(later.thread, late.thread, "the one who comes may open it again");
    directory.open("room");
    drop((late, later));
    assert_eq!(directory.rooms(), 1);
}
