//! Who speaks: from the loudness that each audio packet states (RFC 6464).

#[cfg(test)]
mod tests;

/// What is quieter than this is silence, in -dBov (0 is the loudest).
const SILENCE_FROM: u8 = 40;
/// A speaker is heard in at least this share of a window's packets, in percent.
const HEARD_PERCENT: u32 = 15;
/// Packets of 20 ms in a window.
const WINDOW_PACKETS: u32 = 20;
/// How much of the level shown comes from before the window.
const SMOOTHING: f32 = 0.5;
/// Smaller changes are not told.
const STEP: f32 = 0.05;

/// The loudness of one participant.
#[derive(Clone, Debug, Default)]
pub struct Loudness {
    loud: u32,
    /// Sum of the loud packets' levels, in -dBov.
    sum: u32,
    level: f32,
    told: f32,
    active: bool,
}

impl Loudness {
    /// One audio packet; `level` in -dBov (0 is the loudest, 127 silence).
    pub fn add(&mut self, level: u8) {
        if level < SILENCE_FROM {
            self.loud = self.loud.saturating_add(1);
            self.sum = self.sum.saturating_add(u32::from(level));
        }
    }

    /// Ends a window. The level (0 to 1) and whether somebody speaks, when that is news.
    pub fn end_window(&mut self) -> Option<(f32, bool)> {
        let was_active = self.active;
        let (loud, sum) = (std::mem::take(&mut self.loud), std::mem::take(&mut self.sum));
        self.active = loud * 100 >= WINDOW_PACKETS * HEARD_PERCENT;
        let now = match (self.active, sum.checked_div(loud)) {
            (true, Some(average)) => 10f32.powf(-(average as f32) / 20.0).sqrt().clamp(0.0, 1.0),
            _ => 0.0,
        };
        self.level = if self.active { self.level * SMOOTHING + now * (1.0 - SMOOTHING) } else { 0.0 };
        let changed = self.active != was_active || (self.active && (self.level - self.told).abs() >= STEP);
        if !changed {
            return None;
        }
        self.told = self.level;
        Some((self.level, self.active))
    }
}
