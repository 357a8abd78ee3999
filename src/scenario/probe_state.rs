//! What has come of one probe's looks so far. It reads no clock and asks nothing: it takes what a look saw, and when.

use std::time::Duration;

use super::expect::Expect;
use super::looking::{Against, GAP, cannot_look, evidence};
use super::probe::Finding;
use super::probe_entry::{Phase, ResolvedProbe};
use super::result::{Evidence, LookChange, LookState, ProbeOutcome, ProbeResult};

/// What has come of one probe's looks so far.
#[derive(Clone, Debug)]
pub(super) struct ProbeState {
    id: String,
    at: Phase,
    expected: Option<Expect>,
    /// How often in a row, and for how long, it has to hold.
    times: u64,
    lasts: Duration,
    /// How many looks in a row may miss.
    misses: u64,
    /// Why it can never look.
    unobservable: Option<String>,
    looks: u64,
    missed: u64,
    /// Looks in a row that held, that missed, and that could not be made, up to now.
    held_in_row: u64,
    missed_in_row: u64,
    blind_in_row: u64,
    /// Whether one of those that missed saw that it does not hold; the others could not look.
    seen_to_miss: bool,
    /// The most in a row that missed, one of them at least seen to; and that could not be made.
    worst: u64,
    worst_blind: u64,
    /// When the first of those that held was, and the last, in milliseconds since the variant's begin.
    held_ms: u64,
    looked_ms: u64,
    /// What one that looks at both edges saw before the first step.
    at_first: Option<Vec<Evidence>>,
    /// When it held as often and for as long as it has to, and what it saw.
    fired: Option<(u64, Vec<Evidence>)>,
    /// Why the last look could not be made; of one that looks all the time, why the last of those that could not.
    trouble: Option<String>,
    /// When what it saw changed.
    changes: Vec<LookChange>,
}

impl ProbeState {
    /// Of a probe that has not looked. `unobservable` is why it can never look, where it cannot.
    pub(super) fn new(
        one: &ResolvedProbe,
        expected: Option<Expect>,
        unobservable: Option<String>,
    ) -> Self {
        Self {
            id: one.id.clone(),
            at: one.at,
            expected,
            times: u64::from(one.times),
            lasts: one.lasts,
            misses: one.misses,
            unobservable,
            looks: 0,
            missed: 0,
            held_in_row: 0,
            missed_in_row: 0,
            blind_in_row: 0,
            seen_to_miss: false,
            worst: 0,
            worst_blind: 0,
            held_ms: 0,
            looked_ms: 0,
            at_first: None,
            fired: None,
            trouble: None,
            changes: Vec::new(),
        }
    }

    /// Takes why it can never look, where it cannot.
    pub(super) fn cannot_look(&mut self, why: Option<&String>) {
        self.unobservable = why.cloned();
    }

    /// Its id.
    pub(super) fn id(&self) -> &str {
        &self.id
    }

    /// Whether it looks all the time.
    pub(super) fn is_continuous(&self) -> bool {
        self.at == Phase::Continuous
    }

    /// When it fired.
    pub(super) fn fired_ms(&self) -> Option<u64> {
        self.fired.as_ref().map(|(at, _)| *at)
    }

    /// Whether it has yet to fire, and is expected to.
    pub(super) fn is_missing(&self) -> bool {
        self.expected == Some(Expect::Fires) && self.fired.is_none()
    }

    /// Whether it fired and never should.
    pub(super) fn is_wrong(&self) -> bool {
        self.expected == Some(Expect::Never) && self.fired.is_some()
    }

    /// Whether it is to look for the whole time of this phase, for what should not come or should not end.
    pub(super) fn takes_the_whole_time(&self, phase: Phase) -> bool {
        self.at == phase && matches!(self.expected, Some(Expect::Never | Expect::Always))
    }

    /// Whether it is to look in this phase.
    pub(super) fn looks(&self, phase: Phase) -> bool {
        if self.at != Phase::Edges {
            return self.at == phase && (phase == Phase::Continuous || self.fired.is_none());
        }
        match phase {
            Phase::Before => self.at_first.is_none(),
            Phase::After => self.at_first.is_some() && self.fired.is_none(),
            _ => false,
        }
    }

    /// Whether it is watched while the steps are done and observed.
    pub(super) fn is_watched_during(&self) -> bool {
        matches!(self.at, Phase::During | Phase::Continuous)
    }

    /// Looks in a row that missed up to now.
    pub(super) const fn missed_in_row(&self) -> u64 {
        self.missed_in_row
    }

