//! Filling `${name}` in.

use std::collections::BTreeSet;

use super::error::ScenarioProblem;
use crate::diagnostics::{Node, Reader, Value, nearest};

/// Knows the values of variables.
pub trait Variables {
    /// The value of one.
    fn value(&self, name: &str) -> Option<String>;

    /// All that have one, as far as they can be listed.
    fn names(&self) -> Vec<String>;
}

/// Stands for what only a lab knows, when a file is checked without one.
pub(super) struct Placeholder;

impl Variables for Placeholder {
    fn value(&self, name: &str) -> Option<String> {
        let stands = match name.split('.').collect::<Vec<_>>().as_slice() {
            ["vip", _, "port"] => "1",
            ["vip" | "gateway" | "free", _] | ["address", _, _] => "192.0.2.1",
            ["subnet", _] => "192.0.2.0/24",
            ["nic", _, _] => "eth0",
            _ => return None,
        };
        Some(stands.to_owned())
    }

    fn names(&self) -> Vec<String> {
        Vec::new()
    }
}

/// How many bytes one variant's values may come to.
const MOST: usize = 1 << 20;

/// Fills one variant's variables in.
pub(super) struct Filling<'v> {
    variables: &'v dyn Variables,
    /// The variables that were named.
    pub(super) named: BTreeSet<String>,
    /// The variables that are being filled in, each named by the value of the one before.
    within: Vec<String>,
    /// Bytes that have been filled in.
    bytes: usize,
}

impl<'v> Filling<'v> {
    pub(super) const fn new(variables: &'v dyn Variables) -> Self {
        Self {
            variables,
            named: BTreeSet::new(),
            within: Vec::new(),
            bytes: 0,
        }
    }

    /// Replaces `${name}` in every text below `node`.
    pub(super) fn fill_in(&mut self, node: &Node, reader: &mut Reader) -> Node {
        let filled = match &node.value {
            Value::Text(text) => {
                let mut filled = String::new();
                if let Err(problem) = self.fill_text(text, &mut filled) {
                    reader.wrong(problem.at(node.span));
                }
                Value::Text(filled)
            }
            Value::List(items) => {
                let items = items.iter().map(|item| self.fill_in(item, reader));
                Value::List(items.collect())
            }
            Value::Map(entries) => {
                let entries = entries.iter();
                let entries = entries.map(|(key, item)| (key.clone(), self.fill_in(item, reader)));
                Value::Map(entries.collect())
            }
            other => other.clone(),
        };
        Node {
            span: node.span,
            value: filled,
        }
    }

    /// Adds a text with its variables filled in; stops at the first mistake.
    fn fill_text(&mut self, text: &str, filled: &mut String) -> Result<(), ScenarioProblem> {
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("${") {
            let (name, tail) = after.split_once('}').unwrap_or((after, ""));
            let name = name.to_owned();
            filled.push_str(before);
            self.bytes += before.len() + name.len();
            if self.within.contains(&name) || self.bytes > MOST {
                return Err(ScenarioProblem::EndlessVariable { name });
            }
            let Some(found) = self.variables.value(&name) else {
                let known = self.variables.names();
                let near = nearest(&name, known.iter().map(String::as_str)).map(str::to_owned);
                return Err(ScenarioProblem::UnknownVariable { name, near });
            };
            self.named.insert(name.clone());
            self.within.push(name);
            let inner = self.fill_text(&found, filled);
            self.within.pop();
            inner?;
            rest = tail;
        }
        filled.push_str(rest);
        self.bytes += rest.len();
        Ok(())
    }
}
