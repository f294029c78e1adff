//! Alibaba Cloud OSS: requests as those of S3, with signatures of its own.

mod config;
mod signature;
mod xml;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use ::http::header::{CONTENT_TYPE, ETAG};
use ::http::{HeaderName, HeaderValue, Method, StatusCode};
use bytes::Bytes;
use jiff::Timestamp;
use net::transport::Trust;

use crate::requests::{Answer, Ask, Sender, in_path, query};
use crate::s3::Uploads;
use crate::{
    Attempt, Error, ErrorKind, Found, Future, Objects, Opened, Page, PartRules, Watch, cloud,
};
use signature::Signer;
use xml::{Begun, CompleteMultipartUpload, Completed, Listed, Listing, Part, understood};

pub use config::{Config, SignatureVersion};

/// Parts of 100 KiB would do, but there may not be more of them.
const RULES: PartRules = PartRules {
    min_size: 5 << 20,
    step: 1,
    max_count: 10_000,
    at_once: usize::MAX,
    are_replaced: true,
};

/// How many names a page of a listing has.
const PAGE: &str = "1000";

/// Opens a bucket. Nothing is asked of it yet. `watch` hears of all that is asked later.
pub fn open(config: &Config, watch: Watch) -> Result<Arc<dyn Objects>, Error> {
    let wrong = |cause: String| {
        Error::new(ErrorKind::Other, format!("use the bucket {}", config.bucket), cause)
    };
    let sender = Sender::new(&Trust::default(), watch).map_err(|error| wrong(error.to_string()))?;
    let signer = Signer {
        version: config.signature,
        id: config.access_key_id.clone(),
        secret: config.access_key_secret.clone(),
        region: config.region().to_owned(),
        bucket: config.bucket.clone(),
    };
    Ok(Arc::new(Oss {
        url: config.url(),
        root: cloud::root(&config.root_directory),
        encryption: config.encryption().map_err(wrong)?,
        sender,
        signer,
    }))
}

/// A bucket, or a folder in it.
#[derive(Debug)]
struct Oss {
    url: String,
    /// Before every key: nothing, or a folder with a slash at its end.
    root: String,
    encryption: Vec<(HeaderName, HeaderValue)>,
    sender: Sender,
    signer: Signer,
}

impl Oss {
    fn ask(&self, method: Method, action: &str, key: &str) -> Ask {
        Ask::new(method, format!("{action} object {key}"), format!("{}{key}", self.root))
    }

    /// Asks for something that makes a new object.
    fn ask_new(&self, method: Method, action: &str, key: &str) -> Ask {
        let octets = HeaderValue::from_static("application/octet-stream");
        let mut ask = self.ask(method, action, key).header(CONTENT_TYPE, octets);
        ask.headers.extend(self.encryption.iter().cloned());
        ask
    }

    /// Asks for something of the bucket.
    fn ask_bucket(action: &str, prefix: &str) -> Ask {
        Ask::new(Method::GET, format!("list {action} below {prefix}"), "")
    }

    fn url(&self, key: &str) -> String {
        format!("{}/{}", self.url, in_path(key))
    }

    async fn send(&self, ask: &Ask) -> Result<Answer, Error> {
        let url = self.url(&ask.key);
        let query = query(ask.query.iter().map(|(name, value)| (*name, value.as_str())));
        let sign = |ask: &Ask| {
            let mut request = ask.request(&url, &query)?;
            for (name, value) in self.signer.headers(ask, Timestamp::now()) {
                let value = HeaderValue::try_from(value);
                let value = value.map_err(|_| ask.failed("the access key can not be sent"))?;
                request.headers_mut().insert(name, value);
            }
            Ok(request)
        };
        self.sender.send(ask, &sign).await
    }

    /// Asks for something that must succeed.
    async fn done(&self, ask: &Ask) -> Result<Answer, Error> {
        let answer = self.send(ask).await?;
        if answer.status.is_success() { Ok(answer) } else { Err(ask.refused(&answer)) }
    }

    /// Asks for something that must succeed, unless there is nothing.
    async fn removed(&self, ask: &Ask) -> Result<(), Error> {
        let answer = self.send(ask).await?;
        let is_gone = answer.status.is_success() || answer.status == StatusCode::NOT_FOUND;
        if is_gone { Ok(()) } else { Err(ask.refused(&answer)) }
    }

    async fn list_page(
        &self,
        prefix: &str,
        folders: bool,
        page: Option<String>,
    ) -> Result<Page, Error> {
        let mut ask = Self::ask_bucket("objects", prefix)
            .query("list-type", "2")
            .query("max-keys", PAGE)
            .query("prefix", format!("{}{prefix}", self.root));
        if folders {
            ask = ask.query("delimiter", "/");
        }
        if let Some(token) = page {
            ask = ask.query("continuation-token", token);
        }
        let listing: Listing = understood(&ask, &self.done(&ask).await?)?;
        let key = |name: &str| name.strip_prefix(&self.root).unwrap_or(name).to_owned();
        let found = |listed: &Listed| Found {
            size: listed.size,
            modified: SystemTime::from(listed.last_modified),
        };
        let folder = |name: &str| key(name.strip_suffix('/').unwrap_or(name));
        Ok(Page {
            objects: listing.contents.iter().map(|at| (key(&at.key), found(at))).collect(),
            folders: listing.common_prefixes.iter().map(|at| folder(&at.prefix)).collect(),
            next: listing.next_continuation_token.filter(|token| !token.is_empty()),
        })
    }

    async fn put_part(
        &self,
        key: &str,
        attempt: &str,
        number: usize,
        content: Vec<Bytes>,
    ) -> Result<String, Error> {
        let ask = self.ask(Method::PUT, "put a part of", key).content(content);
        let ask = ask.query("partNumber", (number + 1).to_string()).query("uploadId", attempt);
        let answer = self.done(&ask).await?;
        let etag = answer.header(&ETAG).map(str::to_owned);
        etag.ok_or_else(|| ask.failed("the answer has no ETag"))
    }

