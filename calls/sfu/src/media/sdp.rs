//! The edge between the session descriptions of clients and those of the media engine.
//!
//! The engine answers a line by mirroring its direction and its `a=msid`. Clients need something else:
//! lines that carry nothing have to be parked (`a=inactive`), because a browser announces a track only
//! when its line begins to carry; and `a=msid` has to name the track that is on the line now. Both are
//! done on the text, line by line (RFC 8866, RFC 8829, RFC 8830).

#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::collections::HashMap;

/// Longer descriptions are refused.
pub const MAX_SDP: usize = 512 * 1024;
/// More sections are refused.
pub const MAX_SECTIONS: usize = 400;

/// The kind of a section.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    Audio,
    Video,
    /// Data channels.
    Data,
}

/// Who sends on a line, seen by whoever wrote the description.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    SendRecv,
    SendOnly,
    RecvOnly,
    Inactive,
}

impl Direction {
    fn of(line: &str) -> Option<Direction> {
        match line {
            "a=sendrecv" => Some(Direction::SendRecv),
            "a=sendonly" => Some(Direction::SendOnly),
            "a=recvonly" => Some(Direction::RecvOnly),
            "a=inactive" => Some(Direction::Inactive),
            _ => None,
        }
    }

    pub fn sends(self) -> bool {
        matches!(self, Direction::SendRecv | Direction::SendOnly)
    }
}

/// A media section of a description.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Section {
    pub mid: String,
    pub kind: Kind,
    pub direction: Direction,
    /// The track of `a=msid`, or of the older `a=ssrc … msid`.
    pub track: Option<String>,
    /// The simulcast streams sent on it, in the order of the description.
    pub rids: Vec<String>,
}

/// The description cannot be used; the client's fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadSdp {
    #[error("the session description is too long")]
    TooLong,
    #[error("the session description has too many sections")]
    TooManySections,
    #[error("a section of the session description has no mid")]
    NoMid,
}

/// The media sections of `sdp`, in their order; sections of unknown kind are left out.
pub fn sections(sdp: &str) -> Result<Vec<Section>, BadSdp> {
    if sdp.len() > MAX_SDP {
        return Err(BadSdp::TooLong);
    }
    let mut sections = Vec::new();
    for text in split(sdp).skip(1) {
        if sections.len() >= MAX_SECTIONS {
            return Err(BadSdp::TooManySections);
        }
        sections.extend(read_section(text)?);
    }
    Ok(sections)
}

/// The part before the first section, then the sections.
fn split(sdp: &str) -> impl Iterator<Item = &str> {
    let mut rest = Some(sdp);
    std::iter::from_fn(move || {
        let text = rest?;
        // A section begins with "m=" at the start of a line.
        let next = text.match_indices("\nm=").next().map(|(at, _)| at + 1);
        match next {
            Some(at) => {
                let (head, tail) = text.split_at(at);
                rest = Some(tail);
                Some(head)
            }
            None => rest.take(),
        }
    })
}

fn read_section(text: &str) -> Result<Option<Section>, BadSdp> {
    let kind = match text.split_whitespace().next() {
        Some("m=audio") => Kind::Audio,
        Some("m=video") => Kind::Video,
        Some("m=application") => Kind::Data,
        _ => return Ok(None),
    };
    let mut direction = Direction::SendRecv;
    let (mut mid, mut track, mut rids) = (None, None, Vec::new());
    for line in text.lines() {
        if let Some(value) = line.strip_prefix("a=mid:") {
            mid = Some(value.trim().to_owned());
        } else if let Some(value) = line.strip_prefix("a=msid:") {
            track = value.split_whitespace().nth(1).map(str::to_owned);
        } else if let Some((_, value)) = line.strip_prefix("a=ssrc:").and_then(|line| line.split_once(" msid:")) {
            track = track.or_else(|| value.split_whitespace().nth(1).map(str::to_owned));
        } else if let Some(value) = line.strip_prefix("a=rid:") {
            let mut words = value.split_whitespace();
            if let (Some(rid), Some("send")) = (words.next(), words.next()) {
                rids.push(rid.to_owned());
            }
        } else if let Some(found) = Direction::of(line.trim_end()) {
            direction = found;
        }
    }
    Ok(Some(Section { mid: mid.ok_or(BadSdp::NoMid)?, kind, direction, track, rids }))
}

