//! What this machine can do.

use super::Site;
use crate::doctor::{Examination, Line, TimedProbe, examine};
use crate::journal::Journal;
use crate::lab::{AcceleratorProbe, Layout, Silent};
use crate::snapshot::{Set, best_rung, need_another_emulator, self_test};

/// Examines it; returns a line for each thing.
pub async fn doctor(site: &Site) -> Vec<Line> {
    let drivers = site.drivers();
    let probe = TimedProbe::new(site.layout().accelerator_cache(), true);
    let examination = Examination {
        hypervisor: &drivers.hypervisor,
        hostnet: &drivers.hostnet,
        layout: site.layout(),
        probe: &probe,
    };
    let mut lines = examine(&examination).await;
    lines.push(baselines(site, &probe).await);
    lines.push(emulators(site).await);
    lines
}

/// Baselines of all labs that a package upgrade has left behind.
async fn emulators(site: &Site) -> Line {
    let mut told = Vec::new();
    // A machine whose libvirt does not answer has a line for that.
    for found in site.labs().await.unwrap_or_default() {
        let Some(state) = found.state() else { continue };
        let Ok(Some(journal)) = Journal::look(&state, &site.drivers().clock) else {
            continue;
        };
        let layout = Layout::new(state);
        let set = Set {
            found: &found,
            drivers: site.drivers(),
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
async fn baselines(site: &Site, probe: &TimedProbe) -> Line {
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
    let tested = self_test(site.drivers(), site.layout(), accelerator, true).await;
    match tested.map(|tested| tested.and_then(|tested| tested.failure)) {
        Err(error) => untried(error.to_string()),
        Ok(Some(why)) => Line::degraded(
            "baselines",
            format!("by rung stream: memory in a file cannot be put back: {why}"),
            "run scripts/host-setup.sh, which lets libvirt put memory files on the pool",
        ),
        Ok(None) => {
            let rung = best_rung(site.layout());
            Line::ok(
                "baselines",
                format!("by rung {rung}; a throw-away VM was put back"),
            )
        }
    }
}
