//! Filling `${name}` in.

use super::error::ScenarioProblem;
use crate::diagnostics::{Node, Reader, Value};

/// Stands for what only a lab knows, when a file is checked without one.
pub(super) fn placeholder(name: &str) -> Option<String> {
    let stands = match name.split('.').collect::<Vec<_>>().as_slice() {
        ["vip", _, "port"] => "1",
        ["vip" | "gateway" | "free", _] | ["address", _, _] => "192.0.2.1",
        ["subnet", _] => "192.0.2.0/24",
        ["nic", _, _] => "eth0",
        _ => return None,
    };
    Some(stands.to_owned())
}

/// How many bytes one variant's values may come to.
const MOST: usize = 1 << 20;

/// Fills one variant's variables in.
pub(super) struct Filling<'v> {
    value: &'v dyn Fn(&str) -> Option<String>,
    /// The variables that are being filled in, each named by the value of the one before.
    within: Vec<String>,
    /// Bytes that have been filled in.
    bytes: usize,
}

impl<'v> Filling<'v> {
    pub(super) const fn new(value: &'v dyn Fn(&str) -> Option<String>) -> Self {
        Self {
            value,
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
            let Some(found) = (self.value)(&name) else {
                return Err(ScenarioProblem::UnknownVariable { name });
            };
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
