//! What this machine lets through to a host's interface: a token bucket on the machine's end of it, by `tc`. libvirt's own
//! `<bandwidth>` needs more of the kernel (htb, sfq and policing), and leaves half of it behind where a part is missing.

use super::{Bandwidth, HostNetError, tool};

/// The handle of twin's queueing disciplines, here and in guests: the mark that tells them from another's.
pub const HANDLE: &str = "7477:";

/// The most that passes at once: a hundredth of a second's, and no less than a large packet.
const LEAST_BURST_BYTES: u64 = 16 << 10;

/// 1000 bits.
const BYTES_A_KBIT: u64 = 125;

/// Packets wait so long for their turn, and are dropped after that.
const LATENCY: &str = "50ms";

async fn tc(arguments: &[&str]) -> Result<Vec<u8>, HostNetError> {
    let said = tool::run("tc", arguments, None).await?;
    said.ok_or_else(|| HostNetError::NotFound {
        what: "tc (package iproute2)".into(),
    })
}

/// Reads what `tc -j qdisc show` says of a link's root.
fn read(said: &[u8]) -> Option<Bandwidth> {
    let said: serde_json::Value = serde_json::from_slice(said).ok()?;
    let root = said.as_array()?.iter().find(|one| one["root"] == true);
    let Some(root) = root else {
        return Some(Bandwidth::Unlimited { queue: false });
    };
    let (kind, handle) = (root["kind"].as_str()?, root["handle"].as_str()?);
    Some(match (kind, handle) {
        ("tbf", HANDLE) => Bandwidth::Limited {
            kbit: root.pointer("/options/rate")?.as_u64()? / BYTES_A_KBIT,
        },
        ("noqueue", _) => Bandwidth::Unlimited { queue: false },
        // The kernel's own have no handle.
        (_, "0:") => Bandwidth::Unlimited { queue: true },
        _ => Bandwidth::Foreign { kind: kind.into() },
    })
}

/// How much passes.
pub(super) async fn of(link: &str) -> Result<Bandwidth, HostNetError> {
    let said = tc(&["-j", "qdisc", "show", "dev", link]).await?;
    read(&said).ok_or_else(|| HostNetError::Failed {
        what: format!("tc -j qdisc show dev {link}"),
        why: format!("it said {}", String::from_utf8_lossy(&said)),
    })
}

/// Sets it; what another made is never touched.
pub(super) async fn set(link: &str, wanted: &Bandwidth) -> Result<(), HostNetError> {
    let now = of(link).await?;
    if now == *wanted {
        return Ok(());
    }
    let root = ["dev", link, "root"];
    let of_limit = |kbit: u64| {
        let burst = (kbit * BYTES_A_KBIT / 100).max(LEAST_BURST_BYTES);
        [format!("{kbit}kbit"), burst.to_string()]
    };
    match (&now, wanted) {
        (Bandwidth::Foreign { kind }, _) | (_, Bandwidth::Foreign { kind }) => {
            return Err(HostNetError::Failed {
                what: format!("setting what {link} lets through"),
                why: format!("a {kind} is not twin's"),
            });
        }
        (_, Bandwidth::Limited { kbit }) => {
            let [rate, burst] = of_limit(*kbit);
            let limit = ["handle", HANDLE, "tbf", "rate", &rate, "burst", &burst];
            let latency = ["latency", LATENCY];
            tc(&[&["qdisc", "replace"][..], &root, &limit, &latency].concat()).await?;
        }
        (_, Bandwidth::Unlimited { queue: false }) => {
            tc(&[&["qdisc", "replace"][..], &root, &["noqueue"]].concat()).await?;
        }
        (_, Bandwidth::Unlimited { queue: true }) => {
            tc(&[&["qdisc", "del"][..], &root].concat()).await?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn its_own_limit_is_told_from_the_kernels_and_from_anothers() {
        let own = br#"[{"kind":"tbf","handle":"7477:","root":true,"refcnt":2,"options":{"rate":100000,"burst":16384,"lat":50000}}]"#;
        assert_eq!(read(own), Some(Bandwidth::Limited { kbit: 800 }));
        let kernels = br#"[{"kind":"pfifo_fast","handle":"0:","root":true,"refcnt":2}]"#;
        assert_eq!(read(kernels), Some(Bandwidth::Unlimited { queue: true }));
        let libvirts = br#"[{"kind":"noqueue","handle":"8c5c:","root":true,"refcnt":2}]"#;
        assert_eq!(read(libvirts), Some(Bandwidth::Unlimited { queue: false }));
        let other = br#"[{"kind":"htb","handle":"1:","root":true},{"kind":"sfq","handle":"2:"}]"#;
        let kind = "htb".to_owned();
        assert_eq!(read(other), Some(Bandwidth::Foreign { kind }));
        assert_eq!(read(b"nonsense"), None);
    }
}
