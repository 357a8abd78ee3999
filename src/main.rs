//! The `twin` command.

fn main() -> std::process::ExitCode {
    twin::cli::main()
}
