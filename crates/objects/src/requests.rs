//! Requests to stores that the cloud library does not speak to: what is asked, and that it is
//! asked again where that may help.
//!
//! Whatever is asked here may be asked twice: it is known that a store has answered, never that it
//! has not heard.

use std::hash::{BuildHasher, RandomState};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use ::http::header::{CONTENT_LENGTH, CONTENT_RANGE, LAST_MODIFIED, RANGE, RETRY_AFTER};
use ::http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode};
use bytes::Bytes;
use net::transport::{Trust, TrustError};
use object_store::client::{
    HttpError, HttpRequest, HttpRequestBody, HttpResponseBody, HttpService,
};
use object_store::{PutPayload, RetryConfig};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use tokio::time::Instant;

use crate::cloud::retries;
use crate::http::Connections;
use crate::{Error, ErrorKind, Found, Opened, Watch};

/// What is asked of a store, before it is said who asks.
#[derive(Clone, Debug)]
pub(crate) struct Ask {
    /// What is being done, to what.
    pub(crate) context: String,
    pub(crate) method: Method,
    /// Empty where the bucket itself is meant.
    pub(crate) key: String,
    pub(crate) query: Vec<(&'static str, String)>,
    pub(crate) headers: HeaderMap,
    pub(crate) content: PutPayload,
    /// Whether the content of the answer is taken while it arrives.
    streams: bool,
}

impl Ask {
    pub(crate) fn new(method: Method, context: String, key: impl Into<String>) -> Self {
        Self {
            context,
            method,
            key: key.into(),
            query: Vec::new(),
            headers: HeaderMap::new(),
            content: PutPayload::default(),
            streams: false,
        }
    }

    pub(crate) fn query(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.query.push((name, value.into()));
        self
    }

    pub(crate) fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.insert(name, value);
        self
    }

    pub(crate) fn content(mut self, content: Vec<Bytes>) -> Self {
        self.content = content.into_iter().collect();
        self
    }

    /// Asks for the bytes from `start` to `end`, and takes them as they come.
    pub(crate) fn range(mut self, start: u64, end: u64) -> Result<Self, Error> {
        self.streams = true;
        if end <= start {
            return Err(self.failed(format!("there is nothing from {start} to {end}")));
        }
        if start > 0 || end < u64::MAX {
            let last = if end < u64::MAX { (end - 1).to_string() } else { String::new() };
            if let Ok(range) = HeaderValue::from_str(&format!("bytes={start}-{last}")) {
                self.headers.insert(RANGE, range);
            }
        }
        Ok(self)
    }

    /// The request at `url`, to which `query` belongs if it is not empty.
    pub(crate) fn request(&self, url: &str, query: &str) -> Result<HttpRequest, Error> {
        let mark = if query.is_empty() { "" } else { "?" };
        let mut request = Request::new(HttpRequestBody::from(self.content.clone()));
        *request.uri_mut() = format!("{url}{mark}{query}")
            .parse()
            .map_err(|error| self.failed(format!("{url} is no URL: {error}")))?;
        *request.method_mut() = self.method.clone();
        request.headers_mut().clone_from(&self.headers);
        if self.method == Method::PUT || self.method == Method::POST {
            let length = self.content.content_length();
            request.headers_mut().insert(CONTENT_LENGTH, length.into());
        }
        Ok(request)
    }

    /// What was asked for did not happen.
    pub(crate) fn failed(&self, cause: impl Into<String>) -> Error {
        Error::new(ErrorKind::Other, self.context.clone(), cause)
    }

