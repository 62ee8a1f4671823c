use super::*;

fn demand(rates: [u64; 3], wanted: Layer, priority: u64, current: Option<Layer>) -> Demand {
    Demand { rates, wanted, priority, current }
}

/// A budget that is the same for what is sent and what is not.
fn even(rate: u64) -> Budget {
    Budget { kept: rate, raised: rate }
}

const SIMULCAST: [u64; 3] = [100_000, 400_000, 1_500_000];

#[test]
fn enough_for_all_gives_all_what_they_want() {
    let demands =
        [demand(SIMULCAST, 2, 1, None), demand(SIMULCAST, 1, 9, Some(0)), demand([0, 400_000, 0], 0, 1, None)];
    assert_eq!(allocate(even(10_000_000), &demands), [Some(2), Some(1), Some(1)]);
    assert_eq!(desired(&demands), 2_300_000);
}

#[test]
fn everybody_gets_the_lowest_before_anybody_gets_more() {
    let demands = [demand(SIMULCAST, 2, 5, None), demand(SIMULCAST, 2, 1, None)];
    assert_eq!(allocate(even(230_000), &demands), [Some(0), Some(0)]);
    assert_eq!(allocate(even(120_000), &demands), [Some(0), None], "the important picture stays, the other pauses");
    assert_eq!(allocate(even(600_000), &demands), [Some(1), Some(0)]);
    assert_eq!(allocate(even(0), &demands), [Some(0), None], "something has to be sent to measure with");
}

#[test]
fn going_up_needs_more_room_than_staying() {
    let at = |current| allocate(even(430_000), &[demand(SIMULCAST, 2, 1, current)]);
    assert_eq!(at(Some(1)), [Some(1)]);
    assert_eq!(at(Some(0)), [Some(0)]);
}

#[test]
fn what_is_kept_leaves_nothing_for_others_when_the_budget_for_more_is_lower() {
    let demands = [demand(SIMULCAST, 2, 5, None), demand(SIMULCAST, 2, 1, Some(1)), demand(SIMULCAST, 1, 1, Some(1))];
    let budget = Budget { kept: 900_000, raised: 350_000 };
    assert_eq!(allocate(budget, &demands), [Some(0), Some(1), Some(1)]);
    assert_eq!(allocate(Budget { raised: 100_000, ..budget }, &demands), [None, Some(1), Some(1)]);
}

#[test]
fn pictures_of_one_importance_do_not_swap_layers() {
    let demands = [demand(SIMULCAST, 2, 1, Some(1)), demand(SIMULCAST, 2, 1, Some(2))];
    assert_eq!(allocate(even(2_000_000), &demands), [Some(1), Some(2)]);
}

#[test]
fn a_track_without_layers_is_all_or_nothing() {
    let single = demand([900_000, 0, 0], 2, 1, Some(0));
    assert_eq!(allocate(even(899_999), &[single]), [None]);
    assert_eq!(allocate(even(900_000), &[single]), [Some(0)]);
    let paused = demand(SIMULCAST, 2, 1, None);
    let sent = demand(SIMULCAST, 2, 1, Some(0));
    assert_eq!(allocate(even(110_000), &[paused, sent]), [None, Some(0)], "they do not take turns");
    assert_eq!(allocate(even(900_000), &[Demand::default()]), [None], "nothing is being sent");
}

/// Never more than the budget, whatever the demands.
#[test]
fn an_allocation_fits_the_budget() {
    let random = runtime::Random::seeded(3);
    for _ in 0..2000 {
        let demands: Vec<Demand> = (0..random.below(12))
            .map(|_| {
                let rates = [random.below(300_000), random.below(900_000), random.below(3_000_000)];
                demand(rates, random.below(3) as Layer, random.below(3), None)
            })
            .collect();
        let budget = random.below(8_000_000);
        let given = allocate(even(budget), &demands);
        let sum: u64 =
            given.iter().zip(&demands).filter_map(|(layer, demand)| layer.map(|layer| demand.rate(layer))).sum();
        assert!(sum <= budget.max(ALWAYS_SENT), "{sum} > {budget}: {demands:?}");
    }
}

#[test]
fn the_layer_follows_the_size() {
    let sizes = [(320, 180), (640, 360), (1280, 720)];
    let layer = |width, height| layer_for_size(&sizes, width, height);
    assert_eq!(
        [layer(100, 80), layer(320, 180), layer(500, 280), layer(1280, 720), layer(4000, 3000)],
        [0, 0, 1, 2, 2]
    );
    assert_eq!(layer_for_size(&[], 10, 10), 0);
}
