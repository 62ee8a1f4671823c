//! Taking out records whose time is over.

use std::time::Duration;

use crate::admin::Admin;

/// How often it is looked for them.
const INTERVAL: Duration = Duration::from_secs(3600);

/// Takes out, now and then, what the log no longer keeps, until the shutdown.
pub(crate) fn start_forgetting(admin: &Admin) {
    let (admin, shutdown) = (admin.clone(), admin.tasks().shutdown_token());
    admin.clone().tasks().spawn("audit retention", async move {
        let forgetting = async {
            loop {
                admin.clock().sleep(INTERVAL).await;
                let kept_ms = u64::try_from(admin.config().audit_retention.duration().as_millis()).unwrap_or(u64::MAX);
                let oldest_ms = admin.clock().now_ms().saturating_sub(kept_ms);
                match admin.audit().forget_before(oldest_ms).await {
                    Ok(0) => {}
                    Ok(count) => tracing::info!(count, "old records of the audit log were taken out"),
                    Err(error) => tracing::error!(%error, "old records of the audit log were not taken out"),
                }
            }
        };
        shutdown.run_until_cancelled(forgetting).await;
    });
}
