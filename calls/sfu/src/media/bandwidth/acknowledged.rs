//! The bit rate that the receiver confirms.
use super::Micros;

/// The arrivals are counted in steps of this length.
const STEP: Micros = 10_000;
/// How many steps the rate is taken over: half a second.
const STEPS: usize = 50;
/// How many steps are needed for a first rate: 150 ms.
const LEAST: i64 = 15;
/// How far an arrival may lie behind the newest before the receiver's clock is held to have jumped, in steps.
const JUMP: i64 = 500;

/// Counts what arrived within the last half second of the receiver's clock.
#[derive(Debug)]
pub(super) struct Acknowledged {
    steps: [u64; STEPS],
    /// The step counted first, and the newest one. None: nothing counted.
    span: Option<(i64, i64)>,
}

impl Acknowledged {
    pub(super) fn new() -> Acknowledged {
        Acknowledged { steps: [0; STEPS], span: None }
    }

    /// Counts a datagram.
    pub(super) fn note(&mut self, arrival: Micros, bytes: u32) {
        let step = arrival.div_euclid(STEP);
        let width = STEPS as i64;
        let (first, newest) = match self.span {
            Some((first, newest)) if step > newest.saturating_sub(JUMP) => (first, newest),
            _ => {
                self.steps = [0; STEPS];
                (step, step)
            }
        };
        if step <= newest.saturating_sub(width) {
            return;
        }
        // A pause as long as the window starts the measure anew: what stood before says nothing about the way now.
        let first = if step >= newest.saturating_add(width) { step } else { first.min(step) };
        let gap = step.saturating_sub(newest).clamp(0, width);
        for back in 0..gap {
            if let Some(slot) = self.slot(step.saturating_sub(back)) {
                *slot = 0;
            }
        }
        if let Some(slot) = self.slot(step) {
            *slot = slot.saturating_add(u64::from(bytes));
        }
        self.span = Some((first, newest.max(step)));
    }

    /// The rate in bit/s, once it was measured long enough.
    pub(super) fn rate(&self) -> Option<f64> {
        let (first, newest) = self.span?;
        let steps = newest.saturating_sub(first).saturating_add(1).min(STEPS as i64);
        if steps < LEAST {
            return None;
        }
        let bytes: u64 = self.steps.iter().sum();
        Some(bytes as f64 * 8.0 / (steps as f64 * STEP as f64 / 1e6))
    }

    fn slot(&mut self, step: i64) -> Option<&mut u64> {
        let place = usize::try_from(step.rem_euclid(STEPS as i64)).ok()?;
        self.steps.get_mut(place)
    }
}
