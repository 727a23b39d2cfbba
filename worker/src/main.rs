//! The entry point of the binary; everything else is in the library.

use std::process::ExitCode;

/// What a burst has freed goes back to the system, however many threads had it.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    glyph_worker::cli::main(std::env::args_os())
}
