//! What a user notices of the configuration.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::*;

type Variables<'a> = &'a [(&'a str, &'a str)];

fn load_file(text: &str, variables: Variables<'_>) -> Result<Loaded, String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("c.yml");
    std::fs::write(&path, text).unwrap();
    load(Some(&path), variables).map_err(|message| {
        let prefix = format!("{}/", folder.path().display());
        message.replace(&prefix, "")
    })
}

fn load(path: Option<&Path>, variables: Variables<'_>) -> Result<Loaded, String> {
    let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    Config::load(path, variables).map_err(|error| error.to_string())
}

/// The configuration of `version: 0.1` and these lines; it must be free of warnings.
fn clean(lines: &str) -> Config {
    let loaded = load_file(&format!("version: 0.1\n{lines}"), &[]).unwrap();
    assert_eq!(loaded.warnings, [""; 0], "{lines}");
    loaded.config
}

fn warnings(lines: &str) -> Vec<String> {
    let loaded = load_file(&format!("version: 0.1\n{lines}"), &[]).unwrap();
    let name = |warning: &String| {
        let at = warning.find("c.yml").unwrap_or_default();
        warning.split_at(at).1.to_owned()
    };
    loaded.warnings.iter().map(name).collect()
}

fn refusal(lines: &str) -> String {
    load_file(&format!("version: 0.1\n{lines}"), &[]).expect_err(lines)
}

fn with(variables: Variables<'_>) -> Config {
    let loaded = load(None, variables).unwrap();
    assert_eq!(loaded.warnings, [""; 0]);
    loaded.config
}

/// What `registry:2` ships.
const SHIPPED: &str = "\
version: 0.1
log:
  fields:
    service: registry
storage:
  cache:
    blobdescriptor: inmemory
  filesystem:
    rootdirectory: /var/lib/registry
http:
  addr: :5000
  headers:
    X-Content-Type-Options: [nosniff]
";

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
                fields: BTreeMap::new(),
            },
            http: Http {
                addr: "127.0.0.1:5000".to_owned(),
                secret: None,
                host: None,
                relative_urls: false,
                headers: Vec::new(),
                drain_timeout: Duration::from_secs(8),
                debug_addr: None,
                prometheus_path: None,
            },
            storage: Storage {
                root_directory: PathBuf::from("/home/ada/.local/share/orlop"),
                delete_enabled: true,
                upload_age: Duration::from_hours(168),
                upload_purge_interval: Duration::from_hours(24),
                upload_purging: true,
            },
            validation: Validation { index_children: Require::All, image_blobs: Require::All },
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
        assert_eq!(with(variables).storage.root_directory, Path::new(folder));
    }
}

#[test]
fn a_file_brings_the_defaults_of_distribution() {
    let config = clean("");
    assert_eq!(config.http.addr, ":5000");
    assert_eq!(config.storage.root_directory, Path::new("/var/lib/registry"));
    assert!(!config.storage.delete_enabled);
}

#[test]
fn the_shipped_file_is_understood_without_a_word() {
    let loaded = load_file(SHIPPED, &[]).unwrap();
    assert_eq!(loaded.warnings, [""; 0]);
    assert!(loaded.source.is_some_and(|path| path.ends_with("c.yml")));
    assert_eq!(loaded.config.log.fields["service"], "registry");
    assert_eq!(
        loaded.config.http.headers,
        [("X-Content-Type-Options".to_owned(), "nosniff".to_owned())]
    );
}

