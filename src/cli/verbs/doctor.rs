//! `twin doctor`.

use clap::Args;
use tracing::instrument;

use crate::cli::context::Context;
use crate::cli::failure::{Failure, code};
use crate::doctor::{Examination, Health, Line, TimedProbe, examine};
use crate::journal::Journal;
use crate::lab::{AcceleratorProbe, Layout, Silent};
use crate::report::DoctorDocument;
use crate::snapshot::{Set, best_rung, need_another_emulator, self_test};

#[derive(Debug, Args)]
pub(crate) struct Flags {}

#[instrument(skip_all)]
pub(crate) async fn run(context: &Context<'_>, _: &Flags) -> Result<u8, Failure> {
    let drivers = context.site.drivers();
    let probe = TimedProbe::new(context.site.layout().accelerator_cache(), true);
    let examination = Examination {
        hypervisor: drivers.hypervisor.as_ref(),
        hostnet: drivers.hostnet.as_ref(),
        layout: context.site.layout(),
        probe: &probe,
    };
    let mut lines = examine(&examination).await;
    lines.push(baselines(context, &probe).await);
    lines.push(emulators(context).await);
    for line in &lines {
        let (word, good) = match line.state {
            Health::Ok => ("ok      ", Some(true)),
            Health::Degraded => ("degraded", None),
            Health::Missing => ("missing ", Some(false)),
        };
        context.ui.text(&format!(
            "{}  {:<14}  {}\n",
            context.ui.health(word, good),
            line.id,
            line.detail
        ));
        if let Some(cure) = &line.cure {
            context.ui.text(&format!("{:>26}  cure: {cure}\n", ""));
        }
    }
    let worst = lines
        .iter()
        .map(|line| line.state)
        .max()
        .unwrap_or(Health::Ok);
    context.ui.document(&DoctorDocument {
        schema: "twin/doctor/v1".into(),
        lines,
    });
    Ok(if worst == Health::Missing {
        code::MACHINE
    } else {
        code::DONE
    })
}

/// Baselines of all labs that a package upgrade has left behind.
async fn emulators(context: &Context<'_>) -> Line {
    let mut told = Vec::new();
    // A machine whose libvirt does not answer has a line for that.
    for found in context.site.labs().await.unwrap_or_default() {
        let Some(state) = found.state() else { continue };
        let Ok(Some(journal)) = Journal::look(&state, &context.site.drivers().clock) else {
            continue;
        };
        let layout = Layout::new(state);
        let set = Set {
            found: &found,
            drivers: context.site.drivers(),
            layout: &layout,
            journal: &journal,
            watch: &Silent,
            lock: None,
        };
        let needing = need_another_emulator(&set).await.unwrap_or_default();
        let lab = &found.record.name;
        told.extend(
            needing
                .into_iter()
                .map(|(name, why)| format!("{name} of {lab}: {why}")),
        );
    }
    if told.is_empty() {
        return Line::ok(
            "emulators",
            "every baseline is of the QEMU that would load it",
        );
    }
    Line::degraded(
        "emulators",
        told.join("; "),
        "install that QEMU again, or take them anew; `twin restore NAME --force` tries one",
    )
}

/// By which rung baselines are taken here, as far as that is the machine's to say.
async fn baselines(context: &Context<'_>, probe: &TimedProbe) -> Line {
    let untried = |why: String| {
        Line::degraded(
            "baselines",
            format!("the self-test of memory in a file was not tried: {why}"),
            "see to the lines above",
        )
    };
    let accelerator = match probe.choose().await {
        Ok(accelerator) => accelerator,
        Err(error) => return untried(error.to_string()),
    };
    let tested = self_test(
        context.site.drivers(),
        context.site.layout(),
        accelerator,
        true,
    )
    .await;
    match tested.map(|tested| tested.and_then(|tested| tested.failure)) {
        Err(error) => untried(error.to_string()),
        Ok(Some(why)) => Line::degraded(
            "baselines",
            format!("by rung stream: memory in a file cannot be put back: {why}"),
            "run scripts/host-setup.sh, which lets libvirt put memory files on the pool",
        ),
        Ok(None) => {
            let rung = best_rung(context.site.layout());
            Line::ok(
                "baselines",
                format!("by rung {rung}; a throw-away VM was put back"),
            )
        }
    }
}