    /// What was asked for did not happen, as the answer says.
    pub(crate) fn refused(&self, answer: &Answer) -> Error {
        let kind = match answer.status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => ErrorKind::Denied,
            StatusCode::NOT_FOUND => ErrorKind::NotFound,
            _ => ErrorKind::Other,
        };
        let text = answer.text();
        Error::new(kind, self.context.clone(), format!("{}: {:.300}", answer.status, text.trim()))
    }

    /// The object that the answer opens.
    pub(crate) fn opened(&self, answer: Answer) -> Result<Opened, Error> {
        let size = match answer.status {
            StatusCode::PARTIAL_CONTENT => answer
                .header(&CONTENT_RANGE)
                .and_then(|range| range.rsplit_once('/')?.1.parse().ok()),
            // Nobody is told that a range was ignored, unless by this.
            StatusCode::OK if !self.headers.contains_key(RANGE) => answer.length(),
            StatusCode::OK => return Err(self.failed("a part was asked for, and all came")),
            _ => return Err(self.refused(&answer)),
        };
        let size = size.ok_or_else(|| self.failed("the answer does not say how large it is"))?;
        let modified = self.modified(&answer)?;
        let body = answer.stream.unwrap_or_else(|| answer.content.into());
        let context = self.context.clone();
        let bytes = Box::pin(Incoming { bytes: body.bytes_stream(), context });
        Ok(Opened { size, modified, bytes })
    }

    /// The object that the answer tells of.
    pub(crate) fn found(&self, answer: &Answer) -> Result<Option<Found>, Error> {
        match answer.status {
            StatusCode::NOT_FOUND => return Ok(None),
            status if status.is_success() => (),
            _ => return Err(self.refused(answer)),
        }
        let size = answer.length();
        let size = size.ok_or_else(|| self.failed("the answer does not say how large it is"))?;
        Ok(Some(Found { size, modified: self.modified(answer)? }))
    }

    fn modified(&self, answer: &Answer) -> Result<SystemTime, Error> {
        let date = answer.header(&LAST_MODIFIED);
        let parser = jiff::fmt::rfc2822::DateTimeParser::new();
        let modified = date.and_then(|date| parser.parse_timestamp(date).ok());
        let modified = modified.ok_or_else(|| self.failed("the answer does not say how old"))?;
        Ok(modified.into())
    }
}

/// What a store said.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    /// Unless it streams.
    pub(crate) content: Bytes,
    stream: Option<HttpResponseBody>,
}

impl Answer {
    pub(crate) fn text(&self) -> std::borrow::Cow<'_, str> {
        String::from_utf8_lossy(&self.content)
    }

    pub(crate) fn header(&self, name: &HeaderName) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    fn length(&self) -> Option<u64> {
        self.header(&CONTENT_LENGTH)?.parse().ok()
    }

    /// Whether the same may be answered differently a moment later.
    fn passes(&self) -> bool {
        // What Swift says to who asks too often.
        const RATE_LIMITED: u16 = 498;
        match self.status {
            StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS => true,
            StatusCode::NOT_IMPLEMENTED => false,
            status => status.is_server_error() || status.as_u16() == RATE_LIMITED,
        }
    }

    /// How long the store wants to be left alone.
    fn pause(&self) -> Option<Duration> {
        self.header(&RETRY_AFTER)?.parse().ok().map(Duration::from_secs)
    }
}

/// Sends requests, and again those that failed.
#[derive(Clone, Debug)]
pub(crate) struct Sender {
    connections: Connections,
}

impl Sender {
    pub(crate) fn new(trust: &Trust<'_>, watch: Watch) -> Result<Self, TrustError> {
        Ok(Self::over(Connections::new(trust, watch)?))
    }

    /// Sends them over connections that somebody else uses, too.
    pub(crate) fn over(connections: Connections) -> Self {
        Self { connections }
    }

    /// Sends what `sign` makes of it, anew for each try. The answer is the last one, whatever its
    /// status.
    pub(crate) async fn send(
        &self,
        ask: &Ask,
        sign: &(dyn Fn(&Ask) -> Result<HttpRequest, Error> + Sync),
    ) -> Result<Answer, Error> {
        let RetryConfig { backoff, max_retries, retry_timeout } = retries();
        let end = Instant::now() + retry_timeout;
        let mut pause = backoff.init_backoff;
        for retry in 0.. {
            let answer = self.try_once(sign(ask)?, ask.streams).await;
            let asked = match &answer {
                Ok(answer) if !answer.passes() => None,
                Ok(answer) => Some(answer.pause().unwrap_or_default()),
                Err(_) => Some(Duration::ZERO),
            };
            let Some(asked) = asked.filter(|_| retry < max_retries && Instant::now() < end) else {
                return answer.map_err(|error| ask.failed(net::client::with_causes(&error)));
            };
            tracing::debug!(context = ask.context, retry, "a store is asked again");
            tokio::time::sleep(spread(pause).max(asked.min(backoff.max_backoff))).await;
            pause = pause.mul_f64(backoff.base).min(backoff.max_backoff);
        }
        Err(ask.failed("it was not tried"))
    }

    async fn try_once(&self, request: HttpRequest, streams: bool) -> Result<Answer, HttpError> {
        let (head, body) = self.connections.call(request).await?.into_parts();
        let (status, headers) = (head.status, head.headers);
        if streams && status.is_success() {
            return Ok(Answer { status, headers, content: Bytes::new(), stream: Some(body) });
        }
        Ok(Answer { status, headers, content: body.bytes().await?, stream: None })
    }
}

/// From half of it to all of it, so that not all who failed together ask again together.
fn spread(pause: Duration) -> Duration {
    let percent = 50 + RandomState::new().hash_one(0) % 51;
    pause * u32::try_from(percent).unwrap_or(100) / 100
}

