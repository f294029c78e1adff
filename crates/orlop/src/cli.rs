//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use oci::{DigestError, NameError, Reference, TagError};
use registry::{ImageName, Selection};

/// `orlop …`, as it was typed.
#[derive(Debug, Parser)]
#[command(
    name = "orlop",
    version,
    about = "A container registry: the place that images are pushed to and pulled from",
    after_help = "Try `orlop serve --help`.",
    after_long_help = EXAMPLES,
    arg_required_else_help = true,
    disable_help_subcommand = true,
    max_term_width = 100
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    #[command(flatten)]
    OnData(DataCommand),
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Print a script that lets a shell complete the command line
    ///
    /// For bash: `orlop completions bash > /etc/bash_completion.d/orlop`
    #[command(alias = "completion")]
    Completions { shell: clap_complete::Shell },
    /// Print the manual page
    ///
    /// To read it: `orlop man | man -l -`
    Man,
}

/// What works on the data folder.
#[derive(Debug, Subcommand)]
pub(crate) enum DataCommand {
    Serve(Serve),
    Check(Check),
    Import(Import),
    Export(Export),
    GarbageCollect(GarbageCollect),
    #[command(subcommand)]
    Db(DbCommand),
}

/// Start the registry
///
/// Docker, podman and every other OCI client can then push to it and pull from it, until Ctrl-C or
/// SIGTERM stops it. It needs no configuration and no other service.
#[derive(Debug, Args)]
#[command(after_help = "`orlop serve --help` says more.", after_long_help = SERVING)]
pub(crate) struct Serve {
    #[command(flatten)]
    pub(crate) config: ConfigFile,

    /// Do not take over the repositories that registry:2 or registry:3 has left in the data folder
    #[arg(long)]
    pub(crate) no_import: bool,
    /// Do not start if a key or a REGISTRY_* variable is unknown, or a key is written twice
    #[arg(long)]
    pub(crate) strict: bool,
}

/// Verify the stored data
///
/// The database is held against the files, and every byte of every file against its digest. What
/// is wrong goes to standard output, a line each, and the exit status is then 1. Nothing is
/// changed.
#[derive(Debug, Args)]
#[command(after_long_help = CHECKING)]
pub(crate) struct Check {
    #[command(flatten)]
    pub(crate) config: ConfigFile,

    /// Compare names and sizes only, without reading the content of the files
    #[arg(long)]
    pub(crate) quick: bool,
}

/// Take over the repositories of registry:2 or registry:3, or images out of files
///
/// Without `--from`: `orlop serve` does this by itself while it serves; this does it beforehand.
/// The data stays where it is. What is odd in it goes to standard output, a line each, and stops
/// nothing. Cut short, it goes on where it was. No server may be running.
///
/// With `--from`: stores the images of an OCI image layout (a folder or tar), of `docker save`, or
/// of a bundle that `orlop export --to` has made. Every byte is compared with its digest; an image
/// gets its tag when it is whole. One that is not whole goes to standard output, a line each, and
/// the exit status is then 1. What is there already is not stored again, so an import that was cut
/// short goes on when it is run again.
#[derive(Debug, Args)]
#[command(after_long_help = IMPORTING)]
pub(crate) struct Import {
    #[command(flatten)]
    pub(crate) config: ConfigFile,

    /// Read everything (with `--again` what is new) and report what is odd, but write nothing
    #[arg(long)]
    pub(crate) dry_run: bool,

    /// Read the link files again and add what registry:2 has written since the last import
    #[arg(long, conflicts_with = "from")]
    pub(crate) again: bool,

    /// Take the images of this folder or file (may be compressed by gzip; `-`: standard input)
    #[arg(long, value_name = "PATH", value_hint = clap::ValueHint::AnyPath)]
    pub(crate) from: Option<PathBuf>,

    /// What the image is to be called, or the repository for all images; else they are called as
    /// in the files, without the host
    #[arg(long, value_name = "REPOSITORY[:TAG]", requires = "from", value_parser = image_name)]
    pub(crate) name: Option<ImageName>,
}

