//! Requests with a bearer token, and once more with another one if a store refuses the first: it
//! may have been revoked before its end.

use std::fmt::Debug;
use std::sync::Arc;

use ::http::header::AUTHORIZATION;
use ::http::{HeaderValue, StatusCode};
use async_trait::async_trait;
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpRequest, HttpResponse, HttpService,
};

use super::Lasting;
use super::library::Library;

/// Credentials that may be a bearer token.
pub(crate) trait Bearer: Debug + Send + Sync + 'static {
    /// The token, if it is one.
    fn token(&self) -> Option<&str>;
}

/// The header that shows a token.
pub(crate) fn header(token: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::try_from(format!("Bearer {token}")).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// Connections over which refused requests are sent again.
#[derive(Debug)]
pub(crate) struct Renewing<C: Bearer> {
    pub(crate) connections: HttpClient,
    pub(crate) credentials: Arc<Lasting<Library<C>>>,
}

impl<C: Bearer> Clone for Renewing<C> {
    fn clone(&self) -> Self {
        Self { connections: self.connections.clone(), credentials: Arc::clone(&self.credentials) }
    }
}

impl<C: Bearer> HttpConnector for Renewing<C> {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(self.clone()))
    }
}

#[async_trait]
impl<C: Bearer> HttpService for Renewing<C> {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let Some(shown) = request.headers().get(AUTHORIZATION).cloned() else {
            return self.connections.execute(request).await;
        };
        let mut again = request.clone();
        let answer = self.connections.execute(request).await?;
        if answer.status() != StatusCode::UNAUTHORIZED {
            return Ok(answer);
        }
        let shown_by = |credentials: &C| credentials.token().and_then(header);
        let is_refused = |credentials: &C| shown_by(credentials).is_none_or(|it| it == shown);
        // Why there is no other token, the log says. The store's answer is that to the request.
        let other = self.credentials.after(is_refused).await.ok().flatten();
        let Some(shown) = other.as_deref().and_then(shown_by) else { return Ok(answer) };
        again.headers_mut().insert(AUTHORIZATION, shown);
        self.connections.execute(again).await
    }
}
