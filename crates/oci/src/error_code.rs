//! Error codes and the body of error responses (distribution spec, "Error Codes").

use std::fmt;

use serde::{Serialize, Serializer};
use serde_json::Value;

/// A code of the distribution spec, or one of those that `registry:2` added and clients know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorCode {
    Unknown,
    Unsupported,
    Unauthorized,
    Denied,
    Unavailable,
    TooManyRequests,
    DigestInvalid,
    SizeInvalid,
    RangeInvalid,
    NameInvalid,
    TagInvalid,
    NameUnknown,
    ManifestUnknown,
    ManifestInvalid,
    ManifestUnverified,
    ManifestBlobUnknown,
    BlobUnknown,
    BlobUploadUnknown,
    BlobUploadInvalid,
    PaginationNumberInvalid,
    PreconditionFailed,
}

impl ErrorCode {
    pub const ALL: [Self; 21] = [
        Self::Unknown,
        Self::Unsupported,
        Self::Unauthorized,
        Self::Denied,
        Self::Unavailable,
        Self::TooManyRequests,
        Self::DigestInvalid,
        Self::SizeInvalid,
        Self::RangeInvalid,
        Self::NameInvalid,
        Self::TagInvalid,
        Self::NameUnknown,
        Self::ManifestUnknown,
        Self::ManifestInvalid,
        Self::ManifestUnverified,
        Self::ManifestBlobUnknown,
        Self::BlobUnknown,
        Self::BlobUploadUnknown,
        Self::BlobUploadInvalid,
        Self::PaginationNumberInvalid,
        Self::PreconditionFailed,
    ];

    /// The code as clients see it.
    pub fn as_str(self) -> &'static str {
        self.facts().0
    }

    /// The HTTP status that usually goes with the code.
    pub fn default_status(self) -> u16 {
        self.facts().1
    }

    /// The usual message, for when there is nothing more exact to say.
    pub fn message(self) -> &'static str {
        self.facts().2
    }

    fn facts(self) -> (&'static str, u16, &'static str) {
        match self {
            Self::Unknown => ("UNKNOWN", 500, "unknown error"),
            Self::Unsupported => ("UNSUPPORTED", 405, "The operation is unsupported."),
            Self::Unauthorized => ("UNAUTHORIZED", 401, "authentication required"),
            Self::Denied => ("DENIED", 403, "requested access to the resource is denied"),
            Self::Unavailable => ("UNAVAILABLE", 503, "service unavailable"),
            Self::TooManyRequests => ("TOOMANYREQUESTS", 429, "too many requests"),
            Self::DigestInvalid => {
                ("DIGEST_INVALID", 400, "provided digest did not match uploaded content")
            }
            Self::SizeInvalid => {
                ("SIZE_INVALID", 400, "provided length did not match content length")
            }
            Self::RangeInvalid => ("RANGE_INVALID", 416, "invalid content range"),
            Self::NameInvalid => ("NAME_INVALID", 400, "invalid repository name"),
            Self::TagInvalid => ("TAG_INVALID", 400, "manifest tag did not match URI"),
            Self::NameUnknown => ("NAME_UNKNOWN", 404, "repository name not known to registry"),
            Self::ManifestUnknown => ("MANIFEST_UNKNOWN", 404, "manifest unknown"),
            Self::ManifestInvalid => ("MANIFEST_INVALID", 400, "manifest invalid"),
            Self::ManifestUnverified => {
                ("MANIFEST_UNVERIFIED", 400, "manifest failed signature verification")
            }
            Self::ManifestBlobUnknown => ("MANIFEST_BLOB_UNKNOWN", 400, "blob unknown to registry"),
            Self::BlobUnknown => ("BLOB_UNKNOWN", 404, "blob unknown to registry"),
            Self::BlobUploadUnknown => {
                ("BLOB_UPLOAD_UNKNOWN", 404, "blob upload unknown to registry")
            }
            // registry:2 answers 404 here, which makes clients believe that the upload is gone.
            Self::BlobUploadInvalid => ("BLOB_UPLOAD_INVALID", 400, "blob upload invalid"),
            Self::PaginationNumberInvalid => {
                ("PAGINATION_NUMBER_INVALID", 400, "invalid number of results requested")
            }
            Self::PreconditionFailed => ("PRECONDITION_FAILED", 412, "precondition failed"),
        }
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl Serialize for ErrorCode {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// The JSON body of an error response.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ErrorBody {
    pub errors: Vec<ErrorEntry>,
}

/// One of the errors in an [`ErrorBody`].
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ErrorEntry {
    pub code: ErrorCode,
    pub message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<Value>,
}

impl ErrorBody {
    /// A body of a single error.
    pub fn one(code: ErrorCode, message: impl Into<String>, detail: Option<Value>) -> Self {
        Self { errors: vec![ErrorEntry { code, message: message.into(), detail }] }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use serde_json::json;

    use super::*;

    #[test]
    fn body_has_the_form_of_the_spec() {
        let body = ErrorBody::one(ErrorCode::NameUnknown, "no a/b", Some(json!({ "name": "a/b" })));
        assert_eq!(
            serde_json::to_value(body).unwrap(),
            json!({ "errors": [
                { "code": "NAME_UNKNOWN", "message": "no a/b", "detail": { "name": "a/b" } },
            ] })
        );
        let body = ErrorBody::one(ErrorCode::Denied, ErrorCode::Denied.message(), None);
        assert_eq!(
            serde_json::to_string(&body).unwrap(),
            r#"{"errors":[{"code":"DENIED","message":"requested access to the resource is denied"}]}"#
        );
    }

    #[test]
    fn codes_are_distinct_and_have_error_statuses() {
        let names: HashSet<_> = ErrorCode::ALL.map(ErrorCode::as_str).into();
        assert_eq!(names.len(), ErrorCode::ALL.len());
        for code in ErrorCode::ALL {
            assert!((400..600).contains(&code.default_status()), "{code}");
            assert!(code.as_str().bytes().all(|b| b.is_ascii_uppercase() || b == b'_'), "{code}");
            assert!(!code.message().is_empty(), "{code}");
        }
    }

    #[test]
    fn statuses_where_we_differ_or_might_be_mistaken() {
        assert_eq!(ErrorCode::BlobUploadInvalid.default_status(), 400);
        assert_eq!(ErrorCode::BlobUploadUnknown.default_status(), 404);
        assert_eq!(ErrorCode::ManifestBlobUnknown.default_status(), 400);
        assert_eq!(ErrorCode::SizeInvalid.default_status(), 400);
        assert_eq!(ErrorCode::PreconditionFailed.default_status(), 412);
        assert_eq!(ErrorCode::TooManyRequests.as_str(), "TOOMANYREQUESTS");
    }
}