    async fn complete_parts(
        &self,
        key: &str,
        attempt: &str,
        mut parts: Vec<String>,
        last: Vec<Bytes>,
    ) -> Result<(), Error> {
        if last.iter().any(|bytes| !bytes.is_empty()) {
            parts.push(self.put_part(key, attempt, parts.len(), last).await?);
        }
        let parts = parts.into_iter().zip(1..);
        let part = parts.map(|(etag, part_number)| Part { part_number, etag }).collect();
        let ask = self.ask(Method::POST, "complete", key).query("uploadId", attempt);
        let body = quick_xml::se::to_string(&CompleteMultipartUpload { part });
        let body = body.map_err(|error| ask.failed(error.to_string()))?;
        let ask = ask
            .header(CONTENT_TYPE, HeaderValue::from_static("application/xml"))
            .content(vec![body.into()]);
        // Status 200 comes before it is known how it ends.
        let _: Completed = understood(&ask, &self.done(&ask).await?)?;
        Ok(())
    }

    async fn list_attempts(&self, prefix: &str) -> Result<Vec<Attempt>, Error> {
        let mut found = Vec::new();
        let mut markers = None;
        loop {
            let mut ask = Self::ask_bucket("uploads", prefix)
                .query("uploads", "")
                .query("max-uploads", PAGE)
                .query("prefix", format!("{}{prefix}", self.root));
            if let Some((key, upload)) = markers {
                ask = ask.query("key-marker", key).query("upload-id-marker", upload);
            }
            let page: Uploads = understood(&ask, &self.done(&ask).await?)?;
            found.extend(page.upload.into_iter().map(|upload| Attempt {
                key: upload.key.strip_prefix(&self.root).unwrap_or(&upload.key).to_owned(),
                name: upload.id,
                begun: upload.initiated.map_or_else(SystemTime::now, SystemTime::from),
            }));
            let next = page.next_key_marker.filter(|_| page.is_truncated);
            let Some(key) = next else { return Ok(found) };
            markers = Some((key, page.next_upload_id_marker.unwrap_or_default()));
        }
    }
}

impl Objects for Oss {
    fn part_rules(&self) -> PartRules {
        RULES
    }

    fn put<'a>(&'a self, key: &'a str, content: Vec<Bytes>) -> Future<'a, Result<(), Error>> {
        Box::pin(async move {
            self.done(&self.ask_new(Method::PUT, "put", key).content(content)).await?;
            Ok(())
        })
    }

    fn get<'a>(&'a self, key: &'a str, start: u64, end: u64) -> Future<'a, Result<Opened, Error>> {
        Box::pin(async move {
            // Without it, all of the object comes if its end is within the range.
            let behavior = HeaderName::from_static("x-oss-range-behavior");
            let ask = self.ask(Method::GET, "get", key).range(start, end)?;
            let ask = ask.header(behavior, HeaderValue::from_static("standard"));
            ask.opened(self.send(&ask).await?)
        })
    }

    fn find<'a>(&'a self, key: &'a str) -> Future<'a, Result<Option<Found>, Error>> {
        Box::pin(async move {
            let ask = self.ask(Method::HEAD, "look up", key);
            ask.found(&self.send(&ask).await?)
        })
    }

    fn delete<'a>(&'a self, key: &'a str) -> Future<'a, Result<(), Error>> {
        Box::pin(async move { self.removed(&self.ask(Method::DELETE, "delete", key)).await })
    }

    fn list<'a>(
        &'a self,
        prefix: &'a str,
        folders: bool,
        page: Option<String>,
    ) -> Future<'a, Result<Page, Error>> {
        Box::pin(self.list_page(prefix, folders, page))
    }

    fn begin<'a>(&'a self, key: &'a str) -> Future<'a, Result<String, Error>> {
        Box::pin(async move {
            let ask = self.ask_new(Method::POST, "begin", key).query("uploads", "");
            let begun: Begun = understood(&ask, &self.done(&ask).await?)?;
            Ok(begun.upload_id)
        })
    }

    fn part<'a>(
        &'a self,
        key: &'a str,
        attempt: &'a str,
        number: usize,
        _offset: u64,
        content: Vec<Bytes>,
    ) -> Future<'a, Result<String, Error>> {
        Box::pin(self.put_part(key, attempt, number, content))
    }

    fn complete<'a>(
        &'a self,
        key: &'a str,
        attempt: &'a str,
        parts: Vec<String>,
        last: Vec<Bytes>,
    ) -> Future<'a, Result<(), Error>> {
        Box::pin(self.complete_parts(key, attempt, parts, last))
    }

    fn abort<'a>(&'a self, key: &'a str, attempt: &'a str) -> Future<'a, Result<(), Error>> {
        Box::pin(async move {
            let ask = self.ask(Method::DELETE, "abort", key).query("uploadId", attempt);
            self.removed(&ask).await
        })
    }

    fn attempts<'a>(&'a self, prefix: &'a str) -> Future<'a, Result<Vec<Attempt>, Error>> {
        Box::pin(self.list_attempts(prefix))
    }

    fn signed_url<'a>(
        &'a self,
        method: Method,
        key: &'a str,
        valid: Duration,
    ) -> Future<'a, Result<Option<String>, Error>> {
        let ask = self.ask(method, "sign a URL for", key);
        let query = self.signer.query(&ask, Timestamp::now(), valid.as_secs());
        let url = format!("{}?{query}", self.url(&ask.key));
        Box::pin(std::future::ready(Ok(Some(url))))
    }
}
