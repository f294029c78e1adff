//! The configurations that users have today: those in the images of `registry:2` and `registry:3`,
//! and those of `distribution`'s repository.

use super::*;

/// `registry:2`, `/etc/docker/registry/config.yml`.
const REGISTRY_2: &str = "\
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
health:
  storagedriver:
    enabled: true
    interval: 10s
    threshold: 3
";

/// `registry:3`, `/etc/distribution/config.yml`.
const REGISTRY_3: &str = "\
version: 0.1
log:
  level: debug
  fields:
    service: registry
    environment: development
storage:
  delete:
    enabled: true
  cache:
    blobdescriptor: inmemory
  filesystem:
    rootdirectory: /var/lib/registry
  tag:
    concurrencylimit: 5
http:
  addr: :5000
  debug:
    addr: :5001
    prometheus:
      enabled: true
      path: /metrics
health:
  storagedriver:
    enabled: true
    interval: 10s
    threshold: 3
";

/// Debian's `docker-registry`.
const DEBIAN: &str = "\
version: 0.1
log:
  fields:
    service: registry
storage:
  cache:
    blobdescriptor: inmemory
  filesystem:
    rootdirectory: /var/lib/docker-registry
  delete:
    enabled: true
http:
  addr: :5000
  headers:
    X-Content-Type-Options: [nosniff]
auth:
  htpasswd:
    realm: basic-realm
    path: /etc/docker/registry
health:
  storagedriver:
    enabled: true
    interval: 10s
    threshold: 3
";

/// Everything that redis had in `registry:2`, and everything that the samples of
/// `distribution` show.
const WITH_REDIS: &str = "\
version: 0.1
storage:
  cache: {blobdescriptor: redis}
  filesystem: {rootdirectory: /var/lib/registry-cache}
  maintenance: {uploadpurging: {enabled: false}}
redis:
  addr: localhost:6379
  password: asecret
  db: 0
  dialtimeout: 10ms
  pool: {maxidle: 16, maxactive: 64, idletimeout: 300s}
notifications:
  events: {includereferences: true}
  endpoints:
    - name: local
      url: http://localhost:5003/callback
      headers: {Authorization: [Bearer x]}
      timeout: 1s
      threshold: 10
      backoff: 1s
      disabled: true
";

#[test]
fn the_images_are_taken_over_without_a_word() {
    for text in [REGISTRY_2, REGISTRY_3, DEBIAN] {
        let loaded = load_text(text, &[], Mode::Strict).unwrap();
        assert_eq!(loaded.warnings, [""; 0], "{text}");
        assert_eq!(loaded.unsupported, [""; 0], "{text}");
        assert_eq!(loaded.config.http.addr, ":5000");
        let storage = loaded.config.health.storage.unwrap();
        assert_eq!((storage.interval, storage.threshold), (Duration::from_secs(10), 3));
        assert_eq!(loaded.config.log.fields["service"], "registry");
    }
    let config = load_file(REGISTRY_3, &[]).unwrap().config;
    assert!(config.storage.delete_enabled);
    assert_eq!(config.http.debug_addr.as_deref(), Some(":5001"));
    assert_eq!(config.http.prometheus_path.as_deref(), Some("/metrics"));
    assert_eq!(config.log.level, Level::Debug);
    let config = load_file(DEBIAN, &[]).unwrap().config;
    assert!(matches!(config.auth.authenticator, Authenticator::Htpasswd { .. }));
}

/// The variables of the public guides, over the file of the image.
#[test]
fn the_images_are_started_as_the_guides_say() {
    for variables in [
        &[("REGISTRY_HTTP_ADDR", "0.0.0.0:5001")][..],
        &[
            ("REGISTRY_HTTP_ADDR", "0.0.0.0:443"),
            ("REGISTRY_HTTP_TLS_CERTIFICATE", "/certs/domain.crt"),
            ("REGISTRY_HTTP_TLS_KEY", "/certs/domain.key"),
        ],
        &[
            ("REGISTRY_AUTH", "htpasswd"),
            ("REGISTRY_AUTH_HTPASSWD_REALM", "Registry Realm"),
            ("REGISTRY_AUTH_HTPASSWD_PATH", "/auth/htpasswd"),
        ],
        &[("REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY", "/data")],
        &[("REGISTRY_STORAGE_DELETE_ENABLED", "true"), ("REGISTRY_HTTP_SECRET", "x")],
        &[("REGISTRY_HTTP_HEADERS_Access-Control-Allow-Origin", "['http://registry.example.com']")],
        &[("REGISTRY_STORAGE_MAINTENANCE_READONLY", "{\"enabled\":true}")],
    ] {
        let loaded = load_text(REGISTRY_2, variables, Mode::Strict).unwrap();
        assert_eq!(loaded.warnings, [""; 0], "{variables:?}");
        assert_eq!(loaded.unsupported, [""; 0], "{variables:?}");
    }
    let s3 = [
        ("REGISTRY_STORAGE", "s3"),
        ("REGISTRY_STORAGE_S3_BUCKET", "b"),
        ("REGISTRY_STORAGE_S3_REGION", "us-east-1"),
        ("REGISTRY_STORAGE_S3_ACCESSKEY", "a"),
        ("REGISTRY_STORAGE_S3_SECRETKEY", "@s#"),
        ("REGISTRY_DATABASE_URL", "postgres://orlop@db/orlop"),
    ];
    let loaded = load_file(REGISTRY_2, &s3).unwrap();
    assert_eq!(loaded.warnings, [""; 0]);
    assert_eq!(loaded.unsupported, [""; 0]);
}

#[test]
fn the_older_dialect_has_one_warning_for_each_older_key() {
    let loaded = load_file(WITH_REDIS, &[]).unwrap();
    assert_eq!(loaded.unsupported, [""; 0]);
    assert_eq!(loaded.warnings.len(), 4, "{:?}", loaded.warnings);
    assert!(
        loaded.warnings.iter().all(|warning| warning.contains(" is an older name: write redis."))
    );
    assert_eq!(loaded.config.storage.upload_purging, None);
}
