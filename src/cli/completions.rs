//! `engine completions` and `engine man`: what shells and `man` know of the command line.

use std::fs;
use std::path::PathBuf;

use clap::{Args, Command};
use clap_complete::Shell;
use clap_mangen::Man;

use super::command;
use crate::error::{Error, Result};
use crate::files::write_atomic;
use crate::outside::printable;
use crate::program::{output::print_file, print};

/// Arguments of `engine completions`.
#[derive(Args, Clone, Debug)]
pub struct CompletionsArgs {
    /// The shell
    #[arg(value_name = "SHELL")]
    pub shell: Shell,
}

/// Arguments of `engine man`.
#[derive(Args, Clone, Debug)]
pub struct ManArgs {
    /// The folder, which is made if it is not there; pages in it are replaced
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
}

/// Prints a script that completes the command line.
pub fn run(args: &CompletionsArgs) -> Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut grammar(), "engine", &mut script);
    print_file(&String::from_utf8_lossy(&script))
}

/// Writes a page for the program and one for each verb.
pub fn man(args: &ManArgs) -> Result<()> {
    let bad = |e: std::io::Error| {
        Error::device(format!("cannot make the folder {}: {e}", printable(&args.out)))
    };
    fs::create_dir_all(&args.out).map_err(bad)?;
    let mut program = grammar();
    program.build();
    let pages = page(&program, &args.out)?;
    print(&format!("{}: {pages} pages; read them with man -l FILE", printable(&args.out)))
}

/// Writes the pages of a command and of those below it; returns how many.
fn page(command: &Command, out: &std::path::Path) -> Result<usize> {
    let name = command.get_display_name().unwrap_or(command.get_name()).replace(' ', "-");
    let man = Man::new(command.clone());
    write_atomic(&out.join(format!("{name}.1")), |file| man.render(file))?;
    let shown = command.get_subcommands().filter(|c| !c.is_hide_set() && c.get_name() != "help");
    shown.map(|command| page(command, out)).try_fold(1, |sum, pages| Ok(sum + pages?))
}

fn grammar() -> Command {
    command(env!("CARGO_PKG_VERSION"))
}
