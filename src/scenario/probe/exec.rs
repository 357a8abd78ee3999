//! `exec`: a command inside a host ends with a code, and writes something that matches.

use async_trait::async_trait;
use regex::Regex;

use super::contract::{Finding, Probe, Seen, evidence, matches_of};
use crate::diagnostics::{Node, Reader};
use crate::scenario::{ActionError, World, action, arguments};

pub(super) const NAME: &str = "exec";

/// Characters of output that are shown.
const SHOWN: usize = 2000;

#[derive(Debug)]
struct Exec {
    host: String,
    command: String,
    exit: i32,
    matches: Option<Regex>,
}

pub(super) fn parse(node: &Node, reader: &mut Reader) -> Option<Box<dyn Probe>> {
    let mut fields = reader.fields(node, NAME)?;
    let host = arguments::host_of(&mut fields, reader);
    let command = fields
        .required("command", reader)
        .and_then(|node| reader.scalar(node, "command"));
    let exit = fields.optional("exit");
    let exit = exit.map_or(Some(0), |node| reader.scalar(node, "exit code"));
    let matches = matches_of(&mut fields, reader);
    fields.finish(reader);
    Some(Box::new(Exec {
        host: host?,
        command: command?,
        exit: exit?,
        matches,
    }))
}

#[async_trait]
impl Probe for Exec {
    async fn begin(&self, world: &World) -> Result<serde_json::Value, ActionError> {
        world.host(&self.host)?;
        Ok(serde_json::Value::Null)
    }

    async fn look(
        &self,
        world: &World,
        _: &serde_json::Value,
        _: &Seen,
    ) -> Result<Finding, ActionError> {
        world.state(&self.host).await?;
        let argv = ["sh", "-c", self.command.as_str()];
        let (code, stdout, _) = action::inside::attempt(world, &self.host, &argv).await?;
        let found = self
            .matches
            .as_ref()
            .is_none_or(|matches| matches.is_match(&stdout));
        if code != self.exit || !found {
            return Ok(Finding::Quiet);
        }
        let shown: String = stdout.chars().take(SHOWN).collect();
        Ok(Finding::Fired(vec![evidence(
            format!("`{}` on {}, exit {code}", self.command, self.host),
            shown.trim_end(),
        )]))
    }
}
