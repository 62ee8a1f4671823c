//! A small blocking HTTP/1.1 client: JSON in, JSON out, one connection that is kept alive.

#[cfg(test)]
mod tests;

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use runtime::Clock;
use serde_json::Value;

/// The longest status line and headers, in bytes.
const MAX_HEAD: u64 = 64 * 1024;
/// The longest body, in bytes.
const MAX_BODY: usize = 64 * 1024 * 1024;

/// Where a server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HttpAddress {
    /// TCP.
    Tcp(SocketAddr),
    /// A unix socket.
    Unix(PathBuf),
}

/// Why there is no response.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// The connection cannot be made, broke, or took too long.
    #[error("the connection failed: {0}")]
    Io(#[from] io::Error),
    /// The server's answer is not HTTP/1.1 as this client knows it, or is over a limit.
    #[error("the response is malformed: {0}")]
    Malformed(&'static str),
}

/// A whole response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpResponse {
    /// The status code.
    pub status: u16,
    /// The headers in order, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl HttpResponse {
    /// The first header of this name (given in lower case).
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str())
    }

    /// The body as JSON; `null` if it is not.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }
}

enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Stream {
    fn connect(address: &HttpAddress, timeout: Duration) -> io::Result<Stream> {
        Ok(match address {
            HttpAddress::Tcp(address) => {
                let stream = TcpStream::connect_timeout(address, timeout)?;
                stream.set_nodelay(true)?;
                Stream::Tcp(stream)
            }
            HttpAddress::Unix(path) => Stream::Unix(UnixStream::connect(path)?),
        })
    }

    /// For each single read and write; zero would mean no limit.
    fn limit_waits(&self, timeout: Duration) -> io::Result<()> {
        let timeout = Some(timeout.max(Duration::from_millis(1)));
        match self {
            Stream::Tcp(stream) => stream.set_read_timeout(timeout).and_then(|()| stream.set_write_timeout(timeout)),
            Stream::Unix(stream) => stream.set_read_timeout(timeout).and_then(|()| stream.set_write_timeout(timeout)),
        }
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => stream.read(buffer),
            Stream::Unix(stream) => stream.read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => stream.write(bytes),
            Stream::Unix(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A stream whose reads end at a deadline, however slowly bytes trickle in.
struct Timed {
    stream: Stream,
    clock: Clock,
    deadline: Duration,
}

impl Read for Timed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.deadline.saturating_sub(self.clock.monotonic());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        self.stream.limit_waits(left)?;
        self.stream.read(buffer)
    }
}

/// One client with at most one connection, made when it is needed. A request is sent once: nothing is
/// repeated after an error, so that a test knows what it has sent.
pub struct HttpClient {
    address: HttpAddress,
    timeout: Duration,
    clock: Clock,
    connection: Option<BufReader<Timed>>,
}

impl HttpClient {
    /// A client whose requests may take 30 seconds each.
    #[must_use]
    pub fn new(address: HttpAddress) -> HttpClient {
        HttpClient { address, timeout: Duration::from_secs(30), clock: Clock::system(), connection: None }
    }

    /// The same with another limit for each request.
    #[must_use]
    pub fn with_timeout(self, timeout: Duration) -> HttpClient {
        HttpClient { timeout, ..self }
    }

    /// Where it connects to.
    #[must_use]
    pub fn address(&self) -> &HttpAddress {
        &self.address
    }

    /// Closes the connection; the next request makes another. Needed once the server was restarted.
    pub fn disconnect(&mut self) {
        self.connection = None;
    }

    /// Sends a request and reads the whole response. `path` goes out as it is, query included.
    ///
    /// # Errors
    /// [`HttpError`]; the connection is given up then, and whether the server acted is unknown.
    pub fn request(
        &mut self,
        method: &str,
        path: &str,
        token: Option<&str>,
        body: Option<&Value>,
    ) -> Result<HttpResponse, HttpError> {
        let body = body.map(Value::to_string);
        self.request_bytes(method, path, token, body.as_deref().map(str::as_bytes))
    }

    /// As [`HttpClient::request`], with a body that need not be JSON.
    ///
    /// # Errors
    /// As [`HttpClient::request`].
    pub fn request_bytes(
        &mut self,
        method: &str,
        path: &str,
        token: Option<&str>,
        body: Option<&[u8]>,
    ) -> Result<HttpResponse, HttpError> {
        let bearer = token.map(|token| format!("Bearer {token}"));
        let headers: Vec<(&str, &str)> = [
            bearer.as_deref().map(|bearer| ("authorization", bearer)),
            body.is_some().then_some(("content-type", "application/json")),
        ]
        .into_iter()
        .flatten()
        .collect();
        self.request_with(method, path, &headers, body)
    }

    /// As [`HttpClient::request`], with these headers. Those that frame the message are added.
    ///
    /// # Errors
    /// As [`HttpClient::request`].
    pub fn request_with(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&[u8]>,
    ) -> Result<HttpResponse, HttpError> {
        let deadline = self.clock.monotonic() + self.timeout;
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => {
                let stream = Stream::connect(&self.address, self.timeout)?;
                BufReader::new(Timed { stream, clock: self.clock.clone(), deadline })
            }
        };
        connection.get_mut().deadline = deadline;
        let stream = &mut connection.get_mut().stream;
        stream.limit_waits(self.timeout)?;
        stream.write_all(&write_request(method, path, headers, body))?;
        let (response, reusable) = read_response(&mut connection, method == "HEAD")?;
        self.connection = reusable.then_some(connection);
        Ok(response)
    }
}

