//! `twin up`.

use std::collections::BTreeSet;
use std::time::Duration;

use clap::Args;
use tracing::instrument;

use crate::cli::consent::{Yes, ask};
use crate::cli::context::Context;
use crate::cli::dirty::{Does, lost_with_disks, say_dirty};
use crate::cli::failure::{DONE, Failure};
use crate::cli::files;
use crate::cli::interrupt::interruptible;
use crate::cli::show::up as show;
use crate::doctor::TimedProbe;
use crate::lab::{self, LabError, Lock, Prepared, Request};
use crate::model::{AcceleratorChoice, ImageName, Scale};
use crate::plan::Subject;
use crate::service;
use crate::topology;
use crate::units::Name;

/// Stand-in timers over 60 s are divided by this.
const TIME_SCALE: u32 = 10;

/// What is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Wait {
    /// Nothing.
    None,
    /// Each guest answers.
    Agent,
    /// Each guest answers and its services are healthy.
    Services,
}

/// How a lab is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Accel {
    /// In hardware.
    Kvm,
    /// In software.
    Tcg,
}

#[derive(Debug, Args)]
pub(crate) struct Flags {
    /// The topology: a path or a name.
    #[arg(default_value = "testcloud")]
    pub(crate) topology: String,
    /// Says what would be done, and does nothing.
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Only the hosts whose names match; `*` and `?` stand for others.
    #[arg(long, value_name = "GLOB")]
    pub(crate) only: Option<String>,
    /// An image for all hosts instead of the topology's.
    #[arg(long, value_name = "NAME")]
    pub(crate) image: Option<ImageName>,
    /// What sizes are divided by: auto, or 1 to 64. Chosen when the lab is made.
    #[arg(long, value_name = "N|auto", default_value = "auto")]
    pub(crate) scale: String,
    /// How guests are run; chosen by a timed boot when not given.
    #[arg(long, value_enum)]
    pub(crate) accel: Option<Accel>,
    /// Hosts that are made at once.
    #[arg(long, value_name = "N", default_value_t = 8)]
    pub(crate) jobs: usize,
    /// What is waited for.
    #[arg(long, value_enum, default_value = "agent")]
    pub(crate) wait: Wait,
    /// How long a host is waited for, like 90s or 5m.
    #[arg(long, value_name = "TIME", default_value = "5m", value_parser = duration)]
    pub(crate) timeout: Duration,
    /// Makes a host's domain anew; its disks stay. May be given more than once.
    #[arg(long, value_name = "HOST")]
    pub(crate) replace: Vec<Name>,
    /// Discards the disks of the hosts that are replaced, and the baselines that need them; asks first.
    #[arg(long, requires = "replace")]
    pub(crate) blank: bool,
    #[command(flatten)]
    pub(crate) yes: Yes,
}

impl Flags {
    /// The words that ask for the same lab again.
    fn words(&self) -> Vec<String> {
        let mut words = vec!["up".to_owned(), self.topology.clone()];
        let mut add = |flag: &str, value: Option<String>| {
            words.extend(value.into_iter().flat_map(|value| [flag.to_owned(), value]));
        };
        add("--image", self.image.as_ref().map(ToString::to_string));
        add(
            "--scale",
            (self.scale != "auto").then(|| self.scale.clone()),
        );
        let accel = self.accel.map(|accel| match accel {
            Accel::Kvm => "kvm".to_owned(),
            Accel::Tcg => "tcg".to_owned(),
        });
        add("--accel", accel);
        add("--only", self.only.clone());
        words
    }
}

/// Reads a duration like 90s, 5m or 1h30m.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let signed: jiff::SignedDuration = text
        .parse()
        .map_err(|_| format!("{text} is no duration; write 90s or 5m"))?;
    Duration::try_from(signed).map_err(|_| "a duration is not negative".to_owned())
}

