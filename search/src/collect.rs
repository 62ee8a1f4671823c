//! The best places of the index for a search, in bounded memory.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap, HashSet};
use std::sync::Arc;

use rooms::{RoomNid, RoomSeq, UserNid};
use tantivy::collector::{Collector, SegmentCollector};
use tantivy::columnar::ColumnValues;
use tantivy::query::Bm25StatisticsProvider;
use tantivy::schema::Field;
use tantivy::{DocId, Score, SegmentOrdinal, SegmentReader, Term};

use crate::content::SearchKey;
use crate::index;
use crate::token::{Order, Place};

/// Which indexed events may be results at all.
#[derive(Debug)]
pub(crate) struct Scope {
    pub rooms: HashSet<RoomNid>,
    pub senders: Option<BTreeSet<UserNid>>,
    pub not_senders: BTreeSet<UserNid>,
    pub keys: BTreeSet<SearchKey>,
}

impl Scope {
    fn holds(&self, room: RoomNid, sender: UserNid, key: u64) -> bool {
        self.rooms.contains(&room)
            && !self.not_senders.contains(&sender)
            && self.senders.as_ref().is_none_or(|senders| senders.contains(&sender))
            && self.keys.iter().any(|wanted| wanted.number() == key)
    }
}

/// A place with its rank, which orders results only if that is asked for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Candidate {
    pub place: Place,
    pub rank: f32,
}

impl Eq for Candidate {}

impl Ord for Candidate {
    fn cmp(&self, other: &Candidate) -> std::cmp::Ordering {
        self.place.cmp(&other.place)
    }
}

impl PartialOrd for Candidate {
    fn partial_cmp(&self, other: &Candidate) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

/// Collects the first `most` candidates after a place.
pub(crate) struct Collect {
    pub scope: Arc<Scope>,
    pub order: Order,
    pub after: Option<Place>,
    pub most: usize,
}

/// The work of [`Collect`] on one segment.
pub(crate) struct CollectSegment {
    scope: Arc<Scope>,
    order: Order,
    after: Option<Place>,
    most: usize,
    /// The worst on top.
    best: BinaryHeap<Reverse<Candidate>>,
    room: Arc<dyn ColumnValues<u64>>,
    sender: Arc<dyn ColumnValues<u64>>,
    key: Arc<dyn ColumnValues<u64>>,
    seq: Arc<dyn ColumnValues<i64>>,
    at: Arc<dyn ColumnValues<i64>>,
}

impl Collector for Collect {
    type Fruit = Vec<Candidate>;
    type Child = CollectSegment;

    fn for_segment(&self, _: SegmentOrdinal, segment: &SegmentReader) -> tantivy::Result<CollectSegment> {
        let columns = segment.fast_fields();
        let u64s = |name: &str| columns.u64(name).map(|column| column.first_or_default_col(0));
        let i64s = |name: &str| columns.i64(name).map(|column| column.first_or_default_col(0));
        Ok(CollectSegment {
            scope: self.scope.clone(),
            order: self.order,
            after: self.after,
            most: self.most,
            best: BinaryHeap::new(),
            room: u64s(index::ROOM)?,
            sender: u64s(index::SENDER)?,
            key: u64s(index::KEY)?,
            seq: i64s(index::SEQ)?,
            at: i64s(index::AT)?,
        })
    }

    fn requires_scoring(&self) -> bool {
        true
    }

    fn merge_fruits(&self, segments: Vec<Vec<Candidate>>) -> tantivy::Result<Vec<Candidate>> {
        let mut all: Vec<Candidate> = segments.into_iter().flatten().collect();
        all.sort_unstable_by(|a, b| b.cmp(a));
        all.truncate(self.most);
        Ok(all)
    }
}

impl SegmentCollector for CollectSegment {
    type Fruit = Vec<Candidate>;

    fn collect(&mut self, doc: DocId, rank: Score) {
        let room = RoomNid(self.room.get_val(doc));
        if !self.scope.holds(room, UserNid(self.sender.get_val(doc)), self.key.get_val(doc)) {
            return;
        }
        let weight = match self.order {
            Order::Rank => rank,
            Order::Recent => 0.0,
        };
        let place = Place { weight, at: self.at.get_val(doc), room, seq: RoomSeq(self.seq.get_val(doc)) };
        if self.after.is_some_and(|after| place >= after) {
            return;
        }
        let candidate = Candidate { place, rank };
        if self.best.len() < self.most {
            self.best.push(Reverse(candidate));
        } else if let Some(mut worst) = self.best.peek_mut()
            && candidate > worst.0
        {
            *worst = Reverse(candidate);
        }
    }

    fn harvest(self) -> Vec<Candidate> {
        self.best.into_iter().map(|Reverse(candidate)| candidate).collect()
    }
}

/// The same statistics whatever is indexed, so that an event's rank depends on the event alone: pages of one search
/// stay in order while the index grows, and nobody learns from a rank how often a word was said where they are not.
pub(crate) struct FixedStatistics;

impl Bm25StatisticsProvider for FixedStatistics {
    fn total_num_tokens(&self, _: Field) -> tantivy::Result<u64> {
        Ok(16_000)
    }

    fn total_num_docs(&self) -> tantivy::Result<u64> {
        Ok(1_000)
    }

    fn doc_freq(&self, _: &Term) -> tantivy::Result<u64> {
        Ok(10)
    }
}
