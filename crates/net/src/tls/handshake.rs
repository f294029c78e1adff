//! From an accepted connection to an encrypted one.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::LazyConfigAcceptor;

use super::{Acceptor, challenge};
use crate::acme::CHALLENGE_PROTOCOL;
use crate::stream::Stream;

/// How long a client may take.
const LIMIT: Duration = Duration::from_secs(10);

/// How long a client that is sent away has to read why.
const FAREWELL: Duration = Duration::from_secs(1);

/// The first byte of TLS: a record with a part of a handshake (RFC 8446 §5.1).
const HANDSHAKE_RECORD: u8 = 0x16;

/// What clients read that have not noticed that this is TLS, in the words of Go, which people look
/// for.
const NOT_TLS: &[u8] = b"HTTP/1.0 400 Bad Request\r\n\
    Content-Type: text/plain; charset=utf-8\r\n\
    Content-Length: 48\r\n\
    Connection: close\r\n\
    \r\n\
    Client sent an HTTP request to an HTTPS server.\n";

/// A connection did not become an encrypted one.
#[derive(Debug, thiserror::Error)]
pub enum HandshakeError {
    /// It was the authority, which has seen what it wanted to see.
    #[error("the certificate authority's question was answered")]
    Challenge,
    /// The client or the network failed, or they could not agree.
    #[error("{0}")]
    Failed(#[from] io::Error),
    /// Someone asks like the authority, and there is nothing to answer.
    #[error("there is no question of the certificate authority to answer")]
    NoChallenge,
    /// The client has not spoken TLS. It has been told so.
    #[error("the client sent an HTTP request to an HTTPS server")]
    NotTls,
    /// The client has connected and said nothing, or not enough.
    #[error("no handshake within {} seconds", LIMIT.as_secs())]
    Timeout,
}

impl Acceptor {
    /// Comes to an agreement with a client, which has ten seconds for it. Runs beside the loop that
    /// accepts: a slow client delays nobody.
    pub async fn accept(&self, stream: Stream) -> Result<Stream, HandshakeError> {
        let agreed = tokio::time::timeout(LIMIT, self.agree(stream)).await;
        agreed.unwrap_or(Err(HandshakeError::Timeout))
    }

    async fn agree(&self, mut stream: Stream) -> Result<Stream, HandshakeError> {
        if !stream.begins_with(&[HANDSHAKE_RECORD]).await? {
            say_that_this_is_tls(stream).await;
            return Err(HandshakeError::NotTls);
        }
        let hello = LazyConfigAcceptor::new(rustls::server::Acceptor::default(), stream).await?;
        if let Some(certificates) = &self.shared.acme {
            let said = hello.client_hello();
            let asks =
                said.alpn().is_some_and(|mut names| names.any(|it| it == CHALLENGE_PROTOCOL));
            if asks {
                let answer = said.server_name().and_then(|host| certificates.challenge(host));
                let config = challenge(answer.ok_or(HandshakeError::NoChallenge)?);
                let config = Arc::new(config.map_err(io::Error::other)?);
                hello.into_stream(config).await?.shutdown().await?;
                return Err(HandshakeError::Challenge);
            }
        }
        Ok(Stream::tls(hello.into_stream(self.current()).await?))
    }
}

/// Whatever fails here fails for someone who is sent away.
async fn say_that_this_is_tls(mut stream: Stream) {
    let _ = tokio::time::timeout(FAREWELL, async {
        stream.write_all(NOT_TLS).await?;
        stream.shutdown().await?;
        // Closing a connection with something unread throws away what was sent.
        let mut rest = [0; 4096];
        while stream.read(&mut rest).await? > 0 {}
        Ok::<_, io::Error>(())
    })
    .await;
}
