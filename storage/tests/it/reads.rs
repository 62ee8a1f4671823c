//! Point reads, scans with every bound, snapshots.

use std::{collections::BTreeMap, ops::ControlFlow};

use proptest::{
    collection::vec,
    prelude::*,
    test_runner::{Config, TestRunner},
};
use storage::{Batch, Keyspace, Profile, Read, Scan, StorageError, Store};

use crate::bed::{Bed, COUNTS, GRID, NAMES, named};

on_every_backend!(
    point_reads_agree,
    undeclared_keyspaces_are_reported,
    rows_that_do_not_decode_are_reported,
    scans_agree_with_a_sorted_map,
    long_scans_cross_pages,
    raw_scans_stop_when_told,
    prefixes_of_the_highest_value_are_scanned,
    snapshots_do_not_change,
    snapshots_outlive_their_store,
    deleted_rows_give_their_space_back,
);

type Cell = (u8, u8, u8);

fn fill(store: &Store, cells: impl IntoIterator<Item = Cell>) -> BTreeMap<Cell, u32> {
    let mut model = BTreeMap::new();
    let mut batch = Batch::new();
    for (value, cell) in (0_u32..).zip(cells) {
        model.insert(cell, value);
        batch.put(&GRID, &cell, &value);
    }
    store.commit_blocking(batch).unwrap();
    model
}

fn point_reads_agree(bed: &Bed) {
    let store = bed.open();
    store.commit_blocking(named("a", 1)).unwrap();
    let (here, absent) = ("a".to_owned(), "b".to_owned());
    let snapshot = store.snapshot();
    fn check(source: &impl Read, here: &String, absent: &String) {
        assert_eq!(source.get(&NAMES, here).unwrap(), Some(1));
        assert_eq!(source.get(&NAMES, absent).unwrap(), None);
        assert!(source.contains(&NAMES, here).unwrap() && !source.contains(&NAMES, absent).unwrap());
        assert_eq!(source.get_with(&NAMES, here, |bytes| bytes.to_vec()).unwrap(), Some(1_u64.to_be_bytes().to_vec()));
        let many = source.multi_get(&NAMES, &[absent.clone(), here.clone(), absent.clone()]).unwrap();
        assert_eq!(many, [None, Some(1), None]);
    }
    check(&store, &here, &absent);
    check(&snapshot, &here, &absent);
}

fn undeclared_keyspaces_are_reported(bed: &Bed) {
    const UNKNOWN: Keyspace<u8, u64> = Keyspace::new("unknown", Profile::Points);
    let store = bed.open();
    assert!(matches!(store.get(&UNKNOWN, &1), Err(StorageError::UnknownKeyspace("unknown"))));
    let rows: Vec<_> = store.scan(&UNKNOWN, &()).iter().collect();
    assert!(matches!(rows.as_slice(), [Err(StorageError::UnknownKeyspace("unknown"))]));
}

fn rows_that_do_not_decode_are_reported(bed: &Bed) {
    const SAME: Keyspace<String, Vec<u8>> = Keyspace::new("names", Profile::Points);
    let store = bed.open();
    let mut batch = named("a", 1);
    batch.put(&SAME, &"b".to_owned(), &vec![1, 2]).put(&SAME, &"c".to_owned(), &vec![0; 8]);
    store.commit_blocking(batch).unwrap();
    assert!(matches!(store.get(&NAMES, &"b".to_owned()), Err(StorageError::Corrupt { keyspace: "names", .. })));
    let rows: Vec<_> = store.scan(&NAMES, &()).iter().collect();
    assert!(matches!(rows.as_slice(), [Ok(_), Err(StorageError::Corrupt { .. })]), "a scan ends at an error: {rows:?}");
    assert_eq!(store.scan(&NAMES, &()).keys().map(Result::unwrap).collect::<Vec<_>>(), ["a", "b", "c"]);
}

#[derive(Clone, Debug)]
enum Bound {
    From(Cell),
    After(Cell),
    Until(Cell),
    Through(Cell),
    FromPrefix(u8),
    AfterPrefix(u8, u8),
    UntilPrefix(u8, u8),
    ThroughPrefix(u8),
}

/// Small numbers and the highest one, where carrying matters.
fn part() -> impl Strategy<Value = u8> {
    prop_oneof![0_u8..3, 254_u8..=255]
}

fn cell() -> impl Strategy<Value = Cell> {
    (part(), part(), part())
}

