//! A lab's status.

use crate::cli::ui::Ui;
use crate::hypervisor::Power;
use crate::lab::{HostStatus, LabStatus};
use crate::report::{
    HostDocument, InstanceDocument, NetworkDocument, ServiceDocument, StatusDocument, StrayDocument,
};
use crate::wire::{NovaStatus, ServiceState};

const fn service_state(service: &ServiceState) -> &'static str {
    match (service.wanted, service.healthy, service.process.is_some()) {
        (true, true, _) => "healthy",
        (true, false, true) => "starting",
        (true, false, false) => "down",
        (false, _, _) => "stopped",
    }
}

const fn nova_status(status: NovaStatus) -> &'static str {
    match status {
        NovaStatus::Active => "ACTIVE",
        NovaStatus::Shutoff => "SHUTOFF",
    }
}

const fn agent_word(answers: Option<bool>) -> &'static str {
    match answers {
        Some(true) => "answers",
        Some(false) => "silent",
        None => "none",
    }
}

const fn power_word(power: Power) -> &'static str {
    match power {
        Power::Running => "running",
        Power::Paused => "paused",
        Power::ShutOff => "shut-off",
        Power::Crashed => "crashed",
    }
}

/// As a document.
pub(crate) fn document(status: &LabStatus, baselines: Vec<String>, dirty: bool) -> StatusDocument {
    let host = |host: &HostStatus| HostDocument {
        name: host.name.clone(),
        domain: host.domain.clone(),
        uuid: host.uuid,
        power: host.power,
        cut_short: host.cut_short,
        agent: agent_word(host.answers).to_owned(),
        addresses: host.addresses.clone(),
        services: host
            .services()
            .iter()
            .map(|service| ServiceDocument {
                name: service.name.clone(),
                state: service_state(service).to_owned(),
            })
            .collect(),
        instances: host
            .guest
            .iter()
            .flat_map(|guest| &guest.instances)
            .map(|instance| InstanceDocument {
                name: instance.name.clone(),
                status: nova_status(instance.status()).to_owned(),
            })
            .collect(),
    };
    let networks = status.networks.iter().map(|network| NetworkDocument {
        name: network.name.clone(),
        bridge: network.bridge.clone(),
        cidr: network.cidr,
        active: network.active,
    });
    StatusDocument {
        schema: "twin/status/v1".into(),
        lab: status.record.name.to_string(),
        uuid: status.record.uuid,
        scale: status.record.scale.divisor(),
        accel: status.record.accelerator.as_str().to_owned(),
        hosts: status.hosts.iter().map(host).collect(),
        networks: networks.collect(),
        baselines,
        free_bytes: status.space.free.bytes(),
        short_bytes: status.space.short.bytes(),
        strays: status
            .strays
            .iter()
            .map(|stray| StrayDocument {
                name: stray.name.clone(),
                uuid: stray.uuid,
                made_for: stray.made_for.clone(),
                renamed: stray.renamed,
            })
            .collect(),
        dirty,
    }
}

fn tables(ui: &Ui, status: &LabStatus) {
    let rows: Vec<Vec<String>> = status
        .hosts
        .iter()
        .map(|host| {
            let addresses: Vec<String> = host.addresses.iter().map(ToString::to_string).collect();
            vec![
                host.name.clone(),
                power_word(host.power).to_owned(),
                agent_word(host.answers).to_owned(),
                addresses.join(" "),
                services_text(host),
                instances_text(host),
            ]
        })
        .collect();
    ui.table(
        &[
            "HOST",
            "POWER",
            "AGENT",
            "ADDRESSES",
            "SERVICES",
            "INSTANCES",
        ],
        &rows,
    );
    let rows: Vec<Vec<String>> = status
        .networks
        .iter()
        .map(|network| {
            vec![
                network.name.clone(),
                network.bridge.clone(),
                network.cidr.to_string(),
                (if network.active { "up" } else { "down" }).to_owned(),
            ]
        })
        .collect();
    ui.table(&["NETWORK", "BRIDGE", "SUBNET", "STATE"], &rows);
}

/// In words.
pub(crate) fn text(ui: &Ui, status: &LabStatus, baselines: &[String], dirty: bool) {
    let record = &status.record;
    ui.text(&format!(
        "lab {} ({}), scale {}, {}\n",
        record.name,
        record.uuid,
        record.scale,
        record.accelerator.as_str()
    ));
    tables(ui, status);
    if !baselines.is_empty() {
        ui.text(&format!("baselines: {}\n", baselines.join(", ")));
    }
    for stray in &status.strays {
        let word = ui.health("COPY", None);
        ui.text(&format!("{word}: {stray}\n"));
        if let Some(cure) = stray.cure() {
            ui.text(&format!("{:>6}{cure}\n", ""));
        }
    }
    let cut_short = status.hosts.iter().filter(|host| host.cut_short);
    let cut_short: Vec<&str> = cut_short.map(|host| host.name.as_str()).collect();
    if !cut_short.is_empty() {
        ui.text(&format!(
            "{}: {} not switched off before this machine ended; `twin up TOPOLOGY` checks the disks and starts what is to run\n",
            ui.health("OFF", Some(false)),
            was(&cut_short)
        ));
    }
    if let Some((what, cure)) = status.space.warning() {
        let word = ui.health("SPACE", Some(false));
        ui.text(&format!("{word}: {what}; {cure}\n"));
    }
    if dirty {
        ui.text(&format!(
            "{}: something of a run is not put back; `twin recover` does it\n",
            ui.health("DIRTY", Some(false))
        ));
    }
}

/// Names with their verb: `a was`, `a, b were`.
fn was(names: &[&str]) -> String {
    let verb = if names.len() == 1 { "was" } else { "were" };
    format!("{} {verb}", names.join(", "))
}

fn services_text(host: &HostStatus) -> String {
    let services = host.services();
    let healthy = services
        .iter()
        .filter(|service| service_state(service) == "healthy")
        .count();
    let ill: Vec<String> = services
        .iter()
        .filter(|service| service_state(service) != "healthy")
        .map(|service| format!("{} {}", service.name, service_state(service)))
        .collect();
    if ill.is_empty() {
        format!("{healthy} healthy")
    } else {
        format!("{healthy} healthy; {}", ill.join(", "))
    }
}

fn instances_text(host: &HostStatus) -> String {
    let instances = host
        .guest
        .as_ref()
        .map_or(&[][..], |guest| &guest.instances);
    let active = instances
        .iter()
        .filter(|instance| instance.status() == NovaStatus::Active)
        .count();
    let off: Vec<&str> = instances
        .iter()
        .filter(|instance| instance.status() == NovaStatus::Shutoff)
        .map(|instance| instance.name.as_str())
        .collect();
    if off.is_empty() {
        format!("{active} ACTIVE")
    } else {
        format!("{active} ACTIVE; SHUTOFF: {}", off.join(", "))
    }
}
