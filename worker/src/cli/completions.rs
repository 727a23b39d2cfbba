//! `glyph completions` and `glyph man`: the command line for shells and readers.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use clap::Args;
use clap_complete::Shell;
use serde_json::json;

use super::{CliError, Output};

/// Which completions.
#[derive(Clone, Debug, Args)]
pub struct CompletionsArgs {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

/// Where man pages go.
#[derive(Clone, Debug, Args)]
pub struct ManArgs {
    /// Folder, made if it is not there, such as ~/.local/share/man/man1
    #[arg(value_name = "DIR")]
    folder: PathBuf,
}

/// Prints the completions of a command line for a shell.
pub(super) fn completions(args: &CompletionsArgs, mut glyph: clap::Command, output: Output) {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut glyph, "glyph", &mut script);
    let script = String::from_utf8_lossy(&script).into_owned();
    let document = json!({"shell": args.shell.to_string(), "script": script});
    output.result(&document, || script);
}

/// Writes a page for each command.
pub(super) fn man(args: &ManArgs, glyph: clap::Command, output: Output) -> Result<(), CliError> {
    let folder = &args.folder;
    let unwritten = |error: io::Error| {
        CliError::failed("not_written", format!("{}: {error}", folder.display()))
    };
    fs::create_dir_all(folder).map_err(unwritten)?;
    let mut files = Vec::new();
    write_pages(glyph, "", folder, &mut files).map_err(unwritten)?;
    output.result(&json!({"folder": folder, "files": files}), || {
        format!(
            "{} pages in {}; man -l {}",
            files.len(),
            folder.display(),
            folder.join("glyph.1").display()
        )
    });
    Ok(())
}

fn write_pages(
    command: clap::Command,
    before: &str,
    folder: &Path,
    files: &mut Vec<String>,
) -> io::Result<()> {
    let name = format!("{before}{}", command.get_name());
    let below: Vec<clap::Command> = command.get_subcommands().cloned().collect();
    // The title of a page is what `man` is called with.
    let command = command.display_name(name.clone());
    let mut page = Vec::new();
    clap_mangen::Man::new(command).render(&mut page)?;
    let file = format!("{name}.1");
    fs::write(folder.join(&file), page)?;
    files.push(file);
    for command in below {
        if command.get_name() != "help" {
            write_pages(command, &format!("{name}-"), folder, files)?;
        }
    }
    Ok(())
}
