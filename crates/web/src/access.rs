//! Who may send this request? Asked before anything else is done for it.

use std::net::IpAddr;

use auth::{Access, Action, Caller, Refusal, Scope};
use http::Method;
use http::header::{self, HeaderName};
use http::request::Parts;
use oci::RepositoryName;

use crate::query::Query;
use crate::service::Route;
use crate::v2::Path;

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
    access: &Access,
    parts: &Parts,
    route: &Route,
    address: IpAddr,
) -> Result<Caller, Refused> {
    let Some(wanted) = Wanted::by(parts, route) else {
        return Ok(Caller::nobody());
    };
    let header = |name| parts.headers.get(name);
    let text = |name: HeaderName| header(name).and_then(|value| value.to_str().ok());
    let request = auth::Request {
        authorization: header(header::AUTHORIZATION).map(http::HeaderValue::as_bytes),
        address,
        host: text(header::HOST).or(parts.uri.authority().map(http::uri::Authority::as_str)),
        forwarded_proto: text(HeaderName::from_static("x-forwarded-proto")),
        wanted: &wanted.scopes,
        needed: wanted.needed,
    };
    match access.admit(&request).await {
        Ok(caller) => Ok(caller),
        Err(refusal) => Err(Refused { refusal, wanted }),
    }
}

impl Wanted {
    /// `None` for what is open to everybody.
    fn by(parts: &Parts, route: &Route) -> Option<Self> {
        // A browser asks with OPTIONS before it sends credentials, and is told nothing by it.
        if matches!(parts.method, Method::OPTIONS | Method::CONNECT) {
            return None;
        }
        let scopes = match route {
            Route::Root | Route::Ping | Route::Unknown | Route::V2WithoutSlash => return None,
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
