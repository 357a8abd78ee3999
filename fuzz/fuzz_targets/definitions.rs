//! libvirt's XML.
#![no_main]

use libfuzzer_sys::fuzz_target;
use twin::hypervisor::libvirt::readers;

fuzz_target!(|text: &str| readers::definition(text));
