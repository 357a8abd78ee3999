//! The JSON Schema of scenario files, for editors. Actions and probes and their arguments are those that their own files read.

use serde_json::{Map, Value, json};

use super::expect::Expect;
use super::probe_entry::Phase;
use super::{action, probe};
use crate::diagnostics::Keys;

/// The words of a choice.
fn words<T>(all: &[(&'static str, T)]) -> Vec<&'static str> {
    all.iter().map(|(word, _)| *word).collect()
}

/// A count, which may be a variable.
fn count(what: &str) -> Value {
    json!({"type": ["integer", "string"], "description": what})
}

/// Arguments, of which any may be a variable.
fn arguments(keys: &Keys) -> Value {
    let properties: Map<String, Value> = keys
        .known
        .iter()
        .map(|key| ((*key).to_owned(), json!({})))
        .collect();
    json!({
        "type": "object",
        "additionalProperties": false,
        "required": keys.required,
        "properties": properties,
    })
}

/// A mapping with just one of these keys.
fn one_of(all: &[(&'static str, Keys)]) -> Value {
    let properties: Map<String, Value> = all
        .iter()
        .map(|(name, keys)| ((*name).to_owned(), arguments(keys)))
        .collect();
    json!({
        "type": "object",
        "additionalProperties": false,
        "minProperties": 1,
        "maxProperties": 1,
        "properties": properties,
    })
}

/// A probe bears its arguments beside its id.
fn probe(all: &[(&'static str, Keys)]) -> Value {
    let mut properties = Map::new();
    properties.insert("id".into(), json!({"type": "string"}));
    properties.insert("at".into(), json!({"enum": words(Phase::WORDS)}));
    let counts = [
        ("times", "How often in a row it has to hold."),
        ("retries", "How often it looks again where it could not."),
        (
            "misses",
            "How many looks in a row may miss, of one that is to hold always.",
        ),
    ];
    properties.extend(counts.map(|(key, what)| (key.to_owned(), count(what))));
    properties.insert(
        "for".into(),
        json!({"type": "string", "description": "For how long it has to hold, at each look."}),
    );
    properties.insert(
        "since".into(),
        json!({"type": "string", "description": "The step after which it looks."}),
    );
    properties.extend(
        all.iter()
            .map(|(name, keys)| ((*name).to_owned(), arguments(keys))),
    );
    let one: Vec<Value> = all
        .iter()
        .map(|(name, _)| json!({"required": [name]}))
        .collect();
    json!({
        "type": "object",
        "additionalProperties": false,
        "required": ["id"],
        "oneOf": one,
        "properties": properties,
    })
}

/// The kinds of step, each with what it does not take.
fn work() -> Vec<Value> {
    [
        ("do", json!({})),
        ("wait", json!({"for": false})),
        ("baseline", json!({"for": false})),
        ("pause", json!({"for": false, "within": false})),
        ("undo", json!({"for": false, "within": false})),
        ("together", json!({"for": false, "within": false})),
    ]
    .into_iter()
    .map(|(word, not)| json!({"required": [word], "properties": not}))
    .collect()
}

/// Returns the schema. What it cannot say, such as that ids are known, `twin scenario FILE --dry-run` checks.
pub fn schema() -> Value {
    let texts = json!({"type": "object", "additionalProperties": {"type": ["string", "number", "boolean"]}});
    let names = json!({"type": "array", "items": {"type": "string"}});
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "twin/scenario/v1",
        "description": "What is broken on purpose, and what has to be seen; scenarios/README.md explains each key.",
        "type": "object",
        "additionalProperties": false,
        "required": ["schema", "name", "title", "variants", "probes", "steps"],
        "properties": {
            "schema": {"const": "twin/scenario/v1"},
            "name": {"type": "string", "pattern": "^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$"},
            "title": {"type": "string"},
            "incident": {"type": "string", "description": "The decision that it replays."},
            "about": {"type": "string", "description": "The story."},
            "vars": texts,
            "variants": {
                "type": "object",
                "minProperties": 1,
                "additionalProperties": {
                    "type": "object",
                    "additionalProperties": false,
                    "required": ["expect"],
                    "properties": {
                        "set": texts,
                        "expect": {"type": "object", "additionalProperties": {"enum": words(Expect::WORDS)}},
                        "observe": {"$ref": "#/$defs/duration"},
                    },
                },
            },
            "safety": {
                "type": "object",
                "additionalProperties": false,
                "properties": {
                    "baseline": {"enum": words(super::Policy::WORDS)},
                    "budget": {"$ref": "#/$defs/duration"},
                    "allow": names,
                    "protect": names,
                    "most-hosts": count("At most so many hosts are acted on."),
                    "stop": {"type": "array", "items": {"$ref": "#/$defs/stop"}},
                },
            },
            "steady": {
                "type": "object",
                "additionalProperties": false,
                "properties": {"services": {"enum": ["healthy"]}, "within": {"$ref": "#/$defs/duration"}},
            },
            "probes": {"type": "array", "items": {"$ref": "#/$defs/probe"}},
            "steps": {"type": "array", "minItems": 1, "items": {"$ref": "#/$defs/step"}},
            "watch": names,
            "observe": {"$ref": "#/$defs/duration"},
            "recover": {
                "type": "object",
                "additionalProperties": false,
                "properties": {
                    "services": {"enum": ["healthy"]},
                    "instances": {"enum": ["as-before"]},
                    "within": {"$ref": "#/$defs/duration"},
                },
            },
            "stand-ins": names,
        },
        "$defs": definitions(&names),
    })
}

/// What several places of a scenario have.
fn definitions(names: &Value) -> Value {
    json!({
            "duration": {"type": "string", "description": "Like 90s, 5m or 1h30m."},
            "action": one_of(&action::arguments()),
            "probe": probe(&probe::arguments()),
            "stop": {
                "type": "object",
                "additionalProperties": false,
                "required": ["probe"],
                "properties": {
                    "probe": {"type": "string", "description": "One that looks all the time."},
                    "failures": count("After so many misses in a row; 3 where it does not say."),
                },
            },
            "step": {
                "type": "object",
                "additionalProperties": false,
                "required": ["id"],
                "oneOf": work(),
                "properties": {
                    "id": {"type": "string"},
                    "do": {"$ref": "#/$defs/action"},
                    "for": {"$ref": "#/$defs/duration"},
                    "within": {"$ref": "#/$defs/duration"},
                    "background": {"type": ["boolean", "string"], "description": "The next step does not wait for it."},
                    "wait": {"type": "string", "description": "The probe that has to fire."},
                    "pause": {"$ref": "#/$defs/duration"},
                    "undo": {"type": "string", "description": "The step that is put back here."},
                    "baseline": {"type": "string", "description": "The topology's baseline whose gates have to hold."},
                    "together": {"type": "array", "items": {"$ref": "#/$defs/step"}},
                    "only": names,
                },
            },
    })
}
