//! `/v2/<name>/blobs/<digest>`

use blobs::Content;
use http::header::{self, HeaderMap, HeaderValue};
use http::{Method, StatusCode};
use oci::{ByteRange, Digest, ErrorCode, RangeRequest, RepositoryName, parse_range};

use crate::error::{Error, Result, refuse_delete};
use crate::service::{Request, empty, etag, matches_etag, parse_digest};
use crate::v2::path;
use crate::{Response, ResponseBody};

pub(crate) async fn handle(
    request: &Request<'_>,
    repository: &RepositoryName,
    digest: &str,
) -> Result {
    let digest = parse_digest(digest)?;
    if *request.method() == Method::DELETE {
        let deleted = Box::pin(request.registry().delete_blob(repository, &digest)).await;
        deleted.map_err(|error| refuse_delete(error, &path::BLOB))?;
        return Ok(empty(StatusCode::ACCEPTED));
    }
    // A store would say less of a blob than is known here, and there are no bytes to be saved.
    let is_known_here = *request.method() == Method::HEAD && request.config().redirect.asks_store();
    if request.config().redirect.is_on()
        && !is_known_here
        && let Some(away) = Box::pin(send_away(request, repository, &digest)).await?
    {
        return Ok(away);
    }
    match *request.method() {
        Method::HEAD => head(request, repository, &digest).await,
        _ => get(request, repository, &digest).await,
    }
}

/// Says where else the blob is, if it is anywhere else and the repository serves it at all.
async fn send_away(
    request: &Request<'_>,
    repository: &RepositoryName,
    digest: &Digest,
) -> Result<Option<Response>> {
    let place = request.registry().locate_blob(repository, digest).await?;
    let redirect = &request.config().redirect;
    let from_store =
        if redirect.asks_store() { place.url(request.method().clone()).await? } else { None };
    let url = redirect.url(request.address(), &place.path(), from_store.as_deref());
    Ok(url.map(|url| {
        let mut response = empty(StatusCode::TEMPORARY_REDIRECT);
        insert(response.headers_mut(), header::LOCATION, &url);
        response
    }))
}

async fn head(request: &Request<'_>, repository: &RepositoryName, digest: &Digest) -> Result {
    let size = request.registry().stat_blob(repository, digest).await?;
    if matches_etag(request.headers(), digest) {
        return Ok(not_modified(digest));
    }
    let mut response = empty(StatusCode::OK);
    describe(response.headers_mut(), digest, size);
    Ok(response)
}

async fn get(request: &Request<'_>, repository: &RepositoryName, digest: &Digest) -> Result {
    let blob = request.registry().pull_blob(repository, digest).await?;
    if matches_etag(request.headers(), digest) {
        return Ok(not_modified(digest));
    }
    let begin = async |range: ByteRange| {
        let content = blob.content.part(range.start, range.len());
        request.registry().begin_blob(repository, digest, &content, range.start).await?;
        Ok::<_, Error>(content)
    };
    match wanted(request.headers(), digest, blob.size) {
        RangeRequest::Whole => {
            let all = ByteRange { start: 0, end_inclusive: blob.size.saturating_sub(1) };
            Ok(whole(digest, blob.size, begin(all).await?))
        }
        RangeRequest::Single(range) => Ok(single(digest, blob.size, begin(range).await?, range)),
        RangeRequest::Multiple(ranges) => Ok(multiple(digest, blob.size, &blob.content, &ranges)),
        RangeRequest::Unsatisfiable => {
            let message = format!("the blob has {} bytes", blob.size);
            Err(Error::new(ErrorCode::RangeInvalid, message)
                .with_header(header::CONTENT_RANGE, format!("bytes */{}", blob.size)))
        }
    }
}

/// What part of the blob is asked for (RFC 9110 §14.2, and §13.1.5 for `If-Range`).
fn wanted(headers: &HeaderMap, digest: &Digest, size: u64) -> RangeRequest {
    let Some(range) = headers.get(header::RANGE).and_then(|value| value.to_str().ok()) else {
        return RangeRequest::Whole;
    };
    let current = headers
        .get(header::IF_RANGE)
        .is_none_or(|value| value.as_bytes() == etag(digest).as_bytes());
    if current { parse_range(range, size) } else { RangeRequest::Whole }
}

fn whole(digest: &Digest, size: u64, content: Content) -> Response {
    let mut response = Response::new(ResponseBody::empty().and_blob(content, 0, size));
    describe(response.headers_mut(), digest, size);
    response
}

fn single(digest: &Digest, size: u64, content: Content, range: ByteRange) -> Response {
    let body = ResponseBody::empty().and_blob(content, range.start, range.len());
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::PARTIAL_CONTENT;
    let headers = response.headers_mut();
    describe(headers, digest, range.len());
    insert(headers, header::CONTENT_RANGE, &content_range(range, size));
    response
}

/// Several parts in one answer (RFC 9110 §14.6).
fn multiple(digest: &Digest, size: u64, content: &Content, ranges: &[ByteRange]) -> Response {
    // Content that holds its own digest can not be made, so no part holds this line. At most 70
    // characters (RFC 2046 §5.1.1).
    let boundary = format!("part-of-{:.32}", digest.hex());
    let mut body = ResponseBody::empty();
    for range in ranges {
        let head = format!(
            "\r\n--{boundary}\r\nContent-Type: application/octet-stream\r\nContent-Range: {}\r\n\r\n",
            content_range(*range, size)
        );
        body = body.and_bytes(head).and_blob(
            content.part(range.start, range.len()),
            range.start,
            range.len(),
        );
    }
    let body = body.and_bytes(format!("\r\n--{boundary}--\r\n"));
    let length = body.length();
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::PARTIAL_CONTENT;
    let headers = response.headers_mut();
    describe(headers, digest, length);
    insert(headers, header::CONTENT_TYPE, &format!("multipart/byteranges; boundary={boundary}"));
    response
}

fn not_modified(digest: &Digest) -> Response {
    let mut response = empty(StatusCode::NOT_MODIFIED);
    let headers = response.headers_mut();
    headers.remove(header::CONTENT_LENGTH);
    identify(headers, digest);
    response
}

fn describe(headers: &mut HeaderMap, digest: &Digest, length: u64) {
    // For these and those that every answer has.
    headers.reserve(10);
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    headers.insert(header::CONTENT_LENGTH, length.into());
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    identify(headers, digest);
}

fn identify(headers: &mut HeaderMap, digest: &Digest) {
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("max-age=31536000"));
    insert(headers, header::ETAG, &etag(digest));
    insert(headers, header::HeaderName::from_static("docker-content-digest"), &digest.to_string());
}

fn content_range(range: ByteRange, size: u64) -> String {
    format!("bytes {}-{}/{size}", range.start, range.end_inclusive)
}

fn insert(headers: &mut HeaderMap, name: header::HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}
