//! The qcow2 reader beside qemu-img and imago, and on files that are damaged.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use twin::image::qcow2::{MAX_DEPTH, Qcow2, Qcow2Error, chain};

fn qemu_img(arguments: &[&str]) -> String {
    let output = Command::new("qemu-img").args(arguments).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "qemu-img {arguments:?}: {said}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Makes an image with content at a few places.
fn image(directory: &Path, name: &str, options: &str) -> PathBuf {
    let (raw, file) = (directory.join("raw"), directory.join(name));
    let content = File::create(&raw).unwrap();
    content.set_len(64 << 20).unwrap();
    for (at, byte) in [
        (0, 1u8),
        (1 << 20, 2),
        (33 << 20, 3),
        ((64 << 20) - 4096, 4),
    ] {
        content.write_all_at(&[byte; 4096], at).unwrap();
    }
    qemu_img(&[
        "convert",
        "-O",
        "qcow2",
        "-o",
        options,
        path(&raw),
        path(&file),
    ]);
    file
}

const OPTIONS: [&str; 5] = [
    "compat=v3",
    "compat=0.10",
    "extended_l2=on,cluster_size=128k",
    "cluster_size=4k,refcount_bits=64",
    "refcount_bits=1",
];

#[test]
fn headers_and_snapshots_are_read_as_qemu_img_reads_them() {
    let directory = tempfile::tempdir().unwrap();
    for options in OPTIONS {
        let file = image(directory.path(), "a.qcow2", options);
        if !options.contains("refcount_bits=1") {
            qemu_img(&["snapshot", "-c", "first", path(&file)]);
            qemu_img(&["snapshot", "-c", "second one", path(&file)]);
        }
        let told: serde_json::Value =
            serde_json::from_str(&qemu_img(&["info", "--output=json", path(&file)])).unwrap();
        let read = Qcow2::open(&file).unwrap();
        assert_eq!(told["virtual-size"], read.header().size, "{options}");
        assert_eq!(
            told["cluster-size"],
            read.header().cluster_bytes(),
            "{options}"
        );
        let data = &told["format-specific"]["data"];
        assert_eq!(data["refcount-bits"], 1u64 << read.header().refcount_order);
        assert_eq!(
            data["extended-l2"].as_bool().unwrap_or(false),
            read.header().incompatible.extended_l2()
        );
        let names: Vec<String> = read
            .snapshots()
            .unwrap()
            .into_iter()
            .map(|snapshot| snapshot.name)
            .collect();
        let known = told["snapshots"].as_array().cloned().unwrap_or_default();
        let known: Vec<&str> = known
            .iter()
            .map(|one| one["name"].as_str().unwrap())
            .collect();
        assert_eq!(names, known, "{options}");
        assert_eq!(read.undercounted().unwrap(), Vec::<u64>::new(), "{options}");
    }
}

#[test]
fn device_state_that_a_snapshot_has_too_is_counted_until_it_is_written_anew() {
    let directory = tempfile::tempdir().unwrap();
    let options = OPTIONS.iter().filter(|options| !options.contains("bits=1"));
    for options in options {
        let file = image(directory.path(), "a.qcow2", options);
        let shared = || Qcow2::open(&file).unwrap().shared_vm_state().unwrap();
        let write = |at: &str| {
            let act = format!("write -q -b -P 7 {at} 256k");
            let mut command = Command::new("qemu-io");
            command.args(["-f", "qcow2", "-c", &act, path(&file)]);
            assert!(command.status().unwrap().success(), "{act}");
        };
        assert_eq!(shared(), 0, "{options}: there is none");
        write("0");
        write("1M");
        assert_eq!(shared(), 0, "{options}: there is no snapshot");
        qemu_img(&["snapshot", "-c", "first", path(&file)]);
        assert_eq!(shared(), 1280 << 10, "{options}: all is the snapshot's too");
        write("1M");
        assert_eq!(shared(), 256 << 10, "{options}: the first part is still");
        write("0");
        assert_eq!(shared(), 0, "{options}: nothing is any more");
        qemu_img(&["snapshot", "-a", "first", path(&file)]);
        assert_eq!(shared(), 1280 << 10, "{options}: loaded again");
    }
}

#[test]
fn imago_sees_the_same_image() {
    use imago::SyncFormatAccess;
    use imago::file::File as ImagoFile;
    use imago::qcow2::Qcow2 as ImagoQcow2;
    let directory = tempfile::tempdir().unwrap();
    // imago knows no extended L2.
    for options in OPTIONS
        .iter()
        .filter(|options| !options.contains("extended"))
    {
        let file = image(directory.path(), "a.qcow2", options);
        if !options.contains("refcount_bits=1") {
            qemu_img(&["snapshot", "-c", "cut", path(&file)]);
        }
        let read = Qcow2::open(&file).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        let opened = runtime.block_on(ImagoQcow2::<ImagoFile>::open_path(&file, false));
        let seen = SyncFormatAccess::new(opened.unwrap()).unwrap();
        assert_eq!(seen.size(), read.header().size, "{options}");
        let mut content = vec![0; 64 << 20];
        seen.read(&mut content[..], 0).unwrap();
        let raw = std::fs::read(directory.path().join("raw")).unwrap();
        assert!(content == raw, "{options}");
        // What a snapshot of this very moment holds is what imago sees mapped.
        let Some(cut) = read.snapshots().unwrap().into_iter().next() else {
            continue;
        };
        let (mut at, mut mapped) = (0, 0);
        while at < seen.size() {
            let (mapping, length) = seen.get_mapping_sync(at, seen.size() - at).unwrap();
            if matches!(mapping, imago::Mapping::Raw { .. }) {
                mapped += length;
            }
            at += length;
        }
        assert!(mapped >= 4 * 4096, "{options}");
        let held = read.checksums(&cut).unwrap().disk_bytes;
        assert_eq!(held, mapped, "{options}");
    }
}

#[test]
fn a_snapshots_checksum_stays_while_the_disk_changes_and_shows_each_damaged_byte() {
    let directory = tempfile::tempdir().unwrap();
    for options in ["compat=v3", "extended_l2=on,cluster_size=128k"] {
        let file = image(directory.path(), "a.qcow2", options);
        qemu_img(&["snapshot", "-c", "cut", path(&file)]);
        let sums = || -> Result<_, Qcow2Error> {
            let read = Qcow2::open(&file)?;
            let snapshots = read.snapshots()?;
            read.checksums(&snapshots[0])
        };
        let before = sums().unwrap();
        let write = |script: &str| {
            let output = Command::new("qemu-io")
                .args(["-c", script, path(&file)])
                .output();
            assert!(output.unwrap().status.success());
        };
        write("write -P 9 0 1M");
        write("write -P 8 33M 64k");
        assert_eq!(sums().unwrap(), before, "{options}");
        qemu_img(&["snapshot", "-c", "later", path(&file)]);
        qemu_img(&["snapshot", "-d", "later", path(&file)]);
        assert_eq!(sums().unwrap(), before, "{options}");
        // Any of the captured clusters' bytes: the one that holds 3s, at 33 MiB for the guest.
        let bytes = std::fs::read(&file).unwrap();
        let at = bytes
            .windows(4096)
            .position(|window| window.iter().all(|byte| *byte == 3));
        let at = at.expect("the cluster") as u64;
        let open = File::options().write(true).open(&file).unwrap();
        for (place, flipped) in [(at, 2u8), (at + 4095, 1)] {
            open.write_all_at(&[flipped], place).unwrap();
            assert_ne!(sums().unwrap(), before, "{options} {place}");
            open.write_all_at(&[3], place).unwrap();
        }
        assert_eq!(sums().unwrap(), before);
    }
}

#[test]
fn a_count_that_is_too_low_is_found() {
    let directory = tempfile::tempdir().unwrap();
    let file = image(directory.path(), "a.qcow2", "compat=v3");
    qemu_img(&["snapshot", "-c", "cut", path(&file)]);
    let open = File::options().read(true).write(true).open(&file).unwrap();
    let number = |at: u64| {
        let mut bytes = [0; 8];
        open.read_exact_at(&mut bytes, at).unwrap();
        u64::from_be_bytes(bytes)
    };
    // The reference count table's place, its first block, and in it the counts.
    let block = number(number(48));
    let shared: Vec<u64> = (0..100u64)
        .filter(|index| number(block + index * 2) >> 48 == 2)
        .collect();
    assert!(shared.len() >= 2, "an L2 table, and data: {shared:?}");
    let low = || Qcow2::open(&file).unwrap().undercounted().unwrap();
    assert_eq!(low(), Vec::<u64>::new());
    for index in shared {
        // One less: the snapshot's, or the active disk's, is not counted.
        open.write_all_at(&[0, 1], block + index * 2).unwrap();
        assert_eq!(low(), [index << 16]);
        open.write_all_at(&[0, 2], block + index * 2).unwrap();
    }
}

#[test]
fn a_chain_of_too_many_files_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let file = |number: usize| directory.path().join(format!("{number}.qcow2"));
    image(directory.path(), "0.qcow2", "compat=v3");
    for number in 1..=MAX_DEPTH {
        let (below, top) = (file(number - 1), file(number));
        let words = ["create", "-q", "-u", "-f", "qcow2", "-F", "qcow2", "-b"];
        qemu_img(&[&words[..], &[path(&below), path(&top), "64M"]].concat());
    }
    assert_eq!(chain(&file(MAX_DEPTH - 1)).unwrap().len(), MAX_DEPTH);
    assert!(matches!(chain(&file(MAX_DEPTH)), Err(Qcow2Error::TooDeep)));
}

