//! The flags of `twin up`.

use std::time::Duration;

use clap::Args;

use crate::cli::consent::Yes;
use crate::cli::failure::Failure;
use crate::image::RecipeLookup;
use crate::lab::{AcceleratorProbe, Request};
use crate::model::{AcceleratorChoice, ImageName, Scale, Topology};
use crate::service::Pace;
use crate::units::Name;

/// Stand-in timers over 60 s are divided by this.
const TIME_SCALE: u32 = 10;

/// What is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Wait {
    /// Nothing.
    None,
    /// Each guest answers.
    Agent,
    /// Each guest answers and its services are healthy.
    Services,
}

/// How a lab is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Accel {
    /// In hardware.
    Kvm,
    /// In software.
    Tcg,
}

impl Accel {
    const fn choice(self) -> AcceleratorChoice {
        match self {
            Self::Kvm => AcceleratorChoice::Kvm,
            Self::Tcg => AcceleratorChoice::Tcg,
        }
    }
}

/// What a lab is made with.
pub(crate) struct Means<'m> {
    /// The command line that makes the same in another lab.
    command: &'m (dyn Fn(&str) -> String + Sync),
    recipes: &'m (dyn RecipeLookup + Sync),
    probe: &'m dyn AcceleratorProbe,
}

impl<'m> Means<'m> {
    pub(crate) fn of(
        command: &'m (dyn Fn(&str) -> String + Sync),
        recipes: &'m (dyn RecipeLookup + Sync),
        probe: &'m dyn AcceleratorProbe,
    ) -> Self {
        Self {
            command,
            recipes,
            probe,
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct Flags {
    /// The topology: a path or a name.
    #[arg(default_value = "testcloud")]
    pub(crate) topology: String,
    /// Says what would be done, and does nothing.
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Only the hosts whose names match; `*` and `?` stand for others.
    #[arg(long, value_name = "GLOB")]
    pub(crate) only: Option<String>,
    /// An image for all hosts instead of the topology's.
    #[arg(long, value_name = "NAME")]
    pub(crate) image: Option<ImageName>,
    /// What sizes are divided by: auto, or 1 to 64. Chosen when the lab is made.
    #[arg(long, value_name = "N|auto", default_value = "auto")]
    pub(crate) scale: String,
    /// How guests are run; chosen by a timed boot when not given.
    #[arg(long, value_enum)]
    pub(crate) accel: Option<Accel>,
    /// Hosts that are made at once.
    #[arg(long, value_name = "N", default_value_t = 8)]
    pub(crate) jobs: usize,
    /// What is waited for.
    #[arg(long, value_enum, default_value = "agent")]
    pub(crate) wait: Wait,
    /// How long a host is waited for, like 90s or 5m.
    #[arg(long, value_name = "TIME", default_value = "5m", value_parser = duration)]
    pub(crate) timeout: Duration,
    /// Makes a host's domain anew; its disks stay. May be given more than once.
    #[arg(long, value_name = "HOST")]
    pub(crate) replace: Vec<Name>,
    /// Discards the disks of the hosts that are replaced, and the baselines that need them; asks first.
    #[arg(long, requires = "replace")]
    pub(crate) blank: bool,
    #[command(flatten)]
    pub(crate) yes: Yes,
}

impl Flags {
    /// How fast it is made, and what is waited for.
    pub(crate) fn pace(&self) -> Pace {
        Pace {
            jobs: self.jobs,
            timeout: self.timeout,
            services: self.wait == Wait::Services,
        }
    }

    /// The lab that is asked for.
    pub(crate) fn request<'r>(
        &self,
        topology: Topology,
        lab: Option<Name>,
        means: &Means<'r>,
    ) -> Result<Request<'r>, Failure> {
        Ok(Request {
            topology,
            lab,
            scale: self.scale()?,
            accelerator: self.accel.map(Accel::choice),
            only: self.only.clone(),
            image: self.image.clone(),
            replace: self.replace.iter().cloned().collect(),
            blank: self.blank,
            time_scale: TIME_SCALE,
            build: !self.dry_run,
            command: means.command,
            recipes: means.recipes,
            probe: means.probe,
        })
    }

    /// What sizes are divided by; chosen where nothing is.
    pub(crate) fn scale(&self) -> Result<Option<Scale>, Failure> {
        if self.scale == "auto" {
            return Ok(None);
        }
        let scale: Result<Scale, _> = self.scale.parse();
        scale.map(Some).map_err(|error| {
            let what = format!("--scale {}: {error}", self.scale);
            Failure::usage(what, vec!["--scale auto chooses".into()])
        })
    }

    /// The words that ask for the same lab again.
    pub(crate) fn words(&self) -> Vec<String> {
        let mut words = vec!["up".to_owned(), self.topology.clone()];
        let mut add = |flag: &str, value: Option<String>| {
            words.extend(value.into_iter().flat_map(|value| [flag.to_owned(), value]));
        };
        add("--image", self.image.as_ref().map(ToString::to_string));
        add(
            "--scale",
            (self.scale != "auto").then(|| self.scale.clone()),
        );
        let accel = self.accel.map(|accel| match accel {
            Accel::Kvm => "kvm".to_owned(),
            Accel::Tcg => "tcg".to_owned(),
        });
        add("--accel", accel);
        add("--only", self.only.clone());
        words
    }
}

/// Reads a duration like 90s, 5m or 1h30m.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let signed: jiff::SignedDuration = text
        .parse()
        .map_err(|_| format!("{text} is no duration; write 90s or 5m"))?;
    Duration::try_from(signed).map_err(|_| "a duration is not negative".to_owned())
}
