//! `disk-fill`: fills a host's disk from inside, but for what is to be left.

use crate::scenario::fault::guest::inside;
use crate::scenario::fault::prelude::*;
use crate::units::Mib;

/// Where it is full when the file says nothing: on the host's disk, in every image.
const DIRECTORY: &str = "/var";

/// The file system may take a little more for itself.
const LITTLE_KIB: u64 = 1024;

/// Takes the space of a host's disk, but for what is to be left (full-size, scaled with the lab).
///
/// Revert: removes its file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct DiskFill {
    host: Name,
    /// Where it is full: on the host's disk, in every image.
    #[serde(default = "var")]
    directory: String,
    /// Full-size.
    leave: Mib,
}

/// What is before the fault.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Before {
    host: String,
    /// The file that takes the space, of a name that nothing has.
    file: String,
}

fn var() -> String {
    DIRECTORY.into()
}

fn footprint(host: &str) -> Footprint {
    Footprint::of_host(host).sets(&[INSIDE, "filled"])
}

/// KiB that are free where a directory is.
async fn free(world: &World, host: &str, directory: &str) -> Result<u64, FaultError> {
    let said = inside::run(world, host, &["df", "-kP", directory]).await?;
    let fields = said.lines().nth(1).map(str::split_whitespace);
    let free = fields.and_then(|mut fields| fields.nth(3)?.parse().ok());
    free.ok_or_else(|| FaultError::Target(format!("df on {host} says {said:?}")))
}

impl DiskFill {
    /// What is to be left at this lab's scale.
    fn leave_kib(&self, world: &World) -> u64 {
        world.found.record.scale.effective(self.leave).bytes() / 1024
    }
}

impl Fault for DiskFill {
    const NAME: &'static str = "disk-fill";
    type Prior = Before;

    fn describe(&self) -> String {
        format!(
            "fill {} of {} but for {}",
            self.directory, self.host, self.leave
        )
    }

    fn footprint(&self) -> Footprint {
        footprint(&self.host)
    }

    async fn capture(&self, world: &World) -> Result<Before, FaultError> {
        let free = free(world, &self.host, &self.directory).await?;
        if free <= self.leave_kib(world) {
            return Err(FaultError::Target(format!(
                "{} of {} has {free} KiB only",
                self.directory, self.host
            )));
        }
        let id = uuid::Uuid::new_v4().simple().to_string();
        let directory = self.directory.trim_end_matches('/');
        Ok(Before {
            host: self.host.to_string(),
            file: format!("{directory}/.filled-{}", &id[..12]),
        })
    }

    async fn inject(
        &self,
        world: &World,
        captured: &Before,
        _: Duration,
    ) -> Result<(), FaultError> {
        let Before { host, file } = captured;
        let free = free(world, host, &self.directory).await?;
        let bytes = (free.saturating_sub(self.leave_kib(world)) * 1024).to_string();
        inside::run(world, host, &["fallocate", "-l", &bytes, file])
            .await
            .map(drop)
    }

    async fn verify(&self, world: &World, captured: &Before) -> Result<Effectiveness, FaultError> {
        let Before { host, .. } = captured;
        let free = free(world, host, &self.directory).await?;
        let full = free <= self.leave_kib(world) + LITTLE_KIB;
        let seen = format!("df shows {free} KiB free in {} of {host}", self.directory);
        Ok(Effectiveness::new(full, seen))
    }
}

impl Prior for Before {
    fn footprint(&self) -> Footprint {
        footprint(&self.host)
    }

    fn describe(&self) -> String {
        format!("removes {} from {}", self.file, self.host)
    }

    async fn revert(&self, world: &World) -> Result<String, FaultError> {
        let Self { host, file } = self;
        // On the disk too: what is undone next may take the host's power away.
        let script = "rm -f \"$1\"; sync \"$(dirname \"$1\")\"";
        inside::run(world, host, &["sh", "-ec", script, "sh", file]).await?;
        let (code, _, _) = inside::attempt(world, host, &["test", "-e", file]).await?;
        if code == 0 {
            return Err(FaultError::Target(format!("{file} is still on {host}")));
        }
        Ok(format!("{file} of {host} is gone"))
    }
}
