//! Reading what libvirt says.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::PathBuf;

use roxmltree::{Document, Node};
use uuid::Uuid;

use super::mark::NAMESPACE;
use crate::hypervisor::DomainDisk;
use crate::model::Mark;
use crate::units::{Cidr, Mac};

/// Returns twin's mark from a domain's or network's XML. A mark that cannot be read is none: the thing is left alone.
pub(in super::super) fn mark(text: &str) -> Option<Mark> {
    let document = Document::parse(text).ok()?;
    let element = document.descendants().find(|node| {
        node.tag_name().name() == "mark" && node.tag_name().namespace() == Some(NAMESPACE)
    })?;
    serde_json::from_str(element.text()?).ok()
}

/// Returns twin's mark from the one element that it is, as libvirt hands that out: without its namespace.
pub(in super::super) fn mark_in_element(text: &str) -> Option<Mark> {
    let document = Document::parse(text).ok()?;
    serde_json::from_str(document.root_element().text()?).ok()
}

/// Returns the name and UUID that a definition gives its domain.
pub(in super::super) fn identity(text: &str) -> Option<(String, Uuid)> {
    let document = Document::parse(text).ok()?;
    let root = document.root_element();
    let name = child(root, "name")?.text()?.to_owned();
    let uuid = child(root, "uuid")?.text()?.trim().parse().ok()?;
    Some((name, uuid))
}

/// Returns every absolute path that a definition names, in an attribute or as an element's text. The mark is twin's own and
/// names what was asked for once: it is not looked at.
pub(in super::super) fn paths(text: &str) -> Vec<PathBuf> {
    let Ok(document) = Document::parse(text) else {
        return Vec::new();
    };
    let is_path = |text: &str| text.starts_with('/');
    let mut found = Vec::new();
    for node in document.descendants().filter(Node::is_element) {
        if node.tag_name().namespace() == Some(NAMESPACE) {
            continue;
        }
        let attributes = node.attributes().map(|attribute| attribute.value());
        let text = node.text().map(str::trim);
        let named = attributes.chain(text).filter(|text| is_path(text));
        found.extend(named.map(PathBuf::from));
    }
    found
}

/// Returns the program that a definition is started with.
pub(in super::super) fn emulator(text: &str) -> Option<PathBuf> {
    let document = Document::parse(text).ok()?;
    let devices = child(document.root_element(), "devices")?;
    let path = child(devices, "emulator")?.text()?.trim();
    path.starts_with('/').then(|| PathBuf::from(path))
}

/// Returns the files of a running domain's disks by the names that QEMU has for the devices.
pub(in super::super) fn disk_files(text: &str) -> BTreeMap<String, PathBuf> {
    let Ok(document) = Document::parse(text) else {
        return BTreeMap::new();
    };
    let disks = document
        .descendants()
        .filter(|node| node.has_tag_name("disk"));
    let named = disks.filter_map(|node| {
        let alias = child(node, "alias")?.attribute("name")?.to_owned();
        Some((alias, disk(node).path?))
    });
    named.collect()
}

/// Returns the files of the disks that a definition lets the guest write to, in order.
pub(in super::super) fn writable_disks(text: &str) -> Vec<PathBuf> {
    let Ok(document) = Document::parse(text) else {
        return Vec::new();
    };
    let disks = document
        .descendants()
        .filter(|node| node.has_tag_name("disk"))
        .map(disk);
    disks
        .filter(|disk| !disk.read_only)
        .filter_map(|disk| disk.path)
        .collect()
}

fn child<'a, 'input>(node: Node<'a, 'input>, name: &str) -> Option<Node<'a, 'input>> {
    node.children().find(|child| child.has_tag_name(name))
}

/// Returns the bridge and the first IPv4 subnet of a network.
pub(in super::super) fn bridge_and_subnet(text: &str) -> (Option<String>, Option<Cidr>) {
    let Ok(document) = Document::parse(text) else {
        return (None, None);
    };
    let root = document.root_element();
    let bridge = child(root, "bridge")
        .and_then(|node| node.attribute("name"))
        .map(str::to_owned);
    let subnet = root
        .children()
        .filter(|node| node.has_tag_name("ip"))
        .find_map(|ip| {
            let address: Ipv4Addr = ip.attribute("address")?.parse().ok()?;
            let prefix = match (ip.attribute("prefix"), ip.attribute("netmask")) {
                (Some(prefix), _) => prefix.parse().ok()?,
                (None, Some(netmask)) => {
                    u8::try_from(u32::from(netmask.parse::<Ipv4Addr>().ok()?).leading_ones())
                        .ok()?
                }
                // libvirt derives it from the address's class.
                (None, None) => 24,
            };
            (prefix <= 32).then(|| Cidr::holding(address, prefix))
        });
    (bridge, subnet)
}

