//! What `twin` becomes for all that needs the machine.

fn main() -> std::process::ExitCode {
    twin::cli::main()
}
