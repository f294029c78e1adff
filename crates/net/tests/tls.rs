//! TLS as clients of all kinds meet it.

// Clippy lets tests panic, but not yet the functions that they share.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use net::tls::{Acceptor, ClientAuth, Config, HandshakeError, Identity, Version};
use net::{Listener, Stream};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair,
};
use rustls::client::WebPkiServerVerifier;
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::{cipher_suite, default_provider};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

static TLS12_ONLY: &[&SupportedProtocolVersion] = &[&TLS12];
static TLS13_ONLY: &[&SupportedProtocolVersion] = &[&TLS13];

type Issuer = CertifiedIssuer<'static, KeyPair>;

/// Someone who vouches for others.
fn authority(name: &str) -> Issuer {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(rcgen::DnType::CommonName, name);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// A certificate and its key, as PEM.
fn issue(issuer: &Issuer, usage: ExtendedKeyUsagePurpose) -> (String, String) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(["localhost".to_owned()]).unwrap();
    params.extended_key_usages = vec![usage];
    (params.signed_by(&key, issuer).unwrap().pem(), key.serialize_pem())
}

/// A server's files.
struct Files {
    folder: TempDir,
    authority: Issuer,
}

impl Files {
    fn new() -> Self {
        let files = Self { folder: tempfile::tempdir().unwrap(), authority: authority("servers") };
        files.renew();
        files
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Puts a new certificate and key there. Returns the certificate.
    fn renew(&self) -> CertificateDer<'static> {
        let (certificate, key) = issue(&self.authority, ExtendedKeyUsagePurpose::ServerAuth);
        fs::write(self.path("certificate.pem"), &certificate).unwrap();
        fs::write(self.path("key.pem"), &key).unwrap();
        CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()
    }

    fn config(&self) -> Config {
        Config {
            identity: Identity::Files {
                certificate: self.path("certificate.pem"),
                key: self.path("key.pem"),
            },
            minimum: Version::Tls12,
            cipher_suites: Vec::new(),
            client_authorities: Vec::new(),
            client_auth: ClientAuth::RequireAndVerify,
            http2: true,
        }
    }

    fn problem(&self) -> String {
        Acceptor::new(self.config()).unwrap_err().to_string()
    }

    /// A client that knows the authority.
    fn client(&self) -> Client {
        Client {
            authority: self.authority.der().clone(),
            provider: default_provider(),
            versions: rustls::ALL_VERSIONS,
            identity: None,
            protocols: Vec::new(),
        }
    }
}

struct Client {
    authority: CertificateDer<'static>,
    provider: CryptoProvider,
    versions: &'static [&'static SupportedProtocolVersion],
    identity: Option<(String, String)>,
    protocols: Vec<Vec<u8>>,
}

impl Client {
    fn config(&self) -> ClientConfig {
        let provider = Arc::new(self.provider.clone());
        let mut roots = RootCertStore::empty();
        roots.add(self.authority.clone()).unwrap();
        let verifier = WebPkiServerVerifier::builder_with_provider(roots.into(), provider.clone());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(self.versions)
            .unwrap()
            .with_webpki_verifier(verifier.build().unwrap());
        let mut config = match &self.identity {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => {
                let certificate = CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap();
                let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
                builder.with_client_auth_cert(vec![certificate], key).unwrap()
            }
        };
        config.alpn_protocols.clone_from(&self.protocols);
        config
    }

    /// Connects and asks for an echo: with TLS 1.3, a client learns from the answer whether it was
    /// let in.
    async fn connect(&self, server: &Server) -> io::Result<TlsStream<TcpStream>> {
        let socket = TcpStream::connect(server.address).await?;
        let name = ServerName::try_from("localhost").unwrap();
        let connector = TlsConnector::from(Arc::new(self.config()));
        let mut stream = connector.connect(name, socket).await?;
        echo(&mut stream).await?;
        Ok(stream)
    }
}

async fn echo(stream: &mut TlsStream<TcpStream>) -> io::Result<()> {
    stream.write_all(b"hello").await?;
    let mut answer = [0; 5];
    stream.read_exact(&mut answer).await?;
    assert_eq!(&answer, b"hello");
    Ok(())
}

/// Says what it hears.
struct Server {
    address: std::net::SocketAddr,
    acceptor: Acceptor,
}

impl Server {
    fn start(config: Config) -> Self {
        let acceptor = Acceptor::new(config).unwrap();
        let mut listener = Listener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = Self { address, acceptor: acceptor.clone() };
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await;
                let acceptor = acceptor.clone();
                tokio::spawn(async move { serve(acceptor.accept(stream).await).await });
            }
        });
        server
    }
}

