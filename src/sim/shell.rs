//! What a simulated guest's programs do to its plain state: files, interfaces, routes, rules, namespaces, nftables' tables. It
//! knows the programs that actions and probes run, and says so of any other.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine;

use crate::wire::HostConfig;

/// Files and network of a guest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Shell {
    /// Kept over a boot: path to content, with mode and owner as `stat -c '%a %u:%g'` says.
    files: BTreeMap<String, (Vec<u8>, String)>,
    net: Net,
}

/// What a boot makes anew.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Net {
    /// Whether an interface is up.
    links: BTreeMap<String, bool>,
    /// Routes of the main table that the kernel does not make by itself: interface and route.
    routes: BTreeSet<(String, String)>,
    rules: BTreeMap<String, String>,
    tables: BTreeMap<String, String>,
    namespaces: BTreeSet<String>,
    nft: BTreeSet<(String, String)>,
    settings: BTreeMap<String, String>,
}

/// How a program ended: its exit code and what it wrote.
pub(super) type Ended = Result<(i32, String), String>;

fn wrote(text: impl Into<String>) -> Ended {
    Ok((0, text.into()))
}

impl Shell {
    /// A boot: files stay, the network is as configured.
    pub(super) fn boot(&mut self, config: &HostConfig) {
        self.net = Net::default();
        for nic in &config.nics {
            self.net.links.insert(nic.name.clone(), true);
            if let Some(gateway) = nic.gateway {
                let route = format!("default via {gateway}");
                self.net.routes.insert((nic.name.clone(), route));
            }
        }
    }

    /// What has to be as before after an undo.
    pub(super) fn picture(&self) -> String {
        format!("{self:?}")
    }

    /// Runs a program; nothing where it is not known.
    pub(super) fn run(&mut self, argv: &[&str]) -> Option<Ended> {
        Some(match argv {
            ["ip", "rule", "show", "pref", pref] => {
                let rule = self.net.rules.get(*pref);
                wrote(rule.map_or_else(String::new, |rule| format!("{pref}:\t{rule}\n")))
            }
            ["ip", "route", "show", "table", table] => {
                let routes = self.net.tables.get(*table);
                wrote(routes.map_or_else(String::new, |routes| format!("{routes}\n")))
            }
            ["ip", "route", "show", "default"] => wrote(self.defaults()),
            ["ip", "-4", "route", "show", "table", "all", "dev", nic] => wrote(self.routes_of(nic)),
            ["ip", "-o", "link", "show", "dev", nic] => match self.net.links.get(*nic) {
                Some(up) => {
                    let flags = if *up { "BROADCAST,UP" } else { "BROADCAST" };
                    wrote(format!("2: {nic}: <{flags}> mtu 1500\n"))
                }
                None => Ok((1, String::new())),
            },
            ["cat", file] if file.starts_with("/proc/sys/") => {
                let value = self.net.settings.get(*file);
                wrote(value.map_or("0\n".to_owned(), |value| format!("{value}\n")))
            }
            ["nft", "-j", "list", "counter", family, table, name] => {
                let key = ((*family).to_owned(), (*table).to_owned());
                if !self.net.nft.contains(&key) {
                    return Some(Ok((1, String::new())));
                }
                let counter = serde_json::json!({"counter": {"name": name, "packets": 0}});
                wrote(serde_json::json!({"nftables": [counter]}).to_string())
            }
            ["sh", "-c", command] => {
                let path = command.strip_prefix("test ! -e ")?;
                Ok((i32::from(self.files.contains_key(path)), String::new()))
            }
            ["sh", "-ec", script, "sh", rest @ ..] => self.file(script, rest)?,
            ["sh", "-ec", script] => self.script(script),
            [program, ..] if *program == "ip" => self.script(&argv.join(" ")),
            _ => return None,
        })
    }

    fn routes_of(&self, nic: &str) -> String {
        let of_it = self.net.routes.iter().filter(|(dev, _)| dev == nic);
        let of_it = of_it.map(|(_, route)| format!("{route}\n"));
        let tables = self.net.tables.iter().filter_map(|(table, route)| {
            let route = route.strip_suffix(&format!(" dev {nic}"))?;
            Some(format!("{route} table {table}\n"))
        });
        of_it.chain(tables).collect()
    }

    fn defaults(&self) -> String {
        let default = |(dev, route): &(String, String)| {
            let via = route.strip_prefix("default ")?;
            Some(format!("default {via} dev {dev} \n"))
        };
        self.net.routes.iter().filter_map(default).collect()
    }

    /// The scripts that read, write and remove a file.
    fn file(&mut self, script: &str, arguments: &[&str]) -> Option<Ended> {
        let engine = base64::engine::general_purpose::STANDARD;
        Some(match arguments {
            [path] if script.contains("readlink -f") => {
                let mut names = (0..).map(|number| format!("{path}.twin-was{number}"));
                let free = names.find(|name| !self.files.contains_key(name));
                wrote(format!("{path}\n{}\n", free.unwrap_or_default()))
            }
            [path, content, owner, aside] if script.contains("base64 -d") => {
                let Ok(bytes) = engine.decode(content) else {
                    return Some(Err("base64: invalid input".into()));
                };
                let owner = if owner.is_empty() { "644 0:0" } else { owner };
                let was = self.files.get(*path).filter(|_| !aside.is_empty());
                let was = was.cloned().map(|was| ((*aside).to_owned(), was));
                self.files.extend(was);
                let file = (bytes, owner.to_owned());
                self.files.insert((*path).to_owned(), file);
                wrote("")
            }
            [path, aside] if script.contains("mv -f \"$2\" \"$1\"") => {
                let was = self.files.remove(*aside);
                self.files.extend(was.map(|was| ((*path).to_owned(), was)));
                wrote("")
            }
            [path] if script.contains("base64 \"$1\"") => match self.files.get(*path) {
                Some((bytes, owner)) => wrote(format!("{owner}\n{}", engine.encode(bytes))),
                None => wrote(""),
            },
            [path] if script.contains("rm -f \"$1\"") => {
                self.files.remove(*path);
                wrote("")
            }
            _ => return None,
        })
    }

