//! Batches: positions, stamps, expectations, counters, observers, cancellation.

use std::{
    pin::pin,
    sync::{Arc, Mutex, mpsc},
    task::{Context, Waker},
    thread,
};

use storage::{
    Batch, CommitError, Committed, Durability, FailAction, FailPoints, FailStep, Read, Stamped, Store, StreamPos, Topic,
};

use crate::bed::{Bed, COUNTS, LOG, NAMES, SINGLE, named};

on_every_backend!(
    batches_get_dense_positions,
    pending_positions_are_filled_in,
    operations_apply_in_order,
    a_failed_expectation_writes_nothing_and_takes_no_position,
    expectations_compare_whole_values,
    expectations_see_earlier_batches_of_their_group,
    counters_add_up,
    counters_of_a_group_add_up,
    a_counter_that_does_not_decode_fails_only_its_batch,
    concurrent_committers_get_distinct_positions_and_observers_see_them_in_order,
    a_panicking_observer_does_not_stop_commits,
    a_dropped_commit_is_still_committed,
    commits_after_close_are_refused,
    close_commits_what_is_queued,
    durable_commits_work,
    oversized_values_are_refused,
);

fn get(store: &Store, name: &str) -> Option<u64> {
    store.get(&NAMES, &name.to_owned()).expect("readable")
}

fn batches_get_dense_positions(bed: &Bed) {
    let store = bed.open();
    assert_eq!(store.visible(), StreamPos::ZERO);
    for expected in 1..=5 {
        assert_eq!(store.commit_blocking(Batch::new()).unwrap(), StreamPos(expected));
        assert_eq!(store.visible(), StreamPos(expected));
        assert_eq!(store.snapshot().position().unwrap(), StreamPos(expected));
    }
}

fn pending_positions_are_filled_in(bed: &Bed) {
    let store = bed.open();
    store.commit_blocking(Batch::new()).unwrap();
    let mut batch = Batch::new();
    batch.put(&LOG, &(7, StreamPos::PENDING), &Stamped::pending("now".to_owned()));
    batch.put(&LOG, &(7, StreamPos(1)), &Stamped { pos: StreamPos(1), value: "then".to_owned() });
    let pos = store.commit_blocking(batch).unwrap();
    let rows: Vec<_> = store.scan(&LOG, &7).iter().map(Result::unwrap).collect();
    let expected = [
        ((7, StreamPos(1)), Stamped { pos: StreamPos(1), value: "then".to_owned() }),
        ((7, pos), Stamped { pos, value: "now".to_owned() }),
    ];
    assert_eq!(rows, expected);
}

fn operations_apply_in_order(bed: &Bed) {
    let store = bed.open();
    let mut batch = named("kept", 1);
    batch.put(&NAMES, &"gone".to_owned(), &1).delete(&NAMES, &"gone".to_owned());
    batch.delete(&NAMES, &"kept".to_owned()).put(&NAMES, &"kept".to_owned(), &2);
    batch.put(&SINGLE, &(), &b"alone".to_vec());
    store.commit_blocking(batch).unwrap();
    assert_eq!((get(&store, "kept"), get(&store, "gone")), (Some(2), None));
    assert_eq!(store.get(&SINGLE, &()).unwrap().as_deref(), Some(b"alone".as_slice()));
}

fn a_failed_expectation_writes_nothing_and_takes_no_position(bed: &Bed) {
    let store = bed.open();
    store.commit_blocking(named("taken", 1)).unwrap();
    let mut batch = named("other", 2);
    batch.expect_absent(&NAMES, &"taken".to_owned());
    assert!(matches!(store.commit_blocking(batch), Err(CommitError::Expectation { keyspace: "names" })));
    assert_eq!(get(&store, "other"), None);
    assert_eq!(store.visible(), StreamPos(1));
    assert_eq!(store.commit_blocking(Batch::new()).unwrap(), StreamPos(2));
}

fn expectations_compare_whole_values(bed: &Bed) {
    let store = bed.open();
    let swap = |from: u64, to: u64| {
        let mut batch = named("epoch", to);
        batch.expect_equals(&NAMES, &"epoch".to_owned(), &from);
        store.commit_blocking(batch)
    };
    assert!(swap(1, 2).is_err(), "an absent row equals nothing");
    store.commit_blocking(named("epoch", 1)).unwrap();
    assert!(swap(1, 2).is_ok());
    assert!(swap(1, 3).is_err());
    assert_eq!(get(&store, "epoch"), Some(2));
}

