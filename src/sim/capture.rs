//! Capturing simulated domains: copies of plain state.

use std::path::{Path, PathBuf};

use async_trait::async_trait;
use sha2::{Digest, Sha256};

use super::hypervisor::{SimHypervisor, our_domain};
use super::world::{Inside, Sabotage, SimDomain};
use crate::hypervisor::{
    Anatomy, Capture, DiskState, DomainDisk, HypervisorError, Inspection, Memory, NicState, Power,
    Target,
};
use crate::model::spec::{DomainSpec, Marked};
use crate::units::Mac;

/// A captured state.
#[derive(Clone, Debug)]
pub(super) struct Saved {
    memory: Memory,
    guest: Inside,
    answers: bool,
}

fn refused(what: &str, why: &str) -> HypervisorError {
    HypervisorError::Refused {
        what: what.to_owned(),
        why: why.to_owned(),
    }
}

/// A domain's letters for disks.
fn disks(domain: &SimDomain) -> Vec<DomainDisk> {
    let disks = domain.spec.disks.iter().zip('a'..='z');
    disks
        .map(|(disk, letter)| DomainDisk {
            target: format!("vd{letter}"),
            path: Some(disk.path.clone()),
            format: "qcow2".into(),
            read_only: false,
        })
        .collect()
}

fn stands_still(domain: &SimDomain, what: &str, memory: Memory) -> Result<(), HypervisorError> {
    match (domain.power, memory) {
        (Power::Running, _) => Err(refused(what, "it is running")),
        (Power::ShutOff, Memory::File | Memory::Stream) => Err(refused(what, "it is off")),
        (Power::Paused, Memory::None) => Err(refused(what, "it has a process")),
        _ => Ok(()),
    }
}

/// This machine's ends of a running domain's interfaces.
fn taps(domain: &SimDomain) -> Vec<(Mac, String)> {
    if domain.power == Power::ShutOff {
        return Vec::new();
    }
    let own = domain.spec.nics.iter().map(|nic| nic.mac);
    let own = own.filter(|mac| domain.nics.get(mac) != Some(&NicState::Out));
    let all = own.chain(domain.attached.iter().copied());
    all.map(|mac| (mac, format!("sim-{mac}"))).collect()
}

/// What runs simulated domains.
pub(super) const EMULATOR: &str = "simulated 1";

#[async_trait]
impl Inspection for SimHypervisor {
    async fn anatomy(&self, target: Target) -> Result<Anatomy, HypervisorError> {
        let mut state = self.0.lock();
        let domain = our_domain(&mut state, target)?;
        let process = domain.power != Power::ShutOff;
        let marked = Marked {
            spec: domain.spec.clone(),
            mark: domain.mark.clone(),
        };
        let definition = serde_json::to_string(&marked).unwrap_or_default();
        Ok(Anatomy {
            power: domain.power,
            process,
            saved: false,
            devices: process.then(|| definition.clone()),
            definition,
            machine: "simulated".into(),
            emulator: process.then(|| EMULATOR.to_owned()),
            ram_file: None,
            disks: disks(domain),
            taps: taps(domain),
            nvram: None,
            obstacles: Vec::new(),
        })
    }

    async fn emulator(&self, _: &str) -> Result<String, HypervisorError> {
        Ok(EMULATOR.into())
    }

    async fn examine(
        &self,
        paths: &[PathBuf],
        name: &str,
        content: bool,
    ) -> Result<Vec<Result<DiskState, String>>, HypervisorError> {
        let state = self.0.lock();
        let look = |path: &PathBuf| {
            let saved = state
                .domains
                .values()
                .find(|domain| domain.spec.disks.iter().any(|disk| disk.path == *path))
                .and_then(|domain| domain.states.get(name));
            let saved = saved
                .ok_or_else(|| format!("{} does not hold the captured state", path.display()))?;
            let text = format!("{:?}", saved.guest);
            let sum: String = Sha256::digest(text.as_bytes())
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect();
            Ok(DiskState {
                path: path.clone(),
                state_sha256: sum.clone(),
                state_bytes: text.len() as u64,
                content_sha256: content.then_some(sum),
                content_bytes: text.len() as u64,
            })
        };
        Ok(paths.iter().map(look).collect())
    }
}

#[async_trait]
impl Capture for SimHypervisor {
    async fn start_paused(&self, target: Target) -> Result<(), HypervisorError> {
        let mut state = self.0.lock();
        if our_domain(&mut state, target)?.power == Power::ShutOff {
            state.boot(target.uuid);
            our_domain(&mut state, target)?.power = Power::Paused;
        }
        Ok(())
    }

    async fn redefine(&self, target: Target, definition: &str) -> Result<(), HypervisorError> {
        let mut state = self.0.lock();
        let domain = our_domain(&mut state, target)?;
        let marked: Marked<DomainSpec> = serde_json::from_str(definition)
            .map_err(|error| refused("defining a domain", &error.to_string()))?;
        if marked.mark.lab.uuid != target.lab {
            return Err(refused(
                "defining a domain",
                "the definition is not of this lab",
            ));
        }
        domain.spec = marked.spec;
        Ok(())
    }

    async fn write_back(&self, target: Target) -> Result<(), HypervisorError> {
        our_domain(&mut self.0.lock(), target)?;
        Ok(())
    }

    async fn split_folios(&self, target: Target, _: &Path) -> Result<(), HypervisorError> {
        our_domain(&mut self.0.lock(), target)?;
        Ok(())
    }

    async fn capture(
        &self,
        target: Target,
        name: &str,
        memory: Memory,
    ) -> Result<(), HypervisorError> {
        if self.0.lock().sabotage.contains(&Sabotage::Capture) {
            return std::future::pending().await;
        }
        let mut state = self.0.lock();
        let domain = our_domain(&mut state, target)?;
        stands_still(domain, "capturing a domain", memory)?;
        let saved = Saved {
            memory,
            guest: domain.guest.clone(),
            answers: domain.answers_at.is_some(),
        };
        domain.states.insert(name.to_owned(), saved);
        Ok(())
    }

    async fn load(
        &self,
        target: Target,
        name: &str,
        memory: Memory,
    ) -> Result<(), HypervisorError> {
        let mut state = self.0.lock();
        let domain = our_domain(&mut state, target)?;
        stands_still(domain, "putting a domain back", memory)?;
        let Some(saved) = domain.states.get(name).cloned() else {
            return Err(refused("putting a domain back", "there is no such state"));
        };
        if saved.memory != memory {
            return Err(refused(
                "putting a domain back",
                "it was captured in another way",
            ));
        }
        domain.guest = saved.guest;
        domain.answers_at = saved.answers.then(tokio::time::Instant::now);
        Ok(())
    }

    async fn mark_crashed(&self, target: Target) -> Result<(), HypervisorError> {
        our_domain(&mut self.0.lock(), target)?.power = Power::Crashed;
        Ok(())
    }

    async fn discard(&self, target: Target, name: &str) -> Result<(), HypervisorError> {
        our_domain(&mut self.0.lock(), target)?.states.remove(name);
        Ok(())
    }
}
