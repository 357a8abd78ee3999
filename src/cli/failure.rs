//! Failures as the command line reports them.

use crate::diagnostics::{Problem, Source};
use crate::lab::LabError;
use crate::scenario::ScenarioError;
use crate::service::ServiceError;
use crate::snapshot::SnapshotError;
use crate::topology::LoadError;

/// The exit codes.
pub(crate) mod code {
    /// Done, or the verdict is pass.
    pub(crate) const DONE: u8 = 0;
    /// A verdict failed, or a change needs to be asked for.
    pub(crate) const FAILED: u8 = 1;
    /// Bad usage or bad input.
    pub(crate) const USAGE: u8 = 2;
    /// What was seen does not decide it.
    pub(crate) const INCONCLUSIVE: u8 = 3;
    /// The machine cannot.
    pub(crate) const MACHINE: u8 = 4;
    /// Something could not be put back.
    pub(crate) const DIRTY: u8 = 5;
    /// Interrupted.
    pub(crate) const INTERRUPTED: u8 = 130;

    /// That of a verdict.
    pub(crate) const fn of(verdict: crate::scenario::Verdict) -> u8 {
        use crate::scenario::Verdict;
        match verdict {
            Verdict::Pass => DONE,
            Verdict::Fail => FAILED,
            Verdict::Inconclusive => INCONCLUSIVE,
            Verdict::Dirty => DIRTY,
        }
    }
}

/// What failed, what to do about it, and the exit code.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    pub(crate) message: String,
    pub(crate) cures: Vec<String>,
    pub(crate) code: u8,
    pub(crate) problems: Vec<Problem>,
    pub(crate) sources: Vec<Source>,
}

impl Failure {
    fn new(code: u8, message: String, cures: Vec<String>) -> Self {
        Self {
            message,
            cures,
            code,
            problems: Vec::new(),
            sources: Vec::new(),
        }
    }

    /// Bad usage or input.
    pub(crate) fn usage(message: impl Into<String>, cures: Vec<String>) -> Self {
        Self::new(code::USAGE, message.into(), cures)
    }

    /// What was asked for does not hold.
    pub(crate) fn failed(message: impl Into<String>, cures: Vec<String>) -> Self {
        Self::new(code::FAILED, message.into(), cures)
    }

    /// The machine cannot.
    pub(crate) fn machine(message: impl Into<String>, cures: Vec<String>) -> Self {
        Self::new(code::MACHINE, message.into(), cures)
    }

    /// The user interrupted.
    pub(crate) fn interrupted(message: impl Into<String>, cures: Vec<String>) -> Self {
        Self::new(code::INTERRUPTED, message.into(), cures)
    }

    /// Something has to be put back first.
    pub(crate) fn dirty(message: impl Into<String>, cures: Vec<String>) -> Self {
        Self::new(code::DIRTY, message.into(), cures)
    }

    /// A run that could not be made, of the scenario in this file.
    pub(crate) fn of_run(error: ServiceError, source: &Source) -> Self {
        match error {
            ServiceError::Scenario(error) => Self::of_scenario(error, Some(source)),
            other => other.into(),
        }
    }

    fn of_scenario(error: ScenarioError, source: Option<&Source>) -> Self {
        let message = error.to_string();
        match error {
            ScenarioError::Lab(error) => error.into(),
            ScenarioError::Halted { .. } => Self::machine(
                message,
                vec!["`twin halt --lift` lets runs begin again".into()],
            ),
            ScenarioError::KeepOne { .. } => {
                Self::usage(message, vec!["name it: --variant NAME".into()])
            }
            ScenarioError::Dirty { .. } => {
                Self::dirty(message, vec!["`twin recover` puts it back".into()])
            }
            ScenarioError::NoVariant { known, .. } => {
                Self::usage(message, vec![format!("there is: {}", known.join(", "))])
            }
            ScenarioError::Invalid { problems } => {
                Self::problems(message, problems, source.into_iter().cloned().collect())
            }
        }
    }

    /// Mistakes in files.
    pub(crate) fn problems(what: String, problems: Vec<Problem>, sources: Vec<Source>) -> Self {
        Self {
            problems,
            sources,
            ..Self::new(code::USAGE, what, Vec::new())
        }
    }
}

