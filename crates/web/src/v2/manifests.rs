//! `/v2/<name>/manifests/<reference>`

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, StatusCode};
use oci::{
    Accept, Digest, ErrorCode, MAX_MANIFEST_SIZE, Manifest, Reference, ReferenceError,
    RepositoryName, Tag, media_type,
};
use registry::{Class, ManifestPush, Precondition, PulledManifest};

use crate::error::{Error, Result, refuse_delete};
use crate::service::{Request, empty, etag, matches_etag};
use crate::v2::path;
use crate::{RequestBody, Response, ResponseBody};

/// Tags that one push may set. Each is a header of the answer, and many clients take no more than
/// 100 of those.
const MAX_TAGS: usize = 50;

const CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");

pub(crate) async fn handle(
    request: &Request<'_>,
    repository: RepositoryName,
    reference: &str,
    body: RequestBody,
) -> Result {
    let reference = reference.parse().map_err(|error| match error {
        ReferenceError::Tag(error) => {
            Error::new(ErrorCode::TagInvalid, format!("invalid tag: {error}"))
        }
        ReferenceError::Digest(error) => {
            Error::new(ErrorCode::DigestInvalid, format!("invalid digest: {error}"))
        }
    })?;
    match *request.method() {
        Method::PUT => Box::pin(put(request, repository, reference, body)).await,
        Method::DELETE => Box::pin(delete(request, &repository, &reference)).await,
        _ => get(request, &repository, &reference).await,
    }
}

async fn delete(
    request: &Request<'_>,
    repository: &RepositoryName,
    reference: &Reference,
) -> Result {
    let conditions = preconditions(request.headers())?;
    let deleted = request.registry().delete_manifest(repository, reference, conditions).await;
    deleted.map_err(|error| refuse_delete(error, &path::MANIFEST))?;
    Ok(empty(StatusCode::ACCEPTED))
}

/// GET and HEAD; the server leaves the body of a HEAD's answer out.
async fn get(request: &Request<'_>, repository: &RepositoryName, reference: &Reference) -> Result {
    let manifest = request.registry().pull_manifest(repository, reference).await?;
    let values = request.headers().get_all(header::ACCEPT);
    let accept = Accept::parse(values.iter().filter_map(|value| value.to_str().ok()));
    let manifest = if accept.accepts(&manifest.media_type) {
        manifest
    } else {
        Box::pin(negotiate(request, repository, reference, &accept, manifest)).await?
    };
    if matches_etag(request.headers(), &manifest.digest) {
        let mut response = empty(StatusCode::NOT_MODIFIED);
        response.headers_mut().remove(header::CONTENT_LENGTH);
        identify(response.headers_mut(), &manifest.digest);
        return Ok(response);
    }
    let length = manifest.content.len();
    let mut response = Response::new(ResponseBody::from(manifest.content));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_LENGTH, length.into());
    insert(headers, header::CONTENT_TYPE, &manifest.media_type);
    identify(headers, &manifest.digest);
    Ok(response)
}

/// What a client can read that does not accept the manifest: an old Docker client that asks for a
/// manifest list by its tag gets the manifest for the platform that it surely has.
async fn negotiate(
    request: &Request<'_>,
    repository: &RepositoryName,
    reference: &Reference,
    accept: &Accept<'_>,
    manifest: PulledManifest,
) -> Result<PulledManifest> {
    let is_list = manifest.media_type == media_type::DOCKER_MANIFEST_LIST;
    if is_list && reference.as_tag().is_some() && accept.accepts(media_type::DOCKER_MANIFEST) {
        let child = Manifest::parse(&manifest.content, Some(&manifest.media_type))
            .ok()
            .and_then(|list| linux_amd64(&list));
        if let Some(child) = child {
            let child = Reference::Digest(child);
            return Ok(request.registry().pull_manifest(repository, &child).await?);
        }
    }
    let message = format!(
        "the manifest is of the type {}, which the Accept header does not list",
        manifest.media_type
    );
    Err(Error::new(ErrorCode::ManifestUnknown, message))
}

/// registry:2 gives this platform to clients that can not choose themselves.
fn linux_amd64(list: &Manifest) -> Option<Digest> {
    let is_wanted = |child: &&oci::Descriptor| {
        child
            .platform
            .as_ref()
            .is_some_and(|platform| platform.os == "linux" && platform.architecture == "amd64")
    };
    list.children().iter().find(is_wanted).map(|child| child.digest)
}

