//! What happens in a run, one event after the other: `twin/scenario-events/v1`. The run's result, and so every report, is made
//! of its events alone.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::result::{
    MemorySample, Outcome, ProbeResult, RunResult, StepResult, TargetHost, VariantResult, Verdict,
    WorldResult,
};
use crate::lab::{Silent, Watch};

/// What the first event calls the stream.
pub const EVENTS: &str = "twin/scenario-events/v1";

/// Something that happened in a run. Times `at_ms` are since the variant's first look.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum RunEvent {
    /// The run begins: always the first.
    RunBegun(Begun),
    /// A variant begins.
    VariantBegun {
        /// Its name.
        variant: String,
        /// The hosts that its steps act on.
        targets: Vec<TargetHost>,
    },
    /// The variant comes to its next part.
    PhaseBegun {
        /// Which.
        phase: RunPhase,
    },
    /// Something worth knowing.
    Note {
        /// What.
        text: String,
    },
    /// A step begins.
    StepBegun {
        /// Its id.
        step: String,
        /// What it does.
        what: String,
    },
    /// A step's action is about to act on the lab.
    Acting {
        /// The step's id.
        step: String,
    },
    /// It has, and is about to look whether that took effect.
    Acted {
        /// The step's id.
        step: String,
    },
    /// A step, or the revert of one, has ended.
    StepEnded(StepResult),
    /// A watched host's memory.
    Sampled(MemorySample),
    /// What a probe has come to.
    Probed(ProbeResult),
    /// The variant has ended.
    VariantEnded(Ended),
    /// The run has ended: always the last, but for a run that was killed.
    RunEnded {
        /// The verdict.
        verdict: Verdict,
        /// What could not be reverted.
        left: Vec<String>,
        /// Steps that were left in place on purpose.
        kept: Vec<String>,
        /// The baseline from before the run, where it is kept because the lab is not what it was.
        baseline: Option<String>,
        /// How long the run took.
        took_ms: u64,
    },
}

/// What is known of a run when it begins.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Begun {
    /// `twin/scenario-events/v1`.
    pub schema: String,
    /// The run's id.
    pub run: String,
    /// The scenario.
    pub scenario: String,
    /// Its title.
    pub title: String,
    /// The seed.
    pub seed: u64,
    /// What stand-in timers are divided by.
    pub time_scale: u32,
    /// What it runs in: `lab`.
    pub world: String,
    /// What stands in for what.
    pub stand_ins: Vec<String>,
    /// When it started.
    pub started_at: String,
}

/// How a variant ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Ended {
    /// How it went.
    pub outcome: Outcome,
    /// Why, where it did not go as expected.
    pub why: Vec<String>,
    /// Whether every action took effect.
    pub injected: bool,
    /// Whether everything recovered after the reverts.
    pub recovered: bool,
    /// From the first revert until everything had recovered.
    pub mttr_ms: Option<u64>,
    /// How long it took.
    pub took_ms: u64,
}

/// The parts of a variant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum RunPhase {
    /// It waits for a lab in which everything is well.
    Steadying,
    /// It takes the baseline that the lab is compared with afterwards.
    TakingBaseline,
    /// Its steps are done, and its probes look.
    Observing,
    /// It reverts its steps.
    Undoing,
    /// It waits until everything has recovered.
    Recovering,
    /// It compares the lab with the baseline.
    Comparing,
    /// It restores the baseline, where reverting was not enough.
    Restoring,
}

/// Takes what happens in a run, as it happens.
pub trait RunWatch: Watch {
    /// Takes an event. Called from one task at a time.
    fn happened(&self, event: &RunEvent);
}

impl RunWatch for Silent {
    fn happened(&self, _: &RunEvent) {}
}

impl RunResult {
    /// Makes a run's result of its events; nothing where the first is not that of a run's begin. Of a run that was killed it has
    /// what came of it until then, and calls it inconclusive.
    pub fn of(events: impl IntoIterator<Item = RunEvent>) -> Option<Self> {
        let mut events = events.into_iter();
        let RunEvent::RunBegun(begun) = events.next()? else {
            return None;
        };
        let mut result = Self::begun(begun);
        for event in events {
            result.take(event);
        }
        Some(result)
    }

    /// The result of a run that has just begun.
    pub(super) fn begun(begun: Begun) -> Self {
        Self {
            schema: "twin/scenario-result/v1".into(),
            run: begun.run,
            scenario: begun.scenario,
            title: begun.title,
            seed: begun.seed,
            time_scale: Some(begun.time_scale),
            worlds: vec![WorldResult {
                world: begun.world,
                variants: Vec::new(),
            }],
            agreement: None,
            verdict: Verdict::Inconclusive,
            stand_ins: begun.stand_ins,
            left: Vec::new(),
            kept: Vec::new(),
            baseline: None,
            started_at: begun.started_at,
            took_ms: 0,
        }
    }

    /// Adds what an event tells.
    pub(super) fn take(&mut self, event: RunEvent) {
        let Some(world) = self.worlds.last_mut() else {
            return;
        };
        match event {
            RunEvent::VariantBegun { variant, targets } => {
                world.variants.push(VariantResult::begun(variant, targets));
            }
            RunEvent::RunEnded {
                verdict,
                left,
                kept,
                baseline,
                took_ms,
            } => {
                self.verdict = verdict;
                (self.left, self.kept, self.baseline) = (left, kept, baseline);
                self.took_ms = took_ms;
            }
            of_variant => {
                if let Some(variant) = world.variants.last_mut() {
                    variant.take(of_variant);
                }
            }
        }
    }
}

impl VariantResult {
    /// A variant that has just begun, as it is reported where its run is killed.
    fn begun(name: String, targets: Vec<TargetHost>) -> Self {
        Self {
            name,
            targets,
            outcome: Outcome::Inconclusive,
            why: vec!["the run has not come to this variant's end".into()],
            injected: false,
            recovered: false,
            mttr_ms: None,
            probes: Vec::new(),
            steps: Vec::new(),
            samples: Vec::new(),
            took_ms: 0,
        }
    }

    fn take(&mut self, event: RunEvent) {
        match event {
            RunEvent::StepEnded(step) => self.steps.push(step),
            RunEvent::Sampled(sample) => self.samples.push(sample),
            RunEvent::Probed(probe) => self.probes.push(probe),
            RunEvent::VariantEnded(ended) => {
                self.outcome = ended.outcome;
                self.why = ended.why;
                self.injected = ended.injected;
                self.recovered = ended.recovered;
                self.mttr_ms = ended.mttr_ms;
                self.took_ms = ended.took_ms;
            }
            // These are of the whole run, or for those who wait for its end.
            RunEvent::RunBegun(_)
            | RunEvent::VariantBegun { .. }
            | RunEvent::PhaseBegun { .. }
            | RunEvent::Note { .. }
            | RunEvent::StepBegun { .. }
            | RunEvent::Acting { .. }
            | RunEvent::Acted { .. }
            | RunEvent::RunEnded { .. } => {}
        }
    }
}
