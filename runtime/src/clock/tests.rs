use super::*;

#[test]
fn fake_clock_moves_only_when_advanced() {
    let clock = Clock::fake(1_000);
    assert_eq!((clock.now_ms(), clock.monotonic()), (1_000, Duration::ZERO));
    clock.clone().advance(Duration::from_millis(250));
    assert_eq!((clock.now_ms(), clock.monotonic()), (1_250, Duration::from_millis(250)));
}

#[test]
fn system_clock_is_after_2020_and_monotonic() {
    let clock = Clock::system();
    assert!(clock.now_ms() > 1_577_836_800_000);
    let first = clock.monotonic();
    assert!(clock.monotonic() >= first);
}

#[tokio::test]
async fn sleep_on_a_fake_clock_ends_when_it_is_advanced_far_enough() {
    let clock = Clock::fake(0);
    let mut sleep = std::pin::pin!(clock.sleep(Duration::from_secs(10)));
    assert!(futures_poll(sleep.as_mut()).await.is_none());
    clock.advance(Duration::from_secs(9));
    assert!(futures_poll(sleep.as_mut()).await.is_none());
    clock.advance(Duration::from_secs(1));
    assert!(futures_poll(sleep.as_mut()).await.is_some());
}

#[tokio::test]
async fn what_waits_for_a_moment_misses_no_time_before_the_wait() {
    let clock = Clock::fake(1_000);
    let (deadline, at_ms) = (clock.monotonic() + Duration::from_secs(10), clock.now_ms() + 10_000);
    clock.advance(Duration::from_secs(9));
    let (mut one, mut other) =
        (std::pin::pin!(clock.sleep_until(deadline)), std::pin::pin!(clock.sleep_until_ms(at_ms)));
    assert!(futures_poll(one.as_mut()).await.is_none() && futures_poll(other.as_mut()).await.is_none());
    clock.advance(Duration::from_secs(1));
    assert!(futures_poll(one.as_mut()).await.is_some() && futures_poll(other.as_mut()).await.is_some());
    // It is past already.
    clock.sleep_until(deadline).await;
    clock.sleep_until_ms(0).await;
    let system = Clock::system();
    system.sleep_until(Duration::ZERO).await;
    system.sleep_until_ms(system.now_ms()).await;
}

#[tokio::test]
async fn a_time_limit_begins_before_the_work() {
    let clock = Clock::fake(0);
    let work = async {
        clock.advance(Duration::from_secs(3));
        std::future::pending::<()>().await;
    };
    assert_eq!(clock.timeout(Duration::from_secs(3), work).await, None);
}

#[tokio::test]
async fn timeout_prefers_the_result() {
    let clock = Clock::fake(0);
    assert_eq!(clock.timeout(Duration::ZERO, async { 7 }).await, Some(7));
    assert_eq!(clock.timeout(Duration::ZERO, std::future::pending::<()>()).await, None);
}

/// Polls once: the output if the future is ready.
async fn futures_poll<F: Future>(mut future: std::pin::Pin<&mut F>) -> Option<F::Output> {
    std::future::poll_fn(|cx| match future.as_mut().poll(cx) {
        std::task::Poll::Ready(output) => std::task::Poll::Ready(Some(output)),
        std::task::Poll::Pending => std::task::Poll::Ready(None),
    })
    .await
}
