//! Threads that own connections.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use virt::connect::Connect;

use super::failure::{Failure, unreachable};
use crate::hypervisor::HypervisorError;

/// Calls that may wait for a thread.
const QUEUE: usize = 64;

type Job = Box<dyn FnOnce(&mut Session) + Send>;

/// A few threads with a connection each, fed from one queue.
pub(super) struct Workers {
    queue: SyncSender<Job>,
}

/// A thread's connection, opened when it is first needed and again after it broke.
struct Session {
    uri: String,
    connection: Option<Connect>,
}

impl Workers {
    /// Starts `count` threads.
    pub(super) fn start(uri: &str, count: usize) -> Self {
        let (queue, jobs) = sync_channel::<Job>(QUEUE);
        let jobs = Arc::new(Mutex::new(jobs));
        for _ in 0..count {
            let (jobs, uri) = (Arc::clone(&jobs), uri.to_owned());
            std::thread::spawn(move || {
                run(
                    &jobs,
                    Session {
                        uri,
                        connection: None,
                    },
                );
            });
        }
        Self { queue }
    }

    /// Makes one call in a thread. A call that fails because an idle connection had broken is made once more on a new
    /// one: it cannot have taken effect.
    pub(super) async fn call<T: Send + 'static>(
        &self,
        what: &str,
        deadline: Duration,
        call: impl FnOnce(&Connect) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, HypervisorError> {
        let (answer, answered) = oneshot::channel();
        let named = what.to_owned();
        let job: Job = Box::new(move |session| {
            // Fails where the caller has given up; the answer is dropped then.
            let _ = answer.send(session.make(&named, call));
        });
        let late = || HypervisorError::Deadline {
            what: what.to_owned(),
            deadline,
        };
        self.queue.try_send(job).map_err(|_| late())?;
        match tokio::time::timeout(deadline, answered).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(HypervisorError::Disconnected {
                what: what.to_owned(),
                why: "the call did not come to its end".into(),
            }),
            Err(_) => Err(late()),
        }
    }
}

fn run(jobs: &Mutex<Receiver<Job>>, mut session: Session) {
    loop {
        let job = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
        match job {
            Ok(job) => {
                // The bindings panic where libvirt fails to let go of a handle; the caller then finds its answer gone.
                let done = catch_unwind(AssertUnwindSafe(|| job(&mut session)));
                if done.is_err() {
                    session.abandon();
                }
            }
            // The thread does not end: what OpenSSL, below libvirt, does at a thread's end must not meet what it does at the
            // process's, which comes next (seen: heap corruption once in some 200 runs).
            Err(_) => std::thread::park(),
        }
    }
}

impl Session {
    fn make<T>(
        &mut self,
        what: &str,
        call: impl FnOnce(&Connect) -> Result<T, Failure>,
    ) -> Result<T, HypervisorError> {
        // An idle connection that broke shows here, before the call.
        if self
            .connection
            .as_ref()
            .is_some_and(|connection| !connection.is_alive().unwrap_or(false))
        {
            self.abandon();
        }
        let connection = match self.connection.take() {
            Some(connection) => connection,
            None => {
                Connect::open(Some(&self.uri)).map_err(|error| unreachable(&self.uri, &error))?
            }
        };
        let result = call(self.connection.insert(connection));
        result.map_err(|failure| {
            if failure.broke_connection() {
                self.abandon();
            }
            failure.into_error(what)
        })
    }

    /// Lets go of a broken connection; the library keeps a few bytes for each.
    fn abandon(&mut self) {
        self.connection = None;
    }
}