/// Fail points that hold the first group until told, so that what is submitted meanwhile forms one group; and who tells
/// when they hold it.
fn hold_first_group() -> (FailPoints, mpsc::Sender<()>, mpsc::Receiver<()>) {
    let (release, wait) = mpsc::channel();
    let (hold, held) = mpsc::channel();
    let wait = Mutex::new(Some((wait, hold)));
    let points = FailPoints::new(move |step| {
        if step == FailStep::BeforeWrite
            && let Some((wait, hold)) = wait.lock().unwrap().take()
        {
            hold.send(()).unwrap();
            wait.recv().unwrap();
        }
        FailAction::Continue
    });
    (points, release, held)
}

/// Commits the batches as one group and returns their results in order.
fn commit_as_group(bed: &Bed, batches: Vec<Batch>) -> (Store, Vec<Result<StreamPos, CommitError>>) {
    let (points, release, held) = hold_first_group();
    let store = bed.open_with(points);
    let mut context = Context::from_waker(Waker::noop());
    let mut first = Box::pin(store.commit(Batch::new()));
    assert!(first.as_mut().poll(&mut context).is_pending());
    // The committer must have taken the first batch before the others arrive.
    held.recv().unwrap();
    let mut waiting: Vec<_> = batches.into_iter().map(|batch| Box::pin(store.commit(batch))).collect();
    for commit in &mut waiting {
        assert!(commit.as_mut().poll(&mut context).is_pending());
    }
    release.send(()).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(first).unwrap();
    let results = waiting.into_iter().map(|commit| runtime.block_on(commit)).collect();
    (store, results)
}

fn expectations_see_earlier_batches_of_their_group(bed: &Bed) {
    let claim = |value| {
        let mut batch = named("name", value);
        batch.expect_absent(&NAMES, &"name".to_owned());
        batch
    };
    let mut swap = Batch::new();
    swap.expect_equals(&NAMES, &"name".to_owned(), &10).delete(&NAMES, &"name".to_owned());
    let (store, results) = commit_as_group(bed, vec![claim(10), claim(20), swap, claim(30)]);
    let positions: Vec<_> = results.into_iter().map(Result::ok).collect();
    assert_eq!(positions, [Some(StreamPos(2)), None, Some(StreamPos(3)), Some(StreamPos(4))]);
    assert_eq!(get(&store, "name"), Some(30));
}

fn count(store: &Store, name: &str) -> Option<i64> {
    store.get(&COUNTS, &(1, name.to_owned())).expect("readable")
}

fn counters_add_up(bed: &Bed) {
    let store = bed.open();
    let key = |name: &str| (1, name.to_owned());
    let mut batch = Batch::new();
    batch.add(&COUNTS, &key("a"), 5).add(&COUNTS, &key("a"), -2).add(&COUNTS, &key("b"), 1);
    batch.put(&COUNTS, &key("c"), &10).add(&COUNTS, &key("c"), 1);
    batch.add(&COUNTS, &key("d"), 9).delete(&COUNTS, &key("d")).add(&COUNTS, &key("d"), 1);
    batch.add(&COUNTS, &key("max"), i64::MAX).add(&COUNTS, &key("max"), 1);
    store.commit_blocking(batch).unwrap();
    let mut batch = Batch::new();
    batch.add(&COUNTS, &key("a"), 100);
    store.commit_blocking(batch).unwrap();
    let found = ["a", "b", "c", "d", "max"].map(|name| count(&store, name));
    assert_eq!(found, [Some(103), Some(1), Some(11), Some(1), Some(i64::MAX)]);
}

fn counters_of_a_group_add_up(bed: &Bed) {
    let batches = (0..50)
        .map(|_| {
            let mut batch = Batch::new();
            batch.add(&COUNTS, &(1, "shared".to_owned()), 2);
            batch
        })
        .collect();
    let (store, results) = commit_as_group(bed, batches);
    assert!(results.iter().all(Result::is_ok));
    assert_eq!(count(&store, "shared"), Some(100));
}

fn a_counter_that_does_not_decode_fails_only_its_batch(bed: &Bed) {
    // The same rows under another type, as a bug would leave them.
    const SAME: storage::Keyspace<(u64, String), Vec<u8>> = storage::Keyspace::new("counts", storage::Profile::Points);
    let store = bed.open();
    let mut broken = Batch::new();
    broken.put(&SAME, &(1, "x".to_owned()), &vec![1]);
    store.commit_blocking(broken).unwrap();
    let mut batch = named("with it", 1);
    batch.add(&COUNTS, &(1, "x".to_owned()), 1);
    assert!(matches!(store.commit_blocking(batch), Err(CommitError::Failed(_))));
    assert_eq!(get(&store, "with it"), None);
    assert_eq!(store.commit_blocking(named("next", 1)).unwrap(), StreamPos(2));
}

