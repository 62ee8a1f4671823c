//! A client of its own making, so that the relay's codec is not tested against itself.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use hmac::digest::KeyInit;
use hmac::{Hmac, Mac};
use md5::{Digest, Md5};
use sha1::Sha1;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::UdpSocket;
use turn::Credentials;

pub const ALLOCATE: u16 = 3;
pub const REFRESH: u16 = 4;
pub const CREATE_PERMISSION: u16 = 8;
pub const CHANNEL_BIND: u16 = 9;

/// How long a test waits for what has to come.
const PATIENCE: Duration = Duration::from_secs(60);

/// Attributes, in the order they are sent.
pub type Attributes = Vec<(u16, Vec<u8>)>;

/// How messages are carried.
pub trait Carrier {
    async fn send(&mut self, message: &[u8]);
    /// `None` at the end of a stream.
    async fn receive(&mut self) -> Option<Vec<u8>>;
}

pub struct Udp(pub UdpSocket);

impl Carrier for Udp {
    async fn send(&mut self, message: &[u8]) {
        self.0.send(message).await.unwrap();
    }

    async fn receive(&mut self) -> Option<Vec<u8>> {
        let mut bytes = vec![0; 65536];
        let len = patiently(self.0.recv(&mut bytes)).await.unwrap();
        bytes.truncate(len);
        Some(bytes)
    }
}

pub struct Stream<S>(pub S);

impl<S: AsyncRead + AsyncWrite + Unpin> Carrier for Stream<S> {
    async fn send(&mut self, message: &[u8]) {
        // In two halves, as a network may deliver it.
        let (first, second) = message.split_at(message.len() / 2);
        self.0.write_all(first).await.unwrap();
        self.0.flush().await.unwrap();
        self.0.write_all(second).await.unwrap();
        self.0.flush().await.unwrap();
    }

    async fn receive(&mut self) -> Option<Vec<u8>> {
        let mut message = vec![0; 4];
        patiently(self.0.read_exact(&mut message)).await.ok()?;
        let length = usize::from(u16::from_be_bytes([message[2], message[3]]));
        let rest = if message[0] < 0x40 { 16 + length } else { length.next_multiple_of(4) };
        message.resize(4 + rest, 0);
        patiently(self.0.read_exact(&mut message[4..])).await.ok()?;
        Some(message)
    }
}

pub async fn patiently<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("it takes too long")
}

pub struct Client<C> {
    pub carrier: C,
    credentials: Credentials,
    nonce: Vec<u8>,
    transaction: u8,
}

pub async fn udp_client(server: SocketAddr, credentials: Credentials) -> Client<Udp> {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.connect(server).await.unwrap();
    Client::new(Udp(socket), credentials)
}

impl<C: Carrier> Client<C> {
    pub fn new(carrier: C, credentials: Credentials) -> Client<C> {
        Client { carrier, credentials, nonce: Vec::new(), transaction: 0 }
    }

    /// Allocates as clients do: without credentials first. The relay address.
    pub async fn allocate(&mut self) -> SocketAddr {
        let request = vec![(0x19, vec![17, 0, 0, 0])];
        let challenge = self.ask(ALLOCATE, request.clone()).await.unwrap_err();
        assert_eq!(challenge.0, 401);
        self.nonce = find(&challenge.1, 0x15).unwrap();
        let granted = self.ask(ALLOCATE, request).await.unwrap();
        xor_address(&find(&granted, 0x16).unwrap())
    }

    pub async fn permit(&mut self, peer: SocketAddr) {
        self.ask(CREATE_PERMISSION, vec![(0x12, xored(peer))]).await.unwrap();
    }

    pub async fn bind(&mut self, number: u16, peer: SocketAddr) {
        let [n0, n1] = number.to_be_bytes();
        self.ask(CHANNEL_BIND, vec![(0xc, vec![n0, n1, 0, 0]), (0x12, xored(peer))]).await.unwrap();
    }

    /// Sends a request and takes its answer: attributes, or an error code with them.
    pub async fn ask(&mut self, method: u16, mut attributes: Attributes) -> Result<Attributes, (u16, Attributes)> {
        self.transaction += 1;
        let Credentials { username, password, .. } = self.credentials.clone();
        let mut key = None;
        if !self.nonce.is_empty() {
            attributes.push((6, username.clone().into_bytes()));
            attributes.push((0x14, b"a.org".to_vec()));
            attributes.push((0x15, self.nonce.clone()));
            key = Some(Md5::digest(format!("{username}:a.org:{password}")));
        }
        let message = message(method, self.transaction, &attributes, key.as_deref());
        self.carrier.send(&message).await;
        let answer = self.carrier.receive().await.expect("an answer");
        assert_eq!(answer[8..20], message[8..20], "the answer to this request");
        let kind = u16::from_be_bytes([answer[0], answer[1]]);
        let attributes = parse(&answer);
        match kind & 0x110 {
            0x100 => Ok(attributes),
            0x110 => {
                let error = find(&attributes, 9).unwrap();
                Err((u16::from(error[2]) * 100 + u16::from(error[3]), attributes))
            }
            _ => panic!("no answer: {answer:?}"),
        }
    }