    /// A script of the network's tools, statement by statement.
    fn script(&mut self, script: &str) -> Ended {
        let mut out = String::new();
        let mut lines = script.lines();
        while let Some(line) = lines.next() {
            if line.contains("<<'RULES'") {
                let rules: Vec<&str> = lines
                    .by_ref()
                    .take_while(|line| line.trim() != "RULES")
                    .collect();
                self.rules(&rules.join("\n"));
                continue;
            }
            // Loops over modules and processes, and what is looked at before a directory is removed, change nothing here.
            if line.starts_with("for ") || line.starts_with("if ") {
                continue;
            }
            // All that there are of it: once does it.
            let line = line.replace("; do :; done", "");
            for statement in line.split(';') {
                let statement = statement.replace("2>/dev/null", "").replace("|| :", "");
                let words: Vec<&str> = statement.split_whitespace().collect();
                let words = match words.as_slice() {
                    ["while", rest @ ..] => rest,
                    all => all,
                };
                out.push_str(&self.statement(words)?);
            }
        }
        wrote(out)
    }

    /// Takes down the tables of nftables' rules.
    fn rules(&mut self, rules: &str) {
        for line in rules.lines() {
            if let ["table", family, name, "{"] =
                line.split_whitespace().collect::<Vec<_>>().as_slice()
            {
                let key = ((*family).to_owned(), (*name).to_owned());
                self.net.nft.insert(key);
            }
        }
    }

    fn statement(&mut self, words: &[&str]) -> Result<String, String> {
        let net = &mut self.net;
        match words {
            ["ip", "link", "set", "dev", nic, state @ ("up" | "down")] => {
                let up = *state == "up";
                net.links.insert((*nic).to_owned(), up);
                if !up {
                    let through = format!(" dev {nic}");
                    net.routes.retain(|(dev, _)| dev != nic);
                    net.tables.retain(|_, route| !route.ends_with(&through));
                }
            }
            [
                "ip",
                "rule",
                "add",
                "pref",
                pref,
                "from",
                from,
                "lookup",
                table,
            ] => {
                let rule = format!("from {from} lookup {table}");
                net.rules.insert((*pref).to_owned(), rule);
            }
            ["ip", "rule", "del", "pref", pref] => drop(net.rules.remove(*pref)),
            ["ip", "netns", "add", name] => drop(net.namespaces.insert((*name).to_owned())),
            ["ip", "netns", "del", name] => drop(net.namespaces.remove(*name)),
            ["ip", "link", "add", name, "type", ..] => {
                net.links.insert((*name).to_owned(), true);
            }
            ["ip", "link", "del", name] => drop(net.links.remove(*name)),
            ["nft", "delete", "table", family, name] => {
                net.nft.remove(&((*family).to_owned(), (*name).to_owned()));
            }
            ["echo", value, ">", path] => {
                net.settings.insert((*path).to_owned(), (*value).to_owned());
                // As it is before it is set.
                net.settings.retain(|_, value| value != "0");
            }
            ["ip", "netns", "list", "|", "grep", "-w", name] => {
                let name = name.trim_matches('\'').trim_start_matches('^');
                let found = net.namespaces.get(name);
                return Ok(found.map_or_else(String::new, |name| format!("{name}\n")));
            }
            ["ip", "-o", "link", "show", "dev", name] => {
                let found = net.links.get(*name);
                return Ok(found.map_or_else(String::new, |_| format!("3: {name}\n")));
            }
            ["nft", "list", "tables", "|", "grep", "-w", name] => {
                let mut tables = net.nft.iter().filter(|(_, table)| table == name);
                let found = tables.next();
                let line = found.map(|(family, table)| format!("table {family} {table}\n"));
                return Ok(line.unwrap_or_default());
            }
            // Inside a namespace, addresses, and routes of links that go with them.
            [] | ["ip", "-n", ..] | ["ip", "addr", "add", ..] | ["ip", "link", "set", _, "up"] => {}
            ["ip", "route", rest @ ..] => return net.route(rest),
            other => return Err(format!("a simulated guest does not know {other:?}")),
        }
        Ok(String::new())
    }
}

impl Net {
    /// What follows `ip route`.
    fn route(&mut self, words: &[&str]) -> Result<String, String> {
        match words {
            ["replace", "default", "via", via, "table", table, "dev", nic] => {
                let route = format!("default via {via} dev {nic}");
                self.tables.insert((*table).to_owned(), route);
            }
            ["add", "default", "via", via, "dev", nic, "table", table] => {
                let route = format!("default via {via} dev {nic}");
                self.tables.insert((*table).to_owned(), route);
            }
            ["flush", "table", table] => drop(self.tables.remove(*table)),
            ["del", "default"] => {
                self.routes
                    .retain(|(_, route)| !route.starts_with("default "));
            }
            ["add" | "replace", "default", "via", via, "dev", nic] => {
                let replaces = words[0] == "replace";
                self.routes
                    .retain(|(_, route)| !(replaces && route.starts_with("default ")));
                let route = format!("default via {via}");
                self.routes.insert(((*nic).to_owned(), route));
            }
            // Of links that go with them, and of what is remembered.
            ["add", _, "dev", ..] | ["flush", "cache"] => {}
            other => {
                return Err(format!(
                    "a simulated guest does not know ip route {other:?}"
                ));
            }
        }
        Ok(String::new())
    }
}
