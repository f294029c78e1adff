//! Tokens of a machine, of a user and of a service account, where everything of Google is at one
//! address.

use std::collections::BTreeMap;
use std::time::Duration;

use ::http::Uri;
use async_trait::async_trait;
use net::transport::Trust;
use object_store::ClientOptions;
use object_store::client::{HttpError, HttpRequest, HttpResponse};

use super::super::open_as;
use super::*;
use crate::Watch;
use crate::credentials::suite::{self, Maker};
use crate::fake::{self, Asked};
use crate::http::Connections;

/// Connections that all lead to one address.
#[derive(Clone, Debug)]
struct Redirected {
    connections: Connections,
    host: String,
}

impl HttpConnector for Redirected {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(self.clone()))
    }
}

#[async_trait]
impl HttpService for Redirected {
    async fn call(&self, mut request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let path = request.uri().path_and_query().unwrap().as_str();
        *request.uri_mut() = format!("http://{}{path}", self.host).parse::<Uri>().unwrap();
        self.connections.call(request).await
    }
}

fn store(asked: &Asked) -> String {
    assert!(asked.head.contains("/storage/v1/b/b/o"), "{asked:?}");
    let object = r#"{"name": "key", "size": "0", "updated": "2026-01-02T03:04:05Z"}"#;
    fake::answer("200 OK", "", object)
}

fn of_machine(asked: &Asked, token: &str, life: Duration) -> Option<String> {
    let path = "GET /computeMetadata/v1/instance/service-accounts/default/token?";
    asked.head.starts_with(path).then(|| granted(token, life))
}

fn of_user(asked: &Asked, token: &str, life: Duration) -> Option<String> {
    let is_asked = asked.head.starts_with("POST /o/oauth2/token ");
    is_asked.then(|| {
        assert!(asked.body.contains("refresh_token=of-the-user"), "{asked:?}");
        granted(token, life)
    })
}

fn granted(token: &str, life: Duration) -> String {
    let life = life.as_secs();
    fake::answer("200 OK", "", &format!(r#"{{"access_token": "{token}", "expires_in": {life}}}"#))
}

fn maker(token: fn(&Asked, &str, Duration) -> Option<String>, config: Config) -> Maker {
    Maker {
        token,
        shown_behind: "authorization: Bearer ",
        store,
        open: Box::new(move |url| open(&config, url)),
        // The library renews them four minutes before their end.
        brief: Duration::from_secs(242),
        ending: Duration::from_secs(200),
    }
}

fn open(config: &Config, url: &str) -> Arc<dyn crate::Objects> {
    let connections = Connections::new(&Trust::default(), Watch::default()).unwrap();
    let host = url.strip_prefix("http://").unwrap().to_owned();
    let identity = Identity::find(config, Redirected { connections, host }).unwrap();
    open_as(identity, config, url.to_owned()).unwrap()
}

fn config() -> Config {
    Config { bucket: "b".to_owned(), ..Config::default() }
}

#[tokio::test]
async fn tokens_of_the_machine_are_kept_and_renewed() {
    suite::run(&maker(of_machine, config())).await;
}

#[tokio::test]
async fn tokens_of_a_user_are_kept_and_renewed() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("key.json");
    let said = r#"{"type": "authorized_user", "client_id": "c", "client_secret": "s",
        "refresh_token": "of-the-user"}"#;
    std::fs::write(&file, said).unwrap();
    suite::run(&maker(of_user, Config { key_file: Some(file), ..config() })).await;
}

/// They are made here, so that nobody has to be asked.
#[tokio::test]
async fn tokens_of_a_key_are_made_once_and_again_when_they_are_refused() {
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).unwrap().serialize_pem();
    let fields = [
        ("type", "service_account"),
        ("private_key_id", "1"),
        ("client_email", "me@project.example"),
        ("private_key", key.as_str()),
    ];
    let fields = fields.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let config = Config { credentials: BTreeMap::from(fields), ..config() };
    let server = fake::Fake::start(|number, asked| match number {
        3 => fake::answer("401 Unauthorized", "", "revoked"),
        _ => store(asked),
    })
    .await;
    let store = open(&config, &server.url);
    for _ in 0..3 {
        store.find("key").await.unwrap();
    }
    // A token tells in seconds when it was made.
    let second = jiff::Timestamp::now().as_second();
    while jiff::Timestamp::now().as_second() == second {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    store.find("key").await.unwrap();
    store.find("key").await.unwrap();
    let shown = |asked: &Asked| {
        let line = asked.head.lines().find(|line| line.starts_with("authorization: Bearer ey"));
        line.unwrap().to_owned()
    };
    let shown = server.asked().iter().map(shown).collect::<Vec<_>>();
    assert_eq!(shown.len(), 6);
    assert!(shown[..4].iter().all(|it| *it == shown[0]), "{shown:?}");
    assert!(shown[4] == shown[5] && shown[4] != shown[0], "{shown:?}");
}
