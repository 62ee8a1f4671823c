//! Clients that keep account of what they did and were told.

use std::collections::{HashMap, HashSet};

use runtime::Random;
use serde_json::{Value, json};
use testkit::{Account, encode_path_segment};

use super::ledger::Timeline;

/// How many acknowledged requests are repeated after each start.
const REPEATED: usize = 3;
/// More events than one life of the server brings.
const SYNC_LIMIT: usize = 500;

/// Something to write.
#[derive(Clone, Debug)]
enum Write {
    /// A message with a transaction id.
    Message,
    /// A state event, which has none.
    State,
    /// A redaction of an own, acknowledged message.
    Redaction { target: String },
    /// A message to the reader's device, with a transaction id.
    ToDevice,
    /// The writer's own account data, which each request replaces.
    AccountData,
}

/// A request: `mark` is its transaction id and stands in the event.
#[derive(Clone, Debug)]
struct Request {
    write: Write,
    room: usize,
    mark: String,
}

/// A request that made an event.
struct Acknowledged {
    request: Request,
    event_id: String,
}

/// A client that writes all the time.
pub struct Writer {
    pub account: Account,
    number: usize,
    rooms: Vec<String>,
    /// Who gets messages to devices.
    reader: String,
    random: Random,
    made: usize,
    acknowledged: Vec<Acknowledged>,
    /// Marks of messages to the reader's device that were acknowledged.
    messaged: Vec<String>,
    /// Marks of account data, any of which may be there: the last acknowledged one and what came later.
    account_data: Vec<String>,
    /// Requests that the kill left without an answer, to be repeated.
    open: Vec<Request>,
    /// State events without an answer: they have no transaction id, so they are not repeated.
    uncertain: Vec<Request>,
    redacted: HashSet<String>,
    unanswered: usize,
    committed_unanswered: usize,
}

impl Writer {
    pub fn new(account: Account, number: usize, (rooms, reader): (Vec<String>, String), random: Random) -> Writer {
        let mut writer = Writer {
            account,
            number,
            rooms,
            reader,
            random,
            made: 0,
            acknowledged: Vec::new(),
            messaged: Vec::new(),
            account_data: Vec::new(),
            open: Vec::new(),
            uncertain: Vec::new(),
            redacted: HashSet::new(),
            unanswered: 0,
            committed_unanswered: 0,
        };
        // So that some account data have been acknowledged before the first kill.
        let request = Request { write: Write::AccountData, room: 0, mark: format!("w{number}-0") };
        let response = writer.send(&request).expect("the server answers");
        writer.acknowledge(request, &response);
        writer
    }

    pub fn acknowledged(&self) -> usize {
        self.acknowledged.len() + self.messaged.len()
    }

    pub fn unanswered(&self) -> usize {
        self.unanswered
    }

    /// How many of those had made their event all the same.
    pub fn committed_unanswered(&self) -> usize {
        self.committed_unanswered
    }

    fn choose_request(&mut self) -> Request {
        self.made += 1;
        let mark = format!("w{}-{}", self.number, self.made);
        let room = usize::try_from(self.random.below(self.rooms.len() as u64)).unwrap();
        let (write, room) = match self.random.below(10) {
            0 => (Write::State, room),
            1 => (Write::ToDevice, room),
            2 => (Write::AccountData, room),
            3 => self.choose_redaction().unwrap_or((Write::Message, room)),
            _ => (Write::Message, room),
        };
        Request { write, room, mark }
    }

    fn choose_redaction(&mut self) -> Option<(Write, usize)> {
        let at = usize::try_from(self.random.below(self.acknowledged.len() as u64)).unwrap();
        let target = self.acknowledged.get(at)?;
        let is_message = matches!(target.request.write, Write::Message);
        let chosen = is_message && self.redacted.insert(target.event_id.clone());
        chosen.then(|| (Write::Redaction { target: target.event_id.clone() }, target.request.room))
    }

