//! The one question that the rest of the registry asks: may this request do that?

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use oci::RepositoryName;

use crate::Error;
use crate::credentials::Credentials;
use crate::htpasswd::{Htpasswd, Postponed};
use crate::rules::{Next, Rules};
use crate::scope::{Action, Scope};
use crate::seal::Seal;
use crate::silly::{self, Silly};
use crate::token::{Granted, Origin, Token};

/// Decides who may do what. Clones share everything.
#[derive(Clone)]
pub struct Access {
    shared: Arc<Shared>,
}

struct Shared {
    backend: Backend,
    rules: Option<Rules>,
    /// Without rules nothing is hidden.
    seal: Option<Seal>,
}

/// How clients say who they are.
pub enum Backend {
    /// Not at all.
    None,
    /// With anything.
    Silly(Silly),
    /// With a name and a password.
    Htpasswd(Box<Htpasswd>),
    /// With a token of another server.
    Token(Box<Token>),
}

/// What there is to know about a request to decide about it.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The value of the header `Authorization`.
    pub authorization: Option<&'a [u8]>,
    /// Where it comes from.
    pub address: IpAddr,
    /// The value of the header `Host`.
    pub host: Option<&'a str>,
    /// The value of the header `X-Forwarded-Proto`.
    pub forwarded_proto: Option<&'a str>,
    /// What it wants. Nothing: to be known is enough.
    pub wanted: &'a [Scope],
    /// How many of these, from the first, rules must allow. The others it can do without, and
    /// whoever serves the request asks [`Caller::may_pull`] about them.
    pub needed: usize,
}

/// What is wrong with what a request says about its sender.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Problem {
    /// It says nothing.
    Missing,
    /// A wrong password, or a token that is none of ours or too old.
    Invalid,
    /// A good token, but not for this.
    Insufficient,
}

/// Why a request is refused.
#[derive(Clone, Debug)]
pub enum Refusal {
    /// Nobody knows who asks, or that is not enough: the client may try again with credentials.
    Unauthenticated {
        /// The value for `WWW-Authenticate`.
        challenge: String,
        /// What is missing.
        problem: Problem,
        /// Who asked, if that is known.
        user: Option<Arc<str>>,
    },
    /// It is known who asks, and he may not.
    Denied {
        /// Who asked.
        user: Option<Arc<str>>,
    },
    /// Too many wrong passwords came from there.
    Throttled {
        /// How long to wait.
        retry_after: Duration,
    },
    /// Too many passwords are being checked.
    Busy {
        /// How long to wait.
        retry_after: Duration,
    },
}

impl Refusal {
    /// A word for statistics.
    pub fn outcome(&self) -> &'static str {
        match self {
            Self::Unauthenticated { problem: Problem::Missing, .. } => "challenged",
            Self::Unauthenticated { problem: Problem::Invalid, .. } => "wrong",
            Self::Unauthenticated { .. } | Self::Denied { .. } => "denied",
            Self::Throttled { .. } => "throttled",
            Self::Busy { .. } => "busy",
        }
    }

    /// Who asked, if that is known.
    pub fn user(&self) -> Option<&str> {
        match self {
            Self::Unauthenticated { user, .. } | Self::Denied { user } => user.as_deref(),
            Self::Throttled { .. } | Self::Busy { .. } => None,
        }
    }
}

impl std::fmt::Debug for Access {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Access").finish_non_exhaustive()
    }
}

impl Access {
    /// Everybody may do everything that the protocol has.
    pub fn none() -> Self {
        let shared = Shared { backend: Backend::None, rules: None, seal: None };
        Self { shared: Arc::new(shared) }
    }

