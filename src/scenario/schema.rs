//! The JSON Schema of scenario files, for editors. Faults and probes and their arguments are those that their own files have.

use schemars::SchemaGenerator;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use super::arguments::Arguments;
use super::expect::Expect;
use super::probe_entry::Phase;
use super::{fault, probe};

/// The words of a choice.
fn words<T>(all: &[(&'static str, T)]) -> Vec<&'static str> {
    all.iter().map(|(word, _)| *word).collect()
}

/// A count, which may be a variable.
fn count(what: &str) -> Value {
    json!({"type": ["integer", "string"], "description": what})
}

/// A generator of schemas that are whole in themselves.
fn generator() -> SchemaGenerator {
    let inline = |settings: &mut SchemaSettings| settings.inline_subschemas = true;
    SchemaSettings::draft2020_12().with(inline).into_generator()
}

/// The schemas of arguments, by the name of what has them. Any of these may be a variable.
fn arguments(all: fn(&mut SchemaGenerator) -> Vec<Arguments>) -> Map<String, Value> {
    let of = |one: Arguments| {
        let mut schema = one.schema.to_value();
        let properties = schema.get_mut("properties").and_then(Value::as_object_mut);
        for property in properties.into_iter().flat_map(Map::values_mut) {
            variable(property);
        }
        schema["additionalProperties"] = json!(false);
        (one.name.to_owned(), schema)
    };
    all(&mut generator()).into_iter().map(of).collect()
}

/// The tables of scenarios/README.md: all faults, and all probes.
pub fn reference() -> [String; 2] {
    let paragraphs = |one: &Arguments| -> Vec<String> {
        let description = one.schema.get("description").and_then(Value::as_str);
        let paragraphs = description.unwrap_or_default().split("\n\n");
        let plain = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        paragraphs
            .map(|text| plain(text.trim_end_matches('.')))
            .collect()
    };
    let row = |one: &Arguments, lead: &str| {
        let told = paragraphs(one);
        let told: Vec<&str> = told
            .iter()
            .map(|text| text.trim_start_matches(lead))
            .collect();
        let keys = one.keys.known.join(", ");
        format!("| `{} {{{keys}}}` | {} |\n", one.name, told.join(" | "))
    };
    let table = |head: &str, rows: Vec<String>| format!("{head}\n{}", rows.concat());
    let faults = fault::arguments(&mut generator());
    let faults = faults.iter().map(|one| row(one, "Revert: ")).collect();
    let probes = probe::arguments(&mut generator());
    let probes = probes.iter().map(|one| row(one, "Fires when ")).collect();
    [
        table("| fault | does | its revert |\n| --- | --- | --- |", faults),
        table("| probe | fires when |\n| --- | --- |", probes),
    ]
}

/// Lets a value be a variable too, and a number be written as a text.
fn variable(value: &mut Value) {
    if let Some(items) = value.get_mut("items") {
        variable(items);
    }
    let number = ["integer", "number"].iter().any(|kind| {
        let of = &value["type"];
        *of == **kind || of.as_array().is_some_and(|all| all.contains(&json!(kind)))
    });
    let also = if number { "number" } else { "variable" };
    let also = format!("#/$defs/{also}");
    *value = json!({"anyOf": [value.take(), {"$ref": also}]});
}

/// A mapping with just one of these keys.
fn one_of(properties: &Map<String, Value>) -> Value {
    json!({
        "type": "object",
        "additionalProperties": false,
        "minProperties": 1,
        "maxProperties": 1,
        "properties": properties,
    })
}

/// A probe bears its arguments beside its id.
fn probe(all: Map<String, Value>) -> Value {
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
    let one: Vec<Value> = all.keys().map(|name| json!({"required": [name]})).collect();
    properties.extend(all);
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
            "action": one_of(&arguments(fault::arguments)),
            "variable": {"type": "string", "pattern": r"\$\{"},
            "number": {"type": "string", "pattern": r"^-?[0-9.]+$|\$\{"},
            "probe": probe(arguments(probe::arguments)),
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
