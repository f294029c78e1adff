//! What proves to Alibaba OSS who asks: signatures of version 4, and of version 1.
//!
//! <https://www.alibabacloud.com/help/en/oss/developer-reference/recommend-to-use-signature-version-4>

use ::http::header::{AUTHORIZATION, CONTENT_TYPE, DATE};
use ::http::{HeaderMap, HeaderName, HeaderValue};
use aws_lc_rs::{digest, hmac};
use data_encoding::{BASE64, HEXLOWER};
use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::SignatureVersion;
use crate::requests::{Ask, in_path, query};

/// The name of version 4 in what it signs.
const V4: &str = "OSS4-HMAC-SHA256";

/// Nothing is said of the content, as in all of this service's own libraries.
const UNSIGNED: &str = "UNSIGNED-PAYLOAD";

/// What of a query version 1 signs, of that which is asked here.
const V1_SIGNED: [&str; 4] = ["continuation-token", "partNumber", "uploadId", "uploads"];

/// An access key, and what it is used for.
#[derive(Clone)]
pub(super) struct Signer {
    pub(super) version: SignatureVersion,
    pub(super) id: String,
    pub(super) secret: String,
    /// As `cn-hangzhou`.
    pub(super) region: String,
    pub(super) bucket: String,
}

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Signer").field("id", &self.id).finish_non_exhaustive()
    }
}

impl Signer {
    /// The headers that say who asks for this, and when. All others must be there.
    pub(super) fn headers(&self, ask: &Ask, now: Timestamp) -> Vec<(HeaderName, String)> {
        match self.version {
            SignatureVersion::V4 => {
                let time = basic(now);
                let mut added = vec![
                    (HeaderName::from_static("x-oss-content-sha256"), UNSIGNED.to_owned()),
                    (HeaderName::from_static("x-oss-date"), time.clone()),
                ];
                let mut signed = signed_headers(&ask.headers, true);
                signed.extend(added.iter().map(|(name, value)| (name.to_string(), value.clone())));
                let signature = self.v4(ask, &ask.query, signed, &time);
                let credential = self.credential(&time);
                let value = format!("{V4} Credential={credential}, Signature={signature}");
                added.push((AUTHORIZATION, value));
                added
            }
            SignatureVersion::V1 => {
                let date = now.to_zoned(TimeZone::UTC);
                let date = date.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
                let signature = self.v1(ask, &date);
                let value = format!("OSS {}:{signature}", self.id);
                vec![(DATE, date), (AUTHORIZATION, value)]
            }
        }
    }

    /// The query with which anybody may ask for this for so many seconds, with no headers that
    /// would have to be signed.
    pub(super) fn query(&self, ask: &Ask, now: Timestamp, seconds: u64) -> String {
        let mut pairs = ask.query.clone();
        match self.version {
            SignatureVersion::V4 => {
                let time = basic(now);
                pairs.extend([
                    ("x-oss-date", time.clone()),
                    ("x-oss-expires", seconds.to_string()),
                    ("x-oss-signature-version", V4.to_owned()),
                    ("x-oss-credential", self.credential(&time)),
                ]);
                let signature = self.v4(ask, &pairs, Vec::new(), &time);
                pairs.push(("x-oss-signature", signature));
            }
            SignatureVersion::V1 => {
                let ends = now.as_second().saturating_add_unsigned(seconds).to_string();
                let signature = self.v1(ask, &ends);
                pairs.extend([
                    ("OSSAccessKeyId", self.id.clone()),
                    ("Expires", ends),
                    ("Signature", signature),
                ]);
            }
        }
        query(pairs.iter().map(|(name, value)| (*name, value.as_str())))
    }

    fn credential(&self, time: &str) -> String {
        format!("{}/{}", self.id, self.scope(time))
    }

    /// What a signature is good for.
    fn scope(&self, time: &str) -> String {
        format!("{}/{}/oss/aliyun_v4_request", day(time), self.region)
    }

