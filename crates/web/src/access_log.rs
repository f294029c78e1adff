//! One line for each request, and the id that ties it to what else was logged.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::request::Parts;
use http::{HeaderValue, StatusCode, header};

use crate::client::Client;

/// Names a request in the log and in its answer (`X-Request-Id`).
pub(crate) struct RequestId(String);

impl RequestId {
    /// An id that no other request has: the moment this program started, and a number.
    pub(crate) fn next() -> Self {
        static STARTED: std::sync::LazyLock<u64> = std::sync::LazyLock::new(|| {
            let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX)
        });
        static NUMBER: AtomicU64 = AtomicU64::new(1);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        Self(format!("{:x}-{number:x}", *STARTED))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    pub(crate) fn header(&self) -> HeaderValue {
        HeaderValue::from_str(&self.0).unwrap_or(HeaderValue::from_static("unknown"))
    }
}

/// What there is to say about a request that has been answered.
pub(crate) struct Entry<'a> {
    pub(crate) id: &'a RequestId,
    pub(crate) client: Client,
    pub(crate) user: Option<&'a str>,
    pub(crate) parts: &'a Parts,
    pub(crate) status: StatusCode,
    pub(crate) code: Option<&'static str>,
    pub(crate) length: u64,
}

impl Entry<'_> {
    /// Writes it to the log's target `access`. `duration` is until the answer's head.
    pub(crate) fn write(self, duration: Duration) {
        let agent = self.parts.headers.get(header::USER_AGENT);
        tracing::info!(
            target: "access",
            id = self.id.as_str(),
            remote = %self.client,
            user = self.user,
            method = %self.parts.method,
            uri = %self.parts.uri,
            status = self.status.as_u16(),
            code = self.code,
            bytes = self.length,
            ms = milliseconds(duration),
            agent = agent.and_then(|agent| agent.to_str().ok()),
        );
    }
}

/// With three places after the point.
fn milliseconds(duration: Duration) -> f64 {
    let micros = u32::try_from(duration.as_micros()).unwrap_or(u32::MAX);
    f64::from(micros) / 1000.0
}
