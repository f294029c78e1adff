//! The way to Redis: one server, the master that sentinels name, or a cluster.

use std::time::Duration;

use ::redis::aio::MultiplexedConnection;
use ::redis::cluster::{ClusterClient, ClusterClientBuilder};
use ::redis::cluster_async::ClusterConnection;
use ::redis::sentinel::{SentinelClientBuilder, SentinelServerType};
use ::redis::{
    AsyncConnectionConfig, Client, ClientTlsConfig, Cmd, ConnectionAddr, ConnectionInfo,
    FromRedisValue, RedisConnectionInfo, RedisError, RedisResult, TlsCertificates, TlsMode,
};
use anyhow::Context as _;
use tokio::time::timeout;

use crate::config::{Redis, RedisLogin, RedisServers, RedisTls};

/// A connection, or several to a cluster. Clones share it.
#[derive(Clone)]
pub(super) enum Connection {
    Server(MultiplexedConnection),
    Cluster(ClusterConnection),
}

impl Connection {
    pub(super) async fn ask<T: FromRedisValue>(&mut self, command: &Cmd) -> RedisResult<T> {
        match self {
            Self::Server(connection) => command.query_async(connection).await,
            Self::Cluster(connection) => command.query_async(connection).await,
        }
    }
}

/// What it takes to connect.
pub(super) struct Connector {
    config: Redis,
    /// `None`: no TLS.
    certificates: Option<TlsCertificates>,
}

impl Connector {
    /// Reads the certificates.
    pub(super) fn new(config: &Redis) -> anyhow::Result<Self> {
        let certificates =
            config.tls.as_ref().map(certificates).transpose().context("redis.tls")?;
        Ok(Self { config: config.clone(), certificates })
    }

    /// A connection on which Redis has answered.
    pub(super) async fn connect(&self) -> RedisResult<Connection> {
        let limit = self.config.dial_timeout + self.config.timeout;
        let late = || RedisError::from((::redis::ErrorKind::IoError, "no answer in time"));
        timeout(limit, self.connect_and_ask()).await.unwrap_or_else(|_| Err(late()))
    }

    async fn connect_and_ask(&self) -> RedisResult<Connection> {
        let mut connection = match &self.config.servers {
            RedisServers::One(address) => {
                let info = ConnectionInfo { addr: self.address(address), redis: self.login() };
                self.open(match &self.certificates {
                    Some(certificates) => Client::build_with_tls(info, certificates.clone())?,
                    None => Client::open(info)?,
                })
                .await?
            }
            RedisServers::Sentinels { addresses, master, login } => {
                let addresses = addresses.iter().map(|address| self.address(address));
                let kind = SentinelServerType::Master;
                let builder = SentinelClientBuilder::new(addresses, master.clone(), kind)?;
                let mut sentinels = self.logged_in(builder, login).build()?;
                self.open(sentinels.async_get_client().await?).await?
            }
            RedisServers::Cluster(addresses) => {
                Connection::Cluster(self.cluster(addresses)?.get_async_connection().await?)
            }
        };
        connection.ask::<()>(&::redis::cmd("PING")).await?;
        Ok(connection)
    }

    async fn open(&self, client: Client) -> RedisResult<Connection> {
        let limits = AsyncConnectionConfig::new()
            .set_connection_timeout(self.config.dial_timeout)
            .set_response_timeout(self.config.timeout);
        client.get_multiplexed_async_connection_with_config(&limits).await.map(Connection::Server)
    }

    fn login(&self) -> RedisConnectionInfo {
        let RedisLogin { user, password } = &self.config.login;
        RedisConnectionInfo {
            db: self.config.database,
            username: user.clone(),
            password: password.as_ref().map(|password| password.expose().to_owned()),
            ..RedisConnectionInfo::default()
        }
    }

    /// Sentinels may ask for another password than their servers. TLS is spoken with both.
    fn logged_in(
        &self,
        mut builder: SentinelClientBuilder,
        sentinels: &RedisLogin,
    ) -> SentinelClientBuilder {
        let login = &self.config.login;
        builder = builder.set_client_to_redis_db(self.config.database);
        if let Some(user) = &login.user {
            builder = builder.set_client_to_redis_username(user.clone());
        }
        if let Some(password) = &login.password {
            builder = builder.set_client_to_redis_password(password.expose().to_owned());
        }
        if let Some(user) = &sentinels.user {
            builder = builder.set_client_to_sentinel_username(user.clone());
        }
        if let Some(password) = &sentinels.password {
            builder = builder.set_client_to_sentinel_password(password.expose().to_owned());
        }
        if let Some(certificates) = &self.certificates {
            builder = builder
                .set_client_to_redis_tls_mode(TlsMode::Secure)
                .set_client_to_redis_certificates(certificates.clone())
                .set_client_to_sentinel_tls_mode(TlsMode::Secure)
                .set_client_to_sentinel_certificates(certificates.clone());
        }
        builder
    }

    fn cluster(&self, addresses: &[String]) -> RedisResult<ClusterClient> {
        let info = |address: &String| ConnectionInfo {
            addr: self.address(address),
            redis: RedisConnectionInfo { db: 0, ..self.login() },
        };
        let mut builder = ClusterClientBuilder::new(addresses.iter().map(info))
            .connection_timeout(self.config.dial_timeout)
            .response_timeout(self.config.timeout)
            .retries(1)
            .max_retry_wait(as_milliseconds(self.config.timeout));
        if let Some(certificates) = &self.certificates {
            builder = builder.tls(TlsMode::Secure).certs(certificates.clone());
        }
        builder.build()
    }

    fn address(&self, address: &str) -> ConnectionAddr {
        let (host, port) = address.rsplit_once(':').unwrap_or((address, ""));
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let host = if host.is_empty() { "localhost" } else { host }.to_owned();
        let port = port.parse().unwrap_or(6379);
        match self.certificates {
            Some(_) => ConnectionAddr::TcpTls { host, port, insecure: false, tls_params: None },
            None => ConnectionAddr::Tcp(host, port),
        }
    }
}

fn as_milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn certificates(tls: &RedisTls) -> anyhow::Result<TlsCertificates> {
    let read = |path: &std::path::PathBuf| {
        std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))
    };
    let client_tls = match &tls.certificate {
        Some((certificate, key)) => {
            Some(ClientTlsConfig { client_cert: read(certificate)?, client_key: read(key)? })
        }
        None => None,
    };
    let authorities = tls.authorities.iter().map(read).collect::<anyhow::Result<Vec<_>>>()?;
    let root_cert = (!authorities.is_empty()).then(|| authorities.join(&b'\n'));
    Ok(TlsCertificates { client_tls, root_cert })
}