    fn v4(
        &self,
        ask: &Ask,
        pairs: &[(&str, String)],
        mut headers: Vec<(String, String)>,
        time: &str,
    ) -> String {
        let mut pairs =
            pairs.iter().map(|(name, value)| (*name, value.as_str())).collect::<Vec<_>>();
        pairs.sort_unstable();
        headers.sort_unstable();
        let canonical = format!(
            "{}\n{}\n{}\n{}\n\n{UNSIGNED}",
            ask.method,
            in_path(&format!("/{}/{}", self.bucket, ask.key)),
            query(pairs),
            lines(&headers),
        );
        let hash = HEXLOWER.encode(digest::digest(&digest::SHA256, canonical.as_bytes()).as_ref());
        let text = format!("{V4}\n{time}\n{}\n{hash}", self.scope(time));
        let mut key = format!("aliyun_v4{}", self.secret).into_bytes();
        for step in [day(time), &self.region, "oss", "aliyun_v4_request", &text] {
            let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &key), step.as_bytes());
            key = tag.as_ref().to_vec();
        }
        HEXLOWER.encode(&key)
    }

    fn v1(&self, ask: &Ask, date: &str) -> String {
        let signed = ask.query.iter().filter(|(name, _)| V1_SIGNED.contains(name));
        let mut signed = signed.collect::<Vec<_>>();
        signed.sort_unstable();
        let signed = signed.into_iter().map(|(name, value)| match value.as_str() {
            "" => (*name).to_owned(),
            value => format!("{name}={value}"),
        });
        let signed = signed.collect::<Vec<_>>().join("&");
        let mark = if signed.is_empty() { "" } else { "?" };
        let mut headers = signed_headers(&ask.headers, false);
        headers.sort_unstable();
        let kind = ask.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let text = format!(
            "{}\n\n{}\n{date}\n{}/{}/{}{mark}{signed}",
            ask.method,
            kind.unwrap_or_default(),
            lines(&headers),
            self.bucket,
            ask.key,
        );
        let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, self.secret.as_bytes());
        BASE64.encode(hmac::sign(&key, text.as_bytes()).as_ref())
    }
}

/// The headers that belong to what is signed.
fn signed_headers(headers: &HeaderMap, with_type: bool) -> Vec<(String, String)> {
    let is_signed = |name: &HeaderName| {
        name.as_str().starts_with("x-oss-") || (with_type && *name == CONTENT_TYPE)
    };
    let signed = headers.iter().filter(|(name, _)| is_signed(name));
    let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    signed.map(|(name, value)| (name.to_string(), text(value))).collect()
}

fn lines(headers: &[(String, String)]) -> String {
    headers.iter().flat_map(|(name, value)| [name.as_str(), ":", value, "\n"]).collect()
}

/// A time as ISO 8601 writes it in its basic form.
fn basic(time: Timestamp) -> String {
    time.to_zoned(TimeZone::UTC).strftime("%Y%m%dT%H%M%SZ").to_string()
}

/// The day of a time in that form.
fn day(time: &str) -> &str {
    time.split_once('T').map_or(time, |(day, _)| day)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde::Deserialize;

    use super::*;

    /// What the service's own library has signed (`oss-signatures.py` beside it).
    const VECTORS: &str = include_str!("../../tests/oss-signatures.json");

    #[derive(Deserialize)]
    struct Vectors {
        id: String,
        secret: String,
        region: String,
        bucket: String,
        now: Timestamp,
        seconds: u64,
        signed: Vec<Vector>,
    }

    #[derive(Deserialize)]
    struct Vector {
        version: String,
        method: String,
        key: String,
        query: Vec<(String, String)>,
        headers: BTreeMap<String, String>,
        authorization: String,
        url_query: String,
    }

    #[test]
    fn signatures_are_those_of_the_services_own_library() {
        let vectors: Vectors = serde_json::from_str(VECTORS).unwrap();
        assert!(vectors.signed.len() > 15);
        for vector in vectors.signed {
            let signer = Signer {
                version: match vector.version.as_str() {
                    "v4" => SignatureVersion::V4,
                    _ => SignatureVersion::V1,
                },
                id: vectors.id.clone(),
                secret: vectors.secret.clone(),
                region: vectors.region.clone(),
                bucket: vectors.bucket.clone(),
            };
            let mut ask = Ask::new(vector.method.parse().unwrap(), String::new(), &*vector.key);
            for (name, value) in vector.query {
                ask = ask.query(name.leak(), value);
            }
            for (name, value) in vector.headers {
                ask = ask.header(name.parse().unwrap(), value.parse().unwrap());
            }
            let shown = format!("{} {} {:?}", vector.version, vector.method, ask.key);
            let headers = signer.headers(&ask, vectors.now);
            let (_, authorization) = headers.last().unwrap();
            assert_eq!(*authorization, vector.authorization, "{shown}");
            ask.headers.clear();
            let query = signer.query(&ask, vectors.now, vectors.seconds);
            assert_eq!(query, vector.url_query, "{shown}");
        }
    }
}
