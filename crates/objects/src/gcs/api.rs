//! Requests of the JSON API of Google Cloud Storage.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use ::http::header::{AUTHORIZATION, CONTENT_LENGTH, USER_AGENT};
use ::http::{HeaderName, HeaderValue, Method, Request, StatusCode};
use bytes::Bytes;
use object_store::client::{HttpClient, HttpRequestBody, HttpResponse};
use object_store::gcp::GcpCredentialProvider;
use object_store::{PutPayload, RetryConfig};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::cloud::retries;
use crate::credentials::bearer;
use crate::{Error, ErrorKind, Found};

/// How much of an answer that is an error is passed on.
const SHOWN: usize = 300;

/// Where the requests go, and who sends them.
pub(super) struct Api {
    pub(super) connections: HttpClient,
    /// Nobody has to say who it is to an emulator.
    pub(super) credentials: Option<GcpCredentialProvider>,
    /// Scheme and host.
    pub(super) service: String,
    pub(super) bucket: String,
    pub(super) user_agent: Option<HeaderValue>,
    /// Requests that may wait for an answer at once.
    pub(super) slots: Option<Arc<Semaphore>>,
}

/// What is asked.
pub(super) struct Call {
    pub(super) method: Method,
    pub(super) url: String,
    pub(super) headers: Vec<(HeaderName, String)>,
    pub(super) content: Vec<Bytes>,
    /// A URL that is a capability needs no other.
    pub(super) is_capability: bool,
}

impl Call {
    pub(super) fn new(method: Method, url: String) -> Self {
        Self { method, url, headers: Vec::new(), content: Vec::new(), is_capability: false }
    }

    pub(super) fn with(mut self, name: HeaderName, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    pub(super) fn sending(self, content: Vec<Bytes>) -> Self {
        Self { content, ..self }
    }
}

/// What the API tells of an object.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Resource {
    #[serde(default)]
    pub(super) name: String,
    /// A number in text, because it may be larger than numbers of JSON are in some languages.
    size: String,
    updated: Option<jiff::Timestamp>,
    crc32c: Option<String>,
}

impl Resource {
    pub(super) fn found(&self) -> Result<Found, String> {
        let size = self.size.parse().map_err(|_| format!("a size is no number: {}", self.size))?;
        let modified = self.updated.map_or_else(SystemTime::now, SystemTime::from);
        Ok(Found { size, modified })
    }

    /// The checksum of the content; `None` if it was not told.
    pub(super) fn crc32c(&self) -> Option<u32> {
        let bytes = data_encoding::BASE64.decode(self.crc32c.as_ref()?.as_bytes()).ok()?;
        Some(u32::from_be_bytes(bytes.try_into().ok()?))
    }
}

impl Api {
    /// The URL of an object, or of all of them without a name.
    pub(super) fn object(&self, name: Option<&str>) -> String {
        let place = format!("{}/storage/v1/b/{}/o", self.service, encoded(&self.bucket));
        name.map_or(place.clone(), |name| format!("{place}/{}", encoded(name)))
    }

    /// The URL to which content of a new object is sent.
    pub(super) fn upload(&self, kind: &str, name: &str) -> String {
        let (bucket, name) = (encoded(&self.bucket), encoded(name));
        format!("{}/upload/storage/v1/b/{bucket}/o?uploadType={kind}&name={name}", self.service)
    }

    /// Sends a request until there is an answer that would be the same if it were sent again.
    /// Nothing that is sent here does harm when it is sent twice.
    pub(super) async fn send(&self, call: &Call) -> Result<HttpResponse, Failure> {
        let RetryConfig { backoff, max_retries, retry_timeout } = retries();
        let deadline = Instant::now() + retry_timeout;
        let mut pause = backoff.init_backoff;
        for tried in 0.. {
            let failure = match self.send_once(call).await {
                Ok(answer) if is_final(answer.status()) => return Ok(answer),
                Ok(answer) => Failure::of(answer).await,
                Err(failure) => failure,
            };
            if tried >= max_retries || Instant::now() + pause > deadline {
                return Err(failure);
            }
            tokio::time::sleep(jittered(pause)).await;
            pause = pause.mul_f64(backoff.base).min(backoff.max_backoff);
        }
        Err(Failure { status: None, cause: "never sent".to_owned() })
    }

