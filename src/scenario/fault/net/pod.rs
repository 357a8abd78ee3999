//! `pod`: a pod's network inside a host, as Cilium's masquerading makes it: a namespace behind a veth pair, forwarded, with the
//! host's addresses on its packets. SYN-ACKs that come back are counted: those that reach the pod, and those that leave by the
//! interface that they came in by.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::scenario::fault::guest::inside;
use crate::scenario::fault::prelude::*;
use crate::units::Cidr;

/// The nftables table inside the host.
pub(crate) const TABLE: &str = "twin_pod";

/// Where `ip netns` keeps named namespaces.
const NAMESPACES: &str = "/run/netns";

/// What is set for forwarding, and to which value.
const SETTINGS: [(&str, &str); 3] = [
    ("net/ipv4/ip_forward", "1"),
    ("net/ipv4/conf/all/rp_filter", "0"),
    ("net/ipv4/conf/all/send_redirects", "0"),
];

/// A masqueraded network namespace, with SYN-ACKs counted.
///
/// Revert: removes it; settings as before.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Pod {
    host: Name,
    name: Name,
    subnet: Cidr,
    /// The interfaces, as the host calls them.
    nics: Vec<Name>,
}

/// What is before the fault.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Before {
    host: String,
    name: String,
    /// Settings as they were, by their path below /proc/sys.
    settings: BTreeMap<String, String>,
    /// Whether there was a directory of named namespaces before: `ip netns` makes one and mounts it on itself.
    namespaces: bool,
}

fn footprint(host: &str) -> Footprint {
    Footprint::of_host(host)
        .owns(&[MEMORY, "pod"])
        .reads(PLUGGED)
}

/// The host's end of the veth pair.
fn veth(pod: &str) -> String {
    format!("lxc-{}", pod.chars().take(11).collect::<String>())
}

impl Pod {
    fn rules(&self) -> String {
        let veth = veth(&self.name);
        let quoted: Vec<String> = self.nics.iter().map(|nic| format!("\"{nic}\"")).collect();
        let syn_ack = "tcp flags & (syn | ack) == (syn | ack)";
        let (mut counters, mut counting) = ("counter to-pod {}\n".to_owned(), String::new());
        // Writing to a String does not fail.
        let _ = writeln!(counting, "oifname \"{veth}\" {syn_ack} counter name to-pod");
        for nic in &self.nics {
            let _ = writeln!(counters, "counter back-out-{nic} {{}}");
            let _ = writeln!(
                counting,
                "iifname \"{nic}\" oifname \"{nic}\" {syn_ack} counter name back-out-{nic}"
            );
        }
        format!(
            "table ip {TABLE} {{\n{counters}\
             chain post {{ type nat hook postrouting priority srcnat; ip saddr {} oifname {{ {} }} counter masquerade; }}\n\
             chain seen {{ type filter hook forward priority filter;\n{counting}}}\n}}\n",
            self.subnet,
            quoted.join(", ")
        )
    }

    fn script(&self) -> String {
        let (pod, veth) = (&self.name, veth(&self.name));
        let prefix = self.subnet.prefix();
        let base = u32::from(self.subnet.base());
        let (host, own) = (
            std::net::Ipv4Addr::from(base + 1),
            std::net::Ipv4Addr::from(base + 10),
        );
        let settings: Vec<String> = SETTINGS
            .iter()
            .map(|(path, value)| format!("echo {value} > /proc/sys/{path}"))
            .collect();
        format!(
            "for m in veth nft_chain_nat nft_masq nft_ct nft_counter nft_objref; do modprobe $m 2>/dev/null || :; done\n\
             {}\n\
             ip netns add {pod}\n\
             ip link add {veth} type veth peer name eth0 netns {pod}\n\
             ip addr add {host}/32 dev {veth}; ip link set {veth} up\n\
             ip route add {} dev {veth} src {host}\n\
             ip -n {pod} link set lo up; ip -n {pod} addr add {own}/{prefix} dev eth0; ip -n {pod} link set eth0 up\n\
             ip -n {pod} route add default via {host}\n\
             nft -f - <<'RULES'\n{}RULES\n",
            settings.join("\n"),
            self.subnet,
            self.rules()
        )
    }
}