#[test]
fn a_chain_is_followed_and_loops_and_guesses_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let base = image(directory.path(), "base.qcow2", "compat=v3");
    std::fs::create_dir(directory.path().join("sub")).unwrap();
    let (middle, top) = (
        directory.path().join("sub/middle.qcow2"),
        directory.path().join("top.qcow2"),
    );
    qemu_img(&[
        "create",
        "-q",
        "-f",
        "qcow2",
        "-b",
        "../base.qcow2",
        "-F",
        "qcow2",
        path(&middle),
    ]);
    qemu_img(&[
        "create",
        "-q",
        "-f",
        "qcow2",
        "-b",
        "sub/middle.qcow2",
        "-F",
        "qcow2",
        path(&top),
    ]);
    let links = chain(&top).unwrap();
    assert_eq!(links.len(), 3);
    assert_eq!(
        links[2].path.canonicalize().unwrap(),
        base.canonicalize().unwrap()
    );
    qemu_img(&["rebase", "-u", "-b", path(&top), "-F", "qcow2", path(&base)]);
    assert!(matches!(chain(&top), Err(Qcow2Error::Loop { .. })));
    qemu_img(&[
        "rebase",
        "-u",
        "-b",
        "nbd://127.0.0.1/x",
        "-F",
        "raw",
        path(&base),
    ]);
    assert!(matches!(chain(&top), Err(Qcow2Error::Unsupported { .. })));
    std::fs::remove_file(&base).unwrap();
    assert!(matches!(chain(&top), Err(Qcow2Error::Io { .. })));
}
