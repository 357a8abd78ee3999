//! `twin snapshot`.

use clap::Args;
use tracing::instrument;

use crate::cli::consent::{Yes, ask, end_dry_run};
use crate::cli::context::Context;
use crate::cli::dirty::dirty;
use crate::cli::elapsed::{milliseconds, since_given};
use crate::cli::failure::{DONE, Failure, code};
use crate::cli::interrupt::Interrupt;
use crate::cli::show::baseline;
use crate::lab::Found;
use crate::report::{ChangeDocument, SnapshotDocument, VerifyDocument};
use crate::snapshot::{self, Rung, Set};
use crate::units::Name;

#[derive(Debug, Args)]
pub(crate) struct Flags {
    /// The baseline's name.
    pub(crate) name: Name,
    /// Reads all of the baseline and tells what is not as it was.
    #[arg(long, conflicts_with_all = ["remove", "show", "note", "mode", "force"])]
    pub(crate) verify: bool,
    /// Removes the baseline.
    #[arg(long, conflicts_with_all = ["show", "note", "mode", "force"])]
    pub(crate) remove: bool,
    /// Shows the baseline.
    #[arg(long, conflicts_with_all = ["note", "mode", "force"])]
    pub(crate) show: bool,
    /// A remark to keep with it.
    #[arg(long, value_name = "TEXT")]
    pub(crate) note: Option<String>,
    /// How it is taken; the best way that works when not given.
    #[arg(long, value_name = "MODE", value_parser = mode)]
    pub(crate) mode: Option<Rung>,
    /// Takes it although the topology's gates do not hold.
    #[arg(long)]
    pub(crate) force: bool,
    /// Says what removing it would free, and changes nothing.
    #[arg(long, requires = "remove")]
    pub(crate) dry_run: bool,
    #[command(flatten)]
    pub(crate) yes: Yes,
}

fn mode(word: &str) -> Result<Rung, String> {
    Rung::ALL
        .into_iter()
        .find(|rung| rung.as_str() == word)
        .ok_or_else(|| "a mode is reflink, copy, stream or disks".into())
}

impl Flags {
    /// Whether something is changed, and not only read.
    pub(crate) const fn changes_something(&self) -> bool {
        !self.verify && !self.show && !self.dry_run
    }
}

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

async fn remove(
    context: &Context<'_>,
    found: &Found,
    set: Set<'_>,
    flags: &Flags,
) -> Result<u8, Failure> {
    const VERB: &str = "snapshot --remove";
    let (name, lab) = (flags.name.as_str(), found.record.name.as_str());
    let goes = match snapshot::show(&set, name) {
        Ok(manifest) => format!("baseline {name}, taken {}", manifest.taken()),
        Err(snapshot::SnapshotError::Damaged { .. }) => {
            format!("baseline {name}, which is damaged")
        }
        Err(error) => return Err(error.into()),
    };
    let goes = vec![goes];
    if flags.dry_run {
        return Ok(end_dry_run(context, lab, VERB, goes, Vec::new()));
    }
    crate::cli::dirty::refuse_unfinished(&set)?;
    crate::cli::dirty::refuse_disks_aside(&set)?;
    ask(context, flags.yes, &goes).await?;
    let started = context.site.drivers().clock.elapsed();
    snapshot::remove(set, name).await?;
    context.ui.text(&format!("baseline {name} is gone\n"));
    context.ui.document(&ChangeDocument {
        took_ms: milliseconds(context.site.since(started)),
        ..ChangeDocument::new(lab, VERB, vec![name.to_owned()])
    });
    DONE
}

async fn create(
    context: &Context<'_>,
    found: &Found,
    set: &Set<'_>,
    flags: &Flags,
) -> Result<u8, Failure> {
    crate::cli::dirty::refuse_unfinished(set)?;
    crate::cli::dirty::refuse_disks_aside(set)?;
    let expected = context.site.layout().expected_baselines(found.record.uuid);
    let gates = expected
        .into_iter()
        .find(|expected| expected.name == flags.name)
        .filter(|_| !flags.force)
        .map(|expected| expected.gates)
        .unwrap_or_default();
    let request = snapshot::Request {
        name: flags.name.to_string(),
        note: flags.note.clone(),
        run: None,
        mode: flags.mode,
        gates,
        dirty: dirty(set)?,
        without_barrier: false,
    };
    let any_runs = found
        .hosts
        .iter()
        .any(|host| host.domain.power == crate::hypervisor::Power::Running);
    let accelerator = found.record.accelerator;
    let drivers = context.site.drivers();
    let tested = snapshot::self_test(drivers, context.site.layout(), accelerator, any_runs).await?;
    let interrupt = Interrupt::listen(None);
    let before = since_given(context.site.drivers().clock.as_ref());
    let created = snapshot::create(*set, &request, tested.as_ref(), interrupt.receiver()).await?;
    let wall = before + created.wall;
    let manifest = &created.manifest;
    for reason in &manifest.reasons {
        context.ui.remark(&format!("{}: {reason}", manifest.rung));
    }
    context.ui.text(&format!(
        "baseline {} of {}: {} hosts by {}, stood still {} ms, {:.1} s in all, {} written\n",
        manifest.name,
        manifest.lab_name,
        manifest.hosts.len(),
        manifest.rung,
        created.set_pause.as_millis(),
        wall.as_secs_f64(),
        baseline::size(created.bytes_written),
    ));
    context.ui.document(&SnapshotDocument {
        schema: "twin/snapshot/v1".into(),
        name: manifest.name.clone(),
        rung: manifest.rung.to_string(),
        reasons: manifest.reasons.clone(),
        set_pause_ms: milliseconds(created.set_pause),
        wall_ms: milliseconds(wall),
        bytes_written: created.bytes_written,
        hosts: manifest.hosts.iter().map(baseline::host_document).collect(),
    });
    DONE
}

async fn verify(context: &Context<'_>, set: &Set<'_>, name: &str) -> Result<u8, Failure> {
    let clock = &context.site.drivers().clock;
    let started = clock.elapsed();
    let findings = match snapshot::show(set, name) {
        Ok(manifest) => snapshot::verify(set, &manifest).await?,
        Err(snapshot::SnapshotError::Damaged { findings, .. }) => findings,
        Err(error) => return Err(error.into()),
    };
    let took = clock.elapsed().saturating_sub(started);
    for finding in &findings {
        context.ui.text(&format!("DAMAGED  {finding}\n"));
    }
    if findings.is_empty() {
        context.ui.text(&format!(
            "baseline {name} is what it was, read in {:.1} s\n",
            took.as_secs_f64()
        ));
    }
    context.ui.document(&VerifyDocument {
        schema: "twin/verify/v1".into(),
        name: name.to_owned(),
        findings: findings.clone(),
        took_ms: milliseconds(took),
    });
    Ok(if findings.is_empty() {
        code::DONE
    } else {
        code::FAILED
    })
}
