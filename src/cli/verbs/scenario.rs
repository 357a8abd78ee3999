//! `twin scenario`.

use std::collections::BTreeMap;

use clap::{Args, ValueEnum};

use tracing::instrument;

use crate::cli::context::Context;
use crate::cli::failure::{DONE, Failure, code};
use crate::cli::files;
use crate::cli::interrupt::Interrupt;
use crate::cli::show::scenario::{explain, preview};
use crate::cli::ui::no_document;
use crate::diagnostics::Source;
use crate::lab::{Found, LabError, Lock};
use crate::report::{ScenarioEntry, ScenariosDocument, scenario_text};
use crate::scenario::Verdict;
use crate::scenario::{self, Choice, Policy, Scenario, ScenarioError, World};
use crate::snapshot::self_test;
use crate::units::Seed;

/// What follows an undo that did not bring the lab back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum OnFailure {
    /// It is reported.
    Report,
    /// The run's baseline is restored.
    Restore,
}

#[derive(Debug, Args)]
pub(crate) struct Flags {
    /// The scenario: a path or a name; without one, lists what there is.
    pub(crate) name: Option<String>,
    /// The worlds it runs in.
    #[arg(
        long,
        value_name = "WORLD",
        value_delimiter = ',',
        default_value = "lab"
    )]
    pub(crate) on: Vec<String>,
    /// The variants; all when not given.
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub(crate) variant: Vec<String>,
    /// Says what would be done, and does nothing.
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Tells the scenario's story.
    #[arg(long)]
    pub(crate) explain: bool,
    /// Sets a variable.
    #[arg(long, value_name = "KEY=VALUE", value_parser = assignment)]
    pub(crate) set: Vec<(String, String)>,
    /// What is done where the undo is not enough: nothing more, or the baseline from before the run is restored.
    #[arg(long, value_enum, default_value = "report")]
    pub(crate) on_failure: OnFailure,
    /// Leaves the failure in place, to be looked at; `twin recover` puts it back. Of one variant.
    #[arg(long)]
    pub(crate) keep: bool,
    /// Writes what happens, as JSON lines and while it happens, to standard output, in place of the result.
    #[arg(long, conflicts_with_all = ["dry_run", "explain"])]
    pub(crate) events: bool,
    /// The seed of its random choices; chosen when not given.
    #[arg(long, value_name = "N")]
    pub(crate) seed: Option<Seed>,
}

impl Flags {
    /// Whether it is more than a look.
    pub(crate) const fn changes_something(&self) -> bool {
        self.name.is_some() && !self.dry_run && !self.explain
    }
}

fn assignment(text: &str) -> Result<(String, String), String> {
    text.split_once('=')
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .ok_or_else(|| "write KEY=VALUE".to_owned())
}

#[instrument(skip_all, fields(lab = context.global.lab.as_deref(), scenario = flags.name.as_deref()))]
pub(crate) async fn run(context: &Context<'_>, flags: &Flags) -> Result<u8, Failure> {
    let Some(name) = &flags.name else {
        return list(context);
    };
    if flags.events {
        no_document(context.ui, "scenario --events")?;
    }
    let loaded = load(name);
    for remark in files::remarks() {
        context.ui.remark(&remark);
    }
    let (scenario, source) = loaded?;
    if let Some(world) = flags.on.iter().find(|world| *world != "lab") {
        let known = ["sim", "real"].contains(&world.as_str());
        let what = if known {
            format!("this version of twin does not have the world {world}")
        } else {
            format!("there is no world {world}")
        };
        return Err(Failure::usage(what, vec!["--on lab".into()]));
    }
    if let Some((unknown, _)) = flags
        .set
        .iter()
        .find(|(name, _)| !scenario.knows_variable(name))
    {
        return Err(Failure::usage(
            format!("{} has no variable {unknown}", scenario.name),
            vec!["`twin scenario NAME --explain` shows its variables".into()],
        ));
    }
    if flags.explain {
        no_document(context.ui, "scenario --explain")?;
        explain(context.ui, &scenario, &source);
        return DONE;
    }
    let set: BTreeMap<String, String> = flags.set.iter().cloned().collect();
    let choice = Choice {
        variants: flags.variant.clone(),
        set,
        restore_on_failure: flags.on_failure == OnFailure::Restore,
        self_test: None,
        keep: flags.keep,
    };
    let (found, lock) = lab_of(context, flags.dry_run).await?;
    let seed = flags
        .seed
        .unwrap_or_else(|| Seed(uuid::Uuid::new_v4().as_u64_pair().0 >> 32));
    let run = uuid::Uuid::new_v4().simple().to_string()[..8].to_owned();
    let world = World {
        drivers: context.site.drivers().clone(),
        layout: context.site.layout().clone(),
        found,
        seed,
        run,
        lock,
    };
    if flags.dry_run {
        return dry_run(context, &scenario, &choice, &world, &source).await;
    }
    carry_out(context, flags, &scenario, choice, &world, &source).await
}

/// Finds the lab, and locks it where it is not only looked at; where none is up, names `twin up`.
async fn lab_of(context: &Context<'_>, look: bool) -> Result<(Found, Option<Lock>), Failure> {
    let (found, lock) = if look {
        (context.site.lab().await?, None)
    } else {
        let (found, lock) = context.site.locked_lab("scenario").await?;
        (found, Some(lock))
    };
    if found.hosts.is_empty() {
        return Err(LabError::NoLab {
            name: found.record.name.to_string(),
            known: Vec::new(),
        }
        .into());
    }
    Ok((found, lock))
}

