//! Where clients are sent for the bytes of a blob, if not served here: a cache or a file server
//! that reads the same store.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use cloudfront::Signer;
use http::Uri;
use http::uri::{Authority, Scheme};

/// The steps from a place in the store to a URL, in order. Without any, nobody is sent away.
#[derive(Clone, Debug, Default)]
pub struct Redirect {
    steps: Vec<Step>,
}

#[derive(Clone, Debug)]
enum Step {
    /// To where the store itself gives it.
    Store,
    To(Target),
    Signed(Signed),
    Rewrite(Rewrite),
}

/// A target that takes signed URLs only.
#[derive(Clone, Debug)]
struct Signed {
    target: Target,
    signer: Arc<Signer>,
    /// How long a URL is good.
    lifetime: Duration,
}

impl Signed {
    fn url(&self, place: &str) -> Option<Target> {
        let url = self.target.at(place).to_string();
        let signed = self.signer.sign(&url, SystemTime::now() + self.lifetime);
        // A key that was read has signed before.
        signed.ok().and_then(|url| Target::parse(&url))
    }
}

#[derive(Clone, Debug)]
struct Target {
    scheme: Scheme,
    authority: Authority,
    /// Without a slash at its end; with the query, if there is one.
    path: String,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { scheme, authority, path } = self;
        let slash = if path.starts_with('/') { "" } else { "/" };
        write!(f, "{scheme}://{authority}{slash}{path}")
    }
}

impl Target {
    /// Without the query.
    fn base(url: &str) -> Option<Self> {
        let url = url.parse::<Uri>().ok()?;
        let path = url.path().trim_end_matches('/').to_owned();
        let parts = url.into_parts();
        Some(Self { scheme: parts.scheme?, authority: parts.authority?, path })
    }

    /// What lies at this place below it.
    fn at(&self, place: &str) -> Self {
        Self { path: format!("{}{place}", self.path), ..self.clone() }
    }

    fn parse(url: &str) -> Option<Self> {
        let (scheme, rest) = url.split_once("://")?;
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let (scheme, authority) = (scheme.parse().ok()?, authority.parse().ok()?);
        Some(Self { scheme, authority, path: path.to_owned() })
    }
}

/// The parts of a URL that are changed.
#[derive(Clone, Debug, Default)]
pub struct Rewrite {
    /// Another scheme.
    pub scheme: Option<Scheme>,
    /// Another host, with or without a port.
    pub host: Option<Authority>,
    /// What is taken off the start of the path.
    pub trim_path_prefix: Option<String>,
}

impl Redirect {
    /// Sends clients to the store itself, if it can give them a URL.
    pub fn push_store(&mut self) {
        self.steps.push(Step::Store);
    }

    /// Sends clients to `base_url` with the place in the store behind it. False if that is no
    /// absolute URL.
    #[must_use]
    pub fn push_target(&mut self, base_url: &str) -> bool {
        let Some(target) = Target::base(base_url) else { return false };
        self.steps.push(Step::To(target));
        true
    }

    /// Sends clients to `CloudFront`: to `base_url` with the place in the store behind it, signed, for
    /// `lifetime`. False if that is no absolute URL.
    #[must_use]
    pub fn push_cloudfront(&mut self, base_url: &str, signer: Signer, lifetime: Duration) -> bool {
        let Some(target) = Target::base(base_url) else { return false };
        self.steps.push(Step::Signed(Signed { target, signer: Arc::new(signer), lifetime }));
        true
    }

    /// Changes the URL that the steps before have made. If they have made none, it does nothing.
    pub fn push_rewrite(&mut self, rewrite: Rewrite) {
        self.steps.push(Step::Rewrite(rewrite));
    }

    /// Whether the steps may make a URL.
    pub fn is_on(&self) -> bool {
        self.steps.iter().any(|step| matches!(step, Step::To(_) | Step::Signed(_) | Step::Store))
    }

    /// Whether a URL of the store is needed.
    pub(crate) fn asks_store(&self) -> bool {
        self.steps.iter().any(|step| matches!(step, Step::Store))
    }

    /// The URL for what lies at `place`, a path from the root of the store, and that the store gives
    /// at `from_store`, if there is one.
    pub(crate) fn url(&self, place: &str, from_store: Option<&str>) -> Option<String> {
        let mut url: Option<Target> = None;
        for step in &self.steps {
            match (step, &mut url) {
                (Step::Store, url) => *url = from_store.and_then(Target::parse),
                (Step::To(target), url) => *url = Some(target.at(place)),
                (Step::Signed(signed), url) => *url = signed.url(place),
                (Step::Rewrite(rewrite), Some(url)) => rewrite.apply(url),
                (Step::Rewrite(_), None) => {}
            }
        }
        url.map(|url| url.to_string())
    }
}

