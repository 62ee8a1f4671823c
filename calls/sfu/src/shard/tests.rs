use std::sync::mpsc::{Receiver, sync_channel};

use super::*;

fn way() -> (Way, Receiver<Command>) {
    let (commands, inbox) = sync_channel(COMMANDS);
    let thread = std::thread::current();
    (Way { commands, backlog: Arc::default(), thread, board: Arc::default() }, inbox)
}

fn message() -> Command {
    let seat = Seat { thread: 0, room: 0, participant: 0, connection: 0 };
    let message = Box::new(proto::signal_request::Message::Ping(0));
    Command::Message { seat, message }
}

fn disconnect() -> Command {
    let (room, identity) = ("room".to_owned(), "somebody".to_owned());
    Command::Disconnect { room, identity, reason: DisconnectReason::Removed }
}

#[test]
fn a_flood_of_messages_leaves_room_to_put_somebody_out() {
    let (way, inbox) = way();
    let taken = (0..COMMANDS * 2).filter(|_| way.send(message())).count();
    assert_eq!(taken, BUSY);
    assert!(way.send(disconnect()));
    // Once the thread has caught up, messages are taken again.
    for _ in 0..=BUSY {
        inbox.try_recv().unwrap();
        way.backlog.took();
    }
    assert!(inbox.try_recv().is_err());
    assert!(way.send(message()));
}

#[test]
fn what_is_refused_does_not_count_as_waiting() {
    let (way, inbox) = way();
    for _ in 0..COMMANDS + 10 {
        way.send(disconnect());
    }
    assert_eq!(way.backlog.len(), COMMANDS);
    drop(inbox);
    assert!(!way.send(disconnect()), "the thread is gone");
    assert_eq!(way.backlog.len(), COMMANDS);
}
