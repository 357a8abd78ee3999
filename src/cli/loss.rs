//! What is lost by what a verb does, in words.

use std::collections::BTreeSet;

use super::context::Context;
use super::dirty::lost_with_disks;
use super::failure::Failure;
use crate::hypervisor::Power;
use crate::lab::{self, Found, Prepared};
use crate::plan::Subject;
use crate::snapshot::{self, Manifest};

/// What goes with the hosts that are on: all that is in their memory.
pub(crate) fn by_down(found: &Found, force: bool) -> Vec<String> {
    let on = found
        .hosts
        .iter()
        .filter(|host| !matches!(host.domain.power, Power::ShutOff));
    on.map(|host| {
        let how = if force {
            "its power is taken away"
        } else {
            "it shuts down"
        };
        format!(
            "{}: {how}, and what is in its memory goes",
            host.domain.name
        )
    })
    .collect()
}

/// What is on the hosts' disks, and the baselines that need it.
pub(crate) fn by_release(
    context: &Context<'_>,
    found: &Found,
    host: Option<&str>,
) -> Result<Vec<String>, Failure> {
    let hosts = found.chosen(host)?;
    let disks = hosts.iter().flat_map(|host| {
        let disks = host.spec.disks.iter();
        disks.map(|disk| format!("what is on {}", disk.path.display()))
    });
    let names: Vec<&str> = hosts.iter().map(|host| host.name.as_str()).collect();
    let baselines = lost_with_disks(context, found.record.uuid, &names)?;
    Ok(disks.chain(baselines).collect())
}

/// What goes with a lab, and what stays of its directory.
pub(crate) async fn by_destroy(
    context: &Context<'_>,
    found: &Found,
) -> Result<(Vec<String>, Vec<String>), Failure> {
    let (mut goes, left) =
        lab::doomed(found, context.site.drivers(), context.site.layout()).await?;
    // Baselines that cannot be listed go all the same.
    let baselines = snapshot::names(context.site.layout(), found.record.uuid).unwrap_or_default();
    goes.extend(baselines.iter().map(|name| format!("baseline {name}")));
    Ok((goes, left.iter().map(ToString::to_string).collect()))
}

/// Whatever the hosts did since a baseline was taken.
pub(crate) fn by_restore(found: &Found, manifest: &Manifest) -> Vec<String> {
    let hosts = found.hosts.iter().map(|host| host.name.to_string());
    vec![format!(
        "memory and disks of {} as they are now: all since {}, when {} was taken",
        hosts.collect::<Vec<_>>().join(", "),
        manifest.taken(),
        manifest.name
    )]
}

/// What a plan discards: the disks, and the baselines that need them.
pub(crate) fn by_up(context: &Context<'_>, prepared: &Prepared) -> Result<Vec<String>, Failure> {
    let mut goes = Vec::new();
    let mut hosts: BTreeSet<&str> = BTreeSet::new();
    for step in &prepared.plan.steps {
        if let (Some(disk), Subject::Host(host)) = (step.discards(), &step.subject) {
            goes.push(format!("what is on {}", disk.display()));
            hosts.insert(host.as_str());
        }
    }
    if !hosts.is_empty() {
        let hosts: Vec<&str> = hosts.into_iter().collect();
        goes.extend(lost_with_disks(
            context,
            prepared.placed.record.uuid,
            &hosts,
        )?);
    }
    Ok(goes)
}
