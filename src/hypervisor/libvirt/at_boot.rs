//! Which domains libvirtd starts when this machine boots, as its files have it: it does not run yet.

use std::io;
use std::path::{Path, PathBuf};

use uuid::Uuid;

use super::xml;

/// Where libvirtd looks for the definitions of those domains.
const DIRECTORY: &str = "/etc/libvirt/qemu/autostart";

/// The domains that libvirtd is going to start, each with the link by which it does.
pub fn autostarted() -> io::Result<Vec<(Uuid, PathBuf)>> {
    listed_in(Path::new(DIRECTORY))
}

/// A process of libvirt's or of a guest's: this is not the time before them. Nothing where there is none.
pub fn running() -> Option<String> {
    let processes = std::fs::read_dir("/proc").ok()?.flatten();
    let names = processes.filter_map(|process| {
        let name = std::fs::read_to_string(process.path().join("comm")).ok()?;
        Some(name.trim().to_owned())
    });
    let mut theirs = names.filter(|name| {
        // The kernel keeps 15 letters.
        matches!(name.as_str(), "libvirtd" | "virtqemud") || name.starts_with("qemu-system-")
    });
    theirs.next()
}

fn listed_in(directory: &Path) -> io::Result<Vec<(Uuid, PathBuf)>> {
    let entries = match std::fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let link = entry?.path();
        // What libvirtd cannot read either it does not start.
        let definition = std::fs::read_to_string(&link).ok();
        if let Some((_, uuid)) = definition.and_then(|text| xml::identity(&text)) {
            found.push((uuid, link));
        }
    }
    found.sort_by(|one, other| one.1.cmp(&other.1));
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn d3_what_is_started_at_boot_is_read_from_libvirts_own_links() {
        let directory = tempfile::tempdir().expect("a directory");
        let at = |name: &str| directory.path().join(name);
        let uuid = Uuid::from_u128(7);
        let text = format!(
            "<!-- a remark -->\n<domain type='kvm'><name>a</name><uuid>{uuid}</uuid></domain>"
        );
        std::fs::create_dir(at("autostart")).expect("made");
        std::fs::write(at("a.xml"), text).expect("written");
        std::os::unix::fs::symlink(at("a.xml"), at("autostart/a.xml")).expect("linked");
        std::os::unix::fs::symlink(at("gone.xml"), at("autostart/gone.xml")).expect("linked");
        let found = listed_in(&at("autostart")).expect("read");
        assert_eq!(found, [(uuid, at("autostart/a.xml"))]);
        assert_eq!(listed_in(&at("none")).expect("none"), []);
    }
}