impl From<LabError> for Failure {
    fn from(error: LabError) -> Self {
        let code = match &error {
            LabError::Blocked { .. } | LabError::Decided { .. } => code::FAILED,
            LabError::WhichLab { known } if !known.is_empty() => code::USAGE,
            LabError::NoHost { .. }
            | LabError::NoSuchHosts { .. }
            | LabError::OtherTopology { .. } => code::USAGE,
            LabError::Image(
                crate::image::ImageError::Unknown { .. }
                | crate::image::ImageError::Recipe { .. }
                | crate::image::ImageError::Hash { .. }
                | crate::image::ImageError::SourceMissing { .. },
            ) => code::USAGE,
            _ => code::MACHINE,
        };
        let cures = error.cures();
        Self::new(code, error.to_string(), cures)
    }
}

impl From<ServiceError> for Failure {
    fn from(error: ServiceError) -> Self {
        let message = error.to_string();
        match error {
            ServiceError::Lab(error) => error.into(),
            ServiceError::Snapshot(error) => error.into(),
            ServiceError::Scenario(error) => Self::of_scenario(error, None),
            ServiceError::Copy(_) => Self::machine(message, Vec::new()),
            ServiceError::Elsewhere { .. } => Self::machine(
                message,
                vec![
                    "run twin on the machine that the guests run on: a lab's disks, bridges and rules are there"
                        .into(),
                ],
            ),
            ServiceError::HypervisorRuns { .. } => Self::machine(
                message,
                vec!["`twin recover` puts back what is open".into()],
            ),
            ServiceError::UnreadableRun { .. } => {
                Self::machine(message, vec!["use the twin that wrote it".into()])
            }
            ServiceError::UnfinishedRun { .. } => {
                Self::usage(message, vec!["`twin recover` puts back what it left".into()])
            }
            ServiceError::NotPaused { .. } => {
                Self::failed(message, vec!["`twin status` shows it".into()])
            }
            ServiceError::IsPaused { host } => Self::failed(
                message,
                vec![format!("`twin power resume {host}` lets it go on")],
            ),
            ServiceError::PausedAgain { .. } => Self::machine(
                message,
                vec!["free space on the state disk, then run the same command again".into()],
            ),
            ServiceError::StoppedAtBoot { host, .. } => Self::machine(
                message,
                vec![format!(
                    "`twin power cycle {host}` starts it anew; then `twin recover`"
                )],
            ),
            ServiceError::Halt { .. } => Self::machine(
                message,
                vec!["run as root, or with a --state-dir of your own".into()],
            ),
            ServiceError::Ill { .. } => Self::machine(
                message,
                vec!["`twin status` shows them; `twin exec HOST -- dmesg` may tell why".into()],
            ),
            ServiceError::GoesOn { .. } => Self::dirty(
                message,
                vec!["Ctrl-C in its terminal, then `twin recover`".into()],
            ),
        }
    }
}

impl From<LoadError> for Failure {
    fn from(error: LoadError) -> Self {
        let message = error.to_string();
        match error {
            LoadError::NotFound { name, known } => {
                let near = crate::diagnostics::nearest(&name, known.iter().map(String::as_str));
                let cure = near.map_or_else(
                    || format!("there is: {}", known.join(", ")),
                    |near| format!("did you mean {near}?"),
                );
                Self::usage(message, vec![cure])
            }
            LoadError::Invalid { problems, sources } => Self::problems(message, problems, sources),
        }
    }
}

macro_rules! through_lab {
    ($($error:ty),*) => {
        $(impl From<$error> for Failure {
            fn from(error: $error) -> Self {
                LabError::from(error).into()
            }
        })*
    };
}

through_lab!(
    crate::journal::JournalError,
    crate::hypervisor::HypervisorError,
    crate::guest::GuestError,
    crate::hostnet::HostNetError
);

impl From<SnapshotError> for Failure {
    fn from(error: SnapshotError) -> Self {
        let (message, cures) = (error.to_string(), error.cures());
        match error {
            SnapshotError::Lab(error) => error.into(),
            SnapshotError::Unknown { .. } | SnapshotError::Exists { .. } => {
                Self::usage(message, cures)
            }
            SnapshotError::Gates { .. } => Self::failed(message, cures),
            SnapshotError::Dirty { .. } => Self::dirty(message, cures),
            SnapshotError::Interrupted { .. } => Self::interrupted(message, cures),
            SnapshotError::Io { .. }
            | SnapshotError::Refused { .. }
            | SnapshotError::Mode { .. }
            | SnapshotError::Damaged { .. }
            | SnapshotError::StandsTooLong { .. }
            | SnapshotError::PutBack { .. } => Self::machine(message, cures),
        }
    }
}

/// Done.
pub(crate) const DONE: Result<u8, Failure> = Ok(code::DONE);
