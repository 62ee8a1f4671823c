//! A client of STUN and TURN, with as much as a self-test needs: what address a server sees (RFC 8489 §7), and an
//! allocation through which datagrams go (RFC 8656).

mod carrier;

use std::net::SocketAddr;
use std::time::Duration;

use md5::{Digest, Md5};
use runtime::{Clock, Random};

pub use carrier::{Carrier, Framing, Stream};

use crate::codec::{Attributes, Class, Integrity, Message, Method, Transaction, Writer, attribute, read_address};

/// How often a request is sent over datagrams before the server counts as silent.
const ATTEMPTS: u32 = 3;
/// What a ping carries.
const PING: &[u8] = b"conduit";
/// How many messages that are no answer are passed over while one is awaited.
const MAX_OTHERS: usize = 16;

/// A question to a STUN or TURN server failed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nothing came back in time: a firewall, another address, or nobody there.
    #[error("no answer")]
    Silent,
    /// The connection or socket failed.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// The server refused.
    #[error("refused with {0}")]
    Refused(u16),
    /// The server answered something that is no answer to the question.
    #[error("the answer cannot be understood")]
    Malformed,
}

/// How to prove who asks.
struct Proof {
    username: String,
    realm: Vec<u8>,
    nonce: Vec<u8>,
    key: [u8; 16],
}

/// One client of one server.
pub struct Client {
    carrier: Carrier,
    clock: Clock,
    random: Random,
    /// How long each attempt may take.
    patience: Duration,
    proof: Option<Proof>,
    out: Vec<u8>,
}

/// What a success answer says.
#[derive(Default)]
struct Granted {
    mapped: Option<SocketAddr>,
    relayed: Option<SocketAddr>,
}

/// What a refusal says.
struct Refusal {
    code: u16,
    realm: Vec<u8>,
    nonce: Vec<u8>,
}

impl From<Refusal> for ClientError {
    fn from(refusal: Refusal) -> ClientError {
        ClientError::Refused(refusal.code)
    }
}

impl Client {
    /// A client over `carrier` that waits `patience` for each answer.
    #[must_use]
    pub fn new(carrier: Carrier, clock: Clock, random: Random, patience: Duration) -> Client {
        Client { carrier, clock, random, patience, proof: None, out: Vec::new() }
    }

