//! `tcp`: whether something accepts a connection, as seen from this machine or from inside a host. It fires when that is as
//! given: `open`, `refused`, `timed-out`, `unreachable`, or `down`, which is anything but open.

use std::net::Ipv4Addr;
use std::time::Duration;

use async_trait::async_trait;

use super::contract::{Finding, Probe, Seen, evidence};
use crate::diagnostics::{Node, Reader};
use crate::scenario::{ActionError, World, action};
use crate::units::Name;

pub(super) const NAME: &str = "tcp";

/// A connection that takes longer counts as timed out.
const DEADLINE: Duration = Duration::from_secs(3);

/// How a connection went, or should.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Open,
    Refused,
    TimedOut,
    Unreachable,
    Down,
}

const WORDS: &[(&str, Outcome)] = &[
    ("open", Outcome::Open),
    ("refused", Outcome::Refused),
    ("timed-out", Outcome::TimedOut),
    ("unreachable", Outcome::Unreachable),
    ("down", Outcome::Down),
];

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

#[derive(Debug)]
struct Tcp {
    address: Ipv4Addr,
    port: u16,
    is: Outcome,
    from: Option<From>,
}

pub(super) fn parse(node: &Node, reader: &mut Reader) -> Option<Box<dyn Probe>> {
    let mut fields = reader.fields(node, NAME)?;
    let address = fields
        .required("address", reader)
        .and_then(|node| reader.scalar(node, "address"));
    let port = fields
        .required("port", reader)
        .and_then(|node| reader.scalar(node, "port"));
    let is = fields.optional("is");
    let is = is.map_or(Some(Outcome::Down), |node| {
        reader.choice(node, "outcome", WORDS)
    });
    let from = fields.optional("from");
    let host: Option<Name> = from.and_then(|node| reader.scalar(node, "host name"));
    let (namespace, source) = (fields.optional("namespace"), fields.optional("source"));
    // This machine's own namespaces and addresses are not the lab's.
    if from.is_none()
        && let Some(node) = namespace.or(source)
    {
        let why = "it is in a host: name the host with from";
        reader.bad_value(node, &"this", "place to connect from", &why);
    }
    let namespace: Option<Name> = namespace.and_then(|node| reader.scalar(node, "name"));
    let source = source.and_then(|node| reader.scalar(node, "address"));
    fields.finish(reader);
    Some(Box::new(Tcp {
        address: address?,
        port: port?,
        is: is?,
        from: host.map(|host| From {
            host: host.to_string(),
            namespace: namespace.map(|name| name.to_string()),
            source,
        }),
    }))
}

/// Connects from inside a host; how that went, as [`Connection`](crate::hostnet::Connection) is written.
pub(super) async fn inside(
    world: &World,
    from: &From,
    address: Ipv4Addr,
    port: u16,
) -> Result<String, ActionError> {
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
    let said = action::inside::run(world, &from.host, &argv).await?;
    Ok(said.trim().to_owned())
}

impl Tcp {
    fn source(&self) -> String {
        let from = self.from.as_ref().map_or_else(
            || "this machine".to_owned(),
            |from| {
                let namespace = from.namespace.as_ref();
                let namespace =
                    namespace.map_or_else(String::new, |name| format!(", namespace {name}"));
                let source = from.source;
                let source = source.map_or_else(String::new, |source| format!(", as {source}"));
                format!("{}{namespace}{source}", from.host)
            },
        );
        format!("a connection from {from} to {}:{}", self.address, self.port)
    }
}

#[async_trait]
impl Probe for Tcp {
    async fn begin(&self, world: &World) -> Result<serde_json::Value, ActionError> {
        if let Some(from) = &self.from {
            world.host(&from.host)?;
        }
        Ok(serde_json::Value::Null)
    }

    async fn look(
        &self,
        world: &World,
        _: &serde_json::Value,
        _: &Seen,
    ) -> Result<Finding, ActionError> {
        let said = match &self.from {
            None => {
                let hostnet = &world.drivers.hostnet;
                let went = hostnet.connect(self.address, self.port, DEADLINE).await;
                went.to_string()
            }
            Some(from) => inside(world, from, self.address, self.port).await?,
        };
        let word = said.split(':').next().unwrap_or_default();
        let outcome = WORDS.iter().find(|(known, _)| *known == word);
        let Some((_, outcome)) = outcome else {
            return Err(ActionError::Target(format!("{}: {said}", self.source())));
        };
        let fires = match self.is {
            Outcome::Down => *outcome != Outcome::Open,
            wanted => *outcome == wanted,
        };
        if !fires {
            return Ok(Finding::Quiet);
        }
        Ok(Finding::Fired(vec![evidence(self.source(), said)]))
    }
}
