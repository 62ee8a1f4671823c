use super::*;

fn new_tasks() -> (Tasks, Metrics) {
    let metrics = Metrics::new();
    (Tasks::new(&metrics), metrics)
}

#[tokio::test]
async fn a_panic_is_counted_and_ends_only_its_task() {
    let (tasks, metrics) = new_tasks();
    tasks.spawn("bad", async { panic!("on purpose") }).await.unwrap();
    assert!(metrics.render().contains("conduit_task_panics_total 1\n"));
    assert!(!tasks.is_shutting_down());
    assert_eq!(tasks.running(), 0);
}

#[tokio::test]
async fn the_end_of_an_essential_task_shuts_the_server_down() {
    let (tasks, _) = new_tasks();
    tasks.spawn_essential("committer", async {});
    tokio::time::timeout(Duration::from_secs(60), tasks.shutdown_signal()).await.unwrap();
}

#[tokio::test]
async fn drain_waits_for_tasks_that_obey_and_gives_up_on_others() {
    let (tasks, _) = new_tasks();
    let obedient = tasks.clone();
    tasks.spawn("obedient", async move { obedient.shutdown_signal().await });
    assert!(tasks.drain(Duration::from_secs(60)).await);

    let (tasks, _) = new_tasks();
    tasks.spawn("stubborn", std::future::pending());
    assert!(!tasks.drain(Duration::from_millis(20)).await);
}

#[tokio::test]
async fn drain_waits_for_a_computation_that_nobody_waits_for() {
    let (tasks, _) = new_tasks();
    let (begun, has_begun) = tokio::sync::oneshot::channel();
    let (end, ends) = std::sync::mpsc::channel::<()>();
    tokio::select! {
        _ = tasks.compute("long", move || {
            begun.send(()).unwrap();
            ends.recv().unwrap();
        }) => unreachable!(),
        begun = has_begun => begun.unwrap(),
    }
    assert!(!tasks.drain(Duration::from_millis(20)).await);
    end.send(()).unwrap();
    assert!(tasks.drain(Duration::from_secs(60)).await);
}

#[tokio::test]
async fn compute_gives_results_and_survives_panics() {
    let (tasks, metrics) = new_tasks();
    assert_eq!(tasks.compute("sum", || 1 + 1).await, Ok(2));
    let failed = tasks.compute("bad", || -> u8 { panic!("on purpose") }).await;
    assert_eq!(failed, Err(TaskFailed("bad")));
    assert!(metrics.render().contains("conduit_task_panics_total 1\n"));
    assert_eq!(tasks.compute("sum", || 2 + 2).await, Ok(4));
}