fn load(name: &str) -> Result<(Scenario, Source), Failure> {
    let files = files::scenarios();
    let Some(source) = files.find(name, None) else {
        let known = files.names();
        let near = crate::diagnostics::nearest(name, known.iter().map(String::as_str));
        let cure = near.map_or_else(
            || format!("there is: {}", known.join(", ")),
            |near| format!("did you mean {near}?"),
        );
        return Err(Failure::usage(
            format!("there is no scenario {name}"),
            vec![cure],
        ));
    };
    match scenario::parse(&source) {
        Ok(scenario) => Ok((scenario, source)),
        Err(problems) => {
            let what = format!("{} problem(s) in {}", problems.len(), source.name);
            Err(Failure::problems(what, problems, vec![source]))
        }
    }
}

fn list(context: &Context<'_>) -> Result<u8, Failure> {
    let mut entries = Vec::new();
    for name in files::scenarios().names() {
        let Ok((scenario, _)) = load(&name) else {
            let told = format!("{name} has mistakes: `twin scenario {name} --explain` tells them");
            context.ui.remark(&told);
            continue;
        };
        if scenario.name.as_str() != name {
            let told = format!("{name} is called {} in its file", scenario.name);
            context.ui.remark(&told);
        }
        entries.push(ScenarioEntry {
            // What it is run by.
            name,
            title: scenario.title.clone(),
            incident: scenario.incident.clone(),
            variants: scenario
                .variants
                .iter()
                .map(|variant| variant.name.clone())
                .collect(),
        });
    }
    let rows: Vec<Vec<String>> = entries
        .iter()
        .map(|entry| {
            vec![
                entry.name.clone(),
                entry.incident.clone().unwrap_or_default(),
                entry.variants.join(" "),
                entry.title.clone(),
            ]
        })
        .collect();
    context
        .ui
        .table(&["SCENARIO", "INCIDENT", "VARIANTS", "TITLE"], &rows);
    context.ui.document(&ScenariosDocument {
        schema: "twin/scenarios/v1".into(),
        scenarios: entries,
    });
    DONE
}

async fn dry_run(
    context: &Context<'_>,
    scenario: &Scenario,
    choice: &Choice,
    world: &World,
    source: &Source,
) -> Result<u8, Failure> {
    no_document(context.ui, "scenario --dry-run")?;
    let record = &world.found.record;
    context.ui.text(&format!(
        "{} in lab {} ({}); nothing is done\n",
        scenario.name, record.name, record.uuid
    ));
    if let Err(error) = scenario::may_begin(world, context.site.journal_if_there()?.as_ref()) {
        context.ui.text(&format!("would be refused: {error}\n"));
    }
    let chosen = scenario::chosen(scenario, &choice.variants);
    for variant in chosen.map_err(|error| failure_of(error, source))? {
        let resolved = scenario.resolve(variant, &choice.set, world);
        let resolved = resolved.map_err(|problems| {
            Failure::problems(
                "the variables do not fit".into(),
                problems,
                vec![source.clone()],
            )
        })?;
        preview(context.ui, &resolved, world).await;
    }
    DONE
}

async fn carry_out(
    context: &Context<'_>,
    flags: &Flags,
    scenario: &Scenario,
    mut choice: Choice,
    world: &World,
    source: &Source,
) -> Result<u8, Failure> {
    let journal = context.site.journal()?;
    if scenario.baseline != Policy::None {
        let accelerator = world.found.record.accelerator;
        let (drivers, layout) = (context.site.drivers(), context.site.layout());
        choice.self_test = self_test(drivers, layout, accelerator, true).await?;
    }
    let progress = context.ui.watch_run(flags.events);
    let interrupt = Interrupt::listen(Some((
        context.site.layout().clone(),
        context.site.drivers().clock.clone(),
    )));
    let outcome = scenario::run(
        scenario,
        &choice,
        world,
        &journal,
        progress.as_ref(),
        interrupt.receiver().clone(),
    )
    .await;
    let document = outcome.map_err(|error| failure_of(error, source))?;
    if !flags.events {
        context.ui.text(&scenario_text(&document));
        context.ui.document(&document);
    }
    if *interrupt.receiver().borrow() && document.verdict != Verdict::Dirty {
        return Ok(code::INTERRUPTED);
    }
    Ok(exit_code(document.verdict))
}

/// The exit code of a verdict.
pub(crate) const fn exit_code(verdict: Verdict) -> u8 {
    match verdict {
        Verdict::Pass => code::DONE,
        Verdict::Fail => code::FAILED,
        Verdict::Inconclusive => code::INCONCLUSIVE,
        Verdict::Dirty => code::DIRTY,
    }
}

fn failure_of(error: ScenarioError, source: &Source) -> Failure {
    let message = error.to_string();
    match error {
        ScenarioError::Lab(error) => error.into(),
        ScenarioError::Halted { .. } => Failure::machine(
            message,
            vec!["`twin halt --lift` lets runs begin again".into()],
        ),
        ScenarioError::KeepOne { .. } => {
            Failure::usage(message, vec!["name it: --variant NAME".into()])
        }
        ScenarioError::Dirty { .. } => {
            Failure::dirty(message, vec!["`twin recover` puts it back".into()])
        }
        ScenarioError::NoVariant { known, .. } => {
            Failure::usage(message, vec![format!("there is: {}", known.join(", "))])
        }
        ScenarioError::Invalid { problems } => {
            Failure::problems(message, problems, vec![source.clone()])
        }
    }
}
