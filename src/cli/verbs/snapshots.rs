//! `twin snapshots`.

use clap::Args;

use crate::cli::context::Context;
use crate::cli::failure::{DONE, Failure};
use crate::cli::show::baseline::size;
use crate::lab::{Found, Silent};
use crate::report::{ListedDocument, SnapshotsDocument};
use crate::snapshot::{self, Listed};

#[derive(Debug, Args)]
pub(crate) struct Flags {}

pub(crate) async fn run(context: &Context<'_>, _: &Flags) -> Result<u8, Failure> {
    let found = context.site.lab().await?;
    let baselines = snapshot::list(context.site.layout(), found.record.uuid)?;
    let rows: Vec<Vec<String>> = baselines
        .iter()
        .map(|listed| row(context, listed))
        .collect();
    let heads = ["BASELINE", "AGE", "RUNG", "HOSTS", "SIZE", "OWN", "NOTE"];
    let total = snapshot::total(context.site.layout(), found.record.uuid);
    let missing: Vec<String> = context
        .site
        .layout()
        .expected_baselines(found.record.uuid)
        .into_iter()
        .map(|baseline| baseline.name.to_string())
        .filter(|name| baselines.iter().all(|listed| listed.name != *name))
        .collect();
    if rows.is_empty() {
        context
            .ui
            .text("there are no baselines; `twin snapshot NAME` takes one\n");
    } else {
        context.ui.table(&heads, &rows);
    }
    if let Some(bytes) = total.filter(|_| !rows.is_empty()) {
        let text = format!("{} together, shared blocks counted once\n", size(bytes));
        context.ui.text(&text);
    }
    let needs = needing(context, &found).await;
    for (name, why) in &needs {
        context.ui.text(&format!(
            "{name} needs another QEMU: {why}; `twin restore {name} --force` tries it\n"
        ));
    }
    for name in &missing {
        context
            .ui
            .text(&format!("expected by the topology and not taken: {name}\n"));
    }
    context.ui.document(&SnapshotsDocument {
        schema: "twin/snapshots/v1".into(),
        lab: found.record.name.to_string(),
        baselines: baselines
            .iter()
            .map(|listed| document(listed, &needs))
            .collect(),
        total_bytes: total,
        missing,
    });
    DONE
}

/// The baselines that another QEMU has saved; none where the hosts cannot be asked, as a user who may only look.
async fn needing(context: &Context<'_>, found: &Found) -> Vec<(String, String)> {
    let Ok(Some(journal)) = context.site.journal_if_there() else {
        return Vec::new();
    };
    let set = context.site.set(found, &journal, &Silent);
    snapshot::need_another_emulator(&set)
        .await
        .unwrap_or_default()
}

fn row(context: &Context<'_>, listed: &Listed) -> Vec<String> {
    let own = listed.own_bytes.map_or_else(|| "-".into(), size);
    match &listed.manifest {
        Ok(manifest) => vec![
            listed.name.clone(),
            age(context, &manifest.created_at),
            manifest.rung.to_string(),
            manifest.hosts.len().to_string(),
            size(listed.files_bytes),
            own,
            manifest.note.clone().unwrap_or_default(),
        ],
        Err(why) => vec![
            listed.name.clone(),
            "-".into(),
            "DAMAGED".into(),
            "-".into(),
            size(listed.files_bytes),
            own,
            why.clone(),
        ],
    }
}

/// How long ago something was, in its largest unit.
fn age(context: &Context<'_>, created_at: &str) -> String {
    let Ok(then) = created_at.parse::<jiff::Timestamp>() else {
        return "-".into();
    };
    let seconds = context
        .site
        .drivers()
        .clock
        .now()
        .duration_since(then)
        .as_secs();
    match seconds {
        ..60 => format!("{seconds} s"),
        60..3600 => format!("{} min", seconds / 60),
        3600..86_400 => format!("{} h", seconds / 3600),
        _ => format!("{} d", seconds / 86_400),
    }
}

fn document(listed: &Listed, needs: &[(String, String)]) -> ListedDocument {
    let manifest = listed.manifest.as_ref().ok();
    ListedDocument {
        name: listed.name.clone(),
        created_at: manifest.map(|manifest| manifest.created_at.clone()),
        rung: manifest.map(|manifest| manifest.rung.to_string()),
        note: manifest.and_then(|manifest| manifest.note.clone()),
        hosts: manifest.map_or(0, |manifest| manifest.hosts.len()),
        bytes: listed.files_bytes,
        own_bytes: listed.own_bytes,
        damage: listed.manifest.as_ref().err().cloned(),
        needs_emulator: needs
            .iter()
            .find(|(name, _)| *name == listed.name)
            .map(|(_, why)| why.clone()),
    }
}
