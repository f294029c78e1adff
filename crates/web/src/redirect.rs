//! Where clients are sent for the bytes of a blob, if not served here: a cache or a file server
//! that reads the same store.

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
    Rewrite(Rewrite),
}

#[derive(Clone, Debug)]
struct Target {
    scheme: Scheme,
    authority: Authority,
    /// Without a slash at its end; with the query, if there is one.
    path: String,
}

impl Target {
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
        let Ok(url) = base_url.parse::<Uri>() else {
            return false;
        };
        let path = url.path().trim_end_matches('/').to_owned();
        let parts = url.into_parts();
        let (Some(scheme), Some(authority)) = (parts.scheme, parts.authority) else {
            return false;
        };
        self.steps.push(Step::To(Target { scheme, authority, path }));
        true
    }

    /// Changes the URL that the steps before have made. If they have made none, it does nothing.
    pub fn push_rewrite(&mut self, rewrite: Rewrite) {
        self.steps.push(Step::Rewrite(rewrite));
    }

    /// Whether the steps may make a URL.
    pub fn is_on(&self) -> bool {
        self.steps.iter().any(|step| matches!(step, Step::To(_) | Step::Store))
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
                (Step::To(target), url) => {
                    let path = format!("{}{place}", target.path);
                    *url = Some(Target { path, ..target.clone() });
                }
                (Step::Rewrite(rewrite), Some(url)) => rewrite.apply(url),
                (Step::Rewrite(_), None) => {}
            }
        }
        let Target { scheme, authority, path } = url?;
        let slash = if path.starts_with('/') { "" } else { "/" };
        Some(format!("{scheme}://{authority}{slash}{path}"))
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
