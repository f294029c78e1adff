//! `/v2/<name>/blobs/uploads/` and `/v2/<name>/blobs/uploads/<id>`

use http::header::{self, HeaderName, HeaderValue};
use http::{Method, StatusCode};
use oci::{Algorithm, Digest, ErrorCode, RepositoryName, parse_content_range};
use registry::{ChunkRange, StoredBlob, UploadProgress};

use crate::error::{Error, Result, received_range};
use crate::service::{Request, empty, parse_digest};
use crate::{RequestBody, Response};

/// POST: opens a session, mounts a blob of another repository, or takes a whole blob at once.
pub(crate) async fn handle_new(
    request: &Request<'_>,
    repository: &RepositoryName,
    body: RequestBody,
) -> Result {
    let query = request.query();
    if let Some(mount) = query.get("mount") {
        let digest = parse_digest(mount)?;
        let from = match query.get("from").filter(|from| !from.is_empty()) {
            None => None,
            Some(from) => Some(from.parse::<RepositoryName>().map_err(|error| {
                Error::new(ErrorCode::NameInvalid, format!("invalid name in from=: {error}"))
            })?),
        };
        let caller = request.caller();
        // What may not be mounted can be uploaded, as what is not there.
        let may_mount = from.as_ref().is_none_or(|from| caller.may_pull(from));
        let may_pull = |name: &RepositoryName| caller.may_pull(name);
        if may_mount
            && request.registry().mount_blob(repository, &digest, from.as_ref(), may_pull).await?
        {
            return Ok(created(request, repository, &digest));
        }
    } else if let Some(digest) = query.get("digest") {
        let digest = parse_digest(digest)?;
        let stored = request.registry().push_blob(repository, &digest, body.into_chunks()).await?;
        return Ok(stored_response(request, repository, &stored));
    }
    let algorithm = match query.get("digest-algorithm") {
        None => None,
        Some(name) => Some(name.parse::<Algorithm>().map_err(|_| {
            let message = format!("digest algorithm {name:?}: expected sha256 or sha512");
            Error::new(ErrorCode::DigestInvalid, message)
        })?),
    };
    let progress = request.registry().begin_upload(repository, algorithm).await?;
    Ok(describe(request, repository, &progress, StatusCode::ACCEPTED))
}

/// What can be done with a session.
pub(crate) async fn handle(
    request: &Request<'_>,
    repository: &RepositoryName,
    id: &str,
    body: RequestBody,
) -> Result {
    match *request.method() {
        Method::PATCH => {
            let range = chunk_range(request)?;
            let appended = request
                .registry()
                .append_upload(repository, id, range, body.into_chunks())
                .await
                .map_err(|error| locate(error, request, repository, id))?;
            Ok(describe(request, repository, &appended, StatusCode::ACCEPTED))
        }
        Method::PUT => {
            let Some(digest) = request.query().get("digest") else {
                let message =
                    "the digest of the blob is missing: expected ?digest=<algorithm>:<hex>";
                return Err(Error::new(ErrorCode::DigestInvalid, message));
            };
            let digest = parse_digest(digest)?;
            let range = chunk_range(request)?;
            let stored = request
                .registry()
                .finish_upload(repository, id, &digest, range, body.into_chunks())
                .await
                .map_err(|error| locate(error, request, repository, id))?;
            Ok(stored_response(request, repository, &stored))
        }
        Method::DELETE => {
            request.registry().cancel_upload(repository, id).await?;
            Ok(no_content())
        }
        // GET and HEAD.
        _ => {
            let progress = request.registry().upload_progress(repository, id).await?;
            Ok(describe(request, repository, &progress, StatusCode::NO_CONTENT))
        }
    }
}

/// `Content-Range` of a chunk, which must agree with `Content-Length` where both are given.
fn chunk_range(request: &Request<'_>) -> Result<Option<ChunkRange>> {
    let Some(value) = request.headers().get(header::CONTENT_RANGE) else {
        return Ok(None);
    };
    let text = String::from_utf8_lossy(value.as_bytes());
    let (start, end) = parse_content_range(&text).map_err(|error| {
        Error::new(ErrorCode::RangeInvalid, format!("invalid Content-Range: {error}"))
    })?;
    let length = (end - start).saturating_add(1);
    match request.content_length() {
        Some(found) if found != length => {
            let message = format!("Content-Range announces {length} bytes, Content-Length {found}");
            Err(Error::new(ErrorCode::SizeInvalid, message))
        }
        _ => Ok(Some(ChunkRange { start, length })),
    }
}

/// A chunk out of order is told where to go on.
fn locate(
    error: registry::Error,
    request: &Request<'_>,
    repository: &RepositoryName,
    id: &str,
) -> Error {
    let out_of_order = matches!(error, registry::Error::ChunkOutOfOrder { .. });
    let error = Error::from(error);
    if out_of_order {
        error.with_header(header::LOCATION, upload_url(request, repository, id))
    } else {
        error
    }
}

fn describe(
    request: &Request<'_>,
    repository: &RepositoryName,
    progress: &UploadProgress,
    status: StatusCode,
) -> Response {
    let mut response = if status == StatusCode::NO_CONTENT { no_content() } else { empty(status) };
    let location = upload_url(request, repository, &progress.id);
    let values = [
        (header::LOCATION, location),
        (header::RANGE, received_range(progress.received)),
        (HeaderName::from_static("docker-upload-uuid"), progress.id.clone()),
    ];
    for (name, value) in values {
        if let Ok(value) = HeaderValue::from_str(&value) {
            response.headers_mut().insert(name, value);
        }
    }
    response
}

fn stored_response(
    request: &Request<'_>,
    repository: &RepositoryName,
    stored: &StoredBlob,
) -> Response {
    created(request, repository, &stored.digest)
}

fn created(request: &Request<'_>, repository: &RepositoryName, digest: &Digest) -> Response {
    let mut response = empty(StatusCode::CREATED);
    let location = format!("{}/v2/{repository}/blobs/{digest}", request.base_url());
    let values = [
        (header::LOCATION, location),
        (HeaderName::from_static("docker-content-digest"), digest.to_string()),
    ];
    for (name, value) in values {
        if let Ok(value) = HeaderValue::from_str(&value) {
            response.headers_mut().insert(name, value);
        }
    }
    response
}

fn upload_url(request: &Request<'_>, repository: &RepositoryName, id: &str) -> String {
    format!("{}/v2/{repository}/blobs/uploads/{id}", request.base_url())
}

fn no_content() -> Response {
    let mut response = empty(StatusCode::NO_CONTENT);
    // RFC 9110 §8.6: a 204 has no Content-Length.
    response.headers_mut().remove(header::CONTENT_LENGTH);
    response
}
