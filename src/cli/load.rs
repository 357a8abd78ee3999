//! Reading scenarios from files.

use super::failure::Failure;
use super::files::scenarios;
use crate::diagnostics::Source;
use crate::report::ScenarioEntry;
use crate::scenario::{Scenario, parse as parse_scenario};

/// Reads a scenario by its path or name.
pub(crate) fn scenario(name: &str) -> Result<(Scenario, Source), Failure> {
    let files = scenarios();
    let Some(source) = files.find(name, None) else {
        let known = files.names();
        let near = crate::diagnostics::nearest(name, known.iter().map(String::as_str));
        let cure = near.map_or_else(
            || format!("there is: {}", known.join(", ")),
            |near| format!("did you mean {near}?"),
        );
        return Err(Failure::usage(
            format!("there is no scenario {name}"),
            vec![cure],
        ));
    };
    match parse_scenario(&source) {
        Ok(scenario) => Ok((scenario, source)),
        Err(problems) => {
            let what = format!("{} problem(s) in {}", problems.len(), source.name);
            Err(Failure::problems(what, problems, vec![source]))
        }
    }
}

/// All that there are, with remarks on those that cannot be listed, or are called otherwise.
pub(crate) fn all_scenarios() -> (Vec<ScenarioEntry>, Vec<String>) {
    let (mut entries, mut remarks) = (Vec::new(), Vec::new());
    for name in scenarios().names() {
        let Ok((scenario, _)) = scenario(&name) else {
            let what = format!("{name} has mistakes: `twin scenario {name} --explain` shows them");
            remarks.push(what);
            continue;
        };
        if scenario.name.as_str() != name {
            remarks.push(format!("{name} is called {} in its file", scenario.name));
        }
        let variants = scenario.variants.iter();
        entries.push(ScenarioEntry {
            // What it is run by.
            name,
            title: scenario.title.clone(),
            incident: scenario.incident.clone(),
            variants: variants.map(|variant| variant.name.clone()).collect(),
        });
    }
    (entries, remarks)
}
