//! Documents that twin prints without a lab validate against `twin schema`. Those of a lab are validated in tests/live.

use serde_json::{Value as Json, json};
use twin::diagnostics::{Node, Value, parse};

use crate::binary::twin;
use crate::support::{root, text};

pub(crate) fn valid(directory: &std::path::Path, schema: &str, document: &[u8]) {
    let schema_text = twin(directory, &["schema", schema]).stdout;
    let schema_value: serde_json::Value = serde_json::from_slice(&schema_text).expect("a schema");
    let document: serde_json::Value = serde_json::from_slice(document)
        .unwrap_or_else(|error| panic!("{error}: {}", text(document)));
    let validator = jsonschema::validator_for(&schema_value).expect("a valid schema");
    let errors: Vec<String> = validator
        .iter_errors(&document)
        .map(|error| error.to_string())
        .collect();
    assert!(errors.is_empty(), "{schema}: {errors:?}");
    assert!(
        document["schema"]
            .as_str()
            .is_some_and(|name| name.starts_with("twin/")),
        "{document}"
    );
}

#[test]
fn documents_without_a_lab_validate() {
    let directory = tempfile::tempdir().unwrap();
    valid(
        directory.path(),
        "scenarios",
        &twin(directory.path(), &["--json", "scenario"]).stdout,
    );
    valid(
        directory.path(),
        "runs",
        &twin(directory.path(), &["--json", "runs"]).stdout,
    );
    let failed = twin(directory.path(), &["--json", "up", "no-such-topology"]);
    assert_eq!(failed.status.code(), Some(2));
    valid(directory.path(), "error", &failed.stdout);
}

/// What a YAML file says, as JSON.
fn json_of(node: &Node) -> Json {
    match &node.value {
        Value::Null => Json::Null,
        Value::Bool(is) => json!(is),
        Value::Number(number) => number.parse().map_or_else(|_| json!(number), Json::Number),
        Value::Text(text) => json!(text),
        Value::List(items) => items.iter().map(json_of).collect(),
        Value::Map(entries) => entries
            .iter()
            .map(|(key, node)| (key.text.clone(), json_of(node)))
            .collect(),
    }
}

fn validator_of(kind: &str) -> jsonschema::Validator {
    let directory = tempfile::tempdir().unwrap();
    let printed = twin(directory.path(), &["schema", kind]).stdout;
    jsonschema::validator_for(&serde_json::from_slice(&printed).unwrap()).unwrap()
}

fn yaml_files(folder: &str) -> Vec<(String, Json)> {
    let entries = std::fs::read_dir(root().join(folder)).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    let yaml = paths.filter(|path| path.extension().is_some_and(|kind| kind == "yaml"));
    yaml.filter_map(|path| {
        let tree = parse(0, &std::fs::read_to_string(&path).unwrap()).ok()?;
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        Some((name, json_of(&tree)))
    })
    .collect()
}

#[test]
fn topologies_and_scenarios_validate_against_their_schemas() {
    all_validate("topology", &yaml_files("topologies"), 3);
    all_validate("scenario", &yaml_files("scenarios"), 5);
}

fn all_validate(kind: &str, files: &[(String, Json)], least: usize) {
    let validator = validator_of(kind);
    assert!(files.len() >= least, "{kind}");
    for (name, document) in files {
        let errors: Vec<String> = validator
            .iter_errors(document)
            .map(|error| error.to_string())
            .collect();
        assert!(errors.is_empty(), "{name}: {errors:?}");
    }
}

#[test]
fn mistakes_of_form_do_not_validate() {
    let validator = validator_of("topology");
    let of_form = [
        "unknown-key",
        "missing-key",
        "wrong-type",
        "bad-value",
        "schema",
    ];
    let mut tried = 0;
    for (name, document) in yaml_files("tests/suite/golden/topology") {
        // What bits a prefix leaves over is beyond a schema.
        let kind = name.split('.').next().unwrap();
        if of_form.contains(&kind) && name != "bad-value.cidr" {
            assert!(!validator.is_valid(&document), "{name}");
            tried += 1;
        }
    }
    assert!(tried >= of_form.len(), "{tried}");
}

#[test]
fn mistakes_of_form_in_scenarios_do_not_validate() {
    let validator = validator_of("scenario");
    let files = yaml_files("scenarios");
    let (_, good) = files
        .iter()
        .find(|(name, _)| name == "oom-openstack1")
        .unwrap();
    assert!(validator.is_valid(good));
    let wrong = |path: &str, value: Json| {
        let mut document = good.clone();
        *document
            .pointer_mut(path)
            .unwrap_or_else(|| panic!("{path}")) = value;
        assert!(!validator.is_valid(&document), "{path}");
    };
    wrong("/schema", json!("twin/scenario/v2"));
    wrong(
        "/steps/1/do",
        json!({"compute-reserv": {"host": "a", "memory": "1GiB"}}),
    );
    wrong("/steps/1/do", json!({"compute-reserve": {"host": "a"}}));
    wrong(
        "/steps/1/do/compute-reserve",
        json!({"host": "a", "memory": "1GiB", "memroy": 1}),
    );
    wrong(
        "/steps/1",
        json!({"id": "two", "pause": "1s", "wait": "oom-kill"}),
    );
    wrong("/probes/0", json!({"id": "none"}));
    wrong(
        "/probes/0",
        json!({"id": "two", "exec": {"host": "a", "command": "true"}, "process": {"host": "a", "name": "b", "is": "runs"}}),
    );
    wrong("/variants/bug/expect/oom-kill", json!("fired"));
}

/// Every key that the parser takes is in the schema.
#[test]
fn the_schema_lacks_no_key() {
    let parser = std::fs::read_to_string(root().join("src/topology/parse.rs")).unwrap();
    let takes = regex::Regex::new(
        r#"(?s)(?:optional|required)\(\s*"([^"]+)"|&mut fields,\s*"([^"]+)"|\bfields,\s*"([^"]+)","#,
    )
    .unwrap();
    let keys: std::collections::BTreeSet<&str> = takes
        .captures_iter(&parser)
        .filter_map(|found| found.iter().skip(1).flatten().next())
        .map(|key| key.as_str())
        .collect();
    assert!(keys.len() > 30, "{keys:?}");
    let missing: Vec<&&str> = keys
        .iter()
        .filter(|key| !twin::topology::SCHEMA.contains(&format!("\"{key}\":")))
        .collect();
    assert!(missing.is_empty(), "{missing:?}");
}
