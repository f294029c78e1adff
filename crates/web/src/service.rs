//! What a request is about, and the life of every request.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use auth::{Access, Caller, TOKEN_PATH};
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::request::Parts;
use http::{Method, StatusCode, Version};
use net::proxies::Trusted;
use oci::{Digest, ErrorCode};
use registry::Registry;
use serde::Serialize;

use crate::access_log::{Entry, RequestId};
use crate::client::{Client, Connection};
use crate::error::{Error, Result, list_methods};
use crate::metrics::{Handler, Metrics};
use crate::query::Query;
use crate::redirect::Redirect;
use crate::trace::Trace;
use crate::{Health, RequestBody, Response, ResponseBody, access, search, trace, urls, v2};

/// How the registry shows itself on the wire.
#[derive(Clone, Debug)]
pub struct Config {
    /// How URLs in answers are written.
    pub urls: urls::Config,
    /// The largest page of the catalogue.
    pub max_catalog_entries: u64,
    /// The largest page of tags that `n` can ask for.
    pub max_tags: u64,
    /// Where clients are sent for blobs.
    pub redirect: Redirect,
    /// Who may do what.
    pub access: Access,
    /// Headers that every answer carries; a name may be there several times.
    pub headers: HeaderMap,
    /// Proxies that know better where a request comes from.
    pub trusted_proxies: Trusted,
    /// While a check fails, every request is refused.
    pub health: Health,
}

impl Config {
    /// As registry:2 does without configuration: everybody may do everything. `host` and `relative` shape URLs.
    pub fn new(host: Option<String>, relative: bool) -> Self {
        Self {
            urls: urls::Config { host, relative, prefix: urls::Prefix::default() },
            max_catalog_entries: 1000,
            max_tags: 1000,
            redirect: Redirect::default(),
            access: Access::none(),
            headers: HeaderMap::new(),
            trusted_proxies: Trusted::default(),
            health: Health::default(),
        }
    }
}

/// Answers requests. Clones share everything.
#[derive(Clone)]
pub struct Service {
    shared: Arc<Shared>,
}

struct Shared {
    registry: Registry,
    config: Config,
    metrics: Metrics,
}

impl Service {
    /// A service in front of `registry`.
    pub fn new(registry: Registry, config: Config, metrics: Metrics) -> Self {
        Self { shared: Arc::new(Shared { registry, config, metrics }) }
    }

    /// Answers one request that came over `connection`, counts it and logs it.
    pub async fn handle(
        &self,
        parts: Parts,
        body: RequestBody,
        connection: Connection,
    ) -> Response {
        let started = Instant::now();
        let id = RequestId::next();
        let client =
            Client::find(connection.peer, &parts.headers, &self.shared.config.trusted_proxies);
        let path = Route::parse(parts.uri.path(), &self.shared.config.urls.prefix);
        let handler = path.handler();
        let measured = self.shared.metrics.begin(handler, &parts);
        let is_v2 = matches!(path, Route::Token | Route::V2(_));
        let trace = Trace::begin(&parts, &path, connection, client, &id, &self.shared.config.urls);

        let (user, result) = if !self.shared.config.health.is_good() {
            (None, Err(Error::unhealthy()))
        } else if !has_one_host(&parts) {
            (None, Err(Error::host()))
        } else {
            trace.within(&id, self.answer(&parts, body, path, connection, client)).await
        };
        let code = result.as_ref().err().map(Error::code);
        let mut response = result.unwrap_or_else(Error::into_response);

        let headers = response.headers_mut();
        if is_v2 {
            let name = HeaderName::from_static("docker-distribution-api-version");
            headers.insert(name, HeaderValue::from_static("registry/2.0"));
        }
        headers.insert(HeaderName::from_static("x-request-id"), id.header());
        // What the registry itself says counts, as in `distribution`. One of theirs may be there
        // several times.
        let added = &self.shared.config.headers;
        for name in added.keys() {
            if !headers.contains_key(name) {
                for value in added.get_all(name) {
                    headers.append(name, value.clone());
                }
            }
        }
        if connection.sends_files {
            response.body_mut().send_files();
        }
        let length = response.body().length();
        measured.end(response.status(), length);
        trace.answered(&mut response);
        let user = user.as_deref();
        Entry { id: &id, client, user, parts: &parts, status: response.status(), code, length }
            .write(started.elapsed());
        response
    }

