//! `twin cp`.

use std::path::Path;

use clap::Args;
use tracing::instrument;

use crate::cli::context::Context;
use crate::cli::failure::{DONE, Failure};
use crate::cli::interrupt::interruptible;
use crate::service::{CopyError, Remote, ServiceError, get, put};

#[derive(Debug, Args)]
pub(crate) struct Flags {
    /// From: a path, - for standard input, or HOST:PATH.
    pub(crate) from: String,
    /// To: a path, - for standard output, or HOST:PATH.
    pub(crate) to: String,
}

fn remote(text: &str) -> Option<Remote<'_>> {
    let (host, path) = text.split_once(':')?;
    (!host.contains('/')).then_some(Remote { host, path })
}

#[instrument(skip_all, fields(lab = context.global.lab.as_deref()))]
pub(crate) async fn run(context: &Context<'_>, flags: &Flags) -> Result<u8, Failure> {
    crate::cli::ui::no_document(context.ui, "cp")?;
    let found = context.site.lab().await?;
    let copied = async {
        match (remote(&flags.from), remote(&flags.to)) {
            (None, Some(to)) => {
                let put = put(&context.site, &found, Path::new(&flags.from), to).await;
                put.map_err(|error| failure(error, to.host))
            }
            (Some(from), None) => {
                let mut stdout = |data: &[u8]| context.ui.bytes(data);
                let to = Path::new(&flags.to);
                let got = get(&context.site, &found, from, to, &mut stdout).await;
                got.map_err(|error| failure(error, from.host))
            }
            _ => Err(Failure::usage(
                "one side of a copy is HOST:PATH, the other a path here",
                vec!["`twin cp FILE HOST:PATH` or `twin cp HOST:PATH FILE`".into()],
            )),
        }
    };
    interruptible(copied, || {
        Failure::interrupted("interrupted; nothing was replaced", Vec::new())
    })
    .await?;
    DONE
}

fn failure(error: ServiceError, host: &str) -> Failure {
    let ServiceError::Copy(error) = error else {
        return error.into();
    };
    let message = error.to_string();
    let cure = match &error {
        CopyError::Read { .. } => "name a file that can be read".to_owned(),
        CopyError::Write { .. } => "name a path that can be written".to_owned(),
        CopyError::Directory { path: from, to } => {
            let from = from.display();
            format!("tar -C {from} -c . | twin exec {host} -- tar -C {to} -x")
        }
        CopyError::Device { path: from, to } => {
            let from = from.display();
            format!("twin exec {host} -- sh -c 'cat > {to}' < {from}")
        }
        CopyError::Host { .. } => {
            return Failure::machine(message, vec!["see that the path is right".into()]);
        }
        CopyError::Sink { .. } => {
            return Failure::machine(message, vec!["see that there is space".into()]);
        }
    };
    Failure::usage(message, vec![cure])
}
