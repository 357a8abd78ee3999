//! `file`: a file inside a host is there, or is gone; one that is there may have to hold a text.

use async_trait::async_trait;
use regex::Regex;

use super::contract::{Finding, Probe, Seen, evidence, matches_of};
use crate::diagnostics::{Node, Reader};
use crate::scenario::{ActionError, World, action, arguments};

pub(super) const NAME: &str = "file";

/// The most that is read of a file, and of it shown.
const READ: &str = "262144";
const SHOWN: usize = 2000;

#[derive(Debug)]
struct File {
    host: String,
    path: String,
    there: bool,
    matches: Option<Regex>,
}

pub(super) fn parse(node: &Node, reader: &mut Reader) -> Option<Box<dyn Probe>> {
    let mut fields = reader.fields(node, NAME)?;
    let host = arguments::host_of(&mut fields, reader);
    let named = fields.required("path", reader);
    let path: Option<String> = named.and_then(|node| reader.scalar(node, "path"));
    let words = [("there", true), ("gone", false)];
    let there = fields.optional("is");
    let there = there.map_or(Some(true), |node| reader.choice(node, "state", &words));
    let matches = matches_of(&mut fields, reader);
    fields.finish(reader);
    let (path, there) = (path?, there?);
    if !path.starts_with('/') {
        reader.bad_value(named?, &path, "path", &"it begins with a slash");
    }
    if matches.is_some() && !there {
        let why = "what is gone holds nothing";
        reader.bad_value(node, &"matches", "condition", &why);
    }
    Some(Box::new(File {
        host: host?,
        path,
        there,
        matches,
    }))
}

#[async_trait]
impl Probe for File {
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
        // The first line tells whether it is there; what follows is what it holds.
        let script = "[ -e \"$1\" ] || { echo gone; exit 0; }; ls -ld \"$1\"; [ -f \"$1\" ] || exit 0; \
            [ \"$(head -c $(($2 + 1)) \"$1\" | wc -c)\" -le \"$2\" ] && echo whole || echo more; head -c \"$2\" \"$1\"";
        let argv = ["sh", "-ec", script, "sh", &self.path, READ];
        let said = action::inside::run(world, &self.host, &argv).await?;
        let (first, rest) = said.split_once('\n').unwrap_or((&said, ""));
        let (whole, content) = rest.split_once('\n').unwrap_or((rest, ""));
        let there = first != "gone";
        let unlike = |wanted: &Regex| !wanted.is_match(content);
        let unlike = self.matches.as_ref().is_some_and(unlike);
        if there && self.there && unlike && whole == "more" {
            let why = format!(
                "{} on {} is longer than the {READ} bytes that are read",
                self.path, self.host
            );
            return Err(ActionError::Target(why));
        }
        if there != self.there || unlike {
            return Ok(Finding::Quiet);
        }
        let source = format!("{} on {}", self.path, self.host);
        let mut found = vec![evidence(source.as_str(), first)];
        if self.matches.is_some() {
            let shown: String = content.chars().take(SHOWN).collect();
            found.push(evidence(source, shown.trim_end()));
        }
        Ok(Finding::Fired(found))
    }
}