fn concurrent_committers_get_distinct_positions_and_observers_see_them_in_order(bed: &Bed) {
    const THREADS: u64 = 8;
    const EACH: u64 = 50;
    let store = bed.open();
    let seen: Arc<Mutex<Vec<Committed>>> = Arc::default();
    let (log, handle) = (seen.clone(), store.clone());
    store.on_visible(Arc::new(move |group: &[Committed]| {
        let last = group.last().expect("groups are not empty").pos;
        assert!(handle.visible() >= last, "these observers are told after the position is visible");
        log.lock().unwrap().extend_from_slice(group);
    }));
    let early: Arc<Mutex<u64>> = Arc::default();
    let (count, handle) = (early.clone(), store.clone());
    store.on_commit(Arc::new(move |group: &[Committed]| {
        let first = group.first().expect("groups are not empty").pos;
        if handle.visible() < first {
            *count.lock().unwrap() += group.len() as u64;
        }
    }));
    let mut positions: Vec<u64> = thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|thread| {
                let store = &store;
                scope.spawn(move || {
                    let commit = |number| {
                        let mut batch = named(&format!("{thread}/{number}"), number);
                        batch.touch(Topic::new(1, thread));
                        let pos = store.commit_blocking(batch).unwrap();
                        assert!(store.visible() >= pos);
                        assert_eq!(get(store, &format!("{thread}/{number}")), Some(number));
                        pos.0
                    };
                    (0..EACH).map(commit).collect::<Vec<_>>()
                })
            })
            .collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    positions.sort_unstable();
    let all: Vec<u64> = (1..=THREADS * EACH).collect();
    assert_eq!(positions, all);
    let seen = seen.lock().unwrap();
    assert_eq!(seen.iter().map(|batch| batch.pos.0).collect::<Vec<_>>(), all);
    assert!(seen.iter().all(|batch| batch.topics.len() == 1));
    assert_eq!(*early.lock().unwrap(), THREADS * EACH, "these observers are told before the position is visible");
    store.close().unwrap();
}

fn a_panicking_observer_does_not_stop_commits(bed: &Bed) {
    let store = bed.open();
    store.on_commit(Arc::new(|_: &[Committed]| panic!("expected in this test")));
    let (told, tell) = mpsc::channel();
    let told = Mutex::new(told);
    store.on_commit(Arc::new(move |group: &[Committed]| told.lock().unwrap().send(group.len()).unwrap()));
    assert_eq!(store.commit_blocking(Batch::new()).unwrap(), StreamPos(1));
    assert_eq!(store.commit_blocking(Batch::new()).unwrap(), StreamPos(2));
    assert_eq!(tell.try_iter().sum::<usize>(), 2);
}

fn a_dropped_commit_is_still_committed(bed: &Bed) {
    let (points, release, _held) = hold_first_group();
    let store = bed.open_with(points);
    {
        let mut commit = pin!(store.commit(named("dropped", 1)));
        assert!(commit.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    }
    assert_eq!(store.visible(), StreamPos::ZERO);
    release.send(()).unwrap();
    assert_eq!(store.commit_blocking(Batch::new()).unwrap(), StreamPos(2));
    assert_eq!(get(&store, "dropped"), Some(1));
}

fn commits_after_close_are_refused(bed: &Bed) {
    let store = bed.open();
    store.commit_blocking(named("a", 1)).unwrap();
    store.close().unwrap();
    store.close().unwrap();
    assert!(matches!(store.commit_blocking(named("b", 1)), Err(CommitError::Closed)));
    assert_eq!(get(&store, "a"), Some(1), "reads go on");
}

fn close_commits_what_is_queued(bed: &Bed) {
    let (points, release, _held) = hold_first_group();
    let store = bed.open_with(points);
    let mut context = Context::from_waker(Waker::noop());
    let mut commits: Vec<_> = (0..20).map(|n| Box::pin(store.commit(named(&n.to_string(), n)))).collect();
    for commit in &mut commits {
        assert!(commit.as_mut().poll(&mut context).is_pending());
    }
    let closing = store.clone();
    let closer = thread::spawn(move || closing.close());
    release.send(()).unwrap();
    closer.join().unwrap().unwrap();
    for commit in &mut commits {
        assert!(commit.as_mut().poll(&mut context).is_ready());
    }
    assert_eq!(store.visible(), StreamPos(20));
}

fn durable_commits_work(bed: &Bed) {
    let mut options = bed.options();
    options.durability = Durability::Always;
    let store = Store::open(options).unwrap();
    assert_eq!(store.commit_blocking(named("a", 1)).unwrap(), StreamPos(1));
    store.flush().unwrap();
    assert_eq!(get(&store, "a"), Some(1));
}

fn oversized_values_are_refused(bed: &Bed) {
    let store = bed.open();
    let mut batch = named("beside", 1);
    batch.put(&SINGLE, &(), &vec![0; storage::MAX_VALUE_BYTES + 1]);
    assert!(matches!(store.commit_blocking(batch), Err(CommitError::TooLarge { what: "value", .. })));
    assert_eq!((store.visible(), get(&store, "beside")), (StreamPos::ZERO, None));
}
