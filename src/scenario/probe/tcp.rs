//! `tcp`: something accepts a connection, as seen from this machine. It fires when nothing does: refused, timed out and
//! unreachable are told apart in the evidence.

use std::net::Ipv4Addr;
use std::time::Duration;

use async_trait::async_trait;
use tokio::net::TcpStream;

use super::{Finding, Probe, Seen, evidence};
use crate::diagnostics::{Node, Reader};
use crate::scenario::{ActionError, World};

pub(super) const NAME: &str = "tcp";

/// A connection that takes longer counts as timed out.
const DEADLINE: Duration = Duration::from_secs(3);

#[derive(Debug)]
struct Tcp {
    address: Ipv4Addr,
    port: u16,
}

pub(super) fn parse(node: &Node, reader: &mut Reader) -> Option<Box<dyn Probe>> {
    let mut fields = reader.fields(node, NAME)?;
    let address = fields
        .required("address", reader)
        .and_then(|node| reader.scalar(node, "address"));
    let port = fields
        .required("port", reader)
        .and_then(|node| reader.scalar(node, "port"));
    fields.finish(reader);
    Some(Box::new(Tcp {
        address: address?,
        port: port?,
    }))
}

#[async_trait]
impl Probe for Tcp {
    async fn begin(&self, _: &World) -> Result<serde_json::Value, ActionError> {
        Ok(serde_json::Value::Null)
    }

    async fn look(
        &self,
        _: &World,
        _: &serde_json::Value,
        _: &Seen,
    ) -> Result<Finding, ActionError> {
        let outcome =
            tokio::time::timeout(DEADLINE, TcpStream::connect((self.address, self.port))).await;
        let what = match outcome {
            Ok(Ok(_)) => return Ok(Finding::Quiet),
            Ok(Err(error)) if error.kind() == std::io::ErrorKind::ConnectionRefused => {
                "refused".to_owned()
            }
            Ok(Err(error)) => format!("unreachable: {error}"),
            Err(_) => "timed out".to_owned(),
        };
        Ok(Finding::Fired(vec![evidence(
            format!(
                "a connection from this machine to {}:{}",
                self.address, self.port
            ),
            what,
        )]))
    }
}
