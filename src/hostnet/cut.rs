//! Cutting hosts off from each other, in a table of the lab's own.

use std::fmt::Write as _;
use std::net::Ipv4Addr;

use super::{Cut, HostNetError, tool};
use crate::units::Mac;

/// The families in which packets between hosts are seen: bridged, and forwarded between bridges.
const FAMILIES: [&str; 2] = ["bridge", "inet"];

fn set<T: std::fmt::Display>(things: &[T]) -> String {
    let things: Vec<String> = things.iter().map(ToString::to_string).collect();
    format!("{{ {} }}", things.join(", "))
}

/// The rules that drop what goes from one side to the other, both ways.
fn rules(table: &str, chain: &str, cut: &Cut) -> String {
    let quoted = |ports: &[String]| -> Vec<String> {
        ports.iter().map(|port| format!("{port:?}")).collect()
    };
    let [one, other] = &cut.sides;
    let mut rules = String::new();
    let mut family = |family: &str, lines: &[String]| {
        // Writing to a String does not fail.
        let _ = writeln!(
            rules,
            "table {family} {table} {{\nchain {chain} {{\ntype filter hook forward priority -300; policy accept;\n{}\n}}\n}}",
            lines.join("\n")
        );
    };
    let bridged = |from: &[String], to: &[String]| {
        let (from, to) = (set(&quoted(from)), set(&quoted(to)));
        format!("iifname {from} oifname {to} counter drop")
    };
    let forwarded = |from: &[Ipv4Addr], to: &[Ipv4Addr]| {
        format!("ip saddr {} ip daddr {} counter drop", set(from), set(to))
    };
    let mut on_bridges = Vec::new();
    if !one.ports.is_empty() && !other.ports.is_empty() {
        on_bridges.extend([
            bridged(&one.ports, &other.ports),
            bridged(&other.ports, &one.ports),
        ]);
    }
    // A host that is started has ports of other names.
    let by_hardware = |from: &[Mac], to: &[Mac]| {
        format!(
            "ether saddr {} ether daddr {} counter drop",
            set(from),
            set(to)
        )
    };
    if !one.macs.is_empty() && !other.macs.is_empty() {
        on_bridges.extend([
            by_hardware(&one.macs, &other.macs),
            by_hardware(&other.macs, &one.macs),
        ]);
    }
    if !one.addresses.is_empty() && !other.addresses.is_empty() {
        let lines = [
            forwarded(&one.addresses, &other.addresses),
            forwarded(&other.addresses, &one.addresses),
        ];
        family(FAMILIES[1], &lines);
    }
    if !on_bridges.is_empty() {
        family(FAMILIES[0], &on_bridges);
    }
    rules
}

/// Makes a cut; all of it or nothing.
pub(super) async fn make(table: &str, chain: &str, cut: &Cut) -> Result<(), HostNetError> {
    let rules = rules(table, chain, cut);
    match tool::run("nft", &["-f", "-"], Some(rules.as_bytes())).await? {
        Some(_) => Ok(()),
        None => Err(HostNetError::Failed {
            what: "nft".into(),
            why: "it is not installed; scripts/host-setup.sh installs it".into(),
        }),
    }
}

/// What nft says of a thing; nothing where there is no such thing.
async fn listed(arguments: &[&str]) -> Result<Option<serde_json::Value>, HostNetError> {
    let output = match tool::run("nft", arguments, None).await {
        Err(HostNetError::Failed { why, .. }) if why.contains("No such file or directory") => {
            return Ok(None);
        }
        other => other?,
    };
    Ok(output.and_then(|bytes| serde_json::from_slice(&bytes).ok()))
}

/// Packets that a cut has dropped; nothing where it is not there.
pub(super) async fn dropped(table: &str, chain: &str) -> Result<Option<u64>, HostNetError> {
    let mut packets = None;
    for family in FAMILIES {
        let Some(document) = listed(&["-j", "list", "chain", family, table, chain]).await? else {
            continue;
        };
        let items = document["nftables"].as_array().into_iter().flatten();
        let expressions = items
            .filter_map(|item| item["rule"]["expr"].as_array())
            .flatten();
        let counted: u64 = expressions
            .filter_map(|expression| expression["counter"]["packets"].as_u64())
            .sum();
        *packets.get_or_insert(0) += counted;
    }
    Ok(packets)
}

/// Mends a cut, and removes the table with its last chain; one that is not there is as good.
pub(super) async fn mend(table: &str, chain: &str) -> Result<(), HostNetError> {
    for family in FAMILIES {
        if listed(&["-j", "list", "chain", family, table, chain])
            .await?
            .is_none()
        {
            continue;
        }
        tool::run("nft", &["flush", "chain", family, table, chain], None).await?;
        tool::run("nft", &["delete", "chain", family, table, chain], None).await?;
        let Some(document) = listed(&["-j", "list", "table", family, table]).await? else {
            continue;
        };
        let mut items = document["nftables"].as_array().into_iter().flatten();
        if !items.any(|item| item["chain"].is_object()) {
            tool::run("nft", &["delete", "table", family, table], None).await?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hostnet::Side;

    #[test]
    fn both_ways_are_cut_where_packets_are_bridged_and_where_they_are_forwarded() {
        let side = |port: &str, address: &str| Side {
            ports: vec![port.to_owned()],
            macs: vec![
                address
                    .replace("10.1.0.", "52:54:00:00:00:0")
                    .parse()
                    .expect("one"),
            ],
            addresses: vec![address.parse().expect("an address")],
        };
        let cut = Cut {
            sides: [side("vnet1", "10.1.0.1"), side("vnet2", "10.1.0.2")],
        };
        let rules = rules("twin_a", "cut_b", &cut);
        for wanted in [
            "table bridge twin_a",
            "table inet twin_a",
            "iifname { \"vnet1\" } oifname { \"vnet2\" } counter drop",
            "iifname { \"vnet2\" } oifname { \"vnet1\" } counter drop",
            "ip saddr { 10.1.0.1 } ip daddr { 10.1.0.2 } counter drop",
            "ip saddr { 10.1.0.2 } ip daddr { 10.1.0.1 } counter drop",
            "ether saddr { 52:54:00:00:00:01 } ether daddr { 52:54:00:00:00:02 } counter drop",
            "ether saddr { 52:54:00:00:00:02 } ether daddr { 52:54:00:00:00:01 } counter drop",
        ] {
            assert!(rules.contains(wanted), "{wanted}: {rules}");
        }
        // libvirt names a host's ports when it starts the host: one that is off has none yet.
        let mut off = cut;
        off.sides[0].ports.clear();
        let rules = self::rules("twin_a", "cut_b", &off);
        let (_, bridge) = rules.split_once("table bridge").expect("one");
        assert!(!bridge.contains("iifname"), "{rules}");
        assert!(
            bridge.contains("ether saddr { 52:54:00:00:00:01 }"),
            "{rules}"
        );
    }
}
