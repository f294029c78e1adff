//! Texts that are made from the definition of the command line.

use std::io::{self, Write};
use std::process::ExitCode;

use clap::CommandFactory as _;
use clap_complete::Shell;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, roman};

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
    write_page(&mut page)?;
    print(&page)
}

/// One page with every command on it: there are no pages of the commands that it could point to.
fn write_page(page: &mut dyn Write) -> io::Result<()> {
    let mut program = Cli::command().mut_subcommands(without_help);
    program.build();
    let man = Man::new(program.clone());
    man.render_title(page)?;
    man.render_name_section(page)?;
    man.render_synopsis_section(page)?;
    man.render_description_section(page)?;
    man.render_options_section(page)?;
    heading(page, "SH", "COMMANDS")?;
    write_commands(page, &program)?;
    heading(page, "SH", "FIRST STEPS")?;
    examples(page, &program)?;
    man.render_version_section(page)
}

/// Every command has `--help`, so it is enough to say that once.
fn without_help(command: clap::Command) -> clap::Command {
    command.disable_help_flag(true).mut_subcommands(without_help)
}

fn write_commands(page: &mut dyn Write, above: &clap::Command) -> io::Result<()> {
    for command in above.get_subcommands() {
        let man = Man::new(command.clone());
        heading(page, "SS", command.get_bin_name().unwrap_or_else(|| command.get_name()))?;
        body(page, |section| man.render_synopsis_section(section))?;
        paragraph(page)?;
        body(page, |section| man.render_description_section(section))?;
        body(page, |section| man.render_options_section(section))?;
        examples(page, command)?;
        write_commands(page, command)?;
    }
    Ok(())
}

/// What stands below the heading of a section.
fn body(
    page: &mut dyn Write,
    render: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> io::Result<()> {
    let mut section = Vec::new();
    render(&mut section)?;
    let lines = section.split_inclusive(|byte| *byte == b'\n');
    let below = lines.skip_while(|line| !line.starts_with(b".SH")).skip(1);
    below.into_iter().try_for_each(|line| page.write_all(line))
}

/// The text at the end of a command's help, its lines as they are.
fn examples(page: &mut dyn Write, command: &clap::Command) -> io::Result<()> {
    let Some(text) = command.get_after_long_help() else { return Ok(()) };
    let mut roff = Roff::new();
    roff.control("PP", []).control("nf", []);
    for line in text.to_string().lines() {
        roff.text([roman(line)]);
    }
    roff.control("fi", []);
    page.write_all(roff.render().as_bytes())
}

fn heading(page: &mut dyn Write, level: &str, text: &str) -> io::Result<()> {
    page.write_all(Roff::new().control(level, [text]).render().as_bytes())
}

fn paragraph(page: &mut dyn Write) -> io::Result<()> {
    page.write_all(b".PP\n")
}

fn print(text: &[u8]) -> anyhow::Result<ExitCode> {
    io::stdout().lock().write_all(text)?;
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_manual_page_has_every_command_with_its_options() {
        let mut page = Vec::new();
        write_page(&mut page).unwrap();
        let page = String::from_utf8(page).unwrap().replace("\\-", "-");
        for expected in [
            ".SS \"orlop serve\"",
            ".SS \"orlop config show\"",
            "--no-import",
            "--delete-untagged",
            "CONFIG",
            "\n  orlop check                 Verify all stored data\n",
        ] {
            assert!(page.contains(expected), "{expected} is not in {page}");
        }
        assert!(!page.contains("(1)"), "it names a page that nobody makes: {page}");
        assert_eq!(page.matches("\n.nf\n").count(), page.matches("\n.fi\n").count());
    }
}
