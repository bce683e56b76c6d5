//! The `sheaf` binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    sheaf_runtime::egress::install_tls();
    sheaf_runtime::cli::main()
}
