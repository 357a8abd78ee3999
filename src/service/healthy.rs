//! Waiting for a lab's services.

use std::time::Duration;

use super::{ServiceError, Site};
use crate::lab;

/// Between two looks.
const LOOK: Duration = Duration::from_millis(500);

/// Waits until all services of a lab are healthy.
pub async fn healthy(site: &Site, lab: &str, within: Duration) -> Result<(), ServiceError> {
    let (drivers, layout) = (site.drivers(), site.layout());
    let until = drivers.clock.elapsed() + within;
    loop {
        let found = lab::choose(lab::find_all(drivers, layout).await?, Some(lab))?;
        let status = lab::status(&found, drivers, layout).await?;
        let ill: Vec<String> = status
            .hosts
            .iter()
            .flat_map(|host| {
                let services = host.services().iter();
                let ill = services.filter(|service| service.wanted && !service.healthy);
                ill.map(move |service| format!("{} on {}", service.name, host.name))
            })
            .collect();
        if ill.is_empty() {
            return Ok(());
        }
        if drivers.clock.elapsed() >= until {
            return Err(ServiceError::Ill { ill, within });
        }
        drivers.clock.sleep(LOOK).await;
    }
}
