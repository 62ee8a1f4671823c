//! Unread counts (Client-Server API §Receiving notifications).

use users::{RoomUnread, UnreadCounts};

use crate::json::Object;

/// Writes `unread_notifications` and, where threads are counted apart, `unread_thread_notifications`.
pub(crate) fn write_unread(room: &mut Object<'_>, unread: &RoomUnread, by_thread: bool) {
    let main = if by_thread { unread.main } else { unread.total() };
    write_counts(room.key("unread_notifications"), main);
    if by_thread && !unread.threads.is_empty() {
        let mut threads = Object::open(room.key("unread_thread_notifications"));
        for (root, counts) in &unread.threads {
            write_counts(threads.key(root), *counts);
        }
        threads.close();
    }
}

fn write_counts(out: &mut Vec<u8>, counts: UnreadCounts) {
    let mut object = Object::open(out);
    object.number("highlight_count", counts.highlights);
    object.number("notification_count", counts.notifications);
    object.close();
}