/// Returns the terminal of a running domain's first console.
pub(in super::super) fn console(text: &str) -> Option<PathBuf> {
    let document = Document::parse(text).ok()?;
    let serial = document
        .descendants()
        .find(|node| node.has_tag_name("serial") && node.attribute("type") == Some("pty"))?;
    child(serial, "source")?
        .attribute("path")
        .map(PathBuf::from)
}

/// An interface of a domain.
pub(in super::super) struct Interface {
    /// Its element, as libvirt wrote it.
    pub(in super::super) element: String,
    /// Whether its link is up.
    pub(in super::super) up: bool,
}

/// Returns the interface with this Ethernet address.
pub(in super::super) fn interface(text: &str, mac: Mac) -> Option<Interface> {
    let document = Document::parse(text).ok()?;
    let has_it = |node: &Node<'_, '_>| {
        let address = child(*node, "mac").and_then(|node| node.attribute("address"));
        address.is_some_and(|address| address.parse() == Ok(mac))
    };
    let mut interfaces = document
        .descendants()
        .filter(|node| node.has_tag_name("interface"));
    let found = interfaces.find(has_it)?;
    let link = child(found, "link").and_then(|node| node.attribute("state"));
    Some(Interface {
        element: text[found.range()].to_owned(),
        up: link != Some("down"),
    })
}

/// Gives an interface's element a link that is down, or none: then it is up, as in a definition that says nothing of it.
pub(in super::super) fn with_link(element: &str, up: bool) -> Option<String> {
    const DOWN: &str = "<link state='down'/>";
    let document = Document::parse(element).ok()?;
    let mut written = element.to_owned();
    if let Some(link) = child(document.root_element(), "link") {
        written.replace_range(link.range(), "");
    }
    if up {
        return Some(written);
    }
    let document = Document::parse(&written).ok()?;
    let root = document.root_element();
    let (first, place) = (
        root.first_child().map(|first| first.range().start),
        root.range(),
    );
    let own = &written[place.clone()];
    let name = own[1..].split([' ', '\t', '\r', '\n', '/', '>']).next()?;
    match (first, own.strip_suffix("/>")) {
        (Some(first), _) => written.insert_str(first, DOWN),
        (None, Some(open)) => {
            let whole = format!("{open}>{DOWN}</{name}>");
            written.replace_range(place, &whole);
        }
        (None, None) => {
            let end = place.start + own.rfind("</")?;
            written.insert_str(end, DOWN);
        }
    }
    Some(written)
}

/// What a baseline has to know of a domain.
pub(in super::super) struct Parts {
    /// The machine type.
    pub(in super::super) machine: String,
    /// Disks.
    pub(in super::super) disks: Vec<DomainDisk>,
    /// This machine's ends of interfaces.
    pub(in super::super) taps: Vec<(Mac, String)>,
    /// The file of the firmware's variables.
    pub(in super::super) nvram: Option<PathBuf>,
    /// What cannot be captured, in words.
    pub(in super::super) obstacles: Vec<String>,
}

/// Devices whose state is not QEMU's to save, and what they are called.
const UNCAPTURABLE: [(&str, &str); 4] = [
    (
        "filesystem",
        "it shares a directory of this machine (filesystem)",
    ),
    ("hostdev", "it has a device of this machine (hostdev)"),
    ("shmem", "it shares memory with others (shmem)"),
    ("vsock", "it has a vsock, which vhost keeps the state of"),
];

