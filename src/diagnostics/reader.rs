//! Taking a tree apart, collecting what is wrong.

use std::fmt::Display;
use std::str::FromStr;

use super::error::KEY_HERE;
use super::{FormatError, Key, Node, Problem, Span, Value, nearest};

/// Collects problems.
#[derive(Debug, Default)]
pub struct Reader {
    /// What was wrong so far.
    pub problems: Vec<Problem>,
    /// The keys that misspelt ones stand for, each with the place of its mapping.
    misspelt: Vec<(String, &'static str)>,
}

/// The keys that a mapping can have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Keys {
    /// All of them.
    pub known: Vec<&'static str>,
    /// Those that have to be there.
    pub required: Vec<&'static str>,
}

impl Reader {
    /// Notes a problem.
    pub fn wrong(&mut self, problem: Problem) {
        self.problems.push(problem);
    }

    /// Whether the mapping at `place` has a key that is a misspelt `key`: the reader has reported that, and a check that misses
    /// `key` need not.
    pub fn is_misspelt(&self, place: &str, key: &str) -> bool {
        let mut known = self.misspelt.iter();
        known.any(|(at, meant)| at == place && *meant == key)
    }

    /// Opens a mapping. `place` names it in messages.
    pub fn fields<'n>(&mut self, node: &'n Node, place: impl Display) -> Option<Fields<'n>> {
        let entries = self.entries(node, &place)?;
        Some(Fields {
            entries,
            span: node.span,
            place: place.to_string(),
            keys: Keys::default(),
        })
    }

    /// Returns the entries of a mapping whose keys are free, noting repeated ones.
    pub fn entries<'n>(
        &mut self,
        node: &'n Node,
        place: &impl Display,
    ) -> Option<Vec<(&'n Key, &'n Node)>> {
        let Value::Map(entries) = &node.value else {
            self.wrong_type(node, "a mapping");
            return None;
        };
        let mut unique: Vec<(&Key, &Node)> = Vec::new();
        for (key, value) in entries {
            if unique.iter().any(|(earlier, _)| earlier.text == key.text) {
                self.wrong(
                    FormatError::DuplicateKey {
                        key: key.text.clone(),
                        place: place.to_string(),
                    }
                    .at(key.span),
                );
            } else {
                unique.push((key, value));
            }
        }
        Some(unique)
    }

    /// Returns the items of a list.
    pub fn items<'n>(&mut self, node: &'n Node) -> &'n [Node] {
        if let Value::List(items) = &node.value {
            return items;
        }
        self.wrong_type(node, "a list");
        &[]
    }

    /// Reads a scalar through `FromStr`. `wanted` names the kind in messages.
    pub fn scalar<T: FromStr>(&mut self, node: &Node, wanted: &str) -> Option<T>
    where
        T::Err: Display,
    {
        let text = match &node.value {
            Value::Text(text) => text.clone(),
            Value::Number(number) => number.clone(),
            Value::Bool(is) => is.to_string(),
            Value::Null | Value::List(_) | Value::Map(_) => {
                self.wrong_type(node, "a single value");
                return None;
            }
        };
        match text.parse() {
            Ok(value) => Some(value),
            Err(error) => {
                self.bad_value(node, &text, wanted, &error);
                None
            }
        }
    }

    /// Reads a key through `FromStr`.
    pub fn key<T: FromStr>(&mut self, key: &Key, wanted: &str) -> Option<T>
    where
        T::Err: Display,
    {
        let parsed: Result<T, T::Err> = key.text.parse();
        if let Err(error) = &parsed {
            let error = FormatError::BadValue {
                text: key.text.clone(),
                wanted: wanted.into(),
                why: error.to_string(),
            };
            self.wrong(error.at(key.span));
        }
        parsed.ok()
    }

    /// Notes a value that parses but is not acceptable.
    pub fn bad_value(&mut self, node: &Node, text: &dyn Display, wanted: &str, why: &dyn Display) {
        self.wrong(
            FormatError::BadValue {
                text: text.to_string(),
                wanted: wanted.into(),
                why: why.to_string(),
            }
            .at(node.span),
        );
    }

    /// Tells that a key means nothing beside what else is there.
    pub fn idle_key(&mut self, key: &Key, why: &dyn Display) {
        let node = Node {
            span: key.span,
            value: Value::Text(key.text.clone()),
        };
        self.bad_value(&node, &key.text, KEY_HERE, why);
    }

    /// Reads one of a few words.
    pub fn choice<T: Copy>(&mut self, node: &Node, wanted: &str, words: &[(&str, T)]) -> Option<T> {
        let text: String = self.scalar(node, wanted)?;
        let found = words
            .iter()
            .find(|(word, _)| *word == text)
            .map(|(_, value)| *value);
        if found.is_none() {
            let names: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
            let why = match nearest(&text, names.iter().copied()) {
                Some(meant) => format!("did you mean {meant}? it is one of {}", names.join(", ")),
                None => format!("it is one of {}", names.join(", ")),
            };
            self.bad_value(node, &text, wanted, &why);
        }
        found
    }

    fn wrong_type(&mut self, node: &Node, wanted: &'static str) {
        self.wrong(
            FormatError::WrongType {
                wanted,
                found: node.value.kind(),
            }
            .at(node.span),
        );
    }
}

/// A mapping whose keys are fixed: each is taken, and what is left over is a problem.
#[derive(Debug)]
pub struct Fields<'n> {
    entries: Vec<(&'n Key, &'n Node)>,
    /// Where the mapping stands.
    pub span: Span,
    place: String,
    keys: Keys,
}

impl<'n> Fields<'n> {
    /// Whether a key is there that has not been taken so far.
    pub fn has(&self, key: &str) -> bool {
        self.entries.iter().any(|(found, _)| found.text == key)
    }

    /// Takes a key that may be missing. One that is there with nothing after it counts as missing.
    pub fn optional(&mut self, key: &'static str) -> Option<&'n Node> {
        self.keys.known.push(key);
        let at = self
            .entries
            .iter()
            .position(|(found, _)| found.text == key)?;
        let (_, node) = self.entries.remove(at);
        (node.value != Value::Null).then_some(node)
    }

    /// Takes a key that has to be there.
    pub fn required(&mut self, key: &'static str, reader: &mut Reader) -> Option<&'n Node> {
        let found = self.optional(key);
        self.keys.required.push(key);
        if found.is_none() {
            reader.wrong(
                FormatError::MissingKey {
                    key,
                    place: self.place.clone(),
                }
                .at(self.span),
            );
        }
        found
    }

    /// Ends the mapping: keys that were not taken are problems. The reader reports a misspelt key once, and not as a missing
    /// key as well.
    pub fn finish(self, reader: &mut Reader) {
        for (key, _) in self.entries {
            if let Some(meant) = nearest(&key.text, self.keys.known.iter().copied()) {
                let place = self.place.clone();
                reader.misspelt.push((place.clone(), meant));
                let missing = FormatError::MissingKey { key: meant, place }.at(self.span);
                reader.problems.retain(|problem| *problem != missing);
            }
            let error = FormatError::UnknownKey {
                key: key.text.clone(),
                place: self.place.clone(),
                allowed: self.keys.known.clone(),
            };
            reader.wrong(error.at(key.span));
        }
    }
}
