//! The `X-Matrix` scheme, by which servers sign their requests to each other (Server-Server API §Request
//! Authentication).
//!
//! Reading is as tolerant as the specification asks: any order, any case of scheme and names, quotes or none, white
//! space around commas, colons in bare values, unknown parameters. Writing keeps to what old servers understand.

use serde::Serialize;
use serde_json::{Map, Value};

use crate::{
    canonical,
    ids::{IdError, ServerName},
    signing::{SigningKey, VerifyError, VerifyKey},
};

#[cfg(test)]
mod tests;

/// The longest header that is read, in bytes: two server names, a key id and a signature fit several times.
pub const MAX_HEADER_BYTES: usize = 2048;
/// The scheme, as it is written.
const SCHEME: &str = "X-Matrix";
/// The longest key id.
const MAX_KEY_ID_BYTES: usize = 255;
/// The longest signature: 64 bytes take 86 characters of base64, 88 with padding.
const MAX_SIGNATURE_BYTES: usize = 88;

/// Why an `Authorization` header is refused. The fault of whoever sent it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum XMatrixError {
    /// Longer than [`MAX_HEADER_BYTES`].
    #[error("the header is longer than {MAX_HEADER_BYTES} bytes")]
    TooLong,
    /// Another scheme.
    #[error("the authorization scheme is not X-Matrix")]
    WrongScheme,
    /// Not a list of parameters.
    #[error("the header is not a list of name=value pairs")]
    Malformed,
    /// A parameter that is needed is absent.
    #[error("{0} is missing")]
    Missing(&'static str),
    /// A parameter that decides something is there twice: which one counts is anybody's guess.
    #[error("{0} is given twice")]
    Duplicate(&'static str),
    /// A parameter is longer than it can be.
    #[error("{0} is too long")]
    ValueTooLong(&'static str),
    /// A name that is no server name.
    #[error("{0} is no server name: {1}")]
    InvalidServer(&'static str, IdError),
}

/// The parameters of the header. Nothing is verified by reading it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct XMatrix {
    /// The server that claims to have sent the request.
    pub origin: ServerName,
    /// The server that it meant; servers older than specification 1.3 leave it out.
    pub destination: Option<ServerName>,
    /// The id of the key that signed, `ed25519:` and a version.
    pub key_id: Box<str>,
    /// The signature in base64.
    pub signature: Box<str>,
}

impl XMatrix {
    /// Reads the value of an `Authorization` header.
    ///
    /// # Errors
    /// See [`XMatrixError`].
    pub fn parse(header: &str) -> Result<Self, XMatrixError> {
        if header.len() > MAX_HEADER_BYTES {
            return Err(XMatrixError::TooLong);
        }
        let header = header.trim_matches([' ', '\t']);
        let (scheme, parameters) = header.split_once(' ').ok_or(XMatrixError::WrongScheme)?;
        if !scheme.eq_ignore_ascii_case(SCHEME) {
            return Err(XMatrixError::WrongScheme);
        }
        let mut found = Found::default();
        let mut rest = Parameters { rest: parameters };
        while let Some((name, value)) = rest.next_parameter()? {
            found.take(name, value)?;
        }
        found.finish()
    }

    /// Signs a request of ours. `uri` is path and query as they are sent; `content` the body, if there is one.
    pub fn sign(
        key: &SigningKey,
        origin: &ServerName,
        destination: &ServerName,
        method: &str,
        uri: &str,
        content: Option<&Map<String, Value>>,
    ) -> Self {
        let signature = key.sign(&signed_bytes(origin, destination, method, uri, content));
        Self {
            origin: origin.clone(),
            destination: Some(destination.clone()),
            key_id: key.key_id().into(),
            signature: signature.into(),
        }
    }

    /// Checks the signature of a request that was sent to `us`. Whether `destination` names us, and whether `key` is
    /// the key of `origin` with this id, is for the caller to see to.
    ///
    /// # Errors
    /// [`VerifyError`] if it does not match.
    pub fn verify(
        &self,
        key: &VerifyKey,
        us: &ServerName,
        method: &str,
        uri: &str,
        content: Option<&Map<String, Value>>,
    ) -> Result<(), VerifyError> {
        key.verify(&signed_bytes(&self.origin, us, method, uri, content), &self.signature)
    }

    /// The value of an `Authorization` header: one space, lower-case names, quotes, no white space at commas.
    pub fn to_header(&self) -> String {
        let mut header = format!("{SCHEME} origin=\"{}\"", self.origin);
        if let Some(destination) = &self.destination {
            push_parameter(&mut header, "destination", destination.as_str());
        }
        push_parameter(&mut header, "key", &self.key_id);
        push_parameter(&mut header, "sig", &self.signature);
        header
    }
}

/// Appends a quoted parameter. Names and base64 have nothing to escape; whatever else a caller put in gets escaped.
fn push_parameter(header: &mut String, name: &str, value: &str) {
    header.push(',');
    header.push_str(name);
    header.push_str("=\"");
    for character in value.chars() {
        if matches!(character, '"' | '\\') {
            header.push('\\');
        }
        header.push(character);
    }
    header.push('"');
}

/// What the signature of a request covers. The fields are in the order of canonical JSON.
#[derive(Serialize)]
struct SignedRequest<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<&'a Map<String, Value>>,
    destination: &'a str,
    method: &'a str,
    origin: &'a str,
    uri: &'a str,
}

/// The bytes that the signature of a request covers.
pub fn signed_bytes(
    origin: &ServerName,
    destination: &ServerName,
    method: &str,
    uri: &str,
    content: Option<&Map<String, Value>>,
) -> Vec<u8> {
    canonical::write(&SignedRequest {
        content,
        destination: destination.as_str(),
        method,
        origin: origin.as_str(),
        uri,
    })
}

/// The parameters as they turn up.
#[derive(Default)]
struct Found {
    origin: Option<String>,
    destination: Option<String>,
    key: Option<String>,
    signature: Option<String>,
}

impl Found {
    fn take(&mut self, name: &str, value: String) -> Result<(), XMatrixError> {
        let (slot, known) = match name.to_ascii_lowercase().as_str() {
            "origin" => (&mut self.origin, "origin"),
            "destination" => (&mut self.destination, "destination"),
            "key" => (&mut self.key, "key"),
            // The specification's list of parameters says `signature`, its examples and all servers say `sig`.
            "sig" | "signature" => (&mut self.signature, "sig"),
            _ => return Ok(()),
        };
        match slot.replace(value) {
            Some(_) => Err(XMatrixError::Duplicate(known)),
            None => Ok(()),
        }
    }

    fn finish(self) -> Result<XMatrix, XMatrixError> {
        let server = |name: &str, which| ServerName::parse(name).map_err(|e| XMatrixError::InvalidServer(which, e));
        let origin = server(&self.origin.ok_or(XMatrixError::Missing("origin"))?, "origin")?;
        let destination = self.destination.map(|name| server(&name, "destination")).transpose()?;
        let key = self.key.ok_or(XMatrixError::Missing("key"))?;
        let signature = self.signature.ok_or(XMatrixError::Missing("sig"))?;
        if key.len() > MAX_KEY_ID_BYTES {
            return Err(XMatrixError::ValueTooLong("key"));
        }
        if signature.len() > MAX_SIGNATURE_BYTES {
            return Err(XMatrixError::ValueTooLong("sig"));
        }
        Ok(XMatrix { origin, destination, key_id: key.into(), signature: signature.into() })
    }
}

/// What is left of the list of parameters.
struct Parameters<'a> {
    rest: &'a str,
}