    /// Clients say who they are to `backend`. With `rules` only what they allow is allowed;
    /// without them the back end decides alone. `secret` (`http.secret`) must be the same on
    /// servers that stand for each other; if it is empty, a random one is made.
    pub fn new(
        backend: impl Into<Backend>,
        rules: Option<Rules>,
        secret: &[u8],
    ) -> Result<Self, Error> {
        let seal = rules.as_ref().map(|_| Seal::new(secret)).transpose()?;
        Ok(Self { shared: Arc::new(Shared { backend: backend.into(), rules, seal }) })
    }

    /// Whether nobody is ever refused.
    pub fn is_open(&self) -> bool {
        matches!(self.shared.backend, Backend::None) && self.shared.rules.is_none()
    }

    /// Lets a request in or refuses it.
    pub async fn admit(&self, request: &Request<'_>) -> Result<Caller, Refusal> {
        let (user, granted) = match self.identify(request).await? {
            Some(Identity { user, granted }) => (Some(user), granted),
            None => (None, None),
        };
        let is_known = user.is_some();
        let caller = Caller { user: user.flatten(), granted, access: Some(self.clone()) };
        let refuse = |problem| self.refuse(request, problem, caller.user.clone());
        // To be known is enough where nothing is wanted; rules never let in more than they say.
        if !is_known && request.wanted.is_empty() {
            return Err(refuse(Problem::Missing));
        }
        if caller
            .granted
            .as_ref()
            .is_some_and(|granted| !request.wanted.iter().all(|scope| granted.allows(scope)))
        {
            return Err(refuse(Problem::Insufficient));
        }
        if let Some(rules) = &self.shared.rules
            && !request
                .wanted
                .iter()
                .take(request.needed)
                .all(|scope| caller.is_allowed_by(rules, scope))
        {
            return Err(if is_known {
                Refusal::Denied { user: caller.user }
            } else {
                refuse(Problem::Missing)
            });
        }
        Ok(caller)
    }

    /// How often a password has been compared with a hash. Right ones are remembered, so this
    /// grows more slowly than requests do.
    pub fn passwords_compared(&self) -> u64 {
        match &self.shared.backend {
            Backend::Htpasswd(htpasswd) => htpasswd.compared(),
            _ => 0,
        }
    }

    /// Who asks; `None`: nobody in particular, which is not enough without rules.
    async fn identify(&self, request: &Request<'_>) -> Result<Option<Identity>, Refusal> {
        let credentials = Credentials::parse(request.authorization);
        let anonymous = || match self.shared.rules {
            Some(_) => Ok(None),
            None => Err(self.refuse(request, Problem::Missing, None)),
        };
        let wrong = || Err(self.refuse(request, Problem::Invalid, None));
        let known = |user| Ok(Some(Identity { user, granted: None }));
        match (&self.shared.backend, credentials) {
            (Backend::None, _) => known(None),
            (Backend::Silly(_), _)
                if request.authorization.is_some_and(|text| !text.is_empty()) =>
            {
                known(Some(silly::USER.into()))
            }
            (_, Credentials::None) => anonymous(),
            (Backend::Htpasswd(htpasswd), Credentials::Basic(basic)) => {
                match htpasswd.check(&basic, request.address).await {
                    Ok(Some(user)) => known(Some(user)),
                    Ok(None) => {
                        tracing::info!(user = basic.user, address = %request.address, "wrong password");
                        wrong()
                    }
                    Err(Postponed::Throttled(retry_after)) => {
                        Err(Refusal::Throttled { retry_after })
                    }
                    Err(Postponed::Busy(retry_after)) => Err(Refusal::Busy { retry_after }),
                }
            }
            (Backend::Token(token), Credentials::Bearer(text)) => match token.check(text).await {
                Some(granted) => {
                    let user = granted.user.clone();
                    Ok(Some(Identity { user, granted: Some(Arc::new(granted)) }))
                }
                None => wrong(),
            },
            // registry:2 takes credentials of another kind for none.
            (Backend::Token(_), _) => Err(self.refuse(request, Problem::Missing, None)),
            _ => wrong(),
        }
    }

