//! The checks of `health`: each runs by itself, now and then, from the start on.

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use data_encoding::BASE64;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use net::client::{Client, Limits, Url};
use percent_encoding::percent_decode_str;
use registry::Registry;
use tokio::net::TcpStream;
use tokio::time::{MissedTickBehavior, interval, timeout};
use web::Health;
use web::server::Ending;

use crate::config;

/// The least time that the store has to answer a check.
const STORE_TIMEOUT: Duration = Duration::from_secs(10);

/// Checks that can run: what is wrong with them in the configuration has been found.
pub(crate) struct Checks(Vec<Check>);

/// One check.
struct Check {
    /// What operators know it by.
    name: String,
    probe: Probe,
    interval: Duration,
    /// So many failures in a row are one; at least one.
    threshold: u32,
    timeout: Duration,
}

/// What a check looks at.
enum Probe {
    Store(Registry),
    /// Well while the file is not there.
    NoFile(std::path::PathBuf),
    Http(Box<HttpProbe>),
    Tcp(String),
}

struct HttpProbe {
    client: Client,
    url: Url,
    headers: HeaderMap,
    status: u16,
}

impl Checks {
    /// Prepares what `asked` names. Fails if a URI is none that can be asked.
    pub(crate) fn new(
        asked: &config::Health,
        driver: &str,
        registry: &Registry,
    ) -> anyhow::Result<Self> {
        let mut checks = Vec::new();
        if let Some(check) = &asked.storage {
            checks.push(Check {
                name: format!("storagedriver_{driver}"),
                probe: Probe::Store(registry.clone()),
                interval: check.interval,
                threshold: check.threshold.max(1),
                timeout: check.interval.max(STORE_TIMEOUT),
            });
        }
        checks.extend(asked.files.iter().map(|check| Check {
            name: check.file.display().to_string(),
            probe: Probe::NoFile(check.file.clone()),
            interval: check.interval,
            threshold: 1,
            timeout: check.interval.max(STORE_TIMEOUT),
        }));
        for check in &asked.http {
            let (uri, user) = split_user(&check.uri);
            let probe =
                HttpProbe::new(check, &uri, user).with_context(|| format!("health.http: {uri}"))?;
            checks.push(Check {
                name: uri,
                probe: Probe::Http(Box::new(probe)),
                interval: check.interval,
                threshold: check.threshold.max(1),
                timeout: check.timeout,
            });
        }
        checks.extend(asked.tcp.iter().map(|check| Check {
            name: check.addr.clone(),
            probe: Probe::Tcp(check.addr.clone()),
            interval: check.interval,
            threshold: check.threshold.max(1),
            timeout: check.timeout,
        }));
        Ok(Self(with_names_of_their_own(checks)))
    }

    /// Runs them until the server ends. Each begins at once.
    pub(crate) fn run(self, health: &Health, ending: &Ending) {
        for check in self.0 {
            let (health, mut ending) = (health.clone(), ending.clone());
            tokio::spawn(async move {
                tokio::select! {
                    () = check.run(&health) => {}
                    () = ending.begun() => {}
                }
            });
        }
    }
}

impl Check {
    async fn run(self, health: &Health) {
        let mut due = interval(self.interval);
        due.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut failures: u32 = 0;
        let mut is_bad = false;
        loop {
            due.tick().await;
            let result = self.once().await;
            failures = if result.is_ok() { 0 } else { failures.saturating_add(1) };
            match &result {
                Ok(()) if is_bad => tracing::info!(check = self.name, "health check: well again"),
                Err(error) if failures == self.threshold => {
                    tracing::error!(check = self.name, error, "health check: requests are refused");
                }
                Err(error) => tracing::debug!(check = self.name, error, failures, "health check"),
                Ok(()) => {}
            }
            is_bad = failures >= self.threshold;
            health.report(&self.name, if is_bad { result } else { Ok(()) });
        }
    }

    async fn once(&self) -> Result<(), String> {
        match timeout(self.timeout, self.probe.look()).await {
            Ok(result) => result,
            Err(_) => Err(format!("no answer within {:?}", self.timeout)),
        }
    }
}

impl Probe {
    async fn look(&self) -> Result<(), String> {
        match self {
            Self::Store(registry) => registry.check_ready().await.map_err(|e| e.to_string()),
            Self::NoFile(file) => absent(file).await,
            Self::Http(probe) => probe.look().await,
            Self::Tcp(address) => {
                // As in `distribution`, an empty host is this machine.
                let address = address
                    .strip_prefix(':')
                    .map_or_else(|| address.clone(), |port| format!("localhost:{port}"));
                let connected = TcpStream::connect(address).await;
                connected.map(drop).map_err(|error| format!("connection failed: {error}"))
            }
        }
    }
}

