//! `process-signal`: kills or stops all processes of a name inside a host. What was stopped goes on again; a service or
//! instance that was killed is started. Another that is killed could not be brought back, and is left alone.

use super::Ran;
use super::inside;
use crate::scenario::fault::prelude::*;

/// What the kernel keeps of a process's name.
const COMM: usize = 15;

/// What is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
enum Signal {
    Kill,
    Stop,
}

/// `kill`s or `stop`s all processes of a name; only those of services and instances are killed: others could not be started
/// again.
///
/// Revert: they go on; services and instances that ran are started.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct ProcessSignal {
    host: Name,
    /// The name of the processes.
    process: String,
    signal: Signal,
}

/// What is before the fault.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Before {
    host: String,
    pids: Vec<u32>,
    /// What ran on it.
    #[serde(flatten)]
    ran: Ran,
}

fn footprint(host: &str) -> Footprint {
    Footprint::of_host(host)
        .owns(&[MEMORY, "signals"])
        .reads(&[INSIDE, "services"])
}

/// A process's name as the kernel keeps it.
fn cut(name: &str) -> String {
    name.chars().take(COMM).collect()
}

/// Processes of a name, with the letter of their state.
pub(crate) async fn found(
    world: &World,
    host: &str,
    name: &str,
) -> Result<Vec<(u32, char)>, FaultError> {
    // The name is in brackets and may hold blanks; the state follows them.
    let script = "for d in /proc/[0-9]*; do n=$(cat $d/comm 2>/dev/null) || continue; \
        [ \"$n\" = \"$1\" ] || continue; s=$(sed 's/.*) //' $d/stat 2>/dev/null) || continue; \
        echo \"${d#/proc/} ${s%% *}\"; done";
    let name = cut(name);
    let said = inside::run(world, host, &["sh", "-ec", script, "sh", &name]).await?;
    let one = |line: &str| {
        let (pid, state) = line.split_once(' ')?;
        Some((pid.parse().ok()?, state.chars().next()?))
    };
    Ok(said.lines().filter_map(one).collect())
}

/// Sends a signal; a process that is gone needs none.
async fn send(world: &World, host: &str, signal: &str, pids: &[u32]) -> Result<(), FaultError> {
    let pids: Vec<String> = pids.iter().map(ToString::to_string).collect();
    let script = format!(
        "for p in {}; do kill -{signal} $p 2>/dev/null || :; done",
        pids.join(" ")
    );
    inside::script(world, host, &script).await.map(drop)
}

impl Fault for ProcessSignal {
    const NAME: &'static str = "process-signal";
    type Prior = Before;

    fn describe(&self) -> String {
        let verb = match self.signal {
            Signal::Kill => "kill",
            Signal::Stop => "stop",
        };
        format!(
            "{verb} the processes called {} on {}",
            self.process, self.host
        )
    }

    fn footprint(&self) -> Footprint {
        footprint(&self.host)
    }

    async fn capture(&self, world: &World) -> Result<Before, FaultError> {
        let Self { host, process, .. } = self;
        let refused = |why: String| Err(FaultError::Target(why));
        let mut found = found(world, host, process).await?;
        if found.is_empty() {
            return refused(format!("no process on {host} is called {process}"));
        }
        let state = world.state(host).await?;
        match self.signal {
            Signal::Kill => {
                let services = state.services.iter().map(|one| &one.process);
                let instances = state.instances.iter().map(|one| &one.process);
                let known = services.chain(instances).flatten();
                let known: Vec<u32> = known.map(|process| process.pid).collect();
                if let Some((pid, _)) = found.iter().find(|(pid, _)| !known.contains(pid)) {
                    return refused(format!(
                        "process {pid} on {host}, {process}, is of no service and no instance, and twin could not start it again"
                    ));
                }
            }
            // Those are stopped already, and not by twin.
            Signal::Stop => found.retain(|(_, state)| *state != 'T'),
        }
        if found.is_empty() {
            return refused(format!(
                "what is called {process} on {host} is stopped already"
            ));
        }
        Ok(Before {
            host: host.to_string(),
            pids: found.into_iter().map(|(pid, _)| pid).collect(),
            ran: Ran::of(&state),
        })
    }

    async fn inject(
        &self,
        world: &World,
        captured: &Before,
        _: Duration,
    ) -> Result<(), FaultError> {
        let signal = match self.signal {
            Signal::Kill => "KILL",
            Signal::Stop => "STOP",
        };
        send(world, &self.host, signal, &captured.pids).await
    }

    async fn verify(&self, world: &World, captured: &Before) -> Result<Effectiveness, FaultError> {
        let now = found(world, &self.host, &self.process).await?;
        let hit = captured.pids.iter().filter(|pid| {
            let state = now.iter().find(|(found, _)| found == *pid);
            match self.signal {
                Signal::Kill => state.is_none_or(|(_, state)| *state == 'Z'),
                Signal::Stop => state.is_some_and(|(_, state)| *state == 'T'),
            }
        });
        let (hit, all) = (hit.count(), captured.pids.len());
        let word = match self.signal {
            Signal::Kill => "gone",
            Signal::Stop => "stopped",
        };
        let seen = format!(
            "{hit} of {all} processes called {} are {word}",
            self.process
        );
        Ok(Effectiveness::new(hit == all, seen))
    }
}

impl Prior for Before {
    fn footprint(&self) -> Footprint {
        footprint(&self.host)
    }

    fn describe(&self) -> String {
        format!(
            "has {} processes of {} go on, and starts the services and instances that ran",
            self.pids.len(),
            self.host
        )
    }

    async fn revert(&self, world: &World) -> Result<String, FaultError> {
        let host = &self.host;
        // After a kill or a boot no process has these; SIGCONT does nothing to one that is not stopped.
        send(world, host, "CONT", &self.pids).await?;
        let still = stopped(world, host, &self.pids).await?;
        if !still.is_empty() {
            return Err(FaultError::Target(format!(
                "processes of {host} are stopped still: {still:?}"
            )));
        }
        let started = self.ran.again(world, host).await?;
        Ok(format!(
            "{} processes of {host} go on, the services run, {started} instances started",
            self.pids.len()
        ))
    }
}

/// Which of these processes are stopped.
async fn stopped(world: &World, host: &str, pids: &[u32]) -> Result<Vec<u32>, FaultError> {
    let pids: Vec<String> = pids.iter().map(ToString::to_string).collect();
    let script = format!(
        "for p in {}; do s=$(sed 's/.*) //' /proc/$p/stat 2>/dev/null) || continue; \
         [ \"${{s%% *}}\" != T ] || echo $p; done",
        pids.join(" ")
    );
    let said = inside::script(world, host, &script).await?;
    Ok(said.lines().filter_map(|line| line.parse().ok()).collect())
}