#[test]
fn every_key_is_read() {
    let config = clean(
        "log: {level: Debug, formatter: json, accesslog: {disabled: true}, fields: {n: 007}}
storage:
  filesystem: {rootdirectory: /data, maxthreads: 100}
  delete: {enabled: yes}
  maintenance:
    uploadpurging: {enabled: false, age: 1h30m, interval: 10m, dryrun: false}
    readonly: {enabled: false}
http:
  addr: '[::1]:80'
  net: tcp
  secret: 0123
  host: https://example.com:8443/
  relativeurls: on
  draintimeout: 60s
  headers: {X-A: [one, two], X-B: three}
  debug: {addr: ':5001', prometheus: {enabled: true, path: /m}}
catalog: {maxentries: 5}
tags: {maxtags: 6}
validation:
  manifests: {indexes: {platforms: None}, images: {blobs: none}}
",
    );
    assert_eq!(config.log.level, Level::Debug);
    assert_eq!(config.log.formatter, Formatter::Json);
    assert!(!config.log.access_log);
    assert_eq!(config.log.fields["n"], "007");
    assert_eq!(
        config.storage,
        Storage {
            root_directory: PathBuf::from("/data"),
            delete_enabled: true,
            upload_age: Duration::from_mins(90),
            upload_purge_interval: Duration::from_mins(10),
            upload_purging: false,
        }
    );
    assert_eq!(config.http.addr, "[::1]:80");
    assert_eq!(config.http.secret.as_ref().map(Secret::expose), Some("0123"));
    assert_eq!(config.http.host.as_deref(), Some("https://example.com:8443"));
    assert!(config.http.relative_urls);
    assert_eq!(config.http.drain_timeout, Duration::from_mins(1));
    let header = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    assert_eq!(
        config.http.headers,
        [header("X-A", "one"), header("X-A", "two"), header("X-B", "three")]
    );
    assert_eq!(config.http.debug_addr.as_deref(), Some(":5001"));
    assert_eq!(config.http.prometheus_path.as_deref(), Some("/m"));
    assert_eq!((config.catalog_max_entries, config.tags_max), (5, 6));
    assert_eq!(config.validation.index_children, Require::None);
    assert_eq!(config.validation.image_blobs, Require::None);
}

#[test]
fn metrics_come_with_the_debug_address() {
    let path = |lines| clean(lines).http.prometheus_path;
    assert_eq!(path("http: {debug: {addr: ':1'}}").as_deref(), Some("/metrics"));
    assert_eq!(path("http: {debug: {addr: ':1', prometheus: {enabled: false}}}"), None);
    assert_eq!(path("http: {debug: {prometheus: {enabled: true}}}"), None);
}

#[test]
fn validation_disabled_lets_index_children_be_missing() {
    let validation = clean("validation: {disabled: true}").validation;
    assert_eq!(validation.index_children, Require::None);
    assert_eq!(validation.image_blobs, Require::All);
}

#[test]
fn page_limits_of_zero_are_the_default() {
    let config = clean("catalog: {maxentries: -1}\ntags: {maxtags: 0}");
    assert_eq!((config.catalog_max_entries, config.tags_max), (1000, 1000));
    assert_eq!(clean("tags: {maxtags: 99999999999}").tags_max, u32::MAX);
}

#[test]
fn variables_override_and_leave_the_other_defaults() {
    let config = with(&[
        ("HOME", "/h"),
        ("REGISTRY_HTTP_ADDR", "[::]:5000"),
        ("REGISTRY_HTTP_SECRET", "@a: b #c"),
        ("REGISTRY_HTTP_DEBUG_ADDR", "\":5001\""),
        ("REGISTRY_HTTP_HEADERS_X-Frame-Options", "[DENY]"),
        ("REGISTRY_LOG_LEVEL", "WARN"),
        ("REGISTRY_LOG_ACCESSLOG_DISABLED", "true"),
        ("REGISTRY_LOG_FIELDS_SERVICE", "a: b"),
        ("REGISTRY_STORAGE_DELETE_ENABLED", "false"),
        ("REGISTRY_VALIDATION_MANIFESTS_INDEXES_PLATFORMS", "none"),
        ("REGISTRY_CONFIGURATION_PATH", "/elsewhere.yml"),
        ("UNRELATED", "["),
    ]);
    assert_eq!(config.http.addr, "[::]:5000");
    assert_eq!(config.http.secret.as_ref().map(Secret::expose), Some("@a: b #c"));
    assert_eq!(config.http.debug_addr.as_deref(), Some(":5001"));
    assert_eq!(config.http.headers, [("x-frame-options".to_owned(), "DENY".to_owned())]);
    assert_eq!(config.log.level, Level::Warn);
    assert!(!config.log.access_log);
    assert_eq!(config.log.fields["service"], "a: b");
    assert!(!config.storage.delete_enabled);
    assert_eq!(config.validation.index_children, Require::None);
    assert_eq!(config.storage.root_directory, Path::new("/h/.local/share/orlop"));
}

