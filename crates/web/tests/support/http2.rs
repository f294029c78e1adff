//! A server that speaks TLS and HTTP/2, and a client of it.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::{Method, Request, Response};
use http_body::Body;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper_util::rt::{TokioExecutor, TokioIo};
use net::{Listener, tls};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use web::Metrics;
use web::server::{Protocols, Shutdown, serve};

use super::socket::within;
use super::{Answer, TestRegistry};

/// A registry that listens, in whatever way.
pub struct Server {
    pub address: SocketAddr,
    pub registry: TestRegistry,
    pub shutdown: Shutdown,
    certificate: Option<CertificateDer<'static>>,
}

impl Server {
    /// One without TLS.
    pub async fn start_plain(h2c: bool, configure: impl FnOnce(&mut web::Config)) -> Self {
        Self::start(Protocols { tls: None, h2c }, None, configure).await
    }

    /// One with TLS and a certificate of its own.
    pub async fn start_tls(configure: impl FnOnce(&mut web::Config)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let file = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let acceptor = tls::Acceptor::new(tls::Config {
            identity: tls::Identity::Files {
                certificate: file("certificate.pem", &made.cert.pem()),
                key: file("key.pem", &made.signing_key.serialize_pem()),
            },
            minimum: tls::Version::Tls12,
            cipher_suites: Vec::new(),
            client_authorities: Vec::new(),
            client_auth: tls::ClientAuth::default(),
            http2: true,
        });
        let protocols = Protocols { tls: Some(acceptor.unwrap()), h2c: false };
        let certificate = CertificateDer::from_pem_slice(made.cert.pem().as_bytes()).unwrap();
        Self::start(protocols, Some(certificate), configure).await
    }

    async fn start(
        protocols: Protocols,
        certificate: Option<CertificateDer<'static>>,
        configure: impl FnOnce(&mut web::Config),
    ) -> Self {
        let registry = TestRegistry::with(registry::Config::default(), configure).await;
        let listener = Listener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shutdown = Shutdown::default();
        let service = registry.service.clone();
        tokio::spawn(serve(listener, protocols, service, Metrics::default(), shutdown.ending()));
        Self { address, registry, shutdown, certificate }
    }

    /// A connection over TLS where both agree on one of `protocols`.
    pub async fn connect_tls(
        &self,
        protocols: &[&str],
    ) -> tokio_rustls::client::TlsStream<TcpStream> {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(self.certificate.clone().unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        let socket = within(TcpStream::connect(self.address)).await.unwrap();
        let connector = TlsConnector::from(Arc::new(config));
        let name = ServerName::try_from("localhost").unwrap();
        within(connector.connect(name, socket)).await.unwrap()
    }

    /// A client that speaks HTTP/2, over TLS if the server has it.
    pub async fn client<B>(&self) -> Client<B>
    where
        B: Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        if self.certificate.is_some() {
            Client::begin(self.connect_tls(&["h2"]).await, "https").await
        } else {
            let socket = within(TcpStream::connect(self.address)).await.unwrap();
            Client::begin(socket, "http").await
        }
    }
}

/// A connection of HTTP/2.
#[derive(Clone)]
pub struct Client<B> {
    requests: SendRequest<B>,
    scheme: &'static str,
}

impl<B> Client<B>
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    async fn begin(
        stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
        scheme: &'static str,
    ) -> Self {
        let (requests, connection) =
            within(handshake(TokioExecutor::new(), TokioIo::new(stream))).await.unwrap();
        tokio::spawn(connection);
        Self { requests, scheme }
    }

    /// Sends a request and waits for the head of its answer. What is put is said to be an image.
    pub async fn send(
        &mut self,
        method: Method,
        target: &str,
        body: B,
    ) -> hyper::Result<Response<Incoming>> {
        let request = Request::builder()
            .method(method)
            .uri(format!("{}://registry.test{target}", self.scheme))
            .header("content-type", oci::media_type::OCI_MANIFEST)
            .body(body)
            .unwrap();
        within(self.requests.send_request(request)).await
    }
}

impl Client<Full<Bytes>> {
    /// Sends a request and reads its answer.
    pub async fn ask(&mut self, method: Method, target: &str, body: impl Into<Bytes>) -> Answer {
        let what = format!("{method} {target}");
        let response = self.send(method, target, Full::new(body.into())).await.unwrap();
        within(Answer::collect(what, response)).await
    }
}
