//! A domain's XML.

use std::path::Path;

use base64::Engine;
use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};

use super::mark::Metadata;
use crate::model::spec::{Boot, DiskSpec, DomainSpec, Marked, NicLink, NicSpec};
use crate::model::{AcceleratorChoice, RamBacking};
use crate::wire;

/// What TCG may spend on translated code; unbounded it takes up to 1 GiB a guest (shared/facts.md 10).
const TCG_CACHE_MIB: &str = "128";

/// Seconds between the balloon's memory statistics.
const BALLOON_PERIOD: &str = "5";

/// Letters of virtio disks, and of the seed after them.
const DISK_LETTERS: std::ops::RangeInclusive<char> = 'a'..='z';

/// An element made of attributes, text and children, in order. Domain XML is deep and irregular; a tree of these stays
/// readable where a struct for each element would not.
#[derive(Default)]
struct Element {
    attributes: Vec<(&'static str, String)>,
    text: Option<String>,
    children: Vec<(&'static str, Element)>,
}

impl Element {
    fn new() -> Self {
        Self::default()
    }

    fn text(text: impl Into<String>) -> Self {
        Self {
            text: Some(text.into()),
            ..Self::default()
        }
    }

    fn attribute(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.attributes.push((name, value.into()));
        self
    }

    fn child(mut self, name: &'static str, child: Self) -> Self {
        self.children.push((name, child));
        self
    }

    fn children(self, name: &'static str, children: impl IntoIterator<Item = Self>) -> Self {
        children
            .into_iter()
            .fold(self, |element, child| element.child(name, child))
    }
}

/// An interface.
fn interface(nic: &NicSpec, boots: bool) -> Element {
    let (kind, source) = match &nic.link {
        NicLink::Network(name) => ("network", Element::new().attribute("@network", name)),
        NicLink::Bridge(name) => ("bridge", Element::new().attribute("@bridge", name)),
    };
    Element::new()
        .attribute("@type", kind)
        .child(
            "mac",
            Element::new().attribute("@address", nic.mac.to_string()),
        )
        .child("source", source)
        .child("model", Element::new().attribute("@type", "virtio"))
        .children(
            "rom",
            // Half a MiB a NIC that every captured state would carry, and that only booting from it needs.
            (!boots).then(|| Element::new().attribute("@enabled", "no")),
        )
}

/// An interface by itself, to be plugged into a domain that runs.
pub(in super::super) fn one_interface(nic: &NicSpec) -> String {
    // Attributes and text of strings can be written always.
    quick_xml::se::to_string_with_root("interface", &interface(nic, false)).unwrap_or_default()
}

impl Serialize for Element {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for (name, value) in &self.attributes {
            map.serialize_entry(name, value)?;
        }
        if let Some(text) = &self.text {
            map.serialize_entry("$text", text)?;
        }
        for (name, child) in &self.children {
            map.serialize_entry(name, child)?;
        }
        map.end()
    }
}

/// Writes a domain's XML. `kind` takes the place of the accelerator's domain type: libvirt's test driver, which the
/// conformance suite runs on too, knows only its own.
pub(in super::super) fn domain(domain: &Marked<DomainSpec>, kind: Option<&str>) -> String {
    let spec = &domain.spec;
    let kvm = spec.accelerator == AcceleratorChoice::Kvm;
    let mut root = Element::new()
        .attribute("@type", kind.unwrap_or(if kvm { "kvm" } else { "qemu" }))
        .child("name", Element::text(&spec.name))
        .child("uuid", Element::text(spec.uuid.to_string()));
    let mut xml = String::new();
    root = root
        .child(
            "memory",
            Element::text(spec.memory.0.to_string()).attribute("@unit", "MiB"),
        )
        .child("vcpu", Element::text(spec.vcpus.to_string()));
    if spec.ram == RamBacking::File {
        root = root.child(
            "memoryBacking",
            Element::new()
                .child("source", Element::new().attribute("@type", "file"))
                .child("access", Element::new().attribute("@mode", "shared"))
                .child("allocation", Element::new().attribute("@mode", "ondemand")),
        );
    }
    if let Some(config) = &spec.config {
        // libvirt hands the text to QEMU's option parser as it is, which would split it at commas.
        let text = base64::engine::general_purpose::STANDARD.encode(config);
        let entry = Element::text(text).attribute("@name", wire::FW_CFG_NAME);
        root = root.child(
            "sysinfo",
            Element::new()
                .attribute("@type", "fwcfg")
                .child("entry", entry),
        );
    }
    let features = Element::new()
        .child("acpi", Element::new())
        .child("apic", Element::new());
    let cache = Element::text(TCG_CACHE_MIB).attribute("@unit", "MiB");
    root = root
        .child("os", os(spec))
        .child(
            "features",
            if kvm {
                features
            } else {
                features.child("tcg", Element::new().child("tb-cache", cache))
            },
        )
        .child(
            "cpu",
            Element::new().attribute("@mode", if kvm { "host-passthrough" } else { "maximum" }),
        )
        .child("clock", Element::new().attribute("@offset", "utc"))
        .child("on_poweroff", Element::text("destroy"))
        .child("on_reboot", Element::text("restart"))
        // A panicked guest stays to be looked at, and shows as crashed.
        .child("on_crash", Element::text("preserve"))
        .child("devices", devices(spec));
    // The mark is written as text of its own: it needs a namespace.
    let metadata = quick_xml::se::to_string_with_root("metadata", &Metadata::of(&domain.mark))
        .unwrap_or_default();
    let body = quick_xml::se::to_string_with_root("domain", &root).unwrap_or_default();
    let at = body.find("<memory ").unwrap_or(body.len());
    xml.push_str(&body[..at]);
    xml.push_str(&metadata);
    xml.push_str(&body[at..]);
    xml
}

fn os(spec: &DomainSpec) -> Element {
    let os = Element::new().child(
        "type",
        Element::text("hvm")
            .attribute("@arch", "x86_64")
            .attribute("@machine", "q35"),
    );
    match &spec.boot {
        Boot::Kernel {
            kernel,
            initrd,
            cmdline,
        } => os
            .child("kernel", Element::text(kernel.to_string_lossy()))
            .child("initrd", Element::text(initrd.to_string_lossy()))
            .child("cmdline", Element::text(cmdline)),
        Boot::Disk => os.child("boot", Element::new().attribute("@dev", "hd")),
        Boot::Network => os
            .child("boot", Element::new().attribute("@dev", "network"))
            .child("boot", Element::new().attribute("@dev", "hd")),
    }
}

/// The disk that a cloud image reads its settings from.
fn seed_element(seed: &Path) -> Element {
    // A virtio disk: cloud kernels such as Debian's have no driver for q35's SATA. NoCloud goes by the label.
    let target = Element::new()
        .attribute("@dev", "vdz")
        .attribute("@bus", "virtio");
    let driver = Element::new()
        .attribute("@name", "qemu")
        .attribute("@type", "raw");
    let source = Element::new().attribute("@file", seed.to_string_lossy());
    Element::new()
        .attribute("@type", "file")
        .attribute("@device", "disk")
        .child("driver", driver)
        .child("source", source)
        .child("target", target)
        .child("readonly", Element::new())
}

fn devices(spec: &DomainSpec) -> Element {
    let mut devices = Element::new();
    devices = devices.children(
        "disk",
        spec.disks
            .iter()
            .zip(DISK_LETTERS)
            .map(|(disk, letter)| disk_element(disk, letter)),
    );
    if let Some(seed) = &spec.seed_iso {
        devices = devices.child("disk", seed_element(seed));
    }
    devices = devices.child(
        "controller",
        Element::new()
            .attribute("@type", "usb")
            .attribute("@model", "none"),
    );
    devices = devices.children(
        "interface",
        spec.nics
            .iter()
            .map(|nic| interface(nic, spec.boot == Boot::Network)),
    );
    let log = Element::new()
        .attribute("@file", spec.serial_log.to_string_lossy())
        .attribute("@append", "on");
    devices
        .child(
            "serial",
            Element::new().attribute("@type", "pty").child("log", log),
        )
        .child("channel", {
            let source = Element::new()
                .attribute("@mode", "bind")
                .attribute("@path", spec.channel.to_string_lossy());
            channel(wire::CHANNEL, Some(source))
        })
        .child("channel", channel("org.qemu.guest_agent.0", None))
        .child(
            "memballoon",
            Element::new()
                .attribute("@model", "virtio")
                .child("stats", Element::new().attribute("@period", BALLOON_PERIOD)),
        )
        .child("rng", {
            let source = Element::text("/dev/urandom").attribute("@model", "random");
            Element::new()
                .attribute("@model", "virtio")
                .child("backend", source)
        })
        .child("panic", Element::new().attribute("@model", "isa"))
}

fn channel(name: &str, source: Option<Element>) -> Element {
    let target = Element::new()
        .attribute("@type", "virtio")
        .attribute("@name", name);
    Element::new()
        .attribute("@type", "unix")
        .children("source", source)
        .child("target", target)
}

fn disk_element(disk: &DiskSpec, letter: char) -> Element {
    let backing = disk
        .backing
        .as_ref()
        .map_or_else(Element::new, |(path, format)| {
            Element::new()
                .attribute("@type", "file")
                .child("format", Element::new().attribute("@type", format))
                .child(
                    "source",
                    Element::new().attribute("@file", path.to_string_lossy()),
                )
                .child("backingStore", Element::new())
        });
    Element::new()
        .attribute("@type", "file")
        .attribute("@device", "disk")
        .child(
            "driver",
            Element::new()
                .attribute("@name", "qemu")
                .attribute("@type", "qcow2")
                .attribute("@cache", if disk.scratch { "unsafe" } else { "writeback" })
                .attribute("@discard", "unmap"),
        )
        .child(
            "source",
            Element::new().attribute("@file", disk.path.to_string_lossy()),
        )
        .child("backingStore", backing)
        .child(
            "target",
            Element::new()
                .attribute("@dev", format!("vd{letter}"))
                .attribute("@bus", "virtio"),
        )
}
