//! What a scenario can fail with.

use crate::diagnostics::{Problem, Span, codes};
use crate::guest::GuestError;
use crate::lab::LabError;

/// An action or a probe could not do its work.
#[derive(Debug, thiserror::Error)]
pub enum FaultError {
    /// A guest.
    #[error(transparent)]
    Guest(#[from] GuestError),
    /// The lab.
    #[error(transparent)]
    Lab(#[from] LabError),
    /// The hypervisor.
    #[error(transparent)]
    Hypervisor(#[from] crate::hypervisor::HypervisorError),
    /// This machine's network.
    #[error(transparent)]
    HostNet(#[from] crate::hostnet::HostNetError),
    /// What it is about is not there.
    #[error("{0}")]
    Target(String),
    /// It did not come to an end in time.
    #[error("no end within its time; last: {last}")]
    Deadline {
        /// The last thing seen.
        last: String,
    },
    /// What was captured cannot be read.
    #[error("the journal's record of it cannot be read: {0}")]
    Record(#[from] serde_json::Error),
}

impl FaultError {
    /// What to do about it on `host`, where that is known.
    pub(super) fn cure(&self, host: &str) -> Option<String> {
        let cure = match self {
            Self::Guest(error) => error.cure().to_owned(),
            Self::Hypervisor(error) => error.cure(),
            Self::Lab(error) => error.cures().into_iter().next()?,
            Self::HostNet(_) | Self::Target(_) | Self::Deadline { .. } | Self::Record(_) => {
                return None;
            }
        };
        Some(cure.replace("HOST", host))
    }
}

/// A run could not be made.
#[derive(Debug, thiserror::Error)]
pub enum ScenarioError {
    /// The lab.
    #[error(transparent)]
    Lab(#[from] LabError),
    /// Runs are refused until the halt is lifted.
    #[error("runs are halted since {since}")]
    Halted {
        /// When and by whom.
        since: String,
    },
    /// A failure can be kept of one variant only.
    #[error("a failure is kept in place of one variant, and {count} were chosen")]
    KeepOne {
        /// How many.
        count: usize,
    },
    /// An earlier run left something.
    #[error("something of a run is not put back: {}", open.join(", "))]
    Dirty {
        /// The acts.
        open: Vec<String>,
    },
    /// There is no such variant.
    #[error("there is no variant {name}")]
    NoVariant {
        /// Its name.
        name: String,
        /// What there is.
        known: Vec<String>,
    },
    /// The file, with its variables filled in, has mistakes.
    #[error("{} problem(s) with these variables", problems.len())]
    Invalid {
        /// All of them.
        problems: Vec<Problem>,
    },
}

impl From<crate::journal::JournalError> for ScenarioError {
    fn from(error: crate::journal::JournalError) -> Self {
        Self::Lab(error.into())
    }
}

/// A mistake in a scenario beyond its format.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(
    missing_docs,
    reason = "the messages beside the variants say what each is and what its fields hold"
)]
pub enum ScenarioProblem {
    #[error("the schema is {found}, and this twin reads twin/scenario/v1")]
    Schema { found: String },
    #[error("there is no action {name}")]
    UnknownAction {
        name: String,
        near: Option<&'static str>,
        known: Vec<&'static str>,
    },
    #[error("there is no probe {name}")]
    UnknownProbe {
        name: String,
        near: Option<&'static str>,
        known: Vec<&'static str>,
    },
    #[error("there is no variable {name}")]
    UnknownVariable { name: String, near: Option<String> },
    #[error("the value of {name} does not come to an end")]
    EndlessVariable { name: String },
    #[error("{step} is no step of {variant}, so {probe} never looks in it")]
    NeverLooks {
        probe: String,
        step: String,
        variant: String,
    },
    #[error("nothing is called {id} here")]
    UnknownId { id: String, near: Option<String> },
    #[error("there is a {id} already")]
    DuplicateId { id: String },
    #[error("it has no {what}")]
    Empty { what: &'static str },
    #[error("a step has one action, and this has {count}")]
    OneAction { count: usize },
    #[error("a step has one of do, wait, pause, undo, baseline and together, and this has {count}")]
    OneWork { count: usize },
    #[error("a probe looks at one thing, and this at {count}")]
    OneProbe { count: usize },
    #[error("only actions can be done together")]
    NotTogether,
    #[error("{host} is protected, and this acts on it")]
    Protected { host: String },
    #[error("{host} is not among the hosts that may be acted on")]
    NotAllowed { host: String },
    #[error("this would be one more than the {most} host(s) that may be acted on")]
    TooManyHosts { most: usize },
    #[error("{id} does not look all the time")]
    NotContinuous { id: String },
    #[error("only an action can go on in the background")]
    NotBackground,
    #[error("{key} does nothing for this step")]
    IdleKey { key: &'static str },
    #[error("no probe and no step of any variant takes the value of {name}")]
    IdleVariable { name: String, near: Option<String> },
}

codes! {
    ScenarioProblem:
    Schema => "schema",
    UnknownAction => "unknown-action",
    UnknownProbe => "unknown-probe",
    UnknownVariable => "unknown-variable",
    EndlessVariable => "endless-variable",
    NeverLooks => "never-looks",
    UnknownId => "unknown-id",
    DuplicateId => "duplicate-id",
    Empty => "empty",
    OneAction => "one-action",
    OneWork => "one-work",
    OneProbe => "one-probe",
    NotTogether => "not-together",
    Protected => "protected",
    NotAllowed => "not-allowed",
    TooManyHosts => "too-many-hosts",
    NotContinuous => "not-continuous",
    NotBackground => "not-background",
    IdleKey => "idle-key",
    IdleVariable => "idle-variable",
}

impl ScenarioProblem {
    fn cure(&self) -> String {
        match self {
            Self::Schema { .. } => "write schema: twin/scenario/v1".into(),
            Self::UnknownAction {
                near: Some(near), ..
            }
            | Self::UnknownProbe {
                near: Some(near), ..
            } => format!("did you mean {near}?"),
            Self::UnknownAction { known, .. } | Self::UnknownProbe { known, .. } => {
                format!("one of: {}", known.join(", "))
            }
            Self::UnknownVariable {
                near: Some(near), ..
            } => format!("did you mean {near}?"),
            Self::UnknownVariable { name, .. } => {
                format!("add {name} to vars, or to the variant's set")
            }
            Self::EndlessVariable { name } => {
                format!("no value that {name} names may name {name} again, or so much text")
            }
            Self::NeverLooks { probe, variant, .. } => {
                format!("name a step of {variant}, or expect nothing of {probe} in it")
            }
            Self::UnknownId {
                near: Some(near), ..
            } => format!("did you mean {near}?"),
            Self::UnknownId { .. } => "name a step, probe or variant of this file".into(),
            Self::DuplicateId { .. } => "give each an id of its own".into(),
            Self::Empty { what } => format!("add {what}"),
            Self::OneAction { .. } | Self::OneWork { .. } => {
                "make it several steps, each with one of them".into()
            }
            Self::OneProbe { .. } => {
                "give each thing that is looked at a probe of its own, with an id of its own".into()
            }
            Self::NotTogether => "wait, pause, undo and baseline are steps of their own".into(),
            Self::Protected { host } => {
                format!("act on another host, or take {host} from safety: protect")
            }
            Self::NotAllowed { host } => {
                format!("act on another host, or add {host} to safety: allow")
            }
            Self::TooManyHosts { .. } => "act on fewer hosts, or raise safety: most-hosts".into(),
            Self::NotContinuous { id } => format!("give {id} at: continuous"),
            Self::NotBackground => "take background away, or put it on a step with do".into(),
            Self::IdleKey { key: "for" } => {
                "only an action is put back after a time: give for to the steps with do".into()
            }
            Self::IdleKey { key } => {
                format!("take {key} away; steps with do, wait and baseline have one")
            }
            Self::IdleVariable {
                near: Some(near), ..
            } => format!("did you mean {near}?"),
            Self::IdleVariable { name, .. } => format!("take {name} away, or use it: ${{{name}}}"),
        }
    }

    pub(crate) fn at(self, span: Span) -> Problem {
        Problem {
            code: self.code(),
            message: self.to_string(),
            span,
            cure: self.cure(),
        }
    }
}
