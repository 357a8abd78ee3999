//! What every verb is given: the flags, the printer, and the jumphost with its labs.

use std::borrow::Cow;
use std::path::Path;

use super::failure::Failure;
use super::global::{DEFAULT_CONNECT, DEFAULT_STATE_DIR, Global};
use super::ui::Ui;
use super::{logging, wiring};
use crate::service::{Place, Site};
use crate::units::Name;

/// What every verb is given.
pub(crate) struct Context<'c> {
    pub(crate) global: &'c Global,
    pub(crate) ui: &'c Ui,
    pub(crate) site: Site,
}

impl<'c> Context<'c> {
    /// Makes it from the global flags; nothing is opened yet.
    pub(crate) fn new(global: &'c Global, ui: &'c Ui) -> Self {
        let place = Place {
            connect: global.connect.clone(),
            lab: global.lab.clone(),
            state: global.state_dir.clone(),
        };
        Self {
            global,
            ui,
            site: Site::new(place, wiring::lab, ui.watch(), logging::begin),
        }
    }

    /// The lab that was named.
    pub(crate) fn lab_name(&self) -> Result<Option<Name>, Failure> {
        let lab = self.global.lab.as_deref().map(str::parse::<Name>);
        lab.transpose().map_err(|error| {
            Failure::usage(format!("--lab: {error}"), vec!["take another name".into()])
        })
    }

    /// The command line that does something with a lab, to be told where it would work: with the global flags of this one.
    pub(crate) fn command(&self, lab: &str, rest: &[String]) -> String {
        let mut words = vec!["twin".to_owned(), "--lab".into(), lab.into()];
        if self.site.layout().state() != Path::new(DEFAULT_STATE_DIR) {
            let directory = self.site.layout().state().display().to_string();
            words.extend(["--state-dir".into(), directory]);
        }
        if self.global.connect != DEFAULT_CONNECT {
            words.extend(["--connect".into(), self.global.connect.clone()]);
        }
        as_typed(words.into_iter().chain(rest.iter().cloned()))
    }
}

/// Words as a shell reads them.
fn as_typed(words: impl Iterator<Item = String>) -> String {
    // The quoting of a word with a NUL fails, and no argument of a process has one.
    words
        .map(|word| shlex::try_quote(&word).map_or_else(|_| word.clone(), Cow::into_owned))
        .collect::<Vec<_>>()
        .join(" ")
}

/// This command as a shell reads it.
pub(crate) fn this_command() -> String {
    as_typed(std::env::args())
}

/// Flags that a variable can stand for, which sudo drops.
const VARIABLES: [(&str, &str); 3] = [
    ("--lab", "TWIN_LAB"),
    ("--state-dir", "TWIN_STATE_DIR"),
    ("--connect", "TWIN_CONNECT"),
];

/// This command under sudo, as a shell reads it.
pub(crate) fn this_command_as_root() -> String {
    let words: Vec<String> = std::env::args().collect();
    as_root(&words, |variable| std::env::var(variable).ok())
}

fn as_root(words: &[String], variable: impl Fn(&str) -> Option<String>) -> String {
    let is_given = |flag: &str| {
        let with_value = format!("{flag}=");
        let mut own = words.iter().take_while(|word| *word != "--");
        own.any(|word| word == flag || word.starts_with(&with_value))
    };
    let stood_for = VARIABLES.iter().filter(|(flag, _)| !is_given(flag));
    let stood_for = stood_for.filter_map(|(flag, name)| {
        let value = variable(name).filter(|value| !value.is_empty())?;
        Some([(*flag).to_owned(), value])
    });
    let (program, rest) = words.split_at(words.len().min(1));
    let all = ["sudo".to_owned()].into_iter();
    let all = all
        .chain(program.iter().cloned())
        .chain(stood_for.flatten());
    let all = all.chain(rest.iter().cloned());
    as_typed(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_for_sudo_names_what_variables_stand_for() {
        let asked = |words: &[&str], set: &[(&str, &str)]| {
            let words: Vec<String> = words.iter().map(ToString::to_string).collect();
            let set = |name: &str| {
                let set = set.iter().find(|(variable, _)| *variable == name);
                set.map(|(_, value)| (*value).to_owned())
            };
            as_root(&words, set)
        };
        let none: &[(&str, &str)] = &[];
        assert_eq!(asked(&["twin", "up", "a b"], none), "sudo twin up 'a b'");
        let set = [
            ("TWIN_LAB", "x"),
            ("TWIN_STATE_DIR", "/srv/a b"),
            ("TWIN_CONNECT", ""),
        ];
        assert_eq!(
            asked(&["twin", "down"], &set),
            "sudo twin --lab x --state-dir '/srv/a b' down"
        );
        assert_eq!(
            asked(
                &["twin", "--lab=y", "exec", "a", "--", "ls", "--state-dir"],
                &set
            ),
            "sudo twin --state-dir '/srv/a b' '--lab=y' exec a -- ls --state-dir"
        );
    }
}
