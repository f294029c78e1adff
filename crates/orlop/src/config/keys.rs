//! Every key that a configuration may hold: one line each, and nowhere else.
//!
//! Validation, variables, `config show`, the JSON Schema, the defaults and the reference in
//! `docs/configuration.md` all come from [`KEYS`]. A new key is a line here, and one in
//! `settings/` where it is acted on.

use super::kind::Kind;
use Kind::{
    Address, Authority, Boolean, Database, Duration, Free, Header, Host, HostName, Listen, Network,
    OneOf, Path, PathOrUrl, Pattern, Period, Prefix, Repositories, Secret, SecretHeader,
    SignedDuration, Size, Text, Url, UrlPath, Whole,
};

/// A key, or a section of which there is something to say.
#[derive(Debug)]
pub(super) struct Key {
    /// Names from the top, joined by dots. `*` stands for any one name, `[]` for an item of a list.
    pub(super) path: &'static str,
    pub(super) kind: Kind,
    /// What holds where nothing is set; none if empty.
    pub(super) default: &'static str,
    /// For people, in a line of Markdown.
    pub(super) meaning: &'static str,
    pub(super) state: State,
    /// Whether the section around is of no use without it.
    pub(super) required: bool,
    /// For a section: whether its defaults hold only where it is written.
    pub(super) optional: bool,
}

/// How this version deals with a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// Acted on, or of no need.
    Current,
    /// What it asks for comes with a later version, and starting without it would break a promise.
    Later,
    /// Code that can be compiled into `distribution`.
    Foreign,
    /// An older name of this key.
    Older(&'static str),
    /// Gone from `distribution` too; named and passed over.
    Removed,
}