#[test]
fn variables_win_over_the_file_and_narrow_ones_over_wide_ones() {
    let file = "version: 0.1\nlog: {level: error, fields: {a: 1}}\nhttp: {addr: ':1', secret: s}\n";
    let variables = [
        ("REGISTRY_HTTP_ADDR", ":3"),
        ("REGISTRY_HTTP", "{addr: ':2', relativeurls: true}"),
        ("REGISTRY_LOG_LEVEL", ""),
        ("REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY", "/d"),
    ];
    let config = load_file(file, &variables).unwrap().config;
    assert_eq!(config.http.addr, ":3");
    assert!(config.http.relative_urls);
    assert_eq!(config.http.secret, None, "the wide variable replaced the section");
    assert_eq!(config.log.level, Level::Info, "an empty variable means the default");
    assert_eq!(config.log.fields["a"], "1");
    assert_eq!(config.storage.root_directory, Path::new("/d"));
}

#[test]
fn a_variable_finds_the_header_of_the_file_but_no_misspelt_key() {
    let file = "version: 0.1\nhttp: {Addr: ':1', headers: {X-A: file, X-B: file}}";
    let variables = [("REGISTRY_HTTP_ADDR", ":2"), ("REGISTRY_HTTP_HEADERS_x-a", "variable")];
    let loaded = load_file(file, &variables).unwrap();
    let header = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    assert_eq!(loaded.config.http.headers, [header("X-A", "variable"), header("X-B", "file")]);
    assert_eq!(loaded.config.http.addr, ":2");
    assert!(loaded.warnings[0].contains("http.Addr is not a known key"));
}

#[test]
fn unknown_names_are_warned_of_with_what_was_meant() {
    assert_eq!(
        warnings("http:\n  adr: :5000\nfoo: 1\n"),
        [
            "c.yml:3:3: http.adr is not a known key and is ignored; did you mean http.addr?",
            "c.yml:4:1: foo is not a known key and is ignored; known are version, log, loglevel, \
             storage, auth, middleware, http, notifications, proxy, redis, health, catalog, tags, \
             validation, policy, compatibility, reporting",
        ]
    );
    let loaded = load(
        None,
        &[
            ("REGISTRY_HTTP_ADR", ":1"),
            ("REGISTRY_NOVELTY", "1"),
            ("REGISTRY_HTTP_ADDR_X", "1"),
            ("REGISTRY_PORT", "tcp://10.0.0.1:5000"),
            ("REGISTRY_SERVICE_HOST", "10.0.0.1"),
            ("REGISTRY_PORT_5000_TCP_ADDR", "10.0.0.1"),
        ],
    )
    .unwrap();
    assert_eq!(
        loaded.warnings,
        [
            "REGISTRY_HTTP_ADDR_X is not a known variable and is ignored; did you mean \
             REGISTRY_HTTP_ADDR?",
            "REGISTRY_HTTP_ADR is not a known variable and is ignored; did you mean \
             REGISTRY_HTTP_ADDR?",
            "REGISTRY_NOVELTY is not a known variable and is ignored",
        ]
    );
}

#[test]
fn known_keys_without_effect_are_warned_of() {
    assert_eq!(
        warnings("health: {storagedriver: {enabled: true}}\nloglevel: debug\nlog: {hooks: []}"),
        [
            "c.yml:2:1: health has no effect in this version of Orlop",
            "c.yml:3:1: loglevel has no effect in this version of Orlop: write `log.level`",
        ]
    );
    let loaded = load(None, &[("REGISTRY_HEALTH_STORAGEDRIVER_ENABLED", "true")]).unwrap();
    assert_eq!(
        loaded.warnings,
        ["REGISTRY_HEALTH_STORAGEDRIVER_ENABLED: health has no effect in this version of Orlop"]
    );
    let loaded = warnings("storage: {maintenance: {uploadpurging: {dryrun: true}}}");
    assert!(loaded[0].contains("abandoned uploads are kept"), "{loaded:?}");
    let loaded = warnings("http: {draintimeout: 60}");
    assert!(loaded[0].contains("60 nanoseconds; write 60s"), "{loaded:?}");
}

