//! What Keystone is told.

use serde::Serialize;

use crate::swift::Config;

/// The domain of who names none, as every installation has it.
const DEFAULT_DOMAIN: &str = "Default";

#[derive(Serialize)]
pub(super) struct V2<'a> {
    auth: V2Auth<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct V2Auth<'a> {
    password_credentials: V2Password<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tenant_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tenant_name: Option<&'a str>,
}

#[derive(Serialize)]
struct V2Password<'a> {
    username: &'a str,
    password: &'a str,
}

impl<'a> V2<'a> {
    pub(super) fn of(config: &'a Config) -> Self {
        let Config { username, password, .. } = config;
        let tenant_id = config.tenant_id.as_deref();
        let tenant_name = config.tenant.as_deref().filter(|_| tenant_id.is_none());
        let password_credentials = V2Password { username, password };
        Self { auth: V2Auth { password_credentials, tenant_id, tenant_name } }
    }
}

#[derive(Serialize)]
pub(super) struct V3<'a> {
    auth: V3Auth<'a>,
}

#[derive(Serialize)]
struct V3Auth<'a> {
    identity: Identity<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    scope: Option<Scope<'a>>,
}

#[derive(Serialize)]
struct Identity<'a> {
    methods: [&'static str; 1],
    password: Password<'a>,
}

#[derive(Serialize)]
struct Password<'a> {
    user: User<'a>,
}

#[derive(Serialize)]
struct User<'a> {
    name: &'a str,
    domain: Named<'a>,
    password: &'a str,
}

#[derive(Serialize)]
enum Scope<'a> {
    #[serde(rename = "OS-TRUST:trust")]
    Trust(Named<'a>),
    #[serde(rename = "project")]
    Project(Project<'a>),
}

#[derive(Serialize)]
struct Project<'a> {
    #[serde(flatten)]
    named: Named<'a>,
    /// An id needs none.
    #[serde(skip_serializing_if = "Option::is_none")]
    domain: Option<Named<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "lowercase")]
enum Named<'a> {
    Name(&'a str),
    Id(&'a str),
}

impl<'a> Named<'a> {
    fn of(name: Option<&'a str>, id: Option<&'a str>) -> Option<Self> {
        name.map(Self::Name).or(id.map(Self::Id))
    }
}

impl<'a> V3<'a> {
    pub(super) fn of(config: &'a Config) -> Self {
        let users = || {
            let named = Named::of(config.domain.as_deref(), config.domain_id.as_deref());
            named.unwrap_or(Named::Name(DEFAULT_DOMAIN))
        };
        let project = || {
            if let Some(id) = config.tenant_id.as_deref() {
                return Some(Project { named: Named::Id(id), domain: None });
            }
            let domain =
                Named::of(config.tenant_domain.as_deref(), config.tenant_domain_id.as_deref());
            let named = Named::Name(config.tenant.as_deref()?);
            Some(Project { named, domain: Some(domain.unwrap_or_else(users)) })
        };
        let trust = config.trust_id.as_deref().map(|id| Scope::Trust(Named::Id(id)));
        let user = User { name: &config.username, domain: users(), password: &config.password };
        let identity = Identity { methods: ["password"], password: Password { user } };
        let scope = trust.or_else(|| project().map(Scope::Project));
        Self { auth: V3Auth { identity, scope } }
    }
}
