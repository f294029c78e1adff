//! Each section as the server gets it.

use super::*;

#[test]
fn the_basics() {
    let config = clean(
        "log: {level: Debug, formatter: json, accesslog: {disabled: true}, fields: {n: 007}}
storage:
  filesystem: {rootdirectory: /data, maxthreads: 100}
  delete: {enabled: yes}
  maintenance:
    uploadpurging: {enabled: true, age: 1h30m, interval: 10m, dryrun: true}
    readonly: {enabled: false}
  redirect: {disable: true}
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
            place: Place::Folder(PathBuf::from("/data")),
            delete_enabled: true,
            read_only: false,
            upload_purging: Some(UploadPurging {
                age: Duration::from_mins(90),
                interval: Duration::from_mins(10),
                dry_run: true,
            }),
            redirect: false,
            disk_cache: None,
            middleware: Vec::new(),
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
    assert_eq!(config.validation.index_children, IndexChildren::None);
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
    assert_eq!(validation.index_children, IndexChildren::None);
    assert_eq!(validation.image_blobs, Require::All);
}

#[test]
fn page_limits_of_zero_are_the_default() {
    let config = clean("catalog: {maxentries: -1}\ntags: {maxtags: 0}");
    assert_eq!((config.catalog_max_entries, config.tags_max), (1000, 1000));
    assert_eq!(clean("tags: {maxtags: 99999999999}").tags_max, u32::MAX);
}

#[test]
fn tls_of_files() {
    let tls = clean("http: {tls: {certificate: /c.pem, key: /k.pem}}").http.tls.unwrap();
    assert_eq!(
        tls,
        Tls {
            certificate: Certificate::Files { certificate: "/c.pem".into(), key: "/k.pem".into() },
            clients: None,
            minimum: TlsVersion::V1_2,
            cipher_suites: Vec::new(),
        }
    );
    assert_eq!(clean("http: {tls: {certificate: '', key: ''}}").http.tls, None);
    assert_eq!(clean("http: {tls: {minimumtls: tls1.2}}").http.tls, None);
}

#[test]
fn tls_with_all_its_keys() {
    let config = clean(
        "http:
  tls:
    certificate: c
    key: k
    clientcas: [/a.pem, /b.pem]
    clientauth: verify-client-cert-if-given
    minimumtls: tls1.3
    ciphersuites: [TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, TLS_AES_128_GCM_SHA256]
",
    );
    let tls = config.http.tls.unwrap();
    let clients = tls.clients.unwrap();
    assert_eq!(clients.mode, ClientAuth::VerifyIfGiven);
    assert_eq!(clients.authorities, [PathBuf::from("/a.pem"), PathBuf::from("/b.pem")]);
    assert_eq!(tls.minimum, TlsVersion::V1_3);
    assert_eq!(tls.cipher_suites.len(), 2);
    let mode = |lines: &str| {
        let tls = clean(&format!("http: {{tls: {{certificate: c, key: k, clientcas: a{lines}}}}}"));
        tls.http.tls.unwrap().clients.unwrap().mode
    };
    assert_eq!(mode(""), ClientAuth::RequireAndVerify);
    assert_eq!(mode(", clientauth: request-client-cert"), ClientAuth::Request);
    assert_eq!(mode(", clientauth: require-any-client-cert"), ClientAuth::RequireAny);
}

#[test]
fn tls_of_the_past_is_raised_with_a_warning() {
    let broken = warnings(
        "http: {tls: {certificate: c, key: k, minimumtls: tls1.0, ciphersuites: \
         [TLS_RSA_WITH_RC4_128_SHA, TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256]}}",
    );
    assert_eq!(broken.len(), 2, "{broken:?}");
    assert!(broken[0].contains("the minimum is tls1.2"), "{broken:?}");
    assert!(broken[1].contains("because broken: TLS_RSA_WITH_RC4_128_SHA"), "{broken:?}");
}

#[test]
fn lets_encrypt() {
    let config = clean(
        "http: {tls: {letsencrypt: {cachefile: /cache, email: a@b.c, hosts: [r.example.com], \
         directoryurl: 'https://acme.example.com/dir'}}}",
    );
    assert_eq!(
        config.http.tls.unwrap().certificate,
        Certificate::LetsEncrypt(LetsEncrypt {
            cache: "/cache".into(),
            email: Some("a@b.c".to_owned()),
            hosts: vec!["r.example.com".to_owned()],
            directory_url: Some("https://acme.example.com/dir".to_owned()),
        })
    );
}

#[test]
fn sockets_prefix_and_proxies() {
    let http = clean("http: {net: unix, addr: /run/r.sock, prefix: /r, h2c: {enabled: true}}").http;
    assert_eq!((http.net, http.addr.as_str()), (Net::Unix, "/run/r.sock"));
    assert_eq!(http.prefix, "/r/");
    assert!(http.h2c && http.http2);
    let http =
        clean("http: {trustedproxies: [10.0.0.0/8, '::1', unix], http2: {disabled: true}}").http;
    let network =
        |address: &str, bits| Network::Addresses { address: address.parse().unwrap(), bits };
    let expected = [network("10.0.0.0", 8), network("::1", 128), Network::Unix];
    assert_eq!(http.trusted_proxies, expected);
    assert!(!http.http2);
}

#[test]
fn access_controllers() {
    let authenticator = |lines| clean(lines).auth.authenticator;
    assert_eq!(authenticator("auth: none"), Authenticator::None);
    assert_eq!(authenticator("auth: {none: }"), Authenticator::None);
    assert_eq!(authenticator("auth:\n"), Authenticator::None);
    let (realm, service) = ("r".to_owned(), "s".to_owned());
    assert_eq!(
        authenticator("auth: {silly: {realm: r, service: s}}"),
        Authenticator::Silly { realm: realm.clone(), service: service.clone() }
    );
    assert_eq!(
        authenticator("auth: {htpasswd: {realm: r, path: /p}}"),
        Authenticator::Htpasswd { realm: realm.clone(), path: "/p".into() }
    );
    assert_eq!(
        authenticator(
            "auth: {token: {realm: r, service: s, issuer: i, rootcertbundle: /b, jwks: \
             'https://t/keys', signingalgorithms: [eddsa, rs256], autoredirect: true}}"
        ),
        Authenticator::Token(Token {
            realm,
            service,
            issuer: "i".to_owned(),
            root_cert_bundle: Some("/b".into()),
            jwks: Some(Jwks::Url("https://t/keys".parse().unwrap())),
            signing_algorithms: vec!["EdDSA".to_owned(), "RS256".to_owned()],
            auto_redirect_path: Some("/auth/token".to_owned()),
        })
    );
}

#[test]
fn access_rules() {
    let auth = clean(
        "auth:
  htpasswd: {realm: r, path: /p}
  rules:
    - repositories: '**'
      users: [anonymous, '*']
      actions: pull
    - repositories: [ci/*, team/app]
      users: ci
      actions: [pull, push, delete, admin]
",
    )
    .auth;
    assert_eq!(
        auth.rules,
        [
            Rule {
                repositories: vec!["**".to_owned()],
                users: vec![User::Anonymous, User::Authenticated],
                actions: vec![Action::Pull],
            },
            Rule {
                repositories: vec!["ci/*".to_owned(), "team/app".to_owned()],
                users: vec![User::Named("ci".to_owned())],
                actions: vec![Action::Pull, Action::Push, Action::Delete, Action::Admin],
            },
        ]
    );
}

#[test]
fn health_checks() {
    let health = clean(
        "health:
  storagedriver: {enabled: true, interval: 5s, threshold: 3}
  file: [{file: /stop}]
  http: [{uri: 'http://h/x', headers: {A: [b]}, statuscode: 204, timeout: 3s, threshold: 2}]
  tcp: [{addr: 'h:6379', interval: 0}]
",
    )
    .health;
    let ten = Duration::from_secs(10);
    assert_eq!(
        health,
        Health {
            storage: Some(StorageCheck { interval: Duration::from_secs(5), threshold: 3 }),
            files: vec![FileCheck { file: "/stop".into(), interval: ten }],
            http: vec![HttpCheck {
                uri: "http://h/x".to_owned(),
                headers: vec![("A".to_owned(), Secret::new("b".to_owned()))],
                status: 204,
                timeout: Duration::from_secs(3),
                interval: ten,
                threshold: 2,
            }],
            tcp: vec![TcpCheck {
                addr: "h:6379".to_owned(),
                timeout: ten,
                interval: ten,
                threshold: 0
            }],
        }
    );
}

#[test]
fn storage_middleware() {
    let config = clean(
        "middleware:
  storage:
    - {name: redirect, options: {baseurl: 'https://cdn.example.com/'}}
    - {name: rewrite, options: {scheme: https, host: h, trimpathprefix: /p}}
    - {name: rewrite, disabled: true}
    - {name: cloudfront, disabled: true}
",
    );
    assert_eq!(
        config.storage.middleware,
        [
            StorageMiddleware::Redirect { base_url: "https://cdn.example.com/".to_owned() },
            StorageMiddleware::Rewrite {
                scheme: Some("https".to_owned()),
                host: Some("h".to_owned()),
                trim_path_prefix: Some("/p".to_owned()),
            },
        ]
    );
}

#[test]
fn validation_and_policy() {
    let config = clean(
        "validation:
  manifests:
    urls: {allow: ['^https://'], deny: ['^https://evil/']}
    indexes: {platforms: list, platformlist: [{os: linux, architecture: arm64}]}
policy: {repository: {classes: [image]}}
",
    );
    let urls = config.validation.urls.unwrap();
    assert_eq!((urls.allow.len(), urls.deny.len()), (1, 1));
    let (os, architecture) = ("linux".to_owned(), "arm64".to_owned());
    assert_eq!(
        config.validation.index_children,
        IndexChildren::Platforms(vec![Platform { os, architecture }])
    );
    assert_eq!(config.repository_classes, ["image"]);
    assert_eq!(clean("validation: {disabled: true}").validation.urls, None);
}

#[test]
fn the_database() {
    let config = clean("database: {url: 'postgresql://u:p@h/d', maxconnections: 4}");
    let Database::Postgres { url, max_connections, staleness, replica } = &config.database else {
        panic!("SQLite")
    };
    assert_eq!((url.expose(), *max_connections), ("postgresql://u:p@h/d", 4));
    assert!(staleness.is_zero() && replica.is_none());
    assert!(!format!("{config:?}").contains("u:p@"), "{config:?}");
    assert!(
        matches!(clean("").database, Database::Sqlite(file) if file.ends_with("orlop/metadata.sqlite"))
    );
    let url = [("REGISTRY_DATABASE_URL", "postgres://h/d")];
    let config = load(None, &url).unwrap().config;
    assert_eq!(config.database.address().unwrap().unwrap().to_string(), "postgres://h/d");
    let unset = load(None, &[("REGISTRY_DATABASE_URL", "")]).unwrap().config;
    assert!(matches!(unset.database, Database::Sqlite(_)));
}

#[test]
fn redis() {
    assert_eq!(clean("redis:").redis, None);
    let redis = |text: &str| clean(&format!("redis: {{{text}}}")).redis.unwrap();
    let one = redis("addrs: ['h:1'], password: hunter2, db: 3, dialtimeout: 1s, readtimeout: -1s");
    assert_eq!(one.servers, RedisServers::One("h:1".to_owned()));
    assert_eq!((one.database, one.dial_timeout), (3, Duration::from_secs(1)));
    assert_eq!((one.timeout, one.tls.is_none()), (Duration::from_millis(250), true));
    assert!(!format!("{one:?}").contains("hunter2"), "{one:?}");
    let cluster = redis("addrs: ['a:1', 'b:1'], tls: {enabled: true}");
    assert!(matches!(cluster.servers, RedisServers::Cluster(addresses) if addresses.len() == 2));
    assert_eq!(cluster.tls.unwrap(), RedisTls::default());
    let sentinels = redis("addrs: ['a:1'], mastername: m, tls: {rootcas: [/ca.pem]}");
    assert!(matches!(&sentinels.servers, RedisServers::Sentinels { master, .. } if master == "m"));
    assert_eq!(sentinels.tls.unwrap().authorities, [PathBuf::from("/ca.pem")]);
}

#[test]
fn cloudfront() {
    let of = |base: &str, more: &str| {
        let config = clean(&format!(
            "storage: {{s3: {{bucket: b, region: r, rootdirectory: /team/}}}}
database: {{url: 'sqlite:///f'}}
middleware:
  storage:
    - name: cloudfront
      options: {{baseurl: '{base}', privatekey: /k, keypairid: K1{more}}}
"
        ));
        let [StorageMiddleware::CloudFront { base_url, lifetime, passed_by, .. }] =
            &config.storage.middleware[..]
        else {
            panic!("{:?}", config.storage.middleware);
        };
        assert_eq!(*lifetime, Duration::from_mins(20));
        (base_url.clone(), passed_by.clone())
    };
    assert_eq!(of("cdn.example/", ""), ("https://cdn.example/team".to_owned(), None));
    let none = of("http://cdn.example/x", ", ipfilteredby: none, awsregion: us-east-1");
    assert_eq!(none, ("http://cdn.example/x/team".to_owned(), None));

    let all = of("h", ", ipfilteredby: AWS, awsregion: us-east-1").1.unwrap();
    assert_eq!(all.list.to_string(), "https://ip-ranges.amazonaws.com/ip-ranges.json");
    assert_eq!((all.update_interval, all.regions.len()), (Duration::from_hours(12), 0));
    let some = of(
        "h",
        ", ipfilteredby: awsregion, awsregion: 'us-east-1, us-west-2', \
         updatefrequency: 1h, iprangesurl: 'http://mirror/r.json'",
    );
    let some = some.1.unwrap();
    assert_eq!(some.list.to_string(), "http://mirror/r.json");
    assert_eq!(some.update_interval, Duration::from_hours(1));
    assert_eq!(some.regions, ["us-east-1", "us-west-2"]);
}

#[test]
fn a_disk_cache() {
    let config = clean(
        "storage: {s3: {bucket: b, region: r}, cache: {disk: {path: /c, maxsize: 20GiB}}}
database: {url: 'sqlite:///f'}
",
    );
    let cache = config.storage.disk_cache.unwrap();
    assert_eq!((cache.folder, cache.max_size), (PathBuf::from("/c"), 20 << 30));
    assert_eq!(clean("storage: {cache: {disk: }}").storage.disk_cache, None);
}

#[test]
fn object_stores() {
    let text = "storage:
  s3:
    bucket: images
    region: eu-west-1
    accesskey: AK
    secretkey: hidden
    encrypt: true
    keyid: key-1
    rootdirectory: /team
    chunksize: 6291456
    storageclass: STANDARD_IA
database: {url: 'sqlite:///var/lib/orlop.sqlite'}
";
    let config = clean(text);
    assert_eq!(config.database, Database::Sqlite(PathBuf::from("/var/lib/orlop.sqlite")));
    let (bucket, part_size) = s3_of(&config);
    assert_eq!((bucket.bucket.as_str(), part_size), ("images", 6_291_456));
    assert!(bucket.virtual_hosted && !bucket.insecure, "as Amazon has it");
    assert_eq!(bucket.encryption, objects::s3::Encryption::Kms("key-1".to_owned()));
    assert_eq!(bucket.storage_class.as_deref(), Some("STANDARD_IA"));
    assert_eq!(config.storage.place.to_string(), "s3://images/team");
    assert!(!format!("{config:?}").contains("hidden"));

    let url = "postgres://orlop@db/orlop";
    let own = format!(
        "storage: {{s3: {{bucket: b, region: r, regionendpoint: 'minio:9000', \
                       secure: false}}}}\ndatabase: {{url: {url}}}\n"
    );
    let (bucket, _) = s3_of(&clean(&own));
    assert!(!bucket.virtual_hosted && bucket.insecure && bucket.keys.is_none());
    let hosted = own.replace("secure: false", "forcepathstyle: false");
    let (bucket, _) = s3_of(&clean(&hosted));
    assert!(bucket.virtual_hosted);

    assert_eq!(clean("storage: inmemory\n").database, Database::Temporary);
}

fn s3_of(config: &Config) -> (objects::s3::Config, usize) {
    match &config.storage.place {
        Place::Bucket(Bucket { maker: Maker::S3(s3), part_size }) => ((**s3).clone(), *part_size),
        other => panic!("{other:?}"),
    }
}

#[test]
fn object_stores_of_other_makers() {
    for (text, place, driver) in [
        (
            "azure: {accountname: a, accountkey: aGlkZGVu, container: c, rootdirectory: /team}",
            "azure://c/team",
            "azure",
        ),
        (
            "gcs: {bucket: b, credentials: {type: service_account, private_key: hidden}}",
            "gcs://b/",
            "gcs",
        ),
        (
            "swift: {username: u, password: hidden, authurl: 'http://s/auth/v1.0', container: c, \
             prefix: p}",
            "swift://c/p",
            "swift",
        ),
        (
            "oss: {accesskeyid: a, accesskeysecret: hidden, region: cn-hangzhou, bucket: b}",
            "oss://b/",
            "oss",
        ),
    ] {
        let config =
            clean(&format!("storage: {{{text}}}\ndatabase: {{url: 'postgres://o@db/o'}}\n"));
        assert_eq!(config.storage.place.to_string(), place);
        assert_eq!(config.storage.place.driver(), driver);
        let shown = format!("{config:?}");
        assert!(!shown.contains("hidden") && !shown.contains("aGlkZGVu"), "{shown}");
    }
}