#[rustfmt::skip]
pub(super) static KEYS: &[Key] = &[
    key("version", OneOf(&["0.1"]), "0.1", "The version of the format; required in a file"),

    key("log.level", OneOf(&["error", "warn", "warning", "info", "debug"]), "info", "The least important lines that are written"),
    key("log.formatter", OneOf(&["text", "json", "logstash"]), "text", "`text` is for people; `json` and `logstash` are one object a line"),
    key("log.fields.*", Text, "", "A value to put on every line, such as `service: registry`"),
    key("log.accesslog.disabled", Boolean, "false", "Leaves out the line for each request; `log.level` does not affect these lines"),
    key("log.reportcaller", Boolean, "false", "Adds the place in the program to each line"),
    section("log.hooks.[]", "Mail for lines of a level").later(),
    key("log.hooks.[].type", OneOf(&["mail"]), "", "").required(),
    key("log.hooks.[].disabled", Boolean, "false", "Switches the hook off"),
    key("log.hooks.[].levels.[]", OneOf(&["panic", "fatal", "error", "warn", "warning", "info", "debug"]), "", "The levels that cause a mail"),
    key("log.hooks.[].options.smtp.addr", Address, "", "The mail server"),
    key("log.hooks.[].options.smtp.username", Text, "", ""),
    key("log.hooks.[].options.smtp.password", Secret, "", ""),
    key("log.hooks.[].options.smtp.insecure", Boolean, "false", ""),
    key("log.hooks.[].options.from", Text, "", "The sender"),
    key("log.hooks.[].options.to.[]", Text, "", "The receivers"),
    key("loglevel", OneOf(&["error", "warn", "warning", "info", "debug"]), "", "").older("log.level"),

    section("storage.filesystem", "A folder of this machine").optional(),
    key("storage.filesystem.rootdirectory", Path, "/var/lib/registry", "The folder for images and database; without a file, `$XDG_DATA_HOME/orlop`, else `$HOME/.local/share/orlop`; where neither variable is set, the default"),
    key("storage.filesystem.maxthreads", Whole(0, i64::MAX), "", "Not needed"),
    section("storage.inmemory", "Memory, until the server ends; no parameters").optional(),
    key("storage.delete.enabled", Boolean, "false", "Whether clients may delete tags, manifests and blobs; `true` without a file"),
    key("storage.redirect.disable", Boolean, "false", "Content is sent by Orlop, never by a redirect"),
    key("storage.cache.blobdescriptor", OneOf(&["redis", "inmemory"]), "", "Not needed: facts come from the database"),
    key("storage.cache.blobdescriptorsize", Whole(i64::MIN, i64::MAX), "", "Not needed"),
    key("storage.cache.layerinfo", OneOf(&["redis", "inmemory"]), "", "").older("storage.cache.blobdescriptor"),
    section("storage.cache.disk", "What was read of an object store stays on the disk of this machine for a while ([object-stores.md](object-stores.md)). Only Orlop has it").optional(),
    key("storage.cache.disk.path", Path, "", "The folder for it, of which each server needs one of its own").required(),
    key("storage.cache.disk.maxsize", Size, "", "The most that it takes, such as `20GiB`").required(),
    key("storage.maintenance.uploadpurging.enabled", Boolean, "true", "Whether uploads that their clients gave up are removed"),
    key("storage.maintenance.uploadpurging.age", Period, "168h", "How long an upload may lie untouched"),
    key("storage.maintenance.uploadpurging.interval", Period, "24h", "How often to look"),
    key("storage.maintenance.uploadpurging.dryrun", Boolean, "false", "Lists in the log what would be removed, and removes nothing"),
    key("storage.maintenance.readonly.enabled", Boolean, "false", "Refuses pushes and deletes"),
    key("storage.tag.concurrencylimit", Whole(0, i64::MAX), "", "Not needed: a manifest's tags are one query"),
    section("storage.s3", "An S3-compatible store; also `s3aws` ([object-stores.md](object-stores.md))").optional(),
    key("storage.s3.accesskey", Text, "", "Without it, those of the environment, of the shared files, of the container or of the instance"),
    key("storage.s3.secretkey", Secret, "", ""),
    key("storage.s3.sessiontoken", Secret, "", ""),
    key("storage.s3.region", Text, "", "").required(),
    key("storage.s3.regionendpoint", Text, "", "The address of a store that is not Amazon's"),
    key("storage.s3.redirectendpoint", Url, "", "Another address, for the URLs that clients are sent to"),
    key("storage.s3.forcepathstyle", Boolean, "false", "The bucket in the path, not in the host name; where it is not set, that is so for every `regionendpoint`"),
    key("storage.s3.bucket", Text, "", "").required(),
    key("storage.s3.encrypt", Boolean, "false", "Encryption by the store"),
    key("storage.s3.keyid", Text, "", "The KMS key for it"),
    key("storage.s3.secure", Boolean, "true", "HTTPS"),
    key("storage.s3.skipverify", Boolean, "false", "Accept any certificate"),
    key("storage.s3.authorities", Path, "", "A PEM file of authorities that are trusted beside those of the system. Only Orlop has it"),
    key("storage.s3.v4auth", Boolean, "true", "Not needed: signatures have version 4"),
    key("storage.s3.chunksize", Whole(5 << 20, 5 << 30), "10485760", "Bytes in a part of a multipart upload"),
    key("storage.s3.multipartcopychunksize", Whole(5 << 20, 5 << 30), "33554432", "Not needed: nothing is copied"),
    key("storage.s3.multipartcopymaxconcurrency", Whole(1, i64::MAX), "100", "Not needed: nothing is copied"),
    key("storage.s3.multipartcopythresholdsize", Whole(0, 5 << 30), "33554432", "Not needed: nothing is copied"),
    key("storage.s3.rootdirectory", Text, "", "A prefix of all keys"),
    key("storage.s3.storageclass", OneOf(S3_CLASSES), "STANDARD", "`NONE` sends none"),
    key("storage.s3.useragent", Text, "", ""),
    key("storage.s3.objectacl", OneOf(S3_ACLS), "private", ""),
    key("storage.s3.usedualstack", Boolean, "false", "IPv6 too"),
    key("storage.s3.accelerate", Boolean, "false", "Transfer acceleration"),
    key("storage.s3.usefipsendpoint", Boolean, "false", ""),
    key("storage.s3.loglevel", OneOf(S3_LOG), "off", "Not needed"),
    section("storage.azure", "Azure Blob Storage").optional(),
    key("storage.azure.accountname", Text, "", "").required(),
    key("storage.azure.accountkey", Secret, "", ""),
    key("storage.azure.container", Text, "", "").required(),
    key("storage.azure.connectionstring", Secret, "", ""),
    key("storage.azure.realm", Text, "core.windows.net", ""),
    key("storage.azure.serviceurl", Url, "", ""),
    key("storage.azure.rootdirectory", Text, "", "A prefix of all names"),
    key("storage.azure.max_retries", Whole(0, i64::MAX), "5", ""),
    key("storage.azure.retry_delay", Duration, "100ms", ""),
    key("storage.azure.skipverify", Boolean, "false", "Accept any certificate"),
    key("storage.azure.authorities", Path, "", "A PEM file of authorities that are trusted beside those of the system. Only Orlop has it"),
    key("storage.azure.credentials.type", OneOf(&["client_secret", "shared_key", "default_credentials"]), "", ""),
    key("storage.azure.credentials.clientid", Text, "", ""),
    key("storage.azure.credentials.tenantid", Text, "", ""),
    key("storage.azure.credentials.secret", Secret, "", ""),
    section("storage.gcs", "Google Cloud Storage").optional(),
    key("storage.gcs.bucket", Text, "", "").required(),
    key("storage.gcs.keyfile", Path, "", "The service account's key"),
    key("storage.gcs.credentials.*", Secret, "", "The same as a section"),
    key("storage.gcs.rootdirectory", Text, "", "A prefix of all names"),
    key("storage.gcs.chunksize", Whole(1 << 18, i64::MAX), "16777216", "A multiple of 262144"),
    key("storage.gcs.maxconcurrency", Whole(0, i64::MAX), "50", ""),
    key("storage.gcs.useragent", Text, "", ""),
    section("storage.swift", "OpenStack Swift (`registry:2`)").optional(),
    key("storage.swift.username", Text, "", "").required(),
    key("storage.swift.password", Secret, "", "").required(),
    key("storage.swift.authurl", Url, "", "").required(),
    key("storage.swift.tenant", Text, "", ""),
    key("storage.swift.tenantid", Text, "", ""),
    key("storage.swift.domain", Text, "", ""),
    key("storage.swift.domainid", Text, "", ""),
    key("storage.swift.tenantdomain", Text, "", ""),
    key("storage.swift.tenantdomainid", Text, "", ""),
    key("storage.swift.trustid", Text, "", ""),
    key("storage.swift.region", Text, "", ""),
    key("storage.swift.authversion", Whole(0, 3), "", ""),
    key("storage.swift.container", Text, "", "").required(),
    key("storage.swift.prefix", Text, "", ""),
    key("storage.swift.rootdirectory", Text, "", "Not used, as in `registry:2`: `prefix` is"),
    key("storage.swift.endpointtype", OneOf(&["public", "internal", "admin"]), "", ""),
    key("storage.swift.insecureskipverify", Boolean, "false", "Accept any certificate"),
    key("storage.swift.chunksize", Whole(1 << 20, i64::MAX), "20971520", ""),
    key("storage.swift.secretkey", Secret, "", ""),
    key("storage.swift.accesskey", Secret, "", ""),
    key("storage.swift.tempurlcontainerkey", Boolean, "false", ""),
    key("storage.swift.tempurlmethods.[]", Text, "", ""),
    section("storage.oss", "Alibaba OSS (`registry:2`)").optional(),
    key("storage.oss.accesskeyid", Text, "", "").required(),
    key("storage.oss.accesskeysecret", Secret, "", "").required(),
    key("storage.oss.region", Text, "", "").required(),
    key("storage.oss.bucket", Text, "", "").required(),
    key("storage.oss.endpoint", Text, "", ""),
    key("storage.oss.internal", Boolean, "false", ""),
    key("storage.oss.encrypt", Boolean, "false", ""),
    key("storage.oss.encryptionkeyid", Text, "", ""),
    key("storage.oss.secure", Boolean, "true", "HTTPS"),
    key("storage.oss.chunksize", Whole(5 << 20, i64::MAX), "10485760", ""),
    key("storage.oss.rootdirectory", Text, "", "A prefix of all keys"),

    key("database.url", Database, "", "The PostgreSQL that keeps the facts: `postgres://USER:PASSWORD@HOST/DATABASE` ([database.md](database.md)). Without it they are in a SQLite file below the data folder; `sqlite:///PATH` names another file. With an object store it is required. Only Orlop has it"),
    key("database.maxconnections", Whole(1, 10_000), "16", "The most connections to PostgreSQL that one server has in use; it holds one more. Only Orlop has it"),
    key("database.staleness", Duration, "0s", "For how long a server may answer pulls from memory although another server may have changed the tag since ([database.md](database.md)). Only Orlop has it"),
    key("database.replica", Database, "", "The URL of a standby of that PostgreSQL. It answers pulls, as far as it is not older than `database.staleness`. Only Orlop has it"),

    section("auth.none", "Everyone may do everything").optional(),
    section("auth.silly", "For tests: any `Authorization` passes").optional(),
    key("auth.silly.realm", Text, "", "").required(),
    key("auth.silly.service", Text, "", "").required(),
    section("auth.htpasswd", "Names and passwords in a file").optional(),
    key("auth.htpasswd.realm", Text, "", "The name that clients show when they ask for a password").required(),
    key("auth.htpasswd.path", Path, "", "The file, with bcrypt hashes. It is made, with one user, if it is missing").required(),
    section("auth.rules.[]", "Who may do what where. Only Orlop has it").optional(),
    key("auth.rules.[].repositories.[]", Repositories, "", "Names or patterns: `*` is any part of a name up to a slash, `**` goes over slashes").required(),
    key("auth.rules.[].users.[]", Text, "", "Names, `\"*\"` for all who signed in, `anonymous` for all who did not").required(),
    key("auth.rules.[].actions.[]", OneOf(&["pull", "push", "delete", "admin"]), "", "What they may do").required(),
    section("auth.token", "Tokens of a token server").optional(),
    key("auth.token.realm", Text, "", "The URL of the token server").required(),
    key("auth.token.service", Text, "", "The name of this registry in tokens").required(),
    key("auth.token.issuer", Text, "", "The name of the token server in tokens").required(),
    key("auth.token.rootcertbundle", Path, "", "Certificates of the token server"),
    key("auth.token.jwks", PathOrUrl, "", "Its keys, as a JSON Web Key Set. Only Orlop takes a URL"),
    key("auth.token.signingalgorithms.[]", OneOf(JWT_ALGORITHMS), "", "The accepted algorithms; all of these without it"),
    key("auth.token.autoredirect", Boolean, "false", "The token server is at this host"),
    key("auth.token.autoredirectpath", UrlPath, "/auth/token", "and this path"),

    key("middleware.storage.[].name", OneOf(&["redirect", "rewrite", "cloudfront"]), "", "Where clients are sent for blobs, in the order of the list ([object-stores.md](object-stores.md#redirects))").required(),
    key("middleware.storage.[].disabled", Boolean, "false", "Switches it off"),
    key("middleware.storage.[].options.baseurl", Text, "", "`redirect`, `cloudfront`: where clients are sent"),
    key("middleware.storage.[].options.scheme", OneOf(&["http", "https"]), "", "`rewrite`: the scheme of the URL that clients are sent to"),
    key("middleware.storage.[].options.host", Authority, "", "`rewrite`: its host"),
    key("middleware.storage.[].options.trimpathprefix", Text, "", "`rewrite`: taken off the start of its path"),
    key("middleware.storage.[].options.privatekey", Path, "", "`cloudfront`: the file of the RSA key that signs, as PEM"),
    key("middleware.storage.[].options.keypairid", Text, "", "`cloudfront`: by which it knows the key"),
    key("middleware.storage.[].options.duration", Duration, "", "`cloudfront`: how long a URL is good; 20 minutes without it"),
    key("middleware.storage.[].options.ipfilteredby", OneOf(&["none", "aws", "awsregion"]), "", "`cloudfront`: who is not sent there but to the bucket itself: nobody, clients in networks of Amazon, or those in some of its regions"),
    key("middleware.storage.[].options.awsregion", Text, "", "`cloudfront`, with `ipfilteredby: awsregion`: the regions, with commas between them"),
    key("middleware.storage.[].options.updatefrequency", Period, "", "`cloudfront`, with `ipfilteredby`: how often the list of networks is fetched; 12 hours without it"),
    key("middleware.storage.[].options.updatefrenquency", Period, "", "").older("middleware.storage.[].options.updatefrequency"),
    key("middleware.storage.[].options.iprangesurl", Url, "", "`cloudfront`, with `ipfilteredby`: where that list is; without it at Amazon, `https://ip-ranges.amazonaws.com/ip-ranges.json`"),
    section("middleware.registry.[]", "Code that was compiled into another registry").foreign(),
    key("middleware.registry.[].name", Text, "", ""),
    key("middleware.registry.[].disabled", Boolean, "false", ""),
    key("middleware.registry.[].options", Free, "", ""),
    section("middleware.repository.[]", "Code that was compiled into another registry").foreign(),
    key("middleware.repository.[].name", Text, "", ""),
    key("middleware.repository.[].disabled", Boolean, "false", ""),
    key("middleware.repository.[].options", Free, "", ""),

    key("http.addr", Listen, ":5000", "Where to listen; no host means every address of the machine. Without a file, `127.0.0.1:5000`"),
    key("http.net", OneOf(&["tcp", "unix"]), "tcp", "With `unix`, `http.addr` is the path of a socket"),
    key("http.host", Host, "", "The start of the URLs in answers; otherwise as the client calls the registry"),
    key("http.prefix", Prefix, "", "The path below which the registry answers, such as `/registry/`"),
    key("http.secret", Secret, "", "What all servers that stand for each other share: it seals the tokens and places in lists that they give out. If it is not set, they share a random one that is in the database"),
    key("http.relativeurls", Boolean, "false", "Answers with paths instead of URLs"),
    key("http.draintimeout", Duration, "8s", "How long running requests may take after a SIGTERM; `0` cuts them at once"),
    key("http.headers.*.[]", Header, "", "Headers for every answer of the API"),
    key("http.trustedproxies.[]", Network, "", "The proxies whose word counts on where a client comes from, for logs, rules and limits. Only Orlop has it"),
    key("http.debug.addr", Address, "", "A second address, for health checks and metrics. It should not be public"),
    key("http.debug.prometheus.enabled", Boolean, "", "`false` leaves the metrics out"),
    key("http.debug.prometheus.path", UrlPath, "/metrics", "Where they are"),
    key("http.http2.disabled", Boolean, "false", "No HTTP/2 over TLS"),
    key("http.h2c.enabled", Boolean, "false", "HTTP/2 without TLS"),
    section("http.tls", "TLS").optional(),
    key("http.tls.certificate", Path, "", "The certificate and those between it and the authority, as PEM"),
    key("http.tls.key", Path, "", "Its private key"),
    key("http.tls.clientcas.[]", Path, "", "The authorities whose clients may connect"),
    key("http.tls.clientauth", OneOf(CLIENT_AUTH), "", "`require-and-verify-client-cert` if there are `clientcas`"),
    key("http.tls.minimumtls", OneOf(&["tls1.0", "tls1.1", "tls1.2", "tls1.3"]), "tls1.2", "`tls1.0` and `tls1.1` mean `tls1.2`"),
    key("http.tls.ciphersuites.[]", OneOf(CIPHER_SUITES), "", "The cipher suites of TLS 1.2; all safe ones without it"),
    key("http.tls.letsencrypt.cachefile", Path, "", "The folder where certificates from Let's Encrypt are kept"),
    key("http.tls.letsencrypt.email", Text, "", "Whom Let's Encrypt may write to"),
    key("http.tls.letsencrypt.hosts.[]", HostName, "", "The names in the certificate"),
    key("http.tls.letsencrypt.directoryurl", Url, "", "Another ACME server"),

    key("notifications.events.includereferences", Boolean, "false", "What a manifest refers to is in its event"),
    section("notifications.endpoints.[]", "Receivers of events").later(),
    key("notifications.endpoints.[].name", Text, "", ""),
    key("notifications.endpoints.[].disabled", Boolean, "false", "Switches it off"),
    key("notifications.endpoints.[].url", Url, "", "").required(),
    key("notifications.endpoints.[].headers.*.[]", SecretHeader, "", "Headers of the request"),
    key("notifications.endpoints.[].timeout", Duration, "1s", ""),
    key("notifications.endpoints.[].threshold", Whole(i64::MIN, i64::MAX), "10", "Failures before it waits"),
    key("notifications.endpoints.[].backoff", Duration, "1s", "How long"),
    key("notifications.endpoints.[].ignoredmediatypes.[]", Text, "", "Added to `ignore.mediatypes`"),
    key("notifications.endpoints.[].ignore.mediatypes.[]", Text, "", "No events for these"),
    key("notifications.endpoints.[].ignore.actions.[]", Text, "", "No events for these: `pull`, `push`, `mount`, `delete`"),

    section("redis", "With an object store: a cache of manifests and small blobs that servers share ([object-stores.md](object-stores.md)). What has no meaning here is of no use to it").optional(),
    key("redis.addrs.[]", Address, "", "One server, or with `mastername` sentinels, or else the nodes of a cluster"),
    key("redis.addr", Address, "", "").older("redis.addrs"),
    key("redis.clientname", Text, "", ""),
    key("redis.db", Whole(0, i64::MAX), "", "The database; a cluster has only one"),
    key("redis.protocol", Whole(2, 3), "", ""),
    key("redis.username", Text, "", "Who logs in"),
    key("redis.password", Secret, "", "With which password"),
    key("redis.sentinelusername", Text, "", "The same at the sentinels"),
    key("redis.sentinelpassword", Secret, "", "The same at the sentinels"),
    key("redis.maxretries", Whole(-1, i64::MAX), "", ""),
    key("redis.minretrybackoff", SignedDuration, "", ""),
    key("redis.maxretrybackoff", SignedDuration, "", ""),
    key("redis.dialtimeout", SignedDuration, "", "How long a connection may take; 250 ms if it is not set"),
    key("redis.readtimeout", SignedDuration, "", "How long an answer may take; 250 ms if it is not set"),
    key("redis.writetimeout", SignedDuration, "", ""),
    key("redis.contexttimeoutenabled", Boolean, "", ""),
    key("redis.poolfifo", Boolean, "", ""),
    key("redis.poolsize", Whole(0, i64::MAX), "", ""),
    key("redis.pooltimeout", SignedDuration, "", ""),
    key("redis.minidleconns", Whole(0, i64::MAX), "", ""),
    key("redis.maxidleconns", Whole(0, i64::MAX), "", ""),
    key("redis.maxactiveconns", Whole(0, i64::MAX), "", ""),
    key("redis.connmaxidletime", SignedDuration, "", ""),
    key("redis.connmaxlifetime", SignedDuration, "", ""),
    key("redis.pool.maxidle", Whole(0, i64::MAX), "", "").older("redis.maxidleconns"),
    key("redis.pool.maxactive", Whole(0, i64::MAX), "", "").older("redis.maxactiveconns"),
    key("redis.pool.idletimeout", SignedDuration, "", "").older("redis.connmaxidletime"),
    key("redis.maxredirects", Whole(-1, i64::MAX), "", ""),
    key("redis.readonly", Boolean, "", ""),
    key("redis.routebylatency", Boolean, "", ""),
    key("redis.routerandomly", Boolean, "", ""),
    key("redis.mastername", Text, "", "What the sentinels call the master"),
    key("redis.disableidentity", Boolean, "", ""),
    key("redis.identitysuffix", Text, "", ""),
    key("redis.unstableresp3", Boolean, "", ""),
    key("redis.tls.enabled", Boolean, "", "TLS. It is on, too, when another key of `redis.tls` is set"),
    key("redis.tls.certificate", Path, "", "A certificate of this client"),
    key("redis.tls.key", Path, "", "Its key"),
    key("redis.tls.rootcas.[]", Path, "", "Authorities to trust, in place of those of the system"),
    key("redis.tls.clientcas.[]", Path, "", "").older("redis.tls.rootcas"),

    key("health.storagedriver.enabled", Boolean, "false", "Checks that the store answers"),
    key("health.storagedriver.interval", Duration, "10s", "How often"),
    key("health.storagedriver.threshold", Whole(0, 1 << 31), "0", "So many failures in a row count as one"),
    key("health.file.[].file", Path, "", "Unhealthy while this file exists").required(),
    key("health.file.[].interval", Duration, "10s", "How often to look"),
    key("health.file.[].threshold", Whole(0, 1 << 31), "", "Not needed"),
    key("health.http.[].uri", Url, "", "Asked with HEAD").required(),
    key("health.http.[].headers.*.[]", SecretHeader, "", "Headers of the request"),
    key("health.http.[].statuscode", Whole(100, 599), "200", "The answer that is expected"),
    key("health.http.[].timeout", Duration, "10s", "How long to wait for it"),
    key("health.http.[].interval", Duration, "10s", "How often to ask"),
    key("health.http.[].threshold", Whole(0, 1 << 31), "0", "So many failures in a row count as one"),
    key("health.tcp.[].addr", Address, "", "Connected to").required(),
    key("health.tcp.[].timeout", Duration, "10s", "How long to wait"),
    key("health.tcp.[].interval", Duration, "10s", "How often to try"),
    key("health.tcp.[].threshold", Whole(0, 1 << 31), "0", "So many failures in a row count as one"),

    key("catalog.maxentries", Whole(i64::MIN, i64::MAX), "1000", "The most repositories in one page; `0` and less mean the default"),
    key("tags.maxtags", Whole(0, i64::MAX), "1000", "The most tags in one page that a client asks for with `n`; without `n` it gets all. `0` means the default"),

    section("proxy", "A cache of another registry").optional(),
    key("proxy.remoteurl", Url, "", "That registry").later(),
    key("proxy.username", Text, "", ""),
    key("proxy.password", Secret, "", ""),
    key("proxy.exec.command", Text, "", "A helper of `docker login` that knows the password"),
    key("proxy.exec.lifetime", SignedDuration, "", "How long to believe it"),
    key("proxy.ttl", SignedDuration, "168h", "How long content is kept; zero and less mean for ever"),
    key("proxy.cachewritetimeout", Duration, "5m", ""),

    key("validation.enabled", Boolean, "", "").older("validation.disabled"),
    key("validation.disabled", Boolean, "false", "Leaves out the checks of URLs and of the images in an index"),
    key("validation.manifests.urls.allow.[]", Pattern, "", "The URLs that a layer may name as its place; none without `allow` and `deny`, and `^https?://` without a file"),
    key("validation.manifests.urls.deny.[]", Pattern, "", "The URLs that it may not"),
    key("validation.manifests.indexes.platforms", OneOf(&["all", "none", "list"]), "all", "Which images of an index must be there when it is pushed"),
    key("validation.manifests.indexes.platformlist.[].os", Text, "", "With `list`: those of these platforms").required(),
    key("validation.manifests.indexes.platformlist.[].architecture", Text, "", "").required(),
    key("validation.manifests.images.blobs", OneOf(&["all", "none"]), "all", "`none` accepts an image whose configuration or layers are missing. Only Orlop has it"),

    key("policy.repository.classes.[]", OneOf(&["image", "plugin"]), "", "What may be pushed; everything without it"),

    key("compatibility", Free, "", "Manifests of schema 1, which `registry:3` does not have either").removed(),
    key("reporting", Free, "", "Bugsnag and New Relic, which `registry:3` does not have either").removed(),
];