#[test]
fn keys_whose_loss_would_be_dangerous_stop_the_start() {
    for (lines, key) in [
        ("auth: {htpasswd: {realm: r, path: p}}", "auth.htpasswd"),
        ("auth: {token: }", "auth.token"),
        ("auth: silly", "auth.silly"),
        ("auth: {ldap: {}}", "auth.ldap"),
        ("http: {tls: {certificate: c, key: k}}", "http.tls"),
        ("http: {tls: {letsencrypt: {hosts: [h]}}}", "http.tls"),
        ("http: {prefix: /r/}", "http.prefix"),
        ("proxy: {remoteurl: 'https://example.com'}", "proxy"),
        ("notifications: {endpoints: [{name: n}]}", "notifications"),
        ("middleware: {storage: [{name: redirect}]}", "middleware"),
        ("storage: inmemory", "storage.inmemory"),
        ("storage: {s3: {}}", "storage.s3"),
        ("storage: {gcs: }", "storage.gcs"),
        ("storage: {filesytem: {}}", "storage.filesytem"),
        (
            "storage: {maintenance: {readonly: {enabled: true}}}",
            "storage.maintenance.readonly.enabled",
        ),
    ] {
        let message = refusal(lines);
        assert!(
            message.starts_with("c.yml:2:") && message.contains(&format!(": {key}: ")),
            "{lines}: {message}"
        );
    }
    for (variable, value) in [
        ("REGISTRY_AUTH", "htpasswd"),
        ("REGISTRY_AUTH", "{htpasswd: {realm: r}}"),
        ("REGISTRY_AUTH_HTPASSWD_REALM", "r"),
        ("REGISTRY_AUTH_LDAP_URL", "u"),
        ("REGISTRY_HTTP_TLS_CERTIFICATE", "/c"),
        ("REGISTRY_HTTP_PREFIX", "/x/"),
        ("REGISTRY_HTTP_NET", "unix"),
        ("REGISTRY_PROXY_REMOTEURL", "https://example.com"),
        ("REGISTRY_NOTIFICATIONS_ENDPOINTS_0_URL", "u"),
        ("REGISTRY_MIDDLEWARE_STORAGE_0_NAME", "redirect"),
        ("REGISTRY_STORAGE", "s3"),
        ("REGISTRY_STORAGE_S3_BUCKET", "b"),
        ("REGISTRY_STORAGE_FILESYTEM_ROOTDIRECTORY", "/d"),
        ("REGISTRY_STORAGE_MAINTENANCE_READONLY_ENABLED", "true"),
        ("REGISTRY_STORAGE_MAINTENANCE_READONLY", "{\"enabled\":true}"),
    ] {
        let message = load(None, &[(variable, value)]).expect_err(variable);
        assert!(message.starts_with(&format!("{variable}: ")), "{message}");
    }
}

#[test]
fn a_driver_that_one_variable_names_is_not_lost_to_the_next() {
    let variables = [("REGISTRY_STORAGE", "s3"), ("REGISTRY_STORAGE_DELETE_ENABLED", "true")];
    let message = load(None, &variables).unwrap_err();
    assert!(message.starts_with("REGISTRY_STORAGE: storage.s3: "), "{message}");
}

#[test]
fn what_asks_for_nothing_is_let_pass() {
    clean("auth: {}\nproxy: {remoteurl: ''}\nmiddleware: {registry: []}\nhealth:\n");
    clean("auth: none\nhttp: {prefix: '', tls: {certificate: '', key: ''}}\nnotifications:\n");
    clean("auth: {none: }\nstorage: filesystem\nredis: {addrs: [h]}");
    let file = "version: 0.1\nstorage: {maintenance: {readonly: {enabled: true}}}";
    let variables = [("REGISTRY_STORAGE_MAINTENANCE_READONLY_ENABLED", "false")];
    load_file(file, &variables).expect("the variable switched it off");
    with(&[("REGISTRY_AUTH", ""), ("REGISTRY_HTTP_TLS_CERTIFICATE", "")]);
}