async fn absent(file: &Path) -> Result<(), String> {
    match tokio::fs::metadata(file).await {
        Ok(_) => Err("file exists".to_owned()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error.to_string()),
    }
}

impl HttpProbe {
    /// Asks `uri`, as this user.
    fn new(asked: &config::HttpCheck, uri: &str, user: Option<Vec<u8>>) -> anyhow::Result<Self> {
        let url = uri.parse::<Url>()?;
        let mut headers = HeaderMap::new();
        for (name, value) in &asked.headers {
            let mut value = HeaderValue::from_str(value.expose())
                .with_context(|| format!("the value of the header {name} is not allowed"))?;
            value.set_sensitive(true);
            headers.append(HeaderName::try_from(name)?, value);
        }
        // What is configured counts, not what the URL says, as in `distribution`.
        if let Some(user) = user
            && !headers.contains_key(header::AUTHORIZATION)
        {
            let mut value = HeaderValue::try_from(format!("Basic {}", BASE64.encode(&user)))?;
            value.set_sensitive(true);
            headers.insert(header::AUTHORIZATION, value);
        }
        // A connection that is kept says nothing about the next one.
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        let client = Client::new(Limits { time: asked.timeout, body: 0 }, None)?;
        Ok(Self { client, url, headers, status: asked.status })
    }

    async fn look(&self) -> Result<(), String> {
        let answer = self.client.head(&self.url, &self.headers).await;
        let answer = answer.map_err(|error| error.to_string())?;
        let status = answer.status().as_u16();
        if status == self.status {
            Ok(())
        } else {
            Err(format!("status {status} instead of {}", self.status))
        }
    }
}

/// Two checks may look at the same thing in different ways.
fn with_names_of_their_own(mut checks: Vec<Check>) -> Vec<Check> {
    let mut seen: HashMap<String, u32> = HashMap::new();
    for check in &mut checks {
        let number = seen.entry(check.name.clone()).or_default();
        *number += 1;
        if *number > 1 {
            check.name = format!("{} ({number})", check.name);
        }
    }
    checks
}

