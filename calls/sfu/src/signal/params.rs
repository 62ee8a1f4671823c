//! What a client says in the address with which it connects: the older form, one parameter for each
//! fact, and the newer one, a protobuf message.

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::io::Read;

use base64::Engine;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use flate2::read::GzDecoder;
use livekit_protocol as proto;
use prost::Message;
use serde::Deserialize;

/// A longer join request is refused, before and after it was decompressed.
const MAX_JOIN_REQUEST: u64 = 1024 * 1024;

const URL_SAFE: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::URL_SAFE,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// The parameters of the address.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Query {
    pub access_token: Option<String>,
    join_request: Option<String>,
    auto_subscribe: Option<String>,
    adaptive_stream: Option<String>,
    reconnect: Option<String>,
    sid: String,
    sdk: String,
    version: String,
    protocol: String,
    client_protocol: String,
    os: String,
    os_version: String,
    device_model: String,
    browser: String,
    browser_version: String,
    network: String,
}

/// What a client says when it connects.
#[derive(Debug, Default, PartialEq)]
pub struct Hello {
    pub client: proto::ClientInfo,
    pub auto_subscribe: bool,
    pub adaptive_stream: bool,
    pub metadata: String,
    pub attributes: HashMap<String, String>,
    pub tracks: Vec<proto::AddTrackRequest>,
    pub offer: Option<proto::SessionDescription>,
    /// The session to be taken up again.
    pub resume: Option<String>,
}

/// The join request cannot be read; the client's fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the join request cannot be read")]
pub struct BadJoinRequest;

impl Query {
    /// What a client says on the newer path.
    ///
    /// # Errors
    /// [`BadJoinRequest`]: not Base64, not gzip, not the message, or too large.
    pub fn read_request(&self) -> Result<Hello, BadJoinRequest> {
        let Some(text) = &self.join_request else {
            return Ok(Hello { auto_subscribe: true, ..Hello::default() });
        };
        let wrapped = URL_SAFE.decode(text).map_err(|_| BadJoinRequest)?;
        let wrapped = proto::WrappedJoinRequest::decode(wrapped.as_slice()).map_err(|_| BadJoinRequest)?;
        let bytes = match proto::wrapped_join_request::Compression::try_from(wrapped.compression) {
            Ok(proto::wrapped_join_request::Compression::Gzip) => unzip(&wrapped.join_request)?,
            _ => wrapped.join_request,
        };
        let request = proto::JoinRequest::decode(bytes.as_slice()).map_err(|_| BadJoinRequest)?;
        let settings = request.connection_settings;
        Ok(Hello {
            client: request.client_info.unwrap_or_default(),
            auto_subscribe: settings.as_ref().is_none_or(|settings| settings.auto_subscribe),
            adaptive_stream: settings.is_some_and(|settings| settings.adaptive_stream),
            metadata: request.metadata,
            attributes: request.participant_attributes,
            tracks: request.add_track_requests,
            offer: request.publisher_offer,
            resume: request.reconnect.then_some(request.participant_sid),
        })
    }

    /// What a client says on the older path.
    pub fn read_flags(&self) -> Hello {
        let flag = |value: &Option<String>| value.as_deref().is_some_and(|value| matches!(value, "1" | "true"));
        let client = proto::ClientInfo {
            version: self.version.clone(),
            protocol: self.protocol.parse().unwrap_or_default(),
            client_protocol: self.client_protocol.parse().unwrap_or_default(),
            os: self.os.clone(),
            os_version: self.os_version.clone(),
            device_model: self.device_model.clone(),
            browser: self.browser.clone(),
            browser_version: self.browser_version.clone(),
            network: self.network.clone(),
            other_sdks: self.sdk.clone(),
            ..Default::default()
        };
        Hello {
            client,
            auto_subscribe: self.auto_subscribe.is_none() || flag(&self.auto_subscribe),
            adaptive_stream: flag(&self.adaptive_stream),
            resume: flag(&self.reconnect).then(|| self.sid.clone()),
            ..Hello::default()
        }
    }
}

fn unzip(bytes: &[u8]) -> Result<Vec<u8>, BadJoinRequest> {
    let mut unzipped = Vec::new();
    // One byte more than allowed shows that there is more.
    let mut limited = GzDecoder::new(bytes).take(MAX_JOIN_REQUEST + 1);
    limited.read_to_end(&mut unzipped).map_err(|_| BadJoinRequest)?;
    if unzipped.len() as u64 > MAX_JOIN_REQUEST {
        return Err(BadJoinRequest);
    }
    Ok(unzipped)
}
