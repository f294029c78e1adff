//! The suite with a server that keeps to the documentation of the JSON API, and makes trouble: it
//! takes less than it is sent, and answers late, wrongly, or not at all.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use net::transport::Trust;
use object_store::StaticCredentialProvider;
use object_store::client::HttpClient;
use object_store::gcp::GcpCredential;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::{Watch, list_all};

/// What the server wants to see, except where the URL is a capability.
const BEARER: &str = "the-token";

/// Objects that a page of a listing has.
const PAGE: usize = 2;

const STEP: usize = 256 << 10;

#[derive(Default)]
struct Server {
    place: String,
    objects: BTreeMap<String, Vec<u8>>,
    sessions: Vec<Session>,
    /// Requests so far, for sessions and others.
    asked: usize,
}

struct Session {
    name: String,
    content: Vec<u8>,
    state: State,
}

#[derive(Clone, Copy, Eq, PartialEq)]
enum State {
    Open,
    Complete,
    Ended,
}

struct Asked {
    method: String,
    path: String,
    query: BTreeMap<String, String>,
    headers: BTreeMap<String, String>,
    content: Vec<u8>,
}

/// A status, headers, and a body.
type Answer = (u16, Vec<(&'static str, String)>, Vec<u8>);

fn status(code: u16) -> Answer {
    (code, Vec::new(), b"{}".to_vec())
}

impl Server {
    /// Nothing if the connection breaks.
    fn answer(&mut self, asked: &Asked) -> Option<Answer> {
        self.asked += 1;
        if let Some(session) = asked.path.strip_prefix("/session/") {
            assert_eq!(asked.headers.get("authorization"), None);
            let number = session.parse::<usize>().unwrap();
            return self.session(number, asked);
        }
        Some(self.answer_about_objects(asked))
    }

    fn answer_about_objects(&mut self, asked: &Asked) -> Answer {
        if asked.headers.get("authorization") != Some(&format!("Bearer {BEARER}")) {
            return status(401);
        }
        if self.asked.is_multiple_of(7) {
            return status(if self.asked.is_multiple_of(2) { 503 } else { 429 });
        }
        let name = asked.path.strip_prefix("/storage/v1/b/the%20bucket/o");
        match (asked.method.as_str(), name) {
            ("POST", None) if asked.path == "/upload/storage/v1/b/the%20bucket/o" => {
                self.begin(asked)
            }
            ("GET", Some("")) => self.list(asked),
            ("GET", Some(name)) => self.get(&decoded(&name[1..]), asked),
            ("DELETE", Some(name)) => match self.objects.remove(&decoded(&name[1..])) {
                Some(_) => status(204),
                None => status(404),
            },
            _ => status(400),
        }
    }

    fn begin(&mut self, asked: &Asked) -> Answer {
        let name = asked.query["name"].clone();
        if asked.query["uploadType"] == "media" {
            self.objects.insert(name.clone(), asked.content.clone());
            return (200, Vec::new(), self.resource(&name));
        }
        self.sessions.push(Session { name, content: Vec::new(), state: State::Open });
        let url = format!("http://{}/session/{}", self.place, self.sessions.len() - 1);
        (200, vec![("Location", url)], Vec::new())
    }

    fn session(&mut self, number: usize, asked: &Asked) -> Option<Answer> {
        let trouble = self.asked % 4;
        let session = &mut self.sessions[number];
        match (session.state, asked.method.as_str()) {
            (_, _) if trouble == 0 => return Some(status(503)),
            (State::Open, "DELETE") => {
                session.state = State::Ended;
                return Some(status(499));
            }
            (_, "DELETE") => return Some(status(404)),
            (State::Ended, _) => return Some(status(410)),
            (State::Complete, _) => {
                let name = session.name.clone();
                return Some((200, Vec::new(), self.resource(&name)));
            }
            (State::Open, _) => (),
        }
        let range = asked.headers["content-range"].strip_prefix("bytes ").unwrap();
        let (range, total) = range.split_once('/').unwrap();
        if let Some((first, last)) = range.split_once('-') {
            let (first, last) = (first.parse::<usize>().unwrap(), last.parse::<usize>().unwrap());
            assert_eq!(asked.content.len(), last + 1 - first);
            assert!(first <= session.content.len(), "a gap");
            assert!(total != "*" || asked.content.len().is_multiple_of(STEP), "half a step");
            let known = (session.content.len() - first).min(asked.content.len());
            let mut fresh = &asked.content[known..];
            if trouble == 1 && fresh.len() > STEP {
                fresh = &fresh[..fresh.len() / 2 / STEP * STEP];
            }
            session.content.extend_from_slice(fresh);
        }
        let answer = if total.parse() == Ok(session.content.len()) {
            session.state = State::Complete;
            let (name, content) = (session.name.clone(), session.content.clone());
            self.objects.insert(name.clone(), content);
            Some((200, Vec::new(), self.resource(&name)))
        } else {
            let last = session.content.len().checked_sub(1);
            let range = last.map(|last| ("Range", format!("bytes=0-{last}")));
            Some((308, range.into_iter().collect(), Vec::new()))
        };
        answer.filter(|_| trouble != 2)
    }

    fn resource(&self, name: &str) -> Vec<u8> {
        let content = &self.objects[name];
        let crc = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, content);
        let crc = data_encoding::BASE64.encode(&u32::try_from(crc).unwrap().to_be_bytes());
        let (size, updated) = (content.len().to_string(), jiff::Timestamp::now().to_string());
        let resource =
            serde_json::json!({"name": name, "size": size, "updated": updated, "crc32c": crc});
        resource.to_string().into_bytes()
    }

    fn get(&self, name: &str, asked: &Asked) -> Answer {
        let Some(content) = self.objects.get(name) else { return status(404) };
        if !asked.query.contains_key("alt") {
            return (200, Vec::new(), self.resource(name));
        }
        let Some(range) = asked.headers.get("range") else {
            return (200, Vec::new(), content.clone());
        };
        let (first, last) = range.strip_prefix("bytes=").unwrap().split_once('-').unwrap();
        let first = first.parse::<usize>().unwrap();
        let end = last.parse().map_or(content.len(), |last: usize| content.len().min(last + 1));
        let range = format!("bytes {first}-{}/{}", end - 1, content.len());
        (206, vec![("Content-Range", range)], content[first..end].to_vec())
    }

    fn list(&self, asked: &Asked) -> Answer {
        let prefix = &asked.query["prefix"];
        let after = asked.query.get("pageToken").cloned().unwrap_or_default();
        let mut found = BTreeMap::new();
        for name in self.objects.keys().filter(|name| name.starts_with(prefix.as_str())) {
            let rest = &name[prefix.len()..];
            let folder = rest.split_once('/').filter(|_| asked.query.contains_key("delimiter"));
            match folder {
                Some((folder, _)) => found.insert(format!("{prefix}{folder}/"), false),
                None => found.insert(name.clone(), true),
            };
        }
        let mut rest = found.into_iter().filter(|(name, _)| *name > after);
        let page = rest.by_ref().take(PAGE).collect::<Vec<_>>();
        let next = rest.next().and_then(|_| page.last()).map(|(name, _)| name.clone());
        let items = page.iter().filter(|(_, is_object)| *is_object);
        let items = items
            .map(|(name, _)| serde_json::from_slice(&self.resource(name)).unwrap())
            .collect::<Vec<serde_json::Value>>();
        let folders = page.iter().filter(|(_, is_object)| !is_object);
        let folders = folders.map(|(name, _)| name.clone()).collect::<Vec<_>>();
        let mut listed = serde_json::json!({"items": items, "prefixes": folders});
        if let Some(next) = next {
            listed["nextPageToken"] = next.into();
        }
        (200, Vec::new(), listed.to_string().into_bytes())
    }
}

fn decoded(text: &str) -> String {
    percent_encoding::percent_decode_str(text).decode_utf8().unwrap().into_owned()
}

async fn serve(listener: TcpListener, server: Arc<Mutex<Server>>) {
    loop {
        let (mut stream, _) = listener.accept().await.unwrap();
        let server = Arc::clone(&server);
        tokio::spawn(async move {
            let Some(asked) = read(&mut stream).await else { return };
            let answer = server.lock().unwrap().answer(&asked);
            let Some((status, headers, body)) = answer else { return };
            let mut head = format!("HTTP/1.1 {status} X\r\nConnection: close\r\n");
            for (name, value) in headers {
                head.push_str(&[name, ": ", &value, "\r\n"].concat());
            }
            // An answer without content may not say that it has some.
            let body = if status == 204 { Vec::new() } else { body };
            if status != 204 {
                head.push_str(&["Content-Length: ", &body.len().to_string(), "\r\n"].concat());
            }
            head.push_str("\r\n");
            let _ = stream.write_all(&[head.as_bytes(), &body].concat()).await;
        });
    }
}

async fn read(stream: &mut TcpStream) -> Option<Asked> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    let head = String::from_utf8(head).unwrap();
    let mut lines = head.lines();
    let mut first = lines.next()?.split(' ');
    let (method, target) = (first.next()?.to_owned(), first.next()?);
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let query = query.split('&').filter_map(|pair| pair.split_once('='));
    let headers = lines.filter_map(|line| line.split_once(": "));
    let headers = headers.map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()));
    let headers = headers.collect::<BTreeMap<_, _>>();
    let length = headers.get("content-length").map_or(0, |length| length.parse().unwrap());
    let mut content = vec![0; length];
    stream.read_exact(&mut content).await.ok()?;
    let query = query.map(|(name, value)| (name.to_owned(), decoded(value))).collect();
    Some(Asked { method, path: path.to_owned(), query, headers, content })
}