async fn put(
    request: &Request<'_>,
    repository: RepositoryName,
    reference: Reference,
    body: RequestBody,
) -> Result {
    if request.content_length().is_some_and(|length| length > MAX_MANIFEST_SIZE as u64) {
        return Err(Error::too_large());
    }
    let may_push = |class: &Class| request.caller().may_handle_class(&repository, class.as_str());
    let push = ManifestPush {
        classes: Class::ALL.into_iter().filter(may_push).collect(),
        tags: further_tags(request)?,
        content_type: content_type(request.headers())?,
        preconditions: preconditions(request.headers())?,
        content: body.read(MAX_MANIFEST_SIZE).await?,
        reference,
        repository,
    };
    let repository = push.repository.clone();
    let announce = matches!(push.reference, Reference::Digest(_)) || push.tags.len() > 1;
    let pushed = request.registry().push_manifest(push).await?;

    let mut response = empty(StatusCode::CREATED);
    let headers = response.headers_mut();
    let location = format!("{}/v2/{repository}/manifests/{}", request.base_url(), pushed.digest);
    insert(headers, header::LOCATION, &location);
    insert(headers, CONTENT_DIGEST, &pushed.digest.to_string());
    if let Some(subject) = pushed.subject {
        insert(headers, HeaderName::from_static("oci-subject"), &subject.to_string());
    }
    if announce {
        for tag in &pushed.tags {
            if let Ok(value) = HeaderValue::from_str(tag.as_str()) {
                headers.append(HeaderName::from_static("oci-tag"), value);
            }
        }
    }
    Ok(response)
}

/// `?tag=a&tag=b` (distribution-spec, end-7b).
fn further_tags(request: &Request<'_>) -> Result<Vec<Tag>> {
    let tags = request
        .query()
        .all("tag")
        .map(|tag| {
            tag.parse().map_err(|error| {
                Error::new(ErrorCode::TagInvalid, format!("invalid tag {tag:?}: {error}"))
            })
        })
        .collect::<Result<Vec<Tag>>>()?;
    if tags.len() > MAX_TAGS {
        let message = format!("{} tags in one push; at most {MAX_TAGS} are taken", tags.len());
        return Err(
            Error::new(ErrorCode::TagInvalid, message).with_status(StatusCode::PAYLOAD_TOO_LARGE)
        );
    }
    Ok(tags)
}

fn content_type(headers: &HeaderMap) -> Result<Option<String>> {
    let Some(value) = headers.get(header::CONTENT_TYPE) else {
        return Ok(None);
    };
    match value.to_str() {
        Ok(text) => Ok(Some(text.to_owned()).filter(|text| !text.is_empty())),
        Err(_) => Err(Error::new(ErrorCode::ManifestInvalid, "the Content-Type is not plain text")),
    }
}

/// `If-Match` and `If-None-Match` (RFC 9110 §13.1): a tag moves only from where the client
/// believes it to be.
fn preconditions(headers: &HeaderMap) -> Result<Vec<Precondition>> {
    let mut conditions = Vec::new();
    if headers.contains_key(header::IF_MATCH) {
        conditions.push(match etags(headers, &header::IF_MATCH)? {
            None => Precondition::Exists,
            Some(digests) => Precondition::OneOf(digests),
        });
    }
    if headers.contains_key(header::IF_NONE_MATCH) {
        conditions.push(match etags(headers, &header::IF_NONE_MATCH)? {
            None => Precondition::Absent,
            Some(digests) => Precondition::NoneOf(digests),
        });
    }
    Ok(conditions)
}

/// The digests of a list of entity tags, in one line or several; `None` for `*`.
fn etags(headers: &HeaderMap, name: &HeaderName) -> Result<Option<Vec<Digest>>> {
    let invalid = || {
        let message = format!("{name} must be * or digests in quotes, such as \"sha256:…\"");
        Error::new(ErrorCode::DigestInvalid, message)
    };
    let mut digests = Vec::new();
    let mut is_empty = true;
    for value in headers.get_all(name) {
        let text = value.to_str().map_err(|_| invalid())?;
        for tag in text.split(',').map(str::trim).filter(|tag| !tag.is_empty()) {
            is_empty = false;
            match tag.strip_prefix("W/") {
                _ if tag == "*" => return Ok(None),
                // A weak tag matches nothing here (RFC 9110 §13.1.1): ours are strong.
                Some(_) if *name == header::IF_MATCH => {}
                weak => {
                    let tag = weak.unwrap_or(tag).trim_matches('"');
                    digests.push(tag.parse().map_err(|_| invalid())?);
                }
            }
        }
    }
    if is_empty { Err(invalid()) } else { Ok(Some(digests)) }
}

fn identify(headers: &mut HeaderMap, digest: &Digest) {
    insert(headers, header::ETAG, &etag(digest));
    insert(headers, CONTENT_DIGEST, &digest.to_string());
}

fn insert(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}