    /// Why nothing is to be broken: it can never look, where something is expected of it, or was to hold before the first step and
    /// did not.
    pub(super) fn hindrance(&self) -> Option<String> {
        if let (Some(_), Some(why)) = (self.expected, &self.unobservable) {
            return Some(cannot_look(&self.id, why));
        }
        let edge = self.at == Phase::Edges && self.expected == Some(Expect::Fires);
        let lacks = edge && self.at_first.is_none();
        lacks.then(|| format!("{} did not hold before the first step", self.id))
    }

    /// Takes what a look saw.
    pub(super) fn take(&mut self, looked: Result<Finding, String>, phase: Phase, at_ms: u64) {
        self.looks += 1;
        if looked.is_ok() && self.at != Phase::Continuous {
            self.trouble = None;
        }
        let state = match looked {
            Ok(Finding::Fired(evidence)) => {
                self.hold(evidence, phase, at_ms);
                LookState::Held
            }
            Ok(Finding::Quiet) => {
                (self.blind_in_row, self.seen_to_miss) = (0, true);
                self.miss();
                LookState::Missed
            }
            Err(why) => {
                self.blind_in_row += 1;
                self.worst_blind = self.worst_blind.max(self.blind_in_row);
                self.trouble = Some(why);
                self.miss();
                LookState::Unknown
            }
        };
        if self.changes.last().is_none_or(|last| last.state != state) {
            self.changes.push(LookChange { at_ms, state });
        }
    }

    fn hold(&mut self, evidence: Vec<Evidence>, phase: Phase, at_ms: u64) {
        if self.held_in_row == 0 || at_ms.saturating_sub(self.looked_ms) > GAP {
            self.held_ms = at_ms;
        }
        self.looked_ms = at_ms;
        (self.held_in_row, self.missed_in_row) = (self.held_in_row + 1, 0);
        (self.blind_in_row, self.seen_to_miss) = (0, false);
        let lasted = Duration::from_millis(at_ms.saturating_sub(self.held_ms));
        if self.held_in_row < self.times || lasted < self.lasts || self.fired.is_some() {
            return;
        }
        if self.at == Phase::Edges && phase == Phase::Before {
            // After recovery it has to hold as often anew.
            self.held_in_row = 0;
            self.at_first = Some(evidence);
            return;
        }
        let mut all = self.at_first.clone().unwrap_or_default();
        all.extend(evidence);
        self.fired = Some((at_ms, all));
    }

    fn miss(&mut self) {
        self.missed += 1;
        (self.held_in_row, self.missed_in_row) = (0, self.missed_in_row + 1);
        if self.seen_to_miss {
            self.worst = self.worst.max(self.missed_in_row);
        }
    }

    /// Whether there is no saying what it would have seen.
    fn is_blind(&self) -> bool {
        match self.at {
            Phase::Continuous => self.looks == 0 || self.worst_blind > self.misses,
            _ => self.looks == 0 || self.trouble.is_some(),
        }
    }

    /// What speaks against the variant.
    pub(super) fn against(&self) -> Against {
        let (id, mut against) = (&self.id, Against::default());
        let Some(expected) = self.expected else {
            return against;
        };
        let fired = self.fired.is_some();
        match expected {
            Expect::Never if fired => against.wrong.push(format!("{id} fired, and never should")),
            Expect::Always if self.worst > self.misses => {
                let (missed, looks, worst) = (self.missed, self.looks, self.worst);
                let what = format!("{id} missed {missed} of {looks} looks, {worst} in a row");
                against.wrong.push(what);
            }
            Expect::Fires if fired => {}
            _ if self.is_blind() => {
                against.blind.push(match &self.trouble {
                    Some(why) => format!("{id} could not look: {why}"),
                    None => format!("{id} has never looked"),
                });
            }
            Expect::Fires => against.wrong.push(format!("{id} did not fire")),
            Expect::Never | Expect::Always => {}
        }
        against
    }

    /// Whether there is something to report of it: of one that is of other variants there is not.
    pub(super) const fn is_reported(&self) -> bool {
        self.looks > 0 || self.expected.is_some() || matches!(self.at, Phase::Continuous)
    }

