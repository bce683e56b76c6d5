//! The `sheaf` binary.

use std::process::ExitCode;

use mimalloc::MiMalloc;

/// Events are made on one thread and freed on another, a batch at a time. The system's allocator takes a lock for that
/// and spends a fifth of all CPU; this one, an eighth less in all (`make bench`).
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    sheaf_runtime::egress::install_tls();
    sheaf_runtime::cli::main()
}