fn bound() -> impl Strategy<Value = Bound> {
    prop_oneof![
        cell().prop_map(Bound::From),
        cell().prop_map(Bound::After),
        cell().prop_map(Bound::Until),
        cell().prop_map(Bound::Through),
        part().prop_map(Bound::FromPrefix),
        (part(), part()).prop_map(|(a, b)| Bound::AfterPrefix(a, b)),
        (part(), part()).prop_map(|(a, b)| Bound::UntilPrefix(a, b)),
        part().prop_map(Bound::ThroughPrefix),
    ]
}

impl Bound {
    fn narrow<'a>(&self, scan: Scan<'a, Cell, u32>) -> Scan<'a, Cell, u32> {
        match self {
            Bound::From(cell) => scan.from(cell),
            Bound::After(cell) => scan.after(cell),
            Bound::Until(cell) => scan.until(cell),
            Bound::Through(cell) => scan.through(cell),
            Bound::FromPrefix(a) => scan.from_prefix(a),
            Bound::AfterPrefix(a, b) => scan.after_prefix(&(*a, *b)),
            Bound::UntilPrefix(a, b) => scan.until_prefix(&(*a, *b)),
            Bound::ThroughPrefix(a) => scan.through_prefix(a),
        }
    }

    fn admits(&self, cell: &Cell) -> bool {
        match self {
            Bound::From(bound) => cell >= bound,
            Bound::After(bound) => cell > bound,
            Bound::Until(bound) => cell < bound,
            Bound::Through(bound) => cell <= bound,
            Bound::FromPrefix(a) => cell.0 >= *a,
            Bound::AfterPrefix(a, b) => (cell.0, cell.1) > (*a, *b),
            Bound::UntilPrefix(a, b) => (cell.0, cell.1) < (*a, *b),
            Bound::ThroughPrefix(a) => cell.0 <= *a,
        }
    }
}

fn scans_agree_with_a_sorted_map(bed: &Bed) {
    let store = bed.open();
    let parts = [0_u8, 1, 2, 254, 255];
    let cells = parts
        .into_iter()
        .flat_map(move |a| parts.into_iter().flat_map(move |b| parts.into_iter().map(move |c| (a, b, c))));
    // Two of three cells, so that bounds also fall on absent keys.
    let model = fill(&store, cells.enumerate().filter(|(at, _)| at % 3 != 0).map(|(_, cell)| cell));
    let snapshot = store.snapshot();
    let prefix = prop_oneof![
        Just(None),
        part().prop_map(|a| Some((a, None))),
        (part(), part()).prop_map(|(a, b)| Some((a, Some(b))))
    ];
    let config = Config { cases: 400, failure_persistence: None, ..Config::default() };
    TestRunner::new(config)
        .run(&(prefix, vec(bound(), 0..3), any::<bool>()), |(prefix, bounds, reverse)| {
            let scan = |source| match prefix {
                None => Read::scan::<_, _, ()>(source, &GRID, &()),
                Some((a, None)) => Read::scan(source, &GRID, &a),
                Some((a, Some(b))) => Read::scan(source, &GRID, &(a, b)),
            };
            let narrow = |mut scan: Scan<'_, Cell, u32>| {
                for bound in &bounds {
                    scan = bound.narrow(scan);
                }
                let scan = if reverse { scan.reverse() } else { scan };
                scan.iter().map(Result::unwrap).collect::<Vec<_>>()
            };
            let in_prefix = |cell: &Cell| prefix.is_none_or(|(a, b)| cell.0 == a && b.is_none_or(|b| cell.1 == b));
            let admitted = |(cell, _): &(Cell, u32)| in_prefix(cell) && bounds.iter().all(|bound| bound.admits(cell));
            let mut expected: Vec<(Cell, u32)> = model.clone().into_iter().filter(admitted).collect();
            if reverse {
                expected.reverse();
            }
            prop_assert_eq!(narrow(scan(&store)), expected.clone());
            let frozen = match prefix {
                None => snapshot.scan(&GRID, &()),
                Some((a, None)) => snapshot.scan(&GRID, &a),
                Some((a, Some(b))) => snapshot.scan(&GRID, &(a, b)),
            };
            prop_assert_eq!(narrow(frozen), expected);
            Ok(())
        })
        .unwrap();
}

fn long_scans_cross_pages(bed: &Bed) {
    let store = bed.open();
    let model = fill(&store, (0..3).flat_map(|a| (0..200).map(move |b| (a, b, 0))));
    for wanted in [0, 1, 63, 64, 65, 128, 200] {
        let forward: Vec<_> = store.scan(&GRID, &1).iter().take(wanted).map(Result::unwrap).collect();
        let expected: Vec<_> = model.range((1, 0, 0)..).take(wanted.min(200)).map(|(k, v)| (*k, *v)).collect();
        assert_eq!(forward, expected);
        let backward: Vec<_> = store.scan(&GRID, &1).reverse().keys().take(wanted).map(Result::unwrap).collect();
        let expected: Vec<_> = model.range(..(2, 0, 0)).rev().take(wanted.min(200)).map(|(k, _)| *k).collect();
        assert_eq!(backward, expected);
    }
}

