//! What this machine forwards between bridges, and refuses to.

use super::{Forbidden, HostNetError, Rejection, tool};

/// Makes the rule; all of it or nothing.
pub(super) async fn forbid(
    table: &str,
    chain: &str,
    forbidden: &Forbidden,
) -> Result<(), HostNetError> {
    let rules = rules(table, chain, forbidden);
    match tool::run("nft", &["-f", "-"], Some(rules.as_bytes())).await? {
        Some(_) => Ok(()),
        None => Err(HostNetError::Failed {
            what: "nft".into(),
            why: "it is not installed; scripts/host-setup.sh installs it".into(),
        }),
    }
}

fn rules(table: &str, chain: &str, forbidden: &Forbidden) -> String {
    let Forbidden { from, to, refused } = forbidden;
    // As libvirt's own rules refuse it.
    let how = if *refused {
        "reject with icmpx type port-unreachable"
    } else {
        "drop"
    };
    format!(
        "table inet {table} {{\nchain {chain} {{\ntype filter hook forward priority -300; policy accept;\n\
         iifname {from:?} oifname {to:?} ct state new counter {how}\n}}\n}}\n"
    )
}

/// Lists the rules that refuse what goes to a bridge.
pub(super) async fn rejections(bridge: &str) -> Result<Vec<Rejection>, HostNetError> {
    let mut found = Vec::new();
    if let Some(saved) = tool::run("iptables-save", &["-c", "-t", "filter"], None).await? {
        found.extend(iptables(&String::from_utf8_lossy(&saved), bridge));
    }
    if let Some(listed) = tool::run("nft", &["-j", "list", "ruleset"], None).await? {
        let document: serde_json::Value =
            serde_json::from_slice(&listed).map_err(|error| HostNetError::Failed {
                what: "reading nft's rules".into(),
                why: error.to_string(),
            })?;
        found.extend(nftables(&document, bridge));
    }
    Ok(found)
}

/// Rules like `[12:720] -A LIBVIRT_FWI -o virbr2 -j REJECT --reject-with icmp-port-unreachable`.
fn iptables(saved: &str, bridge: &str) -> Vec<Rejection> {
    let one = |line: &str| {
        let (counted, rule) = line.strip_prefix('[')?.split_once("] -A ")?;
        let words: Vec<&str> = rule.split_whitespace().collect();
        let after = |flag: &str| {
            let at = words.iter().position(|word| *word == flag)?;
            words.get(at + 1).copied()
        };
        let ours = after("-o") == Some(bridge) && after("-j") == Some("REJECT");
        let chain = words.first().filter(|_| ours)?;
        Some(Rejection {
            place: format!("iptables {chain}"),
            packets: counted.split(':').next()?.parse().ok()?,
        })
    };
    saved.lines().filter_map(one).collect()
}

/// The same for nftables: a rule that matches the bridge that a packet leaves by, counts, and refuses.
fn nftables(document: &serde_json::Value, bridge: &str) -> Vec<Rejection> {
    let one = |item: &serde_json::Value| {
        let rule = &item["rule"];
        let expressions = rule["expr"].as_array()?;
        let leaves = |expression: &serde_json::Value| {
            let found = &expression["match"];
            let key = &found["left"]["meta"]["key"];
            (key == "oifname" || key == "oif") && found["right"] == bridge
        };
        let refuses =
            |expression: &serde_json::Value| expression.as_object()?.get("reject").map(|_| ());
        if !expressions.iter().any(leaves) || !expressions.iter().any(|one| refuses(one).is_some())
        {
            return None;
        }
        let mut counters = expressions.iter();
        let packets = counters.find_map(|expression| expression["counter"]["packets"].as_u64())?;
        let word = |name: &str| rule[name].as_str().unwrap_or_default();
        Some(Rejection {
            place: format!(
                "nftables {} {} {}",
                word("family"),
                word("table"),
                word("chain")
            ),
            packets,
        })
    };
    let items = document["nftables"].as_array().into_iter().flatten();
    items.filter_map(one).collect()
}

#[cfg(fuzzing)]
pub(super) fn read(text: &str, bridge: &str) {
    drop(iptables(text, bridge));
    if let Ok(document) = serde_json::from_str(text) {
        drop(nftables(&document, bridge));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn iptables_rules_are_found_with_their_counts() {
        let saved = "*filter\n:LIBVIRT_FWI - [0:0]\n[7:420] -A LIBVIRT_FWI -d 10.12.8.0/22 -o virbr2 -j ACCEPT\n\
            [5:300] -A LIBVIRT_FWI -o virbr2 -j REJECT --reject-with icmp-port-unreachable\n\
            [9:540] -A LIBVIRT_FWI -o virbr20 -j REJECT --reject-with icmp-port-unreachable\n\
            [1:60] -A LIBVIRT_FWO -i virbr2 -j REJECT --reject-with icmp-port-unreachable\nCOMMIT\n";
        let found = iptables(saved, "virbr2");
        let wanted = Rejection {
            place: "iptables LIBVIRT_FWI".into(),
            packets: 5,
        };
        assert_eq!(found, [wanted]);
    }

    #[test]
    fn nftables_rules_are_found_with_their_counts() {
        let rule = |chain: &str, key: &str, bridge: &str, verdict: &str| {
            serde_json::json!({"rule": {"family": "ip", "table": "libvirt_network", "chain": chain, "expr": [
                {"match": {"op": "==", "left": {"meta": {"key": key}}, "right": bridge}},
                {"counter": {"packets": 3, "bytes": 180}},
                {verdict: null},
            ]}})
        };
        let document = serde_json::json!({"nftables": [
            {"metainfo": {}},
            rule("guest_input", "oifname", "virbr2", "reject"),
            rule("guest_input", "oifname", "virbr1", "reject"),
            rule("guest_output", "iifname", "virbr2", "reject"),
            rule("guest_input", "oifname", "virbr2", "accept"),
        ]});
        let found = nftables(&document, "virbr2");
        let wanted = Rejection {
            place: "nftables ip libvirt_network guest_input".into(),
            packets: 3,
        };
        assert_eq!(found, [wanted]);
    }

    #[test]
    fn a_forbidden_way_is_one_way() {
        let forbidden = |refused| Forbidden {
            from: "virbr1".into(),
            to: "virbr2".into(),
            refused,
        };
        let refused = rules("twin_a", "fwd_b", &forbidden(true));
        assert!(refused.contains(
            "iifname \"virbr1\" oifname \"virbr2\" ct state new counter reject with icmpx"
        ));
        let dropped = rules("twin_a", "fwd_b", &forbidden(false));
        assert!(
            dropped.contains("iifname \"virbr1\" oifname \"virbr2\" ct state new counter drop")
        );
    }
}
