//! Files to a topology.

use std::path::{Component, Path};

use super::merge::merge;
use super::{TopologyError, parse, validate};
use crate::diagnostics::{
    Node, Problem, Reader, Source, Span, Value, nearest, parse as parse_yaml,
};
use crate::model::Topology;

/// How many files may extend each other.
const EXTENDS_DEPTH: usize = 8;

/// Where topologies come from.
pub trait Lookup {
    /// Returns the file for `name`, a path or a bare name, as seen from the file `from`; or nothing.
    fn find(&self, name: &str, from: Option<&str>) -> Option<Source>;

    /// Returns the bare names that would be found.
    fn names(&self) -> Vec<String>;
}

/// A topology and the files it came from.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The topology.
    pub topology: Topology,
    /// The files, the first one as named.
    pub sources: Vec<Source>,
}

/// Why there is no topology.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// No such file.
    #[error("there is no topology {name}")]
    NotFound {
        /// What was asked for.
        name: String,
        /// What there is.
        known: Vec<String>,
    },
    /// The files have mistakes.
    #[error("{} problem(s) in {}", problems.len(), sources.first().map_or("the topology", |source| source.name.as_str()))]
    Invalid {
        /// All of them.
        problems: Vec<Problem>,
        /// The files.
        sources: Vec<Source>,
    },
}

/// Loads the topology `name` with all that it extends.
pub fn load(name: &str, lookup: &dyn Lookup) -> Result<Loaded, LoadError> {
    let source = lookup.find(name, None).ok_or_else(|| LoadError::NotFound {
        name: name.to_owned(),
        known: lookup.names(),
    })?;
    let stem = Path::new(&source.name)
        .file_stem()
        .map(|stem| stem.to_string_lossy().into_owned())
        .unwrap_or_default();
    let mut sources = vec![source];
    let mut reader = Reader::default();
    let topology = tree(0, &mut sources, lookup, &mut reader).and_then(|root| {
        let parsed = parse::topology(&root, &stem, &mut reader)?;
        validate::validate(&parsed, &mut reader);
        Some(parsed.topology)
    });
    match topology {
        Some(topology) if reader.problems.is_empty() => Ok(Loaded { topology, sources }),
        _ => Err(LoadError::Invalid {
            problems: reader.problems,
            sources,
        }),
    }
}

/// Parses the last of `sources` and lays it over what it extends.
fn tree(
    depth: usize,
    sources: &mut Vec<Source>,
    lookup: &dyn Lookup,
    reader: &mut Reader,
) -> Option<Node> {
    let index = sources.len() - 1;
    let root = match parse_yaml(index, &sources[index].text) {
        Ok(root) => root,
        Err(problem) => {
            reader.wrong(problem);
            return None;
        }
    };
    // Repeated keys have to be told file by file: the merge would hide them.
    let root = unique(root, reader);
    let Some((base, span)) = extends_of(&root) else {
        return Some(root);
    };
    let from = sources[index].name.clone();
    if leaves(&base) {
        reader.wrong(TopologyError::ExtendsOutside { name: base }.at(span));
        return None;
    }
    let Some(source) = lookup.find(&base, Some(&from)) else {
        let known = lookup.names();
        let near = nearest(&base, known.iter().map(String::as_str)).map(str::to_owned);
        reader.wrong(TopologyError::ExtendsMissing { name: base, near }.at(span));
        return None;
    };
    // No line of a file that is something else is shown: the author of `extends` may not be allowed to read it.
    if !is_topology(&source.text) {
        reader.wrong(TopologyError::ExtendsNoTopology { name: base }.at(span));
        return None;
    }
    if depth == EXTENDS_DEPTH || sources.iter().any(|earlier| earlier.name == source.name) {
        reader.wrong(TopologyError::ExtendsLoop { name: base }.at(span));
        return None;
    }
    sources.push(source);
    let base = tree(depth + 1, sources, lookup, reader)?;
    Some(merge(base, root))
}

/// Whether a name is a path that leads out of the directory of the file that names it.
fn leaves(name: &str) -> bool {
    let path = Path::new(name);
    path.is_absolute() || path.components().any(|part| part == Component::ParentDir)
}

/// Whether a text says of itself that it is a topology.
fn is_topology(text: &str) -> bool {
    let Ok(root) = parse_yaml(0, text) else {
        return false;
    };
    let Value::Map(entries) = &root.value else {
        return false;
    };
    let schema = entries.iter().find(|(key, _)| key.text == "schema");
    schema.is_some_and(
        |(_, node)| matches!(&node.value, Value::Text(text) if text.starts_with("twin/topology/")),
    )
}

fn extends_of(root: &Node) -> Option<(String, Span)> {
    let Value::Map(entries) = &root.value else {
        return None;
    };
    let (_, node) = entries.iter().find(|(key, _)| key.text == "extends")?;
    match &node.value {
        Value::Text(name) => Some((name.clone(), node.span)),
        _ => None,
    }
}

/// Notes repeated keys and keeps the first of each.
fn unique(node: Node, reader: &mut Reader) -> Node {
    let kept: Option<Vec<_>> = match &node.value {
        Value::Map(_) => reader.entries(&node, &"this mapping").map(|entries| {
            entries
                .into_iter()
                .map(|(key, value)| (key.clone(), value.clone()))
                .collect()
        }),
        _ => None,
    };
    let value = match (node.value, kept) {
        (_, Some(entries)) => Value::Map(
            entries
                .into_iter()
                .map(|(key, value)| (key, unique(value, reader)))
                .collect(),
        ),
        (Value::List(items), None) => {
            Value::List(items.into_iter().map(|item| unique(item, reader)).collect())
        }
        (other, None) => other,
    };
    Node {
        span: node.span,
        value,
    }
}
