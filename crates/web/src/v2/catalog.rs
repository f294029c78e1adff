//! `/v2/_catalog`

use http::StatusCode;
use oci::{ErrorCode, RepositoryName};
use registry::Place;
use serde::Serialize;

use crate::error::{Error, Result};
use crate::service::{Request, json_of};
use crate::v2::paging;

/// Names on a page when the client does not say.
const DEFAULT_PAGE: u64 = 100;

/// What `last` begins with when the place is at a name that the caller may not see. No name does.
const SEALED: &str = "~";

#[derive(Serialize)]
struct Body<'a> {
    repositories: &'a [RepositoryName],
}

pub(crate) async fn handle(request: &Request<'_>) -> Result {
    let limit = request.config().max_catalog_entries;
    let size = paging::page_size(request)?.unwrap_or(DEFAULT_PAGE.min(limit));
    if size > limit {
        return Err(paging::invalid(&size.to_string(), &format!("at most {limit}")));
    }
    let caller = request.caller();
    let last = match request.query().get("last") {
        Some(text) => match text.strip_prefix(SEALED) {
            Some(sealed) => Some(caller.unseal(sealed).ok_or_else(stale)?),
            None => Some(text.to_owned()),
        },
        None => None,
    };
    let page = request.registry().list_repositories(last.as_deref(), size, caller).await?;
    let mut response = json_of(StatusCode::OK, &Body { repositories: &page.names })?;
    let next = match &page.next {
        Some(Place::AfterLast) => page.names.last().map(|name| name.as_str().to_owned()),
        Some(Place::After(name)) => {
            caller.seal(name.as_str()).map(|sealed| format!("{SEALED}{sealed}"))
        }
        None => None,
    };
    if let Some(last) = next {
        let size = size.to_string();
        let query = [("last", last.as_str()), ("n", &size)];
        paging::add_next(request, &mut response, "/v2/_catalog", &query);
    }
    Ok(response)
}

fn stale() -> Error {
    let message = "this page of the catalogue is not known any more: begin again without last";
    Error::new(ErrorCode::PaginationNumberInvalid, message)
}
