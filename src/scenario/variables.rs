//! Filling `${name}` in.

use super::error::ScenarioProblem;
use crate::diagnostics::{Node, Reader, Span, Value};

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

/// How deep a variable's value may name others.
const DEEPEST: usize = 8;

/// Replaces `${name}` in every text below `node`.
pub(super) fn fill_in(
    node: &Node,
    value: &dyn Fn(&str) -> Option<String>,
    reader: &mut Reader,
) -> Node {
    let filled = match &node.value {
        Value::Text(text) => Value::Text(fill_text(text, node.span, value, reader, DEEPEST)),
        Value::List(items) => Value::List(
            items
                .iter()
                .map(|item| fill_in(item, value, reader))
                .collect(),
        ),
        Value::Map(entries) => Value::Map(
            entries
                .iter()
                .map(|(key, item)| (key.clone(), fill_in(item, value, reader)))
                .collect(),
        ),
        other => other.clone(),
    };
    Node {
        span: node.span,
        value: filled,
    }
}

fn fill_text(
    text: &str,
    span: Span,
    value: &dyn Fn(&str) -> Option<String>,
    reader: &mut Reader,
    deeper: usize,
) -> String {
    let mut filled = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        let (name, tail) = after.split_once('}').unwrap_or((after, ""));
        filled.push_str(before);
        match value(name).filter(|_| deeper > 0) {
            Some(found) => {
                filled.push_str(&fill_text(&found, span, value, reader, deeper - 1));
            }
            None => reader.wrong(
                ScenarioProblem::UnknownVariable {
                    name: name.to_owned(),
                }
                .at(span),
            ),
        }
        rest = tail;
    }
    filled.push_str(rest);
    filled
}
