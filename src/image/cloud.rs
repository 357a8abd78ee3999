//! Images from elsewhere: any qcow2 by path or URL, with a `NoCloud` seed.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hadris_iso::joliet::JolietLevel;
use hadris_iso::read::PathSeparator;
use hadris_iso::write::options::{BaseIsoLevel, CreationFeatures, IsoFormatOptions};
use hadris_iso::write::{File as IsoFile, InputFiles, IsoImageWriter};

use super::ImageError;
use super::hash::sha256_of;
use super::pins::Pins;
use super::qcow2::Qcow2;
use crate::http::{self, Limits};
use crate::storage;
use crate::units::{Mac, Mib};

/// An image of some GB over a slow line.
const DOWNLOAD: Limits = Limits {
    bytes: 64 << 30,
    time: Duration::from_secs(7200),
};

/// Where a cloud image comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// A path, or a URL.
    pub place: String,
    /// Its SHA-256, lower case.
    pub sha256: Option<String>,
}

/// The files that disks of any lab lie on.
#[derive(Clone, Debug, Default)]
pub struct Bases {
    /// Of disks that stay.
    pub kept: BTreeSet<PathBuf>,
    /// Of disks that are about to be discarded, should that be confirmed.
    pub doomed: BTreeSet<PathBuf>,
}

/// What a seed tells a guest about itself.
#[derive(Clone, Debug)]
pub struct Station {
    /// Its host name.
    pub hostname: String,
    /// A name for this guest's life: another one makes cloud-init start over.
    pub instance: String,
    /// The public key of the user `twin`.
    pub public_key: String,
    /// The guest's own host key, private and public, where twin makes it.
    pub host_key: Option<(String, String)>,
    /// Interfaces: MAC, address with prefix, gateway.
    pub nics: Vec<(Mac, Option<(Ipv4Addr, u8)>, Option<Ipv4Addr>)>,
}

impl Source {
    /// Returns the local file and its size as a guest sees it, fetched into `cache` where it is a URL (a broken download goes
    /// on where it stopped). Its hash is that which is asked for, or else the one that it had when it was first used: disks
    /// lie on it, which another file in its place would corrupt.
    /// One that no disk lies on any more, or none that is to be kept, may have been replaced.
    pub async fn local(&self, cache: &Path, bases: &Bases) -> Result<(PathBuf, Mib), ImageError> {
        let path = if self.place.contains("://") {
            self.fetched(cache).await?
        } else {
            let path = PathBuf::from(&self.place);
            if !path.is_file() {
                return Err(ImageError::SourceMissing { path });
            }
            path.canonicalize()
                .map_err(ImageError::io(format!("finding {}", path.display())))?
        };
        let size = stands_alone(&path)?;
        let (cache, wanted, pinned) = (cache.to_owned(), self.sha256.clone(), path.clone());
        let (kept, doomed) = (bases.kept.contains(&path), bases.doomed.contains(&path));
        // Gigabytes may have to be read.
        let pin = tokio::task::spawn_blocking(move || {
            let pins = Pins::of(&cache);
            if doomed && !kept {
                return Pins::check_wanted(&pinned, wanted.as_deref());
            }
            if !kept {
                pins.forget(&pinned)?;
            }
            pins.check(&pinned, wanted.as_deref())
        });
        pin.await.map_err(|error| ImageError::Tool {
            tool: "hashing an image".into(),
            why: error.to_string(),
        })??;
        Ok((path, size))
    }

    /// Fetches a URL.
    async fn fetched(&self, cache: &Path) -> Result<PathBuf, ImageError> {
        let refused = |why: String| ImageError::Source {
            path: self.place.clone(),
            why,
        };
        let Some(wanted) = &self.sha256 else {
            return Err(refused("a URL needs a sha256 beside it".into()));
        };
        let (whole, part) = (
            cache.join(format!("cloud-{wanted}.qcow2")),
            cache.join(format!("cloud-{wanted}.part")),
        );
        if whole.is_file() {
            return Ok(whole);
        }
        let stop = Arc::new(AtomicBool::new(false));
        // Given up with this future.
        let _stopper = Stopper(Arc::clone(&stop));
        let (url, to) = (self.place.clone(), part.clone());
        let fetch = tokio::task::spawn_blocking(move || http::download(&url, &to, DOWNLOAD, &stop));
        fetch
            .await
            .map_err(|error| refused(error.to_string()))?
            .map_err(|error| refused(error.to_string()))?;
        let found = sha256_of(&part)?;
        if found != *wanted {
            // What is wrong from end to end cannot be gone on with.
            let _ = std::fs::remove_file(&part);
            let wanted = wanted.clone();
            return Err(ImageError::Hash {
                path: part,
                found,
                wanted,
            });
        }
        storage::share_with_emulator(&part)
            .and_then(|()| storage::rename(&part, &whole))
            .map_err(ImageError::io(format!("keeping {}", whole.display())))?;
        Ok(whole)
    }
}