    /// Admits a request and answers it; also says whose it is.
    async fn answer(
        &self,
        parts: &Parts,
        body: RequestBody,
        path: Route,
        connection: Connection,
        client: Client,
    ) -> (Option<String>, Result) {
        let config = &self.shared.config;
        // Who comes over a socket of this machine has no address.
        let address = client.ip().unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
        let admitted =
            trace::admission(config, access::admit(config, parts, connection, &path, address))
                .await;
        if !config.access.is_open() {
            self.shared.metrics.authenticated(match &admitted {
                Ok(caller) => caller.outcome(),
                Err(refused) => refused.refusal.outcome(),
            });
        }
        match admitted {
            Ok(caller) => {
                let request = Request::new(self, parts, connection, address, &caller);
                let result = self.route(&request, path, body, address).await;
                (caller.user().map(str::to_owned), result)
            }
            Err(refused) => (refused.refusal.user().map(str::to_owned), Err(refused.into())),
        }
    }

    async fn route(
        &self,
        request: &Request<'_>,
        route: Route,
        body: RequestBody,
        address: IpAddr,
    ) -> Result {
        // An answer of 200 to it would make the connection a tunnel (RFC 9110 §9.3.6).
        if request.method() == Method::CONNECT {
            return Err(Error::method(&[Method::GET, Method::HEAD]));
        }
        let is_preflight = *request.method() == Method::OPTIONS;
        match route {
            Route::Search if is_preflight => Ok(options(&v2::READ)),
            Route::Token if is_preflight && self.shared.config.access.issues_tokens() => {
                Ok(options(&v2::READ))
            }
            Route::V2(path) => v2::handle(request, path, body).await,
            Route::Root => Ok(root()),
            Route::Search => Box::pin(search::handle(request)).await,
            Route::Ping => Ok(search::ping()),
            Route::Token => {
                let Shared { config, metrics, .. } = &*self.shared;
                Box::pin(access::issue_token(config, metrics, request.parts, address)).await
            }
            Route::V2WithoutSlash => Ok(redirect(&request.link_path("/v2/"))),
            Route::Unknown => Err(Error::path()),
        }
    }
}

/// HTTP/1.0 may have none.
fn has_one_host(parts: &Parts) -> bool {
    let count = parts.headers.get_all(header::HOST).iter().count();
    count == 1 || (count == 0 && parts.version != Version::HTTP_11)
}

/// The halves of the URL space.
pub(crate) enum Route {
    Ping,
    Root,
    Search,
    Token,
    Unknown,
    V2(v2::Path),
    V2WithoutSlash,
}

impl Route {
    /// Everything is below `prefix`, but for the sign of life, which is at `/` too.
    fn parse(path: &str, prefix: &urls::Prefix) -> Self {
        if path == "/" {
            return Self::Root;
        }
        let Some(path) = prefix.strip(path) else {
            return Self::Unknown;
        };
        if path == TOKEN_PATH {
            return Self::Token;
        }
        if let Some(rest) = path.strip_prefix("/v2/") {
            return Self::V2(v2::Path::parse(rest));
        }
        match path {
            "/" => Self::Root,
            "/v1/_ping" => Self::Ping,
            "/v1/search" => Self::Search,
            "/v2" => Self::V2WithoutSlash,
            _ => Self::Unknown,
        }
    }

    fn handler(&self) -> Handler {
        match self {
            Self::V2(path) => path.handler(),
            Self::Search => Handler::Search,
            _ => Handler::Other,
        }
    }

    /// What the paths of this kind have in common; `None` if that is nothing.
    pub(crate) fn template(&self) -> Option<&'static str> {
        Some(match self {
            Self::Ping => "/v1/_ping",
            Self::Root => "/",
            Self::Search => "/v1/search",
            Self::Token => TOKEN_PATH,
            Self::Unknown => return None,
            Self::V2(path) => return path.template(),
            Self::V2WithoutSlash => "/v2",
        })
    }
}

