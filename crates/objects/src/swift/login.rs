//! Who asks: the login of `TempAuth` (v1) and of Keystone (v2 and v3), and the token that comes of it.

mod catalogue;
mod password;
#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use ::http::header::CONTENT_TYPE;
use ::http::{HeaderName, HeaderValue, Method, StatusCode};
use jiff::Timestamp;
use tokio::time::Instant;

use super::Config;
use crate::credentials::{Lasting, Source};
use crate::requests::{Answer, Ask, Sender};
use crate::{Error, ErrorKind, Future};
use catalogue::Catalogue;

/// A token is renewed so long before it ends, or when a tenth of its life is left.
const MARGIN: Duration = Duration::from_mins(5);

/// What proves who asks, and where the store is.
#[derive(Clone, Debug)]
pub(super) struct Session {
    pub(super) token: HeaderValue,
    /// The URL of the account, without a slash at its end.
    pub(super) url: String,
    renewed: Option<Instant>,
}

impl Session {
    fn new(token: &str, url: &str, life: Option<Duration>) -> Option<Self> {
        let mut token = HeaderValue::from_str(token).ok()?;
        token.set_sensitive(true);
        let renewed = life.map(|life| Instant::now() + life - MARGIN.min(life / 10));
        Some(Self { token, url: url.trim_end_matches('/').to_owned(), renewed })
    }

    fn is_fresh(&self) -> bool {
        self.renewed.is_none_or(|at| Instant::now() < at)
    }
}

/// Logs in when it is needed.
#[derive(Debug)]
pub(super) struct Login(Lasting<LogIn>);

/// How it is done.
#[derive(Debug)]
struct LogIn {
    config: Config,
    version: Version,
    sender: Sender,
    session: Mutex<Option<Arc<Session>>>,
}

/// A way to log in.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Version {
    V1,
    V2,
    V3,
}

impl Version {
    fn of(config: &Config) -> Result<Self, Error> {
        let cause = match config.auth_version {
            1 => return Ok(Self::V1),
            2 => return Ok(Self::V2),
            3 => return Ok(Self::V3),
            0 => "the URL names none of /v1, /v2 and /v3: set authversion".to_owned(),
            other => format!("authversion is 1, 2 or 3, or 0 to see it in the URL, not {other}"),
        };
        let named = [("/v3", Self::V3), ("/v2", Self::V2), ("/v1", Self::V1)];
        let named = named.into_iter().find(|(name, _)| config.auth_url.contains(name));
        let named = named.filter(|_| config.auth_version == 0);
        named.map(|(_, version)| version).ok_or_else(|| {
            Error::new(ErrorKind::Other, format!("log in at {}", config.auth_url), cause)
        })
    }
}

impl Login {
    pub(super) fn new(config: &Config, sender: Sender) -> Result<Self, Error> {
        let version = Version::of(config)?;
        let session = Mutex::default();
        Ok(Self(Lasting::new(LogIn { config: config.clone(), version, sender, session })))
    }

    /// The session that there is, or a new one if it ends soon.
    pub(super) async fn session(&self) -> Result<Arc<Session>, Error> {
        self.0.get().await
    }

    /// Another session than the one that was refused; `None` if there is none.
    pub(super) async fn after(&self, refused: &Session) -> Result<Option<Arc<Session>>, Error> {
        self.0.after(|session| session.token == refused.token).await
    }
}

impl Source for LogIn {
    type Credentials = Session;

    fn credentials(self: Arc<Self>) -> Future<'static, Result<Arc<Session>, Error>> {
        Box::pin(async move {
            let fresh = self.known().clone().filter(|session| session.is_fresh());
            if let Some(session) = fresh {
                return Ok(session);
            }
            let session = Arc::new(self.log_in().await?);
            *self.known() = Some(Arc::clone(&session));
            Ok(session)
        })
    }

    fn forget(&self) {
        *self.known() = None;
    }
}

impl LogIn {
    fn known(&self) -> MutexGuard<'_, Option<Arc<Session>>> {
        self.session.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn context(&self) -> String {
        format!("log in at {}", self.config.auth_url)
    }

    async fn log_in(&self) -> Result<Session, Error> {
        match self.version {
            Version::V1 => self.log_in_v1().await,
            Version::V2 => self.log_in_v2().await,
            Version::V3 => self.log_in_v3().await,
        }
    }

