//! Requests to other servers, over HTTP/1.1 with TLS or without.
//!
//! They are short: a request has a time limit, and its answer a size limit. No redirect is
//! followed, so that a server can not send a request, and what is secret in it, elsewhere. TLS
//! trusts whom the system trusts (`SSL_CERT_FILE` and `SSL_CERT_DIR` can say who that is).

use std::fmt;
use std::net::IpAddr;
use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderValue};
use http::{Method, Request, Response, Uri};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};

use crate::transport::{self, Transport, Trust};

/// What we call ourselves.
pub const USER_AGENT: &str = concat!("orlop/", env!("CARGO_PKG_VERSION"));

/// Asks other servers. Clones share connections.
#[derive(Clone, Debug)]
pub struct Client {
    transport: Transport<Full<Bytes>>,
    limits: Limits,
}

/// What an answer may cost.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// From the beginning of the request to the last byte of the answer.
    pub time: Duration,
    /// Bytes of the answer's body.
    pub body: usize,
}

/// Where a request goes: an absolute URL of `http` or `https`, without user and password. Messages
/// show it without its query, which may hold a secret.
#[derive(Clone, Eq, PartialEq)]
pub struct Url(Uri);

/// A text is no [`Url`]. The text is not repeated: it may hold a password.
#[derive(Debug, Eq, PartialEq, thiserror::Error)]
pub enum UrlError {
    /// It is something else, or has another scheme.
    #[error("expected a URL that begins with http:// or https:// and a host")]
    Malformed,
    /// User or password are in it.
    #[error("expected a URL without user and password")]
    Credentials,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There can be no connection to anybody.
    #[error(transparent)]
    Trust(#[from] transport::TrustError),
    /// It did not come in time.
    #[error("{url}: no answer within {limit:?}")]
    Late {
        /// Who was asked.
        url: Url,
        /// The limit.
        limit: Duration,
    },
    /// It is too long.
    #[error("{url}: the answer has more than {limit} bytes")]
    Long {
        /// Who was asked.
        url: Url,
        /// The limit.
        limit: usize,
    },
    /// There is no connection, or it broke.
    #[error("{url}: {reason}")]
    Failed {
        /// Who was asked.
        url: Url,
        /// What happened.
        reason: String,
    },
}

impl Client {
    /// A client that also trusts the certificates in the PEM file `authorities`.
    pub fn new(limits: Limits, authorities: Option<&Path>) -> Result<Self, Error> {
        let trust = Trust { authorities, ..Trust::default() };
        Ok(Self { transport: Transport::new(&trust)?, limits })
    }

    /// Asks for what is at `url`. The answer is that of the server, whatever its status.
    pub async fn get(&self, url: &Url) -> Result<Response<Bytes>, Error> {
        self.send(Method::GET, url, &HeaderMap::new(), Bytes::new()).await
    }

    /// Asks whether there is something at `url`, and for its headers only. The answer is that of
    /// the server, whatever its status.
    pub async fn head(&self, url: &Url, headers: &HeaderMap) -> Result<Response<Bytes>, Error> {
        self.send(Method::HEAD, url, headers, Bytes::new()).await
    }

    /// Sends `body` to `url`. The answer is that of the server, whatever its status.
    pub async fn post(
        &self,
        url: &Url,
        headers: &HeaderMap,
        body: Bytes,
    ) -> Result<Response<Bytes>, Error> {
        self.send(Method::POST, url, headers, body).await
    }

    async fn send(
        &self,
        method: Method,
        url: &Url,
        headers: &HeaderMap,
        body: Bytes,
    ) -> Result<Response<Bytes>, Error> {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = method;
        *request.uri_mut() = url.0.clone();
        request.headers_mut().clone_from(headers);
        let agent = HeaderValue::from_static(USER_AGENT);
        request.headers_mut().entry(header::USER_AGENT).or_insert(agent);
        let limit = self.limits.time;
        match tokio::time::timeout(limit, self.exchange(request, url)).await {
            Ok(answer) => answer,
            Err(_) => Err(Error::Late { url: url.clone(), limit }),
        }
    }