/// A bucket in the server, and the server.
async fn bucket(root: &str) -> (Gcs, Arc<Mutex<Server>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let place = listener.local_addr().unwrap().to_string();
    let service = format!("http://{place}");
    let server = Arc::new(Mutex::new(Server { place, ..Server::default() }));
    tokio::spawn(serve(listener, Arc::clone(&server)));
    let bearer = GcpCredential { bearer: BEARER.to_owned() };
    let api = Api {
        connections: HttpClient::new(
            Connections::new(&Trust::default(), Watch::default()).unwrap(),
        ),
        credentials: Some(Arc::new(StaticCredentialProvider::new(bearer))),
        service,
        bucket: "the bucket".to_owned(),
        user_agent: None,
        slots: None,
    };
    (Gcs { api, signer: None, root: root.to_owned() }, server)
}

#[tokio::test]
async fn trouble_is_overcome() {
    for root in ["", "a folder/"] {
        let (store, _) = bucket(root).await;
        crate::conformance::run(&store).await.unwrap();
    }
}

#[tokio::test]
async fn pages_are_turned() {
    let (store, _) = bucket("").await;
    for number in 0..9 {
        store.put(&format!("many/{number}"), vec![Bytes::from_static(b"x")]).await.unwrap();
    }
    assert_eq!(list_all(&store, "many/", false).await.unwrap().objects.len(), 9);
}

