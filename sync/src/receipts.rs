//! Read receipts as `m.receipt` events (Client-Server API §Receipts).

use std::collections::BTreeMap;

use rooms::{Receipt, ReceiptKind, Rooms, UserNid};

use crate::error::SyncError;
use crate::json::{Array, Object, write_typed};

/// event → kind → user → receipt.
type Content<'a> = BTreeMap<&'a str, BTreeMap<ReceiptKind, BTreeMap<UserNid, &'a Receipt>>>;

/// Writes one event; and further ones where a user has receipts for the same event in several threads, which one
/// event cannot hold.
pub(crate) fn write_receipt_events(
    rooms: &Rooms,
    receipts: &[Receipt],
    events: &mut Array<'_>,
) -> Result<(), SyncError> {
    let mut groups: Vec<Content<'_>> = Vec::new();
    for receipt in receipts {
        let fits = |content: &Content<'_>| {
            let users = content.get(&*receipt.event_id).and_then(|kinds| kinds.get(&receipt.kind));
            users.is_none_or(|users| !users.contains_key(&receipt.user))
        };
        let place = groups.iter().position(fits).unwrap_or_else(|| {
            groups.push(Content::new());
            groups.len() - 1
        });
        if let Some(content) = groups.get_mut(place) {
            content
                .entry(&receipt.event_id)
                .or_default()
                .entry(receipt.kind)
                .or_default()
                .insert(receipt.user, receipt);
        }
    }
    for content in &groups {
        let mut json = Vec::new();
        write_content(rooms, content, &mut json)?;
        write_typed(events.item(), "m.receipt", std::str::from_utf8(&json).unwrap_or("{}"));
    }
    Ok(())
}

/// Writes the one event that sliding sync has place for; of several receipts of a user for the same event the
/// unthreaded one is shown.
pub(crate) fn write_receipt_event(rooms: &Rooms, receipts: &[Receipt], out: &mut Vec<u8>) -> Result<(), SyncError> {
    let mut content = Content::new();
    for receipt in receipts {
        let users = content.entry(&receipt.event_id).or_default().entry(receipt.kind).or_default();
        let shown = users.entry(receipt.user).or_insert(receipt);
        if receipt.thread.is_none() {
            *shown = receipt;
        }
    }
    let mut json = Vec::new();
    write_content(rooms, &content, &mut json)?;
    write_typed(out, "m.receipt", std::str::from_utf8(&json).unwrap_or("{}"));
    Ok(())
}

fn write_content(rooms: &Rooms, content: &Content<'_>, out: &mut Vec<u8>) -> Result<(), SyncError> {
    let mut events = Object::open(out);
    for (event, kinds) in content {
        let mut by_kind = Object::open(events.key(event));
        for (kind, users) in kinds {
            let mut by_user = Object::open(by_kind.key(kind.as_str()));
            for (user, receipt) in users {
                let id = rooms.user_id(*user)?;
                let mut object = Object::open(by_user.key(id.as_str()));
                if let Some(thread) = &receipt.thread {
                    object.text("thread_id", thread);
                }
                object.number("ts", u64::try_from(receipt.at).unwrap_or(0));
                object.close();
            }
            by_user.close();
        }
        by_kind.close();
    }
    events.close();
    Ok(())
}
