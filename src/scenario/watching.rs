//! Watching probes, and judging by what they saw.

use std::time::Duration;

use super::ScenarioError;
use super::continuous::Continuous;
use super::engine::Engine;
use super::events::RunEvent;
use super::expect::Expect;
use super::file::Resolved;
use super::injection::Injection;
use super::looking::{Against, GAP, cannot_look, evidence, look_with_retries};
use super::probe::{Finding, Reference, Seen};
use super::probe_entry::{Phase, ResolvedProbe};
use super::result::{Evidence, Outcome, ProbeOutcome, ProbeResult};

/// A probe while it is watched.
pub(super) struct Watched<'p> {
    pub(super) one: &'p ResolvedProbe,
    expected: Option<Expect>,
    stood: Result<Reference, String>,
    /// Whether it has looked at all.
    has_looked: bool,
    /// Looks in a row that held.
    in_row: u32,
    /// When the first of them was, and the last one, since the variant's begin.
    held_ms: u64,
    looked_ms: u64,
    /// What one that looks at both edges saw before the first step.
    at_first: Option<Vec<Evidence>>,
    fired: Option<Vec<Evidence>>,
    /// When it fired, since the variant's begin.
    pub(super) fired_ms: u64,
    trouble: Option<String>,
}

impl Watched<'_> {
    pub(super) const fn has_fired(&self) -> bool {
        self.fired.is_some()
    }

    /// Whether it is to look in this phase.
    fn looks(&self, phase: Phase) -> bool {
        if self.one.at != Phase::Edges {
            return self.one.at == phase && !self.has_fired();
        }
        match phase {
            Phase::Before => self.at_first.is_none(),
            Phase::After => self.at_first.is_some() && !self.has_fired(),
            _ => false,
        }
    }

    /// Why it can never look, where something is expected of it.
    pub(super) fn blind_from_the_start(&self) -> Option<String> {
        let why = self.stood.as_ref().err()?;
        self.expected.map(|_| cannot_look(&self.one.id, why))
    }

    /// Whether it was to hold before the first step, and did not.
    pub(super) fn lacks_first_edge(&self) -> bool {
        let edges = self.one.at == Phase::Edges && self.expected == Some(Expect::Fires);
        edges && self.at_first.is_none()
    }

    /// Takes down what a look saw.
    fn take(&mut self, looked: Result<Finding, String>, phase: Phase, at_ms: u64) {
        self.has_looked = true;
        match looked {
            Ok(Finding::Fired(evidence)) => {
                self.trouble = None;
                if self.in_row == 0 || at_ms.saturating_sub(self.looked_ms) > GAP {
                    self.held_ms = at_ms;
                }
                (self.in_row, self.looked_ms) = (self.in_row + 1, at_ms);
                let lasted = Duration::from_millis(at_ms.saturating_sub(self.held_ms));
                if self.in_row < self.one.times || lasted < self.one.lasts {
                    return;
                }
                self.in_row = 0;
                if self.one.at == Phase::Edges && phase == Phase::Before {
                    self.at_first = Some(evidence);
                    return;
                }
                let mut all = self.at_first.clone().unwrap_or_default();
                all.extend(evidence);
                (self.fired, self.fired_ms) = (Some(all), at_ms);
            }
            Ok(Finding::Quiet) => (self.in_row, self.trouble) = (0, None),
            Err(why) => (self.in_row, self.trouble) = (0, Some(why)),
        }
    }
}