/// Somebody who died has sent more than was saved, and the client sends the same once more.
#[tokio::test]
async fn what_a_session_has_is_not_needed_twice() {
    let (store, server) = bucket("").await;
    let content = (0..6 * STEP / 4).flat_map(usize::to_be_bytes).collect::<Bytes>();
    let attempt = store.begin("a").await.unwrap();
    store.part("a", &attempt, 0, 0, vec![content.slice(..5 * STEP)]).await.unwrap();
    let mut parts = Vec::new();
    for (number, offset) in [0, 2 * STEP].into_iter().enumerate() {
        let part = content.slice(offset..offset + 2 * STEP);
        parts.push(store.part("a", &attempt, number, offset as u64, vec![part]).await.unwrap());
    }
    let last = content.slice(4 * STEP..6 * STEP - 1);
    store.complete("a", &attempt, parts, vec![last]).await.unwrap();
    assert_eq!(server.lock().unwrap().objects["a"], content[..6 * STEP - 1]);
}

#[test]
fn emulators_have_hosts_or_urls() {
    for place in ["127.0.0.1:9023", "http://127.0.0.1:9023", "http://127.0.0.1:9023/"] {
        assert_eq!(service_at(place), "http://127.0.0.1:9023");
    }
}

#[test]
fn sizes_are_those_of_the_whole() {
    let size =
        |name, value: &str| whole_size(&HeaderMap::from_iter([(name, value.parse().unwrap())]));
    assert_eq!(size(CONTENT_RANGE, "bytes 5-9/12"), Some(12));
    assert_eq!(size(CONTENT_LENGTH, "12"), Some(12));
    assert_eq!(size(CONTENT_RANGE, "bytes 5-9/*"), None);
}

#[tokio::test]
async fn a_key_is_never_shown() {
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).unwrap().serialize_pem();
    let fields = [
        ("type", "service_account"),
        ("private_key_id", "1"),
        ("client_email", "me@project.example"),
        ("private_key", key.as_str()),
    ];
    let fields = fields.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let config =
        Config { bucket: "b".to_owned(), credentials: BTreeMap::from(fields), ..Config::default() };
    let store = open(&config, Watch::default()).unwrap();
    for shown in [format!("{config:?}"), format!("{store:?}")] {
        assert!(!shown.contains("PRIVATE"), "{shown}");
    }
    // It signs, and that needs nobody else.
    let url = store.signed_url(Method::GET, "a/b", Duration::from_mins(20)).await.unwrap().unwrap();
    assert!(url.starts_with("https://storage.googleapis.com/b/a/b?"), "{url}");
    for expected in ["X-Goog-Expires=1200", "me%40project.example", "X-Goog-Signature="] {
        assert!(url.contains(expected), "{url}");
    }
}
