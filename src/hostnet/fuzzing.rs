//! For `fuzz/`.

use super::{Network, forward, leftover};

/// Reads rules in each way that there is, for `fuzz/`: as iptables-save writes them, and as nft does.
pub fn read_rules(text: &str) {
    let network = Network {
        name: "net".into(),
        bridge: "virbr1".into(),
        mac: "52:54:00:00:00:01".parse().expect("a MAC"),
        cidr: "10.12.4.0/22".parse().ok(),
    };
    forward::read(text, &network.bridge);
    leftover::read(text, &network);
}
