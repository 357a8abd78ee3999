//! Interfaces of running domains: plugged in, with or without a link, or out.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use virt::connect::Connect;
use virt::domain::Domain;
use virt::sys;

use super::domains::ours;
use super::failure::Failure;
use super::monitor::refused;
use super::xml;
use crate::hypervisor::{HypervisorError, NicState, Target};
use crate::model::spec::NicSpec;
use crate::units::Mac;

/// How long a guest may take to let go of a device.
const LET_GO: Duration = Duration::from_secs(30);

/// Between two looks.
const LOOK: Duration = Duration::from_millis(50);

/// One at a time: who puts an interface back waits here for a detach that was given up on its way.
static BUSY: Mutex<()> = Mutex::new(());

/// The interface as it is now, and its state.
fn live(domain: &Domain, mac: Mac) -> Result<(Option<String>, NicState), Failure> {
    let text = domain.get_xml_desc(0)?;
    Ok(match xml::interface(&text, mac) {
        Some(found) if found.up => (Some(found.element), NicState::Up),
        Some(found) => (Some(found.element), NicState::Down),
        None => (None, NicState::Out),
    })
}

/// The interface as it is defined.
fn defined(domain: &Domain, mac: Mac) -> Result<String, Failure> {
    let text = domain.get_xml_desc(sys::VIR_DOMAIN_XML_INACTIVE)?;
    let found = xml::interface(&text, mac).map(|found| found.element);
    found.ok_or_else(|| {
        let what = format!("an interface {mac}");
        HypervisorError::NotFound { what }.into()
    })
}

pub(super) fn nic(connection: &Connect, target: Target, mac: Mac) -> Result<NicState, Failure> {
    let domain = ours(connection, target)?;
    defined(&domain, mac)?;
    if !domain.is_active()? {
        return Ok(NicState::Out);
    }
    Ok(live(&domain, mac)?.1)
}

pub(super) fn set_nic(
    connection: &Connect,
    target: Target,
    mac: Mac,
    wanted: NicState,
) -> Result<(), Failure> {
    let _busy = BUSY.lock().unwrap_or_else(PoisonError::into_inner);
    let domain = ours(connection, target)?;
    let as_defined = defined(&domain, mac)?;
    if !domain.is_active()? {
        return Err(refused("changing an interface", "the domain does not run"));
    }
    let (element, now) = live(&domain, mac)?;
    let flags = sys::VIR_DOMAIN_AFFECT_LIVE;
    let linked = |element: &str| {
        xml::with_link(element, wanted == NicState::Up)
            .ok_or_else(|| refused("changing an interface", "libvirt's XML cannot be read"))
    };
    match (element, wanted) {
        _ if now == wanted => {}
        (None, _) => drop(domain.attach_device_flags(&linked(&as_defined)?, flags)?),
        (Some(element), NicState::Out) => unplug(&domain, mac, &element)?,
        (Some(element), _) => drop(domain.update_device_flags(&linked(&element)?, flags)?),
    }
    Ok(())
}

/// Unplugs an interface, and waits until it is gone.
fn unplug(domain: &Domain, mac: Mac, element: &str) -> Result<(), Failure> {
    // QEMU refuses to be asked again while an earlier request is on its way: then it is that one which is waited for.
    let asked = domain.detach_device_flags(element, sys::VIR_DOMAIN_AFFECT_LIVE);
    // libvirt asks the guest, and returns before it has let go.
    let until = Instant::now() + LET_GO;
    while live(domain, mac)?.1 != NicState::Out {
        if Instant::now() > until {
            asked?;
            let why = format!("the guest did not let go of {mac} within {LET_GO:?}");
            return Err(refused("taking an interface out", why));
        }
        std::thread::sleep(LOOK);
    }
    Ok(())
}

/// Plugs an interface in that the domain is not defined with.
pub(super) fn attach(connection: &Connect, target: Target, nic: &NicSpec) -> Result<(), Failure> {
    let _busy = BUSY.lock().unwrap_or_else(PoisonError::into_inner);
    let domain = ours(connection, target)?;
    if !domain.is_active()? {
        return Err(refused(
            "plugging an interface in",
            "the domain does not run",
        ));
    }
    if live(&domain, nic.mac)?.0.is_none() {
        domain.attach_device_flags(&xml::one_interface(nic), sys::VIR_DOMAIN_AFFECT_LIVE)?;
    }
    Ok(())
}

/// Unplugs an interface that the domain is not defined with.
pub(super) fn detach(connection: &Connect, target: Target, mac: Mac) -> Result<(), Failure> {
    let _busy = BUSY.lock().unwrap_or_else(PoisonError::into_inner);
    let domain = ours(connection, target)?;
    if defined(&domain, mac).is_ok() {
        let why = format!("{mac} is one of its own");
        return Err(refused("unplugging an interface", why));
    }
    if !domain.is_active()? {
        return Ok(());
    }
    match live(&domain, mac)?.0 {
        Some(element) => unplug(&domain, mac, &element),
        None => Ok(()),
    }
}
