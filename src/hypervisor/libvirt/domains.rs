//! Calls about domains.

use std::path::PathBuf;
use std::time::Duration;

use nix::unistd::Pid;
use uuid::Uuid;
use virt::connect::Connect;
use virt::domain::Domain;
use virt::error::ErrorNumber;
use virt::sys;

use super::failure::Failure;
use super::{tsc, xml};
use crate::hypervisor::{FilesOf, HypervisorError, ObservedDomain, Power, PowerAction, Target};
use crate::model::spec::{Boot, DomainSpec, Marked};
use crate::model::{AcceleratorChoice, Bearing};
use crate::units::Mib;

/// Lists all domains.
pub(super) fn list(connection: &Connect) -> Result<Vec<ObservedDomain>, Failure> {
    let mut observed = Vec::new();
    for domain in connection.list_all_domains(0)? {
        match observe(&domain) {
            Ok(domain) => observed.push(domain),
            // A domain that went away between the two calls is no longer there to list.
            Err(Failure::Libvirt(error)) if error.code() == ErrorNumber::NoDomain => {}
            Err(failure) => return Err(failure),
        }
    }
    Ok(observed)
}

fn observe(domain: &Domain) -> Result<ObservedDomain, Failure> {
    let persistent = domain.is_persistent()?;
    let inactive = if persistent {
        sys::VIR_DOMAIN_XML_INACTIVE
    } else {
        0
    };
    let text = domain.get_xml_desc(inactive)?;
    let (name, uuid) = (domain.get_name()?, uuid_of(domain)?);
    let bearing = xml::mark(&text).map(|mark| mark.borne_by::<DomainSpec>(uuid, &name));
    let (mark, foreign_mark) = Bearing::split(bearing);
    Ok(ObservedDomain {
        name,
        uuid,
        power: power_of(domain)?,
        out_of_space: out_of_space(domain)?,
        persistent,
        mark,
        foreign_mark,
        disks: xml::writable_disks(&text),
    })
}

fn uuid_of(domain: &Domain) -> Result<Uuid, Failure> {
    Ok(Uuid::try_parse(&domain.get_uuid_string()?).unwrap_or_default())
}

/// Lists the files that all domains use: of their definitions, and of their processes where they have one.
pub(super) fn files(connection: &Connect) -> Result<Vec<FilesOf>, Failure> {
    let mut all = Vec::new();
    for domain in connection.list_all_domains(0)? {
        match files_of(&domain) {
            Ok(files) => all.push(files),
            Err(Failure::Libvirt(error)) if error.code() == ErrorNumber::NoDomain => {}
            Err(failure) => return Err(failure),
        }
    }
    Ok(all)
}

fn files_of(domain: &Domain) -> Result<FilesOf, Failure> {
    let mut files = xml::paths(&domain.get_xml_desc(0)?);
    if domain.is_persistent()? && domain.is_active()? {
        files.extend(xml::paths(
            &domain.get_xml_desc(sys::VIR_DOMAIN_XML_INACTIVE)?,
        ));
    }
    files.sort();
    files.dedup();
    Ok(FilesOf {
        domain: domain.get_name()?,
        uuid: uuid_of(domain)?,
        files,
    })
}

/// Whether QEMU has paused a domain for an error of a disk: libvirt's default asks for that where there is no space.
fn out_of_space(domain: &Domain) -> Result<bool, Failure> {
    let (state, reason) = domain.get_state()?;
    let failed = u32::try_from(reason) == Ok(sys::VIR_DOMAIN_PAUSED_IOERROR);
    Ok(state == sys::VIR_DOMAIN_PAUSED && failed)
}

pub(super) fn power_of(domain: &Domain) -> Result<Power, Failure> {
    let (state, reason) = domain.get_state()?;
    // libvirt is starting it for a client that may be gone; it lets the CPUs go at the end.
    let starting = u32::try_from(reason) == Ok(sys::VIR_DOMAIN_PAUSED_STARTING_UP);
    Ok(match state {
        sys::VIR_DOMAIN_PAUSED if starting => Power::Running,
        sys::VIR_DOMAIN_RUNNING | sys::VIR_DOMAIN_BLOCKED | sys::VIR_DOMAIN_SHUTDOWN => {
            Power::Running
        }
        sys::VIR_DOMAIN_PAUSED => Power::Paused,
        sys::VIR_DOMAIN_CRASHED => Power::Crashed,
        sys::VIR_DOMAIN_SHUTOFF if u32::try_from(reason) == Ok(sys::VIR_DOMAIN_SHUTOFF_CRASHED) => {
            Power::Crashed
        }
        _ => Power::ShutOff,
    })
}