    fn describe_request(&self, request: &Request) -> (String, Value) {
        let room = encode_path_segment(&self.rooms[request.room]);
        let mark = &request.mark;
        match &request.write {
            Write::Message => (
                format!("/rooms/{room}/send/m.room.message/{mark}"),
                json!({"msgtype": "m.text", "body": "to be kept", "mark": mark}),
            ),
            Write::State => (format!("/rooms/{room}/state/test.mark/{mark}"), json!({"mark": mark})),
            Write::Redaction { target } => {
                (format!("/rooms/{room}/redact/{}/{mark}", encode_path_segment(target)), json!({"reason": mark}))
            }
            Write::ToDevice => (
                format!("/sendToDevice/test.mark/{mark}"),
                json!({"messages": {self.reader.as_str(): {"*": {"mark": mark}}}}),
            ),
            Write::AccountData => (self.account_data_path(), json!({"mark": mark})),
        }
    }

    fn account_data_path(&self) -> String {
        format!("/user/{}/account_data/test.mark", encode_path_segment(&self.account.user_id))
    }

    /// Returns the response, or `None` if there was no answer.
    fn send(&mut self, request: &Request) -> Option<Value> {
        let (path, content) = self.describe_request(request);
        let response = self.account.request("PUT", &path, Some(&content)).ok()?;
        assert_eq!(response.status, 200, "PUT {path}: {}", String::from_utf8_lossy(&response.body));
        Some(response.json())
    }

    /// Takes in an answer.
    fn acknowledge(&mut self, request: Request, response: &Value) {
        match request.write {
            Write::ToDevice => self.messaged.push(request.mark),
            Write::AccountData => self.account_data = vec![request.mark],
            _ => self.acknowledged.push(Acknowledged { event_id: event_id_of(response), request }),
        }
    }

    pub fn write_until_killed(&mut self) {
        loop {
            let request = self.choose_request();
            if let Some(response) = self.send(&request) {
                self.acknowledge(request, &response);
                continue;
            }
            self.unanswered += 1;
            match request.write {
                Write::State => self.uncertain.push(request),
                Write::AccountData => self.account_data.push(request.mark),
                _ => self.open.push(request),
            }
            return;
        }
    }

    /// Repeats what got no answer, which now gets one, and some of what got one, which gets the same.
    pub fn repeat(&mut self, timelines: &[Timeline]) {
        for request in std::mem::take(&mut self.open) {
            let response = self.send(&request).expect("the server answers");
            if let Some(seen) = timelines[request.room].marked(&request.mark) {
                assert_eq!(event_id_of(&response), seen.event_id, "{request:?} made another event");
                self.committed_unanswered += 1;
            }
            self.acknowledge(request, &response);
        }
        if let Some(mark) = self.messaged.last().cloned() {
            self.send(&Request { write: Write::ToDevice, room: 0, mark }).expect("the server answers");
        }
        let with_transaction = |at: &usize| !matches!(self.acknowledged[*at].request.write, Write::State);
        let last: Vec<_> = (0..self.acknowledged.len()).rev().filter(with_transaction).take(REPEATED).collect();
        for at in last {
            let request = self.acknowledged[at].request.clone();
            let response = self.send(&request).expect("the server answers");
            assert_eq!(event_id_of(&response), self.acknowledged[at].event_id, "{request:?} made another event");
        }
    }

    /// Checks that rooms hold what was acknowledged. What got no answer may be there, but whole.
    pub fn check(&self, timelines: &[Timeline]) {
        let mut redacted = HashSet::new();
        for Acknowledged { request, event_id } in &self.acknowledged {
            let timeline = &timelines[request.room];
            let seen = timeline.event(event_id).unwrap_or_else(|| panic!("{}: {request:?} is lost", timeline.room));
            if let Write::Redaction { target } = &request.write {
                assert_eq!(seen.redacts.as_deref(), Some(target.as_str()), "{request:?}");
                redacted.insert(target.clone());
            }
            assert!(seen.is_redacted || seen.mark.as_ref() == Some(&request.mark), "{request:?} is another event");
        }
        for request in self.open.iter().chain(&self.uncertain) {
            let seen = timelines[request.room].marked(&request.mark);
            if let (Write::Redaction { target }, Some(_)) = (&request.write, seen) {
                redacted.insert(target.clone());
            }
        }
        for Acknowledged { request, event_id } in &self.acknowledged {
            let seen = timelines[request.room].event(event_id);
            let is_redacted = seen.is_some_and(|seen| seen.is_redacted);
            assert_eq!(is_redacted, redacted.contains(event_id), "{request:?} and its redaction do not agree");
        }
    }

