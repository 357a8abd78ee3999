//! Images from elsewhere: any qcow2 by path or URL, with a `NoCloud` seed.

use std::fmt::Write as _;
use std::fs::File;
use std::io::Read;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hadris_iso::joliet::JolietLevel;
use hadris_iso::read::PathSeparator;
use hadris_iso::write::options::{BaseIsoLevel, CreationFeatures, IsoFormatOptions};
use hadris_iso::write::{File as IsoFile, InputFiles, IsoImageWriter};
use sha2::{Digest, Sha256};
use tokio::process::Command;

use super::ImageError;
use super::packages::run;
use crate::units::Mac;

/// An image of some GB over a slow line.
const DOWNLOAD: Duration = Duration::from_secs(7200);

/// Where a cloud image comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// A path, or a URL.
    pub place: String,
    /// Its SHA-256, lower case.
    pub sha256: Option<String>,
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
    /// Interfaces: MAC, address with prefix, gateway.
    pub nics: Vec<(Mac, Option<(Ipv4Addr, u8)>, Option<Ipv4Addr>)>,
}

impl Source {
    fn is_url(&self) -> bool {
        self.place.contains("://")
    }

    /// Returns the local file, fetched into `cache` where it is a URL (a broken download goes on where it stopped), its
    /// hash checked.
    pub async fn local(&self, cache: &Path) -> Result<PathBuf, ImageError> {
        if !self.is_url() {
            let path = PathBuf::from(&self.place);
            if !path.is_file() {
                return Err(ImageError::SourceMissing { path });
            }
            let path = path
                .canonicalize()
                .map_err(ImageError::io(format!("finding {}", path.display())))?;
            self.verify(&path)?;
            return Ok(path);
        }
        let Some(wanted) = &self.sha256 else {
            return Err(ImageError::SourceMissing {
                path: PathBuf::from(&self.place),
            });
        };
        let (whole, part) = (
            cache.join(format!("cloud-{wanted}.qcow2")),
            cache.join(format!("cloud-{wanted}.part")),
        );
        if whole.is_file() {
            return Ok(whole);
        }
        let mut fetch = Command::new("curl");
        fetch
            .args([
                "--fail",
                "--location",
                "--silent",
                "--show-error",
                "--retry",
                "5",
                "--continue-at",
                "-",
                "--output",
            ])
            .arg(&part)
            .arg(&self.place);
        run(&mut fetch, DOWNLOAD).await?;
        if let Err(error) = self.verify(&part) {
            // What is wrong from end to end cannot be gone on with.
            let _ = std::fs::remove_file(&part);
            return Err(error);
        }
        std::fs::rename(&part, &whole)
            .map_err(ImageError::io(format!("keeping {}", whole.display())))?;
        Ok(whole)
    }

    fn verify(&self, path: &Path) -> Result<(), ImageError> {
        let Some(wanted) = &self.sha256 else {
            return Ok(());
        };
        let found = sha256_of(path)?;
        if found == *wanted {
            return Ok(());
        }
        Err(ImageError::Hash {
            path: path.to_owned(),
            found,
            wanted: wanted.clone(),
        })
    }
}

/// Returns a file's SHA-256 in hex.
pub(super) fn sha256_of(path: &Path) -> Result<String, ImageError> {
    let mut file =
        File::open(path).map_err(ImageError::io(format!("opening {}", path.display())))?;
    let mut hash = Sha256::new();
    let mut piece = vec![0u8; 1 << 20];
    loop {
        match file
            .read(&mut piece)
            .map_err(ImageError::io(format!("reading {}", path.display())))?
        {
            0 => break,
            length => hash.update(&piece[..length]),
        }
    }
    Ok(hex(&hash.finalize()))
}

/// Bytes in hex.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a String does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Returns the files of a `NoCloud` seed.
pub fn seed_files(station: &Station) -> Vec<(&'static str, String)> {
    let user = serde_json::json!({
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
            name: std::sync::Arc::new(name.to_owned()),
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
    std::fs::write(path, buffer.into_inner())
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
            nics: vec![(
                Mac([0x52, 0x54, 0, 1, 2, 3]),
                Some((Ipv4Addr::new(10, 12, 8, 70), 22)),
                Some(Ipv4Addr::new(10, 12, 8, 1)),
            )],
        };
        let files = seed_files(&station);
        assert!(files[1].1.contains("ssh-ed25519 AAAA twin"));
        assert!(files[2].1.contains("10.12.8.70/22"));
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("seed.iso");
        write_seed(&station, &path).expect("written");
        let bytes = std::fs::read(&path).expect("there");
        assert_eq!(&bytes[0x8001..0x8006], b"CD001");
        assert_eq!(&bytes[0x8028..0x802e], b"CIDATA");
    }

    #[tokio::test]
    async fn a_wrong_hash_is_named_with_both() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("image.qcow2");
        std::fs::write(&path, b"abc").expect("written");
        let source = |sha256: &str| Source {
            place: path.to_string_lossy().into_owned(),
            sha256: Some(sha256.to_owned()),
        };
        let right = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert!(source(right).local(directory.path()).await.is_ok());
        let wrong = source(&"0".repeat(64)).local(directory.path()).await;
        assert!(matches!(wrong, Err(ImageError::Hash { found, .. }) if found == right));
    }
}
