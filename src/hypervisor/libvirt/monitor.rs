//! QEMU's monitor.

use serde_json::{Value, json};
use virt::connect::Connect;
use virt::domain::Domain;

use super::domains::ours;
use super::failure::Failure;
use crate::hypervisor::{HypervisorError, Target, Throttle};

/// A call that was not carried out.
pub(super) fn refused(what: &str, why: impl Into<String>) -> Failure {
    HypervisorError::Refused {
        what: what.to_owned(),
        why: why.into(),
    }
    .into()
}

/// Sends one command to the monitor and returns what it answers.
pub(super) fn monitor(domain: &Domain, command: &Value) -> Result<Value, Failure> {
    let what = command["execute"].as_str().unwrap_or("a monitor command");
    let text = domain.qemu_monitor_command(&command.to_string(), 0)?;
    let mut answer: Value =
        serde_json::from_str(&text).map_err(|error| refused(what, error.to_string()))?;
    match answer["error"]["desc"].as_str() {
        Some(why) => Err(refused(what, why)),
        None => Ok(answer["return"].take()),
    }
}

/// The disks that the guest writes to, as `query-block` tells them.
pub(super) fn writable(domain: &Domain) -> Result<Vec<Value>, Failure> {
    let mut blocks = monitor(domain, &json!({"execute": "query-block"}))?;
    let blocks = blocks
        .as_array_mut()
        .map(std::mem::take)
        .unwrap_or_default();
    let written = |block: &Value| {
        let medium = &block["inserted"];
        medium["drv"] == "qcow2" && medium["ro"] == false
    };
    Ok(blocks.into_iter().filter(written).collect())
}

/// The lower of two limits, of which 0 is none.
fn stricter(one: u64, other: u64) -> u64 {
    match (one, other) {
        (0, limit) | (limit, 0) => limit,
        (one, other) => one.min(other),
    }
}

pub(super) fn throttle(connection: &Connect, target: Target) -> Result<Throttle, Failure> {
    let blocks = writable(&ours(connection, target)?)?;
    let limits = blocks.iter().map(|block| {
        let limit = |name: &str| block["inserted"][name].as_u64().unwrap_or(0);
        Throttle {
            bytes: limit("bps"),
            operations: limit("iops"),
        }
    });
    Ok(limits.fold(Throttle::default(), |found, limit| Throttle {
        bytes: stricter(found.bytes, limit.bytes),
        operations: stricter(found.operations, limit.operations),
    }))
}

pub(super) fn set_throttle(
    connection: &Connect,
    target: Target,
    throttle: Throttle,
) -> Result<(), Failure> {
    let domain = ours(connection, target)?;
    for block in writable(&domain)? {
        let Some(device) = block["qdev"].as_str() else {
            continue;
        };
        let limits = json!({
            "id": device, "bps": throttle.bytes, "bps_rd": 0, "bps_wr": 0,
            "iops": throttle.operations, "iops_rd": 0, "iops_wr": 0,
        });
        monitor(
            &domain,
            &json!({"execute": "block_set_io_throttle", "arguments": limits}),
        )?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #[test]
    fn no_limit_is_no_stricter_than_any() {
        for (one, other, stricter) in [(0, 0, 0), (0, 7, 7), (7, 0, 7), (7, 5, 5)] {
            assert_eq!(super::stricter(one, other), stricter);
        }
    }
}
