//! `mxc://` URIs.

use std::fmt;

use spec::ids::ServerName;

/// The longest media id, in bytes.
const MAX_MEDIA_ID_BYTES: usize = 255;

/// The address of media: `mxc://<server>/<media id>`. Both parts are checked, so they are safe in paths and keys.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Mxc {
    server: ServerName,
    media_id: Box<str>,
}

/// The text is no valid `mxc://` URI. The client's fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid mxc:// URI")]
pub struct InvalidMxc;

impl Mxc {
    /// Checks both parts. Client-Server API §Security considerations (content repository).
    pub fn new(server: &str, media_id: &str) -> Result<Self, InvalidMxc> {
        let server = ServerName::parse(server).map_err(|_| InvalidMxc)?;
        Self::with_server(server, media_id)
    }

    /// Checks the media id: 1 to 255 letters, digits, `_` and `-`.
    pub fn with_server(server: ServerName, media_id: &str) -> Result<Self, InvalidMxc> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
        if media_id.is_empty() || media_id.len() > MAX_MEDIA_ID_BYTES || !media_id.bytes().all(allowed) {
            return Err(InvalidMxc);
        }
        Ok(Self { server, media_id: media_id.into() })
    }

    /// Parses a whole URI.
    pub fn parse(uri: &str) -> Result<Self, InvalidMxc> {
        let (server, media_id) = uri.strip_prefix("mxc://").and_then(|rest| rest.split_once('/')).ok_or(InvalidMxc)?;
        Self::new(server, media_id)
    }

    /// The server that the media comes from.
    pub fn server(&self) -> &ServerName {
        &self.server
    }

    /// The id on that server.
    pub fn media_id(&self) -> &str {
        &self.media_id
    }

    /// The key of rows about this media.
    pub(crate) fn key(&self) -> (String, String) {
        (self.server.as_str().to_owned(), self.media_id.to_string())
    }
}

impl fmt::Display for Mxc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "mxc://{}/{}", self.server.as_str(), self.media_id)
    }
}
