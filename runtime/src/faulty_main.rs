//! The binary `sheaf-faulty`: `sheaf` with one promise broken on purpose, for the fault harness to catch. Never shipped.

use std::process::ExitCode;

use sheaf_runtime::{cli, config::Environment, egress, faulty};

fn main() -> ExitCode {
    let name = Environment::of_process().get(faulty::VARIABLE).unwrap_or_default();
    if !faulty::switch_on(&name) {
        eprintln!("{} names no promise to break: {name:?}", faulty::VARIABLE);
        return ExitCode::FAILURE;
    }
    egress::install_tls();
    cli::main()
}
