//! A scenario, and what it would do.

use crate::cli::ui::Ui;
use crate::diagnostics::Source;
use crate::journal::Journal;
use crate::scenario::fault::describe_revert;
use crate::scenario::{Choice, Resolved, Scenario, ScenarioError, Work, World, chosen, may_begin};

/// Its story, its variables, its file.
pub(crate) fn explain(ui: &Ui, scenario: &Scenario, source: &Source) {
    let incident = scenario
        .incident
        .as_ref()
        .map_or_else(String::new, |incident| format!(" ({incident})"));
    let variants: Vec<&str> = scenario
        .variants
        .iter()
        .map(|variant| variant.name.as_str())
        .collect();
    let about = textwrap::fill(scenario.about.trim(), 100);
    ui.text(&format!(
        "{}{incident}\n\n{about}\n\nvariants: {}\n",
        scenario.title,
        variants.join(", "),
    ));
    for (name, value) in scenario.variables() {
        let value = value.map_or_else(|| "each variant's own".to_owned(), str::to_owned);
        ui.text(&format!("variable: {name} = {value}\n"));
    }
    ui.text(&format!("file: {}\n", source.name));
    for line in &scenario.stand_ins {
        ui.text(&format!("stand-in: {line}\n"));
    }
}

/// Says what a variant would do, and on what.
async fn preview(ui: &Ui, variant: &Resolved, world: &World) {
    ui.text(&format!("\n{}\n", variant.name));
    preview_steps(ui, variant, world).await;
    for host in &variant.targets {
        let line = match world.host(host) {
            Ok(found) => format!("domain {}, {}", found.spec.name, found.spec.uuid),
            Err(error) => format!("would be refused: {error}"),
        };
        ui.text(&format!("  acts on      {host}: {line}\n"));
    }
    let named: Vec<String> = variant.named().cloned().collect();
    for (key, names) in [("safety", &named), ("watch", &variant.watch)] {
        for name in names {
            if let Err(error) = world.host(name) {
                ui.text(&format!("  {key:<12} would be refused: {error}\n"));
            }
        }
    }
    for stop in &variant.stop {
        ui.text(&format!(
            "  stops        when {} misses {} times in a row\n",
            stop.probe, stop.failures
        ));
    }
    for (id, expected) in &variant.expect {
        ui.text(&format!("  expects      {id}: {expected}\n"));
        let mut probes = variant.probes.iter();
        if let Some(one) = probes.find(|probe| probe.id == *id)
            && let Err(error) = one.probe.preview(world).await
        {
            ui.text(&format!("  {:<12}   cannot look now: {error}\n", ""));
        }
    }
}

async fn preview_steps(ui: &Ui, variant: &Resolved, world: &World) {
    let mut acted_on: Vec<String> = Vec::new();
    for step in &variant.steps {
        ui.text(&format!(
            "  {:<12} {}, within {:?}\n",
            step.id,
            step.describe(),
            step.within
        ));
        if let Work::Baseline(declared) = &step.work
            && let Err(error) = world.gates(declared)
        {
            ui.text(&format!("  {:<12}   would be refused: {error}\n", ""));
        }
        for (id, action) in step.actions() {
            let hosts = action.hosts();
            let earlier = hosts.iter().find(|host| acted_on.contains(*host));
            // Reading what the revert needs changes nothing, and shows whether the target is there.
            let captured = action.capture(world).await;
            let revert = captured.and_then(|captured| describe_revert(action.name(), &captured));
            let undo = match (revert, earlier) {
                (Ok(revert), None) => format!("the revert {revert}"),
                (Ok(revert), Some(_)) => {
                    format!("the revert {revert}, or to what the steps before have made of it")
                }
                (Err(error), None) => format!("would be refused: {error}"),
                (Err(error), Some(host)) => {
                    format!("after what the steps before do to {host}; now: {error}")
                }
            };
            acted_on.extend(hosts);
            ui.text(&format!("  {:<12}   {id}: {undo}\n", ""));
        }
    }
}

/// Says what a run would do.
pub(crate) async fn dry_run(
    ui: &Ui,
    scenario: &Scenario,
    choice: &Choice,
    world: &World,
    journal: Option<&Journal>,
) -> Result<(), ScenarioError> {
    let record = &world.found.record;
    ui.text(&format!(
        "{} in lab {} ({}); nothing is done\n",
        scenario.name, record.name, record.uuid
    ));
    if let Err(error) = may_begin(world, journal) {
        ui.text(&format!("would be refused: {error}\n"));
    }
    for variant in chosen(scenario, &choice.variants)? {
        let resolved = scenario.resolve(variant, &choice.set, world);
        let resolved = resolved.map_err(|problems| ScenarioError::Invalid { problems })?;
        preview(ui, &resolved, world).await;
    }
    Ok(())
}
