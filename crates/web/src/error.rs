//! Every error becomes a response here, and nowhere else.
//!
//! A refusal says what was wrong with the request. A failure of ours says that it was ours; its
//! cause goes to the log, because it may name paths and statements that are nobody's business.

use std::time::Duration;

use auth::Refusal;
use blobs::ErrorKind as BlobErrorKind;
use http::{HeaderValue, Method, StatusCode, header};
use metadata::ErrorKind as MetadataErrorKind;
use oci::{ErrorBody, ErrorCode, ErrorEntry, ManifestError};
use registry::Error as RegistryError;
use serde_json::{Value, json};

use crate::access::Refused;
use crate::request_body::ReadError;
use crate::{Response, ResponseBody};

/// A request that is answered with an error.
#[derive(Debug)]
pub(crate) struct Error {
    status: StatusCode,
    entries: Vec<ErrorEntry>,
    headers: Vec<(header::HeaderName, String)>,
}

/// The result of handling a request.
pub(crate) type Result<T = Response> = std::result::Result<T, Error>;

impl Error {
    /// An error of `code`, with its usual status.
    pub(crate) fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        let status = StatusCode::from_u16(code.default_status())
            .unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let entry = ErrorEntry { code, message: message.into(), detail: None };
        Self { status, entries: vec![entry], headers: Vec::new() }
    }

    /// The same with more for programs to read.
    pub(crate) fn with_detail(mut self, detail: Value) -> Self {
        if let Some(entry) = self.entries.first_mut() {
            entry.detail = Some(detail);
        }
        self
    }

    /// The same with another status.
    pub(crate) fn with_status(mut self, status: StatusCode) -> Self {
        self.status = status;
        self
    }

    /// The same with another header.
    pub(crate) fn with_header(mut self, name: header::HeaderName, value: String) -> Self {
        self.headers.push((name, value));
        self
    }

    /// A method that the resource does not have.
    pub(crate) fn method(allowed: &[Method]) -> Self {
        let allowed = list_methods(allowed);
        Self::new(ErrorCode::Unsupported, format!("this resource takes {allowed}"))
            .with_header(header::ALLOW, allowed)
    }

    /// A path that leads nowhere.
    pub(crate) fn path() -> Self {
        Self::new(ErrorCode::Unsupported, "there is no such endpoint")
            .with_status(StatusCode::NOT_FOUND)
    }

    /// A request that does not say which host it is for, or says it twice (RFC 9112 §3.2): whoever
    /// forwarded it may have read it in another way.
    pub(crate) fn host() -> Self {
        Self::new(ErrorCode::Unsupported, "a request has one Host header")
            .with_status(StatusCode::BAD_REQUEST)
    }

    /// A health check fails: nothing is answered until it is good again.
    pub(crate) fn unhealthy() -> Self {
        Self::new(ErrorCode::Unavailable, ErrorCode::Unavailable.message())
            .with_detail(json!("health check failed: please see /debug/health"))
    }

    /// The first error's code.
    pub(crate) fn code(&self) -> &'static str {
        self.entries.first().map_or("UNKNOWN", |entry| entry.code.as_str())
    }

    pub(crate) fn into_response(self) -> Response {
        let body = ErrorBody { errors: self.entries };
        let mut json = serde_json::to_vec(&body).unwrap_or_default();
        json.push(b'\n');
        let mut response = http::Response::new(ResponseBody::from(json));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        for (name, value) in self.headers {
            if let Ok(value) = HeaderValue::from_str(&value) {
                headers.append(name, value);
            }
        }
        response
    }
}

impl From<RegistryError> for Error {
    fn from(error: RegistryError) -> Self {
        let message = error.to_string();
        match error {
            RegistryError::BlobUnknown { digest, .. } => {
                Self::new(ErrorCode::BlobUnknown, message).with_detail(json!({ "digest": digest }))
            }
            RegistryError::ChunkOutOfOrder { received, .. } => {
                Self::new(ErrorCode::RangeInvalid, message)
                    .with_detail(json!({ "received": received }))
                    .with_header(header::RANGE, received_range(received))
            }
            RegistryError::ChunkSize { .. } => Self::new(ErrorCode::SizeInvalid, message),
            RegistryError::ClassRefused(_) => Self::new(ErrorCode::Denied, message),
            RegistryError::DeletesDisabled => Self::new(ErrorCode::Unsupported, message),
            RegistryError::DigestMismatch { expected, found } => {
                Self::new(ErrorCode::DigestInvalid, message)
                    .with_detail(json!({ "expected": expected, "found": found }))
            }
            RegistryError::Interrupted => Self::new(ErrorCode::BlobUploadInvalid, message),
            RegistryError::ManifestInvalid(ManifestError::TooLarge { .. }) => {
                Self::new(ErrorCode::SizeInvalid, message)
                    .with_status(StatusCode::PAYLOAD_TOO_LARGE)
            }
            RegistryError::ManifestInvalid(_) => Self::new(ErrorCode::ManifestInvalid, message),
            RegistryError::ManifestReferences { urls, missing: digests } => {
                let forbidden = |url: String| ErrorEntry {
                    code: ErrorCode::ManifestInvalid,
                    message: "a layer names a URL that this registry does not allow".to_owned(),
                    detail: Some(json!({ "url": url })),
                };
                let missing = |digest: oci::Digest| ErrorEntry {
                    code: ErrorCode::ManifestBlobUnknown,
                    message: ErrorCode::ManifestBlobUnknown.message().to_owned(),
                    detail: Some(json!({ "digest": digest })),
                };
                let entries = urls
                    .into_iter()
                    .map(forbidden)
                    .chain(digests.into_iter().map(missing))
                    .collect();
                Self { entries, ..Self::new(ErrorCode::ManifestInvalid, message) }
            }
            RegistryError::ManifestUnknown { .. } => Self::new(ErrorCode::ManifestUnknown, message),
            RegistryError::Metadata(error) => match error.kind() {
                MetadataErrorKind::Full => full(&error),
                MetadataErrorKind::ReadOnly | MetadataErrorKind::Io => read_only(&error),
                MetadataErrorKind::Unavailable | MetadataErrorKind::Conflict => {
                    away("database", &error)
                }
                _ => internal(&error),
            },
            RegistryError::PreconditionFailed { current } => {
                Self::new(ErrorCode::PreconditionFailed, message)
                    .with_detail(json!({ "current": current }))
            }
            RegistryError::ReadOnly => Self::new(ErrorCode::Unsupported, message)
                .with_header(header::ALLOW, "GET, HEAD".to_owned()),
            RegistryError::RepositoryUnknown(name) => {
                Self::new(ErrorCode::NameUnknown, message).with_detail(json!({ "name": name }))
            }
            RegistryError::Storage(error) => match error.kind() {
                BlobErrorKind::Full => full(&error),
                BlobErrorKind::ReadOnly => read_only(&error),
                BlobErrorKind::Unavailable => away("store", &error),
                _ => internal(&error),
            },
            RegistryError::UploadBusy => Self::new(ErrorCode::BlobUploadInvalid, message)
                .with_status(StatusCode::CONFLICT)
                .with_header(header::RETRY_AFTER, "1".to_owned()),
            RegistryError::UploadUnknown { .. } => Self::new(ErrorCode::BlobUploadUnknown, message),
        }
    }
}

