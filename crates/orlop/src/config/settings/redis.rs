//! `redis`: a cache that servers share.

use std::path::PathBuf;
use std::time::Duration;

use super::super::error::ConfigError;
use super::super::{duration, kind};
use super::Secret;
use super::section::Section;

/// How long a server waits for Redis, if nothing is said: what is not there by then is asked of the
/// object store.
const PATIENCE: Duration = Duration::from_millis(250);

/// Where the cache is, and how to get there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Redis {
    pub(crate) servers: Servers,
    /// Ignored by a cluster, which has only one.
    pub(crate) database: i64,
    pub(crate) login: Login,
    /// `None`: no TLS.
    pub(crate) tls: Option<RedisTls>,
    pub(crate) dial_timeout: Duration,
    /// For an answer.
    pub(crate) timeout: Duration,
}

/// What the addresses are, as clients of Redis for Go decide it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Servers {
    One(String),
    /// These know who is the master of that name at the moment.
    Sentinels {
        addresses: Vec<String>,
        master: String,
        login: Login,
    },
    Cluster(Vec<String>),
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Login {
    pub(crate) user: Option<String>,
    pub(crate) password: Option<Secret>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct RedisTls {
    /// A certificate of this client, and its key.
    pub(crate) certificate: Option<(PathBuf, PathBuf)>,
    /// Whom to trust in place of the system's authorities.
    pub(crate) authorities: Vec<PathBuf>,
}

/// `None` without an address.
pub(super) fn read(redis: &Section<'_>) -> Result<Option<Redis>, ConfigError> {
    let mut addresses = redis.texts("addrs")?;
    let login = |user: &str, password: &str| -> Result<Login, ConfigError> {
        let user = redis.text(user)?.filter(|user| !user.is_empty());
        let password = redis.text(password)?.filter(|password| !password.is_empty());
        Ok(Login { user, password: password.map(Secret::new) })
    };
    let servers = match (redis.text("mastername")?, addresses.len()) {
        (_, 0) => return Ok(None),
        (Some(master), _) => {
            let login = login("sentinelusername", "sentinelpassword")?;
            Servers::Sentinels { addresses, master, login }
        }
        (None, 1) => Servers::One(addresses.remove(0)),
        (None, _) => Servers::Cluster(addresses),
    };
    Ok(Some(Redis {
        servers,
        database: redis.get("db", kind::whole)?.unwrap_or(0),
        login: login("username", "password")?,
        tls: tls(&redis.section("tls"))?,
        dial_timeout: timeout(redis, "dialtimeout")?,
        timeout: timeout(redis, "readtimeout")?,
    }))
}

/// Zero and less mean the default, as they do to clients of Redis for Go.
fn timeout(redis: &Section<'_>, key: &str) -> Result<Duration, ConfigError> {
    let asked = redis.get(key, |text| Some(duration::parse(text).unwrap_or_default()))?;
    Ok(asked.filter(|asked| !asked.is_zero()).unwrap_or(PATIENCE))
}

/// On if anything of it is set: `distribution` has no other switch.
fn tls(tls: &Section<'_>) -> Result<Option<RedisTls>, ConfigError> {
    let path = |key: &str| Ok::<_, ConfigError>(tls.text(key)?.map(PathBuf::from));
    let certificate = match (path("certificate")?, path("key")?) {
        (Some(certificate), Some(key)) => Some((certificate, key)),
        (None, None) => None,
        (Some(_), None) => return Err(tls.unfit("key", "is needed beside the certificate")),
        (None, Some(_)) => return Err(tls.unfit("certificate", "is needed beside the key")),
    };
    let authorities = tls.texts("rootcas")?.into_iter().map(PathBuf::from).collect::<Vec<_>>();
    let is_on = tls.is_on("enabled")? || certificate.is_some() || !authorities.is_empty();
    Ok(is_on.then_some(RedisTls { certificate, authorities }))
}