    /// Under which address the server sees this client (RFC 8489 §7.3.3). Cancel-safe.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn ask_address(&mut self) -> Result<SocketAddr, ClientError> {
        self.be_granted(Method::Binding, &mut |_| {}).await?.mapped.ok_or(ClientError::Malformed)
    }

    /// As [`Client::ask_address`], of a media server, under a user name that it answers.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn ask_address_as(&mut self, username: &str) -> Result<SocketAddr, ClientError> {
        let mut fill = |writer: &mut Writer<'_>| {
            writer.add(attribute::USERNAME, username.as_bytes());
        };
        self.be_granted(Method::Binding, &mut fill).await?.mapped.ok_or(ClientError::Malformed)
    }

    /// Allocates a relay address, of IPv4 if the server has it: asks without credentials first, as clients do. Not
    /// cancel-safe.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn allocate(&mut self, username: &str, password: &str) -> Result<SocketAddr, ClientError> {
        match self.try_allocate(username, password, &[]).await {
            Err(ClientError::Refused(440)) => self.try_allocate(username, password, &[2, 0, 0, 0]).await,
            done => done,
        }
    }

    async fn try_allocate(&mut self, username: &str, password: &str, family: &[u8]) -> Result<SocketAddr, ClientError> {
        let mut fill = |writer: &mut Writer<'_>| {
            writer.add(attribute::REQUESTED_TRANSPORT, &[17, 0, 0, 0]);
            if !family.is_empty() {
                writer.add(attribute::REQUESTED_ADDRESS_FAMILY, family);
            }
        };
        let mut answer = self.ask(Method::Allocate, &mut fill).await?;
        if let Err(Refusal { code: 401, realm, nonce }) = answer {
            let mut hash = Md5::new();
            for part in [username.as_bytes(), b":", &realm, b":", password.as_bytes()] {
                hash.update(part);
            }
            let key = hash.finalize().into();
            self.proof = Some(Proof { username: username.to_owned(), realm, nonce, key });
            answer = self.ask(Method::Allocate, &mut fill).await?;
        }
        answer?.relayed.ok_or(ClientError::Malformed)
    }

    /// Lets `peer` send to the relay address, and this client to it.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn permit(&mut self, peer: SocketAddr) -> Result<(), ClientError> {
        let mut fill = |writer: &mut Writer<'_>| {
            writer.add_address(attribute::XOR_PEER_ADDRESS, peer);
        };
        self.be_granted(Method::CreatePermission, &mut fill).await.map(drop)
    }

    /// Gives the allocation back. Its end is not awaited any longer than an answer.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn release(&mut self) -> Result<(), ClientError> {
        let mut fill = |writer: &mut Writer<'_>| {
            writer.add(attribute::LIFETIME, &[0; 4]);
        };
        self.be_granted(Method::Refresh, &mut fill).await.map(drop)
    }

    /// Sends `data` from the relay address to `peer`, which was permitted.
    ///
    /// # Errors
    /// [`ClientError::Io`].
    pub async fn send(&mut self, peer: SocketAddr, data: &[u8]) -> Result<(), ClientError> {
        let transaction = self.transaction();
        let mut writer = Writer::new(&mut self.out, Class::Indication, Method::Send, &transaction);
        writer.add_address(attribute::XOR_PEER_ADDRESS, peer).add(attribute::DATA, data);
        writer.finish();
        Ok(self.carrier.send(&self.out).await?)
    }

    /// The next datagram that came to the relay address: from whom, and what. Cancel-safe over datagrams.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn receive(&mut self) -> Result<(SocketAddr, Vec<u8>), ClientError> {
        for _ in 0..MAX_OTHERS {
            let received = self.clock.timeout(self.patience, self.carrier.receive()).await;
            let bytes = received.ok_or(ClientError::Silent)??;
            let Ok(message) = Message::parse(&bytes) else { continue };
            if (message.class(), message.method()) != (Class::Indication, Method::Data) {
                continue;
            }
            let attributes = Attributes::read(&message).ok_or(ClientError::Malformed)?;
            let (peer, data) = attributes.peer.zip(attributes.data).ok_or(ClientError::Malformed)?;
            return Ok((peer, data.to_vec()));
        }
        Err(ClientError::Malformed)
    }

    /// Allocates for this client and `other`, sends a datagram from one relay address to the other and one back, and
    /// gives both back: this client's relay address, and how long the way there and back took. Not cancel-safe.
    ///
    /// # Errors
    /// [`ClientError`], of whichever step fails.
    pub async fn ping_through(
        &mut self,
        other: &mut Client,
        username: &str,
        password: &str,
    ) -> Result<(SocketAddr, Duration), ClientError> {
        let here = self.allocate(username, password).await?;
        let there = other.allocate(username, password).await?;
        self.permit(there).await?;
        other.permit(here).await?;
        let begun = self.clock.monotonic();
        self.send(there, PING).await?;
        let (from, data) = other.receive().await?;
        if from != here || data != PING {
            return Err(ClientError::Malformed);
        }
        other.send(here, PING).await?;
        self.receive().await?;
        let taken = self.clock.monotonic().saturating_sub(begun);
        self.release().await?;
        other.release().await?;
        Ok((here, taken))
    }

    fn transaction(&self) -> Transaction {
        let mut transaction = [0; 12];
        self.random.fill(&mut transaction);
        transaction
    }

    /// As [`Client::ask`], for requests of which a refusal is the end.
    async fn be_granted(
        &mut self,
        method: Method,
        fill: &mut (dyn FnMut(&mut Writer<'_>) + Send),
    ) -> Result<Granted, ClientError> {
        Ok(self.ask(method, fill).await??)
    }

    /// Sends a request, again over datagrams if nothing comes, and takes its answer.
    async fn ask(
        &mut self,
        method: Method,
        fill: &mut (dyn FnMut(&mut Writer<'_>) + Send),
    ) -> Result<Result<Granted, Refusal>, ClientError> {
        let transaction = self.transaction();
        let mut writer = Writer::new(&mut self.out, Class::Request, method, &transaction);
        fill(&mut writer);
        if let Some(proof) = &self.proof {
            writer.add(attribute::USERNAME, proof.username.as_bytes());
            writer.add(attribute::REALM, &proof.realm).add(attribute::NONCE, &proof.nonce);
            writer.protect(Integrity::Sha1, &proof.key);
        }
        writer.finish();
        let attempts = if self.carrier.is_reliable() { 1 } else { ATTEMPTS };
        for _ in 0..attempts {
            self.carrier.send(&self.out).await?;
            let answer = self.clock.timeout(self.patience, await_answer(&mut self.carrier, &transaction)).await;
            if let Some(answer) = answer {
                return answer;
            }
        }
        Err(ClientError::Silent)
    }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").finish_non_exhaustive()
    }
}

async fn await_answer(
    carrier: &mut Carrier,
    transaction: &Transaction,
) -> Result<Result<Granted, Refusal>, ClientError> {
    for _ in 0..MAX_OTHERS {
        let bytes = carrier.receive().await?;
        let Ok(message) = Message::parse(&bytes) else { continue };
        if message.transaction() != transaction {
            continue;
        }
        match message.class() {
            Class::Success => return Ok(Ok(read_granted(&message))),
            Class::Error => return read_refusal(&message).map(Err).ok_or(ClientError::Malformed),
            Class::Request | Class::Indication => {}
        }
    }
    Err(ClientError::Malformed)
}

fn read_granted(message: &Message<'_>) -> Granted {
    let mut granted = Granted::default();
    for (kind, value, _) in message.attributes() {
        let address = || read_address(value, message.transaction());
        match kind {
            attribute::XOR_MAPPED_ADDRESS => granted.mapped = address(),
            attribute::XOR_RELAYED_ADDRESS => granted.relayed = address(),
            _ => {}
        }
    }
    granted
}

fn read_refusal(message: &Message<'_>) -> Option<Refusal> {
    let mut refusal = Refusal { code: 0, realm: Vec::new(), nonce: Vec::new() };
    for (kind, value, _) in message.attributes() {
        match kind {
            attribute::ERROR_CODE => {
                let [_, _, class, number, ..] = value else { return None };
                refusal.code = u16::from(*class & 7) * 100 + u16::from(*number);
            }
            attribute::REALM => refusal.realm = value.to_vec(),
            attribute::NONCE => refusal.nonce = value.to_vec(),
            _ => {}
        }
    }
    (refusal.code != 0).then_some(refusal)
}
