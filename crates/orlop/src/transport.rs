//! From the configuration to sockets and what is spoken on them.

use std::path::Path;

use anyhow::Context as _;
use net::proxies::Trusted;
use net::{Listener, acme, tls};
use web::server::Protocols;

use crate::config::{Certificate, ClientAuth, Config, Http, Net, Tls, TlsVersion};

/// Where clients connect: what systemd has opened, else `http.addr`.
pub(crate) fn listen(http: &Http) -> anyhow::Result<Listener> {
    if let Some(listener) = Listener::inherited()? {
        return Ok(listener);
    }
    Ok(match http.net {
        Net::Tcp => Listener::bind(&http.addr)?,
        Net::Unix => Listener::bind_unix(Path::new(&http.addr))?,
    })
}

/// What is spoken there. Certificates are read here, so that a mistake stops the start.
pub(crate) fn protocols(http: &Http) -> anyhow::Result<Protocols> {
    let tls = http.tls.as_ref().map(|tls| acceptor(tls, http.http2)).transpose();
    Ok(Protocols { tls: tls.context("http.tls")?, h2c: http.h2c })
}

fn acceptor(asked: &Tls, http2: bool) -> Result<tls::Acceptor, tls::Error> {
    let identity = match &asked.certificate {
        Certificate::Files { certificate, key } => {
            tls::Identity::Files { certificate: certificate.clone(), key: key.clone() }
        }
        Certificate::LetsEncrypt(asked) => tls::Identity::Acme(acme::Config {
            cache: asked.cache.clone(),
            email: asked.email.clone(),
            hosts: asked.hosts.clone(),
            directory: asked.directory_url.clone(),
        }),
    };
    let clients = asked.clients.as_ref();
    tls::Acceptor::new(tls::Config {
        identity,
        minimum: match asked.minimum {
            TlsVersion::V1_2 => tls::Version::Tls12,
            TlsVersion::V1_3 => tls::Version::Tls13,
        },
        cipher_suites: asked.cipher_suites.clone(),
        client_authorities: clients.map(|asked| asked.authorities.clone()).unwrap_or_default(),
        client_auth: clients.map(|asked| client_auth(asked.mode)).unwrap_or_default(),
        http2,
    })
}

fn client_auth(mode: ClientAuth) -> tls::ClientAuth {
    match mode {
        ClientAuth::Request => tls::ClientAuth::Request,
        ClientAuth::RequireAny => tls::ClientAuth::RequireAny,
        ClientAuth::VerifyIfGiven => tls::ClientAuth::VerifyIfGiven,
        ClientAuth::RequireAndVerify => tls::ClientAuth::RequireAndVerify,
    }
}

/// Whose word about a client's address counts.
pub(crate) fn trusted_proxies(config: &Config) -> anyhow::Result<Trusted> {
    let networks = config.http.trusted_proxies.iter();
    Trusted::parse(networks.map(ToString::to_string)).context("http.trustedproxies")
}
