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

use crate::RequestBody;
use crate::error::{Error, Result};
use crate::service::Request;
pub(crate) use path::Path;

/// Handles a request under `/v2/`.
pub(crate) async fn handle(request: Request<'_>, path: Path, body: RequestBody) -> Result {
    match path {
        Path::Base => base::handle(&request),
        Path::Catalog => catalog::handle(&request).await,
        Path::Tags(name) => tags::handle(&request, &name?).await,
        Path::Manifest(name, reference) => {
            Box::pin(manifests::handle(&request, name?, &reference, body)).await
        }
        Path::Blob(name, digest) => blobs::handle(&request, &name?, &digest).await,
        Path::Uploads(name) => Box::pin(uploads::handle_new(&request, &name?, body)).await,
        // Boxed, so that a connection that waits for a request does not keep room for an upload.
        Path::Upload(name, id) => Box::pin(uploads::handle(&request, &name?, &id, body)).await,
        Path::Referrers(name, digest) => referrers::handle(&request, &name?, &digest).await,
        Path::Unknown => Err(Error::path()),
    }
}
