//! Documents that twin prints without a lab validate against `twin schema`. Those of a lab are validated in tests/live.

use crate::support::{text, twin};

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
