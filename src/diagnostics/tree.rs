//! YAML as a tree that knows its places.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::options::DuplicateKeyPolicy;
use serde_saphyr::{Location, Spanned};

use super::{FormatError, Problem, Span};

/// A value with its place.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// Where it stands.
    pub span: Span,
    /// What it is.
    pub value: Value,
}

/// A key of a mapping with its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// Where it stands.
    pub span: Span,
    /// Its text.
    pub text: String,
}

/// What a node is.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Nothing.
    Null,
    /// true or false.
    Bool(bool),
    /// A number, as it is written: a digest of digits alone is one too.
    Number(String),
    /// Text.
    Text(String),
    /// A sequence.
    List(Vec<Node>),
    /// A mapping in the file's order, repeated keys included.
    Map(Vec<(Key, Node)>),
}

impl Node {
    /// The value of a key of a mapping.
    pub fn entry(&self, key: &str) -> Option<&Self> {
        let Value::Map(entries) = &self.value else {
            return None;
        };
        let mut entries = entries.iter();
        let found = entries.find(|(found, _)| found.text == key);
        found.map(|(_, node)| node)
    }

    /// The text of a single value, as it is written.
    pub fn text(&self) -> Option<String> {
        match &self.value {
            Value::Text(text) | Value::Number(text) => Some(text.clone()),
            Value::Bool(is) => Some(is.to_string()),
            Value::Null | Value::List(_) | Value::Map(_) => None,
        }
    }
}

impl Value {
    /// Names the kind for messages.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Null => "nothing",
            Self::Bool(_) => "true or false",
            Self::Number(_) => "a number",
            Self::Text(_) => "text",
            Self::List(_) => "a list",
            Self::Map(_) => "a mapping",
        }
    }
}

/// Parses one YAML document. `file` is its place in the list of sources.
pub fn parse(file: usize, text: &str) -> Result<Node, Problem> {
    let options = serde_saphyr::options! { duplicate_keys: DuplicateKeyPolicy::PassThrough, with_snippet: false, strict_booleans: true };
    let raw: Spanned<Raw> =
        serde_saphyr::from_str_with_options(text, options).map_err(|error| {
            let span = error.location().map_or(
                Span {
                    file,
                    ..Span::default()
                },
                |location| span_of(file, text, location),
            );
            let why = error.to_string();
            let why = why
                .split(" at line ")
                .next()
                .unwrap_or_default()
                .trim_start_matches("error: ")
                .lines()
                .next()
                .unwrap_or_default()
                .to_owned();
            FormatError::Syntax { why }.at(span)
        })?;
    Ok(place(file, text, raw))
}

fn place(file: usize, text: &str, raw: Spanned<Raw>) -> Node {
    let span = span_of(file, text, raw.referenced);
    let value = match raw.value {
        Raw::Scalar(Value::Number(read)) => {
            // Behind an alias the text stands where the anchor is.
            let defined = span_of(file, text, raw.defined);
            let written = text.get(defined.offset..defined.offset + defined.length);
            Value::Number(written.map_or(read, |written| written.trim().to_owned()))
        }
        Raw::Scalar(value) => value,
        Raw::List(items) => Value::List(
            items
                .into_iter()
                .map(|item| place(file, text, item))
                .collect(),
        ),
        Raw::Map(entries) => Value::Map(
            entries
                .into_iter()
                .map(|(key, value)| {
                    let span = span_of(file, text, key.referenced);
                    let text_of = |raw: Raw| match raw {
                        Raw::Scalar(Value::Text(text)) => text,
                        Raw::Scalar(Value::Number(number)) => number,
                        _ => text
                            .get(span.offset..span.offset + span.length)
                            .unwrap_or_default()
                            .to_owned(),
                    };
                    (
                        Key {
                            span,
                            text: text_of(key.value),
                        },
                        place(file, text, value),
                    )
                })
                .collect(),
        ),
    };
    Node { span, value }
}

