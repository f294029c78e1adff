//! Texts that are made from the definition of the command line.

use std::io::{self, Write as _};
use std::process::ExitCode;

use clap::CommandFactory as _;
use clap_complete::Shell;

use crate::cli::Cli;

/// A script for a shell, on standard output.
pub(crate) fn completions(shell: Shell) -> anyhow::Result<ExitCode> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "orlop", &mut script);
    print(&script)
}

/// The manual page (roff), on standard output.
pub(crate) fn man_page() -> anyhow::Result<ExitCode> {
    let mut page = Vec::new();
    clap_mangen::Man::new(Cli::command()).render(&mut page)?;
    print(&page)
}

fn print(text: &[u8]) -> anyhow::Result<ExitCode> {
    io::stdout().lock().write_all(text)?;
    Ok(ExitCode::SUCCESS)
}
