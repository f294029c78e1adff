//! `/v2/<name>/referrers/<digest>`

use http::{HeaderValue, StatusCode, header};
use oci::{Descriptor, ErrorCode, RepositoryName, media_type};
use registry::ReferrersQuery;
use serde::Serialize;

use crate::error::{Error, Result};
use crate::service::{Request, json_of, parse_digest};
use crate::v2::paging;

/// Referrers on a page. It ends before, where there is much to say about each.
const MAX_PAGE: u64 = 1000;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Body<'a> {
    schema_version: u8,
    media_type: &'static str,
    manifests: &'a [Descriptor],
}

pub(crate) async fn handle(
    request: &Request<'_>,
    repository: &RepositoryName,
    digest: &str,
) -> Result {
    let subject = parse_digest(digest)?;
    let size = paging::page_size(request)?.unwrap_or(MAX_PAGE).clamp(1, MAX_PAGE);
    let last = match request.query().get("last") {
        None => None,
        Some(text) => Some(text.parse().map_err(|error| {
            Error::new(ErrorCode::DigestInvalid, format!("last must be a digest: {error}"))
        })?),
    };
    // No type has a space: it was a plus that was not escaped (`application/spdx+json`).
    let kind = request.query().get("artifactType").map(|kind| kind.replace(' ', "+"));
    let kind = kind.as_deref().filter(|kind| !kind.is_empty());
    let query = ReferrersQuery {
        repository: repository.clone(),
        subject,
        artifact_type: kind.map(str::to_owned),
        last,
        limit: size,
    };
    let page = request.registry().list_referrers(&query).await?;

    let body =
        Body { schema_version: 2, media_type: media_type::OCI_INDEX, manifests: &page.descriptors };
    let mut response = json_of(StatusCode::OK, &body)?;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type::OCI_INDEX));
    if kind.is_some() {
        headers.insert("oci-filters-applied", HeaderValue::from_static("artifactType"));
    }
    if let (true, Some(last)) = (page.more, page.descriptors.last()) {
        let path = format!("/v2/{repository}/referrers/{subject}");
        let (last, size) = (last.digest.to_string(), size.to_string());
        let mut parameters = vec![("last", last.as_str()), ("n", size.as_str())];
        parameters.extend(kind.map(|kind| ("artifactType", kind)));
        paging::add_next(request, &mut response, &path, &parameters);
    }
    Ok(response)
}
