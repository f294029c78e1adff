//! Lists that come in pages: `n`, `last` and `Link`.

use http::{HeaderValue, header};
use oci::ErrorCode;
use serde_json::json;

use crate::Response;
use crate::error::{Error, Result};
use crate::query;
use crate::service::Request;

/// The `n` of a request; `None` if it has none.
pub(crate) fn page_size(request: &Request<'_>) -> Result<Option<u64>> {
    let Some(text) = request.query().get("n") else {
        return Ok(None);
    };
    text.parse().map(Some).map_err(|_| invalid(text, "a whole number, zero or more"))
}

/// A page size that is not taken.
pub(crate) fn invalid(found: &str, expected: &str) -> Error {
    let message = format!("invalid number of results requested: n must be {expected}");
    Error::new(ErrorCode::PaginationNumberInvalid, message).with_detail(json!({ "n": found }))
}

/// Adds where the next page is (RFC 8288).
pub(crate) fn add_next(
    request: &Request<'_>,
    response: &mut Response,
    path: &str,
    parameters: &[(&str, &str)],
) {
    let path = request.link_path(path);
    let parameters = parameters
        .iter()
        .map(|(name, value)| format!("{name}={}", query::encode(value)))
        .collect::<Vec<_>>()
        .join("&");
    if let Ok(link) = HeaderValue::from_str(&format!("<{path}?{parameters}>; rel=\"next\"")) {
        response.headers_mut().insert(header::LINK, link);
    }
}