/// Reads what a baseline has to know.
pub(in super::super) fn parts(text: &str) -> Parts {
    let mut parts = Parts {
        machine: String::new(),
        disks: Vec::new(),
        taps: Vec::new(),
        nvram: None,
        obstacles: Vec::new(),
    };
    let Ok(document) = Document::parse(text) else {
        parts.obstacles.push("its definition cannot be read".into());
        return parts;
    };
    let root = document.root_element();
    if let Some(os) = child(root, "os") {
        let machine = child(os, "type").and_then(|node| node.attribute("machine"));
        machine.unwrap_or_default().clone_into(&mut parts.machine);
        parts.nvram = child(os, "nvram")
            .and_then(|node| {
                let source = child(node, "source").and_then(|source| source.attribute("file"));
                source.or_else(|| node.text())
            })
            .map(|path| PathBuf::from(path.trim()));
    }
    let invariant = root.descendants().any(|node| {
        node.has_tag_name("feature")
            && node.attribute("name") == Some("invtsc")
            && matches!(node.attribute("policy"), Some("require" | "force"))
    });
    if invariant {
        let why = "its CPU has an invariant TSC (invtsc), which QEMU does not save";
        parts.obstacles.push(why.into());
    }
    let Some(devices) = child(root, "devices") else {
        return parts;
    };
    for device in devices.children().filter(Node::is_element) {
        let name = device.tag_name().name();
        if name == "disk" {
            let disk = disk(device);
            if !disk.read_only && disk.path.is_some() && disk.format != "qcow2" {
                parts.obstacles.push(format!(
                    "disk {} is {}, and only qcow2 keeps a captured state; make it qcow2 or read-only",
                    disk.target, disk.format
                ));
            }
            if !disk.read_only && disk.path.is_none() {
                parts
                    .obstacles
                    .push(format!("disk {} is not in a file", disk.target));
            }
            parts.disks.push(disk);
        }
        if name == "interface" {
            let mac = child(device, "mac").and_then(|node| node.attribute("address"));
            let mac = mac.and_then(|mac| mac.parse().ok());
            let tap = child(device, "target").and_then(|node| node.attribute("dev"));
            parts.taps.extend(mac.zip(tap.map(str::to_owned)));
        }
        parts.obstacles.extend(
            UNCAPTURABLE
                .iter()
                .filter(|(kind, _)| *kind == name)
                .map(|(_, why)| (*why).to_owned()),
        );
    }
    parts
}

fn disk(device: Node<'_, '_>) -> DomainDisk {
    let attribute = |name: &str, key: &str| {
        child(device, name)
            .and_then(|node| node.attribute(key))
            .map(str::to_owned)
    };
    let removable = matches!(device.attribute("device"), Some("cdrom" | "floppy"));
    let source = attribute("source", "file");
    DomainDisk {
        target: attribute("target", "dev").unwrap_or_default(),
        // An empty drive holds nothing that could be lost.
        read_only: child(device, "readonly").is_some() || (removable && source.is_none()),
        path: source.map(PathBuf::from),
        format: attribute("driver", "type").unwrap_or_else(|| "raw".into()),
    }
}

/// What differs from start to start.
const PASSING_ELEMENTS: [&str; 4] = ["alias", "seclabel", "backingStore", "log"];
const PASSING_ATTRIBUTES: [&str; 4] = ["index", "portid", "tty", "bridge"];

/// Returns a running domain's devices in a form that is the same after each start.
pub(in super::super) fn devices(text: &str) -> String {
    let mut lines = Vec::new();
    if let Ok(document) = Document::parse(text)
        && let Some(devices) = child(document.root_element(), "devices")
    {
        for device in devices.children().filter(Node::is_element) {
            let mut line = String::new();
            write_lasting(device, &mut line);
            line.push('\n');
            lines.push(line);
        }
    }
    // libvirt puts controllers in another order when it reads a domain again; each names its own place.
    lines.sort_unstable();
    lines.concat()
}