#[test]
fn wrong_values_name_place_key_expected_and_found() {
    for (lines, message) in [
        (
            "log:\n  level: trace",
            "c.yml:3:3: log.level: expected error, warn, info or debug, found \"trace\"",
        ),
        (
            "storage: {delete: {enabled: maybe}}",
            "c.yml:2:20: storage.delete.enabled: expected true or false, found \"maybe\"",
        ),
        ("http: {secret: [a]}", "c.yml:2:8: http.secret: expected a text, found a list"),
        (
            "tags: {maxtags: -1}",
            "c.yml:2:8: tags.maxtags: expected a whole number, 0 or more, found \"-1\"",
        ),
        (
            "http: 5",
            "c.yml:2:1: http: expected a section (`key: value` lines below it), found \"5\"",
        ),
    ] {
        assert_eq!(refusal(lines), message);
    }
    for (lines, key) in [
        ("log: {formatter: logstash}", "log.formatter"),
        ("log: {fields: [a]}", "log.fields"),
        ("log: {fields: {a: [b]}}", "log.fields.a"),
        ("http: {addr: '5000'}", "http.addr"),
        ("http: {addr: 'localhost:http'}", "http.addr"),
        ("http: {addr: '::1:5000'}", "http.addr"),
        ("http: {addr: '[::1]'}", "http.addr"),
        ("http: {addr: ':65536'}", "http.addr"),
        ("http: {addr: ':'}", "http.addr"),
        ("http: {addr: ':+80'}", "http.addr"),
        ("http: {addr: '/run/r.sock'}", "http.addr"),
        ("http: {net: unix}", "http.net"),
        ("http: {host: registry.example.com}", "http.host"),
        ("http: {host: 'https://'}", "http.host"),
        ("http: {host: 'https://a/b'}", "http.host"),
        ("http: {draintimeout: 5 minutes}", "http.draintimeout"),
        ("http: {draintimeout: -1s}", "http.draintimeout"),
        ("http: {headers: {'a b': c}}", "http.headers.a b"),
        ("http: {headers: {a: \"x\\ny\"}}", "http.headers.a"),
        ("http: {headers: {a: [{b: c}]}}", "http.headers.a"),
        ("http: {debug: {addr: x}}", "http.debug.addr"),
        ("http: {debug: {prometheus: {path: m}}}", "http.debug.prometheus.path"),
        ("catalog: {maxentries: many}", "catalog.maxentries"),
        (
            "storage: {maintenance: {uploadpurging: {age: 0}}}",
            "storage.maintenance.uploadpurging.age",
        ),
        (
            "validation: {manifests: {indexes: {platforms: list}}}",
            "validation.manifests.indexes.platforms",
        ),
    ] {
        let message = refusal(lines);
        assert!(message.contains(&format!(": {key}: expected ")), "{lines}: {message}");
    }
    assert_eq!(
        load(None, &[("REGISTRY_LOG_LEVEL", "loud")]).unwrap_err(),
        "REGISTRY_LOG_LEVEL: log.level: expected error, warn, info or debug, found \"loud\""
    );
}

#[test]
fn a_file_must_be_yaml_of_the_one_version() {
    for (text, part) in [
        ("", "c.yml: version: expected a line `version: 0.1`, found none"),
        ("log: {level: info}", "c.yml: version: expected a line"),
        ("version: 0.2", "c.yml:1:1: version: expected 0.1"),
        ("version: '0.10'", "found \"0.10\""),
        ("just text", "c.yml: version: expected a line"),
        ("version: 0.1\nversion: 0.1", "c.yml:2:1: not valid YAML: "),
        ("version: [", "not valid YAML: "),
    ] {
        let message = load_file(text, &[]).expect_err(text);
        assert!(message.contains(part), "{text:?}: {message}");
        assert!(!message.contains('\n'), "{message}");
    }
    load_file("version: '0.1'", &[]).expect("quotes do not matter");
    let message = load(Some(Path::new("/nonexistent/c.yml")), &[]).unwrap_err();
    assert!(
        message.starts_with("cannot read the configuration file /nonexistent/c.yml: "),
        "{message}"
    );
    let message = load(None, &[("REGISTRY_LOG_LEVEL", "[a")]).unwrap_err();
    assert!(message.starts_with("REGISTRY_LOG_LEVEL: not valid YAML: "), "{message}");
}

#[test]
fn a_secret_is_never_shown() {
    let config = clean("http: {secret: hunter2}");
    assert!(!format!("{config:?} {config:#?}").contains("hunter2"));
    let secret = config.http.secret.unwrap();
    assert_eq!(secret.expose(), "hunter2");
    assert_eq!(format!("{secret} {secret:?}"), "******** ********");
}
