//! Who may send this request? Asked before anything else is done for it.

use std::net::IpAddr;

use auth::{Action, Caller, Refusal, Scope};
use http::header;
use http::request::Parts;
use http::{Method, StatusCode};
use oci::RepositoryName;
use serde_json::json;

use crate::client::Connection;
use crate::error::Error;
use crate::query::Query;
use crate::service::{self, Config, Route};
use crate::v2::Path;
use crate::{Metrics, Response, urls};

/// What a request wants.
#[derive(Debug, Default)]
pub(crate) struct Wanted {
    pub(crate) scopes: Vec<Scope>,
    /// How many of them it can not do without: a mount that is not allowed becomes an upload.
    needed: usize,
}

/// Why nobody is let in, and what was wanted.
pub(crate) struct Refused {
    pub(crate) refusal: Refusal,
    pub(crate) wanted: Wanted,
}

/// Decides whether the request of `address` may be handled, and for whom.
pub(crate) async fn admit(
    config: &Config,
    parts: &Parts,
    connection: Connection,
    route: &Route,
    address: IpAddr,
) -> Result<Caller, Refused> {
    if let Some(anybody) = config.access.anybody() {
        return Ok(anybody);
    }
    let Some(wanted) = Wanted::by(parts, route) else {
        return Ok(Caller::nobody());
    };
    let base_url = base_url(config, parts, connection);
    let request = question(parts, address, base_url.as_deref(), &wanted);
    match Box::pin(config.access.admit(&request)).await {
        Ok(caller) => Ok(caller),
        Err(refusal) => Err(Refused { refusal, wanted }),
    }
}

/// `/v2/token`: a token of this registry, where it gives any.
pub(crate) async fn issue_token(
    config: &Config,
    metrics: &Metrics,
    parts: &Parts,
    address: IpAddr,
) -> Result<Response, Error> {
    if !config.access.issues_tokens() {
        return Err(Error::path());
    }
    if !matches!(parts.method, Method::GET | Method::HEAD) {
        return Err(Error::method(&[Method::GET, Method::HEAD]));
    }
    let wanted = Wanted::default();
    let issued = config.access.issue_token(&question(parts, address, None, &wanted)).await;
    let issued = issued.map_err(|refusal| {
        metrics.authenticated(refusal.outcome());
        Refused { refusal, wanted }
    })?;
    let issued = issued.ok_or_else(Error::path)?;
    // Clients know it by either name.
    let body = json!({
        "token": issued.token,
        "access_token": issued.token,
        "expires_in": issued.lifetime.as_secs(),
    });
    let mut response = service::json_of(StatusCode::OK, &body)?;
    let no_store = header::HeaderValue::from_static("no-store");
    response.headers_mut().insert(header::CACHE_CONTROL, no_store);
    Ok(response)
}

/// What access is told about a request.
fn question<'a>(
    parts: &'a Parts,
    address: IpAddr,
    base_url: Option<&'a str>,
    wanted: &'a Wanted,
) -> auth::Request<'a> {
    let asked = urls::Asked::of(&parts.headers);
    let authorization = parts.headers.get(header::AUTHORIZATION);
    auth::Request {
        authorization: authorization.map(http::HeaderValue::as_bytes),
        address,
        host: asked.host.or(parts.uri.authority().map(http::uri::Authority::as_str)),
        forwarded_proto: asked.scheme,
        base_url,
        wanted: &wanted.scopes,
        needed: wanted.needed,
    }
}

/// Where clients find this registry; asked for only where tokens are issued. A relative URL would
/// not do.
fn base_url(config: &Config, parts: &Parts, connection: Connection) -> Option<String> {
    if !config.access.issues_tokens() {
        return None;
    }
    let urls = urls::Config { relative: false, ..config.urls.clone() };
    Some(urls.base(&parts.headers, connection.secure)).filter(|base| !base.is_empty())
}

impl Wanted {
    /// `None` for what is open to everybody.
    fn by(parts: &Parts, route: &Route) -> Option<Self> {
        // A browser asks with OPTIONS before it sends credentials, and is told nothing by it.
        if matches!(parts.method, Method::OPTIONS | Method::CONNECT) {
            return None;
        }
        let scopes = match route {
            Route::Ping | Route::Root | Route::Token | Route::Unknown | Route::V2WithoutSlash => {
                return None;
            }
            Route::Search | Route::V2(Path::Catalog) => vec![Scope::Catalog],
            // Whoever asks for what is not there must be known, too.
            Route::V2(path) => path.repository().map_or_else(Vec::new, |name| {
                let actions = actions(&parts.method).iter();
                actions.map(|action| Scope::Repository(name.clone(), *action)).collect()
            }),
        };
        let needed = scopes.len();
        let mut wanted = Self { scopes, needed };
        if let Route::V2(Path::Uploads(Ok(_))) = route {
            let from = Query::parse(parts.uri.query()).get("from").map(str::parse);
            if let Some(Ok(from)) = from {
                wanted.scopes.push(Scope::Repository(from, Action::Pull));
            }
        }
        Some(wanted)
    }
}

/// What a method does to a repository.
fn actions(method: &Method) -> &'static [Action] {
    match *method {
        Method::GET | Method::HEAD => &[Action::Pull],
        Method::POST | Method::PUT | Method::PATCH => &[Action::Pull, Action::Push],
        Method::DELETE => &[Action::Delete],
        // It will be told that there is no such method.
        _ => &[],
    }
}

impl Path {
    /// The repository that the path is about, if there can be such a one.
    fn repository(&self) -> Option<&RepositoryName> {
        match self {
            Self::Base | Self::Catalog | Self::Unknown => None,
            Self::Blob(name, _)
            | Self::Manifest(name, _)
            | Self::Referrers(name, _)
            | Self::Tags(name)
            | Self::Upload(name, _)
            | Self::Uploads(name) => name.as_ref().ok(),
        }
    }
}