/// Hand the data folder back to registry:2 or registry:3, or write images into files
///
/// Without options: writes the link files that these registries need, and removes those of what was
/// deleted since. What they will not be able to read goes to standard output, a line each. No
/// server may be running.
///
/// With `--to`: writes an OCI image layout, which other tools read, too; signatures, SBOMs and
/// whatever else refers to an image go with it. A server may run. An image that is not whole goes
/// to standard output, a line each (with `--to -` to standard error), and the exit status is then 1.
/// With `--to -`, a damaged blob ends the whole export, as what was written of it can not be taken
/// back. In a folder, the index of an earlier export is replaced.
#[derive(Debug, Args)]
#[command(after_long_help = EXPORTING)]
pub(crate) struct Export {
    #[command(flatten)]
    pub(crate) config: ConfigFile,

    /// Say what would be written and removed, but change nothing
    #[arg(long, conflicts_with_all = ["to", "inventory"])]
    pub(crate) dry_run: bool,

    /// Write images into this folder, or this file if it ends in `.tar` (`-`: a tar on standard
    /// output)
    #[arg(long, value_name = "PATH", value_hint = clap::ValueHint::AnyPath)]
    pub(crate) to: Option<PathBuf>,

    /// Write this image, or this repository (may be given again); else all there is
    #[arg(long, value_name = "REPOSITORY[:TAG|@DIGEST]", requires = "to", value_parser = selection)]
    pub(crate) image: Vec<Selection>,

    /// Leave out the blobs that this inventory of the other side lists
    #[arg(long, value_name = "FILE", requires = "to", value_hint = clap::ValueHint::FilePath)]
    pub(crate) without: Option<PathBuf>,

    /// Write an inventory: the digests of what is here, for the `--without` of another side (`-`:
    /// standard output)
    #[arg(
        long,
        value_name = "FILE",
        conflicts_with = "to",
        value_hint = clap::ValueHint::FilePath
    )]
    pub(crate) inventory: Option<PathBuf>,
}

/// Give back the space of what nothing needs
///
/// Removes content that no manifest names. No server may be running. What would be removed, or was,
/// goes to standard output, a line each.
#[derive(Debug, Args)]
pub(crate) struct GarbageCollect {
    #[command(flatten)]
    pub(crate) config: ConfigFile,

    /// Say what would be removed, but remove nothing
    #[arg(short, long)]
    pub(crate) dry_run: bool,

    /// Remove manifests, too, that no tag leads to, not even through an index; what refers to one
    /// that stays (a signature, an SBOM) stays
    #[arg(short = 'm', long)]
    pub(crate) delete_untagged: bool,

    /// Print the sum only
    #[arg(short, long)]
    pub(crate) quiet: bool,
}

/// Look after the database
///
/// It keeps the facts: names, tags, manifests. It is a SQLite file below the data folder, or with
/// `database.url` PostgreSQL.
#[derive(Debug, Subcommand)]
#[command(after_long_help = DATABASES)]
pub(crate) enum DbCommand {
    /// Say what the database is, which version its tables have, and how much is in it
    ///
    /// Servers may run.
    Status {
        #[command(flatten)]
        config: ConfigFile,
    },
    /// Bring the tables up to date, as `orlop serve` does when it starts
    ///
    /// On PostgreSQL, servers of the version before may run.
    Migrate {
        #[command(flatten)]
        config: ConfigFile,
    },
    Copy(DbCopy),
}

/// Copy everything from SQLite to PostgreSQL or back
///
/// The target must be empty. Every row is compared in the end. Cut short, it goes on where it was.
/// No server may be running on either of them.
#[derive(Debug, Args)]
pub(crate) struct DbCopy {
    #[command(flatten)]
    pub(crate) config: ConfigFile,

    /// Where the facts are: a postgres:// URL, a SQLite file, or its data folder; else the SQLite
    /// file below the configured data folder
    #[arg(long, value_name = "URL|FILE")]
    pub(crate) from: Option<String>,