fn write_lasting(node: Node<'_, '_>, out: &mut String) {
    let name = node.tag_name().name();
    let parent = node.parent().map_or("", |parent| parent.tag_name().name());
    let passing = |attribute: &str| {
        PASSING_ATTRIBUTES.contains(&attribute)
            // A terminal, and the link that libvirt makes for an interface.
            || (name == "source" && attribute == "path" && node.parent().and_then(|parent| parent.attribute("type")) == Some("pty"))
            || (name == "target" && parent == "interface" && attribute == "dev")
            // The socket that libvirt chooses has the number of the start in its name.
            || (name == "source" && parent == "channel" && attribute == "path" && node.attribute(attribute).is_some_and(|path| path.contains("/domain-")))
            // Whether the guest's end of a channel is open.
            || (name == "target" && parent == "channel" && attribute == "state")
    };
    out.push('<');
    out.push_str(name);
    for attribute in node
        .attributes()
        .filter(|attribute| !passing(attribute.name()))
    {
        out.push_str(&format!(" {}={:?}", attribute.name(), attribute.value()));
    }
    out.push('>');
    for child in node.children().filter(Node::is_element) {
        if !PASSING_ELEMENTS.contains(&child.tag_name().name()) {
            write_lasting(child, out);
        }
    }
    out.push_str("</>");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interface_is_found_by_its_address_and_its_link_is_changed() {
        let text = "<domain><devices><interface type='network'><mac address='52:54:00:00:00:01'/></interface>\
            <interface type='network'>\n<mac address='52:54:00:00:00:02'/><link state='down'/><model type='virtio'/></interface></devices></domain>";
        let mac = |last: u8| Mac([0x52, 0x54, 0, 0, 0, last]);
        assert!(interface(text, mac(1)).is_some_and(|found| found.up));
        assert!(interface(text, mac(3)).is_none());
        let found = interface(text, mac(2)).expect("there");
        assert!(!found.up);
        let up = with_link(&found.element, true).expect("written");
        assert_eq!(
            up,
            "<interface type='network'>\n<mac address='52:54:00:00:00:02'/><model type='virtio'/></interface>"
        );
        let down = with_link(&up, false).expect("written");
        let document = format!("<domain><devices>{down}</devices></domain>");
        assert!(interface(&document, mac(2)).is_some_and(|found| !found.up));
    }

    #[test]
    fn a_link_is_written_into_an_element_of_any_shape() {
        for (element, written) in [
            ("<i a='>'/>", "<i a='>'><link state='down'/></i>"),
            ("<i\n/>", "<i\n><link state='down'/></i>"),
            ("<i a='x>y'></i >", "<i a='x>y'><link state='down'/></i >"),
            ("<i><link/></i>", "<i><link state='down'/></i>"),
            (
                "<i a='>'> <m/></i>",
                "<i a='>'><link state='down'/> <m/></i>",
            ),
        ] {
            assert_eq!(with_link(element, false).as_deref(), Some(written));
        }
    }

    const DOMAIN: &str = "<domain><os><type machine='pc-q35-7.2'>hvm</type><nvram>/v.fd</nvram></os>
        <cpu><feature policy='require' name='invtsc'/></cpu><devices>
        <disk device='disk'><driver type='qcow2'/><source file='/a.qcow2' index='3'/><target dev='vda'/></disk>
        <disk device='disk'><driver type='raw'/><source file='/b.img'/><target dev='vdb'/></disk>
        <disk device='cdrom'><driver type='raw'/><target dev='sda'/><readonly/></disk>
        <filesystem type='mount'/>
        <interface type='network'><source network='n' portid='1' bridge='virbr1'/><target dev='vnet7'/></interface>
        <controller type='sata'/><controller type='virtio-serial'/>
        <channel type='unix'><source mode='bind' path='/c/domain-3-h/agent'/><target type='virtio' name='agent'/></channel>
        <serial type='pty'><source path='/dev/pts/3'/><alias name='s0'/></serial></devices></domain>";

    #[test]
    fn what_cannot_be_captured_is_told() {
        let parts = parts(DOMAIN);
        assert_eq!(parts.machine, "pc-q35-7.2");
        assert_eq!(parts.nvram, Some(PathBuf::from("/v.fd")));
        assert_eq!(parts.disks.len(), 3);
        let told = parts.obstacles.join("; ");
        for word in ["invtsc", "vdb is raw", "filesystem"] {
            assert!(told.contains(word), "{word}: {told}");
        }
        assert_eq!(parts.obstacles.len(), 3);
    }

    #[test]
    fn devices_are_the_same_after_each_start() {
        let again = DOMAIN
            .replace("vnet7", "vnet9")
            .replace("/dev/pts/3", "/dev/pts/8")
            .replace("index='3'", "index='1'")
            .replace("portid='1'", "portid='2'")
            .replace("/domain-3-", "/domain-8-")
            .replace(
                "<controller type='sata'/><controller type='virtio-serial'/>",
                "<controller type='virtio-serial'/><controller type='sata'/>",
            );
        assert_ne!(DOMAIN, again);
        assert_eq!(devices(DOMAIN), devices(&again));
        assert_ne!(devices(DOMAIN), devices(&DOMAIN.replace("'n'", "'m'")));
    }
}
