//! URLs that anybody may use for a while (`TempURL`).

use ::http::header::HeaderName;
use ::http::{HeaderValue, Method, StatusCode, Uri};
use aws_lc_rs::hmac;
use data_encoding::HEXLOWER;
use percent_encoding::percent_decode_str;
use serde::Deserialize;

use super::Config;
use super::container::{Container, Place};
use crate::Error;
use crate::requests::Ask;

/// The first version whose containers have keys of their own.
const CONTAINER_KEYS: (u32, u32) = (2, 3);

/// How URLs are signed.
pub(super) struct Signing {
    key: hmac::Key,
    /// What goes before a signature.
    who: String,
    methods: Vec<String>,
}

impl std::fmt::Debug for Signing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Signing").field("methods", &self.methods).finish_non_exhaustive()
    }
}

/// What a store says that it can do.
#[derive(Default, Deserialize)]
struct Abilities {
    swift: Option<Version>,
    tempurl: Option<TempUrl>,
}

#[derive(Deserialize)]
struct Version {
    version: Option<String>,
}

#[derive(Deserialize)]
struct TempUrl {
    #[serde(default)]
    methods: Vec<String>,
    #[serde(default)]
    allowed_digests: Vec<String>,
}

impl Signing {
    /// Finds out whether and how URLs can be signed, and tells the store the key if it has another.
    pub(super) async fn find(
        config: &Config,
        container: &Container,
    ) -> Result<Option<Self>, Error> {
        let (has_container_keys, abilities) = match abilities(container).await? {
            Some(Abilities { tempurl: None, .. }) => return Ok(None),
            Some(Abilities { swift, tempurl: Some(abilities) }) => {
                let version = swift.and_then(|swift| parse_version(&swift.version?));
                (version.is_some_and(|version| version >= CONTAINER_KEYS), abilities)
            }
            None => {
                let methods = config.temp_url_methods.clone();
                let abilities = TempUrl { methods, allowed_digests: Vec::new() };
                (config.temp_url_container_key, abilities)
            }
        };
        let TempUrl { methods, allowed_digests } = abilities;
        if methods.is_empty() {
            return Ok(None);
        }
        let place = if has_container_keys { Place::Container } else { Place::Account };
        let Some(secret) = agreed_key(container, place, config.secret_key.as_deref()).await? else {
            return Ok(None);
        };
        // Stores that name no digests know SHA-1 only.
        let algorithm = if allowed_digests.iter().any(|name| name == "sha256") {
            hmac::HMAC_SHA256
        } else {
            hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY
        };
        let who = config.access_key.as_ref().map(|access_key| {
            let tenant = config.tenant_id.as_deref().unwrap_or_default();
            format!("{tenant}:{access_key}:")
        });
        let key = hmac::Key::new(algorithm, secret.as_bytes());
        Ok(Some(Self { key, who: who.unwrap_or_default(), methods }))
    }

    /// The URL with a signature that is good until `ends`, in seconds since 1970.
    pub(super) fn url(&self, method: &Method, url: &str, ends: i64) -> Option<String> {
        if !self.methods.iter().any(|known| known == method.as_str()) {
            return None;
        }
        let uri = url.parse::<Uri>().ok()?;
        let path = percent_decode_str(uri.path()).decode_utf8().ok()?;
        let signature = hmac::sign(&self.key, format!("{method}\n{ends}\n{path}").as_bytes());
        let signature = HEXLOWER.encode(signature.as_ref());
        Some(format!("{url}?temp_url_sig={}{signature}&temp_url_expires={ends}", self.who))
    }
}

/// What the store says, if it says anything.
async fn abilities(container: &Container) -> Result<Option<Abilities>, Error> {
    let ask = Ask::new(Method::GET, "ask what the store can do".to_owned(), "");
    let answer = container.send_to(Place::Store, &ask).await?;
    let answer = Some(answer).filter(|answer| answer.status == StatusCode::OK);
    Ok(answer.and_then(|answer| serde_json::from_slice(&answer.content).ok()))
}

/// The key that the store knows: that which is wanted, or that which it knew before.
async fn agreed_key(
    container: &Container,
    place: Place,
    wanted: Option<&str>,
) -> Result<Option<String>, Error> {
    let header = HeaderName::from_static(match place {
        Place::Container => "x-container-meta-temp-url-key",
        Place::Account | Place::Store => "x-account-meta-temp-url-key",
    });
    let ask = |method| Ask::new(method, "agree on the key of signed URLs".to_owned(), "");
    let head = ask(Method::HEAD);
    let answer = container.send_to(place, &head).await?;
    if !answer.status.is_success() {
        return Err(head.refused(&answer));
    }
    let known = answer.header(&header).map(str::to_owned);
    let Some(wanted) = wanted.filter(|wanted| known.as_deref() != Some(*wanted)) else {
        return Ok(known);
    };
    let value = HeaderValue::from_str(wanted);
    let value = value.map_err(|_| head.failed("the secretkey can not be sent"))?;
    let post = ask(Method::POST).header(header, value);
    let answer = container.send_to(place, &post).await?;
    if answer.status.is_success() {
        return Ok(Some(wanted.to_owned()));
    }
    tracing::warn!(error = %post.refused(&answer), "no URLs are signed");
    Ok(None)
}

fn parse_version(text: &str) -> Option<(u32, u32)> {
    let mut numbers = text.split('.').map(|number| number.parse().ok());
    Some((numbers.next()??, numbers.next()??))
}
