//! Whose fault a failed attempt is, and what the client is told when all servers failed.

use http::StatusCode;
use rooms::RoomError;
use spec::ids::ServerName;
use std::ops::ControlFlow;

use crate::error::RemoteError;

/// Why an attempt through one server came to nothing.
#[derive(Debug)]
pub(crate) enum Failure {
    /// That server's fault, or its refusal: another one may help.
    Remote(RemoteError),
    /// Not that server's fault: no other one can help.
    Local(RoomError),
}

impl From<RemoteError> for Failure {
    fn from(error: RemoteError) -> Self {
        Failure::Remote(error)
    }
}

impl From<RoomError> for Failure {
    fn from(error: RoomError) -> Self {
        Failure::Local(error)
    }
}

impl Failure {
    /// An answer that is not what it has to be.
    pub(crate) fn malformed(server: &ServerName, reason: impl Into<String>) -> Failure {
        Failure::Remote(RemoteError::Malformed { server: server.clone(), reason: reason.into() })
    }
}

/// Tells apart what the room's rules say of another server's events, which is that server's failure, from failures of
/// this server.
pub(crate) fn blame(server: &ServerName, error: RoomError) -> Failure {
    match error {
        RoomError::Forbidden(_)
        | RoomError::Missing(_)
        | RoomError::Invalid(_)
        | RoomError::BadEvent(_)
        | RoomError::Refused(_)
        | RoomError::Resolve(_) => Failure::malformed(server, error.to_string()),
        error => Failure::Local(error),
    }
}

/// After so many servers have said "forbidden" no further one is asked.
const MAX_FORBIDDEN: usize = 3;

/// The failures of the servers tried so far.
#[derive(Default)]
pub(crate) struct Attempts {
    forbidden: usize,
    /// The refusal that says most: a "forbidden" before any other.
    refusal: Option<RemoteError>,
    last: Option<RemoteError>,
}

impl Attempts {
    /// Remembers a failure. False if trying further servers makes no sense.
    pub(crate) fn go_on_after(&mut self, error: RemoteError) -> bool {
        match &error {
            // Nobody else is told what was wrong: a client learns that the server could not be used.
            RemoteError::Malformed { .. } => tracing::warn!(%error, "another server's answer cannot be used"),
            _ => tracing::debug!(%error, "another server did not do what it was asked"),
        }
        match &error {
            RemoteError::Refused { status: StatusCode::FORBIDDEN, .. } => {
                self.forbidden += 1;
                if self.forbidden == 1 {
                    self.refusal = Some(error);
                }
            }
            RemoteError::Refused { status, errcode, .. }
                if status.is_client_error() && errcode != "M_UNRECOGNIZED" && self.refusal.is_none() =>
            {
                self.refusal = Some(error);
            }
            _ => self.last = Some(error),
        }
        self.forbidden < MAX_FORBIDDEN
    }

    /// What the outcome of one attempt means: an end, or that the next server is tried.
    pub(crate) fn weigh<T>(&mut self, outcome: Result<T, Failure>) -> ControlFlow<Result<T, RoomError>> {
        match outcome {
            Ok(done) => ControlFlow::Break(Ok(done)),
            Err(Failure::Local(error)) => ControlFlow::Break(Err(error)),
            Err(Failure::Remote(error)) => match self.go_on_after(error) {
                true => ControlFlow::Continue(()),
                false => ControlFlow::Break(Err(std::mem::take(self).into_error())),
            },
        }
    }

    /// What came of it all. Without any attempt: nobody was known who could be asked.
    pub(crate) fn into_error(self) -> RoomError {
        match self.refusal.or(self.last) {
            Some(error) => into_room_error(error),
            None => RoomError::RoomNotFound,
        }
    }
}

/// What the client-server edge is told. A complaint about how this server asked is none of the client's business
/// (Server-Server API `/send_join`, `/invite`: the client's request fails with a 5xx error).
pub(crate) fn into_room_error(error: RemoteError) -> RoomError {
    match error {
        RemoteError::Refused { server, status, errcode, message, .. } => {
            let ours = matches!(errcode.as_str(), "M_MISSING_PARAM" | "M_INVALID_PARAM" | "M_UNRECOGNIZED");
            let status = if ours { StatusCode::BAD_GATEWAY } else { status };
            RoomError::RemoteRefused { server, status: status.as_u16(), errcode, message }
        }
        RemoteError::NotAllowed(_) => RoomError::Refused("nothing is exchanged with the other server"),
        RemoteError::Timeout(server) | RemoteError::TooLarge(server) => {
            RoomError::RemoteUnavailable(server.as_str().to_owned())
        }
        RemoteError::BackingOff { server, .. }
        | RemoteError::Unreachable { server, .. }
        | RemoteError::Malformed { server, .. } => RoomError::RemoteUnavailable(server.as_str().to_owned()),
    }
}

/// Whether the server does not know the endpoint, so that an older one is worth a try.
pub(crate) fn is_unknown_endpoint(error: &RemoteError) -> bool {
    match error {
        RemoteError::Refused { status, errcode, .. } => {
            errcode == "M_UNRECOGNIZED"
                || (matches!(*status, StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED) && errcode == "M_UNKNOWN")
        }
        _ => false,
    }
}