    /// Where they are to be: a postgres:// URL, a SQLite file (with an extension, if it is not
    /// there yet), or a data folder; else `database.url` of the configuration
    #[arg(long, value_name = "URL|FILE")]
    pub(crate) to: Option<String>,
}

impl DbCommand {
    pub(crate) fn config(&self) -> &ConfigFile {
        match self {
            Self::Status { config } | Self::Migrate { config } => config,
            Self::Copy(copy) => &copy.config,
        }
    }
}

/// Look at the configuration
///
/// All of it: the file, the REGISTRY_* variables and the defaults, as `orlop serve` would see them
/// now, here. Nothing is started and no data is touched.
#[derive(Debug, Subcommand)]
#[command(after_long_help = CONFIGURING)]
pub(crate) enum ConfigCommand {
    Check(ConfigCheck),
    Show(ConfigShow),
    /// Print a JSON Schema of the configuration file, for editors
    ///
    /// With it, an editor completes keys, explains them and underlines mistakes. For the YAML
    /// extension of most editors, this line at the start of the file is enough:
    ///
    /// # yaml-language-server: $schema=orlop.schema.json
    #[command(verbatim_doc_comment)]
    Schema,
}

/// Verify the configuration
///
/// Every mistake is named with its place: file, line and column, or the variable. The exit status
/// is 0 if `orlop serve` would take the configuration, else 1. What `serve` would warn of is
/// written to standard error, and so is what this version of Orlop cannot do yet, on account of
/// which `serve` would not start.
#[derive(Debug, Args)]
pub(crate) struct ConfigCheck {
    #[command(flatten)]
    pub(crate) config: ConfigFile,

    /// Take unknown keys and variables, and keys that are written twice, for mistakes
    #[arg(long)]
    pub(crate) strict: bool,
}

/// Print the effective configuration
///
/// As YAML, which could be a configuration file again. Behind each value stands where it was set:
/// the place in the file, the variable, or `default`. Secrets are masked.
#[derive(Debug, Args)]
pub(crate) struct ConfigShow {
    #[command(flatten)]
    pub(crate) config: ConfigFile,
}

#[derive(Debug, Args)]
pub(crate) struct ConfigFile {
    #[arg(
        value_name = "CONFIG",
        help = "Configuration file, in the format of registry:2 [env: REGISTRY_CONFIGURATION_PATH]"
    )]
    argument: Option<PathBuf>,
}

impl ConfigFile {
    /// The file to read: the argument, else `REGISTRY_CONFIGURATION_PATH`, else none.
    pub(crate) fn path(&self) -> Option<PathBuf> {
        self.argument.clone().or_else(|| {
            std::env::var_os("REGISTRY_CONFIGURATION_PATH")
                .filter(|path| !path.is_empty())
                .map(PathBuf::from)
        })
    }
}

/// Reads `REPOSITORY[:TAG]`.
fn image_name(text: &str) -> Result<ImageName, String> {
    let (repository, tag) = match text.rsplit_once(':') {
        Some((repository, tag)) => (repository, Some(tag)),
        None => (text, None),
    };
    let tag = tag.map(str::parse).transpose().map_err(|error: TagError| error.to_string())?;
    let repository = repository.parse().map_err(|error: NameError| error.to_string())?;
    Ok(ImageName { repository, tag })
}

/// Reads `REPOSITORY[:TAG|@DIGEST]`.
fn selection(text: &str) -> Result<Selection, String> {
    let Some((repository, digest)) = text.split_once('@') else {
        let ImageName { repository, tag } = image_name(text)?;
        return Ok(Selection { repository, reference: tag.map(Into::into) });
    };
    let digest = digest.parse().map_err(|error: DigestError| error.to_string())?;
    let repository = repository.parse().map_err(|error: NameError| error.to_string())?;
    Ok(Selection { repository, reference: Some(Reference::Digest(digest)) })
}

const EXAMPLES: &str = "\
Examples:
  orlop serve                 Start on 127.0.0.1:5000, data in your home folder
  orlop serve config.yml      Start as the file says
  orlop check                 Verify all stored data
  orlop config show           Print the configuration in effect

