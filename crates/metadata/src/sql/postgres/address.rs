//! Where a PostgreSQL database is, and how to get there.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode};

use super::client_certificate::ClientCertificate;
use super::password_file::PasswordFile;
use super::tls::{Authorities, Tls};
use crate::{Error, ErrorKind};

/// What a URL begins with.
const SCHEMES: [&str; 2] = ["postgres://", "postgresql://"];

/// What of the URL is read here, and which variable counts without it.
const VARIABLES: [(&str, &str); 5] = [
    ("sslmode", "PGSSLMODE"),
    ("sslrootcert", "PGSSLROOTCERT"),
    ("sslcert", "PGSSLCERT"),
    ("sslkey", "PGSSLKEY"),
    ("passfile", "PGPASSFILE"),
];

/// Connections in use at once, if nothing else is said.
const CONNECTIONS: usize = 16;

/// How long one host may take to answer, if the URL does not say.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// When a connection on which nothing happens is looked after. (The system's two hours are the
/// default of `tokio-postgres`.)
const KEEPALIVE_IDLE: Duration = Duration::from_secs(30);
const SYSTEM_KEEPALIVE_IDLE: Duration = Duration::from_hours(2);

/// How long what was sent may stay without a sign that it arrived.
const USER_TIMEOUT: Duration = Duration::from_secs(30);

/// The address of a PostgreSQL database, out of a URL of libpq's form:
/// `postgres://USER[:PASSWORD]@HOST[:PORT][,HOST[:PORT]…]/DATABASE[?NAME=VALUE[&…]]`.
///
/// `sslmode`, `sslrootcert`, `sslcert` and `sslkey`, and the variables that libpq has for them, mean
/// what they mean to libpq, except that without `sslrootcert` the authorities of the system are
/// trusted, and that no files below the home folder are looked for. Without a password in it, the
/// variable `PGPASSWORD` counts, or the password file: `passfile`, `PGPASSFILE`, or `.pgpass` in the
/// home folder. It is shown without its password.
#[derive(Clone)]
pub struct Address {
    pub(super) config: Config,
    pub(super) tls: Tls,
    pub(super) client_certificate: Option<ClientCertificate>,
    /// Where the password is, if it is not in `config`.
    password_file: Option<PasswordFile>,
    pub(super) connections: usize,
    pub(super) staleness: Duration,
    pub(super) replica: Option<Box<Address>>,
}

impl Address {
    /// Whether `text` has the scheme of such a URL.
    pub fn is_one(text: &str) -> bool {
        SCHEMES.iter().any(|scheme| text.starts_with(scheme))
    }

    /// The same with a time for which answers may be kept although others may have written since
    /// (see [`Metadata::version`](crate::Metadata::version)). Zero, the default: not at all.
    #[must_use]
    pub fn with_staleness(self, staleness: Duration) -> Self {
        Self { staleness, ..self }
    }

    /// The same with a standby of that database, which answers what may be old
    /// ([`Metadata::read_relaxed`](crate::Metadata::read_relaxed)).
    #[must_use]
    pub fn with_replica(self, replica: Option<Self>) -> Self {
        Self { replica: replica.map(Box::new), ..self }
    }

    /// The same with another limit of connections that are in use at once; at least one.
    #[must_use]
    pub fn with_connections(self, connections: usize) -> Self {
        Self { connections: connections.max(1), ..self }
    }
}

impl FromStr for Address {
    type Err = Error;

    /// Fails with a message that does not repeat the URL.
    fn from_str(url: &str) -> Result<Self, Error> {
        let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
        Self::parse_as(url, &variable)
    }
}

