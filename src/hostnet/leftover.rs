//! What libvirt leaves of a network when it is killed while it starts one: a bridge, rules, dnsmasq. It knows nothing of them
//! afterwards, and refuses to start the network over them.

use std::path::Path;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{HostNetError, Network, tool};

/// A process that was told to end has ended within this; else it is killed.
const END: Duration = Duration::from_secs(3);

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(20);

/// Which command lists rules, and which takes changes to them.
const IPTABLES: [(&str, &str); 2] = [
    ("iptables-save", "iptables-restore"),
    ("ip6tables-save", "ip6tables-restore"),
];

/// Ends the network's dnsmasq and removes its rules, of both of libvirt's firewall backends.
pub(super) async fn clear(network: &Network) -> Result<(), HostNetError> {
    end_dnsmasq(network).await?;
    for (list, change) in IPTABLES {
        let Some(rules) = tool::run(list, &[], None).await? else {
            continue;
        };
        let removals = iptables_removals(&String::from_utf8_lossy(&rules), network);
        if !removals.is_empty() {
            tool::run(change, &["--noflush", "--wait"], Some(removals.as_bytes())).await?;
        }
    }
    let Some(listed) = tool::run("nft", &["-j", "list", "ruleset"], None).await? else {
        return Ok(());
    };
    let document: serde_json::Value =
        serde_json::from_slice(&listed).map_err(|error| HostNetError::Failed {
            what: "reading nft's rules".into(),
            why: error.to_string(),
        })?;
    let removals = nft_removals(&document, network);
    if !removals.is_empty() {
        tool::run("nft", &["-f", "-"], Some(removals.as_bytes())).await?;
    }
    Ok(())
}

/// Turns those rules in libvirt's chains that are about this network into their removal, as `iptables-restore` takes it.
fn iptables_removals(saved: &str, network: &Network) -> String {
    let subnet = network.cidr.map(|cidr| cidr.to_string());
    let (mut removals, mut table) = (String::new(), None);
    let mut open = false;
    for line in saved.lines() {
        if let Some(name) = line.strip_prefix('*') {
            table = Some(name);
        } else if line == "COMMIT" {
            if open {
                removals.push_str("COMMIT\n");
            }
            (table, open) = (None, false);
        } else if let Some(rule) = line.strip_prefix("-A ")
            && rule.starts_with("LIBVIRT_")
            && rule
                .split_whitespace()
                .any(|word| word == network.bridge || Some(word) == subnet.as_deref())
        {
            if let Some(name) = table.filter(|_| !open) {
                removals.push_str(&format!("*{name}\n"));
                open = true;
            }
            removals.push_str(&format!("-D {rule}\n"));
        }
    }
    removals
}

/// The same for the table that libvirt's nftables backend makes.
fn nft_removals(document: &serde_json::Value, network: &Network) -> String {
    const TABLE: &str = "libvirt_network";
    let bridge = serde_json::Value::from(network.bridge.as_str());
    let subnet = network.cidr.map(
        |cidr| serde_json::json!({"prefix": {"addr": cidr.base().to_string(), "len": cidr.prefix()}}),
    );
    let mut removals = String::new();
    for item in document["nftables"].as_array().into_iter().flatten() {
        let rule = &item["rule"];
        if rule["table"] != TABLE
            || !(holds(&rule["expr"], &bridge)
                || subnet
                    .as_ref()
                    .is_some_and(|subnet| holds(&rule["expr"], subnet)))
        {
            continue;
        }
        if let (Some(family), Some(chain), Some(handle)) = (
            rule["family"].as_str(),
            rule["chain"].as_str(),
            rule["handle"].as_u64(),
        ) {
            removals.push_str(&format!(
                "delete rule {family} {TABLE} {chain} handle {handle}\n"
            ));
        }
    }
    removals
}

/// Whether `wanted` is somewhere in `value`.
fn holds(value: &serde_json::Value, wanted: &serde_json::Value) -> bool {
    value == wanted
        || match value {
            serde_json::Value::Array(items) => items.iter().any(|item| holds(item, wanted)),
            serde_json::Value::Object(fields) => fields.values().any(|field| holds(field, wanted)),
            _ => false,
        }
}

/// Ends the dnsmasq whose configuration is this network's.
async fn end_dnsmasq(network: &Network) -> Result<(), HostNetError> {
    let pids = dnsmasq(Path::new("/proc"), &network.name);
    let signal = |signal| {
        for pid in &pids {
            match kill(*pid, signal) {
                Ok(()) | Err(Errno::ESRCH) => {}
                Err(error) => {
                    return Err(HostNetError::Failed {
                        what: format!("ending dnsmasq of {}", network.name),
                        why: error.to_string(),
                    });
                }
            }
        }
        Ok(())
    };
    signal(Signal::SIGTERM)?;
    let until = Instant::now() + END;
    while pids.iter().any(|pid| kill(*pid, None).is_ok()) {
        if Instant::now() >= until {
            return signal(Signal::SIGKILL);
        }
        tokio::time::sleep(PAUSE).await;
    }
    Ok(())
}

