//! `twin runs`.

use clap::Args;
use tracing::instrument;

use crate::cli::context::Context;
use crate::cli::failure::{DONE, Failure};
use crate::journal::Journal;
use crate::report::{RunDocument, RunsDocument};

#[derive(Debug, Args)]
pub(crate) struct Flags {}

#[instrument(skip_all)]
pub(crate) async fn run(context: &Context<'_>, _: &Flags) -> Result<u8, Failure> {
    let mut rows = Vec::new();
    // A lab's runs are on record where its files are, whatever state directory is asked for.
    for layout in context.site.all_layouts().await {
        if let Some(journal) = Journal::look(layout.state(), &context.site.drivers().clock)? {
            rows.extend(journal.runs(context.global.lab.as_deref())?);
        }
    }
    rows.sort_by(|a, b| b.started_at.cmp(&a.started_at));
    let runs: Vec<RunDocument> = rows
        .into_iter()
        .map(|row| RunDocument {
            run: row.id,
            scenario: row.scenario,
            lab: row.lab,
            seed: row.seed,
            started_at: row.started_at,
            ended_at: row.ended_at,
            verdict: row.verdict,
        })
        .collect();
    let table: Vec<Vec<String>> = runs
        .iter()
        .map(|run| {
            let verdict = run.verdict.clone().unwrap_or_else(|| "not ended".into());
            vec![
                run.run.clone(),
                run.scenario.clone(),
                run.lab.clone().unwrap_or_default(),
                verdict,
                run.seed.to_string(),
                run.started_at.clone(),
            ]
        })
        .collect();
    context.ui.table(
        &["RUN", "SCENARIO", "LAB", "VERDICT", "SEED", "STARTED"],
        &table,
    );
    context.ui.document(&RunsDocument {
        schema: "twin/runs/v1".into(),
        runs,
    });
    DONE
}
