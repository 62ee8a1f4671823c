//! The simulated network.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use bytes::Bytes;
use federation::{AnswerBody, Transport, TransportError};
use http::{Method, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Full};
use parking_lot::Mutex;
use runtime::{CancellationToken, Clock, Random};
use spec::ids::ServerName;
use tower::ServiceExt;

/// What a link does to requests. Chances are of a thousand.
#[derive(Clone, Copy, Debug)]
pub struct Conditions {
    /// The shortest way in one direction.
    pub min_delay: Duration,
    /// The longest: requests that take different times overtake each other.
    pub max_delay: Duration,
    /// The connection breaks before the request arrives.
    pub lost_before: u64,
    /// The connection breaks after the request was carried out.
    pub lost_after: u64,
    /// The request vanishes and nobody says so.
    pub silent: u64,
}

impl Conditions {
    /// Everything arrives, soon.
    #[must_use]
    pub fn calm() -> Conditions {
        let (min_delay, max_delay) = (Duration::from_millis(5), Duration::from_millis(30));
        Conditions { min_delay, max_delay, lost_before: 0, lost_after: 0, silent: 0 }
    }

    /// Late and unreliable.
    #[must_use]
    pub fn rough() -> Conditions {
        let (min_delay, max_delay) = (Duration::from_millis(5), Duration::from_millis(900));
        Conditions { min_delay, max_delay, lost_before: 60, lost_after: 60, silent: 20 }
    }
}

/// One request and its answer, as they arrived.
pub struct Carried<'a> {
    /// Who asked.
    pub asker: &'a ServerName,
    /// Who was asked.
    pub asked: &'a ServerName,
    /// The method.
    pub method: &'a Method,
    /// Path and query.
    pub uri: &'a Uri,
    /// The body of the request.
    pub request: &'a [u8],
    /// The answer's status.
    pub status: StatusCode,
    /// The answer's body; empty if the asker did not get it.
    pub answer: &'a [u8],
}

type Observer = Arc<dyn Fn(&Carried<'_>) + Send + Sync>;
type Link = (ServerName, ServerName);

/// What becomes of one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Arrives,
    LostBefore,
    LostAfter,
    Silent,
}

/// All servers' way to each other. A cheap handle.
#[derive(Clone)]
pub struct SimNetwork(Arc<Shared>);

struct Shared {
    seed: u64,
    clock: Clock,
    state: Mutex<State>,
}

struct State {
    /// The routers, and what breaks the connections to them.
    servers: BTreeMap<ServerName, (Router, CancellationToken)>,
    /// Links that carry nothing at present, in this direction.
    down: BTreeSet<Link>,
    conditions: Conditions,
    /// How much later requests arrive whose path begins so.
    held: Vec<(String, Duration)>,
    /// Each link draws its own fates, so that traffic elsewhere does not change them.
    links: BTreeMap<Link, Random>,
    observer: Option<Observer>,
    under_way: usize,
    last_moved: Duration,
}

impl SimNetwork {
    /// A network without servers.
    #[must_use]
    pub fn new(seed: u64, clock: Clock) -> SimNetwork {
        let last_moved = clock.monotonic();
        let state = State {
            servers: BTreeMap::new(),
            down: BTreeSet::new(),
            conditions: Conditions::calm(),
            held: Vec::new(),
            links: BTreeMap::new(),
            observer: None,
            under_way: 0,
            last_moved,
        };
        SimNetwork(Arc::new(Shared { seed, clock, state: Mutex::new(state) }))
    }

    /// Puts a server at its name.
    pub fn attach(&self, name: &ServerName, router: Router) {
        self.0.state.lock().servers.insert(name.clone(), (router, CancellationToken::new()));
    }

    /// Takes a server away: it can no longer be reached, and what it was asked is not answered.
    pub fn detach(&self, name: &ServerName) {
        let removed = self.0.state.lock().servers.remove(name);
        if let Some((_, connections)) = removed {
            connections.cancel();
        }
    }

    /// What all links do from now on.
    pub fn set_conditions(&self, conditions: Conditions) {
        self.0.state.lock().conditions = conditions;
    }

    /// From now on requests whose path begins with `path` take `time` longer, on all links.
    pub fn hold(&self, path: &str, time: Duration) {
        self.0.state.lock().held.push((path.to_owned(), time));
    }

    /// Nothing is held any longer that is asked from now on.
    pub fn release(&self) {
        self.0.state.lock().held.clear();
    }

    /// Cuts a link in both directions.
    pub fn cut(&self, one: &ServerName, other: &ServerName) {
        let mut state = self.0.state.lock();
        state.down.insert((one.clone(), other.clone()));
        state.down.insert((other.clone(), one.clone()));
    }

    /// Mends all links.
    pub fn mend(&self) {
        self.0.state.lock().down.clear();
    }

