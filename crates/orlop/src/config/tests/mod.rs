//! What a user notices of the configuration.

mod mistakes;
mod never_panics;
mod reference;
mod sections;
mod shipped;
mod shown;
mod variables;

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::*;

type Variables<'a> = &'a [(&'a str, &'a str)];

fn load_file(text: &str, variables: Variables<'_>) -> Result<Loaded, String> {
    load_text(text, variables, Mode::Lenient)
}

fn load_text(text: &str, variables: Variables<'_>, mode: Mode) -> Result<Loaded, String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("c.yml");
    std::fs::write(&path, text).unwrap();
    let prefix = format!("{}/", folder.path().display());
    let short = |line: String| line.replace(&prefix, "");
    match load_as(Some(&path), variables, mode) {
        Ok(mut loaded) => {
            loaded.warnings = loaded.warnings.into_iter().map(short).collect();
            loaded.unsupported = loaded.unsupported.into_iter().map(short).collect();
            Ok(loaded)
        }
        Err(message) => Err(short(message)),
    }
}

fn load(path: Option<&Path>, variables: Variables<'_>) -> Result<Loaded, String> {
    load_as(path, variables, Mode::Lenient)
}

fn load_as(path: Option<&Path>, variables: Variables<'_>, mode: Mode) -> Result<Loaded, String> {
    let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    Config::load(path, variables, mode).map_err(|refused| refused.error.to_string())
}

/// The configuration of `version: 0.1` and these lines; it must be free of warnings.
fn clean(lines: &str) -> Config {
    let loaded = load_file(&format!("version: 0.1\n{lines}"), &[]).unwrap();
    assert_eq!(loaded.warnings, [""; 0], "{lines}");
    assert_eq!(loaded.unsupported, [""; 0], "{lines}");
    loaded.config
}

/// What these lines ask for in vain.
fn unsupported(lines: &str) -> Vec<String> {
    let loaded = load_file(&format!("version: 0.1\n{lines}"), &[]).unwrap();
    assert_eq!(loaded.warnings, [""; 0], "{lines}");
    loaded.unsupported
}

fn warnings(lines: &str) -> Vec<String> {
    let loaded = load_file(&format!("version: 0.1\n{lines}"), &[]).unwrap();
    loaded.warnings
}

fn refusal(lines: &str) -> String {
    load_file(&format!("version: 0.1\n{lines}"), &[]).expect_err(lines)
}

fn with(variables: Variables<'_>) -> Config {
    let loaded = load(None, variables).unwrap();
    assert_eq!(loaded.warnings, [""; 0]);
    loaded.config
}

#[test]
fn without_a_file_the_registry_is_for_this_user() {
    let loaded = load(None, &[("HOME", "/home/ada")]).unwrap();
    assert_eq!(loaded.source, None);
    assert_eq!(
        loaded.config,
        Config {
            log: Log {
                level: Level::Info,
                formatter: Formatter::Text,
                access_log: true,
                report_caller: false,
                fields: BTreeMap::new(),
            },
            http: Http {
                net: Net::Tcp,
                addr: "127.0.0.1:5000".to_owned(),
                secret: None,
                host: None,
                prefix: "/".to_owned(),
                relative_urls: false,
                headers: Vec::new(),
                drain_timeout: Duration::from_secs(8),
                debug_addr: None,
                prometheus_path: None,
                http2: true,
                h2c: false,
                tls: None,
                trusted_proxies: Vec::new(),
            },
            storage: Storage {
                place: Place::Folder(PathBuf::from("/home/ada/.local/share/orlop")),
                delete_enabled: true,
                read_only: false,
                upload_purging: Some(UploadPurging {
                    age: Duration::from_hours(168),
                    interval: Duration::from_hours(24),
                    dry_run: false,
                }),
                redirect: true,
                disk_cache: None,
                middleware: Vec::new(),
            },
            database: Database::Sqlite(PathBuf::from(
                "/home/ada/.local/share/orlop/orlop/metadata.sqlite",
            )),
            auth: Auth { authenticator: Authenticator::None, rules: Vec::new() },
            redis: None,
            health: Health { storage: None, files: Vec::new(), http: Vec::new(), tcp: Vec::new() },
            validation: Validation {
                index_children: IndexChildren::All,
                image_blobs: Require::All,
                urls: Some(Urls { allow: vec!["^https?://".to_owned()], deny: Vec::new() }),
            },
            repository_classes: Vec::new(),
            catalog_max_entries: 1000,
            tags_max: 1000,
        }
    );
}

#[test]
fn the_data_folder_follows_xdg() {
    for (variables, folder) in [
        (&[("HOME", "/h"), ("XDG_DATA_HOME", "/x")][..], "/x/orlop"),
        (&[("HOME", "/h"), ("XDG_DATA_HOME", "rel")], "/h/.local/share/orlop"),
        (&[("HOME", "/h"), ("XDG_DATA_HOME", "")], "/h/.local/share/orlop"),
        (&[("HOME", "")], "/var/lib/registry"),
        (&[], "/var/lib/registry"),
    ] {
        assert_eq!(with(variables).storage.place.folder(), Some(Path::new(folder)));
    }
}

#[test]
fn a_file_brings_the_defaults_of_distribution() {
    let config = clean("");
    assert_eq!(config.http.addr, ":5000");
    assert_eq!(config.storage.place.folder(), Some(Path::new("/var/lib/registry")));
    assert!(!config.storage.delete_enabled);
}
