//! Which layer of each picture somebody is sent: what they want, what there is, and what their line carries.

#[cfg(test)]
mod tests;

use std::cmp::Reverse;

/// Layers a track can have: low, medium, high.
pub const LAYERS: usize = 3;

/// A layer's number, 0 the lowest.
pub type Layer = u8;

/// Going up needs this much more room than the layer takes, in percent, so that a choice does not
/// swing to and fro.
pub const HEADROOM_PERCENT: u64 = 15;
/// A lowest layer of at most this rate, in bit/s, is small.
const ALWAYS_SENT: u64 = 250_000;

/// What somebody wants of one track.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Demand {
    /// The bit rate of each layer now, in bit/s; 0 for one that is not being sent.
    pub rates: [u64; LAYERS],
    /// The highest layer wanted.
    pub wanted: Layer,
    /// How important the picture is, for instance its size: higher first.
    pub priority: u64,
    /// What is sent now.
    pub current: Option<Layer>,
}

impl Demand {
    fn rate(&self, layer: Layer) -> u64 {
        self.rates.get(usize::from(layer)).copied().unwrap_or(0)
    }

    /// The layers there are, up to the wanted one; when all are above it, the lowest of these.
    fn choices(&self) -> impl DoubleEndedIterator<Item = Layer> + '_ {
        let live = |layer: &Layer| self.rate(*layer) > 0;
        let lowest = (0..LAYERS as Layer).find(live).unwrap_or(0);
        (0..=self.wanted.max(lowest).min(LAYERS as Layer - 1)).filter(move |layer| live(layer))
    }
}

/// The best layer of each demand when there is room for everything.
pub fn unlimited(demand: &Demand) -> Option<Layer> {
    demand.choices().next_back()
}

/// What there is to divide, in bit/s.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    /// For what is being sent already.
    pub kept: u64,
    /// For all, when something is to be sent that is not yet.
    pub raised: u64,
}

/// Divides the budget among `demands`; `None` is a picture that has to pause. Every picture gets its
/// lowest layer before any gets a higher one; both in the order of priority, what is sent of a higher layer before what is
/// sent of a lower one or paused. The first is sent, if its lowest layer is small, whatever the budget: what the line carries
/// can only be measured with something on it.
pub fn allocate(budget: Budget, demands: &[Demand]) -> Vec<Option<Layer>> {
    let mut order: Vec<(usize, &Demand)> = demands.iter().enumerate().collect();
    order.sort_by_key(|(index, demand)| (Reverse(demand.priority), Reverse(demand.current), *index));
    let mut chosen = vec![None; demands.len()];
    let mut left = budget;
    for level in 0..LAYERS {
        for (index, demand) in &order {
            let Some(slot) = chosen.get_mut(*index) else { continue };
            // A picture that got no lower layer gets no higher one.
            if level > 0 && slot.is_none() {
                continue;
            }
            let Some(layer) = demand.choices().nth(level) else { continue };
            let more = demand.rate(layer).saturating_sub(slot.map_or(0, |layer| demand.rate(layer)));
            let grows = demand.current.is_none_or(|current| layer > current);
            let headroom = demand.rate(layer).saturating_mul(HEADROOM_PERCENT) / 100;
            let fits = if grows { more.saturating_add(headroom) <= left.raised } else { more <= left.kept };
            if fits {
                left.kept = left.kept.saturating_sub(more);
                left.raised = left.raised.saturating_sub(more);
                *slot = Some(layer);
            }
        }
    }
    let first = order.first().and_then(|(index, demand)| Some((*index, demand.choices().next()?, demand)));
    if let Some((index, layer, demand)) = first
        && chosen.iter().all(Option::is_none)
        && demand.rate(layer) <= ALWAYS_SENT
        && let Some(slot) = chosen.get_mut(index)
    {
        *slot = Some(layer);
    }
    chosen
}

/// The rate of what is sent now, in bit/s.
pub fn sent(demands: &[Demand]) -> u64 {
    demands.iter().map(|demand| demand.current.map_or(0, |layer| demand.rate(layer))).sum()
}

/// The rate that would give every demand what it wants, in bit/s.
pub fn desired(demands: &[Demand]) -> u64 {
    demands.iter().map(|demand| unlimited(demand).map_or(0, |layer| demand.rate(layer))).sum()
}

/// The lowest layer whose picture is at least as large as it is shown, of the layers' sizes (width,
/// height; lowest first).
pub fn layer_for_size(sizes: &[(u32, u32)], width: u32, height: u32) -> Layer {
    let wanted = u64::from(width) * u64::from(height);
    let fits = |size: &(u32, u32)| {
        // A tenth smaller is not seen.
        u64::from(size.0) * u64::from(size.1) * 11 / 10 >= wanted
    };
    let layer = sizes.iter().position(fits).unwrap_or(sizes.len().saturating_sub(1));
    layer.min(LAYERS - 1) as Layer
}