impl Address {
    /// With the environment that `variable` tells of.
    fn parse_as(url: &str, variable: &dyn Fn(&str) -> Option<OsString>) -> Result<Self, Error> {
        if !Self::is_one(url) {
            return Err(wrong("it begins with postgres:// or postgresql://"));
        }
        let (place, query) = url.split_once('?').unwrap_or((url, ""));
        // Messages may name what stands behind it.
        if query.contains('@') && !place.contains('@') {
            return Err(wrong("no ? in the password (write %3F), and %40 for each @ behind it"));
        }
        let mut ours = HashMap::new();
        let mut others = Vec::new();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            match pair.split_once('=') {
                Some((name, value)) if VARIABLES.iter().any(|(ours, _)| *ours == name) => {
                    ours.insert(name, OsString::from(decode(value)?));
                }
                Some(("sslpassword", _)) => {
                    return Err(wrong("no sslpassword: write the key without one"));
                }
                _ => others.push(pair),
            }
        }
        for (name, of_environment) in VARIABLES {
            if !ours.contains_key(name)
                && let Some(value) = variable(of_environment)
            {
                ours.insert(name, value);
            }
        }
        let config = format!("{place}?{}", others.join("&")).parse::<Config>();
        let mut config = config.map_err(|error| {
            let source = std::error::Error::source(&error).map(ToString::to_string);
            not_understood(&source.unwrap_or_default())
        })?;
        for host in config.get_hosts() {
            if let Host::Tcp(name) = host
                && (name.contains('@') || name.is_empty())
            {
                return Err(wrong("a host without @ (write %40 for one in the password)"));
            }
        }
        // A slash in a password ends it there, and an error would show the rest as a name.
        if config.get_dbname().is_some_and(|name| name.contains('@')) {
            return Err(wrong("no / in the password (write %2F), and %40 for each @ behind it"));
        }
        if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
            return Err(wrong("a host"));
        }
        let mode = ours.get("sslmode").map(|mode| mode.to_string_lossy().into_owned());
        let authorities = ours.remove("sslrootcert").map(|authorities| {
            if authorities == "system" {
                Authorities::System
            } else {
                Authorities::File(authorities.into())
            }
        });
        let client_certificate = match (ours.remove("sslcert"), ours.remove("sslkey")) {
            (None, None) => None,
            (Some(certificate), Some(key)) => {
                Some(ClientCertificate { certificate: certificate.into(), key: key.into() })
            }
            (Some(_), None) => return Err(wrong("sslkey beside sslcert")),
            (None, Some(_)) => return Err(wrong("sslcert beside sslkey")),
        };
        let tls = Tls::new(mode.as_deref(), authorities)?;
        config.ssl_mode(match (&tls, mode.as_deref()) {
            (_, Some("disable")) => SslMode::Disable,
            (Tls::Unverified, None | Some("prefer" | "allow")) => SslMode::Prefer,
            _ => SslMode::Require,
        });
        set_limits(&mut config);
        if config.get_password().is_none()
            && let Some(password) = variable("PGPASSWORD")
        {
            config.password(password.as_encoded_bytes());
        }
        let named = ours.remove("passfile").map(PathBuf::from);
        let usual = || variable("HOME").map(|home| PathBuf::from(home).join(".pgpass"));
        let is_named = named.is_some();
        let password_file = named.or_else(usual).filter(|_| config.get_password().is_none());
        let password_file = password_file.map(|path| PasswordFile { path, is_named });
        if config.get_application_name().is_none() {
            config.application_name("orlop");
        }
        Ok(Self {
            config,
            tls,
            client_certificate,
            password_file,
            connections: CONNECTIONS,
            staleness: Duration::ZERO,
            replica: None,
        })
    }

    /// How to connect now, and what keeps a password back.
    pub(super) fn login(&self) -> (Config, Option<String>) {
        let mut config = self.config.clone();
        match self.password_file.as_ref().map(|file| file.find(&self.config)) {
            Some(Ok(Some(password))) => {
                config.password(password);
                (config, None)
            }
            Some(Err(reason)) => (config, Some(reason)),
            None | Some(Ok(None)) => (config, None),
        }
    }
}

