//! State snapshots: persistent radix trees from state slots to events.
//!
//! Each (type, state key) of a room has a dense number, its slot. A snapshot is a tree with 64
//! branches a node over the slots; its leaves hold the [`RoomSeq`] of each slot's event. Changing one
//! entry writes the nodes on its path (two or three of a few hundred bytes in a room of 100,000
//! members) and shares all others, so keeping the state before every event is cheap, and two
//! snapshots are compared by walking only where their nodes differ. ADR 0005 gives the figures.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use storage::{Corrupt, Value, ValueBuf};

use crate::ids::{RoomSeq, SnapshotId};

const BITS: u32 = 6;
const FANOUT: u32 = 1 << BITS;
const HEIGHT_BITS: u32 = 3;

/// One node: which of its 64 places are taken, and what they hold, in order. Leaves hold events,
/// inner nodes the numbers of their children.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Node {
    taken: u64,
    items: Vec<i64>,
}

impl Node {
    fn get(&self, place: u32) -> Option<i64> {
        if self.taken & (1 << place) == 0 {
            return None;
        }
        self.items.get(self.index(place)).copied()
    }

    fn index(&self, place: u32) -> usize {
        (self.taken & ((1u64 << place) - 1)).count_ones() as usize
    }

    fn set(&mut self, place: u32, item: i64) {
        let index = self.index(place);
        if self.taken & (1 << place) != 0 {
            if let Some(old) = self.items.get_mut(index) {
                *old = item;
            }
        } else {
            self.items.insert(index, item);
            self.taken |= 1 << place;
        }
    }

    fn remove(&mut self, place: u32) {
        if self.taken & (1 << place) != 0 {
            let index = self.index(place);
            self.items.remove(index);
            self.taken &= !(1 << place);
        }
    }

    fn places(&self) -> impl Iterator<Item = (u32, i64)> + '_ {
        (0..FANOUT).filter(|place| self.taken & (1 << place) != 0).zip(self.items.iter().copied())
    }
}

impl Value for Node {
    fn encode(&self, out: &mut ValueBuf) {
        out.push(&[1]);
        out.push(&self.taken.to_le_bytes());
        for &item in &self.items {
            let mut zigzag = ((item << 1) ^ (item >> 63)) as u64;
            while zigzag >= 0x80 {
                out.push(&[zigzag as u8 | 0x80]);
                zigzag >>= 7;
            }
            out.push(&[zigzag as u8]);
        }
    }

    fn decode(bytes: &[u8]) -> Result<Self, Corrupt> {
        let (head, mut rest) = bytes.split_at_checked(9).ok_or(Corrupt("state node too short"))?;
        if head.first() != Some(&1) {
            return Err(Corrupt("state node of an unknown version"));
        }
        let taken = head.get(1..9).and_then(|raw| raw.try_into().ok()).map(u64::from_le_bytes);
        let taken = taken.ok_or(Corrupt("state node too short"))?;
        let mut items = Vec::with_capacity(taken.count_ones() as usize);
        for _ in 0..taken.count_ones() {
            let (mut zigzag, mut shift) = (0u64, 0);
            loop {
                let (&byte, more) = rest.split_first().ok_or(Corrupt("state node cut off"))?;
                rest = more;
                if shift > 63 {
                    return Err(Corrupt("state node with an overlong number"));
                }
                zigzag |= u64::from(byte & 0x7f) << shift;
                shift += 7;
                if byte & 0x80 == 0 {
                    break;
                }
            }
            items.push((zigzag >> 1) as i64 ^ -((zigzag & 1) as i64));
        }
        Ok(Node { taken, items })
    }
}

impl SnapshotId {
    /// The state without entries.
    pub const EMPTY: SnapshotId = SnapshotId(0);

    fn new(node: u64, height: u32) -> SnapshotId {
        SnapshotId(node << HEIGHT_BITS | u64::from(height))
    }

    fn node(self) -> u64 {
        self.0 >> HEIGHT_BITS
    }

    fn height(self) -> u32 {
        (self.0 & ((1 << HEIGHT_BITS) - 1)) as u32
    }
}

/// Where nodes are read from.
pub(crate) trait Nodes {
    type Error;
    fn node(&self, id: u64) -> Result<Arc<Node>, Self::Error>;
}

/// Nodes that a change has made and not yet stored, over those that are stored.
#[derive(Default, Debug, Clone)]
pub(crate) struct NewNodes {
    pub(crate) next: u64,
    pub(crate) made: HashMap<u64, Arc<Node>>,
}

