//! As much of Alibaba OSS as can be had: its signatures are checked, as they arrive, and what they
//! sign is asked of an S3 store, whose requests are of the same form.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use aws_lc_rs::{digest, hmac};
use bytes::Bytes;
use data_encoding::{BASE64, HEXLOWER};
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::BodyExt;
use net::transport::{Transport, Trust};
use object_store::aws::{AwsAuthorizer, AwsCredential};
use object_store::client::HttpRequestBody;
use percent_encoding::percent_decode_str;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::seaweedfs::{self, SeaweedFs};

pub(crate) const ID: &str = "LTAItest";
pub(crate) const SECRET: &str = "secret-of-the-test";
pub(crate) const REGION: &str = "cn-hangzhou";
pub(crate) const BUCKET: &str = seaweedfs::BUCKET;

/// A server, which ends with its runtime.
#[derive(Clone)]
pub(crate) struct Oss {
    pub(crate) url: String,
    store: String,
    transport: Transport<HttpRequestBody>,
    /// Objects for which encryption was asked.
    encrypted: Arc<AtomicUsize>,
}

/// A request as it arrived.
struct Asked {
    method: Method,
    path: String,
    query: String,
    headers: HeaderMap,
    body: Bytes,
}

impl Oss {
    pub(crate) async fn start(store: &SeaweedFs) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = Self {
            url: format!("http://{}", listener.local_addr().unwrap()),
            store: store.url(),
            transport: Transport::new(&Trust::default()).unwrap(),
            encrypted: Arc::default(),
        };
        let served = server.clone();
        tokio::spawn(async move {
            loop {
                let (connection, _) = listener.accept().await.unwrap();
                let server = served.clone();
                tokio::spawn(async move { server.serve(connection).await });
            }
        });
        server
    }

    pub(crate) fn encrypted(&self) -> usize {
        self.encrypted.load(Ordering::Relaxed)
    }

    async fn serve(&self, mut connection: TcpStream) {
        let asked = Asked::read(&mut connection).await;
        let answer = match asked.objection() {
            Some(objection) => {
                format!("HTTP/1.1 403 Forbidden\r\nconnection: close\r\n\r\n{objection}").into()
            }
            None => self.forward(&asked).await,
        };
        // Who asked may have gone.
        let _ = connection.write_all(&answer).await;
        let _ = connection.shutdown().await;
    }

    async fn forward(&self, asked: &Asked) -> Vec<u8> {
        if asked.headers.contains_key("x-oss-server-side-encryption") {
            self.encrypted.fetch_add(1, Ordering::Relaxed);
        }
        let mut request = Request::new(HttpRequestBody::from(asked.body.clone()));
        *request.method_mut() = asked.method.clone();
        let query = asked.query.split('&').filter(|pair| !is_signature(pair)).collect::<Vec<_>>();
        let url = format!("{}/{BUCKET}{}?{}", self.store, asked.path, query.join("&"));
        *request.uri_mut() = url.parse().unwrap();
        for name in ["content-type", "content-length", "range"] {
            if let Some(value) = asked.headers.get(name) {
                request.headers_mut().insert(name, value.clone());
            }
        }
        let credential = AwsCredential {
            key_id: seaweedfs::ACCESS_KEY.to_owned(),
            secret_key: seaweedfs::SECRET_KEY.to_owned(),
            token: None,
        };
        let authorizer = AwsAuthorizer::new(&credential, "s3", "us-east-1");
        authorizer.try_authorize(&mut request, None).unwrap();
        let (head, body) = self.transport.send(request).await.unwrap().into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let mut answer = format!("HTTP/1.1 {}\r\nconnection: close\r\n", head.status).into_bytes();
        for (name, value) in &head.headers {
            let is_ours = ["connection", "transfer-encoding", "content-length"];
            if !is_ours.contains(&name.as_str()) {
                answer
                    .extend([name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"].concat());
            }
        }
        let length = head.headers.get("content-length").filter(|_| asked.method == Method::HEAD);
        let length =
            length.map_or(body.len().to_string(), |length| length.to_str().unwrap().to_owned());
        if head.status != StatusCode::NO_CONTENT {
            answer.extend(format!("content-length: {length}\r\n").into_bytes());
        }
        answer.extend(b"\r\n");
        answer.extend(body);
        answer
    }
}

impl Asked {
    async fn read(connection: &mut TcpStream) -> Self {
        let mut bytes = Vec::new();
        let end = loop {
            assert!(connection.read_buf(&mut bytes).await.unwrap() > 0, "it ended");
            if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
                break end;
            }
        };
        let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
        let mut lines = head.lines();
        let mut first = lines.next().unwrap().split(' ');
        let method = first.next().unwrap().parse().unwrap();
        let target = first.next().unwrap();
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let headers = lines.map(|line| line.split_once(": ").unwrap());
        let headers = headers
            .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()))
            .collect::<HeaderMap>();
        let length = headers
            .get("content-length")
            .map_or(0, |length| length.to_str().unwrap().parse::<usize>().unwrap());
        let mut body = bytes.split_off(end + 4);
        while body.len() < length {
            assert!(connection.read_buf(&mut body).await.unwrap() > 0, "it ended");
        }
        let (path, query) = (path.to_owned(), query.to_owned());
        Self { method, path, query, headers, body: body.into() }
    }

    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// What is wrong with it.
    fn objection(&self) -> Option<String> {
        if self.headers.contains_key("range") && self.header("x-oss-range-behavior") != "standard" {
            return Some("a range that ends after the object would not count".to_owned());
        }
        let parameters = self.parameters();
        let parameter = |name: &str| parameters.get(name).cloned().unwrap_or_default();
        let authorization = self.header("authorization");
        let (given, expected) = if let Some(rest) = authorization.strip_prefix("OSS4-HMAC-SHA256 ")
        {
            let credential = self.header("x-oss-date").get(..8).unwrap_or_default();
            let credential = format!("{ID}/{credential}/{REGION}/oss/aliyun_v4_request");
            let signature = self.v4(self.header("x-oss-date"));
            (rest.to_owned(), format!("Credential={credential}, Signature={signature}"))
        } else if let Some(rest) = authorization.strip_prefix("OSS ") {
            (rest.to_owned(), format!("{ID}:{}", self.v1(self.header("date"))))
        } else if parameters.contains_key("x-oss-signature") {
            (parameter("x-oss-signature"), self.v4(&parameter("x-oss-date")))
        } else {
            (parameter("Signature"), self.v1(&parameter("Expires")))
        };
        (given != expected).then(|| format!("expected {expected}, found {given}"))
    }

    fn parameters(&self) -> BTreeMap<String, String> {
        let decoded = |text: &str| percent_decode_str(text).decode_utf8().unwrap().into_owned();
        let pairs = self.query.split('&').filter(|pair| !pair.is_empty());
        let pairs = pairs.map(|pair| pair.split_once('=').unwrap_or((pair, "")));
        pairs.map(|(name, value)| (decoded(name), decoded(value))).collect()
    }

    fn oss_headers(&self) -> BTreeMap<&str, &str> {
        let names = self.headers.keys().map(http::HeaderName::as_str);
        names
            .filter(|name| name.starts_with("x-oss-"))
            .map(|name| (name, self.header(name)))
            .collect()
    }

    fn v4(&self, date: &str) -> String {
        let mut query = self.query.split('&').collect::<Vec<_>>();
        query.retain(|pair| !pair.starts_with("x-oss-signature="));
        query.sort_unstable();
        let mut headers = self.oss_headers();
        if self.headers.contains_key("content-type") {
            headers.insert("content-type", self.header("content-type"));
        }
        let headers = headers.iter().flat_map(|(name, value)| [*name, ":", *value, "\n"]);
        let request = [
            self.method.as_str(),
            &format!("/{BUCKET}{}", self.path),
            &query.join("&"),
            &headers.collect::<String>(),
            "",
            "UNSIGNED-PAYLOAD",
        ]
        .join("\n");
        let hash = HEXLOWER.encode(digest::digest(&digest::SHA256, request.as_bytes()).as_ref());
        let day = date.get(..8).unwrap_or_default();
        let text =
            format!("OSS4-HMAC-SHA256\n{date}\n{day}/{REGION}/oss/aliyun_v4_request\n{hash}");
        let sign = |key: &[u8], text: &str| {
            hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text.as_bytes()).as_ref().to_vec()
        };
        let key = sign(format!("aliyun_v4{SECRET}").as_bytes(), day);
        let key = sign(&sign(&sign(&key, REGION), "oss"), "aliyun_v4_request");
        HEXLOWER.encode(&sign(&key, &text))
    }

    fn v1(&self, date: &str) -> String {
        let known = ["continuation-token", "partNumber", "uploadId", "uploads"];
        let parameters = self.parameters();
        let mut resource = Vec::new();
        for (name, value) in parameters.iter().filter(|(name, _)| known.contains(&name.as_str())) {
            let value = if value.is_empty() { String::new() } else { format!("={value}") };
            resource.push(format!("{name}{value}"));
        }
        let mark = if resource.is_empty() { "" } else { "?" };
        let path = percent_decode_str(&self.path).decode_utf8().unwrap();
        let headers = self.oss_headers();
        let headers = headers.iter().flat_map(|(name, value)| [*name, ":", *value, "\n"]);
        let text = format!(
            "{}\n{}\n{}\n{date}\n{}/{BUCKET}{path}{mark}{}",
            self.method,
            self.header("content-md5"),
            self.header("content-type"),
            headers.collect::<String>(),
            resource.join("&"),
        );
        let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, SECRET.as_bytes());
        BASE64.encode(hmac::sign(&key, text.as_bytes()).as_ref())
    }
}

fn is_signature(pair: &str) -> bool {
    ["x-oss-", "OSSAccessKeyId=", "Expires=", "Signature="]
        .iter()
        .any(|name| pair.starts_with(name))
}
