//! `http`: how a service answers a GET, asked from this machine or from inside a host. It fires when that is as given: it
//! `answers` with the status and a matching body, or `wrong`ly; or no connection comes about, as `tcp` tells it.

use std::net::Ipv4Addr;
use std::time::Duration;

use super::tcp;
use crate::hostnet::{Answer, Connection};
use crate::scenario::arguments::Pattern;
use crate::scenario::fault;
use crate::scenario::probe::prelude::*;

/// An answer that takes longer counts as timed out.
const DEADLINE: Duration = Duration::from_secs(5);

/// Characters of an answer that are shown.
const SHOWN: usize = 500;

/// How an answer is to be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
enum Outcome {
    #[default]
    Answers,
    Wrong,
    Refused,
    TimedOut,
    Unreachable,
    Down,
}

impl Outcome {
    const fn word(self) -> &'static str {
        match self {
            Self::Answers => "answers",
            Self::Wrong => "wrong",
            Self::Refused => "refused",
            Self::TimedOut => "timed-out",
            Self::Unreachable => "unreachable",
            Self::Down => "down",
        }
    }
}

fn root() -> String {
    "/".to_owned()
}

const fn ok() -> u16 {
    200
}

/// Fires when a GET, from this machine or from inside a host, `answers` so, is answered `wrong`ly, or as `tcp` tells it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Http {
    address: Ipv4Addr,
    port: u16,
    #[serde(default = "root")]
    path: String,
    #[serde(default = "ok")]
    status: u16,
    /// What the body has to match.
    #[serde(default)]
    matches: Option<Pattern>,
    #[serde(default)]
    is: Outcome,
    /// The host that asks; this machine where none is named.
    #[serde(default)]
    from: Option<Name>,
}

impl Http {
    /// Asks from inside a host.
    async fn inside(
        &self,
        world: &World,
        host: &str,
    ) -> Result<Result<Answer, String>, FaultError> {
        let (address, port) = (self.address, self.port);
        let from = tcp::From::host(host);
        let went = tcp::inside(world, &from, address, port).await?;
        if went != "open" {
            return Ok(Err(went));
        }
        let (address, port) = (address.to_string(), port.to_string());
        let seconds = DEADLINE.as_secs().to_string();
        let argv = ["twin-guest", "get", &address, &port, &seconds, &self.path];
        let (code, answer, said) = fault::inside::attempt(world, host, &argv).await?;
        // It writes a word first: how it went.
        let (word, answer) = answer.split_once('\n').unwrap_or((&answer, ""));
        match word {
            "answered" if code == 0 => Ok(Ok(parsed(answer))),
            "timed-out" if code == 0 => Ok(Err("timed-out".into())),
            _ => Err(FaultError::Target(format!(
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

impl Probe for Http {
    const NAME: &'static str = "http";
    type Reference = ();

    fn check(&self) -> Result<(), Mistake> {
        if self.path.starts_with('/') && !self.path.contains(char::is_whitespace) {
            return Ok(());
        }
        let why = "it begins with a slash and has no space";
        Err(Mistake::of("path", "path", why))
    }

    async fn begin(&self, world: &World) -> Result<(), FaultError> {
        if let Some(from) = &self.from {
            world.host(from)?;
        }
        Ok(())
    }

    async fn look(&self, world: &World, (): &(), _: &Seen) -> Result<Finding, FaultError> {
        let went = match &self.from {
            Some(host) => self.inside(world, host).await?,
            None => {
                let hostnet = &world.drivers.hostnet;
                let asked = hostnet
                    .reach
                    .get(self.address, self.port, &self.path, DEADLINE);
                asked.await?.map_err(|went: Connection| went.to_string())
            }
        };
        let (word, seen) = self.judged(went);
        let fires = match self.is {
            Outcome::Down => word != "answers",
            wanted => word == wanted.word(),
        };
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
