//! Answers of QEMU's monitor, beside a definition.
#![no_main]

use libfuzzer_sys::fuzz_target;
use twin::hypervisor::libvirt::readers;

fuzz_target!(|input: &str| {
    let (definition, answer) = input.split_once('\n').unwrap_or(("", input));
    readers::answer(answer, definition);
});
