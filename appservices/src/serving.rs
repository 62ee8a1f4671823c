//! Which services are served: what changes when one is added, changed or removed.

use std::collections::HashMap;
use std::sync::Arc;

use rooms::{RoomNid, RoomSeq};
use storage::Batch;
use tokio::task::JoinHandle;
use users::AppServices;

use crate::Dispatcher;
use crate::error::DispatchError;
use crate::interest::Interest;
use crate::line::Line;
use crate::rows::{self, CursorRow};

impl Dispatcher {
    /// Begins to serve another set of services; false if it has to be tried again.
    pub(crate) async fn take_over(
        &self,
        set: Arc<AppServices>,
        tasks: &mut HashMap<String, JoinHandle<()>>,
        seen: &mut HashMap<RoomNid, RoomSeq>,
    ) -> bool {
        let outcome = async {
            self.begin_observing(!set.is_empty());
            seen.clear();
            *self.interest.write() = Arc::new(Interest::new(set.clone(), self.rooms.clone()));
            self.stop_changed(&set, tasks).await?;
            self.start_new(&set, tasks).await
        };
        match outcome.await {
            Ok(()) => true,
            Err(error) => {
                tracing::error!(%error, "the application services cannot be served; it is tried again");
                false
            }
        }
    }

    /// From now on arrivals are written down, if there are services; `done` begins where they do.
    fn begin_observing(&self, is_needed: bool) {
        let mut done = self.done.lock();
        if let Some(from) = self.arrivals.begin(is_needed, self.store.visible()) {
            *done = from;
        }
    }

    /// Ends what was begun for services that are gone or different, and forgets those that are gone.
    async fn stop_changed(
        &self,
        set: &AppServices,
        tasks: &mut HashMap<String, JoinHandle<()>>,
    ) -> Result<(), DispatchError> {
        let lines = self.lines.read().clone();
        for (id, line) in lines {
            if set.get(&id).is_some_and(|service| **service == *line.service) {
                continue;
            }
            line.stop.cancel();
            self.lines.write().remove(&id);
            if let Some(task) = tasks.remove(&id) {
                // It ends at its next wait. A panic in it was logged already.
                drop(task.await);
            }
        }
        for id in rows::known_services(&self.store)? {
            if set.get(&id).is_none() {
                tracing::info!(appservice = id, "an application service is registered no more");
                rows::forget_service(&self.store, &id).await?;
            }
        }
        Ok(())
    }

    async fn start_new(
        &self,
        set: &AppServices,
        tasks: &mut HashMap<String, JoinHandle<()>>,
    ) -> Result<(), DispatchError> {
        for service in set.iter() {
            if let Err(error) = self.users.ensure_sender(service).await {
                // Its delivery tries again; the other services are served meanwhile.
                tracing::error!(appservice = service.id(), %error, "the user of a service cannot be made");
            }
            if service.url().is_none() || self.line(service.id()).is_some() {
                continue;
            }
            let row = match rows::read_cursor(&self.store, service.id())? {
                Some(row) => row,
                None => {
                    // Not where the follower is, which may have yet to look at what came before the registration.
                    let row = CursorRow::new(set.since(), self.clock.now_ms());
                    let mut batch = Batch::new();
                    rows::put_cursor(&mut batch, service.id(), &row);
                    self.store.commit(batch).await?;
                    row
                }
            };
            let stop = self.tasks.shutdown_token().child_token();
            let line = Arc::new(Line::new(service.clone(), row.place, row.devices, stop));
            self.lines.write().insert(service.id().to_owned(), line.clone());
            if let Err(error) = self.note_waiting_devices(&line, row.devices) {
                // Nobody serves it yet: the next try begins anew.
                self.lines.write().remove(service.id());
                return Err(error);
            }
            let task = self.tasks.spawn("appservice delivery", self.clone().deliver(line, row));
            tasks.insert(service.id().to_owned(), task);
        }
        Ok(())
    }
}
