//! Answers to GET and HEAD as hyper gives them from memory: no routes, no rules, no files.

use std::cell::RefCell;
use std::collections::HashMap;
use std::convert::Infallible;
use std::net::TcpStream as StdStream;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use anyhow::Context as _;
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, ETAG, HeaderMap, HeaderValue, IF_NONE_MATCH};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::task::LocalSet;

use crate::content::digest_of;

/// Serves these connections on this thread.
pub(super) fn serve(
    folder: &Path,
    mut connections: UnboundedReceiver<StdStream>,
) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let kept = Rc::new(Kept { folder: folder.to_owned(), answers: RefCell::default() });
    LocalSet::new().block_on(&runtime, async move {
        while let Some(stream) = connections.recv().await {
            let stream = TcpStream::from_std(stream).context("cannot wait for a connection")?;
            let kept = Rc::clone(&kept);
            tokio::task::spawn_local(async move {
                let service = service_fn(|request| {
                    std::future::ready(Ok::<_, Infallible>(kept.answer(&request)))
                });
                // It ends when the client closes, in whatever way.
                let _ = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service)
                    .await;
            });
        }
        Ok(())
    })
}

/// The files of a folder that were asked for.
struct Kept {
    folder: PathBuf,
    answers: RefCell<HashMap<String, (HeaderMap, Bytes)>>,
}

impl Kept {
    fn answer(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        let path = request.uri().path();
        if path == "/v2/" {
            return Response::new(Full::from("{}"));
        }
        let mut answers = self.answers.borrow_mut();
        if !answers.contains_key(path)
            && let Ok(bytes) = std::fs::read(self.folder.join(path.trim_start_matches('/')))
        {
            answers.insert(path.to_owned(), (headers(&bytes), bytes.into()));
        }
        let Some((headers, bytes)) = answers.get(path) else {
            let mut missing = Response::new(Full::from("{\"errors\":[]}"));
            *missing.status_mut() = StatusCode::NOT_FOUND;
            return missing;
        };
        let known = request.headers().get(IF_NONE_MATCH);
        if known.is_some() && known == headers.get(ETAG) {
            let mut unchanged = Response::new(Full::default());
            *unchanged.status_mut() = StatusCode::NOT_MODIFIED;
            *unchanged.headers_mut() = headers.clone();
            return unchanged;
        }
        let mut found = Response::new(Full::new(bytes.clone()));
        *found.headers_mut() = headers.clone();
        found
    }
}

/// As many as a registry sends with a manifest.
fn headers(bytes: &[u8]) -> HeaderMap {
    let digest = digest_of(bytes);
    let media_type = HeaderValue::from_static("application/vnd.oci.image.manifest.v1+json");
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, media_type);
    headers.insert("docker-distribution-api-version", HeaderValue::from_static("registry/2.0"));
    if let (Ok(etag), Ok(digest)) = (format!("\"{digest}\"").parse(), digest.parse()) {
        headers.insert(ETAG, etag);
        headers.insert("docker-content-digest", digest);
    }
    headers
}