async fn serve(stream: Result<Stream, HandshakeError>) -> io::Result<()> {
    let mut stream = stream.map_err(io::Error::other)?;
    assert!(stream.is_tls());
    let mut bytes = [0; 1024];
    loop {
        let count = stream.read(&mut bytes).await?;
        if count == 0 {
            return stream.shutdown().await;
        }
        stream.write_all(&bytes[..count]).await?;
        stream.flush().await?;
    }
}

fn shown(stream: &TlsStream<TcpStream>) -> CertificateDer<'static> {
    stream.get_ref().1.peer_certificates().unwrap()[0].clone().into_owned()
}

/// Waits until something holds.
async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    for _ in 0..300 {
        if holds().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("not within 30 seconds: {what}");
}

#[tokio::test]
async fn a_client_that_trusts_the_authority_is_served() {
    let files = Files::new();
    let server = Server::start(files.config());
    for versions in [TLS12_ONLY, TLS13_ONLY] {
        let client = Client { versions, ..files.client() };
        client.connect(&server).await.unwrap();
    }
}

#[tokio::test]
async fn the_oldest_version_is_as_configured() {
    let files = Files::new();
    let server = Server::start(Config { minimum: Version::Tls13, ..files.config() });
    let old = Client { versions: TLS12_ONLY, ..files.client() };
    old.connect(&server).await.unwrap_err();
    files.client().connect(&server).await.unwrap();
}

#[tokio::test]
async fn only_the_cipher_suites_of_the_list_are_spoken() {
    let files = Files::new();
    let only = "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384".to_owned();
    let server = Server::start(Config { cipher_suites: vec![only], ..files.config() });
    let with = |suite| {
        let mut client = files.client();
        client.versions = TLS12_ONLY;
        client.provider.cipher_suites = vec![suite];
        client
    };
    let listed = cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384;
    with(listed).connect(&server).await.unwrap();
    let other = cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256;
    with(other).connect(&server).await.unwrap_err();

    let unknown = Config { cipher_suites: vec!["TLS_RSA_X".to_owned()], ..files.config() };
    let error = Acceptor::new(unknown).unwrap_err().to_string();
    assert!(error.starts_with("cipher suite TLS_RSA_X: expected one of TLS_"), "{error}");
}

#[tokio::test]
async fn a_protocol_is_agreed_upon() {
    let files = Files::new();
    let both = Server::start(files.config());
    let old = Server::start(Config { http2: false, ..files.config() });
    let protocol = async |server: &Server, names: &[&str]| {
        let protocols = names.iter().map(|name| name.as_bytes().to_vec()).collect();
        let client = Client { protocols, ..files.client() };
        let stream = client.connect(server).await.ok()?;
        let agreed = stream.get_ref().1.alpn_protocol().unwrap_or(b"none");
        Some(String::from_utf8_lossy(agreed).into_owned())
    };
    assert_eq!(protocol(&both, &["http/1.1", "h2"]).await.as_deref(), Some("h2"));
    assert_eq!(protocol(&both, &["http/1.1"]).await.as_deref(), Some("http/1.1"));
    assert_eq!(protocol(&both, &[]).await.as_deref(), Some("none"));
    assert_eq!(protocol(&both, &["h3"]).await, None);
    assert_eq!(protocol(&old, &["http/1.1", "h2"]).await.as_deref(), Some("http/1.1"));
}

#[tokio::test]
async fn clients_are_judged_as_go_judges_them() {
    let files = Files::new();
    let trusted = authority("clients");
    let clients = files.path("clients.pem");
    fs::write(&clients, trusted.pem()).unwrap();
    let known = issue(&trusted, ExtendedKeyUsagePurpose::ClientAuth);
    let stranger = issue(&authority("others"), ExtendedKeyUsagePurpose::ClientAuth);
    let wrong_usage = issue(&trusted, ExtendedKeyUsagePurpose::ServerAuth);
    let identities = [None, Some(known), Some(stranger), Some(wrong_usage)];
    // None, known, stranger, wrong usage.
    let expected = [
        (ClientAuth::Request, [true, true, true, true]),
        (ClientAuth::RequireAny, [false, true, true, true]),
        (ClientAuth::VerifyIfGiven, [true, true, false, false]),
        (ClientAuth::RequireAndVerify, [false, true, false, false]),
    ];
    for (client_auth, expected) in expected {
        let client_authorities = vec![clients.clone()];
        let server = Server::start(Config { client_authorities, client_auth, ..files.config() });
        for versions in [TLS12_ONLY, TLS13_ONLY] {
            for (identity, let_in) in identities.iter().zip(expected) {
                let identity = identity.clone();
                // Without the names of authorities that the server sends, so that a client shows
                // what it has.
                let client = Client { versions, identity, ..files.client() };
                let connected = client.connect(&server).await;
                assert_eq!(connected.is_ok(), let_in, "{client_auth:?} {versions:?} {connected:?}");
            }
        }
    }
    let without_authorities = Server::start(files.config());
    files.client().connect(&without_authorities).await.unwrap();
}