impl NewNodes {
    fn load<N: Nodes>(&self, nodes: &N, id: u64) -> Result<Arc<Node>, N::Error> {
        match self.made.get(&id) {
            Some(node) => Ok(node.clone()),
            None => nodes.node(id),
        }
    }

    fn add(&mut self, node: Node) -> u64 {
        self.next += 1;
        self.made.insert(self.next, Arc::new(node));
        self.next
    }
}

/// Stored nodes together with new ones.
pub(crate) struct WithNew<'a, N> {
    pub(crate) nodes: N,
    pub(crate) new: &'a NewNodes,
}

impl<N: Nodes> Nodes for WithNew<'_, N> {
    type Error = N::Error;

    fn node(&self, id: u64) -> Result<Arc<Node>, N::Error> {
        self.new.load(&self.nodes, id)
    }
}

fn place(slot: u32, level: u32) -> u32 {
    (slot >> (BITS * level)) & (FANOUT - 1)
}

fn covers(height: u32, slot: u32) -> bool {
    height > 0 && (BITS * height >= 32 || slot >> (BITS * height) == 0)
}

/// The event in `slot`, if any. Reads at most one node a level.
pub(crate) fn get<N: Nodes>(
    nodes: &N,
    new: &NewNodes,
    root: SnapshotId,
    slot: u32,
) -> Result<Option<RoomSeq>, N::Error> {
    if !covers(root.height(), slot) {
        return Ok(None);
    }
    let mut id = root.node();
    for level in (0..root.height()).rev() {
        match new.load(nodes, id)?.get(place(slot, level)) {
            Some(item) if level == 0 => return Ok(Some(RoomSeq(item))),
            Some(child) => id = child as u64,
            None => return Ok(None),
        }
    }
    Ok(None)
}

/// A snapshot like `root` with `slot` set (or, with `None`, cleared); the nodes it needs are added to `new`.
pub(crate) fn set<N: Nodes>(
    nodes: &N,
    new: &mut NewNodes,
    root: SnapshotId,
    slot: u32,
    event: Option<RoomSeq>,
) -> Result<SnapshotId, N::Error> {
    let mut root = root;
    while !covers(root.height(), slot) {
        let mut above = Node::default();
        if root.height() > 0 {
            above.set(0, root.node() as i64);
        }
        root = SnapshotId::new(new.add(above), root.height() + 1);
    }
    let mut path = Vec::with_capacity(root.height() as usize);
    let mut id = Some(root.node());
    for level in (0..root.height()).rev() {
        let node = match id {
            Some(id) => new.load(nodes, id)?.as_ref().clone(),
            None => Node::default(),
        };
        id = node.get(place(slot, level)).map(|child| child as u64);
        path.push(node);
    }
    let mut child = event.map(|seq| seq.0);
    for (level, mut node) in path.into_iter().rev().enumerate() {
        match child {
            Some(item) => node.set(place(slot, level as u32), item),
            None => node.remove(place(slot, level as u32)),
        }
        child = Some(new.add(node) as i64);
    }
    Ok(child.map_or(root, |node| SnapshotId::new(node as u64, root.height())))
}

/// A snapshot of these entries, which are sorted by slot, each slot once. Makes no node that it does not need.
pub(crate) fn build(new: &mut NewNodes, entries: &[(u32, RoomSeq)]) -> SnapshotId {
    let Some(&(last, _)) = entries.last() else { return SnapshotId::EMPTY };
    let mut height = 1;
    while !covers(height, last) {
        height += 1;
    }
    let mut level: Vec<(u32, i64)> = entries.iter().map(|(slot, seq)| (*slot, seq.0)).collect();
    for _ in 0..height {
        let mut above: Vec<(u32, i64)> = Vec::with_capacity(level.len().div_ceil(FANOUT as usize));
        for group in level.chunk_by(|a, b| a.0 >> BITS == b.0 >> BITS) {
            let mut node = Node::default();
            for (at, item) in group {
                node.set(at & (FANOUT - 1), *item);
            }
            let base = group.first().map_or(0, |(at, _)| at >> BITS);
            above.push((base, new.add(node) as i64));
        }
        level = above;
    }
    level.first().map_or(SnapshotId::EMPTY, |(_, node)| SnapshotId::new(*node as u64, height))
}

