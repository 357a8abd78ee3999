//! Rules as iptables-save and nft write them.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| twin::hostnet::read_rules(text));
