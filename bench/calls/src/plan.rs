//! Who does what in a run.

/// What every publisher publishes.
#[derive(Clone, Debug)]
pub struct Media {
    pub audio: bool,
    /// The simulcast layers of a video, from the smallest; none: no video.
    pub levels: Vec<u8>,
}

impl Media {
    /// The kinds of the tracks: false for audio, true for video.
    pub fn tracks(&self) -> Vec<bool> {
        [self.audio.then_some(false), (!self.levels.is_empty()).then_some(true)].into_iter().flatten().collect()
    }
}

/// The id of a publisher's track in its offer.
pub fn track_name(publisher: u16, video: bool) -> String {
    format!("{}-{publisher}", if video { "video" } else { "audio" })
}
