//! Building a lab, or what of it is missing.

use std::time::Duration;

use super::{ServiceError, Site, healthy};
use crate::journal::Journal;
use crate::lab::{self, Found, LabError, Lock, Prepared, Request, Upped, Watch};

/// A lab that is about to be built.
pub struct Building {
    /// What would be done.
    pub prepared: Prepared,
    /// The lab as it is, where something of it is there.
    pub found: Option<Found>,
    /// Nothing where it is only looked at.
    journal: Option<Journal>,
}

/// How a lab is built.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Hosts that are made at once.
    pub jobs: usize,
    /// How long a host is waited for.
    pub timeout: Duration,
    /// Whether its services are waited for, too.
    pub services: bool,
}

/// Plans what is to be done. The state directory has to work before anything is made.
pub async fn prepare(
    site: &Site,
    request: Request<'_>,
    watch: &dyn Watch,
) -> Result<Building, ServiceError> {
    let journal = request.build.then(|| site.journal()).transpose()?;
    let prepared = lab::prepare(request, site.drivers(), site.layout(), watch).await?;
    // Read again: its lock is held now.
    let mut labs = site.labs().await?.into_iter();
    let uuid = prepared.placed.record.uuid;
    Ok(Building {
        found: labs.find(|found| found.record.uuid == uuid),
        prepared,
        journal,
    })
}

impl Building {
    /// Lets others go on while an answer is waited for: a lab with disks has its addresses.
    pub async fn unlocked<T, E: From<ServiceError>>(
        &mut self,
        site: &Site,
        answer: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        self.prepared.machine_lock = None;
        let answer = answer.await?;
        let lock = Lock::machine("up", site.drivers().clock.as_ref()).await;
        let lock = lock.map_err(|error| ServiceError::Lab(LabError::from(error)))?;
        self.prepared.machine_lock = Some(lock);
        Ok(answer)
    }

    /// Does it; what is blocked is left.
    pub async fn build(
        &mut self,
        site: &Site,
        pace: Pace,
        watch: &dyn Watch,
    ) -> Result<Upped, ServiceError> {
        let journal = match &self.journal {
            Some(journal) => journal,
            None => &site.journal()?,
        };
        let (drivers, layout) = (site.drivers(), site.layout());
        let Pace {
            jobs,
            timeout,
            services,
        } = pace;
        let prepared = &mut self.prepared;
        let upped = lab::apply(prepared, drivers, layout, journal, watch, jobs, timeout).await?;
        if services {
            let name = prepared.placed.record.name.as_str();
            healthy(site, name, timeout).await?;
        }
        Ok(upped)
    }
}

/// Has a lab's files be where its marks say, where it is there already; returns what carries a copy of its mark.
pub async fn follow(site: &Site, lab: &str) -> Result<Vec<String>, ServiceError> {
    let mut strays = Vec::new();
    for found in site.labs().await? {
        if found.record.name.as_str() == lab {
            site.follow(&found);
            strays.extend(found.strays.iter().map(ToString::to_string));
        }
    }
    Ok(strays)
}
