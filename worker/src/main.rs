//! The entry point of the binary; everything else is in the library.

use std::process::ExitCode;

/// What a burst has freed goes back to the system, however many threads had it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    glyph_worker::cli::main(std::env::args_os())
}
