//! Where clients are sent for the bytes of a blob, if not served here: a cache or a file server
//! that reads the same store.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use cloudfront::{Networks, Signer};
use http::Uri;
use http::uri::{Authority, Scheme};
use tokio::sync::watch;

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
    /// Whom the steps before have a better URL for; nobody without it.
    passed_by: Option<watch::Receiver<Networks>>,
}

impl Signed {
    fn is_for(&self, client: IpAddr) -> bool {
        !self.passed_by.as_ref().is_some_and(|networks| networks.borrow().contain(client))
    }

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
    /// `lifetime`. For those in the networks of `passed_by` the URL stays as the steps before have
    /// made it. False if `base_url` is no absolute URL.
    #[must_use]
    pub fn push_cloudfront(
        &mut self,
        base_url: &str,
        signer: Signer,
        lifetime: Duration,
        passed_by: Option<watch::Receiver<Networks>>,
    ) -> bool {
        let Some(target) = Target::base(base_url) else { return false };
        let signer = Arc::new(signer);
        self.steps.push(Step::Signed(Signed { target, signer, lifetime, passed_by }));
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

    /// The URL for `client`, of what lies at `place`, a path from the root of the store, and that the
    /// store gives at `from_store`, if there is one.
    pub(crate) fn url(
        &self,
        client: IpAddr,
        place: &str,
        from_store: Option<&str>,
    ) -> Option<String> {
        let mut url: Option<Target> = None;
        for step in &self.steps {
            match (step, &mut url) {
                (Step::Store, url) => *url = from_store.and_then(Target::parse),
                (Step::To(target), url) => *url = Some(target.at(place)),
                (Step::Signed(signed), url) if signed.is_for(client) => *url = signed.url(place),
                (Step::Rewrite(rewrite), Some(url)) => rewrite.apply(url),
                (Step::Signed(_), _) | (Step::Rewrite(_), None) => {}
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
    use std::net::Ipv4Addr;

    use cloudfront::PrivateKey;

    use super::*;

    const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7));

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
            assert_eq!(to(base).url(CLIENT, "/blobs/x", None).as_deref(), Some(expected));
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
        let url = redirect.url(CLIENT, "/blobs/x", None);
        assert_eq!(url.as_deref(), Some("https://cdn.example:8443/blobs/x"));
        assert_eq!(to("http://inside").url(CLIENT, "/x", None).as_deref(), Some("http://inside/x"));

        let mut alone = Redirect::default();
        alone.push_rewrite(rewrite());
        assert!(!alone.is_on() && alone.url(CLIENT, "/blobs/x", None).is_none());
        assert!(alone.push_target("http://late.example"));
        assert_eq!(alone.url(CLIENT, "/x", None).as_deref(), Some("http://late.example/x"));
    }

    fn to_cloudfront(passed_by: Option<watch::Receiver<Networks>>) -> Redirect {
        let pem = include_bytes!("../../cloudfront/tests/key.pem");
        let signer = Signer::new(PrivateKey::from_pem(pem).unwrap(), "K1".to_owned());
        let mut redirect = Redirect::default();
        redirect.push_store();
        let (base, lifetime) = ("https://cdn.example/team/", Duration::from_mins(20));
        assert!(redirect.push_cloudfront(base, signer, lifetime, passed_by));
        redirect
    }

    #[test]
    fn cloudfront_is_given_signed_urls() {
        let redirect = to_cloudfront(None);
        assert!(redirect.is_on());
        let url =
            redirect.url(CLIENT, "/blobs/x", Some("http://store/bucket/blobs/x?signed")).unwrap();
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
    fn amazons_own_networks_are_given_what_was_there_before() {
        let (networks, known) = watch::channel(Networks::default());
        let redirect = to_cloudfront(Some(known));
        let from_store = "http://store/bucket/blobs/x?signed";
        let url = |client| redirect.url(client, "/blobs/x", Some(from_store)).unwrap();
        assert!(url(CLIENT).starts_with("https://cdn.example/"));
        let list = br#"{"prefixes": [{"ip_prefix": "192.0.2.0/24", "region": "us-east-1"}]}"#;
        networks.send_replace(Networks::parse(list, &[]).unwrap());
        assert_eq!(url(CLIENT), from_store);
        assert!(url(Ipv4Addr::LOCALHOST.into()).starts_with("https://cdn.example/"));
        // What is served here then is not sent away.
        assert_eq!(redirect.url(CLIENT, "/blobs/x", None), None);
    }

    #[test]
    fn a_store_may_have_urls() {
        let mut redirect = Redirect::default();
        redirect.push_store();
        assert!(redirect.is_on() && redirect.asks_store());
        let signed = "http://store:8333/bucket/orlop/blobs/x?X-Amz-Signature=a%2Fb";
        assert_eq!(redirect.url(CLIENT, "/orlop/blobs/x", Some(signed)).as_deref(), Some(signed));
        assert_eq!(redirect.url(CLIENT, "/orlop/blobs/x", None), None);
        redirect.push_rewrite(Rewrite {
            scheme: Some(Scheme::HTTPS),
            host: Some(Authority::from_static("outside")),
            trim_path_prefix: Some("/bucket".to_owned()),
        });
        let url = redirect.url(CLIENT, "/orlop/blobs/x", Some(signed));
        assert_eq!(url.as_deref(), Some("https://outside/orlop/blobs/x?X-Amz-Signature=a%2Fb"));
    }
}
