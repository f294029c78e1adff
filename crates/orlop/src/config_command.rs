//! `orlop config …`: the configuration, looked at.

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use crate::cli::{ConfigCheck, ConfigCommand, ConfigFile};
use crate::config::{self, Config, Loaded, Mode, Refused};

pub(crate) fn run(command: &ConfigCommand) -> anyhow::Result<ExitCode> {
    match print(command) {
        // Whoever reads has seen enough: `orlop config show | head`.
        Err(error) if is_broken_pipe(&error) => Ok(ExitCode::SUCCESS),
        done => done,
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let error = error.downcast_ref::<io::Error>();
    error.is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

fn print(command: &ConfigCommand) -> anyhow::Result<ExitCode> {
    let mut out = io::stdout().lock();
    let mut talk = io::stderr().lock();
    match command {
        ConfigCommand::Check(options) => check(options, &mut out, &mut talk),
        ConfigCommand::Show(show) => {
            let loaded = load(&show.config, Mode::Lenient)?;
            warn(&loaded, &mut talk)?;
            out.write_all(loaded.show().as_bytes())?;
            Ok(ExitCode::SUCCESS)
        }
        ConfigCommand::Schema => {
            writeln!(out, "{:#}", config::json_schema())?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn check(
    options: &ConfigCheck,
    out: &mut impl Write,
    talk: &mut impl Write,
) -> anyhow::Result<ExitCode> {
    let loaded = match load(&options.config, Mode::of(options.strict)) {
        Ok(loaded) => loaded,
        Err(Refused { error, warnings }) => {
            // A line for each mistake, in the form of a compiler.
            for line in error.to_string().lines() {
                writeln!(talk, "error: {line}")?;
            }
            for warning in warnings {
                writeln!(talk, "warning: {warning}")?;
            }
            return Ok(ExitCode::FAILURE);
        }
    };
    warn(&loaded, talk)?;
    let warnings = loaded.warnings.len() + loaded.unsupported.len();
    writeln!(out, "{}", summary(loaded.source.as_deref(), loaded.count(), warnings))?;
    Ok(ExitCode::SUCCESS)
}

fn load(file: &ConfigFile, mode: Mode) -> Result<Loaded, Refused> {
    Config::load(file.path().as_deref(), config::environment(), mode)
}

fn warn(loaded: &Loaded, talk: &mut impl Write) -> anyhow::Result<()> {
    for warning in loaded.warnings.iter().chain(&loaded.unsupported) {
        writeln!(talk, "warning: {warning}")?;
    }
    Ok(())
}

fn summary(source: Option<&Path>, keys: usize, warnings: usize) -> String {
    let source = source.map_or("no file".into(), Path::to_string_lossy);
    let count = |number, what| format!("{number} {what}{}", if number == 1 { "" } else { "s" });
    format!("ok: {source}, {} set, {}", count(keys, "key"), count(warnings, "warning"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Cli;
    use crate::cli::Command;
    use clap::Parser;

    /// Exit status, standard output and standard error of `orlop config check`.
    fn check_file(text: &str, options: &[&str]) -> (ExitCode, String, String) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("c.yml");
        std::fs::write(&path, text).unwrap();
        let line = ["orlop", "config", "check", path.to_str().unwrap()];
        let cli = Cli::try_parse_from(line.iter().chain(options)).unwrap();
        let Command::Config(ConfigCommand::Check(options)) = cli.command else {
            panic!("not config check");
        };
        let (mut out, mut talk) = (Vec::new(), Vec::new());
        let code = check(&options, &mut out, &mut talk).unwrap();
        let prefix = format!("{}/", folder.path().display());
        let text = |bytes| String::from_utf8(bytes).unwrap().replace(&prefix, "");
        (code, text(out), text(talk))
    }

    #[test]
    fn a_good_file_is_one_line() {
        let (code, out, talk) = check_file("version: 0.1\nlog: {level: debug}\n", &[]);
        assert_eq!(code, ExitCode::SUCCESS);
        assert_eq!(out, "ok: c.yml, 2 keys set, 0 warnings\n");
        assert_eq!(talk, "");
    }

    #[test]
    fn what_serve_would_refuse_is_a_warning() {
        let (code, out, talk) =
            check_file("version: 0.1\nproxy: {remoteurl: 'http://h'}\nlgo: 1\n", &[]);
        assert_eq!(code, ExitCode::SUCCESS);
        assert_eq!(out, "ok: c.yml, 2 keys set, 2 warnings\n");
        assert!(talk.contains("warning: c.yml:2:9: proxy.remoteurl comes"), "{talk}");
        assert!(talk.contains("warning: c.yml:3:1: lgo is not a known key"), "{talk}");
    }

    #[test]
    fn a_misspelt_key_is_named_beside_what_is_missing() {
        let (code, _, talk) = check_file("versoin: 0.1\n", &[]);
        assert_eq!(code, ExitCode::FAILURE);
        let lines: Vec<_> = talk.lines().collect();
        assert_eq!(lines.len(), 2, "{talk}");
        assert!(lines[0].starts_with("error: c.yml: version: expected"), "{talk}");
        assert!(lines[1].starts_with("warning: c.yml:1:1: versoin is not a known key"), "{talk}");
        assert!(lines[1].ends_with("did you mean version?"), "{talk}");
    }

    #[test]
    fn a_file_of_something_else_has_a_place() {
        let (code, _, talk) = check_file("# a comment\nhello\n", &[]);
        assert_eq!(code, ExitCode::FAILURE);
        assert!(talk.contains("error: c.yml:2:1: the file: expected"), "{talk}");
    }

    #[test]
    fn every_mistake_is_named() {
        let text = "version: 0.1\nlog: {level: loud}\nhttp: {addr: here, adr: 1}\n";
        let (code, out, talk) = check_file(text, &["--strict"]);
        assert_eq!(code, ExitCode::FAILURE);
        assert_eq!(out, "");
        let lines: Vec<_> = talk.lines().collect();
        assert_eq!(lines.len(), 3, "{talk}");
        assert!(lines.iter().all(|line| line.starts_with("error: c.yml:")), "{talk}");
    }
}
