//! The one question that the rest of the registry asks: may this request do that?

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::caller::Caller;
use crate::credentials::{Basic, Credentials};
use crate::htpasswd::{Htpasswd, Postponed};
use crate::own_token::{self, Bearer, OwnTokens};
use crate::rules::Rules;
use crate::scope::{Scope, joined};
use crate::seal::Seal;
use crate::silly::{self, Silly};
use crate::token::{Granted, Origin, Token};
use crate::{Error, challenge};

/// Where clients get tokens from this registry, where it gives any.
pub const TOKEN_PATH: &str = "/v2/token";

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
    /// Where both strangers and users are welcome.
    tokens: Option<OwnTokens>,
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
    /// The host that the client asked, with its port.
    pub host: Option<&'a str>,
    /// The scheme that the client used, if a proxy says which.
    pub forwarded_proto: Option<&'a str>,
    /// What comes before the path in the URLs of this registry, as the client knows them; needed
    /// where [`Access::issues_tokens`].
    pub base_url: Option<&'a str>,
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

impl Problem {
    /// As a challenge of `Bearer` calls it.
    pub(crate) fn error(self) -> Option<&'static str> {
        match self {
            Self::Missing => None,
            Self::Invalid => Some("invalid_token"),
            Self::Insufficient => Some("insufficient_scope"),
        }
    }
}

/// A token that this registry has issued.
#[derive(Clone, Debug)]
pub struct Issued {
    /// For the header `Authorization: Bearer`.
    pub token: String,
    /// How long it is good.
    pub lifetime: Duration,
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
        let shared = Shared { backend: Backend::None, rules: None, seal: None, tokens: None };
        Self { shared: Arc::new(shared) }
    }

    /// Clients say who they are to `backend`. With `rules` only what they allow is allowed;
    /// without them the back end decides alone. `secret` (`http.secret`) must be the same on
    /// servers that stand for each other.
    pub fn new(
        backend: impl Into<Backend>,
        rules: Option<Rules>,
        secret: &[u8],
    ) -> Result<Self, Error> {
        let backend = backend.into();
        let seal = rules.as_ref().map(|_| Seal::new(secret, "place in a list")).transpose()?;
        let tokens = match (&backend, &rules) {
            (Backend::Htpasswd(_), Some(rules)) if rules.allow_strangers() => {
                Some(OwnTokens::new(secret)?)
            }
            _ => None,
        };
        Ok(Self { shared: Arc::new(Shared { backend, rules, seal, tokens }) })
    }

    pub(crate) fn rules(&self) -> Option<&Rules> {
        self.shared.rules.as_ref()
    }

    /// What hides places in lists.
    pub(crate) fn places(&self) -> Option<&Seal> {
        self.shared.seal.as_ref()
    }

    /// Whether nobody is ever refused.
    pub fn is_open(&self) -> bool {
        matches!(self.shared.backend, Backend::None) && self.shared.rules.is_none()
    }

    /// Whoever asks, where nobody is ever refused.
    pub fn anybody(&self) -> Option<Caller> {
        let caller = || Caller { user: None, granted: None, access: Some(self.clone()) };
        self.is_open().then(caller)
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
            return Err(if caller.user.is_some() {
                Refusal::Denied { user: caller.user }
            } else if is_known {
                refuse(Problem::Insufficient)
            } else {
                refuse(Problem::Missing)
            });
        }
        Ok(caller)
    }

    /// Whether clients get tokens here, at [`TOKEN_PATH`].
    pub fn issues_tokens(&self) -> bool {
        self.shared.tokens.is_some()
    }

    /// A token for whoever asks, with a password or without; `None` if there are none here.
    pub async fn issue_token(&self, request: &Request<'_>) -> Result<Option<Issued>, Refusal> {
        let (Some(tokens), Backend::Htpasswd(htpasswd)) =
            (&self.shared.tokens, &self.shared.backend)
        else {
            return Ok(None);
        };
        let wrong = || Refusal::Unauthenticated {
            challenge: htpasswd.challenge(),
            problem: Problem::Invalid,
            user: None,
        };
        let bearer = match Credentials::parse(request.authorization) {
            Credentials::None => Bearer::Nobody,
            Credentials::Basic(basic) => {
                let user = check_password(htpasswd, &basic, request.address).await?;
                let user = user.ok_or_else(wrong)?;
                let fingerprint = htpasswd.fingerprint(&user).ok_or_else(wrong)?;
                Bearer::User { name: user.to_string(), fingerprint }
            }
            Credentials::Bearer(_) | Credentials::Other => return Err(wrong()),
        };
        let token = tokens.issue(&bearer, SystemTime::now()).ok_or_else(wrong)?;
        Ok(Some(Issued { token, lifetime: own_token::LIFETIME }))
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
                match check_password(htpasswd, &basic, request.address).await? {
                    Some(user) => known(Some(user)),
                    None => wrong(),
                }
            }
            (Backend::Htpasswd(htpasswd), Credentials::Bearer(text)) => {
                match self.bearer(htpasswd, text) {
                    Some(identity) => Ok(Some(identity)),
                    None => wrong(),
                }
            }
            (Backend::Token(token), Credentials::Bearer(text)) => match token.granted(text).await {
                Some(granted) => {
                    Ok(Some(Identity { user: granted.user.clone(), granted: Some(granted) }))
                }
                None => wrong(),
            },
            // registry:2 takes credentials of another kind for none.
            (Backend::Token(_), _) => Err(self.refuse(request, Problem::Missing, None)),
            _ => wrong(),
        }
    }

    /// Whom a token that this registry has issued is for: a user, or nobody in particular.
    fn bearer(&self, htpasswd: &Htpasswd, token: &str) -> Option<Identity> {
        match self.shared.tokens.as_ref()?.read(token, SystemTime::now())? {
            Bearer::Nobody => Some(Identity { user: None, granted: None }),
            Bearer::User { name, fingerprint } => {
                let is_current = htpasswd.fingerprint(&name)? == fingerprint;
                is_current.then(|| Identity { user: Some(name.into()), granted: None })
            }
        }
    }

    fn refuse(&self, request: &Request<'_>, problem: Problem, user: Option<Arc<str>>) -> Refusal {
        let challenge = match &self.shared.backend {
            Backend::None => return Refusal::Denied { user },
            Backend::Silly(silly) => silly.challenge(request.wanted),
            Backend::Htpasswd(htpasswd) => match (&self.shared.tokens, request.base_url) {
                (Some(_), Some(base)) => {
                    let realm = format!("{base}{TOKEN_PATH}");
                    let scope = joined(request.wanted);
                    challenge::bearer(&realm, htpasswd.realm(), &scope, problem.error())
                }
                _ => htpasswd.challenge(),
            },
            Backend::Token(token) => {
                let Request { host, forwarded_proto, .. } = *request;
                token.challenge(request.wanted, problem, Origin { host, forwarded_proto })
            }
        };
        Refusal::Unauthenticated { challenge, problem, user }
    }
}

async fn check_password(
    htpasswd: &Htpasswd,
    basic: &Basic,
    address: IpAddr,
) -> Result<Option<Arc<str>>, Refusal> {
    match htpasswd.check(basic, address).await {
        Ok(None) => {
            let user = basic.user.chars().take(100).collect::<String>();
            tracing::info!(user, %address, "wrong password");
            Ok(None)
        }
        Ok(user) => Ok(user),
        Err(Postponed::Throttled(retry_after)) => Err(Refusal::Throttled { retry_after }),
        Err(Postponed::Busy(retry_after)) => Err(Refusal::Busy { retry_after }),
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
