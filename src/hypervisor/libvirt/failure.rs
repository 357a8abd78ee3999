//! libvirt's errors in the seam's terms.

use virt::error::{Error, ErrorNumber};

use crate::hypervisor::HypervisorError;

/// What a call in a worker can fail with.
#[derive(Debug)]
pub(super) enum Failure {
    /// libvirt said so.
    Libvirt(Error),
    /// The thing is not there, or not ours.
    Known(HypervisorError),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Libvirt(error)
    }
}

impl From<HypervisorError> for Failure {
    fn from(error: HypervisorError) -> Self {
        Self::Known(error)
    }
}

impl Failure {
    /// Whether the error says that the connection is gone.
    pub(super) fn broke_connection(&self) -> bool {
        let Self::Libvirt(error) = self else {
            return false;
        };
        let message = error.message().to_lowercase();
        error.code() == ErrorNumber::NoConnect
            || error.code() == ErrorNumber::InvalidConn
            || message.contains("client socket is closed")
            || message.contains("end of file while reading data")
            || message.contains("cannot write data: broken pipe")
            || message.contains("cannot recv data")
            || message.contains("connection closed due to keepalive")
    }

    /// Translates; `what` is the call.
    pub(super) fn into_error(self, what: &str) -> HypervisorError {
        let broke = self.broke_connection();
        match self {
            Self::Known(error) => error,
            Self::Libvirt(error) if broke => HypervisorError::Disconnected {
                what: what.to_owned(),
                why: error.message().to_owned(),
            },
            Self::Libvirt(error) => match error.code() {
                ErrorNumber::NoDomain | ErrorNumber::NoNetwork => HypervisorError::NotFound {
                    what: what.to_owned(),
                },
                _ => HypervisorError::Refused {
                    what: what.to_owned(),
                    why: error.message().to_owned(),
                },
            },
        }
    }
}

/// Translates the failure to open a connection.
pub(super) fn unreachable(uri: &str, error: &Error) -> HypervisorError {
    let (uri, why) = (uri.to_owned(), error.message().to_owned());
    let denied = error.code() == ErrorNumber::AuthFailed
        || error.code() == ErrorNumber::AuthUnavailable
        || why.contains("Permission denied")
        || why.contains("authentication")
        || why.contains("system bus")
        || why.contains("polkit");
    if denied {
        HypervisorError::Permission { uri, why }
    } else {
        HypervisorError::Unreachable { uri, why }
    }
}