fn span_of(file: usize, text: &str, location: Location) -> Span {
    let number = |value: Option<u64>| value.and_then(|value| usize::try_from(value).ok());
    let span = location.span();
    let offset = number(span.byte_offset())
        .unwrap_or_else(|| offset_of(text, location))
        .min(text.len());
    let length = number(span.byte_len()).unwrap_or_default();
    let line_left = text
        .get(offset..)
        .and_then(|rest| rest.lines().next())
        .unwrap_or_default()
        .trim_end()
        .len();
    Span {
        file,
        offset,
        length: length.clamp(usize::from(line_left > 0), line_left.max(1)),
    }
}

/// Finds a place by its line and column, where the parser gives no byte offset.
fn offset_of(text: &str, location: Location) -> usize {
    let number = |value: u64| usize::try_from(value.saturating_sub(1)).unwrap_or_default();
    let (line, column) = (number(location.line()), number(location.column()));
    let before: usize = text.split_inclusive('\n').take(line).map(str::len).sum();
    let rest = text.get(before..).unwrap_or_default();
    before + rest.chars().take(column).map(char::len_utf8).sum::<usize>()
}

/// A value before its place is known in bytes.
enum Raw {
    Scalar(Value),
    List(Vec<Spanned<Raw>>),
    Map(Vec<(Spanned<Raw>, Spanned<Raw>)>),
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RawVisitor)
    }
}

struct RawVisitor;

impl<'de> Visitor<'de> for RawVisitor {
    type Value = Raw;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a YAML value")
    }

    fn visit_unit<E>(self) -> Result<Raw, E> {
        Ok(Raw::Scalar(Value::Null))
    }

    fn visit_none<E>(self) -> Result<Raw, E> {
        Ok(Raw::Scalar(Value::Null))
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Raw, D::Error> {
        Raw::deserialize(deserializer)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Raw, E> {
        Ok(Raw::Scalar(Value::Bool(value)))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Raw, E> {
        Ok(Raw::Scalar(Value::Number(value.to_string())))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Raw, E> {
        Ok(Raw::Scalar(Value::Number(value.to_string())))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Raw, E> {
        Ok(Raw::Scalar(Value::Number(value.to_string())))
    }

    fn visit_str<E>(self, value: &str) -> Result<Raw, E> {
        Ok(Raw::Scalar(Value::Text(value.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Raw, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Raw::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Raw, A::Error> {
        let mut map = Vec::new();
        while let Some(entry) = entries.next_entry()? {
            map.push(entry);
        }
        Ok(Raw::Map(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_know_where_they_stand() {
        let text = "name: lab\nhosts:\n  a: {vcpus: 8}\n  a: [x, 1.5]\n";
        let root = parse(0, text).expect("parses");
        let Value::Map(entries) = &root.value else {
            panic!("a mapping")
        };
        let Value::Map(hosts) = &entries[1].1.value else {
            panic!("a mapping")
        };
        assert_eq!(hosts.len(), 2, "repeated keys are kept");
        let slice = |span: Span| &text[span.offset..span.offset + span.length];
        assert_eq!(slice(entries[0].1.span), "lab");
        assert_eq!(slice(hosts[1].0.span), "a");
        assert_eq!(hosts[1].0.span.offset, text.rfind("a:").expect("there"));
        let Value::List(items) = &hosts[1].1.value else {
            panic!("a list")
        };
        assert_eq!(
            (slice(items[1].span), &items[1].value),
            ("1.5", &Value::Number("1.5".into()))
        );
    }

    #[test]
    fn anchors_work_and_broken_yaml_names_its_place() {
        let root = parse(0, "a: &x {b: 1}\nc: *x\n").expect("parses");
        let Value::Map(entries) = &root.value else {
            panic!("a mapping")
        };
        assert!(matches!(&entries[1].1.value, Value::Map(map) if map.len() == 1));
        let problem = parse(0, "a: [1,\nb: 2\n").expect_err("unclosed");
        assert_eq!(problem.code, "syntax");
        assert!(problem.span.offset > 0);
    }
}