    async fn exchange(
        &self,
        request: Request<Full<Bytes>>,
        url: &Url,
    ) -> Result<Response<Bytes>, Error> {
        let failed = |reason: &dyn std::error::Error| Error::Failed {
            url: url.clone(),
            reason: with_causes(reason),
        };
        let answer = self.transport.send(request).await.map_err(|error| failed(&error))?;
        let (head, body) = answer.into_parts();
        let limit = self.limits.body;
        match Limited::new(body, limit).collect().await {
            Ok(body) => Ok(Response::from_parts(head, body.to_bytes())),
            Err(error) if error.is::<LengthLimitError>() => {
                Err(Error::Long { url: url.clone(), limit })
            }
            Err(error) => Err(failed(&*error)),
        }
    }
}

/// The message of an error and those of its causes: "client error (Connect)" alone helps nobody.
pub fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}

impl Url {
    /// Whether nobody on the way can read or change what is said: by TLS, or because it does not
    /// leave this machine.
    pub fn is_protected(&self) -> bool {
        self.0.scheme_str() == Some("https") || self.0.host().is_some_and(is_this_machine)
    }
}

fn is_this_machine(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost")
        || bare.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

impl FromStr for Url {
    type Err = UrlError;

    fn from_str(text: &str) -> Result<Self, UrlError> {
        let uri: Uri = text.parse().map_err(|_| UrlError::Malformed)?;
        let authority = uri.authority().ok_or(UrlError::Malformed)?;
        if !matches!(uri.scheme_str(), Some("http" | "https")) || authority.host().is_empty() {
            return Err(UrlError::Malformed);
        }
        if authority.as_str().contains('@') {
            return Err(UrlError::Credentials);
        }
        Ok(Self(uri))
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = self.0.scheme_str().unwrap_or_default();
        let authority = self.0.authority().map_or("", |authority| authority.as_str());
        write!(f, "{scheme}://{authority}{}", self.0.path())
    }
}

impl fmt::Debug for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    const LIMITS: Limits = Limits { time: Duration::from_secs(10), body: 1000 };

    /// Reads one request with a body of `length` bytes, and says `answer`.
    async fn answer(
        mut stream: impl AsyncRead + AsyncWrite + Unpin,
        length: usize,
        answer: &str,
    ) -> String {
        let mut request = Vec::new();
        loop {
            let text = String::from_utf8_lossy(&request).into_owned();
            if text.split_once("\r\n\r\n").is_some_and(|(_, body)| body.len() >= length) {
                stream.write_all(answer.as_bytes()).await.unwrap();
                stream.flush().await.unwrap();
                return text;
            }
            assert_ne!(stream.read_buf(&mut request).await.unwrap(), 0, "{text}");
        }
    }

    async fn listen() -> (TcpListener, String) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        (listener, base)
    }

    #[test]
    fn urls() {
        for (text, shown) in [
            ("https://example.org", "https://example.org/"),
            ("http://[::1]:8080/a?key=secret", "http://[::1]:8080/a"),
        ] {
            let url: Url = text.parse().unwrap();
            assert_eq!((url.to_string(), format!("{url:?}")), (shown.to_owned(), shown.to_owned()));
        }
        for bad in ["", "/path", "example.org", "ftp://example.org/", "https:///a", "https://a b/"]
        {
            assert_eq!(bad.parse::<Url>(), Err(UrlError::Malformed), "{bad}");
        }
        assert_eq!("https://ada:word@example.org/".parse::<Url>(), Err(UrlError::Credentials));
        for (url, protected) in [
            ("https://example.org/", true),
            ("http://LocalHost:1/", true),
            ("http://127.1.2.3/", true),
            ("http://[::1]:1/", true),
            ("http://example.org/", false),
            ("http://localhost.example.org/", false),
            ("http://10.0.0.1/", false),
        ] {
            assert_eq!(url.parse::<Url>().unwrap().is_protected(), protected, "{url}");
        }
    }

    #[tokio::test]
    async fn what_is_asked_and_what_is_answered() {
        let (listener, base) = listen().await;
        let client = Client::new(LIMITS, None).unwrap();
        let url: Url = format!("{base}/a?b=c").parse().unwrap();

        let serving = async {
            let (stream, _) = listener.accept().await.unwrap();
            let head = answer(
                stream,
                0,
                "HTTP/1.1 302 Found\r\nLocation: /b\r\nContent-Length: 4\r\n\r\nmove",
            )
            .await;
            let (stream, _) = listener.accept().await.unwrap();
            let post = answer(stream, 2, "HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n").await;
            (head, post)
        };
        let asking = async {
            let answer = client.get(&url).await.unwrap();
            assert_eq!(answer.status(), 302, "it is not followed");
            assert_eq!(answer.body(), "move");
            let headers = HeaderMap::from_iter([(header::ACCEPT, HeaderValue::from_static("x/y"))]);
            // A connection of its own: the server above talks once on each.
            let client = Client::new(LIMITS, None).unwrap();
            assert_eq!(client.post(&url, &headers, "ab".into()).await.unwrap().status(), 500);
        };
        let ((get, post), ()) = tokio::join!(serving, asking);
        assert!(get.starts_with("GET /a?b=c HTTP/1.1\r\n"), "{get}");
        assert!(get.contains("user-agent: orlop/"), "{get}");
        assert!(post.contains("accept: x/y\r\n") && post.ends_with("\r\n\r\nab"), "{post}");
    }

    #[tokio::test]
    async fn limits_hold_and_errors_keep_secrets() {
        let (listener, base) = listen().await;
        let client = Client::new(LIMITS, None).unwrap();
        let url: Url = format!("{base}/a?key=secret").parse().unwrap();
        let long = format!("HTTP/1.1 200 OK\r\nContent-Length: 1001\r\n\r\n{}", "x".repeat(1001));
        let serving = async {
            let (stream, _) = listener.accept().await.unwrap();
            answer(stream, 0, &long).await;
            let (stream, _) = listener.accept().await.unwrap();
            answer(stream, 0, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf").await;
        };
        let asking = async {
            let error = client.get(&url).await.unwrap_err();
            assert!(matches!(error, Error::Long { limit: 1000, .. }), "{error}");
            let error = client.get(&url).await.unwrap_err();
            assert!(matches!(error, Error::Failed { .. }), "{error}");
            assert!(!error.to_string().contains("secret"), "{error}");
        };
        tokio::join!(serving, asking);

        // The kernel takes the connection; nobody answers.
        let client =
            Client::new(Limits { time: Duration::from_millis(50), ..LIMITS }, None).unwrap();
        let error = client.get(&url).await.unwrap_err();
        assert_eq!(error.to_string(), format!("{base}/a: no answer within 50ms"));
        drop(listener);
        let error = client.get(&url).await.unwrap_err();
        assert!(error.to_string().contains("refused"), "{error}");
    }

    #[tokio::test]
    async fn a_server_must_be_one_that_is_trusted() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("authority.pem");
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = rcgen::CertificateParams::new(["localhost".to_owned()])
            .unwrap()
            .self_signed(&key)
            .unwrap();
        std::fs::write(&file, certificate.pem()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![certificate.der().clone()],
                rustls::pki_types::PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
            )
            .unwrap();
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
        let (listener, base) = listen().await;
        let url = base.replace("http://127.0.0.1", "https://localhost").parse().unwrap();

        let serving = async {
            let (stream, _) = listener.accept().await.unwrap();
            assert!(acceptor.accept(stream).await.is_err(), "the client goes away");
            let (stream, _) = listener.accept().await.unwrap();
            let stream = acceptor.accept(stream).await.unwrap();
            answer(stream, 0, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
        };
        let asking = async {
            let stranger = Client::new(LIMITS, None).unwrap().get(&url).await.unwrap_err();
            assert!(stranger.to_string().contains("certificate"), "{stranger}");
            let answer = Client::new(LIMITS, Some(&file)).unwrap().get(&url).await.unwrap();
            assert_eq!(answer.body(), "ok");
        };
        tokio::join!(serving, asking);

        std::fs::write(&file, "nothing").unwrap();
        let error = Client::new(LIMITS, Some(&file)).unwrap_err().to_string();
        assert!(error.contains("authority.pem: expected certificates"), "{error}");
    }
}
