//! `disk-fill`: fills a host's disk from inside, but for what is to be left.

use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::contract::{Action, Verified};
use super::inside;
use crate::diagnostics::{Node, Reader};
use crate::scenario::arguments::host_of;
use crate::scenario::footprint::{Footprint, INSIDE};
use crate::scenario::{ActionError, World};
use crate::units::Mib;

pub(super) const NAME: &str = "disk-fill";

/// Where it is full when the file says nothing: on the host's disk, in every image.
const DIRECTORY: &str = "/var";

/// The file system may take a little more for itself.
const LITTLE_KIB: u64 = 1024;

#[derive(Debug)]
struct DiskFill {
    host: String,
    directory: String,
    /// Full-size.
    leave: Mib,
}

#[derive(Serialize, Deserialize)]
struct Captured {
    host: String,
    /// The file that takes the space, of a name that nothing has.
    file: String,
}

pub(super) fn parse(node: &Node, reader: &mut Reader) -> Option<Box<dyn Action>> {
    let mut fields = reader.fields(node, NAME)?;
    let host = host_of(&mut fields, reader);
    let directory = fields.optional("directory");
    let directory = directory.map_or_else(
        || Some(DIRECTORY.to_owned()),
        |node| reader.scalar(node, "directory"),
    );
    let leave = fields
        .required("leave", reader)
        .and_then(|node| reader.scalar(node, "size"));
    fields.finish(reader);
    Some(Box::new(DiskFill {
        host: host?,
        directory: directory?,
        leave: leave?,
    }))
}

/// KiB that are free where a directory is.
async fn free(world: &World, host: &str, directory: &str) -> Result<u64, ActionError> {
    let said = inside::run(world, host, &["df", "-kP", directory]).await?;
    let fields = said.lines().nth(1).map(str::split_whitespace);
    let free = fields.and_then(|mut fields| fields.nth(3)?.parse().ok());
    free.ok_or_else(|| ActionError::Target(format!("df on {host} says {said:?}")))
}

impl DiskFill {
    /// What is to be left at this lab's scale.
    fn leave_kib(&self, world: &World) -> u64 {
        world.found.record.scale.effective(self.leave).bytes() / 1024
    }
}

#[async_trait]
impl Action for DiskFill {
    fn name(&self) -> &'static str {
        NAME
    }

    fn hosts(&self) -> Vec<&str> {
        vec![&self.host]
    }

    fn describe(&self) -> String {
        format!(
            "fill {} of {} but for {}",
            self.directory, self.host, self.leave
        )
    }

    async fn capture(&self, world: &World) -> Result<serde_json::Value, ActionError> {
        let free = free(world, &self.host, &self.directory).await?;
        if free <= self.leave_kib(world) {
            return Err(ActionError::Target(format!(
                "{} of {} has {free} KiB only",
                self.directory, self.host
            )));
        }
        let id = uuid::Uuid::new_v4().simple().to_string();
        let directory = self.directory.trim_end_matches('/');
        Ok(serde_json::to_value(Captured {
            host: self.host.clone(),
            file: format!("{directory}/.filled-{}", &id[..12]),
        })?)
    }

    async fn act(
        &self,
        world: &World,
        captured: &serde_json::Value,
        _: Duration,
    ) -> Result<(), ActionError> {
        let Captured { host, file } = serde_json::from_value(captured.clone())?;
        let free = free(world, &host, &self.directory).await?;
        let bytes = (free.saturating_sub(self.leave_kib(world)) * 1024).to_string();
        inside::run(world, &host, &["fallocate", "-l", &bytes, &file])
            .await
            .map(drop)
    }

    async fn verify(
        &self,
        world: &World,
        captured: &serde_json::Value,
    ) -> Result<Verified, ActionError> {
        let Captured { host, .. } = serde_json::from_value(captured.clone())?;
        let free = free(world, &host, &self.directory).await?;
        let full = free <= self.leave_kib(world) + LITTLE_KIB;
        let seen = format!("df shows {free} KiB free in {} of {host}", self.directory);
        Ok(Verified::new(full, seen))
    }
}

pub(super) async fn undo(
    world: &World,
    captured: serde_json::Value,
) -> Result<String, ActionError> {
    let Captured { host, file } = serde_json::from_value(captured)?;
    // On the disk too: what is undone next may take the host's power away.
    let script = "rm -f \"$1\"; sync \"$(dirname \"$1\")\"";
    inside::run(world, &host, &["sh", "-ec", script, "sh", &file]).await?;
    let (code, _, _) = inside::attempt(world, &host, &["test", "-e", &file]).await?;
    if code == 0 {
        return Err(ActionError::Target(format!("{file} is still on {host}")));
    }
    Ok(format!("{file} of {host} is gone"))
}

/// What it sets, and what its revert relies on.
pub(super) fn footprint(_: &serde_json::Value) -> Footprint {
    Footprint::default().sets(&[INSIDE, "filled"])
}
