//! Which machine a connection leads to. One libvirt is one machine, whatever the URI.

use roxmltree::Document;
use uuid::Uuid;
use virt::connect::Connect;

/// Where this machine's identity lives.
const MACHINE_ID: &str = "/etc/machine-id";

/// The libvirt that is this machine's for certain.
const OWN: &str = "qemu:///system";

/// A machine.
pub(super) struct Place {
    /// Its identity.
    pub(super) uuid: Uuid,
    /// Why it is not the one that twin runs on.
    pub(super) elsewhere: Option<String>,
}

/// Finds out where a connection leads. A URI without a host and a transport is this machine's; any other has to show that
/// its daemon is the one that this machine's own URI leads to: a socket may be forwarded from anywhere.
pub(super) fn of(uri: &str, connection: &Connect, capabilities: Option<&Document<'_>>) -> Place {
    let told = capabilities.and_then(host_uuid);
    let elsewhere = if names_this_machine(uri) {
        None
    } else {
        differs(connection, told)
    };
    let uuid = match elsewhere {
        // libvirt's own is made up anew at each start where the firmware has none.
        None => machine_id().or(told),
        Some(_) => told,
    };
    Place {
        uuid: uuid.unwrap_or_default(),
        elsewhere,
    }
}

/// Whether a URI can only mean this machine: it names no host and no transport, and no socket of its own.
fn names_this_machine(uri: &str) -> bool {
    let (scheme, rest) = uri.split_once(':').unwrap_or((uri, ""));
    let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
    !scheme.contains('+') && path.starts_with("///") && !query.contains("socket=")
}

fn differs(connection: &Connect, told: Option<Uuid>) -> Option<String> {
    let Ok(own) = Connect::open_read_only(Some(OWN)) else {
        return by_name(connection);
    };
    let capabilities = own.get_capabilities().unwrap_or_default();
    let own = Document::parse(&capabilities).ok();
    let own = own.as_ref().and_then(host_uuid);
    match (own, told) {
        (Some(own), Some(told)) if own == told => None,
        (Some(own), Some(told)) => Some(format!(
            "the machine behind it has the identity {told}, and this one has {own}"
        )),
        _ => Some("it does not tell which machine it is on".into()),
    }
}

/// Where this machine's own libvirt does not answer, the names of the machines are compared.
fn by_name(connection: &Connect) -> Option<String> {
    let own = nix::unistd::gethostname().ok();
    let own = own.map(|name| name.to_string_lossy().into_owned());
    let theirs = connection.get_hostname().ok();
    match (own, theirs) {
        (Some(own), Some(theirs)) if own == theirs => None,
        (_, theirs) => Some(format!(
            "it is on {}, and this machine's own libvirt, {OWN}, does not answer to compare",
            theirs
                .as_deref()
                .unwrap_or("a machine that it does not name")
        )),
    }
}

fn host_uuid(capabilities: &Document<'_>) -> Option<Uuid> {
    let node = capabilities
        .descendants()
        .find(|node| node.has_tag_name("uuid"))?;
    node.text()?.trim().parse().ok()
}

fn machine_id() -> Option<Uuid> {
    let text = std::fs::read_to_string(MACHINE_ID).ok()?;
    text.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a4_only_a_uri_without_host_transport_and_socket_is_taken_for_this_machine_by_its_words() {
        for own in ["qemu:///system", "qemu:///session", "test:///default"] {
            assert!(names_this_machine(own), "{own}");
        }
        for other in [
            "qemu+unix:///system",
            "qemu:///system?socket=/tmp/s",
            "qemu+ssh://far/system",
            "qemu+tcp://127.0.0.1/system",
            "qemu+unix:///system?socket=/run/libvirt/libvirt-sock",
        ] {
            assert!(!names_this_machine(other), "{other}");
        }
    }
}