#[tokio::test]
async fn a_renewed_certificate_is_picked_up_and_no_connection_is_dropped() {
    let files = Files::new();
    let server = Server::start(files.config());
    let mut old = files.client().connect(&server).await.unwrap();
    let renewed = files.renew();
    eventually("the renewed certificate is shown", async || {
        shown(&files.client().connect(&server).await.unwrap()) == renewed
    })
    .await;
    echo(&mut old).await.unwrap();

    let again = files.renew();
    server.acceptor.reload().unwrap();
    assert_eq!(shown(&files.client().connect(&server).await.unwrap()), again);
    echo(&mut old).await.unwrap();
}

#[tokio::test]
async fn a_link_to_another_folder_is_followed() {
    let files = Files::new();
    let [old, new] = ["old", "new"].map(|name| files.path(name));
    for folder in [&old, &new] {
        fs::create_dir(folder).unwrap();
        files.renew();
        for name in ["certificate.pem", "key.pem"] {
            fs::copy(files.path(name), folder.join(name)).unwrap();
        }
    }
    let current = files.path("current");
    std::os::unix::fs::symlink(&old, &current).unwrap();
    let server = Server::start(Config {
        identity: Identity::Files {
            certificate: current.join("certificate.pem"),
            key: current.join("key.pem"),
        },
        ..files.config()
    });
    let before = shown(&files.client().connect(&server).await.unwrap());
    let next = files.path("next");
    std::os::unix::fs::symlink(&new, &next).unwrap();
    fs::rename(&next, &current).unwrap();
    eventually("the other folder is used", async || {
        shown(&files.client().connect(&server).await.unwrap()) != before
    })
    .await;
}

#[tokio::test]
async fn broken_files_change_nothing() {
    let files = Files::new();
    let server = Server::start(files.config());
    let before = shown(&files.client().connect(&server).await.unwrap());
    for content in ["", "nonsense", "-----BEGIN CERTIFICATE-----\nxx\n-----END CERTIFICATE-----\n"]
    {
        fs::write(files.path("certificate.pem"), content).unwrap();
        server.acceptor.reload().unwrap_err();
        assert_eq!(shown(&files.client().connect(&server).await.unwrap()), before);
    }
    fs::remove_file(files.path("certificate.pem")).unwrap();
    server.acceptor.reload().unwrap_err();
    assert_eq!(shown(&files.client().connect(&server).await.unwrap()), before);
    let renewed = files.renew();
    server.acceptor.reload().unwrap();
    assert_eq!(shown(&files.client().connect(&server).await.unwrap()), renewed);
}

#[tokio::test]
async fn a_problem_is_one_clear_line() {
    let files = Files::new();
    let key = files.path("key.pem");
    let certificate = files.path("certificate.pem");
    let good = fs::read_to_string(&key).unwrap();
    let check = |path: &Path, content: &str, expected: &str| {
        let before = fs::read(path).unwrap();
        fs::write(path, content).unwrap();
        let problem = files.problem();
        assert!(problem.contains(expected), "{problem}");
        assert!(problem.contains(path.to_str().unwrap()), "{problem}");
        assert!(!problem.contains('\n'), "{problem}");
        fs::write(path, before).unwrap();
    };
    let encrypted = good.replace("BEGIN PRIVATE", "BEGIN ENCRYPTED PRIVATE");
    check(&key, &encrypted, "the key is encrypted");
    check(
        &key,
        &KeyPair::generate().unwrap().serialize_pem(),
        "does not belong to the certificate",
    );
    check(&key, "", "expected a private key (-----BEGIN PRIVATE KEY-----), found none");
    check(&key, &good.replace('M', "*"), "expected a private key as PEM");
    check(&certificate, &good, "expected a certificate (-----BEGIN CERTIFICATE-----), found none");
    fs::remove_file(&key).unwrap();
    assert!(files.problem().starts_with(&format!("cannot read {}: ", key.display())));
}

#[tokio::test]
async fn plain_http_is_told_so() {
    let files = Files::new();
    let server = Server::start(files.config());
    let mut socket = TcpStream::connect(server.address).await.unwrap();
    socket.write_all(b"GET /v2/ HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    let mut half = socket;
    half.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.0 400 Bad Request\r\n"), "{answer}");
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert_eq!(body, "Client sent an HTTP request to an HTTPS server.\n");
    assert!(head.contains(&format!("Content-Length: {}", body.len())), "{head}");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_says_nothing_is_sent_away() {
    let files = Files::new();
    let acceptor = Acceptor::new(files.config()).unwrap();
    let mut listener = Listener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (_client, (stream, _)) = tokio::join!(TcpStream::connect(address), listener.accept());
    let error = acceptor.accept(stream).await.unwrap_err();
    assert_eq!(error.to_string(), "no handshake within 10 seconds");
}
