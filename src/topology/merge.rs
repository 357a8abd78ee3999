//! `extends`: one tree laid over another.

use crate::diagnostics::{Node, Value};

/// Lays `over` on `base`: mappings merge key by key, everything else is replaced, and a key with nothing removes.
pub(super) fn merge(base: Node, over: Node) -> Node {
    let (Value::Map(mut entries), Value::Map(additions)) = (base.value, over.value.clone()) else {
        return over;
    };
    for (key, value) in additions {
        let at = entries
            .iter()
            .position(|(earlier, _)| earlier.text == key.text);
        match (at, &value.value) {
            (Some(at), Value::Null) => {
                entries.remove(at);
            }
            (Some(at), _) => {
                let (_, earlier) = entries.remove(at);
                entries.insert(at, (key, merge(earlier, value)));
            }
            (None, _) => entries.push((key, value)),
        }
    }
    Node {
        span: over.span,
        value: Value::Map(entries),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnostics::parse;

    fn text_of(node: &Node) -> String {
        match &node.value {
            Value::Map(entries) => {
                let inner: Vec<String> = entries
                    .iter()
                    .map(|(key, value)| format!("{}:{}", key.text, text_of(value)))
                    .collect();
                format!("{{{}}}", inner.join(","))
            }
            Value::List(items) => format!(
                "[{}]",
                items.iter().map(text_of).collect::<Vec<_>>().join(",")
            ),
            other => match other {
                Value::Number(number) => number.clone(),
                Value::Text(text) => text.clone(),
                _ => other.kind().into(),
            },
        }
    }

    #[test]
    fn mappings_merge_lists_are_replaced_and_nothing_removes() {
        let base = parse(0, "a: {x: 1, y: 2}\nl: [1, 2]\nz: 1\n").expect("parses");
        let over = parse(1, "a: {y: 3, w: 4}\nl: [9]\nz:\n").expect("parses");
        assert_eq!(text_of(&merge(base, over)), "{a:{x:1,y:3,w:4},l:[9]}");
    }
}