/// A URI without `user:password@`, and these, with nothing left encoded in them.
fn split_user(uri: &str) -> (String, Option<Vec<u8>>) {
    let whole = || (uri.to_owned(), None);
    let Some((scheme, rest)) = uri.split_once("://") else { return whole() };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    let Some((user, host)) = authority.rsplit_once('@') else { return whole() };
    (format!("{scheme}://{host}{path}"), Some(percent_decode_str(user).collect()))
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::sync::Arc;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;
    use tokio::time::Instant;

    use super::*;
    use crate::config::{FileCheck, HttpCheck, Secret, TcpCheck};

    const OFTEN: Duration = Duration::from_millis(2);

    fn nothing() -> config::Health {
        config::Health { storage: None, files: vec![], http: vec![], tcp: vec![] }
    }

    fn http(uri: String) -> HttpCheck {
        HttpCheck {
            uri,
            headers: vec![("X-Key".to_owned(), Secret::new("word".to_owned()))],
            status: 204,
            timeout: Duration::from_secs(5),
            interval: OFTEN,
            threshold: 2,
        }
    }

    async fn registry(folder: &Path) -> Registry {
        let store = blobs::FileSystem::open(folder).unwrap();
        let database = metadata::Metadata::open_sqlite(&folder.join("m.sqlite")).await.unwrap();
        Registry::new(database, Arc::new(store), registry::Config::default())
    }

    async fn until(health: &Health, good: bool) {
        let end = Instant::now() + Duration::from_secs(20);
        while health.is_good() != good {
            assert!(Instant::now() < end, "not {good}: {:?}", health.failures());
            tokio::time::sleep(OFTEN).await;
        }
    }

    /// Answers every request with `204` if it is the one that is expected.
    async fn serve(listener: TcpListener) {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = vec![0; 4096];
            let read = stream.read(&mut request).await.unwrap();
            let request = String::from_utf8_lossy(&request[..read]).to_lowercase();
            let right = request.starts_with("head /up http/1.1\r\n")
                && request.contains("\r\nx-key: word\r\n");
            let status = if right { "204 No Content" } else { "500 Wrong" };
            let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n");
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    }

    async fn free_port() -> (TcpListener, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        (listener, address)
    }

    #[test]
    fn user_and_password_leave_the_uri() {
        for (uri, without, user) in [
            ("http://h/p@q?r@s", "http://h/p@q?r@s", None),
            ("http://ada:w%40rd@h:1/p", "http://h:1/p", Some("ada:w@rd")),
            ("https://ada@h", "https://h", Some("ada")),
        ] {
            let user = user.map(|user| user.as_bytes().to_vec());
            assert_eq!(split_user(uri), (without.to_owned(), user));
        }
        let probe = |asked: &HttpCheck| {
            let (uri, user) = split_user(&asked.uri);
            HttpProbe::new(asked, &uri, user).unwrap()
        };
        let mut asked = http("http://ada:word@h/up".to_owned());
        let with_user = probe(&asked);
        assert_eq!(with_user.headers[header::AUTHORIZATION], "Basic YWRhOndvcmQ=");
        assert_eq!(with_user.url.to_string(), "http://h/up");
        asked.headers.push(("authorization".to_owned(), Secret::new("Bearer x".to_owned())));
        let with_header = probe(&asked);
        assert_eq!(with_header.headers[header::AUTHORIZATION], "Bearer x");
        assert_eq!(with_header.headers.get_all(header::AUTHORIZATION).iter().count(), 1);
    }

    #[tokio::test]
    async fn what_is_looked_at_decides() {
        let folder = tempfile::tempdir().unwrap();
        let registry = registry(folder.path()).await;
        let file = folder.path().join("down");
        let (web, web_address) = free_port().await;
        let (other, other_address) = free_port().await;
        let serving = tokio::spawn(serve(web));
        let asked = config::Health {
            storage: Some(config::StorageCheck { interval: OFTEN, threshold: 3 }),
            files: vec![FileCheck { file: file.clone(), interval: OFTEN }],
            http: vec![http(format!("http://{web_address}/up"))],
            tcp: vec![TcpCheck {
                addr: other_address.to_string(),
                timeout: Duration::from_secs(5),
                interval: OFTEN,
                threshold: 0,
            }],
        };
        let (health, shutdown) = (Health::default(), web::server::Shutdown::default());
        Checks::new(&asked, "filesystem", &registry).unwrap().run(&health, &shutdown.ending());
        std::fs::write(&file, "").unwrap();
        until(&health, false).await;
        let name = file.display().to_string();
        assert_eq!(health.failures(), [(name, "file exists".to_owned())].into());
        std::fs::remove_file(&file).unwrap();
        until(&health, true).await;

        drop(other);
        until(&health, false).await;
        let failures = health.failures();
        assert!(failures[&other_address.to_string()].contains("connection failed"), "{failures:?}");
        let again = TcpListener::bind(other_address).await.unwrap();
        until(&health, true).await;
        drop(again);

        serving.abort();
        let _ = serving.await;
        let name = format!("http://{web_address}/up");
        let end = Instant::now() + Duration::from_secs(20);
        while !health.failures().contains_key(&name) {
            assert!(Instant::now() < end);
            tokio::time::sleep(OFTEN).await;
        }
        shutdown.run(Duration::from_secs(5)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_threshold_is_of_failures_in_a_row() {
        let interval = Duration::from_secs(10);
        for (threshold, seconds, good) in [(1, 5, false), (3, 15, true), (3, 25, false)] {
            let check = Check {
                name: "c".to_owned(),
                probe: Probe::NoFile("/".into()),
                interval,
                threshold,
                timeout: Duration::from_secs(1),
            };
            let health = Health::default();
            let _ = timeout(Duration::from_secs(seconds), check.run(&health)).await;
            assert_eq!(health.is_good(), good, "{threshold} within {seconds} s");
        }
    }

    #[tokio::test]
    async fn a_check_that_cannot_be_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let registry = registry(folder.path()).await;
        for (uri, what) in [
            ("/path", "begins with http:// or https:// and a host"),
            ("ftp://h/", "begins with http:// or https:// and a host"),
            ("ftp://ada:word@h/", "begins with http:// or https:// and a host"),
        ] {
            let asked = config::Health { http: vec![http(uri.to_owned())], ..nothing() };
            let Err(error) = Checks::new(&asked, "filesystem", &registry) else { panic!("{uri}") };
            let message = format!("{error:#}");
            assert!(message.contains(what) && !message.contains("word@"), "{message}");
        }
    }
}
