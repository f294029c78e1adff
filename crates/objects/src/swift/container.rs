//! A container: what is asked of it in the name of who has logged in.

use ::http::header::ACCEPT;
use ::http::{HeaderName, HeaderValue, Method, StatusCode};
use serde::Deserialize;
use tokio::sync::OnceCell;

use super::Config;
use super::login::{Login, Session};
use crate::Error;
use crate::requests::{Answer, Ask, Sender, in_path, in_query, query};

/// How many names a page of a listing has.
const PAGE: usize = 1000;

pub(super) const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// A container of the account that the login leads to.
#[derive(Debug)]
pub(super) struct Container {
    name: String,
    login: Login,
    sender: Sender,
    is_there: OnceCell<()>,
}

/// What something is asked of.
#[derive(Clone, Copy, Debug)]
pub(super) enum Place {
    /// The container, or an object in it.
    Container,
    /// The account that has the container.
    Account,
    /// What the store says of itself.
    Store,
}

/// A page of a listing.
pub(super) struct Listed {
    pub(super) entries: Vec<Entry>,
    pub(super) next: Option<String>,
}

/// What a listing has.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum Entry {
    /// What was summed up, with a slash at its end.
    Folder {
        subdir: String,
    },
    Object {
        name: String,
        bytes: u64,
        last_modified: String,
    },
}

impl Entry {
    fn name(&self) -> &str {
        match self {
            Self::Folder { subdir } => subdir,
            Self::Object { name, .. } => name,
        }
    }
}

impl Container {
    pub(super) fn new(config: &Config, sender: Sender) -> Result<Self, Error> {
        let login = Login::new(config, sender.clone())?;
        Ok(Self { name: config.container.clone(), login, sender, is_there: OnceCell::new() })
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Where an object is, for anybody.
    pub(super) async fn public_url(&self, key: &str) -> Result<String, Error> {
        let session = self.login.session().await?;
        Ok(self.url(&session, Place::Container, key))
    }

    fn url(&self, session: &Session, place: Place, key: &str) -> String {
        let account = &session.url;
        let parent = |url: &str| url.rsplit_once('/').map(|(parent, _)| parent.to_owned());
        match place {
            Place::Container if key.is_empty() => format!("{account}/{}", in_query(&self.name)),
            Place::Container => format!("{account}/{}/{}", in_query(&self.name), in_path(key)),
            Place::Account => account.clone(),
            // Beside the folder of the accounts, which is that of a version.
            Place::Store => {
                let root = parent(account).and_then(|version| parent(&version));
                format!("{}/info", root.unwrap_or_default())
            }
        }
    }

    /// Asks for something in the container, which is made if it is not there.
    pub(super) async fn send(&self, ask: &Ask) -> Result<Answer, Error> {
        self.is_there.get_or_try_init(|| self.ensure()).await?;
        self.send_there(ask).await
    }

    /// Asks for something that must succeed.
    pub(super) async fn done(&self, ask: &Ask) -> Result<Answer, Error> {
        let answer = self.send(ask).await?;
        if answer.status.is_success() { Ok(answer) } else { Err(ask.refused(&answer)) }
    }

    /// Asks for something that must succeed, unless there is nothing.
    pub(super) async fn removed(&self, ask: &Ask) -> Result<(), Error> {
        let answer = self.send(ask).await?;
        let is_gone = answer.status.is_success() || answer.status == StatusCode::NOT_FOUND;
        if is_gone { Ok(()) } else { Err(ask.refused(&answer)) }
    }

    /// What the store says about an object, if it is there.
    pub(super) async fn head(&self, ask: &Ask) -> Result<Option<Answer>, Error> {
        let answer = self.send(ask).await?;
        match answer.status {
            StatusCode::NOT_FOUND => Ok(None),
            status if status.is_success() => Ok(Some(answer)),
            _ => Err(ask.refused(&answer)),
        }
    }

    /// The objects whose names begin with `prefix`, after those of the page before.
    pub(super) async fn list(
        &self,
        prefix: &str,
        folders: bool,
        page: Option<String>,
    ) -> Result<Listed, Error> {
        let mut ask = Ask::new(Method::GET, format!("list objects below {prefix}"), "")
            .header(ACCEPT, JSON)
            .query("format", "json")
            .query("limit", PAGE.to_string())
            .query("prefix", prefix);
        if folders {
            ask = ask.query("delimiter", "/");
        }
        if let Some(last) = page {
            ask = ask.query("marker", last);
        }
        let answer = self.done(&ask).await?;
        if answer.status == StatusCode::NO_CONTENT {
            return Ok(Listed { entries: Vec::new(), next: None });
        }
        let entries = serde_json::from_slice::<Vec<Entry>>(&answer.content);
        let entries = entries.map_err(|error| ask.failed(format!("not understood: {error}")))?;
        let next = entries.last().filter(|_| entries.len() >= PAGE);
        let next = next.map(|entry| entry.name().to_owned());
        Ok(Listed { entries, next })
    }

    /// All names that begin with `prefix`.
    pub(super) async fn list_all(&self, prefix: &str) -> Result<Vec<Entry>, Error> {
        let mut all = Vec::new();
        let mut page = None;
        loop {
            let listed = self.list(prefix, false, page).await?;
            all.extend(listed.entries);
            page = listed.next;
            if page.is_none() {
                return Ok(all);
            }
        }
    }

    async fn ensure(&self) -> Result<(), Error> {
        let ask = |method| Ask::new(method, format!("use the container {}", self.name), "");
        let head = ask(Method::HEAD);
        let answer = self.send_there(&head).await?;
        match answer.status {
            status if status.is_success() => return Ok(()),
            StatusCode::NOT_FOUND => tracing::info!(container = self.name, "made"),
            _ => return Err(head.refused(&answer)),
        }
        let put = ask(Method::PUT);
        let answer = self.send_there(&put).await?;
        if answer.status.is_success() { Ok(()) } else { Err(put.refused(&answer)) }
    }

    async fn send_there(&self, ask: &Ask) -> Result<Answer, Error> {
        self.send_to(Place::Container, ask).await
    }

    /// Asks for something, and once more if the token is refused.
    pub(super) async fn send_to(&self, place: Place, ask: &Ask) -> Result<Answer, Error> {
        let session = self.login.session().await?;
        let answer = self.send_as(&session, place, ask).await?;
        if answer.status != StatusCode::UNAUTHORIZED {
            return Ok(answer);
        }
        match self.login.after(&session).await? {
            Some(session) => self.send_as(&session, place, ask).await,
            None => Ok(answer),
        }
    }

    async fn send_as(&self, session: &Session, place: Place, ask: &Ask) -> Result<Answer, Error> {
        let url = self.url(session, place, &ask.key);
        let query = query(ask.query.iter().map(|(name, value)| (*name, value.as_str())));
        let sign = |ask: &Ask| {
            let mut request = ask.request(&url, &query)?;
            let name = HeaderName::from_static("x-auth-token");
            request.headers_mut().insert(name, session.token.clone());
            Ok(request)
        };
        self.sender.send(ask, &sign).await
    }
}