    async fn send_once(&self, call: &Call) -> Result<HttpResponse, Failure> {
        let request = self.request(call).await?;
        let _slot = match &self.slots {
            Some(slots) => slots.acquire().await.ok(),
            None => None,
        };
        self.connections.execute(request).await.map_err(|error| Failure::from(&error))
    }

    async fn request(&self, call: &Call) -> Result<Request<HttpRequestBody>, Failure> {
        let content = call.content.iter().cloned().collect::<PutPayload>();
        let mut request = Request::builder().method(&call.method).uri(&call.url);
        for (name, value) in &call.headers {
            request = request.header(name, value);
        }
        if let Some(agent) = &self.user_agent {
            request = request.header(USER_AGENT, agent);
        }
        if !matches!(call.method, Method::GET | Method::HEAD) {
            request = request.header(CONTENT_LENGTH, content.content_length());
        }
        if let Some(credentials) = self.credentials.as_ref().filter(|_| !call.is_capability) {
            let credential = credentials.get_credential().await;
            let credential = credential.map_err(|error| Failure::from(&error))?;
            let shown = bearer::header(&credential.bearer).ok_or_else(|| Failure {
                status: None,
                cause: "the token can not be sent".to_owned(),
            })?;
            request = request.header(AUTHORIZATION, shown);
        }
        request.body(HttpRequestBody::from(content)).map_err(|error| Failure::from(&error))
    }

    /// Sends a request whose answer is JSON.
    pub(super) async fn ask<T: DeserializeOwned>(&self, call: &Call) -> Result<T, Failure> {
        let answer = self.send(call).await?;
        if answer.status().is_success() {
            parse(answer).await
        } else {
            Err(Failure::of(answer).await)
        }
    }
}

/// Understands an answer in JSON.
pub(super) async fn parse<T: DeserializeOwned>(answer: HttpResponse) -> Result<T, Failure> {
    let body = answer.into_body().bytes().await.map_err(|error| Failure::from(&error))?;
    serde_json::from_slice(&body).map_err(|error| Failure {
        status: None,
        cause: format!("the answer was not understood: {error}"),
    })
}

/// What went wrong with a request.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) status: Option<StatusCode>,
    cause: String,
}

impl<E: std::error::Error + 'static> From<&E> for Failure {
    fn from(error: &E) -> Self {
        Self { status: None, cause: net::client::with_causes(error) }
    }
}

impl Failure {
    /// An answer that is none.
    pub(super) async fn of(answer: HttpResponse) -> Self {
        let status = answer.status();
        let body = answer.into_body().bytes().await.unwrap_or_default();
        let text = String::from_utf8_lossy(&body);
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        let text = text.chars().take(SHOWN).collect::<String>();
        Self { status: Some(status), cause: format!("{status}: {text}") }
    }

    /// Whether there is no such thing (any more).
    pub(super) fn is_missing(&self) -> bool {
        matches!(self.status, Some(StatusCode::NOT_FOUND | StatusCode::GONE))
    }

    pub(super) fn of_object(self, action: &str, key: &str) -> Error {
        let kind = match self.status {
            Some(StatusCode::NOT_FOUND | StatusCode::GONE) => ErrorKind::NotFound,
            Some(StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) => ErrorKind::Denied,
            _ => ErrorKind::Other,
        };
        Error::new(kind, format!("{action} object {key}"), self.cause)
    }
}

fn is_final(status: StatusCode) -> bool {
    !status.is_server_error()
        && !matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT)
}

/// Between a half and all of a pause, so that not all who failed together come back together.
fn jittered(pause: Duration) -> Duration {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    pause.mul_f64(0.5 + f64::from(now.subsec_micros() % 1000) / 2000.0)
}

/// A text as a segment of a path, or in a query.
pub(super) fn encoded(text: &str) -> impl std::fmt::Display {
    const KEPT: &percent_encoding::AsciiSet =
        &percent_encoding::NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
    percent_encoding::utf8_percent_encode(text, KEPT)
}
