//! Addresses to listen on.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Where to listen, and whether with TLS.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ListenAddress {
    /// HTTP: `127.0.0.1:8008` or `tcp://127.0.0.1:8008`.
    Tcp(SocketAddr),
    /// HTTPS: `tls://[::]:8448`.
    Tls(SocketAddr),
    /// HTTP over a unix socket: `unix:/run/conduit.sock`.
    Unix(PathBuf),
}

/// The operator wrote an address that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an address such as \"127.0.0.1:8008\", \"tls://[::]:8448\" or \"unix:/run/conduit.sock\"")]
pub struct BadAddress(String);

impl Default for ListenAddress {
    /// `127.0.0.1:8008`.
    fn default() -> Self {
        ListenAddress::Tcp(SocketAddr::from((Ipv4Addr::LOCALHOST, 8008)))
    }
}

impl FromStr for ListenAddress {
    type Err = BadAddress;

    fn from_str(text: &str) -> Result<ListenAddress, BadAddress> {
        let bad = || BadAddress(text.to_owned());
        if let Some(path) = text.strip_prefix("unix:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            return if path.is_empty() { Err(bad()) } else { Ok(ListenAddress::Unix(PathBuf::from(path))) };
        }
        if let Some(address) = text.strip_prefix("tls://") {
            return address.parse().map(ListenAddress::Tls).map_err(|_| bad());
        }
        let address = text.strip_prefix("tcp://").unwrap_or(text);
        address.parse().map(ListenAddress::Tcp).map_err(|_| bad())
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ListenAddress::Tcp(address) => write!(f, "{address}"),
            ListenAddress::Tls(address) => write!(f, "tls://{address}"),
            ListenAddress::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl Serialize for ListenAddress {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ListenAddress {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<ListenAddress, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(Error::custom)
    }
}
