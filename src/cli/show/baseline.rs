//! A baseline.

use crate::hypervisor::Memory;
use crate::report::{BaselineDocument, BaselineFileDocument, BaselineHostDocument};
use crate::snapshot::{HostRecord, Manifest};

/// A size as people read it.
pub(crate) fn size(bytes: u64) -> String {
    match bytes {
        0..1024 => format!("{bytes} B"),
        1024..1_048_576 => format!("{} KiB", bytes >> 10),
        _ => crate::units::Mib::from_bytes_ceil(bytes).to_string(),
    }
}

const fn memory_word(memory: Memory) -> &'static str {
    match memory {
        Memory::File => "file",
        Memory::Stream => "stream",
        Memory::None => "none",
    }
}

/// A host of it, as documents have it.
pub(crate) fn host_document(host: &HostRecord) -> BaselineHostDocument {
    let disks = host.disks.iter().map(|disk| BaselineFileDocument {
        path: disk.state.path.display().to_string(),
        bytes: disk.state.content_bytes + disk.state.state_bytes,
        sha256: disk.state.content_sha256.clone().unwrap_or_default(),
    });
    let own = host
        .ram
        .iter()
        .chain(host.nvram.iter().map(|(file, _)| file));
    let below = host.disks.iter().flat_map(|disk| &disk.chain);
    let files = own.chain(below).chain(&host.read_only);
    let files = files.map(|file| BaselineFileDocument {
        path: file.path.display().to_string(),
        bytes: file.bytes,
        sha256: file.sha256.clone(),
    });
    BaselineHostDocument {
        name: host.name.clone(),
        power: host.power,
        memory: memory_word(host.memory).into(),
        machine: host.machine.clone(),
        files: disks.chain(files).collect(),
    }
}

/// As a document.
pub(crate) fn document(manifest: &Manifest) -> BaselineDocument {
    BaselineDocument {
        schema: "twin/baseline/v1".into(),
        name: manifest.name.clone(),
        id: manifest.id,
        lab: manifest.lab_name.clone(),
        note: manifest.note.clone(),
        created_at: manifest.created_at.clone(),
        rung: manifest.rung.to_string(),
        reasons: manifest.reasons.clone(),
        hypervisor: manifest.hypervisor.clone(),
        library: manifest.library.clone(),
        cpu: manifest.cpu.clone(),
        set_pause_ms: manifest.set_pause_ms,
        hosts: manifest.hosts.iter().map(host_document).collect(),
    }
}

/// In words.
pub(crate) fn text(manifest: &Manifest) -> String {
    let mut text = format!(
        "{} of {}, taken {} by {}\n{}, {}\n{}\n",
        manifest.name,
        manifest.lab_name,
        manifest.taken(),
        manifest.rung,
        manifest.hypervisor,
        manifest.library,
        manifest.cpu
    );
    if let Some(note) = &manifest.note {
        text.push_str(&format!("note: {note}\n"));
    }
    for reason in &manifest.reasons {
        text.push_str(&format!("why not better: {reason}\n"));
    }
    for host in &manifest.hosts {
        let document = host_document(host);
        text.push_str(&format!(
            "\n{}: {:?}, {}, memory: {}\n",
            host.name, host.power, host.machine, document.memory
        ));
        for file in document.files {
            text.push_str(&format!("  {:>10}  {}\n", size(file.bytes), file.path));
        }
    }
    text
}