    /// Checks what is not in rooms. Nothing may be without an answer any more.
    pub fn check_messages(&mut self, reader: &Reader) {
        for mark in &self.messaged {
            assert!(reader.messages.contains(mark), "the message {mark} to a device is lost");
        }
        let stored = self.account.request("GET", &self.account_data_path(), None).expect("the server answers").json();
        let mark = stored["mark"].as_str().unwrap_or_default().to_owned();
        assert!(self.account_data.contains(&mark), "{stored} is none of {:?}", self.account_data);
        self.account_data = vec![mark];
    }
}

fn event_id_of(response: &Value) -> String {
    response["event_id"].as_str().unwrap_or_else(|| panic!("no event id in {response}")).to_owned()
}

/// A client that follows all rooms by sync.
pub struct Reader {
    pub account: Account,
    since: String,
    /// Marks of messages to the device.
    messages: HashSet<String>,
    /// By room: the events that syncs have brought.
    seen: HashMap<String, HashSet<String>>,
}

impl Reader {
    /// Takes the rooms as they are, whole.
    pub fn begin(mut account: Account) -> Reader {
        let first = account.expect("GET", &sync_path(None, 0), None);
        let mut reader = Reader { account, since: String::new(), messages: HashSet::new(), seen: HashMap::new() };
        reader.take(&first);
        reader
    }

    pub fn read_until_killed(&mut self) {
        while let Ok(response) = self.account.request("GET", &sync_path(Some(&self.since), 1000), None) {
            assert_eq!(response.status, 200, "{}", String::from_utf8_lossy(&response.body));
            self.take(&response.json());
        }
    }

    /// Goes on from the token it has until nothing is new.
    pub fn catch_up(&mut self) {
        loop {
            let response = self.account.expect("GET", &sync_path(Some(&self.since), 0), None);
            if self.take(&response) == 0 {
                return;
            }
        }
    }

    /// Takes in a whole response; returns how many events it brought.
    fn take(&mut self, response: &Value) -> usize {
        let mut brought = 0;
        let empty = serde_json::Map::new();
        for (room, section) in response["rooms"]["join"].as_object().unwrap_or(&empty) {
            let timeline = &section["timeline"];
            assert_ne!(timeline["limited"], true, "{room}: more than {SYNC_LIMIT} events in one life of the server");
            for event in timeline["events"].as_array().into_iter().flatten() {
                let id = event["event_id"].as_str().unwrap().to_owned();
                let is_new = self.seen.entry(room.clone()).or_default().insert(id.clone());
                assert!(is_new, "{room}: sync brought {id} again");
                brought += 1;
            }
        }
        for message in response["to_device"]["events"].as_array().into_iter().flatten() {
            let mark = message["content"]["mark"].as_str().unwrap().to_owned();
            assert!(!self.messages.contains(&mark), "sync brought message {mark} again");
            self.messages.insert(mark);
            brought += 1;
        }
        self.since = response["next_batch"].as_str().unwrap().to_owned();
        brought
    }

    /// Checks that syncs have brought every event of every room, and no others.
    pub fn check(&self, rooms: &[String], timelines: &[Timeline]) {
        for (room, timeline) in rooms.iter().zip(timelines) {
            let there: HashSet<_> = timeline.events.iter().map(|seen| seen.event_id.clone()).collect();
            let brought = self.seen.get(room).cloned().unwrap_or_default();
            let missed: Vec<_> = there.difference(&brought).collect();
            let invented: Vec<_> = brought.difference(&there).collect();
            assert!(missed.is_empty() && invented.is_empty(), "{room}: sync missed {missed:?}, invented {invented:?}");
        }
    }
}

fn sync_path(since: Option<&str>, timeout_ms: u32) -> String {
    let filter = json!({"room": {"timeline": {"limit": SYNC_LIMIT}}, "presence": {"types": []}}).to_string();
    let since = since.map(|since| format!("&since={}", encode_path_segment(since))).unwrap_or_default();
    format!("/sync?timeout={timeout_ms}&filter={}{since}", encode_path_segment(&filter))
}
