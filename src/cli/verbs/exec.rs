//! `twin exec`.

use std::io::IsTerminal;

use clap::Args;
use tracing::instrument;

use crate::cli::context::Context;
use crate::cli::failure::{Failure, code};
use crate::cli::interrupt::interruptible;
use crate::cli::show::exec as show;
use crate::cli::stdin::standard_input;
use crate::guest::Output;
use crate::service::{gather, stream};

#[derive(Debug, Args)]
pub(crate) struct Flags {
    /// The host.
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    pub(crate) host: Option<String>,
    /// All hosts at once; standard input is empty there.
    #[arg(long)]
    pub(crate) all: bool,
    /// Leaves standard input alone.
    #[arg(long, short = 'n')]
    pub(crate) no_stdin: bool,
    /// The program and its arguments.
    #[arg(last = true, required = true, value_name = "CMD")]
    pub(crate) command: Vec<String>,
}

fn exit_code(code: i32) -> u8 {
    u8::try_from(code.clamp(0, 255)).unwrap_or(u8::MAX)
}

#[instrument(skip_all, fields(lab = context.global.lab.as_deref(), host = flags.host.as_deref()))]
pub(crate) async fn run(context: &Context<'_>, flags: &Flags) -> Result<u8, Failure> {
    let (site, ui) = (&context.site, context.ui);
    let found = site.lab().await?;
    let work = async {
        let hosts = match &flags.host {
            Some(host) if !ui.json => {
                // Before standard input is read, which may be another program's.
                found.host(host)?;
                let stdin = !flags.no_stdin && !std::io::stdin().is_terminal();
                let program = (flags.command.clone(), stdin.then(standard_input));
                let mut print = |output| match output {
                    Output::Stdout(data) => ui.bytes(&data),
                    Output::Stderr(data) => ui.error_bytes(&data),
                };
                let code = stream(site, &found, host, program, &mut print).await?;
                return Ok(exit_code(code));
            }
            Some(host) => vec![found.host(host)?.clone()],
            None => found.hosts.clone(),
        };
        let results = gather(site, &found, &hosts, &flags.command).await;
        let mut codes = results
            .iter()
            .map(|ran| ran.exit.map_or(code::MACHINE, exit_code));
        let code = codes.find(|code| *code != code::DONE).unwrap_or(code::DONE);
        show::gathered(ui, results);
        Ok(code)
    };
    interruptible(work, || {
        Failure::interrupted("interrupted; the program was killed", Vec::new())
    })
    .await
}
