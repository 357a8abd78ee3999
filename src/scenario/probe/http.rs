//! `http`: how a service answers a GET, asked from this machine or from inside a host. It fires when that is as given: it
//! `answers` with the status and a matching body, or `wrong`ly; or no connection comes about, as `tcp` tells it.

use std::net::Ipv4Addr;
use std::time::Duration;

use async_trait::async_trait;
use regex::Regex;

use super::contract::{Finding, Probe, Seen, evidence, matches_of};
use super::tcp;
use crate::diagnostics::{Node, Reader};
use crate::hostnet::{Answer, Connection};
use crate::scenario::{ActionError, World, action};
use crate::units::Name;

pub(super) const NAME: &str = "http";

/// An answer that takes longer counts as timed out.
const DEADLINE: Duration = Duration::from_secs(5);

/// Characters of an answer that are shown.
const SHOWN: usize = 500;

const WORDS: &[(&str, &str)] = &[
    ("answers", "answers"),
    ("wrong", "wrong"),
    ("refused", "refused"),
    ("timed-out", "timed-out"),
    ("unreachable", "unreachable"),
    ("down", "down"),
];

#[derive(Debug)]
struct Http {
    address: Ipv4Addr,
    port: u16,
    path: String,
    status: u16,
    matches: Option<Regex>,
    is: &'static str,
    from: Option<String>,
}

pub(super) fn parse(node: &Node, reader: &mut Reader) -> Option<Box<dyn Probe>> {
    let mut fields = reader.fields(node, NAME)?;
    let address = fields
        .required("address", reader)
        .and_then(|node| reader.scalar(node, "address"));
    let port = fields
        .required("port", reader)
        .and_then(|node| reader.scalar(node, "port"));
    let path_node = fields.optional("path");
    let path = path_node.map_or(Some("/".to_owned()), |node| reader.scalar(node, "path"));
    let status = fields.optional("status");
    let status = status.map_or(Some(200), |node| reader.scalar(node, "status"));
    let matches = matches_of(&mut fields, reader);
    let is = fields.optional("is");
    let is = is.map_or(Some("answers"), |node| {
        reader.choice(node, "outcome", WORDS)
    });
    let from = fields.optional("from");
    let from: Option<Name> = from.and_then(|node| reader.scalar(node, "host name"));
    fields.finish(reader);
    let path = path?;
    if !path.starts_with('/') || path.contains(char::is_whitespace) {
        let why = "it begins with a slash and has no space";
        reader.bad_value(path_node?, &path, "path", &why);
    }
    Some(Box::new(Http {
        address: address?,
        port: port?,
        path,
        status: status?,
        matches,
        is: is?,
        from: from.map(|name| name.to_string()),
    }))
}

impl Http {
    /// Asks from inside a host.
    async fn inside(
        &self,
        world: &World,
        host: &str,
    ) -> Result<Result<Answer, String>, ActionError> {
        let (address, port) = (self.address, self.port);
        let from = tcp::From::host(host);
        let went = tcp::inside(world, &from, address, port).await?;
        if went != "open" {
            return Ok(Err(went));
        }
        let (address, port) = (address.to_string(), port.to_string());
        let seconds = DEADLINE.as_secs().to_string();
        let argv = ["twin-guest", "get", &address, &port, &seconds, &self.path];
        let (code, answer, said) = action::inside::attempt(world, host, &argv).await?;
        // It writes a word first: how it went.
        let (word, answer) = answer.split_once('\n').unwrap_or((&answer, ""));
        match word {
            "answered" if code == 0 => Ok(Ok(parsed(answer))),
            "timed-out" if code == 0 => Ok(Err("timed-out".into())),
            _ => Err(ActionError::Target(format!(
                "twin-guest get on {host} ended with {code}: {}",
                said.trim()
            ))),
        }
    }

    /// How it went, in a word, and what was seen.
    fn judged(&self, went: Result<Answer, String>) -> (String, String) {
        match went {
            Ok(Answer { status, body }) => {
                let right = status == self.status
                    && self
                        .matches
                        .as_ref()
                        .is_none_or(|wanted| wanted.is_match(&body));
                let shown: String = body.chars().take(SHOWN).collect();
                let word = if right { "answers" } else { "wrong" };
                (word.to_owned(), format!("{status}: {}", shown.trim()))
            }
            Err(said) => {
                let word = said.split(':').next().unwrap_or_default().to_owned();
                (word, said)
            }
        }
    }
}

/// An answer as it came, with its status line and headers; status 0 where it is none.
fn parsed(answer: &str) -> Answer {
    let read = || {
        let (head, body) = answer.split_once("\r\n\r\n")?;
        let status = head.strip_prefix("HTTP/")?.split(' ').nth(1)?;
        Some((status.parse().ok()?, body.to_owned()))
    };
    let (status, body) = read().unwrap_or_else(|| (0, answer.to_owned()));
    Answer { status, body }
}

#[async_trait]
impl Probe for Http {
    async fn begin(&self, world: &World) -> Result<serde_json::Value, ActionError> {
        if let Some(from) = &self.from {
            world.host(from)?;
        }
        Ok(serde_json::Value::Null)
    }

    async fn look(
        &self,
        world: &World,
        _: &serde_json::Value,
        _: &Seen,
    ) -> Result<Finding, ActionError> {
        let went = match &self.from {
            Some(host) => self.inside(world, host).await?,
            None => {
                let hostnet = &world.drivers.hostnet;
                let asked = hostnet.get(self.address, self.port, &self.path, DEADLINE);
                asked.await?.map_err(|went: Connection| went.to_string())
            }
        };
        let (word, seen) = self.judged(went);
        let fires = word == self.is || (self.is == "down" && word != "answers");
        if !fires {
            return Ok(Finding::Quiet);
        }
        let from = self.from.as_deref().unwrap_or("this machine");
        Ok(Finding::Fired(vec![evidence(
            format!(
                "GET http://{}:{}{} from {from}",
                self.address, self.port, self.path
            ),
            seen,
        )]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_has_a_status_line_headers_and_a_body() {
        let answer = parsed("HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\nno");
        assert_eq!((answer.status, answer.body.as_str()), (404, "no"));
        for other in ["", "SSH-2.0-OpenSSH\r\n", "HTTP/1.1 OK\r\n\r\n"] {
            assert_eq!(parsed(other).status, 0, "{other:?}");
        }
    }
}
