//! What `REGISTRY_*` variables do.

use super::*;

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
    assert_eq!(config.validation.index_children, IndexChildren::None);
    assert_eq!(config.storage.place.folder(), Some(Path::new("/h/.local/share/orlop")));
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
    assert_eq!(config.storage.place.folder(), Some(Path::new("/d")));
}

#[test]
fn what_a_variable_takes_away_is_named() {
    let file = "version: 0.1\nstorage:\n  filesystem: {rootdirectory: /data, maxthreads: 50}";
    for (variables, gone) in [
        (&[("REGISTRY_STORAGE", "")][..], "storage.filesystem (c.yml:3:3)"),
        (&[("REGISTRY_STORAGE", "filesystem")], "storage.filesystem (c.yml:3:3)"),
        (
            &[("REGISTRY_STORAGE", "{filesystem: {maxthreads: 60}}")],
            "storage.filesystem.rootdirectory (c.yml:3:",
        ),
        (
            &[("REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY", "")],
            "storage.filesystem.rootdirectory (c.yml:3:",
        ),
    ] {
        let warnings = load_file(file, variables).unwrap().warnings;
        assert!(warnings.iter().any(|warning| warning.contains(gone)), "{gone}: {warnings:?}");
    }
    let same = [("REGISTRY_STORAGE", "{filesystem: {rootdirectory: /other}}")];
    let warnings = load_file(file, &same).unwrap().warnings;
    assert!(!warnings.iter().any(|warning| warning.contains("rootdirectory")), "{warnings:?}");
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

/// A file that has everything that the next test lays variables over.
const FILE: &str = "\
version: 0.1
log: {hooks: [{type: mail, disabled: true}]}
storage:
  filesystem: {rootdirectory: /f}
  maintenance: {readonly: {enabled: false}}
notifications: {endpoints: [{name: n, url: 'http://h/', disabled: true}]}
";

#[test]
fn they_go_by_field_and_by_key_into_maps_and_lists() {
    let loaded = load_file(
        FILE,
        &[
            ("REGISTRY_AUTH_TOKEN_ISSUER", "i"),
            ("REGISTRY_AUTH_TOKEN_JWKS", "/jwks"),
            ("REGISTRY_AUTH_TOKEN_REALM", "https://t/"),
            ("REGISTRY_AUTH_TOKEN_SERVICE", "s"),
            ("REGISTRY_AUTH_TOKEN_SIGNINGALGORITHMS_0", "RS256"),
            ("REGISTRY_AUTH_RULES_0_REPOSITORIES", "[a, b]"),
            ("REGISTRY_AUTH_RULES_0_USERS_0", "*"),
            ("REGISTRY_AUTH_RULES_0_ACTIONS_0", "pull"),
            ("REGISTRY_HEALTH_FILECHECKERS_0_FILE", "/f"),
            ("REGISTRY_HEALTH_HTTPCHECKERS_0_URI", "http://a/"),
            ("REGISTRY_HEALTH_HTTP_1_URI", "http://b/"),
            ("REGISTRY_HEALTH_TCPCHECKERS_0_ADDR", "h:1"),
            ("REGISTRY_HTTP_HEADERS_X-A_0", "one; two"),
            ("REGISTRY_HTTP_TLS_CERTIFICATE", "/c"),
            ("REGISTRY_HTTP_TLS_CLIENTCAS_0", "/ca"),
            ("REGISTRY_HTTP_TLS_KEY", "/k"),
            ("REGISTRY_HTTP_TRUSTEDPROXIES", "[10.0.0.0/8]"),
            ("REGISTRY_LOG_FIELDS_MY_OWN", "x"),
            ("REGISTRY_LOG_HOOKS_0_MAILOPTIONS_FROM", "a@b"),
            ("REGISTRY_LOG_HOOKS_0_MAILOPTIONS_TO_0", "a@b"),
            ("REGISTRY_NOTIFICATIONS_ENDPOINTS_0_HEADERS_AUTHORIZATION", "[Bearer x]"),
            ("REGISTRY_NOTIFICATIONS_EVENTCONFIG_INCLUDEREFERENCES", "true"),
            ("REGISTRY_REDIS_ADDRS", "[h:1]"),
            ("REGISTRY_REDIS_ADDRS_1", "h:2"),
            ("REGISTRY_REDIS_OPTIONS_PASSWORD", "p"),
            ("REGISTRY_STORAGE_MAINTENANCE_READONLY_ENABLED", "true"),
        ],
    )
    .unwrap();
    assert_eq!(loaded.warnings, [""; 0]);
    assert_eq!(loaded.unsupported, [""; 0]);
    let config = &loaded.config;
    let Authenticator::Token(token) = &config.auth.authenticator else {
        panic!("{:?}", config.auth);
    };
    assert_eq!(token.signing_algorithms, ["RS256"]);
    assert_eq!(config.auth.rules[0].repositories, ["a", "b"]);
    assert_eq!(config.auth.rules[0].users, [User::Authenticated]);
    assert_eq!(config.health.files[0].file, Path::new("/f"));
    let uris: Vec<_> = config.health.http.iter().map(|check| check.uri.as_str()).collect();
    // `HTTPCHECKERS_0` comes before `HTTP_1`.
    assert_eq!(uris, ["http://a/", "http://b/"]);
    assert_eq!(config.health.tcp[0].addr, "h:1");
    assert_eq!(config.http.headers, [("x-a".to_owned(), "one; two".to_owned())]);
    let clients = config.http.tls.as_ref().unwrap().clients.as_ref().unwrap();
    assert_eq!(clients.authorities, [PathBuf::from("/ca")]);
    assert_eq!(config.http.trusted_proxies.len(), 1);
    assert_eq!(config.log.fields["my_own"], "x");
    assert!(config.storage.read_only);
    let shown = loaded.show();
    for part in [
        "from: a@b  # REGISTRY_LOG_HOOKS_0_MAILOPTIONS_FROM",
        "includereferences: true  # REGISTRY_NOTIFICATIONS_EVENTCONFIG_INCLUDEREFERENCES",
        "- h:2  # REGISTRY_REDIS_ADDRS_1",
        "password: \"********\"  # REGISTRY_REDIS_OPTIONS_PASSWORD",
    ] {
        assert!(shown.contains(part), "{part}\n{shown}");
    }
}

#[test]
fn keys_with_an_underscore_are_found() {
    let variables = [
        ("REGISTRY_STORAGE", "azure"),
        ("REGISTRY_STORAGE_AZURE_ACCOUNTNAME", "n"),
        ("REGISTRY_STORAGE_AZURE_CONTAINER", "c"),
        ("REGISTRY_STORAGE_AZURE_MAX_RETRIES", "7"),
        ("REGISTRY_DATABASE_URL", "postgres://orlop@db/orlop"),
    ];
    let shown = load(None, &variables).unwrap().show();
    assert!(shown.contains("max_retries: 7  # REGISTRY_STORAGE_AZURE_MAX_RETRIES"), "{shown}");
}

#[test]
fn a_list_has_no_gaps() {
    let message = load(None, &[("REGISTRY_HTTP_TRUSTEDPROXIES_1", "10.0.0.1")]).unwrap_err();
    assert!(message.starts_with("REGISTRY_HTTP_TRUSTEDPROXIES_1: "), "{message}");
    let huge = format!("REGISTRY_REDIS_ADDRS_{}", "9".repeat(30));
    let loaded = load(None, &[(&huge, "h:1")]).unwrap();
    assert_eq!(loaded.warnings.len(), 1, "no such index: {:?}", loaded.warnings);
}

#[test]
fn a_second_driver_is_an_error_that_names_both() {
    let file = "version: 0.1\nstorage: {filesystem: {rootdirectory: /d}}";
    let message = load_file(file, &[("REGISTRY_STORAGE_S3_BUCKET", "b")]).unwrap_err();
    assert!(
        message.contains("storage.filesystem (c.yml:2:11)")
            && message.starts_with("REGISTRY_STORAGE_S3_BUCKET: storage.s3: "),
        "{message}"
    );
    let file = "version: 0.1\nauth: {token: {realm: r, service: s, issuer: i, jwks: /j}}";
    let message = load_file(file, &[("REGISTRY_AUTH_HTPASSWD_REALM", "r")]).unwrap_err();
    assert!(message.contains("auth.token (c.yml:2:8)"), "{message}");
}

#[test]
fn the_name_of_a_driver_replaces_the_section_with_a_word() {
    let file = "version: 0.1\nstorage: {filesystem: {rootdirectory: /d}, delete: {enabled: true}, \
                cache: {blobdescriptor: inmemory}}";
    let loaded = load_file(file, &[("REGISTRY_STORAGE", "filesystem")]).unwrap();
    assert!(!loaded.config.storage.delete_enabled);
    assert_eq!(loaded.warnings.len(), 1);
    assert!(
        loaded.warnings[0].starts_with("REGISTRY_STORAGE replaces all of `storage`")
            && loaded.warnings[0].contains("storage.delete"),
        "{:?}",
        loaded.warnings
    );
    let only_driver = "version: 0.1\nstorage: {filesystem: {}}";
    let loaded = load_file(only_driver, &[("REGISTRY_STORAGE", "filesystem")]).unwrap();
    assert_eq!(loaded.warnings, [""; 0]);
}

#[test]
fn no_variable_opens_the_registry_by_accident() {
    let rules = "rules: [{repositories: a, users: b, actions: pull}]";
    let file = format!("version: 0.1\nauth: {{htpasswd: {{realm: r, path: p}}, {rules}}}");
    for value in ["", "{}", "null", "htpasswd", "{htpasswd: {realm: r, path: p}}"] {
        let message = load_file(&file, &[("REGISTRY_AUTH", value)]).expect_err(value);
        assert!(message.starts_with("REGISTRY_AUTH: auth: would take away auth."), "{message}");
    }
    for value in ["", "{}"] {
        let message = load_file(&file, &[("REGISTRY_AUTH_HTPASSWD", value)]).expect_err(value);
        assert!(
            message.contains("auth.htpasswd.realm: expected a text, found nothing"),
            "{message}"
        );
    }
    let loaded = load_file(&file, &[("REGISTRY_AUTH", "none")]).unwrap();
    assert_eq!(loaded.config.auth.authenticator, Authenticator::None);
    assert!(loaded.warnings[0].contains("without effect is now auth.rules"), "{loaded:?}");
}

#[test]
fn a_driver_that_one_variable_names_is_not_lost_to_the_next() {
    let variables = [("REGISTRY_STORAGE", "inmemory"), ("REGISTRY_STORAGE_DELETE_ENABLED", "true")];
    let loaded = load(None, &variables).unwrap();
    assert_eq!(loaded.config.storage.place, Place::Memory);
}
