//! `file`: a file inside a host is there, or is gone; one that is there may have to hold a text.

use crate::scenario::arguments::Pattern;
use crate::scenario::fault;
use crate::scenario::probe::prelude::*;

/// The most that is read of a file, and of it shown.
const READ: &str = "262144";
const SHOWN: usize = 2000;

/// Whether it is to be there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
enum State {
    #[default]
    There,
    Gone,
}

/// Fires when a file inside the host is `there` and matches, or is `gone`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct File {
    host: Name,
    path: String,
    #[serde(default)]
    is: State,
    /// What it has to hold.
    #[serde(default)]
    matches: Option<Pattern>,
}

impl File {
    fn is_there(&self) -> bool {
        self.is == State::There
    }
}

impl Probe for File {
    const NAME: &'static str = "file";
    type Reference = ();

    fn check(&self) -> Result<(), Mistake> {
        if !self.path.starts_with('/') {
            return Err(Mistake::of("path", "path", "it begins with a slash"));
        }
        if self.matches.is_some() && !self.is_there() {
            let why = "what is gone holds nothing";
            return Err(Mistake::of_all("matches", "condition", why));
        }
        Ok(())
    }

    async fn begin(&self, world: &World) -> Result<(), FaultError> {
        world.host(&self.host)?;
        Ok(())
    }

    async fn look(&self, world: &World, (): &(), _: &Seen) -> Result<Finding, FaultError> {
        world.state(&self.host).await?;
        // The first line tells whether it is there; what follows is what it holds.
        let script = "[ -e \"$1\" ] || { echo gone; exit 0; }; ls -ld \"$1\"; [ -f \"$1\" ] || exit 0; \
            [ \"$(head -c $(($2 + 1)) \"$1\" | wc -c)\" -le \"$2\" ] && echo whole || echo more; head -c \"$2\" \"$1\"";
        let argv = ["sh", "-ec", script, "sh", &self.path, READ];
        let said = fault::inside::run(world, &self.host, &argv).await?;
        let (first, rest) = said.split_once('\n').unwrap_or((&said, ""));
        let (whole, content) = rest.split_once('\n').unwrap_or((rest, ""));
        let there = first != "gone";
        let unlike = |wanted: &Pattern| !wanted.is_match(content);
        let unlike = self.matches.as_ref().is_some_and(unlike);
        if there && self.is_there() && unlike && whole == "more" {
            let why = format!(
                "{} on {} is longer than the {READ} bytes that are read",
                self.path, self.host
            );
            return Err(FaultError::Target(why));
        }
        if there != self.is_there() || unlike {
            return Ok(Finding::Quiet);
        }
        let source = format!("{} on {}", self.path, self.host);
        let mut found = vec![evidence(source.as_str(), first)];
        if self.matches.is_some() {
            let shown: String = content.chars().take(SHOWN).collect();
            found.push(evidence(source, shown.trim_end()));
        }
        Ok(Finding::Fired(found))
    }
}
