//! What a lab's verbs tell while they work. Printing is the command line's.

/// Something that happened.
#[derive(Clone, Debug)]
pub enum Event<'e> {
    /// A step starts.
    Started {
        /// The step's id.
        id: &'e str,
        /// The host, where it is about one.
        host: Option<&'e str>,
        /// What it does.
        what: &'e str,
    },
    /// A step ended well.
    Done {
        /// The step's id.
        id: &'e str,
        /// The host, where it is about one.
        host: Option<&'e str>,
    },
    /// Something worth knowing.
    Note(&'e str),
}

/// Is told.
pub trait Watch: Send + Sync {
    /// Takes an event. Called from many tasks.
    fn tell(&self, event: Event<'_>);
}

/// Ignores all events.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Watch for Silent {
    fn tell(&self, _: Event<'_>) {}
}
