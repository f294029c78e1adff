//! `/v2/_catalog`

use http::{Method, StatusCode};
use oci::RepositoryName;
use serde::Serialize;

use crate::error::{Error, Result};
use crate::service::{Request, json_of};
use crate::v2::paging;

/// Names on a page when the client does not say.
const DEFAULT_PAGE: u64 = 100;

#[derive(Serialize)]
struct Body<'a> {
    repositories: &'a [RepositoryName],
}

pub(crate) async fn handle(request: &Request<'_>) -> Result {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return Err(Error::method(&[Method::GET, Method::HEAD]));
    }
    let limit = request.config().max_catalog_entries;
    let size = paging::page_size(request)?.unwrap_or(DEFAULT_PAGE.min(limit));
    if size > limit {
        return Err(paging::invalid(&size.to_string(), &format!("at most {limit}")));
    }
    let last = request.query().get("last");
    let (repositories, more) = request.registry().list_repositories(last, size).await?;
    let mut response = json_of(StatusCode::OK, &Body { repositories: &repositories })?;
    if let (true, Some(last)) = (more, repositories.last()) {
        let size = size.to_string();
        paging::add_next(
            request,
            &mut response,
            "/v2/_catalog",
            &[("last", last.as_str()), ("n", &size)],
        );
    }
    Ok(response)
}
