//! The `twin` command: answers at once what needs no machine, and becomes `twin-host` for the rest.

fn main() -> std::process::ExitCode {
    twin::cli::front()
}
