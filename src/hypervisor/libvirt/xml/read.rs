//! Reading what libvirt says.

use std::net::Ipv4Addr;
use std::path::PathBuf;

use roxmltree::{Document, Node};

use super::NAMESPACE;
use crate::model::Mark;
use crate::units::Cidr;

/// Returns twin's mark from a domain's or network's XML. A mark that cannot be read is none: the thing is left alone.
pub(in super::super) fn mark(text: &str) -> Option<Mark> {
    let document = Document::parse(text).ok()?;
    let element = document.descendants().find(|node| {
        node.tag_name().name() == "mark" && node.tag_name().namespace() == Some(NAMESPACE)
    })?;
    serde_json::from_str(element.text()?).ok()
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
