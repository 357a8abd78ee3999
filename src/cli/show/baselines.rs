//! A list of baselines.

use jiff::Timestamp;

use super::baseline::size;
use crate::cli::ui::Ui;
use crate::report::{ListedDocument, SnapshotsDocument};
use crate::snapshot::Listed;

/// What is listed of a lab's baselines.
pub(crate) struct List {
    /// The lab.
    pub(crate) lab: String,
    /// When it is listed.
    pub(crate) now: Timestamp,
    pub(crate) baselines: Vec<Listed>,
    /// What all of them take together.
    pub(crate) total: Option<u64>,
    /// Those that another QEMU has saved, with how it differs.
    pub(crate) needs: Vec<(String, String)>,
    /// Those that the topology expects and that are not there.
    pub(crate) missing: Vec<String>,
}

/// Prints it.
pub(crate) fn list(ui: &Ui, list: List) {
    let List {
        lab,
        now,
        baselines,
        total,
        needs,
        missing,
    } = list;
    let rows: Vec<Vec<String>> = baselines.iter().map(|listed| row(now, listed)).collect();
    let heads = ["BASELINE", "AGE", "RUNG", "HOSTS", "SIZE", "OWN", "NOTE"];
    if rows.is_empty() {
        ui.text("there are no baselines; `twin snapshot NAME` takes one\n");
    } else {
        ui.table(&heads, &rows);
    }
    if let Some(bytes) = total.filter(|_| !rows.is_empty()) {
        let text = format!("{} together, shared blocks counted once\n", size(bytes));
        ui.text(&text);
    }
    for (name, why) in &needs {
        ui.text(&format!(
            "{name} needs another QEMU: {why}; `twin restore {name} --force` tries it\n"
        ));
    }
    for name in &missing {
        ui.text(&format!("expected by the topology and not taken: {name}\n"));
    }
    let listed = baselines.iter().map(|listed| document(listed, &needs));
    ui.document(&SnapshotsDocument {
        schema: "twin/snapshots/v1".into(),
        lab,
        baselines: listed.collect(),
        total_bytes: total,
        missing,
    });
}

fn row(now: Timestamp, listed: &Listed) -> Vec<String> {
    let own = listed.own_bytes.map_or_else(|| "-".into(), size);
    match &listed.manifest {
        Ok(manifest) => vec![
            listed.name.clone(),
            age(now, &manifest.created_at),
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
fn age(now: Timestamp, created_at: &str) -> String {
    let Ok(then) = created_at.parse::<Timestamp>() else {
        return "-".into();
    };
    let seconds = now.duration_since(then).as_secs();
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