/// The offer as the engine shall see it: lines on which nothing is to be sent now (`sends` says no) are
/// offered as `a=inactive` instead of `a=recvonly`, and redundant audio is not offered.
pub fn park(offer: &str, sends: impl Fn(&str) -> bool) -> String {
    let mut parked = String::with_capacity(offer.len());
    for (index, text) in split(offer).enumerate() {
        let section = if index == 0 { None } else { read_section(text).ok().flatten() };
        let unused = section.is_some_and(|section| {
            section.kind != Kind::Data && section.direction == Direction::RecvOnly && !sends(&section.mid)
        });
        let text = without_red(text);
        if unused {
            parked.push_str(&text.replacen("a=recvonly", "a=inactive", 1));
        } else {
            parked.push_str(&text);
        }
    }
    parked
}

/// A section without redundant audio (RFC 2198), which we do not forward.
fn without_red(section: &str) -> Cow<'_, str> {
    let red = payload_of(section, "red/");
    let Some(red) = red.filter(|_| section.starts_with("m=audio")) else { return Cow::Borrowed(section) };
    let about_red = |line: &str| {
        let attribute = ["a=rtpmap:", "a=fmtp:", "a=rtcp-fb:"].iter().find_map(|name| line.strip_prefix(name));
        attribute.and_then(|rest| first_word(rest)) == Some(red)
    };
    let mut kept = String::with_capacity(section.len());
    for line in section.split_inclusive('\n').filter(|line| !about_red(line)) {
        if line.starts_with("m=") {
            let words: Vec<&str> = line.split_whitespace().collect();
            let words = words.iter().enumerate().filter(|(index, word)| *index < 3 || **word != red);
            kept.push_str(&words.map(|(_, word)| *word).collect::<Vec<_>>().join(" "));
            kept.push_str("\r\n");
        } else {
            kept.push_str(line);
        }
    }
    Cow::Owned(kept)
}

/// The payload type of a codec, named as in `a=rtpmap` (`opus/`).
fn payload_of<'a>(section: &'a str, codec: &str) -> Option<&'a str> {
    section.lines().find_map(|line| {
        let (payload, name) = line.strip_prefix("a=rtpmap:")?.split_once(' ')?;
        name.to_ascii_lowercase().starts_with(codec).then_some(payload)
    })
}

fn first_word(text: &str) -> Option<&str> {
    text.split_whitespace().next()
}

/// What a sending line carries: the stream (participant and track) and the track, as `a=msid` names them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Label {
    pub stream: String,
    pub track: String,
}

/// The engine's description as the client shall see it: `a=msid` names what `labels` says is on the line
/// (key: mid), and is gone from all other lines. Where the client sends audio it is asked to be silent while
/// nobody speaks, unless `steady` says otherwise of the line.
pub fn label(description: &str, labels: &HashMap<String, Label>, steady: impl Fn(&str) -> bool) -> String {
    let mut labelled = String::with_capacity(description.len() + labels.len() * 64);
    for (index, text) in split(description).enumerate() {
        let section = if index == 0 { None } else { read_section(text).ok().flatten() };
        let Some(section) = section.filter(|section| section.kind != Kind::Data) else {
            labelled.push_str(text);
            continue;
        };
        let label = labels.get(&section.mid).filter(|_| section.direction.sends());
        let quiet = section.kind == Kind::Audio && section.direction == Direction::RecvOnly && !steady(&section.mid);
        let opus = if quiet { payload_of(text, "opus/") } else { None };
        for line in text.split_inclusive('\n') {
            let named_source = line.starts_with("a=ssrc:") && !line.contains(" cname:");
            if line.starts_with("a=msid:") || named_source {
                continue;
            }
            let is_format = opus.is_some_and(|opus| line.strip_prefix("a=fmtp:").and_then(first_word) == Some(opus));
            if is_format && !line.contains("usedtx=") {
                labelled.push_str(line.trim_end());
                labelled.push_str(";usedtx=1\r\n");
                continue;
            }
            labelled.push_str(line);
            if let (Some(label), true) = (label, Direction::of(line.trim_end()).is_some()) {
                labelled.push_str(&format!("a=msid:{} {}\r\n", label.stream, label.track));
            }
            if let (Some(label), Some(source)) = (label, source_of(line)) {
                labelled.push_str(&format!("a=ssrc:{source} msid:{} {}\r\n", label.stream, label.track));
            }
        }
    }
    labelled
}

/// The SSRC of an `a=ssrc:… cname:…` line.
fn source_of(line: &str) -> Option<&str> {
    let (source, attribute) = line.strip_prefix("a=ssrc:")?.split_once(' ')?;
    attribute.starts_with("cname:").then_some(source)
}
