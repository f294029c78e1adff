//! `/v1/search` and `/v1/_ping`: what is left of the first registry protocol. `docker search
//! host/term` uses nothing else.

use http::header::{HeaderName, HeaderValue};
use http::{Method, StatusCode};
use serde_json::json;

use crate::Response;
use crate::error::{Error, Result};
use crate::service::{self, Request};

/// Results on a page when the client does not say, and at most.
const DEFAULT_PAGE: u64 = 25;
const MAX_PAGE: u64 = 100;

/// Pages that can be asked for: the search counts its way to each.
const MAX_PAGES: u64 = 1000;

pub(crate) async fn handle(request: &Request<'_>) -> Result {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return Err(Error::method(&[Method::GET, Method::HEAD]));
    }
    let query = request.query();
    let number = |name| query.get(name).and_then(|text| text.parse::<u64>().ok());
    let term = query.get("q").unwrap_or("");
    let size = number("n").filter(|n| *n > 0).unwrap_or(DEFAULT_PAGE).min(MAX_PAGE);
    let page = number("page").unwrap_or(1).clamp(1, MAX_PAGES);
    let skip = (page - 1) * size;
    let caller = request.caller();
    let (names, total) = request.registry().search_repositories(term, skip, size, caller).await?;
    let results = names
        .iter()
        .map(|name| {
            json!({
                "name": name,
                "description": "",
                "star_count": 0,
                "is_official": false,
                "is_automated": false,
                "is_trusted": false,
            })
        })
        .collect::<Vec<_>>();
    let body = json!({
        "num_pages": total.div_ceil(size),
        "num_results": total,
        "page": page,
        "page_size": size,
        "query": term,
        "results": results,
    });
    service::json_of(StatusCode::OK, &body)
}

pub(crate) fn ping() -> Response {
    let mut response = service::json(StatusCode::OK, "true".to_owned());
    let headers = response.headers_mut();
    let standalone = HeaderName::from_static("x-docker-registry-standalone");
    headers.insert(standalone, HeaderValue::from_static("true"));
    headers.insert(
        HeaderName::from_static("x-docker-registry-version"),
        HeaderValue::from_static(env!("CARGO_PKG_VERSION")),
    );
    response
}
