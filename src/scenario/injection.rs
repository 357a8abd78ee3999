//! What a variant's steps come to.

use std::time::Duration;

use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;

use super::ScenarioError;
use super::probe::Seen;
use super::result::StepOutcome;
use super::step::ResolvedStep;

/// What a variant's steps came to.
#[derive(Default)]
pub(super) struct Injection {
    /// Why not every step did what it is for; empty when all did.
    pub(super) troubles: Vec<String>,
    pub(super) seen: Seen,
    /// Acts that last for a time only: when it is over, and their steps.
    pub(super) lifts: Vec<(Duration, String)>,
}

/// How a step ended.
pub(super) struct Ended {
    pub(super) result: StepOutcome,
    pub(super) detail: String,
    pub(super) refused: Option<String>,
    /// When it is to be put back.
    pub(super) lift: Option<Duration>,
}

impl Ended {
    pub(super) fn failed(detail: impl Into<String>) -> Self {
        Self {
            result: StepOutcome::Failed,
            detail: detail.into(),
            refused: None,
            lift: None,
        }
    }

    pub(super) fn done(detail: impl Into<String>) -> Self {
        Self {
            result: StepOutcome::Verified,
            detail: detail.into(),
            refused: None,
            lift: None,
        }
    }
}

/// A step that has ended, with the times, in milliseconds since the variant's begin, at which that began and ended.
pub(super) type Timed<'s> = (&'s ResolvedStep, Result<(Ended, u64, u64), ScenarioError>);

/// Steps that go on in the background.
#[derive(Default)]
pub(super) struct Behind<'s> {
    pub(super) running: FuturesUnordered<BoxFuture<'s, Timed<'s>>>,
    pub(super) ended: Vec<Timed<'s>>,
}

impl Behind<'_> {
    /// Does something else while they go on.
    pub(super) async fn beside<T>(&mut self, work: impl Future<Output = T>) -> T {
        tokio::pin!(work);
        loop {
            tokio::select! {
                biased;
                // First: what is ready at once, again and again, would keep these from ever going on.
                Some(ended) = self.running.next() => self.ended.push(ended),
                done = &mut work => return done,
            }
        }
    }
}

impl Injection {
    /// Takes down how a step ended.
    pub(super) fn take(&mut self, step: &ResolvedStep, ended: Ended) {
        self.seen.done.push(step.id.clone());
        let refused = ended.refused.map(|refused| (step.id.clone(), refused));
        self.seen.refused.extend(refused);
        self.lifts
            .extend(ended.lift.map(|at| (at, step.id.clone())));
        if ended.result != StepOutcome::Verified {
            self.troubles
                .push(format!("step {}: {}", step.id, ended.detail));
        }
    }
}
