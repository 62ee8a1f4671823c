//! A participant of a call on the `webrtc` crate, whose ICE, DTLS, SRTP and SCTP are of its own:
//! `webrtc-rs-peer URL TOKEN [relay]`, with the address of the signalling and, if wanted, by way of the relay only.
//!
//! It joins over two connections, publishes sound and pictures, and counts what it receives. What happens is said line by
//! line on the standard output: `joined`, `published KIND`, `way LOCAL REMOTE`, `received KIND COUNT`, `data FROM TEXT`,
//! `gone WHO`. A line on the standard input is sent as a message to all; its end is the end of the call.

mod peers;

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use livekit_protocol as proto;
use prost::Message as _;
use proto::signal_request::Message as Request;
use proto::signal_response::Message as Response;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio_tungstenite::tungstenite::Message as Frame;
use webrtc::data_channel::RTCDataChannel;
use webrtc::data_channel::data_channel_state::RTCDataChannelState;
use webrtc::peer_connection::RTCPeerConnection;
use webrtc::peer_connection::sdp::session_description::RTCSessionDescription;

use crate::peers::{Outgoing, connection};

pub type Failure = Box<dyn Error + Send + Sync>;

/// The server hangs up on who says nothing for long.
const PING_EVERY: Duration = Duration::from_secs(5);

/// The connections of a participant who has joined.
struct Call {
    publisher: Arc<RTCPeerConnection>,
    subscriber: Arc<RTCPeerConnection>,
    reliable: Arc<RTCDataChannel>,
    outgoing: Vec<Outgoing>,
}

impl Call {
    async fn join(join: &proto::JoinResponse, relay: bool) -> Result<Call, Failure> {
        let publisher = connection(&join.ice_servers, relay).await?;
        let subscriber = connection(&join.ice_servers, relay).await?;
        peers::count_what_comes(&subscriber);
        peers::tell_way(&publisher);
        let reliable = publisher.create_data_channel("_reliable", None).await?;
        publisher.create_data_channel("_lossy", None).await?;
        let outgoing = vec![Outgoing::audio(&publisher).await?, Outgoing::video(&publisher).await?];
        println!("joined");
        Ok(Call { publisher, subscriber, reliable, outgoing })
    }

    /// What the server is told so that the tracks are published.
    async fn publish(&self) -> Result<Vec<Request>, Failure> {
        let mut requests: Vec<Request> =
            self.outgoing.iter().map(|track| Request::AddTrack(track.description.clone())).collect();
        let mut gathered = self.publisher.gathering_complete_promise().await;
        let offer = self.publisher.create_offer(None).await?;
        self.publisher.set_local_description(offer).await?;
        gathered.recv().await;
        let offer = self.publisher.local_description().await.ok_or("no offer")?;
        requests.push(Request::Offer(proto::SessionDescription {
            r#type: "offer".to_owned(),
            sdp: offer.sdp,
            ..Default::default()
        }));
        Ok(requests)
    }

    async fn answer(&self, offer: proto::SessionDescription) -> Result<Request, Failure> {
        self.subscriber.set_remote_description(RTCSessionDescription::offer(offer.sdp)?).await?;
        let mut gathered = self.subscriber.gathering_complete_promise().await;
        let answer = self.subscriber.create_answer(None).await?;
        self.subscriber.set_local_description(answer).await?;
        gathered.recv().await;
        let answer = self.subscriber.local_description().await.ok_or("no answer")?;
        Ok(Request::Answer(proto::SessionDescription {
            r#type: "answer".to_owned(),
            sdp: answer.sdp,
            id: offer.id,
            ..Default::default()
        }))
    }

    async fn say(&self, text: &str) -> Result<(), Failure> {
        if self.reliable.ready_state() != RTCDataChannelState::Open {
            return Err("the data channel is not open".into());
        }
        let user = proto::UserPacket { payload: text.as_bytes().to_vec(), ..Default::default() };
        let packet = proto::DataPacket { value: Some(proto::data_packet::Value::User(user)), ..Default::default() };
        self.reliable.send(&packet.encode_to_vec().into()).await?;
        Ok(())
    }
}

/// What a message of the server asks for: what it is answered with.
async fn take(message: Response, call: &mut Option<Call>, relay: bool) -> Result<Vec<Request>, Failure> {
    match (message, call.as_mut()) {
        (Response::Join(join), None) => {
            let joined = Call::join(&join, relay).await?;
            let requests = joined.publish().await?;
            *call = Some(joined);
            return Ok(requests);
        }
        (Response::Offer(offer), Some(call)) => return Ok(vec![call.answer(offer).await?]),
        (Response::Answer(answer), Some(call)) => {
            call.publisher.set_remote_description(RTCSessionDescription::answer(answer.sdp)?).await?;
            for track in call.outgoing.drain(..) {
                println!("published {}", track.description.name);
                track.send();
            }
        }
        (Response::Update(update), _) => {
            let gone = proto::participant_info::State::Disconnected as i32;
            for participant in update.participants.iter().filter(|participant| participant.state == gone) {
                println!("gone {}", participant.identity);
            }
        }
        (Response::Leave(_), _) => return Err("the server ends the session".into()),
        _ => {}
    }
    Ok(Vec::new())
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [url, token, options @ ..] = arguments.as_slice() else {
        return Err("usage: webrtc-rs-peer URL TOKEN [relay]".into());
    };
    let relay = options.iter().any(|option| option == "relay");
    let address = format!("{url}/rtc?access_token={token}&auto_subscribe=1&protocol=15&sdk=rust");
    let (mut socket, _) = tokio_tungstenite::connect_async(address).await?;
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    let mut call: Option<Call> = None;
    let mut pings = tokio::time::interval(PING_EVERY);
    loop {
        let mut requests = tokio::select! {
            frame = socket.next() => match frame.ok_or("the signalling has ended")?? {
                Frame::Binary(bytes) => match proto::SignalResponse::decode(bytes)?.message {
                    Some(message) => take(message, &mut call, relay).await?,
                    None => Vec::new(),
                },
                _ => Vec::new(),
            },
            line = lines.next_line() => match (line?, &call) {
                (Some(line), Some(call)) => {
                    call.say(&line).await?;
                    Vec::new()
                }
                (Some(_), None) => return Err("nobody has joined yet".into()),
                (None, _) => break,
            },
            _ = pings.tick() => vec![Request::Ping(0)],
        };
        for message in requests.drain(..) {
            let request = proto::SignalRequest { message: Some(message) };
            socket.send(Frame::Binary(request.encode_to_vec().into())).await?;
        }
    }
    let leave = proto::SignalRequest { message: Some(Request::Leave(proto::LeaveRequest::default())) };
    socket.send(Frame::Binary(leave.encode_to_vec().into())).await?;
    socket.close(None).await?;
    Ok(())
}