/// A request as handlers see it.
pub(crate) struct Request<'a> {
    service: &'a Service,
    parts: &'a Parts,
    connection: Connection,
    address: IpAddr,
    caller: &'a Caller,
    query: OnceLock<Query>,
}

impl<'a> Request<'a> {
    fn new(
        service: &'a Service,
        parts: &'a Parts,
        connection: Connection,
        address: IpAddr,
        caller: &'a Caller,
    ) -> Self {
        Self { service, parts, connection, address, caller, query: OnceLock::new() }
    }

    pub(crate) fn registry(&self) -> &Registry {
        &self.service.shared.registry
    }

    pub(crate) fn config(&self) -> &Config {
        &self.service.shared.config
    }

    /// Who asks.
    pub(crate) fn caller(&self) -> &Caller {
        self.caller
    }

    /// The client's address, as far as it is known.
    pub(crate) fn address(&self) -> IpAddr {
        self.address
    }

    pub(crate) fn method(&self) -> &Method {
        &self.parts.method
    }

    pub(crate) fn headers(&self) -> &HeaderMap {
        &self.parts.headers
    }

    pub(crate) fn query(&self) -> &Query {
        self.query.get_or_init(|| Query::parse(self.parts.uri.query()))
    }

    pub(crate) fn content_length(&self) -> Option<u64> {
        self.headers().get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
    }

    /// What comes before the path of a URL in the answer.
    pub(crate) fn base_url(&self) -> String {
        self.config().urls.base(self.headers(), self.connection.secure)
    }

    /// `path` as a client has to write it that asks the same host.
    pub(crate) fn link_path(&self, path: &str) -> String {
        format!("{}{path}", self.config().urls.base_path())
    }
}

/// For load balancers: here I am.
fn root() -> Response {
    let mut response = empty(StatusCode::OK);
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}

fn redirect(to: &str) -> Response {
    let mut response = empty(StatusCode::MOVED_PERMANENTLY);
    if let Ok(to) = HeaderValue::from_str(to) {
        response.headers_mut().insert(header::LOCATION, to);
    }
    response
}

/// An answer without a body.
pub(crate) fn empty(status: StatusCode) -> Response {
    let mut response = Response::new(ResponseBody::empty());
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from_static("0"));
    response
}

/// What can be done with a resource, for whoever asks with `OPTIONS`: browsers, before they send
/// a request of another site.
pub(crate) fn options(allowed: &[Method]) -> Response {
    let mut response = empty(StatusCode::OK);
    if let Ok(allowed) = HeaderValue::from_str(&list_methods(allowed)) {
        response.headers_mut().insert(header::ALLOW, allowed);
    }
    response
}

/// An answer of JSON text.
pub(crate) fn json(status: StatusCode, body: String) -> Response {
    let mut response = Response::new(ResponseBody::from(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// An answer of anything that can be JSON.
pub(crate) fn json_of(status: StatusCode, body: &impl Serialize) -> Result {
    match serde_json::to_string(body) {
        Ok(text) => Ok(json(status, text)),
        Err(error) => {
            tracing::error!(%error, "an answer can not be written as JSON");
            Err(Error::new(ErrorCode::Unknown, "the registry failed; its log says why"))
        }
    }
}

/// The digest in a path or a parameter.
pub(crate) fn parse_digest(text: &str) -> Result<Digest> {
    text.parse().map_err(|error| {
        Error::new(ErrorCode::DigestInvalid, format!("invalid digest {text:.80?}: {error}"))
    })
}

/// The entity tag of content.
pub(crate) fn etag(digest: &Digest) -> String {
    format!("\"{digest}\"")
}

/// Whether `If-None-Match` says that the client has this content (RFC 9110 §13.1.2).
pub(crate) fn matches_etag(headers: &HeaderMap, digest: &Digest) -> bool {
    if !headers.contains_key(header::IF_NONE_MATCH) {
        return false;
    }
    let digest = digest.to_string();
    headers.get_all(header::IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok()).any(
        |value| {
            value
                .split(',')
                .map(str::trim)
                .any(|tag| tag == "*" || tag.trim_start_matches("W/").trim_matches('"') == digest)
        },
    )
}