impl Engine<'_> {
    /// Has the probes remember where things stand; those of the time before look at once.
    pub(super) async fn begin_probes<'p>(
        &self,
        variant: &'p Resolved,
        begun: Duration,
    ) -> Vec<Watched<'p>> {
        let mut watched = Vec::new();
        let once = variant.probes.iter();
        for one in once.filter(|one| one.at != Phase::Continuous) {
            let stood = one.probe.begin(self.world).await;
            watched.push(Watched {
                one,
                expected: variant.expected(&one.id),
                stood: stood.map_err(|error| error.to_string()),
                has_looked: false,
                in_row: 0,
                held_ms: 0,
                looked_ms: 0,
                at_first: None,
                fired: None,
                fired_ms: 0,
                trouble: None,
            });
        }
        let before = watched.iter().filter(|probe| probe.looks(Phase::Before));
        let looks = before.map(|probe| probe.one.times.saturating_add(probe.one.retries));
        for look in 0..looks.max().unwrap_or(0) {
            if self.ends(begun).is_some() {
                break;
            }
            if look > 0 {
                self.rest().await;
            }
            self.look_at(&mut watched, (Phase::Before, None), &Seen::default(), begun)
                .await;
            if !watched.iter().any(|probe| probe.looks(Phase::Before)) {
                break;
            }
        }
        watched
    }

    /// Watches the probes until everything that should fire has; for the whole time where something should not.
    pub(super) async fn observe(
        &self,
        variant: &Resolved,
        probes: &mut [Watched<'_>],
        continuous: &Continuous<'_>,
        injection: &mut Injection,
        begun: Duration,
    ) -> Result<(), ScenarioError> {
        let clock = &self.world.drivers.clock;
        let until = clock.elapsed() + variant.observe;
        let during = |probe: &Watched<'_>| probe.one.at == Phase::During;
        let whole = continuous.takes_the_whole_time()
            || probes
                .iter()
                .any(|probe| during(probe) && probe.expected == Some(Expect::Never));
        loop {
            self.look(probes, &injection.seen, begun).await;
            self.lift_due(injection, begun).await?;
            let missing = continuous.is_missing()
                || probes.iter().any(|probe| {
                    during(probe) && probe.expected == Some(Expect::Fires) && !probe.has_fired()
                });
            let wrong = !continuous.against().wrong.is_empty() && !continuous.is_missing()
                || probes
                    .iter()
                    .any(|probe| probe.expected == Some(Expect::Never) && probe.has_fired());
            if *self.interrupt.borrow() {
                return Ok(());
            }
            if let Some(why) = self.ends(begun) {
                injection.troubles.push(why);
                return Ok(());
            }
            if clock.elapsed() >= until || wrong || (!missing && !whole) {
                return Ok(());
            }
            self.rest().await;
        }
    }

    /// Looks once at what is watched from the first step on.
    pub(super) async fn look(&self, probes: &mut [Watched<'_>], seen: &Seen, begun: Duration) {
        self.look_at(probes, (Phase::During, None), seen, begun)
            .await;
    }

    /// Looks at what is looked at after recovery, until all of it that should fire has.
    pub(super) async fn look_after(
        &self,
        variant: &Resolved,
        probes: &mut [Watched<'_>],
        injection: &Injection,
        begun: Duration,
    ) {
        let clock = &self.world.drivers.clock;
        let until = clock.elapsed() + variant.observe;
        let looking = probes.iter().filter(|probe| probe.looks(Phase::After));
        let times = looking.map(|probe| probe.one.times).max().unwrap_or(0);
        for look in 1.. {
            self.look_at(probes, (Phase::After, None), &injection.seen, begun)
                .await;
            let missing = probes
                .iter()
                .any(|probe| probe.looks(Phase::After) && probe.expected == Some(Expect::Fires));
            let over = clock.elapsed() >= until || *self.interrupt.borrow();
            // One that never should has its chance too.
            if (!missing && look >= times) || over {
                return;
            }
            self.rest().await;
        }
    }

    /// Lets those look that do in this phase, each for so long where that is given.
    pub(super) async fn look_at(
        &self,
        probes: &mut [Watched<'_>],
        (phase, longest): (Phase, Option<Duration>),
        seen: &Seen,
        begun: Duration,
    ) {
        let clock = &self.world.drivers.clock;
        for probe in probes
            .iter_mut()
            .filter(|probe| probe.looks(phase))
            .filter(|probe| {
                let done = |step: &String| seen.done.contains(step);
                probe.one.since.as_ref().is_none_or(done)
            })
        {
            let mut interrupt = self.interrupt.clone();
            let looked = tokio::select! {
                biased;
                // The undo does not wait for a look.
                Ok(_) = interrupt.wait_for(|interrupted| *interrupted) => return,
                looked = look_with_retries(self.world, probe.one, &probe.stood, seen) => looked,
                () = clock.sleep(longest.unwrap_or_default()), if longest.is_some() => {
                    Err("no end within its time".into())
                }
            };
            probe.take(looked, phase, self.world.since(begun));
        }
    }

    /// Takes down what the probes came to.
    pub(super) fn probed(&self, probes: Vec<Watched<'_>>, continuous: &Continuous<'_>) {
        // Of one that is of other variants there is nothing to tell.
        let once = probes
            .into_iter()
            .filter(|probe| probe.has_looked || probe.expected.is_some());
        for result in once.map(Watched::result).chain(continuous.results()) {
            self.happens(RunEvent::Probed(result));
        }
    }
}

impl Watched<'_> {
    fn result(self) -> ProbeResult {
        let result = match (&self.fired, &self.trouble) {
            (Some(_), _) => ProbeOutcome::Fired,
            (None, None) if self.has_looked => ProbeOutcome::Quiet,
            (None, _) => ProbeOutcome::Unknown,
        };
        let fired_ms = self.has_fired().then_some(self.fired_ms);
        ProbeResult {
            id: self.one.id.clone(),
            expected: self.expected,
            result,
            fired_ms,
            looks: 0,
            missed: 0,
            missed_in_row: 0,
            changes: Vec::new(),
            evidence: evidence(self.fired, self.trouble),
        }
    }
}

/// Judges a variant: an action without effect, or a probe that could not look, leaves it open whatever else was seen; but a
/// lab that is not what it was speaks against it in any case.
pub(super) fn judge(
    probes: &[Watched<'_>],
    continuous: &Continuous<'_>,
    troubles: &[String],
    recovered: &Result<(), Vec<String>>,
) -> (Outcome, Vec<String>) {
    let ill = recovered.as_ref().err().into_iter().flatten();
    let ill: Vec<String> = ill.map(|ill| format!("not recovered: {ill}")).collect();
    if !troubles.is_empty() {
        let outcome = if ill.is_empty() {
            Outcome::Inconclusive
        } else {
            Outcome::Unexpected
        };
        return (outcome, [troubles, &ill].concat());
    }
    let Against {
        mut wrong,
        mut blind,
    } = continuous.against();
    for probe in probes {
        let id = &probe.one.id;
        match (probe.expected, &probe.fired, &probe.trouble) {
            (Some(_), None, None) if !probe.has_looked => {
                blind.push(format!("{id} has never looked"));
            }
            (Some(Expect::Never), Some(_), _) => {
                wrong.push(format!("{id} fired, and never should"));
            }
            (Some(_), None, Some(why)) => blind.push(format!("{id} could not look: {why}")),
            (Some(Expect::Fires), None, None) => wrong.push(format!("{id} did not fire")),
            _ => {}
        }
    }
    wrong.extend(ill);
    let outcome = match (wrong.is_empty(), blind.is_empty()) {
        (false, _) => Outcome::Unexpected,
        (true, false) => Outcome::Inconclusive,
        (true, true) => Outcome::AsExpected,
    };
    wrong.extend(blind);
    (outcome, wrong)
}