impl From<Refused> for Error {
    fn from(Refused { refusal, wanted }: Refused) -> Self {
        let detail = if wanted.scopes.is_empty() { Value::Null } else { json!(wanted.scopes) };
        match refusal {
            Refusal::Unauthenticated { challenge, .. } => {
                Self::new(ErrorCode::Unauthorized, ErrorCode::Unauthorized.message())
                    .with_detail(detail)
                    .with_header(header::WWW_AUTHENTICATE, challenge)
            }
            Refusal::Denied { .. } => {
                Self::new(ErrorCode::Denied, ErrorCode::Denied.message()).with_detail(detail)
            }
            Refusal::Throttled { retry_after } => {
                Self::later("too many wrong passwords came from this address", retry_after)
            }
            Refusal::Busy { retry_after } => {
                Self::later("too many passwords are being checked at present", retry_after)
            }
        }
    }
}

impl From<ReadError> for Error {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Interrupted => Self::new(
                ErrorCode::ManifestInvalid,
                "the request ended before all its bytes had come",
            ),
            ReadError::TooLarge => Self::too_large(),
        }
    }
}

impl Error {
    /// What can be tried again after a time.
    fn later(message: &str, wait: Duration) -> Self {
        let seconds = wait.as_millis().div_ceil(1000).max(1);
        Self::new(ErrorCode::TooManyRequests, format!("{message}; try again in {seconds} s"))
            .with_header(header::RETRY_AFTER, seconds.to_string())
    }

    /// A manifest over the limit.
    pub(crate) fn too_large() -> Self {
        let limit = oci::MAX_MANIFEST_SIZE;
        Self::new(ErrorCode::SizeInvalid, format!("a manifest may have at most {limit} bytes"))
            .with_status(StatusCode::PAYLOAD_TOO_LARGE)
            .with_detail(json!({ "limit": limit }))
    }
}

/// The error of a delete. Where deletes are off, `Allow` says what is left of `allowed`.
pub(crate) fn refuse_delete(error: RegistryError, allowed: &[Method]) -> Error {
    let is_off = matches!(error, RegistryError::DeletesDisabled);
    let error = Error::from(error);
    if is_off {
        let left = allowed.iter().filter(|method| **method != Method::DELETE);
        error.with_header(header::ALLOW, list_methods(left))
    } else {
        error
    }
}

/// Methods as `Allow` has them.
pub(crate) fn list_methods<'a>(methods: impl IntoIterator<Item = &'a Method>) -> String {
    methods.into_iter().map(Method::as_str).collect::<Vec<_>>().join(", ")
}

/// How far an upload has come, as `Range` says it: the last byte's place, and 0 for none.
pub(crate) fn received_range(received: u64) -> String {
    format!("0-{}", received.saturating_sub(1))
}

fn full(error: &dyn std::fmt::Display) -> Error {
    tracing::error!(%error, "no space is left");
    Error::new(ErrorCode::Unavailable, "the registry has no space left; nothing was stored")
        .with_status(StatusCode::INSUFFICIENT_STORAGE)
}

fn read_only(error: &dyn std::fmt::Display) -> Error {
    tracing::error!(%error, "the data folder can not be written");
    Error::new(ErrorCode::Unavailable, "the registry can not write its data at present")
}

fn away(what: &str, error: &dyn std::fmt::Display) -> Error {
    tracing::error!(%error, "the {what} can not be used");
    let message = format!("the registry can not use its {what} at present");
    Error::new(ErrorCode::Unavailable, message).with_header(header::RETRY_AFTER, "1".to_owned())
}

fn internal(error: &dyn std::fmt::Display) -> Error {
    tracing::error!(%error, "a request failed");
    Error::new(ErrorCode::Unknown, "the registry failed; its log says why")
}