    /// Sends an indication.
    pub async fn indicate(&mut self, peer: SocketAddr, data: &[u8]) {
        let message = message(0x16, 0, &[(0x12, xored(peer)), (0x13, data.to_vec())], None);
        self.carrier.send(&message).await;
    }

    pub async fn send_channel(&mut self, number: u16, data: &[u8]) {
        let mut frame = number.to_be_bytes().to_vec();
        frame.extend_from_slice(&u16::try_from(data.len()).unwrap().to_be_bytes());
        frame.extend_from_slice(data);
        frame.resize(frame.len().next_multiple_of(4), 0);
        self.carrier.send(&frame).await;
    }

    /// The next Data indication: from whom, and what.
    pub async fn data(&mut self) -> (SocketAddr, Vec<u8>) {
        let message = self.carrier.receive().await.unwrap();
        assert_eq!(message[..2], [0, 0x17], "a Data indication");
        let attributes = parse(&message);
        (xor_address(&find(&attributes, 0x12).unwrap()), find(&attributes, 0x13).unwrap())
    }

    /// The next ChannelData: the channel, and what.
    pub async fn channel_data(&mut self) -> (u16, Vec<u8>) {
        let message = self.carrier.receive().await.unwrap();
        let length = usize::from(u16::from_be_bytes([message[2], message[3]]));
        (u16::from_be_bytes([message[0], message[1]]), message[4..4 + length].to_vec())
    }
}

fn message(kind: u16, transaction: u8, attributes: &[(u16, Vec<u8>)], key: Option<&[u8]>) -> Vec<u8> {
    let mut body = Vec::new();
    for (kind, value) in attributes {
        body.extend_from_slice(&kind.to_be_bytes());
        body.extend_from_slice(&u16::try_from(value.len()).unwrap().to_be_bytes());
        body.extend_from_slice(value);
        body.resize(body.len().next_multiple_of(4), 0);
    }
    let length = body.len() + if key.is_some() { 24 } else { 0 };
    let mut out = kind.to_be_bytes().to_vec();
    out.extend_from_slice(&u16::try_from(length).unwrap().to_be_bytes());
    out.extend_from_slice(&0x2112_a442_u32.to_be_bytes());
    out.extend_from_slice(&[transaction; 12]);
    out.extend_from_slice(&body);
    if let Some(key) = key {
        let mut mac = <Hmac<Sha1> as KeyInit>::new_from_slice(key).unwrap();
        mac.update(&out);
        out.extend_from_slice(&[0, 8, 0, 20]);
        out.extend_from_slice(&mac.finalize().into_bytes());
    }
    out
}

fn parse(message: &[u8]) -> Attributes {
    let mut attributes = Vec::new();
    let mut rest = &message[20..];
    while let [k0, k1, l0, l1, after @ ..] = rest {
        let length = usize::from(u16::from_be_bytes([*l0, *l1]));
        attributes.push((u16::from_be_bytes([*k0, *k1]), after[..length].to_vec()));
        rest = &after[length.next_multiple_of(4)..];
    }
    attributes
}

fn find(attributes: &[(u16, Vec<u8>)], kind: u16) -> Option<Vec<u8>> {
    attributes.iter().find(|(found, _)| *found == kind).map(|(_, value)| value.clone())
}

/// IPv4 only.
fn xored(address: SocketAddr) -> Vec<u8> {
    let IpAddr::V4(ip) = address.ip() else { panic!("IPv4 here") };
    let mut value = vec![0, 1];
    value.extend_from_slice(&(address.port() ^ 0x2112).to_be_bytes());
    value.extend_from_slice(&(u32::from(ip) ^ 0x2112_a442).to_be_bytes());
    value
}

fn xor_address(value: &[u8]) -> SocketAddr {
    let port = u16::from_be_bytes([value[2], value[3]]) ^ 0x2112;
    let ip = u32::from_be_bytes(value[4..8].try_into().unwrap()) ^ 0x2112_a442;
    SocketAddr::from((ip.to_be_bytes(), port))
}
