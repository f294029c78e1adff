//! The distribution protocol (OCI distribution-spec 1.1, Docker Registry HTTP API V2).

mod base;
mod blobs;
mod catalog;
mod manifests;
mod paging;
mod path;
mod referrers;
mod tags;
mod uploads;

use http::Method;

use crate::RequestBody;
use crate::error::{Error, Result};
use crate::service::{Request, options};
pub(crate) use path::{Path, READ};

/// Handles a request under `/v2/`.
pub(crate) async fn handle(request: &Request<'_>, path: Path, body: RequestBody) -> Result {
    let methods = path.methods();
    let read_only = request.registry().is_read_only();
    match *request.method() {
        _ if methods.is_empty() => return Err(Error::path()),
        Method::OPTIONS => return Ok(options(if read_only { &READ } else { methods })),
        ref method if !methods.contains(method) => {
            return Err(Error::method(if read_only { &READ } else { methods }));
        }
        // Said before the body is read. The rules ask again.
        ref method if read_only && !READ.contains(method) => {
            return Err(registry::Error::ReadOnly.into());
        }
        _ => {}
    }
    // All but pulls are boxed, so that a connection that waits for a request does not keep room for
    // an upload, and a pull does not carry it around.
    match path {
        Path::Base => Ok(base::handle()),
        Path::Catalog => Box::pin(catalog::handle(request)).await,
        Path::Tags(name) => Box::pin(tags::handle(request, &name?)).await,
        Path::Manifest(name, reference) => {
            manifests::handle(request, name?, &reference, body).await
        }
        Path::Blob(name, digest) => blobs::handle(request, &name?, &digest).await,
        Path::Uploads(name) => Box::pin(uploads::handle_new(request, &name?, body)).await,
        Path::Upload(name, id) => Box::pin(uploads::handle(request, &name?, &id, body)).await,
        Path::Referrers(name, digest) => {
            Box::pin(referrers::handle(request, &name?, &digest)).await
        }
        Path::Unknown => Err(Error::path()),
    }
}