/// Finds a domain and makes sure of its mark.
pub(super) fn ours(connection: &Connect, target: Target) -> Result<Domain, Failure> {
    let domain = Domain::lookup_by_uuid_string(connection, &target.uuid.to_string())?;
    // The mark alone: writing all of the XML takes libvirt several times as long, and hosts may be standing still.
    let read = |affect| {
        domain.get_metadata(
            sys::VIR_DOMAIN_METADATA_ELEMENT.cast_signed(),
            Some(xml::NAMESPACE),
            affect,
        )
    };
    let element = match read(sys::VIR_DOMAIN_AFFECT_CONFIG) {
        // Its definition was removed while it ran: the process has the mark.
        Err(error) if error.code() == ErrorNumber::OperationInvalid => {
            read(sys::VIR_DOMAIN_AFFECT_LIVE)
        }
        other => other,
    };
    let mark = match element {
        Ok(element) => xml::mark_in_element(&element),
        Err(error)
            if [ErrorNumber::NoDomainMetadata, ErrorNumber::OperationInvalid]
                .contains(&error.code()) =>
        {
            None
        }
        Err(error) => return Err(error.into()),
    };
    let name = domain.get_name()?;
    match mark.map(|mark| mark.borne_by::<DomainSpec>(target.uuid, &name)) {
        Some(Bearing::Own(mark)) if mark.lab.uuid == target.lab => Ok(domain),
        _ => Err(HypervisorError::NotOurs {
            what: format!("domain {name}"),
        }
        .into()),
    }
}

/// Defines a domain.
pub(super) fn define(connection: &Connect, domain: &Marked<DomainSpec>) -> Result<(), Failure> {
    let target = Target {
        uuid: domain.spec.uuid,
        lab: domain.mark.lab.uuid,
    };
    match ours(connection, target) {
        Ok(_) => {}
        Err(Failure::Libvirt(error)) if error.code() == ErrorNumber::NoDomain => {}
        Err(failure) => return Err(failure),
    }
    let kind = (connection.get_type()? == "TEST").then_some("test");
    let mut written = domain.clone();
    if let (AcceleratorChoice::Tcg, Boot::Kernel { cmdline, .. }) =
        (domain.spec.accelerator, &mut written.spec.boot)
        && let Some(khz) = tsc::khz()
    {
        cmdline.push_str(&format!(" tsc_early_khz={khz}"));
    }
    let defined = Domain::define_xml(connection, &xml::domain(&written, kind))?;
    defined.set_autostart(domain.spec.autostart)?;
    Ok(())
}

pub(super) fn balloon(connection: &Connect, target: Target) -> Result<Mib, Failure> {
    let memory_kib = ours(connection, target)?.get_info()?.memory;
    Ok(Mib::from_bytes_ceil(memory_kib * 1024))
}

pub(super) fn set_balloon(
    connection: &Connect,
    target: Target,
    memory: Mib,
) -> Result<(), Failure> {
    let kib = memory.bytes() / 1024;
    ours(connection, target)?.set_memory_flags(kib, sys::VIR_DOMAIN_AFFECT_LIVE)?;
    Ok(())
}

/// Changes a domain's power.
pub(super) fn power(
    connection: &Connect,
    target: Target,
    action: PowerAction,
) -> Result<(), Failure> {
    let domain = ours(connection, target)?;
    let state = power_of(&domain)?;
    // Of what has crashed there may be a process or none.
    let active = match state {
        Power::Running | Power::Paused => true,
        Power::ShutOff => false,
        Power::Crashed => domain.is_active()?,
    };
    match action {
        PowerAction::Start => {
            if active && state == Power::Crashed {
                // A panicked guest is kept by on_crash=preserve; starting it anew needs it gone.
                domain.destroy()?;
            } else if active {
                return Ok(());
            }
            domain.create()?;
        }
        PowerAction::Shutdown if active => drop(domain.shutdown()?),
        PowerAction::Destroy if active => match domain.destroy() {
            Err(error) if error.code() == ErrorNumber::OperationInvalid => {}
            other => other?,
        },
        PowerAction::Shutdown | PowerAction::Destroy => {}
        PowerAction::Kill if active => kill_process(target)?,
        PowerAction::Kill => {}
        PowerAction::Reset => drop(domain.reset()?),
        PowerAction::Suspend if state == Power::Paused => {}
        PowerAction::Suspend => drop(domain.suspend()?),
        PowerAction::Resume if state == Power::Running => {}
        PowerAction::Resume => drop(domain.resume()?),
    }
    Ok(())
}

