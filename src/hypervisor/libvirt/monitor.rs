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
    answer(what, &text)
}

pub(super) fn answer(what: &str, text: &str) -> Result<Value, Failure> {
    let mut answer: Value =
        serde_json::from_str(text).map_err(|error| refused(what, error.to_string()))?;
    match answer["error"]["desc"].as_str() {
        Some(why) => Err(refused(what, why)),
        // One that is no object has nothing to return.
        None => Ok(answer
            .get_mut("return")
            .map(Value::take)
            .unwrap_or_default()),
    }
}

/// The disks that the guest writes to, as `query-block` tells them.
pub(super) fn writable(domain: &Domain) -> Result<Vec<Value>, Failure> {
    written(monitor(domain, &json!({"execute": "query-block"}))?)
}

pub(super) fn written(mut blocks: Value) -> Result<Vec<Value>, Failure> {
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

/// The limits of a disk, by the words of QEMU.
const LIMITS: [&str; 6] = ["bps", "bps_rd", "bps_wr", "iops", "iops_rd", "iops_wr"];

/// The limits of all disks, where they can be set again as they are: the same for all, and for reading and writing together.
pub(super) fn limits_of(blocks: &[Value]) -> Option<Throttle> {
    let limit = |block: &Value, name: &str| block["inserted"][name].as_u64().unwrap_or(0);
    let all = |block: &Value| LIMITS.map(|name| limit(block, name));
    let Some(first) = blocks.first() else {
        return Some(Throttle::default());
    };
    let [bytes, bytes_read, bytes_written, operations, read, written] = all(first);
    let alike = blocks.iter().all(|block| all(block) == all(first));
    let together = [bytes_read, bytes_written, read, written] == [0; 4];
    (alike && together).then_some(Throttle { bytes, operations })
}

pub(super) fn throttle(connection: &Connect, target: Target) -> Result<Throttle, Failure> {
    let blocks = writable(&ours(connection, target)?)?;
    limits_of(&blocks).ok_or_else(|| {
        let why =
            "its disks have limits made by hand, which differ by disk or by reading and writing";
        refused("reading what disks may do", why)
    })
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
    use super::*;

    #[test]
    fn an_answer_that_is_no_object_is_read() {
        for (text, wanted) in [
            ("7", json!(null)),
            ("[]", json!(null)),
            (r#"{"return": 7}"#, json!(7)),
        ] {
            assert_eq!(answer("x", text).ok(), Some(wanted), "{text}");
        }
        assert!(answer("x", r#"{"error": {"desc": "no"}}"#).is_err());
    }

    #[test]
    fn only_limits_that_can_be_set_again_are_read() {
        let disk = |name: &str, limit: u64| json!({"inserted": {"bps": 0, "iops": 0, name: limit}});
        let limits =
            |blocks: &[Value]| limits_of(blocks).map(|limit| (limit.bytes, limit.operations));
        assert_eq!(limits(&[]), Some((0, 0)));
        assert_eq!(limits(&[disk("bps", 7), disk("bps", 7)]), Some((7, 0)));
        assert_eq!(limits(&[disk("iops", 7)]), Some((0, 7)));
        for by_hand in [
            [disk("bps", 7), disk("bps", 8)],
            [disk("bps", 7), disk("bps", 0)],
            [disk("bps_rd", 7), disk("bps_rd", 7)],
        ] {
            assert_eq!(limits(&by_hand), None, "{by_hand:?}");
        }
    }
}