    fn refuse(&self, request: &Request<'_>, problem: Problem, user: Option<Arc<str>>) -> Refusal {
        let challenge = match &self.shared.backend {
            Backend::None => return Refusal::Denied { user },
            Backend::Silly(silly) => silly.challenge(request.wanted),
            Backend::Htpasswd(htpasswd) => htpasswd.challenge(),
            Backend::Token(token) => {
                let Request { host, forwarded_proto, .. } = *request;
                token.challenge(request.wanted, problem, Origin { host, forwarded_proto })
            }
        };
        Refusal::Unauthenticated { challenge, problem, user }
    }
}

impl From<Htpasswd> for Backend {
    fn from(htpasswd: Htpasswd) -> Self {
        Self::Htpasswd(Box::new(htpasswd))
    }
}

impl From<Silly> for Backend {
    fn from(silly: Silly) -> Self {
        Self::Silly(silly)
    }
}

impl From<Token> for Backend {
    fn from(token: Token) -> Self {
        Self::Token(Box::new(token))
    }
}

/// Somebody whose credentials were right.
struct Identity {
    user: Option<Arc<str>>,
    granted: Option<Arc<Granted>>,
}

/// Somebody who was let in, and what else he may see.
#[derive(Clone)]
pub struct Caller {
    user: Option<Arc<str>>,
    granted: Option<Arc<Granted>>,
    /// `None`: there is nothing for him.
    access: Option<Access>,
}

impl Caller {
    /// Somebody who may not see or do anything.
    pub fn nobody() -> Self {
        Self { user: None, granted: None, access: None }
    }

    /// The user's name; `None`: nobody in particular.
    pub fn user(&self) -> Option<&str> {
        self.user.as_deref()
    }

    /// A word for statistics.
    pub fn outcome(&self) -> &'static str {
        match self {
            Self { access: None, .. } => "open",
            Self { user: None, granted: None, .. } => "anonymous",
            _ => "admitted",
        }
    }

    /// Whether he may pull from this repository, which he did not have to name.
    pub fn may_pull(&self, repository: &RepositoryName) -> bool {
        self.granted.as_ref().is_none_or(|granted| granted.allows_pull(repository))
            && self.may_see(repository)
    }

    /// Whether lists of repositories show him this one. Who may read the catalogue by the word of
    /// a token server may read all of it, as far as rules allow.
    pub fn may_see(&self, repository: &RepositoryName) -> bool {
        match &self.access {
            None => false,
            Some(access) => access
                .shared
                .rules
                .as_ref()
                .is_none_or(|rules| rules.allow(self.user(), Action::Pull, repository)),
        }
    }

    /// Whether lists of repositories show him all of them.
    pub fn sees_all(&self) -> bool {
        self.access.as_ref().is_some_and(|access| access.shared.rules.is_none())
    }

    /// Where, after `last`, the next repository can be that lists show him.
    pub fn next_seen(&self, last: &str) -> Next {
        match &self.access {
            None => Next::Nowhere,
            Some(access) => access
                .shared
                .rules
                .as_ref()
                .map_or(Next::Anywhere, |rules| rules.next_pull(self.user(), last)),
        }
    }

    /// Hides a name that he may not see, so that he can carry it: a place in a list.
    pub fn seal(&self, name: &str) -> Option<String> {
        self.access.as_ref()?.shared.seal.as_ref()?.seal(name)
    }

    /// What was hidden in `text`, if this or a server of the same secret has hidden it.
    pub fn unseal(&self, text: &str) -> Option<String> {
        self.access.as_ref()?.shared.seal.as_ref()?.unseal(text)
    }

    fn is_allowed_by(&self, rules: &Rules, scope: &Scope) -> bool {
        match scope {
            // What the catalogue shows is decided name by name.
            Scope::Catalog => self.user.is_some() || rules.allow_some_pull(None),
            Scope::Repository(name, action) => rules.allow(self.user(), *action, name),
        }
    }
}
