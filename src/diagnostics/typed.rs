//! Values with a type of their own, read from a tree by serde: every key and every value that is wrong becomes a problem at its
//! place.

use std::cell::Cell;
use std::fmt::{self, Display};

use schemars::JsonSchema;
use serde::de::value::StrDeserializer;
use serde::de::{
    self, DeserializeOwned, DeserializeSeed, Deserializer, IntoDeserializer, MapAccess, SeqAccess,
    Visitor,
};

use super::{Fields, FormatError, Key, Keys, Node, Problem, Reader, Span, Value, nearest};

/// Why a node is not a value of a type.
#[derive(Debug)]
struct Unfit {
    fault: Kind,
    /// Where, once it is known.
    span: Option<Span>,
}

#[derive(Debug)]
enum Kind {
    /// Another kind of node.
    Type {
        wanted: &'static str,
        found: &'static str,
    },
    /// A text that is none of these values.
    Value {
        text: String,
        wanted: Option<String>,
        why: String,
    },
    /// What serde says: of a key that is missing, for one.
    Other(String),
}

impl Unfit {
    /// Of a node of this kind, where `wanted` belongs.
    fn kind(node: &Node, wanted: &'static str) -> Self {
        let found = node.value.kind();
        Self {
            fault: Kind::Type { wanted, found },
            span: Some(node.span),
        }
    }

    fn value(text: &str, wanted: Option<&str>, why: impl Display) -> Self {
        Self {
            fault: Kind::Value {
                text: text.to_owned(),
                wanted: wanted.map(str::to_owned),
                why: why.to_string(),
            },
            span: None,
        }
    }

    /// Gives it the place and the text of the node that was read, where it has none so far.
    fn at(mut self, node: &Node) -> Self {
        if self.span.is_none() {
            if let (Kind::Other(why), Some(text)) = (&self.fault, node.text()) {
                let address = why.starts_with("invalid IPv4 address");
                self = Self::value(&text, address.then_some("address"), why);
            }
            self.span = Some(node.span);
        }
        self
    }

    /// Names what the node was to be, where the innermost did not.
    fn wanting(mut self, name: &str) -> Self {
        if let Kind::Value { wanted, .. } = &mut self.fault {
            wanted.get_or_insert_with(|| name.to_owned());
        }
        self
    }

    /// The problem of the value of a key.
    fn problem(self, key: &str, node: &Node) -> Problem {
        let found = match self.fault {
            Kind::Type { wanted, found } => FormatError::WrongType { wanted, found },
            Kind::Value { text, wanted, why } => {
                let own = self.span == Some(node.span) && key != "name";
                let wanted = match wanted {
                    // Of what it is a name.
                    Some(wanted) if wanted == "name" && own => format!("{key} name"),
                    Some(wanted) => wanted,
                    None if key == "is" => "state".to_owned(),
                    None => key.to_owned(),
                };
                FormatError::BadValue { text, wanted, why }
            }
            Kind::Other(why) => FormatError::BadValue {
                text: node.value.kind().to_owned(),
                wanted: key.to_owned(),
                why,
            },
        };
        found.at(self.span.unwrap_or(node.span))
    }
}

impl Display for Unfit {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.fault {
            Kind::Type { wanted, found } => {
                write!(formatter, "{wanted} belongs here, and this is {found}")
            }
            Kind::Value { text, why, .. } => write!(formatter, "{text}: {why}"),
            Kind::Other(why) => formatter.write_str(why),
        }
    }
}

impl std::error::Error for Unfit {}

impl de::Error for Unfit {
    fn custom<T: Display>(why: T) -> Self {
        Self {
            fault: Kind::Other(why.to_string()),
            span: None,
        }
    }

    fn unknown_variant(found: &str, expected: &'static [&'static str]) -> Self {
        let all = format!("it is one of {}", expected.join(", "));
        let why = match nearest(found, expected.iter().copied()) {
            Some(meant) => format!("did you mean {meant}? {all}"),
            None => all,
        };
        Self::value(found, None, why)
    }
}

/// A node as serde reads it. Any single value can be text; text can be a number, for a variable may stand for one.
struct Typed<'n>(&'n Node);

impl Typed<'_> {
    fn text(&self) -> Result<String, Unfit> {
        self.0
            .text()
            .ok_or_else(|| Unfit::kind(self.0, "a single value"))
    }

    fn parsed<T: std::str::FromStr>(&self, wanted: Option<&str>) -> Result<T, Unfit>
    where
        T::Err: Display,
    {
        let text = self.text()?;
        text.parse()
            .map_err(|why| Unfit::value(&text, wanted, why).at(self.0))
    }
}

macro_rules! numbers {
    ($($method:ident $visit:ident $wanted:expr,)*) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Unfit> {
            let number = self.parsed($wanted)?;
            visitor.$visit(number).map_err(|unfit: Unfit| unfit.at(self.0))
        })*
    };
}