#[instrument(skip_all, fields(lab = context.global.lab.as_deref(), topology = flags.topology))]
pub(crate) async fn run(context: &Context<'_>, flags: &Flags) -> Result<u8, Failure> {
    let loaded = topology::load(&flags.topology, &files::topologies());
    for remark in files::remarks() {
        context.ui.remark(&remark);
    }
    let loaded = loaded?;
    let lab = context
        .global
        .lab
        .as_deref()
        .map(str::parse::<Name>)
        .transpose();
    let lab = lab.map_err(|error| {
        Failure::usage(format!("--lab: {error}"), vec!["take another name".into()])
    })?;
    let scale = match flags.scale.as_str() {
        "auto" => None,
        text => Some(text.parse::<Scale>().map_err(|error| {
            Failure::usage(
                format!("--scale {text}: {error}"),
                vec!["--scale auto chooses".into()],
            )
        })?),
    };
    let name = lab.clone().unwrap_or_else(|| loaded.topology.name.clone());
    // A lab that is there already has its files where its marks say.
    for found in context.site.labs().await? {
        if found.record.name == name {
            context.site.follow(&found);
            for stray in &found.strays {
                context.ui.remark(&stray.to_string());
            }
        }
    }
    let probe = TimedProbe::new(context.site.layout().accelerator_cache(), !flags.dry_run);
    let recipes = files::images();
    let rest = flags.words();
    let command = |lab: &str| context.command(lab, &rest);
    let request = Request {
        topology: loaded.topology,
        lab,
        scale,
        accelerator: flags.accel.map(|accel| match accel {
            Accel::Kvm => AcceleratorChoice::Kvm,
            Accel::Tcg => AcceleratorChoice::Tcg,
        }),
        only: flags.only.clone(),
        image: flags.image.clone(),
        replace: flags.replace.iter().cloned().collect::<BTreeSet<_>>(),
        blank: flags.blank,
        time_scale: TIME_SCALE,
        build: !flags.dry_run,
        command: &command,
        recipes: &recipes,
        probe: &probe,
    };
    let again = format!(
        "`{}` goes on where this stopped; `{}` removes what there is",
        command(name.as_str()),
        context.command(name.as_str(), &["destroy".to_owned()])
    );
    interruptible(up(context, flags, request), || {
        Failure::interrupted("interrupted; what was made stays", vec![again])
    })
    .await
}

async fn up(context: &Context<'_>, flags: &Flags, request: Request<'_>) -> Result<u8, Failure> {
    let drivers = context.site.drivers();
    let watch = context.ui.watch();
    // The state directory has to work before anything is made.
    let journal = if flags.dry_run {
        None
    } else {
        Some(context.site.journal()?)
    };
    let prepared = lab::prepare(request, drivers, context.site.layout(), watch.as_ref()).await;
    for remark in files::remarks() {
        context.ui.remark(&remark);
    }
    let mut prepared = prepared?;
    // Read again: its lock is held now.
    let labs = context.site.labs().await?;
    let uuid = prepared.placed.record.uuid;
    let found = labs.iter().find(|found| found.record.uuid == uuid);
    // A dry run holds no lock: what another twin is at would look broken off.
    if let Some(found) = found.filter(|_| !flags.dry_run) {
        say_dirty(context, found, Does::Boots)?;
    }
    if flags.wait == Wait::None {
        prepared.plan.steps.retain(crate::plan::Step::changes);
    }
    let goes = goes(context, &prepared)?;
    prepared.plan.notes.extend(goes.iter().cloned());
    let Some(journal) = journal else {
        return Ok(show::dry_run(context.ui, &prepared));
    };
    if !goes.is_empty() {
        // A lab with disks has its addresses: others need not wait for an answer.
        prepared.machine_lock = None;
        ask(context, flags.yes, &goes).await?;
        prepared.machine_lock = Some(
            Lock::machine("up", drivers.clock.as_ref())
                .await
                .map_err(LabError::from)?,
        );
    }
    let (blocked, notes) = (prepared.plan.blocked.clone(), prepared.plan.notes.clone());
    let upped = lab::apply(
        &mut prepared,
        drivers,
        context.site.layout(),
        &journal,
        watch.as_ref(),
        flags.jobs,
        flags.timeout,
    )
    .await?;
    if flags.wait == Wait::Services {
        let name = prepared.placed.record.name.as_str();
        service::healthy(&context.site, name, flags.timeout).await?;
    }
    show::report(context.ui, &prepared, &upped, &notes);
    if blocked.is_empty() {
        DONE
    } else {
        Err(LabError::Blocked { blocked }.into())
    }
}

/// What the plan discards: the disks, and the baselines that need them.
fn goes(context: &Context<'_>, prepared: &Prepared) -> Result<Vec<String>, Failure> {
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
