//! `tcp`: whether something accepts a connection, as seen from this machine or from inside a host. It fires when that is as
//! given: `open`, `refused`, `timed-out`, `unreachable`, or `down`, which is anything but open.

use std::net::Ipv4Addr;
use std::time::Duration;

use crate::scenario::fault;
use crate::scenario::probe::prelude::*;

/// A connection that takes longer counts as timed out.
const DEADLINE: Duration = Duration::from_secs(3);

/// How a connection went, or should.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
enum Outcome {
    Open,
    Refused,
    TimedOut,
    Unreachable,
    #[default]
    Down,
}

impl Outcome {
    /// How a connection went, by the first word that is written of it.
    fn of(word: &str) -> Option<Self> {
        Some(match word {
            "open" => Self::Open,
            "refused" => Self::Refused,
            "timed-out" => Self::TimedOut,
            "unreachable" => Self::Unreachable,
            _ => return None,
        })
    }
}

/// Where a connection comes from.
#[derive(Debug)]
pub(super) struct From {
    host: String,
    /// The network namespace in the host.
    namespace: Option<String>,
    source: Option<Ipv4Addr>,
}

impl From {
    /// A host itself.
    pub(super) fn host(name: &str) -> Self {
        Self {
            host: name.to_owned(),
            namespace: None,
            source: None,
        }
    }
}

/// Fires when a connection, from this machine or from inside a host, is `open`, `refused`, `timed-out`, `unreachable`, or
/// `down`: anything but open.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Tcp {
    address: Ipv4Addr,
    port: u16,
    #[serde(default)]
    is: Outcome,
    /// The host that connects; this machine where none is named.
    #[serde(default)]
    from: Option<Name>,
    /// A network namespace in the host.
    #[serde(default)]
    namespace: Option<Name>,
    /// An address of the host.
    #[serde(default)]
    source: Option<Ipv4Addr>,
}

/// Connects from inside a host; how that went, as [`Connection`](crate::hostnet::Connection) is written.
pub(super) async fn inside(
    world: &World,
    from: &From,
    address: Ipv4Addr,
    port: u16,
) -> Result<String, FaultError> {
    let (address, port) = (address.to_string(), port.to_string());
    let seconds = DEADLINE.as_secs().to_string();
    let source = from.source.map(|source| source.to_string());
    let mut argv = match &from.namespace {
        Some(namespace) => vec!["ip", "netns", "exec", namespace.as_str()],
        None => Vec::new(),
    };
    argv.extend(["twin-guest", "connect", &address, &port, &seconds]);
    argv.extend(source.as_deref());
    // It is off, and says so at once.
    world.state(&from.host).await?;
    let said = fault::inside::run(world, &from.host, &argv).await?;
    Ok(said.trim().to_owned())
}

impl Tcp {
    fn source(&self) -> String {
        let from = self.from.as_deref().unwrap_or("this machine");
        let namespace = self.namespace.as_ref();
        let namespace = namespace.map_or_else(String::new, |name| format!(", namespace {name}"));
        let source = self.source;
        let source = source.map_or_else(String::new, |source| format!(", as {source}"));
        let from = format!("{from}{namespace}{source}");
        format!("a connection from {from} to {}:{}", self.address, self.port)
    }
}

impl Probe for Tcp {
    const NAME: &'static str = "tcp";
    type Reference = ();

    fn check(&self) -> Result<(), Mistake> {
        let key = match (&self.namespace, &self.source) {
            (Some(_), _) => "namespace",
            (None, Some(_)) => "source",
            (None, None) => return Ok(()),
        };
        if self.from.is_some() {
            return Ok(());
        }
        // This machine's own namespaces and addresses are not the lab's.
        let why = "it is in a host: name the host with from";
        Err(Mistake::of_all("this", "place to connect from", why).at(key))
    }

    async fn begin(&self, world: &World) -> Result<(), FaultError> {
        if let Some(from) = &self.from {
            world.host(from)?;
        }
        Ok(())
    }

    async fn look(&self, world: &World, (): &(), _: &Seen) -> Result<Finding, FaultError> {
        let said = match &self.from {
            None => {
                let hostnet = &world.drivers.hostnet;
                let went = hostnet
                    .reach
                    .connect(self.address, self.port, DEADLINE)
                    .await;
                went.to_string()
            }
            Some(from) => {
                let from = From {
                    host: from.to_string(),
                    namespace: self.namespace.as_ref().map(Name::to_string),
                    source: self.source,
                };
                inside(world, &from, self.address, self.port).await?
            }
        };
        let word = said.split(':').next().unwrap_or_default();
        let Some(outcome) = Outcome::of(word) else {
            return Err(FaultError::Target(format!("{}: {said}", self.source())));
        };
        let fires = match self.is {
            Outcome::Down => outcome != Outcome::Open,
            wanted => outcome == wanted,
        };
        if !fires {
            return Ok(Finding::Quiet);
        }
        Ok(Finding::Fired(vec![evidence(self.source(), said)]))
    }
}