    /// What it saw, for the report. Looks are counted of one that looks all the time.
    pub(super) fn result(self) -> ProbeResult {
        let result = match (self.expected, &self.fired) {
            (Some(Expect::Always), _) if self.worst > self.misses => ProbeOutcome::Missed,
            (Some(Expect::Always), _) if self.is_blind() => ProbeOutcome::Unknown,
            (Some(Expect::Always), _) => ProbeOutcome::Held,
            (_, Some(_)) => ProbeOutcome::Fired,
            (_, None) if self.is_blind() => ProbeOutcome::Unknown,
            (_, None) => ProbeOutcome::Quiet,
        };
        let fired_ms = self.fired_ms();
        let all_the_time = self.at == Phase::Continuous;
        let of_all = |count: u64| if all_the_time { count } else { 0 };
        ProbeResult {
            result,
            fired_ms,
            looks: of_all(self.looks),
            missed: of_all(self.missed),
            missed_in_row: of_all(self.worst.max(self.worst_blind)),
            changes: if all_the_time {
                self.changes
            } else {
                Vec::new()
            },
            evidence: evidence(self.fired.map(|(_, seen)| seen), self.trouble),
            id: self.id,
            expected: self.expected,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::probe;

    fn state(at: Phase, expected: Expect, of: impl FnOnce(&mut ResolvedProbe)) -> ProbeState {
        let arguments = serde_json::json!({"host": "a", "is": "running"});
        let probe = probe::from_value("domain-state", arguments).expect("it is one");
        let mut one = ResolvedProbe {
            id: "p".into(),
            probe,
            at,
            since: None,
            times: 1,
            lasts: Duration::ZERO,
            retries: 0,
            misses: 0,
        };
        of(&mut one);
        ProbeState::new(&one, Some(expected), None)
    }

    fn fired() -> Result<Finding, String> {
        Ok(Finding::Fired(Vec::new()))
    }

    #[test]
    fn looks_are_counted_and_changes_written_down() {
        let mut state = state(Phase::Continuous, Expect::Always, |one| one.times = 2);
        let looks = [
            fired(),
            Ok(Finding::Quiet),
            Err("no answer".to_owned()),
            fired(),
            fired(),
            Ok(Finding::Quiet),
        ];
        for (at, looked) in (0..).zip(looks) {
            state.take(looked, Phase::Continuous, at);
        }
        assert_eq!((state.looks, state.missed, state.worst), (6, 3, 2));
        assert!(state.is_blind(), "one look in a row was none");
        assert_eq!(state.fired_ms(), Some(4), "twice in a row");
        let result = state.result();
        assert_eq!(result.result, ProbeOutcome::Missed);
        let changes = result.changes.iter();
        let changes: Vec<(u64, LookState)> =
            changes.map(|change| (change.at_ms, change.state)).collect();
        let wanted = [
            (0, LookState::Held),
            (1, LookState::Missed),
            (2, LookState::Unknown),
            (3, LookState::Held),
            (5, LookState::Missed),
        ];
        assert_eq!(changes, wanted);
    }

    #[test]
    fn e_what_holds_for_a_time_is_looked_at_in_all_of_it() {
        let lasts = Duration::from_secs(12);
        let mut state = state(Phase::During, Expect::Fires, |one| one.lasts = lasts);
        // There was no look for twelve seconds: it starts over.
        for at in [0, 9_000, 21_000, 30_000, 32_000, 33_000] {
            state.take(fired(), Phase::During, at);
        }
        assert_eq!(state.fired_ms(), Some(33_000));
        assert!(!state.is_missing() && !state.looks(Phase::During));
    }

    #[test]
    fn an_edge_has_to_hold_before_the_first_step_and_again_after_recovery() {
        let mut state = state(Phase::Edges, Expect::Fires, |one| one.times = 2);
        assert!(state.hindrance().is_some() && state.looks(Phase::Before));
        for at in [1, 2] {
            state.take(fired(), Phase::Before, at);
        }
        assert_eq!(state.hindrance(), None);
        assert!(!state.looks(Phase::Before) && !state.looks(Phase::During));
        state.take(fired(), Phase::After, 3);
        assert!(state.is_missing() && state.looks(Phase::After));
        state.take(fired(), Phase::After, 4);
        assert_eq!(state.fired_ms(), Some(4));
    }

    #[test]
    fn what_could_not_be_looked_at_is_neither_for_nor_against() {
        let blind = |state: &ProbeState| state.against().blind.len();
        for expected in [Expect::Fires, Expect::Never] {
            let mut state = state(Phase::During, expected, |_| {});
            assert_eq!(blind(&state), 1, "it has never looked");
            state.take(Err("no answer".into()), Phase::During, 1);
            assert_eq!((blind(&state), state.against().wrong.len()), (1, 0));
            state.take(Ok(Finding::Quiet), Phase::During, 2);
            assert_eq!(blind(&state), 0);
            let wrong = usize::from(expected == Expect::Fires);
            assert_eq!(state.against().wrong.len(), wrong);
            state.take(fired(), Phase::During, 3);
            assert_eq!(state.against().wrong.len(), 1 - wrong);
        }
    }
}
