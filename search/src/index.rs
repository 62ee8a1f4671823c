//! The index on the disk.
//!
//! Its folder can be deleted at any time the server does not run: it is built again. How far it has come is committed
//! with it, as one: no crash can make it forget or repeat an event.

use std::fs;
use std::io;
use std::ops::Bound;
use std::path::Path;
use std::sync::Arc;

use rooms::{RoomNid, RoomSeq, UserNid};
use serde::{Deserialize, Serialize};
use storage::StreamPos;
use tantivy::directory::MmapDirectory;
use tantivy::indexer::IndexWriterOptions;
use tantivy::query::{BooleanQuery, Occur, PhraseQuery, Query, RangeQuery, TermQuery};
use tantivy::schema::{BytesOptions, FAST, Field, INDEXED, IndexRecordOption, Schema, TextFieldIndexing, TextOptions};
use tantivy::tokenizer::{PreTokenizedString, Token};
use tantivy::{IndexReader, IndexSettings, IndexWriter, ReloadPolicy, TantivyDocument, Term};

use crate::collect::{Candidate, Collect, FixedStatistics};
use crate::content::SearchKey;
use crate::error::SearchError;
use crate::terms::Terms;
use crate::text::split;

/// The format of the index: of its fields, and of how text becomes words. An index of another one is built again.
const VERSION: u32 = 1;

const TEXT: &str = "text";
const ID: &str = "id";
/// The room's number.
pub(crate) const ROOM: &str = "room";
/// The event's number in its room.
pub(crate) const SEQ: &str = "seq";
/// The sender's number.
pub(crate) const SENDER: &str = "sender";
/// When the event was sent, as its sender says.
pub(crate) const AT: &str = "at";
/// Which [`SearchKey`] the text is of.
pub(crate) const KEY: &str = "key";

/// How far an index has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Progress {
    /// The format of the index.
    pub version: u32,
    /// Which index it is: a store knows its own.
    pub identity: u64,
    /// All events that came up to here are in the index, unless it is being built.
    pub done: StreamPos,
    /// While it is being built: how far.
    pub building: Option<Building>,
}

/// How far the building of a whole index has come: rooms in order of their numbers, each from its first event on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Building {
    /// Events that came later are left for afterwards.
    pub until: StreamPos,
    pub room: RoomNid,
    /// Up to and including this event of the room, all is in.
    pub after: RoomSeq,
}

impl Progress {
    /// An index with nothing in it, to be filled with what came up to a position.
    pub fn start(identity: u64, until: StreamPos) -> Progress {
        let building = Building { until, room: RoomNid(0), after: RoomSeq::MIN };
        Progress { version: VERSION, identity, done: StreamPos::ZERO, building: Some(building) }
    }
}

/// An event as it goes into the index.
pub(crate) struct Entry<'a> {
    pub room: RoomNid,
    pub seq: RoomSeq,
    pub sender: UserNid,
    pub at: i64,
    pub key: SearchKey,
    pub text: &'a str,
}

#[derive(Clone, Copy)]
struct Fields {
    text: Field,
    id: Field,
    room: Field,
    seq: Field,
    sender: Field,
    at: Field,
    key: Field,
}

/// An open index. Many may search it while one adds to it.
pub(crate) struct Index {
    index: tantivy::Index,
    fields: Fields,
    reader: IndexReader,
}

fn describe_fields() -> (Schema, Fields) {
    let mut schema = Schema::builder();
    // Words come split already. Their positions are kept, for phrases.
    let words =
        TextFieldIndexing::default().set_tokenizer("raw").set_index_option(IndexRecordOption::WithFreqsAndPositions);
    let fields = Fields {
        text: schema.add_text_field(TEXT, TextOptions::default().set_indexing_options(words)),
        id: schema.add_bytes_field(ID, BytesOptions::default() | INDEXED),
        room: schema.add_u64_field(ROOM, FAST),
        seq: schema.add_i64_field(SEQ, FAST),
        sender: schema.add_u64_field(SENDER, FAST),
        at: schema.add_i64_field(AT, FAST),
        key: schema.add_u64_field(KEY, FAST),
    };
    (schema.build(), fields)
}

impl Index {
    /// Opens the index in a folder. `None` if there is none that this version can use.
    pub fn open(folder: &Path) -> Option<(Index, Progress)> {
        let opened = Self::try_open(folder);
        if let Err(error) = &opened {
            tracing::warn!(%error, "the search index cannot be read and is built again");
        }
        opened.ok().flatten()
    }

    fn try_open(folder: &Path) -> Result<Option<(Index, Progress)>, SearchError> {
        if !folder.join("meta.json").exists() {
            return Ok(None);
        }
        let directory = MmapDirectory::open(folder).map_err(tantivy::TantivyError::from)?;
        let index = tantivy::Index::open(directory)?;
        let (schema, fields) = describe_fields();
        let payload = index.load_metas()?.payload;
        let progress = payload.and_then(|payload| serde_json::from_str::<Progress>(&payload).ok());
        let progress = progress.filter(|progress| progress.version == VERSION && index.schema() == schema);
        progress.map(|progress| Ok((Index::with(index, fields)?, progress))).transpose()
    }