/// What of a pod of this name is there.
async fn traces(world: &World, host: &str, pod: &str) -> Result<Vec<String>, FaultError> {
    let script = format!(
        "ip netns list | grep -w '^{pod}' || :; ip -o link show dev {} 2>/dev/null || :; nft list tables 2>/dev/null | grep -w {TABLE} || :",
        veth(pod)
    );
    let said = inside::script(world, host, &script).await?;
    Ok(said.lines().map(str::to_owned).collect())
}

impl Fault for Pod {
    const NAME: &'static str = "pod";
    type Prior = Before;

    fn describe(&self) -> String {
        format!("make pod {} in {} on {}", self.name, self.subnet, self.host)
    }

    fn footprint(&self) -> Footprint {
        footprint(&self.host)
    }

    async fn capture(&self, world: &World) -> Result<Before, FaultError> {
        let there = traces(world, &self.host, &self.name).await?;
        if !there.is_empty() {
            return Err(FaultError::Target(format!(
                "there is something called so on {} already: {}",
                self.host,
                there.join("; ")
            )));
        }
        let mut settings = BTreeMap::new();
        for (path, _) in SETTINGS {
            let file = format!("/proc/sys/{path}");
            let was = inside::run(world, &self.host, &["cat", &file]).await?;
            settings.insert(path.to_owned(), was.trim().to_owned());
        }
        let look = format!("if [ -d {NAMESPACES} ]; then echo there; fi");
        let namespaces = inside::script(world, &self.host, &look).await?;
        Ok(Before {
            host: self.host.to_string(),
            name: self.name.to_string(),
            settings,
            namespaces: !namespaces.trim().is_empty(),
        })
    }

    async fn inject(&self, world: &World, _: &Before, _: Duration) -> Result<(), FaultError> {
        inside::script(world, &self.host, &self.script()).await?;
        Ok(())
    }

    async fn verify(&self, world: &World, _: &Before) -> Result<Effectiveness, FaultError> {
        let there = traces(world, &self.host, &self.name).await?;
        let seen = format!("{} on {}: {}", self.name, self.host, there.join("; "));
        Ok(Effectiveness::new(there.len() == 3, seen))
    }
}

impl Prior for Before {
    fn footprint(&self) -> Footprint {
        footprint(&self.host)
    }

    fn describe(&self) -> String {
        format!(
            "removes pod {} from {} and sets what it forwards as before",
            self.name, self.host
        )
    }

    async fn revert(&self, world: &World) -> Result<String, FaultError> {
        let (host, pod) = (&self.host, &self.name);
        let mut script = format!(
            "nft delete table ip {TABLE} 2>/dev/null || :\n\
             for p in $(ip netns pids {pod} 2>/dev/null); do kill -KILL $p 2>/dev/null || :; done\n\
             ip link del {} 2>/dev/null || :\nip netns del {pod} 2>/dev/null || :\n",
            veth(pod)
        );
        for (path, was) in &self.settings {
            let _ = writeln!(script, "echo {was} > /proc/sys/{path}");
        }
        if !self.namespaces {
            // Where another program keeps one there by now, the directory stays.
            let _ = writeln!(
                script,
                "if [ -z \"$(ls -A {NAMESPACES} 2>/dev/null)\" ]; then umount {NAMESPACES}; rmdir {NAMESPACES}; fi 2>/dev/null || :"
            );
        }
        inside::script(world, host, &script).await?;
        let left = traces(world, host, pod).await?;
        if left.is_empty() {
            return Ok(format!(
                "{pod} is gone from {host}, and its settings are as before"
            ));
        }
        Err(FaultError::Target(format!(
            "of {pod} on {host} is left: {}",
            left.join("; ")
        )))
    }
}