impl<'a> Parameters<'a> {
    /// The next name and value; `None` at the end. Empty elements are passed over (RFC 9110 §5.6.1.2).
    fn next_parameter(&mut self) -> Result<Option<(&'a str, String)>, XMatrixError> {
        self.rest = self.rest.trim_start_matches([' ', '\t', ',']);
        if self.rest.is_empty() {
            return Ok(None);
        }
        let (name, rest) = self.rest.split_once('=').ok_or(XMatrixError::Malformed)?;
        // White space around "=" is not written, but has to be read (RFC 9110 §11.2).
        let name = name.trim_end_matches([' ', '\t']);
        if name.is_empty() || !name.bytes().all(is_token_byte) {
            return Err(XMatrixError::Malformed);
        }
        self.rest = rest.trim_start_matches([' ', '\t']);
        let value = match self.rest.strip_prefix('"') {
            Some(quoted) => self.take_quoted(quoted)?,
            None => self.take_bare()?,
        };
        let after = self.rest.trim_start_matches([' ', '\t']);
        if !after.is_empty() && !after.starts_with(',') {
            return Err(XMatrixError::Malformed);
        }
        self.rest = after;
        Ok(Some((name, value)))
    }

    fn take_quoted(&mut self, quoted: &'a str) -> Result<String, XMatrixError> {
        let mut value = String::new();
        let mut characters = quoted.char_indices();
        while let Some((at, character)) = characters.next() {
            match character {
                '"' => {
                    self.rest = quoted.get(at + 1..).unwrap_or_default();
                    return Ok(value);
                }
                '\\' => value.push(characters.next().ok_or(XMatrixError::Malformed)?.1),
                other => value.push(other),
            }
        }
        Err(XMatrixError::Malformed)
    }

    fn take_bare(&mut self) -> Result<String, XMatrixError> {
        let end = self.rest.find([' ', '\t', ',']).unwrap_or(self.rest.len());
        let (value, rest) = self.rest.split_at(end);
        // Servers leave the quotes out around server names with ports, IPv6 literals and base64 too.
        let is_allowed = |byte| is_token_byte(byte) || matches!(byte, b':' | b'[' | b']' | b'/' | b'=');
        if value.is_empty() || !value.bytes().all(is_allowed) {
            return Err(XMatrixError::Malformed);
        }
        self.rest = rest;
        Ok(value.to_owned())
    }
}

/// RFC 9110 §5.6.2.
fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}