/// A server that is gone must be noticed before those who wait give up.
fn set_limits(config: &mut Config) {
    if config.get_connect_timeout().is_none() {
        config.connect_timeout(CONNECT_TIMEOUT);
    }
    if config.get_keepalives_idle() == SYSTEM_KEEPALIVE_IDLE {
        config.keepalives_idle(KEEPALIVE_IDLE);
    }
    if config.get_keepalives_interval().is_none() {
        config.keepalives_interval(Duration::from_secs(10));
    }
    if config.get_keepalives_retries().is_none() {
        config.keepalives_retries(3);
    }
    if config.get_tcp_user_timeout().is_none() {
        config.tcp_user_timeout(USER_TIMEOUT);
    }
}

/// Takes the `%XX` out of a value.
fn decode(value: &str) -> Result<String, Error> {
    let mut bytes = Vec::with_capacity(value.len());
    let mut rest = value.bytes();
    while let Some(byte) = rest.next() {
        let mut digit = || char::from(rest.next()?).to_digit(16);
        bytes.push(if byte == b'%' {
            let decoded =
                digit().zip(digit()).and_then(|(high, low)| (high * 16 + low).try_into().ok());
            decoded.ok_or_else(|| wrong("two hexadecimal digits behind each %"))?
        } else {
            byte
        });
    }
    String::from_utf8(bytes).map_err(|_| wrong("UTF-8"))
}

pub(super) fn wrong(expected: &str) -> Error {
    not_understood(&format!("expected {expected}"))
}