/// The processes of dnsmasq that libvirt started for a network.
fn dnsmasq(proc: &Path, network: &str) -> Vec<Pid> {
    let file = format!("/{network}.conf");
    let entries = std::fs::read_dir(proc).into_iter().flatten().flatten();
    let ours = |pid: &str| {
        let line = std::fs::read(proc.join(pid).join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).into_owned();
        let mut words = line.split('\0');
        words.next().is_some_and(|name| name.ends_with("dnsmasq"))
            && words.any(|word| word.starts_with("--conf-file=") && word.ends_with(&file))
    };
    entries
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|pid| ours(pid))
        .filter_map(|pid| Some(Pid::from_raw(pid.parse().ok()?)))
        .collect()
}

#[cfg(fuzzing)]
pub(super) fn read(text: &str, network: &Network) {
    // Every rule that is taken out is one of libvirt's.
    for line in iptables_removals(text, network).lines() {
        let ours = line.starts_with("-D LIBVIRT_") || line == "COMMIT" || line.starts_with('*');
        assert!(ours, "{line:?}");
    }
    if let Ok(document) = serde_json::from_str(text) {
        drop(nft_removals(&document, network));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network() -> Network {
        Network {
            name: "lab-metal".into(),
            bridge: "twabc-0meta".into(),
            mac: "52:54:00:01:02:03".parse().expect("a MAC"),
            cidr: Some("10.12.8.0/22".parse().expect("a subnet")),
        }
    }

    #[test]
    fn only_rules_of_the_network_in_libvirts_chains_go() {
        let saved = "# made by iptables-save\n*filter\n:INPUT ACCEPT [0:0]\n:LIBVIRT_INP - [0:0]\n\
            -A INPUT -i twabc-0meta -j DROP\n-A LIBVIRT_INP -i twabc-0meta -p udp -m udp --dport 67 -j ACCEPT\n\
            -A LIBVIRT_INP -i twabc-0metal -j ACCEPT\n-A LIBVIRT_FWI -d 10.12.8.0/22 -o twabc-0meta -j ACCEPT\nCOMMIT\n\
            *nat\n-A LIBVIRT_PRT -s 10.12.8.0/22 -d 224.0.0.0/24 -j RETURN\n-A LIBVIRT_PRT -s 10.12.4.0/22 -j RETURN\nCOMMIT\n\
            *mangle\n-A LIBVIRT_PRT -o virbr0 -j CHECKSUM\nCOMMIT\n";
        assert_eq!(
            iptables_removals(saved, &network()),
            "*filter\n-D LIBVIRT_INP -i twabc-0meta -p udp -m udp --dport 67 -j ACCEPT\n\
             -D LIBVIRT_FWI -d 10.12.8.0/22 -o twabc-0meta -j ACCEPT\nCOMMIT\n\
             *nat\n-D LIBVIRT_PRT -s 10.12.8.0/22 -d 224.0.0.0/24 -j RETURN\nCOMMIT\n"
        );
    }

    #[test]
    fn only_rules_of_the_network_in_libvirts_table_go() {
        let matches = |right: serde_json::Value| serde_json::json!([{"match": {"op": "==", "left": {"meta": {"key": "oifname"}}, "right": right}}]);
        let rule = |table: &str, handle: u64, right: serde_json::Value| serde_json::json!({"rule": {"family": "ip", "table": table, "chain": "guest_output", "handle": handle, "expr": matches(right)}});
        let document = serde_json::json!({"nftables": [
            {"metainfo": {}},
            rule("libvirt_network", 4, "twabc-0meta".into()),
            rule("libvirt_network", 5, "virbr0".into()),
            rule("other", 6, "twabc-0meta".into()),
            rule("libvirt_network", 7, serde_json::json!({"prefix": {"addr": "10.12.8.0", "len": 22}})),
        ]});
        assert_eq!(
            nft_removals(&document, &network()),
            "delete rule ip libvirt_network guest_output handle 4\ndelete rule ip libvirt_network guest_output handle 7\n"
        );
    }

    #[test]
    fn dnsmasq_is_known_by_the_networks_file() {
        let proc = tempfile::tempdir().expect("a directory");
        for (pid, line) in [
            ("11", "/usr/sbin/dnsmasq\0--conf-file=/d/lab-metal.conf\0"),
            ("12", "/usr/sbin/dnsmasq\0--conf-file=/d/a-lab-metal.conf\0"),
            ("13", "vi\0--conf-file=/d/lab-metal.conf\0"),
        ] {
            std::fs::create_dir(proc.path().join(pid)).expect("made");
            std::fs::write(proc.path().join(pid).join("cmdline"), line).expect("written");
        }
        assert_eq!(dnsmasq(proc.path(), "lab-metal"), [Pid::from_raw(11)]);
    }
}
