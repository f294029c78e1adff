//! What is unknown, wrong, old, gone or yet to come.

use super::*;

#[test]
fn unknown_names_are_warned_of_with_what_was_meant() {
    assert_eq!(
        warnings("http:\n  adr: :5000\nfoo: 1\n"),
        [
            "c.yml:3:3: http.adr is not a known key and has no effect; did you mean http.addr?",
            "c.yml:4:1: foo is not a known key and has no effect; known are version, log, storage, \
             database, auth, middleware, http, notifications, redis, health, catalog, tags, proxy, \
             validation, policy",
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
            "REGISTRY_HTTP_ADDR_X is not a known variable and has no effect; did you mean \
             REGISTRY_HTTP_ADDR?",
            "REGISTRY_HTTP_ADR is not a known variable and has no effect; did you mean \
             REGISTRY_HTTP_ADDR?",
            "REGISTRY_NOVELTY is not a known variable and has no effect",
        ]
    );
}

#[test]
fn wrong_values_name_place_key_expected_and_found() {
    for (lines, message) in [
        (
            "log:\n  level: trace",
            "c.yml:3:3: log.level: expected error, warn, warning, info or debug, found \"trace\"",
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
        ("log: {formatter: xml}", "log.formatter"),
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
        ("http: {net: udp}", "http.net"),
        ("http: {host: registry.example.com}", "http.host"),
        ("http: {host: 'https://'}", "http.host"),
        ("http: {host: 'https://a/b?c'}", "http.host"),
        ("http: {draintimeout: 5 minutes}", "http.draintimeout"),
        ("http: {draintimeout: -1s}", "http.draintimeout"),
        ("http: {headers: {'a b': c}}", "http.headers.a b"),
        ("http: {headers: {a: \"x\\ny\"}}", "http.headers.a"),
        ("http: {headers: {a: [{b: c}]}}", "http.headers.a[0]"),
        ("http: {debug: {addr: x}}", "http.debug.addr"),
        ("http: {debug: {prometheus: {path: m}}}", "http.debug.prometheus.path"),
        ("catalog: {maxentries: many}", "catalog.maxentries"),
        ("database: {url: 'mysql://u:hunter2@h/d'}", "database.url"),
        ("database: {maxconnections: 0}", "database.maxconnections"),
        (
            "storage: {maintenance: {uploadpurging: {age: 0}}}",
            "storage.maintenance.uploadpurging.age",
        ),
        (
            "validation: {manifests: {indexes: {platforms: some}}}",
            "validation.manifests.indexes.platforms",
        ),
        ("validation: {manifests: {urls: {allow: ['(']}}}", "validation.manifests.urls.allow[0]"),
        ("health: {tcp: [{addr: h}]}", "health.tcp[0].addr"),
        ("health: {http: [{uri: 'http://h', statuscode: 2000}]}", "health.http[0].statuscode"),
        ("health: {http: [{timeout: 1s}]}", "health.http[0].uri"),
        ("health: {http: {uri: 'http://h'}}", "health.http"),
        ("auth: {htpasswd: {realm: r}}", "auth.htpasswd.path"),
        ("auth: {token: }", "auth.token.realm"),
        ("auth: silly", "auth.silly.service"),
        ("auth: {rules: []}", "auth.rules"),
        ("auth: {rules: }", "auth.rules"),
        ("auth: {htpasswd: {realm: r, path: p}, rules: []}", "auth.rules"),
        ("auth: {rules: [{repositories: a, users: [''], actions: pull}]}", "auth.rules[0].users"),
        (
            "auth: {rules: [{repositories: A, users: u, actions: pull}]}",
            "auth.rules[0].repositories",
        ),
        ("auth: {rules: [{repositories: a, users: u, actions: look}]}", "auth.rules[0].actions"),
        ("http: {trustedproxies: [10.0.0.0/33]}", "http.trustedproxies[0]"),
        ("http: {tls: {certificate: c, key: k, clientauth: maybe}}", "http.tls.clientauth"),
        ("http: {prefix: r}", "http.prefix"),
        ("http: {net: unix}", "http.addr"),
        ("storage: {s3: {bucket: b}}", "storage.s3.region"),
        ("storage: {s3: {bucket: b, region: r, chunksize: 5}}", "storage.s3.chunksize"),
        (
            "storage: {azure: {accountname: a, container: c, max_retries: x}}",
            "storage.azure.max_retries",
        ),
        (
            "storage: {s3: {bucket: b, region: r}, cache: {disk: {path: /c, maxsize: 1.5GB}}}",
            "storage.cache.disk.maxsize",
        ),
        ("storage: {cache: {disk: {path: /c}}}", "storage.cache.disk.maxsize"),
        ("proxy: {ttl: week}", "proxy.ttl"),
        ("notifications: {endpoints: [{name: n}]}", "notifications.endpoints[0].url"),
        ("redis: {db: x}", "redis.db"),
        ("redis: {pool: {maxidle: x}}", "redis.maxidleconns"),
        ("middleware: {storage: [{name: redirekt}]}", "middleware.storage[0].name"),
        (
            "middleware: {storage: [{name: redirect, options: {baseurl: x}}]}",
            "middleware.storage[0].options.baseurl",
        ),
        (
            "middleware: {storage: [{name: cloudfront, options: {baseurl: x}}]}",
            "middleware.storage[0].options.privatekey",
        ),
        (
            "middleware: {storage: [{name: cloudfront, options: {ipfilteredby: gcp}}]}",
            "middleware.storage[0].options.ipfilteredby",
        ),
        (
            "middleware: {storage: [{name: cloudfront, options: {updatefrequency: 0s}}]}",
            "middleware.storage[0].options.updatefrequency",
        ),
        ("policy: {repository: {classes: [picture]}}", "policy.repository.classes[0]"),
    ] {
        let message = refusal(lines);
        assert!(message.contains(&format!(": {key}: expected ")), "{lines}: {message}");
        assert!(!message.contains("hunter2"), "{message}");
    }
    assert_eq!(
        load(None, &[("REGISTRY_LOG_LEVEL", "loud")]).unwrap_err(),
        "REGISTRY_LOG_LEVEL: log.level: expected error, warn, warning, info or debug, found \"loud\""
    );
}

#[test]
fn a_file_must_be_yaml_of_the_one_version() {
    for (text, part) in [
        ("", "c.yml: version: expected a line `version: 0.1`, found none"),
        ("log: {level: info}", "c.yml: version: expected a line"),
        ("version: 0.2", "c.yml:1:1: version: expected 0.1"),
        ("version: '0.10'", "found \"0.10\""),
        ("just text", "c.yml:1:1: the file: expected a section"),
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
fn no_secret_is_in_a_message() {
    for lines in [
        "http: {secret: [hunter2]}",
        "redis: {password: {hunter2: 1}, db: x}",
        "proxy: {remoteurl: 'ftp://ada:hunter2@h/'}",
        "notifications: {endpoints: [{url: 'http://h/', headers: {Authorization: \"hunter2\\n\"}}]}",
        "storage: {gcs: {bucket: b, credentials: {private_key: [hunter2]}}}",
        "http: {secret: hunter2, secret: hunter2, addr: x}",
    ] {
        let message = refusal(lines);
        assert!(!message.contains("hunter2"), "{message}");
    }
}

#[test]
fn a_secret_is_never_shown() {
    let config = clean("http: {secret: hunter2}");
    assert!(!format!("{config:?} {config:#?}").contains("hunter2"));
    let secret = config.http.secret.unwrap();
    assert_eq!(secret.expose(), "hunter2");
    assert_eq!(format!("{secret} {secret:?}"), "******** ********");
}

#[test]
fn what_does_not_go_together_is_an_error() {
    for (lines, key) in [
        ("http: {tls: {certificate: c}}", "http.tls.certificate"),
        ("http: {tls: {key: k}}", "http.tls.key"),
        ("http: {tls: {clientcas: a}}", "http.tls.clientcas"),
        (
            "http: {tls: {certificate: c, key: k, clientauth: request-client-cert}}",
            "http.tls.clientauth",
        ),
        (
            "http: {tls: {certificate: c, key: k, ciphersuites: TLS_RSA_WITH_RC4_128_SHA}}",
            "http.tls.ciphersuites",
        ),
        ("http: {tls: {letsencrypt: {hosts: [h]}}}", "http.tls.letsencrypt"),
        ("http: {tls: {letsencrypt: {cachefile: c}}}", "http.tls.letsencrypt.cachefile"),
        (
            "http: {tls: {certificate: c, key: k, letsencrypt: {cachefile: c}}}",
            "http.tls.letsencrypt.cachefile",
        ),
        ("auth: {token: {realm: r, service: s, issuer: i}}", "auth.token"),
        ("auth: {none: , htpasswd: {realm: r, path: p}}", "auth.htpasswd"),
        ("auth: {ldap: {}}", "auth.ldap"),
        ("database: {url: 'postgres://h/d', replica: 'postgres://i/d'}", "database.replica"),
        ("redis: {addrs: ['h:1'], tls: {certificate: /c}}", "redis.tls.key"),
        ("redis: {addrs: ['h:1'], tls: {key: /k}}", "redis.tls.certificate"),
        ("storage: {filesytem: {}}", "storage.filesytem"),
        ("storage: {filesystem: {}, inmemory: }", "storage.inmemory"),
        ("storage: {s3: {region: r, bucket: b}, s3aws: {region: r, bucket: b}}", "storage.s3aws"),
        ("storage: {cache: {disk: {path: /c, maxsize: 1GB}}}", "storage.cache.disk"),
        (
            "storage: {s3: {bucket: b, region: r}, cache: {disk: {path: /c, maxsize: 1kB}}}",
            "storage.cache.disk.maxsize",
        ),
        ("storage: {gcs: {bucket: b, chunksize: 300000}}", "storage.gcs.chunksize"),
        ("middleware: {storage: [{name: redirect}]}", "middleware.storage[0].name"),
        (
            "middleware: {storage: [{name: redirect, options: {baseurl: 'http://a b'}}]}",
            "middleware.storage[0].options.baseurl",
        ),
        (
            "middleware: {storage: [{name: rewrite, options: {host: 'a b'}}]}",
            "middleware.storage[0].options.host",
        ),
        (
            "middleware: {storage: [{name: cloudfront, options: {baseurl: h, privatekey: /k, \
             keypairid: i}}]}",
            "middleware.storage[0].name",
        ),
        (
            "middleware: {storage: [{name: cloudfront, options: {baseurl: h, privatekey: /k, \
             keypairid: i, ipfilteredby: awsregion, awsregion: ','}}]}\n\
             storage: {s3: {bucket: b, region: r}}\ndatabase: {url: 'sqlite:///f'}",
            "middleware.storage[0].options.ipfilteredby",
        ),
        ("database: {url: 'postgres://u:hunter2@h/d?sslmode=perhaps'}", "database.url"),
        ("database: {url: 'postgres://u:hunter2@h/d?sslcert=/c'}", "database.url"),
        (
            "database: {staleness: 1s, url: 'postgres://u@h/d', replica: 'postgres://u@h/d?x=y'}",
            "database.replica",
        ),
        ("http: {prefix: /a/../b/}", "http.prefix"),
        ("http: {prefix: '/a;b/'}", "http.prefix"),
        (
            "http: {tls: {letsencrypt: {cachefile: c, hosts: [a.b, '*.a.b']}}}",
            "http.tls.letsencrypt.hosts[1]",
        ),
        (
            "auth: {rules: [{repositories: [a, A/b], users: [u], actions: [pull]}]}",
            "auth.rules[0].repositories[1]",
        ),
        (
            "auth: {rules: [{repositories: ['a**b/***'], users: [u], actions: [pull]}]}",
            "auth.rules[0].repositories[0]",
        ),
    ] {
        let message = refusal(lines);
        assert!(
            message.starts_with("c.yml:2:") && message.contains(&format!(": {key}: ")),
            "{lines}: {message}"
        );
        assert!(!message.contains("hunter2"), "{message}");
    }
    for variable in ["REGISTRY_AUTH_LDAP_URL", "REGISTRY_STORAGE_TAPE_SPEED"] {
        let message = load(None, &[(variable, "x")]).expect_err(variable);
        assert!(message.starts_with(&format!("{variable}: ")), "{message}");
    }
}

#[test]
fn what_is_no_name_of_a_driver_is_not_repeated() {
    let message = load(None, &[("REGISTRY_AUTH", "https://ada:word@host/")]).unwrap_err();
    assert!(message.contains("auth.…: not the name of") && !message.contains("word"), "{message}");
}

#[test]
fn headers_that_every_answer_has_are_left_out() {
    let loaded =
        load_file("version: 0.1\nhttp: {headers: {Content-Length: ['5'], X-A: [b]}}", &[]).unwrap();
    assert_eq!(loaded.config.http.headers, [("X-A".to_owned(), "b".to_owned())]);
    assert!(loaded.warnings[0].contains("http.headers.Content-Length: has no effect"));
}

#[test]
fn all_wrong_values_are_named_at_once() {
    let message = refusal("http: {addr: x, net: y}\nlog: {level: z}");
    assert_eq!(message.lines().count(), 3, "{message}");
}

#[test]
fn strict_makes_errors_of_what_is_unknown_or_twice() {
    for (lines, variables) in [
        ("nope: 1", &[][..]),
        ("health: {http: [{uri: 'http://h/', adr: x}]}", &[]),
        ("log: {level: info}\nlog: {level: debug}", &[]),
        ("", &[("REGISTRY_NOPE", "1")]),
        ("", &[("REGISTRY_LOG", "{level: info, level: debug}")]),
    ] {
        let text = format!("version: 0.1\n{lines}");
        let lenient = load_text(&text, variables, Mode::Lenient).expect(lines);
        assert_eq!(lenient.warnings.len(), 1, "{lines}: {:?}", lenient.warnings);
        let message = load_text(&text, variables, Mode::Strict).expect_err(lines);
        assert!(lenient.warnings == [message.as_str()], "{message}");
    }
}

#[test]
fn the_last_of_two_counts() {
    let loaded = load_file("version: 0.1\nlog: {level: error}\nlog: {level: debug}", &[]).unwrap();
    assert_eq!(loaded.config.log.level, Level::Debug);
    assert!(loaded.warnings[0].contains("log is written twice"), "{:?}", loaded.warnings);
}

#[test]
fn older_names_mean_the_new_ones() {
    for (lines, old, new) in [
        ("loglevel: debug", "loglevel", "log.level"),
        (
            "storage: {cache: {layerinfo: redis}}",
            "storage.cache.layerinfo",
            "storage.cache.blobdescriptor",
        ),
        ("redis: {addr: 'h:1'}", "redis.addr", "redis.addrs"),
        ("redis: {pool: {maxidle: 1}}", "redis.pool.maxidle", "redis.maxidleconns"),
        ("redis: {pool: {maxactive: 1}}", "redis.pool.maxactive", "redis.maxactiveconns"),
        ("redis: {pool: {idletimeout: 1s}}", "redis.pool.idletimeout", "redis.connmaxidletime"),
        ("redis: {tls: {clientcas: [/a]}}", "redis.tls.clientcas", "redis.tls.rootcas"),
        (
            "middleware: {storage: [{name: cloudfront, disabled: true, options: \
             {updatefrenquency: 12h}}]}",
            "middleware.storage[].options.updatefrenquency",
            "middleware.storage[].options.updatefrequency",
        ),
        ("validation: {enabled: true}", "validation.enabled", "validation.disabled: false"),
    ] {
        let found = warnings(lines);
        assert_eq!(found.len(), 1, "{lines}: {found:?}");
        assert!(found[0].starts_with("c.yml:2:"), "{found:?}");
        assert!(found[0].ends_with(&format!(": {old} is an older name: write {new}")), "{found:?}");
    }
    let level =
        |lines: &str| load_file(&format!("version: 0.1\n{lines}"), &[]).unwrap().config.log.level;
    assert_eq!(level("loglevel: debug"), Level::Debug);
    assert_eq!(level("loglevel: debug\nlog: {level: error}"), Level::Error);
    assert!(
        warnings("loglevel: debug\nlog: {level: error}")[0].contains("no effect beside log.level")
    );
    assert!(refusal("loglevel: loud").contains("c.yml:2:1: log.level: expected error"));
    let loaded = load(None, &[("REGISTRY_LOGLEVEL", "debug")]).unwrap();
    assert_eq!(loaded.config.log.level, Level::Debug);
}

#[test]
fn validation_enabled_does_what_it_did() {
    let children = |lines: &str| {
        let loaded = load_file(&format!("version: 0.1\n{lines}"), &[]).unwrap();
        loaded.config.validation.index_children
    };
    assert_eq!(children("validation: {enabled: true, disabled: true}"), IndexChildren::All);
    assert_eq!(children("validation: {enabled: false}"), IndexChildren::All);
    assert!(warnings("validation: {enabled: false}")[0].contains("has no effect"));
    assert!(
        refusal("validation: {enabled: perhaps}").contains("validation.enabled: expected true")
    );
}

#[test]
fn what_is_gone_is_named() {
    let found = warnings(
        "compatibility: {schema1: {enabled: true, signingkeyfile: /k}}\n\
         reporting: {bugsnag: {apikey: hunter2}}",
    );
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found[0].starts_with("c.yml:2:1: compatibility has no effect: "), "{found:?}");
    assert!(found[1].starts_with("c.yml:3:1: reporting has no effect: "), "{found:?}");
    assert!(!found[1].contains("hunter2"));
    let loaded = load(None, &[("REGISTRY_REPORTING_BUGSNAG_APIKEY", "hunter2")]).unwrap();
    assert_eq!(loaded.warnings.len(), 1, "{:?}", loaded.warnings);
    assert!(loaded.warnings[0].contains("reporting has no effect"), "{:?}", loaded.warnings);
    clean("compatibility: {schema1: {enabled: false}}");
}

#[test]
fn what_a_later_version_does_is_named() {
    for (lines, key) in [
        ("proxy: {remoteurl: 'https://example.com'}", "proxy.remoteurl"),
        ("notifications: {endpoints: [{url: 'http://h'}]}", "notifications.endpoints[0]"),
        ("log: {hooks: [{type: mail}]}", "log.hooks[0]"),
    ] {
        let found = unsupported(lines);
        assert_eq!(found.len(), 1, "{lines}: {found:?}");
        assert!(
            found[0].starts_with("c.yml:") && found[0].contains(&format!(": {key} comes with")),
            "{found:?}"
        );
    }
    let found = unsupported("middleware: {registry: [{name: x, options: {a: b}}]}");
    assert!(found[0].contains(": middleware.registry[0] names code"), "{found:?}");
    for (variable, value) in [
        ("REGISTRY_PROXY_REMOTEURL", "https://example.com"),
        ("REGISTRY_NOTIFICATIONS_ENDPOINTS_0_URL", "http://h/"),
    ] {
        let loaded = load(None, &[(variable, value)]).expect(variable);
        assert!(loaded.unsupported[0].starts_with(&format!("{variable}: ")), "{variable}");
    }
}

#[test]
fn what_asks_for_nothing_is_let_pass() {
    clean("auth:\nproxy: {remoteurl: ''}\nmiddleware: {registry: []}\nhealth:\nredis:\n");
    clean("http: {prefix: '', tls: {certificate: '', key: ''}}\nnotifications:\n");
    clean("storage: filesystem\nredis: {addrs: [h:1]}\nlog: {hooks: []}");
    clean("notifications: {endpoints: [{name: n, disabled: true}]}");
    clean("storage: {cache: {blobdescriptor: redis}, tag: {concurrencylimit: 8}}\nhttp:\nauth: {}");
    let file = "version: 0.1\nstorage: {maintenance: {readonly: {enabled: true}}}";
    let variables = [("REGISTRY_STORAGE_MAINTENANCE_READONLY_ENABLED", "false")];
    assert!(!load_file(file, &variables).unwrap().config.storage.read_only);
    with(&[("REGISTRY_AUTH", ""), ("REGISTRY_HTTP_TLS_CERTIFICATE", "")]);
}

#[test]
fn a_number_for_a_duration_is_nanoseconds_with_a_warning() {
    let found = warnings("http: {draintimeout: 60}");
    assert!(found[0].contains("60 nanoseconds; write 60s"), "{found:?}");
}

#[test]
fn an_object_store_needs_a_database() {
    for lines in
        ["storage: {s3: {region: r, bucket: b}}", "storage: {s3aws: {region: r, bucket: b}}"]
    {
        let error = load_file(&format!("version: 0.1\n{lines}"), &[]).unwrap_err();
        assert!(error.contains("database.url: is needed"), "{error}");
        assert!(error.contains("REGISTRY_DATABASE_URL"), "{error}");
    }
    for (keys, expected) in [
        ("accesskey: a", "accesskey: needs secretkey"),
        ("secretkey: hidden", "secretkey: needs accesskey"),
    ] {
        let text = format!("version: 0.1\nstorage: {{s3: {{region: r, bucket: b, {keys}}}}}");
        let error = load_file(&text, &[]).unwrap_err();
        assert!(error.contains(expected) && !error.contains("hidden"), "{error}");
    }
}
