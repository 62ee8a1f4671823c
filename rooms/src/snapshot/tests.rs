use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;
use std::sync::Arc;

use proptest::prelude::*;
use storage::{Value, ValueBuf};

use super::{NewNodes, Node, Nodes, SnapshotId, diff, full, get, set};
use crate::ids::RoomSeq;

/// Nodes kept as their stored bytes, so that every test also proves the encoding.
#[derive(Default)]
struct Stored(HashMap<u64, Vec<u8>>);

impl Nodes for Stored {
    type Error = Infallible;

    fn node(&self, id: u64) -> Result<Arc<Node>, Infallible> {
        Ok(Arc::new(Node::decode(&self.0[&id]).unwrap()))
    }
}

impl Stored {
    fn keep(&mut self, new: &mut NewNodes) -> usize {
        let mut bytes = 0;
        for (id, node) in new.made.drain() {
            let mut buf = ValueBuf::default();
            node.encode(&mut buf);
            bytes += buf.as_slice().len();
            self.0.insert(id, buf.as_slice().to_vec());
        }
        bytes
    }
}

fn apply(stored: &mut Stored, new: &mut NewNodes, root: SnapshotId, slot: u32, seq: Option<i64>) -> SnapshotId {
    let Ok(root) = set(stored, new, root, slot, seq.map(RoomSeq));
    stored.keep(new);
    root
}

proptest! {
    #[test]
    fn agrees_with_a_map(changes in prop::collection::vec((0u32..9000, prop::option::of(-50i64..1 << 40)), 1..80), cut in 0usize..80) {
        let (mut stored, mut new) = (Stored::default(), NewNodes::default());
        let (mut root, mut model) = (SnapshotId::EMPTY, BTreeMap::new());
        let mut old = (root, model.clone());
        for (index, &(slot, seq)) in changes.iter().enumerate() {
            if index == cut {
                old = (root, model.clone());
            }
            root = apply(&mut stored, &mut new, root, slot, seq);
            match seq { Some(seq) => model.insert(slot, RoomSeq(seq)), None => model.remove(&slot) };
        }
        let Ok(entries) = full(&stored, root);
        prop_assert_eq!(entries.into_iter().collect::<BTreeMap<_, _>>(), model.clone());
        for &(slot, _) in &changes {
            let Ok(found) = get(&stored, &new, root, slot);
            prop_assert_eq!(found, model.get(&slot).copied());
        }
        let mut expected: Vec<_> = model.keys().chain(old.1.keys()).copied().collect();
        expected.sort_unstable();
        expected.dedup();
        let expected: Vec<_> = expected.into_iter().map(|slot| (slot, old.1.get(&slot).copied(), model.get(&slot).copied())).filter(|(_, a, b)| a != b).collect();
        let Ok(found) = diff(&stored, old.0, root);
        prop_assert_eq!(found, expected);
    }
}

#[test]
fn one_change_in_a_hundred_thousand_writes_less_than_4_kib() {
    let (mut stored, mut new) = (Stored::default(), NewNodes::default());
    let mut root = SnapshotId::EMPTY;
    for slot in 0..100_000 {
        let Ok(next) = set(&stored, &mut new, root, slot, Some(RoomSeq(i64::from(slot) + 7)));
        root = next;
        if slot % 1000 == 0 {
            stored.keep(&mut new);
        }
    }
    stored.keep(&mut new);
    let Ok(changed) = set(&stored, &mut new, root, 77_777, Some(RoomSeq(200_000)));
    assert!(stored.keep(&mut new) < 4096);
    let Ok(found) = diff(&stored, root, changed);
    assert_eq!(found, [(77_777, Some(RoomSeq(77_784)), Some(RoomSeq(200_000)))]);
    let Ok(entries) = full(&stored, root);
    assert_eq!(entries.len(), 100_000);
}