impl<'de> Deserializer<'de> for Typed<'_> {
    type Error = Unfit;

    numbers! {
        deserialize_u8 visit_u8 None,
        deserialize_u16 visit_u16 None,
        deserialize_u32 visit_u32 None,
        deserialize_u64 visit_u64 None,
        deserialize_i8 visit_i8 None,
        deserialize_i16 visit_i16 None,
        deserialize_i32 visit_i32 None,
        deserialize_i64 visit_i64 None,
        deserialize_f32 visit_f32 None,
        deserialize_f64 visit_f64 None,
        deserialize_bool visit_bool Some("true or false"),
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Unfit> {
        match &self.0.value {
            Value::Null => visitor.visit_unit(),
            Value::List(_) => self.deserialize_seq(visitor),
            Value::Map(_) => self.deserialize_map(visitor),
            Value::Bool(_) | Value::Number(_) | Value::Text(_) => self.deserialize_str(visitor),
        }
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Unfit> {
        let text = self.text()?;
        visitor
            .visit_str(&text)
            .map_err(|unfit: Unfit| unfit.at(self.0))
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Unfit> {
        match self.0.value {
            Value::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Unfit> {
        let node = self.0;
        let read = visitor.visit_newtype_struct(self);
        read.map_err(|unfit: Unfit| unfit.at(node).wanting(name))
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Unfit> {
        let text = self.text()?;
        let word: StrDeserializer<'_, Unfit> = text.as_str().into_deserializer();
        visitor.visit_enum(word).map_err(|unfit| unfit.at(self.0))
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Unfit> {
        let Value::List(items) = &self.0.value else {
            return Err(Unfit::kind(self.0, "a list"));
        };
        visitor.visit_seq(Items(items.iter()))
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Unfit> {
        let Value::Map(entries) = &self.0.value else {
            return Err(Unfit::kind(self.0, "a mapping"));
        };
        let entries: Vec<(&Key, &Node)> = entries.iter().map(|(key, node)| (key, node)).collect();
        visitor.visit_map(Entries::new(&entries))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Unfit> {
        self.deserialize_map(visitor)
    }

    serde::forward_to_deserialize_any! {
        i128 u128 char string bytes byte_buf unit unit_struct tuple tuple_struct identifier ignored_any
    }
}

struct Items<'n>(std::slice::Iter<'n, Node>);

impl<'de> SeqAccess<'de> for Items<'_> {
    type Error = Unfit;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Unfit> {
        let read = |node| {
            seed.deserialize(Typed(node))
                .map_err(|unfit| unfit.at(node))
        };
        self.0.next().map(read).transpose()
    }
}

struct Entries<'e, 'n> {
    entries: std::slice::Iter<'e, (&'n Key, &'n Node)>,
    value: Option<&'n Node>,
}

impl<'e, 'n> Entries<'e, 'n> {
    fn new(entries: &'e [(&'n Key, &'n Node)]) -> Self {
        Self {
            entries: entries.iter(),
            value: None,
        }
    }
}

impl<'de> MapAccess<'de> for Entries<'_, '_> {
    type Error = Unfit;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Unfit> {
        let Some((key, node)) = self.entries.next() else {
            return Ok(None);
        };
        self.value = Some(node);
        let word: StrDeserializer<'_, Unfit> = key.text.as_str().into_deserializer();
        seed.deserialize(word).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Unfit> {
        let none = || de::Error::custom("a value without a key");
        let node = self.value.take().ok_or_else(none)?;
        seed.deserialize(Typed(node))
            .map_err(|unfit| unfit.at(node))
    }
}

/// A mapping of some keys, as serde reads it.
struct Struct<'e, 'n>(&'e [(&'n Key, &'n Node)]);

impl<'de> Deserializer<'de> for Struct<'_, '_> {
    type Error = Unfit;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Unfit> {
        visitor.visit_map(Entries::new(self.0))
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

/// Finds out a type's keys: they are all that it looks at.
struct Asked<'a>(&'a Cell<&'static [&'static str]>);

impl<'de> Deserializer<'de> for Asked<'_> {
    type Error = Unfit;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Unfit> {
        Err(de::Error::custom("no mapping with fixed keys"))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        keys: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, Unfit> {
        self.0.set(keys);
        Err(de::Error::custom("only the keys were asked for"))
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

impl Keys {
    /// Those of a struct, as its derived implementations have them.
    pub fn of<T: DeserializeOwned + JsonSchema>() -> Self {
        let asked = Cell::new(&[] as &[&str]);
        // The error is the way back from there.
        let _ = T::deserialize(Asked(&asked));
        let schema = schemars::schema_for!(T);
        let required = schema.get("required").and_then(serde_json::Value::as_array);
        let is_required = |key: &&&str| {
            let mut required = required.into_iter().flatten();
            required.any(|name| name.as_str() == Some(key))
        };
        let known = asked.get();
        Self {
            known: known.to_vec(),
            required: known.iter().filter(is_required).copied().collect(),
        }
    }
}

impl Reader {
    /// Reads a mapping as a struct. `place` names it in messages. Every key and value that is wrong is noted; then there is no
    /// value.
    pub fn typed<T: DeserializeOwned + JsonSchema>(
        &mut self,
        node: &Node,
        place: &str,
    ) -> Option<T> {
        let keys = Keys::of::<T>();
        let problems = self.problems.len();
        let mut fields: Fields<'_> = self.fields(node, place)?;
        let given: &[(Key, Node)] = match &node.value {
            Value::Map(entries) => entries,
            _ => &[],
        };
        let mut entries = Vec::new();
        for key in &keys.known {
            let found = if keys.required.contains(key) {
                fields.required(key, self)
            } else {
                fields.optional(key)
            };
            let name = given.iter().find(|(given, _)| given.text == *key);
            entries.extend(found.zip(name).map(|(node, (name, _))| (name, node)));
        }
        fields.finish(self);
        for entry in &entries {
            // With this key alone: an error in it is met before any other is missed.
            let (key, value) = entry;
            let one = T::deserialize(Struct(std::slice::from_ref(entry)));
            if let Err(unfit) = one
                && unfit.span.is_some()
            {
                self.wrong(unfit.problem(&key.text, value));
            }
        }
        if self.problems.len() > problems {
            return None;
        }
        match T::deserialize(Struct(&entries)) {
            Ok(value) => Some(value),
            Err(unfit) => {
                self.wrong(unfit.problem(place, node));
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde::{Deserialize, Serialize};

    use super::*;
    use crate::diagnostics::parse;
    use crate::units::{Mib, Name};

    #[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
    #[serde(rename_all = "kebab-case")]
    enum Colour {
        Red,
        LightBlue,
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
    #[serde(rename_all = "kebab-case")]
    struct Thing {
        name: Name,
        size: Mib,
        how_many: u32,
        #[serde(default)]
        colour: Option<Colour>,
        #[serde(default)]
        names: Vec<Name>,
    }

    fn read(text: &str) -> (Option<Thing>, Vec<String>) {
        let node = parse(0, text).expect("it is YAML");
        let mut reader = Reader::default();
        let thing = reader.typed(&node, "the thing");
        let said = |problem: &Problem| {
            let at = problem.span.offset..problem.span.offset + problem.span.length;
            format!("{}: {} [{}]", &text[at], problem.message, problem.cure)
        };
        (thing, reader.problems.iter().map(said).collect())
    }

    #[test]
    fn a_struct_has_the_keys_that_its_derives_have() {
        let keys = Keys::of::<Thing>();
        assert_eq!(keys.known, ["name", "size", "how-many", "colour", "names"]);
        assert_eq!(keys.required, ["name", "size", "how-many"]);
    }

    #[test]
    fn a_mapping_becomes_a_value_and_all_that_is_wrong_a_problem_at_its_place() {
        let (thing, problems) =
            read("{name: a, size: 2GiB, how-many: \"3\", colour: light-blue, names: [b, c]}");
        assert!(problems.is_empty(), "{problems:?}");
        let thing = thing.expect("it is whole");
        assert_eq!(thing.names.len(), 2);
        assert_eq!(
            (thing.size, thing.how_many, thing.colour),
            (Mib(2048), 3, Some(Colour::LightBlue))
        );
        let (thing, problems) =
            read("{name: A, size: 2, colour: light-blu, names: [b, C], sise: 1, how-many: [1]}");
        assert_eq!(thing, None);
        let expected = [
            "sise: sise means nothing in the thing [did you mean size?]",
            "A: A is no name: a name is made of a-z, 0-9 and `-`, and starts and ends with a letter or digit [give another value]",
            "2: 2 is no size: a size ends in MiB, GiB or TiB [write it like 512MiB or 8GiB]",
            "[: a single value belongs here, and this is a list [write a single value]",
            "light-blu: light-blu is no colour: did you mean light-blue? it is one of red, light-blue [give another value]",
            "C: C is no name: a name is made of a-z, 0-9 and `-`, and starts and ends with a letter or digit [give another value]",
        ];
        assert_eq!(problems, expected);
    }

    #[test]
    fn what_is_missing_is_told_of_beside_what_is_wrong() {
        let (_, problems) = read("{size: big}");
        let missing = |key: &str| {
            problems
                .iter()
                .any(|told| told.contains(&format!("has no {key}")))
        };
        assert!(missing("name") && missing("how-many"), "{problems:?}");
        assert!(problems.iter().any(|told| told.contains("big is no size")));
        let (_, problems) = read("[1]");
        assert_eq!(problems.len(), 1);
    }
}