With the registry running:
  docker tag hello-world localhost:5000/hello
  docker push localhost:5000/hello

Try `orlop serve --help`.";

const SERVING: &str = "\
Examples:
  orlop serve
      Serve this machine only, at localhost:5000.
  REGISTRY_HTTP_ADDR=:5000 orlop serve
      Serve everyone who can reach this machine. Without `auth`, whoever can connect can pull,
      push and delete.
  orlop serve /etc/docker/registry/config.yml
      Take over the configuration of registry:2.

Where data goes:
  Without CONFIG, $XDG_DATA_HOME/orlop or ~/.local/share/orlop; with it,
  `storage.filesystem.rootdirectory` or /var/lib/registry. Everything is below this one
  folder: the images and the database. The start-up lines say which it is.

Environment variables (each key of CONFIG has one; the variable wins):
                                               with CONFIG         without CONFIG
  REGISTRY_CONFIGURATION_PATH                  used if no CONFIG is given
  REGISTRY_HTTP_ADDR                           :5000               127.0.0.1:5000
  REGISTRY_HTTP_HOST                           as the client calls the registry
  REGISTRY_HTTP_SECRET                         none (the same on all replicas)
  REGISTRY_HTTP_DRAINTIMEOUT                   8s
  REGISTRY_HTTP_DEBUG_ADDR                     none (else: health and metrics)
  REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY    /var/lib/registry   see above
  REGISTRY_STORAGE_DELETE_ENABLED              false               true
  REGISTRY_DATABASE_URL                        none (a SQLite file in the data folder)
  REGISTRY_LOG_LEVEL                           info (error, warn, info, debug)
  REGISTRY_LOG_FORMATTER                       text (text, json, logstash)
  REGISTRY_LOG_ACCESSLOG_DISABLED              false
  NO_COLOR                                     set it for a log without colours

All keys: docs/configuration.md";

const CONFIGURING: &str = "\
Examples:
  orlop config check config.yml             Is this file all right?
  orlop config show config.yml              What holds, and where does it come from?
  orlop config schema > orlop.schema.json   Help for an editor

All keys: docs/configuration.md";

const CHECKING: &str = "\
Examples:
  orlop check                 Check the data that `orlop serve` uses
  orlop check config.yml      Check the data that `orlop serve config.yml` uses
  orlop check --quick         Do not read the content of the files

The variables of `orlop serve` count here too.";

const IMPORTING: &str = "\
Examples:
  orlop import config.yml             Take over the data that `orlop serve config.yml` will use
  orlop import --dry-run config.yml   See first whether something is odd

  docker save team/app:v1 | orlop import --from - config.yml
      Store an image of Docker's.
  skopeo copy docker://alpine oci-archive:alpine.tar
  orlop import --from alpine.tar --name base/alpine:3 config.yml
      Store an image of an OCI image layout, under a name of its own.
  orlop import --from /media/disk/bundle config.yml
      Store all that `orlop export --to /media/disk/bundle` has written elsewhere.

The variables of `orlop serve` count here too. More: docs/migrate.md, docs/bundles.md";

const DATABASES: &str = "\
Examples:
  orlop db status config.yml      What is there?
  orlop db migrate config.yml     Bring it up to date before a new version starts

  REGISTRY_DATABASE_URL=postgres://orlop:PASSWORD@db/orlop orlop db copy config.yml
      Move from the SQLite file to PostgreSQL.
  orlop db copy --from postgres://orlop@db/orlop --to /srv/registry/orlop/metadata.sqlite
      Move back. The password may be in PGPASSWORD.

The variables of `orlop serve` count here too. More: docs/database.md";