/// The bytes of an answer, whose errors say what was being done.
struct Incoming<S> {
    bytes: S,
    context: String,
}

impl<S> futures_core::Stream for Incoming<S>
where
    S: futures_core::Stream<Item = Result<Bytes, HttpError>> + Unpin,
{
    type Item = Result<Bytes, Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let next = Pin::new(&mut self.bytes).poll_next(context);
        next.map(|next| {
            next.map(|bytes| {
                bytes.map_err(|error| {
                    let cause = net::client::with_causes(&error);
                    Error::new(ErrorKind::Other, self.context.clone(), cause)
                })
            })
        })
    }
}

/// What signatures leave as it is (RFC 3986 §2.3).
const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Text in a query, as signatures want it.
pub(crate) fn in_query(text: &str) -> String {
    utf8_percent_encode(text, UNRESERVED).to_string()
}

/// A key in a path.
pub(crate) fn in_path(key: &str) -> String {
    const KEPT: &AsciiSet = &UNRESERVED.remove(b'/');
    utf8_percent_encode(key, KEPT).to_string()
}

/// A whole query. A name without a value has no equals sign.
pub(crate) fn query<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    let pair = |(name, value): (&str, &str)| match value {
        "" => in_query(name),
        value => format!("{}={}", in_query(name), in_query(value)),
    };
    pairs.into_iter().map(pair).collect::<Vec<_>>().join("&")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::{self, Fake};

    async fn send(server: &Fake, ask: &Ask) -> Result<Answer, Error> {
        let sender = Sender::new(&Trust::default(), Watch::default()).unwrap();
        sender.send(ask, &|ask| ask.request(&format!("{}/key", server.url), "")).await
    }

    fn ask(method: Method) -> Ask {
        Ask::new(method, "do something".to_owned(), "key")
    }

    #[tokio::test]
    async fn what_passes_is_asked_again() {
        let server = Fake::start(|number, _| match number {
            0 => fake::answer("503 Service Unavailable", "", ""),
            1 => fake::answer("429 Too Many Requests", "retry-after: 0\n", ""),
            // An answer that breaks off is none.
            2 => "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nbroken".to_owned(),
            _ => fake::answer("200 OK", "", "whole"),
        })
        .await;
        let put = ask(Method::PUT).content(vec!["con".into(), "tent".into()]);
        assert_eq!(send(&server, &put).await.unwrap().text(), "whole");
        let asked = server.asked();
        assert_eq!(asked.len(), 4);
        assert!(asked.iter().all(|asked| asked.body == "content"), "{asked:?}");
    }

    #[tokio::test]
    async fn what_stays_is_not_asked_again() {
        for (status, kind) in [
            ("400 Bad Request", ErrorKind::Other),
            ("403 Forbidden", ErrorKind::Denied),
            ("404 Not Found", ErrorKind::NotFound),
            ("501 Not Implemented", ErrorKind::Other),
        ] {
            let server = Fake::start(move |_, _| fake::answer(status, "", "because")).await;
            let get = ask(Method::GET);
            let answer = send(&server, &get).await.unwrap();
            let error = get.refused(&answer);
            assert_eq!(error.kind(), kind);
            assert!(error.to_string().contains(&format!("{status}: because")), "{error}");
            assert_eq!(server.asked().len(), 1);
        }
    }

    const MODIFIED: &str = "last-modified: Fri, 02 Jan 2026 03:04:05 GMT\n";

    #[tokio::test]
    async fn a_range_is_what_was_asked_for() {
        let server = Fake::start(|number, _| match number {
            0 => fake::answer(
                "206 Partial Content",
                &format!("{MODIFIED}content-range: bytes 2-4/10\n"),
                "234",
            ),
            _ => fake::answer("200 OK", MODIFIED, "0123456789"),
        })
        .await;
        let part = ask(Method::GET).range(2, 5).unwrap();
        let opened = part.opened(send(&server, &part).await.unwrap()).unwrap();
        assert_eq!(opened.size, 10);
        let seconds = opened.modified.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
        assert_eq!(seconds, 1_767_323_045);
        assert!(server.asked()[0].head.contains("range: bytes=2-4"));
        // A store that sends all of it instead is not believed.
        assert!(part.opened(send(&server, &part).await.unwrap()).is_err());
        let whole = ask(Method::GET).range(0, u64::MAX).unwrap();
        let opened = whole.opened(send(&server, &whole).await.unwrap()).unwrap();
        assert_eq!(opened.size, 10);
        assert!(ask(Method::GET).range(5, 5).is_err());
    }
}