/// Every entry of the snapshot, by slot.
pub(crate) fn full<N: Nodes>(nodes: &N, root: SnapshotId) -> Result<Vec<(u32, RoomSeq)>, N::Error> {
    let mut entries = Vec::new();
    if root.height() == 0 {
        return Ok(entries);
    }
    let mut stack = vec![(root.node(), root.height() - 1, 0u32)];
    while let Some((id, level, base)) = stack.pop() {
        let node = nodes.node(id)?;
        if level == 0 {
            entries.extend(node.places().map(|(place, seq)| (base | place, RoomSeq(seq))));
        } else {
            let children: Vec<_> = node.places().collect();
            stack.extend(
                children
                    .into_iter()
                    .rev()
                    .map(|(place, child)| (child as u64, level - 1, base | place << (BITS * level))),
            );
        }
    }
    Ok(entries)
}

/// The numbers of all nodes of the snapshot, for consistency checks.
pub(crate) fn node_ids<N: Nodes>(nodes: &N, root: SnapshotId) -> Result<Vec<u64>, N::Error> {
    let mut ids = Vec::new();
    if root.height() == 0 {
        return Ok(ids);
    }
    let mut stack = vec![(root.node(), root.height() - 1)];
    while let Some((id, level)) = stack.pop() {
        ids.push(id);
        if level > 0 {
            stack.extend(nodes.node(id)?.places().map(|(_, child)| (child as u64, level - 1)));
        }
    }
    Ok(ids)
}

/// Shows `visit` the events of a snapshot, without those of nodes in `seen`; all of its nodes are in there afterwards.
pub(crate) fn visit_new<N: Nodes>(
    nodes: &N,
    root: SnapshotId,
    seen: &mut HashSet<u64>,
    visit: &mut dyn FnMut(RoomSeq),
) -> Result<(), N::Error> {
    if root.height() == 0 {
        return Ok(());
    }
    let mut stack = vec![(root.node(), root.height() - 1)];
    while let Some((id, level)) = stack.pop() {
        if !seen.insert(id) {
            continue;
        }
        for (_, item) in nodes.node(id)?.places() {
            match level {
                0 => visit(RoomSeq(item)),
                _ => stack.push((item as u64, level - 1)),
            }
        }
    }
    Ok(())
}

/// One slot that differs between two snapshots: its event in the first and in the second.
pub(crate) type Difference = (u32, Option<RoomSeq>, Option<RoomSeq>);

/// The slots in which two snapshots differ. Costs what differs: shared subtrees are not entered.
pub(crate) fn diff<N: Nodes>(nodes: &N, a: SnapshotId, b: SnapshotId) -> Result<Vec<Difference>, N::Error> {
    let mut found = Vec::new();
    let height = a.height().max(b.height());
    let mut stack = vec![(side(a), side(b), height, 0u32)];
    while let Some((left, right, height, base)) = stack.pop() {
        if left == right || height == 0 {
            continue;
        }
        let (left, right) = (open(nodes, left, height)?, open(nodes, right, height)?);
        for place in (0..FANOUT).rev() {
            let (l, r) = (child(&left, place, height), child(&right, place, height));
            if l == r {
                continue;
            }
            let slot = base | place.checked_shl(BITS * (height - 1)).unwrap_or(0);
            if height == 1 {
                let seq = |side: Side| side.map(|(item, _)| RoomSeq(item));
                found.push((slot, seq(l), seq(r)));
            } else {
                stack.push((l, r, height - 1, slot));
            }
        }
    }
    found.sort_unstable_by_key(|entry| entry.0);
    Ok(found)
}

/// A subtree: its node (or, below the leaves, its event) and its height.
type Side = Option<(i64, u32)>;

fn side(root: SnapshotId) -> Side {
    (root.height() > 0).then(|| (root.node() as i64, root.height()))
}

enum Opened {
    Nothing,
    /// A lower tree standing in a taller comparison: it is the first child.
    Lower(i64, u32),
    Node(Arc<Node>),
}

fn open<N: Nodes>(nodes: &N, side: Side, height: u32) -> Result<Opened, N::Error> {
    Ok(match side {
        None => Opened::Nothing,
        Some((id, own)) if own < height => Opened::Lower(id, own),
        Some((id, _)) => Opened::Node(nodes.node(id as u64)?),
    })
}

fn child(opened: &Opened, place: u32, height: u32) -> Side {
    match opened {
        Opened::Nothing => None,
        Opened::Lower(id, own) => (place == 0).then_some((*id, *own)),
        Opened::Node(node) => node.get(place).map(|item| (item, height - 1)),
    }
}

#[cfg(test)]
mod tests;
