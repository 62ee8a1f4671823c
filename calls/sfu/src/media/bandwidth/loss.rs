//! How much gets lost, and when that is too much.
use std::collections::VecDeque;

use super::Micros;

/// A window is judged once it is this long,
const SPAN: Micros = 200_000;
/// and holds this many datagrams.
const PACKETS: u32 = 20;
/// How many windows are judged together, for losses that one alone cannot prove.
const WINDOWS: usize = 5;
/// Losses up to this share are left to the repair of losses.
const BORNE: f64 = 0.10;
/// By how many standard deviations the losses must exceed what chance does at the borne share.
const SURE: f64 = 3.0;

/// What was reported within some time.
#[derive(Clone, Copy, Debug, Default)]
struct Window {
    lost: u32,
    all: u32,
}

impl Window {
    fn share(self) -> f64 {
        if self.all == 0 { 0.0 } else { f64::from(self.lost) / f64::from(self.all) }
    }

    /// Whether the losses are more than 10 %, and not by mere chance: 5 % of loss shows 4 lost of 40 now and then.
    fn is_heavy(self) -> bool {
        let all = f64::from(self.all);
        f64::from(self.lost) > all * BORNE + SURE * (all * BORNE * (1.0 - BORNE)).sqrt()
    }
}

/// Counts lost and received datagrams.
#[derive(Debug, Default)]
pub(super) struct Loss {
    open: Window,
    /// When the open window began.
    since: Option<Micros>,
    closed: VecDeque<Window>,
    smooth: f64,
}

impl Loss {
    /// Counts a datagram whose fate is known now.
    pub(super) fn note(&mut self, lost: bool) {
        self.open.all = self.open.all.saturating_add(1);
        self.open.lost = self.open.lost.saturating_add(u32::from(lost));
    }

    /// Takes back a loss: the datagram came after all.
    pub(super) fn recover(&mut self) {
        if self.open.lost > 0 {
            self.open.lost = self.open.lost.saturating_sub(1);
        } else if let Some(window) = self.closed.back_mut() {
            window.lost = window.lost.saturating_sub(1);
        }
    }

    /// Judges what came together by now. Gives the share lost if it is too much.
    pub(super) fn judge(&mut self, now: Micros) -> Option<f64> {
        let since = *self.since.get_or_insert(now);
        if now.saturating_sub(since) < SPAN || self.open.all < PACKETS {
            return None;
        }
        let window = std::mem::take(&mut self.open);
        self.since = Some(now);
        self.smooth = self.smooth * 0.6 + window.share() * 0.4;
        if self.closed.len() >= WINDOWS {
            self.closed.pop_front();
        }
        self.closed.push_back(window);
        let all = self.closed.iter().fold(Window::default(), |sum, window| Window {
            lost: sum.lost.saturating_add(window.lost),
            all: sum.all.saturating_add(window.all),
        });
        [window, all].into_iter().filter(|window| window.is_heavy()).map(Window::share).reduce(f64::max)
    }

    /// Begins anew after a fall: what was sent before says nothing about what is sent now.
    pub(super) fn restart(&mut self, now: Micros) {
        self.open = Window::default();
        self.since = Some(now);
        self.closed.clear();
    }

    /// The share lost recently.
    pub(super) fn share(&self) -> f64 {
        self.smooth
    }
}
