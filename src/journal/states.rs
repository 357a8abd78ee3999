//! The states of an act, and how it goes from one to another.

/// How far an act is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ActState {
    /// Written down; perhaps done.
    Intended,
    /// Done.
    Acted,
    /// Put back.
    Undone,
    /// Could not be put back.
    Left,
}

/// What happens to an act.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ActEvent {
    /// It took place.
    Acted,
    /// Its revert is tried, once more where it failed before.
    Claimed,
    /// It was reverted, or ended with what it was done to.
    Reverted,
    /// Its revert failed.
    Failed,
}

/// What cannot happen to an act of this state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{event:?} cannot happen to an act that is {}", .state.as_str())]
pub struct IllegalChange {
    /// The state.
    pub state: ActState,
    /// What was to happen.
    pub event: ActEvent,
}

impl ActState {
    /// The state after an event.
    ///
    /// ```text
    ///  intended ──acted──> acted ──reverted──> undone
    ///      │                │  ^                 │
    ///      │              failed└─claimed─┐      │ acted: it was reverted as expired, before it took effect
    ///      ├──failed──> left <────────────┘      │
    ///      └──reverted──────────> undone         └──────> acted
    /// ```
    pub const fn next(self, event: ActEvent) -> Result<Self, IllegalChange> {
        match (self, event) {
            (Self::Intended | Self::Acted | Self::Left | Self::Undone, ActEvent::Acted)
            | (Self::Acted | Self::Left, ActEvent::Claimed) => Ok(Self::Acted),
            (Self::Intended, ActEvent::Claimed) => Ok(Self::Intended),
            (Self::Intended | Self::Acted | Self::Left, ActEvent::Reverted) => Ok(Self::Undone),
            (Self::Intended | Self::Acted | Self::Left, ActEvent::Failed) => Ok(Self::Left),
            (Self::Undone, ActEvent::Claimed | ActEvent::Reverted | ActEvent::Failed) => {
                Err(IllegalChange { state: self, event })
            }
        }
    }

    pub(super) const ALL: [Self; 4] = [Self::Intended, Self::Acted, Self::Undone, Self::Left];

    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Intended => "intended",
            Self::Acted => "acted",
            Self::Undone => "undone",
            Self::Left => "left",
        }
    }
}