    /// Makes a new index in a folder, whatever is there.
    pub fn create(folder: &Path, progress: &Progress, memory: usize) -> Result<Index, SearchError> {
        match fs::remove_dir_all(folder) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
            _ => fs::create_dir_all(folder)?,
        }
        let directory = MmapDirectory::open(folder).map_err(tantivy::TantivyError::from)?;
        let (schema, fields) = describe_fields();
        let settings = IndexSettings { docstore_compress_dedicated_thread: false, ..IndexSettings::default() };
        let index = Index::with(tantivy::Index::create(directory, schema, settings)?, fields)?;
        let mut writer = index.writer(memory)?;
        index.commit(&mut writer, progress)?;
        Ok(index)
    }

    fn with(index: tantivy::Index, fields: Fields) -> Result<Index, SearchError> {
        let reader = index
            .reader_builder()
            .reload_policy(ReloadPolicy::Manual)
            // Nothing is stored that could be cached.
            .doc_store_cache_num_blocks(0)
            .try_into()?;
        Ok(Index { index, fields, reader })
    }

    /// What adds to the index; at most one at a time. It has threads and memory of its own.
    pub fn writer(&self, memory: usize) -> Result<IndexWriter, SearchError> {
        let options = IndexWriterOptions::builder()
            .memory_budget_per_thread(memory)
            .num_worker_threads(1)
            .num_merge_threads(1)
            .build();
        Ok(self.index.writer_with_options(options)?)
    }

    /// Makes what was added durable, with how far it goes, and visible to searches.
    pub fn commit(&self, writer: &mut IndexWriter, progress: &Progress) -> Result<(), SearchError> {
        let payload = serde_json::to_string(progress).map_err(io::Error::from)?;
        let mut prepared = writer.prepare_commit()?;
        prepared.set_payload(&payload);
        prepared.commit()?;
        self.reload()
    }

    /// Shows searches what is on the disk now.
    pub fn reload(&self) -> Result<(), SearchError> {
        Ok(self.reader.reload()?)
    }

    /// Adds an event.
    pub fn add(&self, writer: &IndexWriter, entry: &Entry<'_>) -> Result<(), SearchError> {
        let words = split(entry.text);
        let tokens = words.into_iter().enumerate().map(|(position, word)| Token {
            offset_from: word.range.start,
            offset_to: word.range.end,
            position,
            text: word.text,
            position_length: 1,
        });
        let tokens: Vec<Token> = tokens.collect();
        if tokens.is_empty() {
            return Ok(());
        }
        let mut document = TantivyDocument::default();
        // The text itself is in the store.
        document.add_pre_tokenized_text(self.fields.text, PreTokenizedString { text: String::new(), tokens });
        document.add_bytes(self.fields.id, &identify(entry.room, entry.seq));
        document.add_u64(self.fields.room, entry.room.0);
        document.add_i64(self.fields.seq, entry.seq.0);
        document.add_u64(self.fields.sender, entry.sender.0);
        document.add_i64(self.fields.at, entry.at);
        document.add_u64(self.fields.key, entry.key.number());
        writer.add_document(document)?;
        Ok(())
    }

    /// Takes an event out.
    pub fn remove(&self, writer: &IndexWriter, room: RoomNid, seq: RoomSeq) {
        writer.delete_term(Term::from_field_bytes(self.fields.id, &identify(room, seq)));
    }

    /// Takes out all events of a room that are numbered below a place.
    pub fn remove_below(&self, writer: &IndexWriter, room: RoomNid, below: RoomSeq) -> Result<(), SearchError> {
        let of_room = Term::from_field_u64(self.fields.room, room.0);
        let of_room = RangeQuery::new(Bound::Included(of_room.clone()), Bound::Included(of_room));
        let old = RangeQuery::new(Bound::Unbounded, Bound::Excluded(Term::from_field_i64(self.fields.seq, below.0)));
        let clauses: Vec<(Occur, Box<dyn Query>)> =
            vec![(Occur::Must, Box::new(of_room)), (Occur::Must, Box::new(old))];
        writer.delete_query(Box::new(BooleanQuery::new(clauses)))?;
        Ok(())
    }

    /// The first candidates of a search.
    pub fn collect(&self, terms: &Terms, collect: &Collect) -> Result<Vec<Candidate>, SearchError> {
        let clauses = terms.phrases().map(|words| (Occur::Must, self.query_of(words))).collect();
        let query = BooleanQuery::new(clauses);
        Ok(self.reader.searcher().search_with_statistics_provider(&query, collect, &FixedStatistics)?)
    }

    fn query_of(&self, words: &[String]) -> Box<dyn Query> {
        let mut terms: Vec<Term> = words.iter().map(|word| Term::from_field_text(self.fields.text, word)).collect();
        match (terms.len(), terms.pop()) {
            (1, Some(only)) => Box::new(TermQuery::new(only, IndexRecordOption::WithFreqs)),
            (_, last) => {
                terms.extend(last);
                Box::new(PhraseQuery::new(terms))
            }
        }
    }

    /// How many events are in it.
    pub fn len(&self) -> u64 {
        self.reader.searcher().num_docs()
    }
}

impl std::fmt::Debug for Index {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Index").field("len", &self.len()).finish_non_exhaustive()
    }
}

fn identify(room: RoomNid, seq: RoomSeq) -> [u8; 16] {
    let mut id = [0; 16];
    let (high, low) = id.split_at_mut(8);
    high.copy_from_slice(&room.0.to_be_bytes());
    low.copy_from_slice(&seq.0.to_be_bytes());
    id
}

/// The index and its users.
pub(crate) type SharedIndex = Arc<Index>;
