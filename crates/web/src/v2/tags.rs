//! `/v2/<name>/tags/list`

use http::StatusCode;
use oci::{RepositoryName, Tag};
use serde::Serialize;

use crate::error::Result;
use crate::service::{Request, json_of};
use crate::v2::paging;

#[derive(Serialize)]
struct Body<'a> {
    name: &'a RepositoryName,
    tags: &'a [Tag],
}

pub(crate) async fn handle(request: &Request<'_>, repository: &RepositoryName) -> Result {
    let asked = paging::page_size(request)?;
    // Without `n` everything is listed, as registry:2 does and clients expect.
    let size = asked.map_or(u64::MAX - 1, |n| n.min(request.config().max_tags));
    let last = request.query().get("last");
    let (tags, more) = request.registry().list_tags(repository, last, size).await?;
    let mut response = json_of(StatusCode::OK, &Body { name: repository, tags: &tags })?;
    if let (true, Some(last)) = (more, tags.last()) {
        let path = format!("/v2/{repository}/tags/list");
        let size = size.to_string();
        paging::add_next(request, &mut response, &path, &[("last", last.as_str()), ("n", &size)]);
    }
    Ok(response)
}