impl Rewrite {
    fn apply(&self, url: &mut Target) {
        if let Some(scheme) = &self.scheme {
            url.scheme = scheme.clone();
        }
        if let Some(host) = &self.host {
            url.authority = host.clone();
        }
        let prefix = self.trim_path_prefix.as_deref().unwrap_or_default();
        if let Some(rest) = url.path.strip_prefix(prefix) {
            url.path = rest.to_owned();
        }
    }
}

#[cfg(test)]
mod tests {
    use cloudfront::PrivateKey;

    use super::*;

    fn to(base_url: &str) -> Redirect {
        let mut redirect = Redirect::default();
        assert!(redirect.push_target(base_url), "{base_url}");
        redirect
    }

    #[test]
    fn the_place_is_put_behind_the_base() {
        for (base, expected) in [
            ("https://cdn.example", "https://cdn.example/blobs/x"),
            ("https://cdn.example/", "https://cdn.example/blobs/x"),
            ("http://cdn.example:81/a/b/?c=d", "http://cdn.example:81/a/b/blobs/x"),
        ] {
            assert_eq!(to(base).url("/blobs/x", None).as_deref(), Some(expected));
        }
        for base in ["", "/a", "cdn.example", "https://"] {
            assert!(!Redirect::default().push_target(base), "{base}");
        }
    }

    #[test]
    fn a_rewrite_changes_the_url_before_it() {
        let rewrite = || Rewrite {
            scheme: Some(Scheme::HTTPS),
            host: Some(Authority::from_static("cdn.example:8443")),
            trim_path_prefix: Some("/a/".to_owned()),
        };
        let mut redirect = to("http://inside:80/a");
        redirect.push_rewrite(rewrite());
        let url = redirect.url("/blobs/x", None);
        assert_eq!(url.as_deref(), Some("https://cdn.example:8443/blobs/x"));
        assert_eq!(to("http://inside").url("/x", None).as_deref(), Some("http://inside/x"));

        let mut alone = Redirect::default();
        alone.push_rewrite(rewrite());
        assert!(!alone.is_on() && alone.url("/blobs/x", None).is_none());
        assert!(alone.push_target("http://late.example"));
        assert_eq!(alone.url("/x", None).as_deref(), Some("http://late.example/x"));
    }

    #[test]
    fn cloudfront_is_given_signed_urls() {
        let pem = include_bytes!("../../cloudfront/tests/key.pem");
        let signer = Signer::new(PrivateKey::from_pem(pem).unwrap(), "K1".to_owned());
        let mut redirect = Redirect::default();
        redirect.push_store();
        let lifetime = Duration::from_mins(20);
        assert!(redirect.push_cloudfront("https://cdn.example/team/", signer, lifetime));
        assert!(redirect.is_on());
        let url = redirect.url("/blobs/x", Some("http://store/bucket/blobs/x?signed")).unwrap();
        let (start, rest) = url.split_once("?Expires=").unwrap();
        assert_eq!(start, "https://cdn.example/team/blobs/x");
        let (end, rest) = rest.split_once("&Signature=").unwrap();
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
        let left = end.parse::<u64>().unwrap() - now;
        assert!((1195..=1200).contains(&left), "{left}");
        // What the signature must be, the crate that makes it tests.
        assert!(rest.len() > 300 && rest.ends_with("&Key-Pair-Id=K1"), "{rest}");
    }

    #[test]
    fn a_store_may_have_urls() {
        let mut redirect = Redirect::default();
        redirect.push_store();
        assert!(redirect.is_on() && redirect.asks_store());
        let signed = "http://store:8333/bucket/orlop/blobs/x?X-Amz-Signature=a%2Fb";
        assert_eq!(redirect.url("/orlop/blobs/x", Some(signed)).as_deref(), Some(signed));
        assert_eq!(redirect.url("/orlop/blobs/x", None), None);
        redirect.push_rewrite(Rewrite {
            scheme: Some(Scheme::HTTPS),
            host: Some(Authority::from_static("outside")),
            trim_path_prefix: Some("/bucket".to_owned()),
        });
        let url = redirect.url("/orlop/blobs/x", Some(signed));
        assert_eq!(url.as_deref(), Some("https://outside/orlop/blobs/x?X-Amz-Signature=a%2Fb"));
    }
}