fn write_request(method: &str, path: &str, headers: &[(&str, &str)], body: Option<&[u8]>) -> Vec<u8> {
    let mut head = format!("{method} {path} HTTP/1.1\r\nhost: localhost\r\n");
    let framing = ["host", "content-length", "transfer-encoding", "connection"];
    for (name, value) in headers.iter().filter(|(name, _)| !framing.contains(name)) {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    if let Some(body) = body {
        head.push_str(&format!("content-length: {}\r\n", body.len()));
    }
    head.push_str("\r\n");
    [head.as_bytes(), body.unwrap_or_default()].concat()
}

/// The response, and whether the connection can carry another request.
fn read_response(connection: &mut impl BufRead, is_head: bool) -> Result<(HttpResponse, bool), HttpError> {
    loop {
        let (status, headers) = read_head(connection)?;
        // Informational responses come before the real one.
        if (100..200).contains(&status) {
            continue;
        }
        let mut response = HttpResponse { status, headers, body: Vec::new() };
        let closes = response.header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"));
        if is_head || matches!(status, 204 | 304) {
            return Ok((response, !closes));
        }
        let chunked = response.header("transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked"));
        let length = response.header("content-length").map(str::to_owned);
        let mut ends_with_connection = false;
        response.body = match length {
            _ if chunked => read_chunks(connection)?,
            Some(length) => {
                let length = length.parse().map_err(|_| HttpError::Malformed("content-length"))?;
                read_exactly(connection, length)?
            }
            None => {
                ends_with_connection = true;
                read_to_end(connection)?
            }
        };
        return Ok((response, !closes && !ends_with_connection));
    }
}

fn read_head(connection: &mut impl BufRead) -> Result<(u16, Vec<(String, String)>), HttpError> {
    let mut limited = connection.take(MAX_HEAD);
    let line = read_line(&mut limited)?;
    let status = line.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)).and_then(|code| code.parse().ok());
    let status = status.ok_or(HttpError::Malformed("status line"))?;
    let mut headers = Vec::new();
    loop {
        let line = read_line(&mut limited)?;
        if line.is_empty() {
            return Ok((status, headers));
        }
        let (name, value) = line.split_once(':').ok_or(HttpError::Malformed("header"))?;
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
}

fn read_line(connection: &mut impl BufRead) -> Result<String, HttpError> {
    let mut line = String::new();
    connection.read_line(&mut line)?;
    match line.strip_suffix("\r\n") {
        Some(text) => Ok(text.to_owned()),
        // At the end of the connection, or of what a head may have.
        None => Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
    }
}

fn read_exactly(connection: &mut impl BufRead, length: usize) -> Result<Vec<u8>, HttpError> {
    if length > MAX_BODY {
        return Err(HttpError::Malformed("the body is too long"));
    }
    let mut body = vec![0; length];
    connection.read_exact(&mut body)?;
    Ok(body)
}

fn read_to_end(connection: &mut impl BufRead) -> Result<Vec<u8>, HttpError> {
    let mut body = Vec::new();
    connection.take(MAX_BODY as u64 + 1).read_to_end(&mut body)?;
    if body.len() > MAX_BODY { Err(HttpError::Malformed("the body is too long")) } else { Ok(body) }
}

fn read_chunks(connection: &mut impl BufRead) -> Result<Vec<u8>, HttpError> {
    let mut body = Vec::new();
    loop {
        let line = read_line(&mut connection.take(MAX_HEAD))?;
        let size = line.split(';').next().unwrap_or_default().trim();
        let size = usize::from_str_radix(size, 16).map_err(|_| HttpError::Malformed("chunk size"))?;
        if size == 0 {
            // Trailers, up to the empty line.
            while !read_line(&mut connection.take(MAX_HEAD))?.is_empty() {}
            return Ok(body);
        }
        if size > MAX_BODY - body.len() {
            return Err(HttpError::Malformed("the body is too long"));
        }
        body.extend(read_exactly(connection, size)?);
        if !read_line(&mut connection.take(MAX_HEAD))?.is_empty() {
            return Err(HttpError::Malformed("chunk end"));
        }
    }
}
