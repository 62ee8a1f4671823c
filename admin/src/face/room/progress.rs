//! Progress of long work: one notice that is edited, and not too often.

use std::time::Duration;

use runtime::Clock;
use tokio::sync::watch;

use super::page::Page;
use super::voice::Voice;

/// How long work takes before its progress is shown.
const FIRST_AFTER: Duration = Duration::from_secs(2);
/// How long a notice stays before it is edited again.
const INTERVAL: Duration = Duration::from_secs(3);

/// Says what is heard, in reply to a command, until nothing more can come. Cancel-safe.
pub(super) async fn show(voice: &Voice, clock: &Clock, command: &str, mut heard: watch::Receiver<String>) {
    // What is over soon needs no progress.
    clock.sleep(FIRST_AFTER).await;
    let mut notice = None;
    while heard.changed().await.is_ok() {
        let page = Page::text(heard.borrow_and_update().clone());
        let said = match &notice {
            None => voice.say(&page, Some(command)).await.map(|said| notice = Some(said)),
            Some(notice) => voice.edit(notice, &page).await,
        };
        if let Err(error) = said {
            tracing::debug!(%error, "progress was not shown in the admin room");
        }
        clock.sleep(INTERVAL).await;
    }
}