const S3_CLASSES: &[&str] = &[
    "NONE",
    "STANDARD",
    "REDUCED_REDUNDANCY",
    "STANDARD_IA",
    "ONEZONE_IA",
    "INTELLIGENT_TIERING",
    "OUTPOSTS",
    "GLACIER_IR",
    "EXPRESS_ONEZONE",
];

const S3_ACLS: &[&str] = &[
    "private",
    "public-read",
    "public-read-write",
    "authenticated-read",
    "aws-exec-read",
    "bucket-owner-read",
    "bucket-owner-full-control",
];

const S3_LOG: &[&str] = &[
    "off",
    "debug",
    "debugwithsigning",
    "debugwithhttpbody",
    "debugwithrequestretries",
    "debugwithrequesterrors",
    "debugwitheventstreambody",
];

const JWT_ALGORITHMS: &[&str] = &[
    "EdDSA", "HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "ES256", "ES384", "ES512",
    "PS256", "PS384", "PS512",
];

const CLIENT_AUTH: &[&str] = &[
    "request-client-cert",
    "require-any-client-cert",
    "verify-client-cert-if-given",
    "require-and-verify-client-cert",
];

/// The cipher suites that are still thought safe, by Go's names. The last three are of TLS 1.3.
pub(super) const SAFE_CIPHER_SUITES: &[&str] = &[
    "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
    "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
    "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
    "TLS_AES_128_GCM_SHA256",
    "TLS_AES_256_GCM_SHA384",
    "TLS_CHACHA20_POLY1305_SHA256",
];