    /// Shows every exchange to `observer`.
    pub fn observe(&self, observer: impl Fn(&Carried<'_>) + Send + Sync + 'static) {
        self.0.state.lock().observer = Some(Arc::new(observer));
    }

    /// For how long nothing has been carried.
    #[must_use]
    pub fn idle_for(&self) -> Duration {
        let state = self.0.state.lock();
        if state.under_way > 0 {
            return Duration::ZERO;
        }
        self.0.clock.monotonic().saturating_sub(state.last_moved)
    }

    /// The way to others for one server.
    #[must_use]
    pub fn transport(&self, server: &ServerName) -> Arc<dyn Transport> {
        Arc::new(Way { network: self.clone(), server: server.clone() })
    }

    /// Carries a request and brings the answer back. Dropping the future breaks the connection.
    ///
    /// # Errors
    /// [`TransportError::Unreachable`] if either is lost.
    pub async fn carry(
        &self,
        asker: &ServerName,
        asked: &ServerName,
        request: Request<Bytes>,
    ) -> Result<Response<Bytes>, TransportError> {
        let _moving = Moving::start(self);
        let (fate, there, back) = self.draw(asker, asked);
        self.0.clock.sleep(there + self.held_for(request.uri().path())).await;
        let (router, connections) = self.router_of(asker, asked)?;
        match fate {
            Fate::LostBefore => return Err(broken()),
            Fate::Silent => return std::future::pending().await,
            Fate::Arrives | Fate::LostAfter => {}
        }
        let (parts, body) = request.into_parts();
        let (method, uri, sent) = (parts.method.clone(), parts.uri.clone(), body.clone());
        let answering = async {
            // A router is always ready and never fails by itself.
            let response = router.oneshot(Request::from_parts(parts, Body::from(body))).await.map_err(|_| broken())?;
            let (head, body) = response.into_parts();
            Ok((head, body.collect().await.map_err(|_| broken())?.to_bytes()))
        };
        let answered = connections.run_until_cancelled_owned(answering).await;
        let (head, body) = answered.unwrap_or_else(|| Err(broken()))?;
        self.0.clock.sleep(back).await;
        let is_lost = fate == Fate::LostAfter || self.router_of(asker, asked).is_err();
        let observer = self.0.state.lock().observer.clone();
        if let Some(observer) = observer {
            let answer: &[u8] = if is_lost { &[] } else { &body };
            let (method, uri, request, status) = (&method, &uri, &sent[..], head.status);
            observer(&Carried { asker, asked, method, uri, request, status, answer });
        }
        if is_lost { Err(broken()) } else { Ok(Response::from_parts(head, body)) }
    }

    fn held_for(&self, path: &str) -> Duration {
        let state = self.0.state.lock();
        state.held.iter().filter(|(held, _)| path.starts_with(held)).map(|(_, time)| *time).sum()
    }

    fn router_of(&self, asker: &ServerName, asked: &ServerName) -> Result<(Router, CancellationToken), TransportError> {
        let state = self.0.state.lock();
        let is_cut = state.down.contains(&(asker.clone(), asked.clone()));
        let router =
            if is_cut || !state.servers.contains_key(asker) { None } else { state.servers.get(asked).cloned() };
        router.ok_or_else(|| TransportError::Unreachable("no way to it".to_owned()))
    }

    fn draw(&self, asker: &ServerName, asked: &ServerName) -> (Fate, Duration, Duration) {
        let mut state = self.0.state.lock();
        let conditions = state.conditions;
        let seed = link_seed(self.0.seed, asker, asked);
        let link = (asker.clone(), asked.clone());
        let random = state.links.entry(link).or_insert_with(|| Random::seeded(seed));
        let spread = conditions.max_delay.saturating_sub(conditions.min_delay).as_millis() as u64 + 1;
        let delay = || conditions.min_delay + Duration::from_millis(random.below(spread));
        let (there, back) = (delay(), delay());
        let drawn = random.below(1000);
        let (before, after) = (conditions.lost_before, conditions.lost_before + conditions.lost_after);
        let fate = match drawn {
            _ if drawn < before => Fate::LostBefore,
            _ if drawn < after => Fate::LostAfter,
            _ if drawn < after + conditions.silent => Fate::Silent,
            _ => Fate::Arrives,
        };
        (fate, there, back)
    }
}

/// Marks that something is under way for as long as it lives.
struct Moving(SimNetwork);

impl Moving {
    fn start(network: &SimNetwork) -> Moving {
        network.0.state.lock().under_way += 1;
        Moving(network.clone())
    }
}

impl Drop for Moving {
    fn drop(&mut self) {
        let now = self.0.0.clock.monotonic();
        let mut state = self.0.0.state.lock();
        state.under_way -= 1;
        state.last_moved = now;
    }
}

fn broken() -> TransportError {
    TransportError::Unreachable("the connection broke".to_owned())
}

/// FNV-1a over seed and names.
fn link_seed(seed: u64, asker: &ServerName, asked: &ServerName) -> u64 {
    let names = asker.as_str().bytes().chain([0]).chain(asked.as_str().bytes());
    let start = 0xcbf2_9ce4_8422_2325 ^ seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    names.fold(start, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

/// One server's way to the others.
struct Way {
    network: SimNetwork,
    server: ServerName,
}

/// What [`Transport`] returns.
type Sending<'a> = std::pin::Pin<Box<dyn Future<Output = Result<Response<AnswerBody>, TransportError>> + Send + 'a>>;

impl Transport for Way {
    fn send(&self, destination: ServerName, request: Request<Bytes>) -> Sending<'_> {
        Box::pin(async move {
            let answer = self.network.carry(&self.server, &destination, request).await?;
            Ok(answer.map(|body| Full::new(body).map_err(|never| match never {}).boxed()))
        })
    }

    fn get_url(&self, _: Uri) -> Sending<'_> {
        let nowhere = TransportError::Unreachable("the simulation has no other addresses".to_owned());
        Box::pin(std::future::ready(Err(nowhere)))
    }
}
