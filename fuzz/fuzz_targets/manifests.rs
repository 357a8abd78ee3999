//! Manifests of baselines: as they are, and with a checksum that is right.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sha2::{Digest, Sha256};
use twin::lab::Layout;
use twin::snapshot;
use uuid::Uuid;

thread_local! {
    static DIRECTORY: tempfile::TempDir = tempfile::tempdir_in("/dev/shm").expect("a directory");
}

fuzz_target!(|text: &[u8]| {
    DIRECTORY.with(|directory| {
        let layout = Layout::new(directory.path().to_owned());
        let place = layout.baselines(Uuid::nil()).join("one");
        std::fs::create_dir_all(&place).expect("made");
        let read = |text: &[u8]| {
            std::fs::write(place.join("manifest.json"), text).expect("written");
            let shown = snapshot::shown(&layout, Uuid::nil(), "one");
            let listed = snapshot::list(&layout, Uuid::nil()).expect("listed");
            assert_eq!(listed.len(), 1);
            assert_eq!(listed[0].manifest.is_ok(), shown.is_ok());
            shown.is_ok()
        };
        if let Ok(manifest) = serde_json::from_slice::<serde_json::Value>(text) {
            let sum = Sha256::digest(manifest.to_string());
            let sum: String = sum.iter().map(|byte| format!("{byte:02x}")).collect();
            let sealed = serde_json::json!({"sha256": sum, "manifest": manifest});
            read(sealed.to_string().as_bytes());
        }
        // Nothing passes without its checksum.
        if read(text) {
            let sealed: serde_json::Value = serde_json::from_slice(text).expect("it was read");
            let sum = Sha256::digest(sealed["manifest"].to_string());
            let sum: String = sum.iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(sealed["sha256"], sum);
        }
    });
});
