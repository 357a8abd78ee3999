//! Open faults when this machine boots: what needs no libvirt is put back before libvirtd runs, and the hosts with open faults
//! are not started until the rest is.

use std::collections::BTreeSet;
use std::path::PathBuf;

use uuid::Uuid;

use super::fault;
use crate::journal::{Intent, Journal, JournalError, OpenAct};
use crate::model::domain_uuid;
use crate::snapshot::Finished;
use crate::storage;

/// The step under which a run has that a host's start was put off, and the variant. No step of a file has such a name.
const STEP: &str = "start at boot";
const VARIANT: &str = "at boot";

/// The host that an act was done to.
fn host_of(act: &OpenAct) -> Option<String> {
    let captured = serde_json::from_str(&act.undo).ok()?;
    let hosts = fault::footprint(&act.action, &captured, act.outside).hosts();
    hosts.into_iter().next()
}

/// Called before libvirtd runs. `autostarted` are the domains that it is going to start, each with the link by which it does.
pub fn before_libvirt(
    journal: &Journal,
    autostarted: &[(Uuid, PathBuf)],
) -> Result<Finished, JournalError> {
    let mut told = Finished::default();
    for lab in journal.labs_with_open_acts()? {
        let open = journal.open_acts(lab)?;
        for act in &open {
            match fault::revert_files(&act.action, &act.undo) {
                Ok(done) => told
                    .done
                    .extend(done.map(|done| format!("run {}: {}: {done}", act.run, act.step))),
                Err(error) => told
                    .left
                    .push(format!("run {}: {}: {error}", act.run, act.step)),
            }
        }
        let mut seen = BTreeSet::new();
        for (act, host) in open.iter().filter_map(|act| Some((act, host_of(act)?))) {
            if !seen.insert(host.clone()) {
                continue;
            }
            let domain = domain_uuid(lab, &host);
            let Some((_, link)) = autostarted.iter().find(|(uuid, _)| *uuid == domain) else {
                continue;
            };
            // Written down first: the process that reverts the run has the host start at boot again.
            let intent = Intent {
                run: &act.run,
                variant: VARIANT,
                step: STEP,
                action: fault::HOST_AUTOSTART,
                undo: &serde_json::json!({"host": host, "autostart": true}).to_string(),
                expires: None,
                outside: true,
            };
            journal.intend_act(&intent)?;
            match storage::remove(link) {
                Ok(_) => told.done.push(format!(
                    "run {}: {host} is not started until what is open is put back",
                    act.run
                )),
                Err(error) => told
                    .left
                    .push(format!("removing {}: {error}", link.display())),
            }
        }
    }
    Ok(told)
}

/// The hosts of a lab whose start was put off.
pub fn put_off(journal: &Journal, lab: Uuid) -> Result<BTreeSet<String>, JournalError> {
    let open = journal.open_acts(lab)?;
    let own = open
        .iter()
        .filter(|act| act.action == fault::HOST_AUTOSTART && act.step == STEP);
    Ok(own.filter_map(host_of).collect())
}