fn raw_scans_stop_when_told(bed: &Bed) {
    let store = bed.open();
    fill(&store, (0..10).map(|c| (1, 1, c)));
    let mut seen = Vec::new();
    let visit = |key: &[u8], value: &[u8]| {
        seen.push((key.to_vec(), value.to_vec()));
        if seen.len() == 3 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    store.scan(&GRID, &(1, 1)).from(&(1, 1, 4)).for_each_raw(visit).unwrap();
    let expected: Vec<_> = (4..7_u8).map(|c| (vec![1, 1, c], u32::from(c).to_be_bytes().to_vec())).collect();
    assert_eq!(seen, expected);
    assert!(store.scan(&GRID, &2).is_empty().unwrap());
    assert!(!store.scan(&GRID, &1).is_empty().unwrap());
}

fn prefixes_of_the_highest_value_are_scanned(bed: &Bed) {
    let store = bed.open();
    fill(&store, [(254, 255, 255), (255, 254, 255), (255, 255, 255)]);
    assert_eq!(store.scan(&GRID, &255).iter().count(), 2);
    assert_eq!(store.scan(&GRID, &(255, 255)).reverse().iter().count(), 1);
    assert_eq!(store.scan(&GRID, &()).after_prefix(&255).iter().count(), 0);
}

fn snapshots_do_not_change(bed: &Bed) {
    let store = bed.open();
    store.commit_blocking(named("a", 1)).unwrap();
    let before = store.snapshot();
    let mut batch = named("a", 2);
    batch.put(&NAMES, &"b".to_owned(), &2);
    let pos = store.commit_blocking(batch).unwrap();
    let rows = |source: &dyn Fn() -> Vec<(String, u64)>| source();
    let scan_before = rows(&|| before.scan(&NAMES, &()).iter().map(Result::unwrap).collect());
    assert_eq!(scan_before, [("a".to_owned(), 1)]);
    assert_eq!(before.get(&NAMES, &"a".to_owned()).unwrap(), Some(1));
    assert_eq!(before.position().unwrap().next(), pos);
    let after = store.snapshot();
    assert_eq!(after.get(&NAMES, &"a".to_owned()).unwrap(), Some(2));
    assert_eq!(after.position().unwrap(), pos);
    std::thread::spawn(move || drop((before, after))).join().unwrap();
}

fn snapshots_outlive_their_store(bed: &Bed) {
    let store = bed.open();
    store.commit_blocking(named("a", 1)).unwrap();
    let snapshot = store.snapshot();
    drop(store);
    assert_eq!(snapshot.get(&NAMES, &"a".to_owned()).unwrap(), Some(1));
    assert_eq!(snapshot.scan(&NAMES, &()).iter().count(), 1);
}

fn deleted_rows_give_their_space_back(bed: &Bed) {
    let store = bed.open();
    // Text without repetitions, which no compression makes small.
    let mut random = 1_u64;
    let mut word = || {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        random
    };
    for part in 0..2_u64 {
        for chunk in 0..8_u64 {
            let mut batch = Batch::new();
            for row in 0..200_u64 {
                let text: String = (0..50).map(|_| format!("{:x}", word())).collect();
                batch.put(&COUNTS, &(part, format!("{chunk} {row} {text}")), &1);
            }
            store.commit_blocking(batch).unwrap();
        }
    }
    store.compact(&COUNTS, &()).unwrap();
    let (first, second) =
        (store.approximate_bytes(&COUNTS, &0_u64).unwrap(), store.approximate_bytes(&COUNTS, &1_u64).unwrap());
    assert!(first > 500_000 && second > 500_000, "{first} and {second} bytes");
    let keys: Vec<_> = store.scan(&COUNTS, &0_u64).keys().collect::<Result<_, _>>().unwrap();
    for keys in keys.chunks(500) {
        let mut batch = Batch::new();
        for key in keys {
            batch.delete(&COUNTS, key);
        }
        store.commit_blocking(batch).unwrap();
    }
    store.compact(&COUNTS, &0_u64).unwrap();
    let (first, second) =
        (store.approximate_bytes(&COUNTS, &0_u64).unwrap(), store.approximate_bytes(&COUNTS, &1_u64).unwrap());
    assert!(first < 50_000 && second > 500_000, "{first} and {second} bytes");
    assert_eq!(store.scan(&COUNTS, &1_u64).keys().count(), 1600);
}