const EXPORTING: &str = "\
Examples:
  orlop export config.yml             Make the data folder usable for registry:2 again
  orlop export --dry-run config.yml   See first what that changes

  orlop export --image team/app:v1 --to app.tar config.yml
      Write an image into a file for `docker load`, `skopeo copy oci-archive:app.tar` and others.
  orlop export --to /media/disk/bundle config.yml
      Write everything into a folder. Run again, it writes only what is new.

  To a site without a network, only what it lacks:
  orlop export --inventory there.txt config.yml             (there)
  orlop export --to bundle.tar --without there.txt config.yml   (here)
  orlop import --from bundle.tar config.yml                 (there)

The variables of `orlop serve` count here too. More: docs/migrate.md, docs/bundles.md";

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;
    use clap::error::ErrorKind;

    fn parse(line: &str) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(line.split(' '))
    }

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn commands_and_arguments() {
        let Command::OnData(DataCommand::Serve(serve)) =
            parse("orlop serve c.yml").unwrap().command
        else {
            panic!("not serve");
        };
        assert_eq!(serve.config.path(), Some(PathBuf::from("c.yml")));
        let Command::OnData(DataCommand::Check(check)) =
            parse("orlop check --quick").unwrap().command
        else {
            panic!("not check");
        };
        assert!(check.quick);
        let Command::OnData(DataCommand::Import(import)) =
            parse("orlop import --dry-run c.yml").unwrap().command
        else {
            panic!("not import");
        };
        assert!(import.dry_run && !import.again);
        let Command::OnData(DataCommand::Export(export)) =
            parse("orlop export --dry-run").unwrap().command
        else {
            panic!("not export");
        };
        assert!(export.dry_run);
        let Command::OnData(DataCommand::Import(import)) =
            parse("orlop import --from a.tar --name team/app:v1").unwrap().command
        else {
            panic!("not import");
        };
        let name = import.name.unwrap();
        assert_eq!(name.repository.as_str(), "team/app");
        assert_eq!(name.tag.unwrap().as_str(), "v1");
        let digest = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        let line = format!("orlop export --to - --image a --image b/c:v1 --image d@{digest} c.yml");
        let Command::OnData(DataCommand::Export(export)) = parse(&line).unwrap().command else {
            panic!("not export");
        };
        let references = export.image.iter().map(|image| image.reference.clone());
        let references = references.map(|reference| reference.map(|text| text.to_string()));
        let expected = [None, Some("v1".to_owned()), Some(digest.to_owned())];
        assert_eq!(references.collect::<Vec<_>>(), expected);
        assert_eq!(export.config.path(), Some(PathBuf::from("c.yml")));
        let Command::Config(ConfigCommand::Check(check)) =
            parse("orlop config check --strict c.yml").unwrap().command
        else {
            panic!("not config check");
        };
        assert!(check.strict);
        assert_eq!(check.config.path(), Some(PathBuf::from("c.yml")));
    }

    #[test]
    fn what_is_unknown_is_a_usage_error() {
        for line in [
            "orlop serve --nope",
            "orlop sevre",
            "orlop serve a b",
            "orlop",
            "orlop config",
            "orlop config schema a",
            "orlop import --name a",
            "orlop import --from a --again",
            "orlop import --from a --name Upper",
            "orlop import --from a --name b:",
            "orlop export --image a",
            "orlop export --without a",
            "orlop export --to a --image b@sha256:00",
            "orlop export --to a --inventory b",
            "orlop export --to a --dry-run",
            "orlop db",
            "orlop db copy --from",
        ] {
            let error = parse(line).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{line}");
        }
        let version = parse("orlop --version").unwrap_err();
        assert_eq!(version.kind(), ErrorKind::DisplayVersion);
        assert_eq!(version.to_string(), "orlop 0.1.0\n");
    }

    #[test]
    fn help_names_every_variable_of_this_release() {
        let help = parse("orlop serve --help").unwrap_err().to_string();
        for name in ["HTTP_ADDR", "HTTP_SECRET", "LOG_LEVEL", "STORAGE_DELETE_ENABLED"] {
            assert!(help.contains(&format!("REGISTRY_{name} ")), "{name}");
        }
        assert!(help.lines().all(|line| line.chars().count() <= 100), "{help}");
    }
}