/// Ends a download when it is dropped.
struct Stopper(Arc<AtomicBool>);

impl Drop for Stopper {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Returns the size of a qcow2 as a guest sees it. One that names another file is refused: QEMU and qemu-img, as root, would
/// open whatever it names, a device of this machine or a server of its maker's.
pub(super) fn stands_alone(path: &Path) -> Result<Mib, ImageError> {
    let refused = |why: String| ImageError::Source {
        path: path.display().to_string(),
        why,
    };
    let image = Qcow2::open(path).map_err(|error| refused(error.to_string()))?;
    if let Some(backing) = &image.header().backing {
        return Err(refused(format!(
            "it is an overlay of {}",
            backing.to_string_lossy()
        )));
    }
    Ok(Mib::from_bytes_ceil(image.header().size))
}

/// Returns the files of a `NoCloud` seed.
pub fn seed_files(station: &Station) -> Vec<(&'static str, String)> {
    let mut user = serde_json::json!({
        "hostname": station.hostname,
        "ssh_pwauth": false,
        "users": [{
            "name": "twin",
            "shell": "/bin/bash",
            "sudo": "ALL=(ALL) NOPASSWD:ALL",
            "lock_passwd": true,
            "ssh_authorized_keys": [station.public_key],
        }],
    });
    if let Some((private, public)) = &station.host_key {
        user["ssh_keys"] = serde_json::json!({
            "ed25519_private": private,
            "ed25519_public": public,
        });
    }
    let ethernets: serde_json::Map<String, serde_json::Value> = station
        .nics
        .iter()
        .enumerate()
        .map(|(index, (mac, address, gateway))| {
            let mut nic = serde_json::json!({ "match": { "macaddress": mac.to_string() }, "dhcp4": address.is_none() });
            if let Some((address, prefix)) = address {
                nic["addresses"] = serde_json::json!([format!("{address}/{prefix}")]);
            }
            if let Some(gateway) = gateway {
                nic["routes"] = serde_json::json!([{ "to": "0.0.0.0/0", "via": gateway }]);
            }
            (format!("nic{index}"), nic)
        })
        .collect();
    let meta =
        serde_json::json!({ "instance-id": station.instance, "local-hostname": station.hostname });
    let network = serde_json::json!({ "version": 2, "ethernets": ethernets });
    // JSON is YAML, and needs no quoting rules of its own.
    vec![
        ("meta-data", meta.to_string()),
        ("user-data", format!("#cloud-config\n{user}\n")),
        ("network-config", network.to_string()),
    ]
}

/// Room for a seed's ISO; its files are a few KiB.
const ISO_BYTES: usize = 1 << 20;

/// Writes a seed as an ISO with the label that `NoCloud` looks for.
pub fn write_seed(station: &Station, path: &Path) -> Result<(), ImageError> {
    let files = seed_files(station)
        .into_iter()
        .map(|(name, text)| IsoFile::File {
            name: Arc::new(name.to_owned()),
            contents: text.into_bytes(),
        });
    let files = InputFiles {
        path_separator: PathSeparator::ForwardSlash,
        files: files.collect(),
    };
    let options = IsoFormatOptions {
        volume_name: "CIDATA".into(),
        system_id: None,
        volume_set_id: None,
        publisher_id: None,
        preparer_id: None,
        application_id: None,
        sector_size: 2048,
        path_separator: PathSeparator::ForwardSlash,
        features: CreationFeatures {
            filenames: BaseIsoLevel::Level1 {
                supports_lowercase: false,
                supports_rrip: false,
            },
            long_filenames: false,
            joliet: Some(JolietLevel::Level3),
            rock_ridge: None,
            el_torito: None,
            hybrid_boot: None,
        },
        strict_charset: false,
    };
    let mut buffer = std::io::Cursor::new(vec![0u8; ISO_BYTES]);
    IsoImageWriter::create(&mut buffer, files, options).map_err(|error| ImageError::Tool {
        tool: "writing the seed".into(),
        why: error.to_string(),
    })?;
    storage::write(path, &buffer.into_inner(), 0o600)
        .map_err(ImageError::io(format!("writing {}", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_holds_user_key_and_addresses() {
        let station = Station {
            hostname: "noble".into(),
            instance: "i-1".into(),
            public_key: "ssh-ed25519 AAAA twin".into(),
            host_key: Some(("PRIVATE".into(), "ssh-ed25519 BBBB host".into())),
            nics: vec![(
                Mac([0x52, 0x54, 0, 1, 2, 3]),
                Some((Ipv4Addr::new(10, 12, 8, 70), 22)),
                Some(Ipv4Addr::new(10, 12, 8, 1)),
            )],
        };
        let files = seed_files(&station);
        assert!(files[1].1.contains("ssh-ed25519 AAAA twin"));
        assert!(files[1].1.contains("\"ed25519_private\":\"PRIVATE\""));
        assert!(files[2].1.contains("10.12.8.70/22"));
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("seed.iso");
        write_seed(&station, &path).expect("written");
        let bytes = std::fs::read(&path).expect("there");
        assert_eq!(&bytes[0x8001..0x8006], b"CD001");
        assert_eq!(&bytes[0x8028..0x802e], b"CIDATA");
    }

    fn image(directory: &Path, name: &str, backing: Option<&str>) -> PathBuf {
        let path = directory.join(name);
        let mut make = std::process::Command::new("qemu-img");
        make.args(["create", "-q", "-f", "qcow2"]);
        if let Some(backing) = backing {
            make.args(["-u", "-b", backing, "-F", "raw"]);
        }
        let made = make.arg(&path).arg("1M").status().expect("qemu-img runs");
        assert!(made.success());
        path
    }

    fn source(place: &Path, sha256: Option<&str>) -> Source {
        Source {
            place: place.to_string_lossy().into_owned(),
            sha256: sha256.map(str::to_owned),
        }
    }

    #[tokio::test]
    async fn a_wrong_hash_is_named_with_both() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = image(directory.path(), "image.qcow2", None);
        let right = sha256_of(&path).expect("hashed");
        let found = source(&path, Some(&right))
            .local(directory.path(), &Bases::default())
            .await;
        assert_eq!(found.expect("right").1, Mib(1));
        let wrong = source(&path, Some(&"0".repeat(64)));
        let wrong = wrong.local(directory.path(), &Bases::default()).await;
        assert!(matches!(wrong, Err(ImageError::Hash { found, .. }) if found == right));
    }

    #[tokio::test]
    async fn b5_an_image_that_names_another_file_is_refused_before_any_tool_opens_it() {
        let directory = tempfile::tempdir().expect("a directory");
        for (name, backing) in [("file", "/etc/shadow"), ("server", "nbd://127.0.0.1:9")] {
            let path = image(directory.path(), name, Some(backing));
            let refused = source(&path, None)
                .local(directory.path(), &Bases::default())
                .await;
            let said = refused.expect_err("an overlay").to_string();
            assert!(said.contains(backing), "{said}");
        }
        let raw = directory.path().join("raw");
        std::fs::write(&raw, vec![0; 1 << 20]).expect("written");
        assert!(
            source(&raw, None)
                .local(directory.path(), &Bases::default())
                .await
                .is_err()
        );
        // One whose data are in another file.
        let data = directory.path().join("data");
        let path = directory.path().join("split");
        let made = std::process::Command::new("qemu-img")
            .args(["create", "-q", "-f", "qcow2", "-o"])
            .arg(format!("data_file={},data_file_raw=on", data.display()))
            .arg(&path)
            .arg("1M")
            .status()
            .expect("qemu-img runs");
        assert!(made.success());
        assert!(
            source(&path, None)
                .local(directory.path(), &Bases::default())
                .await
                .is_err()
        );
    }

    #[tokio::test]
    async fn a5_a_source_that_is_replaced_is_told() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = image(directory.path(), "image.qcow2", None);
        let used = Bases {
            kept: BTreeSet::from([path.canonicalize().expect("there")]),
            ..Bases::default()
        };
        let unpinned = source(&path, None);
        unpinned
            .local(directory.path(), &used)
            .await
            .expect("pinned");
        unpinned
            .local(directory.path(), &used)
            .await
            .expect("as it was");
        // Touched, and copied to another inode: the content counts.
        let bytes = std::fs::read(&path).expect("read");
        std::fs::remove_file(&path).expect("removed");
        std::fs::write(&path, &bytes).expect("written");
        unpinned
            .local(directory.path(), &used)
            .await
            .expect("the same bytes");
        let mut other = bytes;
        other.resize(other.len() + 512, 1);
        std::fs::write(&path, &other).expect("written");
        let told = unpinned.local(directory.path(), &used).await;
        assert!(matches!(told, Err(ImageError::Replaced { .. })), "{told:?}");
        let known = Pins::of(directory.path()).check_known(&path);
        assert!(
            matches!(known, Err(ImageError::Replaced { .. })),
            "{known:?}"
        );
        // Where its disks are to be discarded it may be another, and its pin holds until they are.
        let doomed = Bases {
            doomed: used.kept.clone(),
            ..Bases::default()
        };
        let pins = Pins::of(directory.path());
        unpinned
            .local(directory.path(), &doomed)
            .await
            .expect("it is to be replaced");
        assert!(
            pins.check_known(&path).is_err(),
            "the old pin holds until the disks are discarded"
        );
        pins.renew(&path).expect("pinned anew");
        pins.check_known(&path)
            .expect("it is what it was pinned as");
        other.resize(other.len() + 512, 1);
        std::fs::write(&path, &other).expect("written");
        // Once no disk lies on it any more, another one may take its place.
        let anew = unpinned.local(directory.path(), &Bases::default()).await;
        assert!(anew.is_ok(), "{anew:?}");
        assert!(unpinned.local(directory.path(), &used).await.is_ok());
    }
}
