//! The entry point of the binary; everything else is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    glyph_worker::cli::main(std::env::args_os())
}
