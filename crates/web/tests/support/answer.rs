//! What a registry answered.

use bytes::Bytes;
use http::HeaderMap;
use http_body::Body;
use http_body_util::BodyExt;
use serde_json::Value;

/// A whole answer. `what` is the request, for messages.
#[derive(Clone, Debug)]
pub struct Answer {
    pub what: String,
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Answer {
    pub(super) async fn collect<B>(what: String, response: http::Response<B>) -> Self
    where
        B: Body<Data = Bytes>,
        B::Error: std::fmt::Display,
    {
        let (head, body) = response.into_parts();
        let body = body.collect().await.map(http_body_util::Collected::to_bytes);
        let body = body.unwrap_or_else(|error| panic!("{what}: the body broke off: {error}"));
        Self { what, status: head.status.as_u16(), headers: head.headers, body }
    }

    /// Panics unless all that holds for every answer of the registry holds for this one.
    #[must_use]
    pub fn checked(self) -> Self {
        let target = self.what.split_once(' ').unwrap().1;
        assert!(self.status < 500, "{self}");
        assert!(self.get("x-request-id").is_some(), "{self}");
        if target.starts_with("/v2/") {
            assert_eq!(self.get("docker-distribution-api-version"), Some("registry/2.0"), "{self}");
        }
        if self.status >= 400 {
            assert_eq!(self.get("content-type"), Some("application/json"), "{self}");
            assert!(self.what.starts_with("HEAD ") || self.is_error_body(), "{self}");
        }
        if self.status == 405 && !self.what.starts_with("DELETE ") {
            assert!(self.get("allow").is_some_and(|allow| !allow.is_empty()), "{self}");
        }
        if let Some(length) = self.get("content-length")
            && !self.what.starts_with("HEAD ")
        {
            assert_eq!(length, self.body.len().to_string(), "{self}");
        }
        if matches!(self.status, 204 | 304) {
            assert!(self.body.is_empty() && self.get("content-length").is_none(), "{self}");
        }
        self
    }

    /// Panics unless the status is this one.
    #[must_use]
    pub fn status(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{self}");
        self
    }

    /// The same, for when nothing else is asked of the answer.
    pub fn expect(self, status: u16) -> Self {
        self.status(status)
    }

    /// Panics unless it is an error of this status and code.
    pub fn refused(self, status: u16, code: &str) -> Self {
        assert_eq!((self.status, self.code().as_str()), (status, code), "{self}");
        self
    }

    /// The first error's code; nothing if it is no error.
    pub fn code(&self) -> String {
        if self.status < 400 {
            return String::new();
        }
        self.json()["errors"][0]["code"].as_str().unwrap_or_default().to_owned()
    }

    /// The first error's message.
    pub fn message(&self) -> String {
        self.json()["errors"][0]["message"].as_str().unwrap_or_default().to_owned()
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self}"))
    }

    /// The strings in the list called `field`.
    pub fn list(&self, field: &str) -> Vec<String> {
        let json = self.json();
        let list = json[field].as_array().unwrap_or_else(|| panic!("no list {field}: {self}"));
        list.iter().map(|item| item.as_str().unwrap().to_owned()).collect()
    }

    /// A header that must be there.
    pub fn header(&self, name: &str) -> &str {
        self.get(name).unwrap_or_else(|| panic!("no header {name}: {self}"))
    }

    pub fn get(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    /// Every value of a header.
    pub fn all(&self, name: &str) -> Vec<&str> {
        self.headers.get_all(name).iter().map(|value| value.to_str().unwrap()).collect()
    }

    /// Where the next page is.
    pub fn next_page(&self) -> Option<String> {
        let link = self.get("link")?;
        let target = link.strip_prefix('<').and_then(|link| link.strip_suffix(">; rel=\"next\""));
        Some(target.unwrap_or_else(|| panic!("not a link to the next page: {link}")).to_owned())
    }

    /// Whether the body is what the distribution spec says of errors.
    pub fn is_error_body(&self) -> bool {
        let Ok(json) = serde_json::from_slice::<Value>(&self.body) else {
            return false;
        };
        let known = |code: &str| oci::ErrorCode::ALL.iter().any(|known| known.as_str() == code);
        json["errors"].as_array().is_some_and(|errors| {
            !errors.is_empty()
                && errors.iter().all(|error| {
                    error["code"].as_str().is_some_and(known)
                        && error["message"].as_str().is_some_and(|message| !message.is_empty())
                })
        })
    }
}

impl std::fmt::Display for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let body = String::from_utf8_lossy(&self.body[..self.body.len().min(500)]).into_owned();
        write!(f, "{} was answered {}\n{:#?}\n{body}", self.what, self.status, self.headers)
    }
}