fn not_understood(reason: &str) -> Error {
    let message = format!("the URL of PostgreSQL is not understood: {reason}");
    Error::new(ErrorKind::Other, message)
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("postgres://")?;
        if let Some(user) = self.config.get_user() {
            write!(f, "{user}@")?;
        }
        let ports = self.config.get_ports();
        for (index, host) in self.config.get_hosts().iter().enumerate() {
            if index > 0 {
                f.write_str(",")?;
            }
            match host {
                Host::Tcp(host) if host.contains(':') => write!(f, "[{host}]")?,
                Host::Tcp(host) => f.write_str(host)?,
                Host::Unix(path) => write!(f, "{}", path.display())?,
            }
            if let Some(port) = ports.get(index).or(ports.first()).filter(|port| **port != 5432) {
                write!(f, ":{port}")?;
            }
        }
        write!(f, "/{}", self.config.get_dbname().unwrap_or_default())
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn parse(url: &str) -> Result<Address, String> {
        parse_with(url, &[])
    }

    fn parse_with(url: &str, variables: &[(&str, &str)]) -> Result<Address, String> {
        let variable = |name: &str| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| OsString::from(value))
        };
        Address::parse_as(url, &variable).map_err(|error| error.to_string())
    }

    #[test]
    fn addresses_are_shown_without_secrets() {
        for (url, shown) in [
            ("postgres://ada:w%40rd@db/orlop", "postgres://ada@db/orlop"),
            ("postgresql://ada@db:6543/orlop?sslmode=disable", "postgres://ada@db:6543/orlop"),
            ("postgres://ada@a:1,b:2/orlop", "postgres://ada@a:1,b:2/orlop"),
            ("postgres://ada@%2Frun%2Fpg/orlop", "postgres://ada@/run/pg/orlop"),
        ] {
            let address = parse(url).unwrap();
            assert_eq!(address.to_string(), shown);
            assert!(!format!("{address:?}").contains("w@rd"));
        }
        for url in [
            "mysql://h/d",
            "postgres://u:secret@x@h/d",
            "postgres://u:p@secret/secret@h/d",
            "postgres://",
            "postgres://u@h/d?x=secret",
            "postgres://u:secret@h:port/d",
            "postgres://u@h/d?sslmode=secret",
            "postgres://u:a?secret@h/d",
            "postgres://u:a?secret=secret@h/d",
            "postgres://u:a?b&secret=c@h/d",
        ] {
            let error = parse(url).unwrap_err();
            assert!(error.contains("PostgreSQL") && !error.contains("secret"), "{error}");
        }
    }

    #[test]
    fn tls_is_as_libpq_means_it() {
        for (query, ssl, verified) in [
            ("", SslMode::Prefer, false),
            ("sslmode=disable", SslMode::Disable, false),
            ("sslmode=prefer", SslMode::Prefer, false),
            ("sslmode=require", SslMode::Require, false),
            ("sslmode=require&sslrootcert=%2Fca.pem", SslMode::Require, true),
            ("sslmode=verify-ca&sslrootcert=/ca.pem", SslMode::Require, true),
            ("sslmode=verify-full&connect_timeout=3", SslMode::Require, true),
            ("sslrootcert=system", SslMode::Require, true),
        ] {
            let address = parse(&format!("postgres://u@h/d?{query}")).unwrap();
            assert_eq!(address.config.get_ssl_mode(), ssl, "{query}");
            assert_eq!(!matches!(address.tls, Tls::Unverified), verified, "{query}");
        }
        assert!(parse("postgres://u@h/d?sslmode=prefer&sslrootcert=system").is_err());
    }

    #[test]
    fn variables_count_where_the_url_is_silent() {
        let variables = [
            ("PGSSLMODE", "verify-full"),
            ("PGSSLROOTCERT", "/ca.pem"),
            ("PGSSLCERT", "/c.pem"),
            ("PGSSLKEY", "/k.pem"),
        ];
        let address = parse_with("postgres://u@h/d", &variables).unwrap();
        assert_eq!(address.config.get_ssl_mode(), SslMode::Require);
        assert!(matches!(&address.tls, Tls::Full(Authorities::File(path)) if *path == *"/ca.pem"));
        let address =
            parse_with("postgres://u@h/d?sslmode=require&sslcert=%2Fo.pem", &variables).unwrap();
        assert!(matches!(address.tls, Tls::Authority(_)));
        let files = address.client_certificate.unwrap();
        assert_eq!((files.certificate, files.key), ("/o.pem".into(), "/k.pem".into()));
        for (query, expected) in [
            ("sslcert=/c", "sslkey beside sslcert"),
            ("sslkey=/k", "sslcert beside sslkey"),
            ("sslcert=/c&sslkey=/k&sslpassword=secret", "write the key without one"),
            ("gssencmode=require", "`gssencmode`"),
        ] {
            let error = parse(&format!("postgres://u@h/d?{query}")).unwrap_err();
            assert!(error.contains(expected) && !error.contains("secret"), "{error}");
        }
    }

    #[test]
    fn a_password_is_looked_for_where_libpq_looks() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, password: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, format!("h:*:*:u:{password}\n")).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
            path.display().to_string()
        };
        let (named, other) = (file("named", "of-named"), file("other", "of-other"));
        file(".pgpass", "of-home");
        let home = folder.path().display().to_string();
        let all = [("PGPASSWORD", "of-variable"), ("PGPASSFILE", &named), ("HOME", &home)];
        let password = |url: &str, variables: &[(&str, &str)]| {
            let (config, problem) = parse_with(url, variables).unwrap().login();
            assert_eq!(problem, None);
            config.get_password().map(|password| String::from_utf8(password.to_owned()).unwrap())
        };
        for (url, variables, expected) in [
            ("postgres://u:of-url@h/d", &all[..], "of-url"),
            ("postgres://u@h/d", &all[..], "of-variable"),
            (&format!("postgres://u@h/d?passfile={other}"), &all[1..], "of-other"),
            ("postgres://u@h/d", &all[1..], "of-named"),
            ("postgres://u@h/d", &all[2..], "of-home"),
        ] {
            assert_eq!(password(url, variables).as_deref(), Some(expected));
        }
        assert_eq!(password("postgres://u@h/d", &[]), None);
        assert_eq!(password("postgres://v@h/d", &all[2..]), None);
        // It is read again for each connection.
        let address = parse_with("postgres://u@h/d", &all[2..]).unwrap();
        file(".pgpass", "of-later");
        assert_eq!(address.login().0.get_password(), Some(&b"of-later"[..]));
        let missing = [("PGPASSFILE", "/nowhere")];
        let (_, problem) = parse_with("postgres://u@h/d", &missing).unwrap().login();
        assert!(problem.unwrap().starts_with("password file /nowhere: "));
    }
}
