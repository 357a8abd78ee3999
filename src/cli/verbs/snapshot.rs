//! `twin snapshot`.

use tracing::instrument;

use crate::cli::context::Context;
use crate::cli::dirty::{dirty, refuse_disks_aside, refuse_unfinished};
use crate::cli::elapsed::since_given;
use crate::cli::failure::{DONE, Failure, code};
use crate::cli::flags::snapshot::Flags;
use crate::cli::interrupt::Interrupt;
use crate::cli::remove::remove;
use crate::cli::show::{baseline, snapshot as show};
use crate::hypervisor::Power;
use crate::lab::Found;
use crate::service;
use crate::snapshot::{self, Set};

#[instrument(skip_all, fields(lab = context.global.lab.as_deref(), name = %flags.name))]
pub(crate) async fn run(context: &Context<'_>, flags: &Flags) -> Result<u8, Failure> {
    let name = flags.name.as_str();
    let (found, lock) = if flags.changes_something() {
        let (found, lock) = context.site.locked_lab("snapshot").await?;
        (found, Some(lock))
    } else {
        (context.site.lab().await?, None)
    };
    let journal = context.site.journal()?;
    let watch = context.ui.watch();
    let set = Set {
        lock: lock.as_ref(),
        ..context.site.set(&found, &journal, watch.as_ref())
    };
    if flags.show {
        let manifest = snapshot::show(&set, name)?;
        context.ui.text(&baseline::text(&manifest));
        context.ui.document(&baseline::document(&manifest));
        return DONE;
    }
    if flags.verify {
        return verify(context, &set, name).await;
    }
    if flags.remove {
        return remove(context, &found, set, flags).await;
    }
    create(context, &found, &set, flags).await
}

async fn create(
    context: &Context<'_>,
    found: &Found,
    set: &Set<'_>,
    flags: &Flags,
) -> Result<u8, Failure> {
    refuse_unfinished(set)?;
    refuse_disks_aside(set)?;
    let site = &context.site;
    let expected = site.layout().expected_baselines(found.record.uuid);
    let request = flags.request(expected, dirty(set)?);
    let mut hosts = found.hosts.iter();
    let any_runs = hosts.any(|host| host.domain.power == Power::Running);
    let tested = service::tried(site, found, any_runs).await?;
    let interrupt = Interrupt::listen(None);
    let before = since_given(site.drivers().clock.as_ref());
    let created = snapshot::create(*set, &request, tested.as_ref(), interrupt.receiver()).await?;
    show::created(context.ui, &created, before + created.wall);
    DONE
}

async fn verify(context: &Context<'_>, set: &Set<'_>, name: &str) -> Result<u8, Failure> {
    let started = context.site.drivers().clock.elapsed();
    let findings = service::verify(set, name).await?;
    let sound = findings.is_empty();
    show::verified(context.ui, name, findings, context.site.since(started));
    Ok(if sound { code::DONE } else { code::FAILED })
}