/// All that `registry:2` knows: those above and the broken ones.
const CIPHER_SUITES: &[&str] = &[
    "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
    "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
    "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
    "TLS_AES_128_GCM_SHA256",
    "TLS_AES_256_GCM_SHA384",
    "TLS_CHACHA20_POLY1305_SHA256",
    "TLS_RSA_WITH_RC4_128_SHA",
    "TLS_RSA_WITH_3DES_EDE_CBC_SHA",
    "TLS_RSA_WITH_AES_128_CBC_SHA",
    "TLS_RSA_WITH_AES_256_CBC_SHA",
    "TLS_RSA_WITH_AES_128_CBC_SHA256",
    "TLS_RSA_WITH_AES_128_GCM_SHA256",
    "TLS_RSA_WITH_AES_256_GCM_SHA384",
    "TLS_ECDHE_ECDSA_WITH_RC4_128_SHA",
    "TLS_ECDHE_RSA_WITH_RC4_128_SHA",
    "TLS_ECDHE_RSA_WITH_3DES_EDE_CBC_SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256",
];

/// The names in variables that are not the key in upper case: those of the fields in
/// `distribution`'s program, which its variables go by.
pub(super) const FIELD_NAMES: &[(&str, &str)] = &[
    ("log.hooks.[].options", "MAILOPTIONS"),
    ("notifications.events", "EVENTCONFIG"),
    ("redis", "REDIS_OPTIONS"),
    ("health.file", "FILECHECKERS"),
    ("health.http", "HTTPCHECKERS"),
    ("health.tcp", "TCPCHECKERS"),
    ("storage.s3", "S3AWS"),
];

const fn key(path: &'static str, kind: Kind, default: &'static str, meaning: &'static str) -> Key {
    Key { path, kind, default, meaning, state: State::Current, required: false, optional: false }
}

const fn section(path: &'static str, meaning: &'static str) -> Key {
    key(path, Kind::Section, "", meaning)
}

impl Key {
    const fn required(self) -> Self {
        Self { required: true, ..self }
    }

    const fn optional(self) -> Self {
        Self { optional: true, ..self }
    }

    const fn later(self) -> Self {
        Self { state: State::Later, ..self }
    }

    const fn foreign(self) -> Self {
        Self { state: State::Foreign, ..self }
    }

    const fn older(self, new: &'static str) -> Self {
        Self { state: State::Older(new), ..self }
    }

    const fn removed(self) -> Self {
        Self { state: State::Removed, ..self }
    }
}