    /// <https://docs.openstack.org/swift/latest/overview_auth.html#tempauth>
    async fn log_in_v1(&self) -> Result<Session, Error> {
        let mut ask = Ask::new(Method::GET, self.context(), "");
        let given = [("x-auth-user", &self.config.username), ("x-auth-key", &self.config.password)];
        for (name, value) in given {
            let value = HeaderValue::from_str(value);
            let mut value = value.map_err(|_| ask.failed(format!("{name} can not be sent")))?;
            value.set_sensitive(true);
            ask = ask.header(HeaderName::from_static(name), value);
        }
        let answer = self.send(&ask, "").await?;
        let header = |name| answer.header(&HeaderName::from_static(name));
        let life = header("x-auth-token-expires").and_then(|seconds| seconds.parse().ok());
        let session = header("x-auth-token").zip(header("x-storage-url"));
        let session = session
            .and_then(|(token, url)| Session::new(token, url, life.map(Duration::from_secs)));
        session.ok_or_else(|| ask.failed("the answer has no X-Auth-Token and X-Storage-Url"))
    }

    /// <https://docs.openstack.org/api-ref/identity/v2/#authenticate>
    async fn log_in_v2(&self) -> Result<Session, Error> {
        let ask = self.post(&password::V2::of(&self.config));
        let answer = self.send(&ask, "/tokens").await?;
        let answer: catalogue::V2 = self.understood(&ask, &answer)?;
        let token = answer.access.token;
        let url = Catalogue::from(answer.access.service_catalog).url(&self.config);
        let url = url.map_err(|cause| ask.failed(cause))?;
        let session = Session::new(&token.id, &url, token.life.span());
        session.ok_or_else(|| ask.failed("the token can not be sent"))
    }

    /// <https://docs.openstack.org/api-ref/identity/v3/#password-authentication-with-scoped-authorization>
    async fn log_in_v3(&self) -> Result<Session, Error> {
        let ask = self.post(&password::V3::of(&self.config));
        let answer = self.send(&ask, "/auth/tokens").await?;
        let token = answer.header(&HeaderName::from_static("x-subject-token"));
        let token = token.ok_or_else(|| ask.failed("the answer has no X-Subject-Token"))?;
        let said: catalogue::V3 = self.understood(&ask, &answer)?;
        let url = Catalogue::from(said.token.catalog).url(&self.config);
        let url = url.map_err(|cause| ask.failed(cause))?;
        let session = Session::new(token, &url, said.token.life.span());
        session.ok_or_else(|| ask.failed("the token can not be sent"))
    }

    fn post(&self, body: &impl serde::Serialize) -> Ask {
        let body = serde_json::to_vec(body).unwrap_or_default();
        Ask::new(Method::POST, self.context(), "")
            .header(CONTENT_TYPE, HeaderValue::from_static("application/json"))
            .content(vec![body.into()])
    }

    async fn send(&self, ask: &Ask, path: &str) -> Result<Answer, Error> {
        let url = format!("{}{path}", self.config.auth_url.trim_end_matches('/'));
        let answer = self.sender.send(ask, &|ask| ask.request(&url, "")).await?;
        match answer.status {
            status if status.is_success() => Ok(answer),
            // There is no object here that could be missing.
            StatusCode::NOT_FOUND => Err(ask.failed(format!("{url} is not there (404)"))),
            _ => Err(ask.refused(&answer)),
        }
    }

    /// The answer is not shown: it may have the token in it.
    fn understood<T: serde::de::DeserializeOwned>(
        &self,
        ask: &Ask,
        answer: &Answer,
    ) -> Result<T, Error> {
        serde_json::from_slice(&answer.content).map_err(|error| {
            ask.failed(format!("the answer is not that of {:?}: {error}", self.version))
        })
    }
}

/// From when to when a token is good.
#[derive(Debug, serde::Deserialize)]
struct Life {
    #[serde(alias = "expires")]
    expires_at: Option<String>,
    issued_at: Option<String>,
}

impl Life {
    /// By the clock of the server, if it says when the token was made.
    fn span(&self) -> Option<Duration> {
        let ends = super::time(self.expires_at.as_deref()?)?;
        let began = self.issued_at.as_deref().and_then(super::time);
        let began = began.or_else(|| Timestamp::try_from(SystemTime::now()).ok())?;
        Some(Duration::try_from(ends.duration_since(began)).unwrap_or_default())
    }
}