/// Finds the process of a domain, which is known by the UUID on its command line.
pub(super) fn process(target: Target) -> Result<Pid, Failure> {
    let uuid = target.uuid.to_string();
    let is_ours = |pid: &str| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let words: Vec<&[u8]> = line.split(|byte| *byte == 0).collect();
        let flag = words.iter().position(|word| *word == b"-uuid");
        let qemu = words.first().is_some_and(|name| {
            let name = String::from_utf8_lossy(name);
            name.rsplit('/')
                .next()
                .is_some_and(|name| name.starts_with("qemu"))
        });
        qemu && flag.is_some_and(|at| {
            words
                .get(at + 1)
                .is_some_and(|word| *word == uuid.as_bytes())
        })
    };
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let pid = names
        .filter(|name| name.bytes().all(|byte| byte.is_ascii_digit()))
        .find(|pid| is_ours(pid))
        .and_then(|pid| pid.parse().ok());
    pid.map(Pid::from_raw).ok_or_else(|| {
        let what = format!("a process of domain {uuid} on this machine");
        HypervisorError::NotFound { what }.into()
    })
}

fn kill_process(target: Target) -> Result<(), Failure> {
    let pid = process(target)?;
    let signal = nix::sys::signal::Signal::SIGKILL;
    match nix::sys::signal::kill(pid, signal) {
        Ok(()) | Err(nix::errno::Errno::ESRCH) => Ok(()),
        Err(error) => Err(HypervisorError::Refused {
            what: format!("killing process {pid}"),
            why: error.to_string(),
        }
        .into()),
    }
}

/// Tells whether a domain runs.
pub(super) fn power_state(connection: &Connect, target: Target) -> Result<Power, Failure> {
    power_of(&Domain::lookup_by_uuid_string(
        connection,
        &target.uuid.to_string(),
    )?)
}

/// Removes a domain.
pub(super) fn remove(connection: &Connect, target: Target) -> Result<(), Failure> {
    let domain = match ours(connection, target) {
        Err(Failure::Libvirt(error)) if error.code() == ErrorNumber::NoDomain => return Ok(()),
        other => other?,
    };
    if domain.is_active()? {
        match domain.destroy() {
            // It ended between the two calls.
            Err(error) if error.code() == ErrorNumber::OperationInvalid => {}
            other => other?,
        }
    }
    let all = sys::VIR_DOMAIN_UNDEFINE_MANAGED_SAVE
        | sys::VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA
        | sys::VIR_DOMAIN_UNDEFINE_NVRAM
        | sys::VIR_DOMAIN_UNDEFINE_CHECKPOINTS_METADATA;
    match domain.undefine_flags(all) {
        // libvirt's test driver knows none of these flags, and has nothing that they would remove.
        Err(error) if error.code() == ErrorNumber::InvalidArg => Ok(domain.undefine()?),
        Err(error) if error.code() == ErrorNumber::NoDomain => Ok(()),
        other => Ok(other?),
    }
}

/// Returns the path of the console's terminal.
pub(super) fn console(connection: &Connect, target: Target) -> Result<PathBuf, Failure> {
    let domain = ours(connection, target)?;
    let text = domain.get_xml_desc(0)?;
    xml::console(&text).ok_or_else(|| {
        HypervisorError::NotFound {
            what: "a console terminal (is the host running?)".into(),
        }
        .into()
    })
}

/// Sends one command to QEMU's guest agent.
pub(super) fn agent(
    connection: &Connect,
    target: Target,
    command: &str,
    deadline: Duration,
) -> Result<String, Failure> {
    let domain = ours(connection, target)?;
    let seconds = i32::try_from(deadline.as_secs()).unwrap_or(i32::MAX);
    Ok(domain.qemu_agent_command(command, seconds, 0)?)
}
