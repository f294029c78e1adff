//! Logins at servers that answer as the documentation says.

use net::transport::Trust;
use serde_json::{Value, json};

use super::*;
use crate::Watch;
use crate::credentials::suite::{self, Maker};
use crate::fake::{self, Asked, Fake};
use crate::swift::EndpointType;

const V1_ANSWER: &str = "x-storage-url: http://store/v1/AUTH_test/\nx-auth-token: t1\n";

fn config(url: &str, path: &str) -> Config {
    Config {
        username: "joe".to_owned(),
        password: "s3cret".to_owned(),
        auth_url: format!("{url}{path}"),
        ..Config::default()
    }
}

fn login(config: &Config) -> Login {
    Login::new(config, Sender::new(&Trust::default(), Watch::default()).unwrap()).unwrap()
}

fn body(server: &Fake) -> Value {
    serde_json::from_str(&server.asked().last().unwrap().body).unwrap()
}

#[tokio::test]
async fn version_1_proves_itself_in_headers() {
    let server = Fake::start(|_, _| fake::answer("200 OK", V1_ANSWER, "")).await;
    let login = login(&config(&server.url, "/auth/v1.0"));
    let session = login.session().await.unwrap();
    assert_eq!(
        (session.token.to_str().unwrap(), session.url.as_str()),
        ("t1", "http://store/v1/AUTH_test")
    );
    assert!(!format!("{session:?}").contains("t1"));
    let head = &server.asked()[0].head;
    assert!(head.starts_with("GET /auth/v1.0 HTTP/1.1"), "{head}");
    assert!(head.contains("x-auth-user: joe") && head.contains("x-auth-key: s3cret"), "{head}");
}

#[tokio::test]
async fn a_session_lasts_until_it_ends_or_is_refused() {
    let server = Fake::start(|number, _| {
        let life = if number == 0 { 3600 } else { 0 };
        let headers = format!("{V1_ANSWER}x-auth-token-expires: {life}\n");
        fake::answer("200 OK", &headers.replace("t1", &format!("t{number}")), "")
    })
    .await;
    let login = login(&config(&server.url, "/auth/v1.0"));
    let first = login.session().await.unwrap();
    assert_eq!(login.session().await.unwrap().token, "t0");
    let second = login.after(&first).await.unwrap().unwrap();
    assert_eq!(second.token, "t1");
    // Who was refused at the same time does not log in a third time.
    assert_eq!(login.after(&first).await.unwrap().unwrap().token, "t1");
    // This one has ended.
    assert_eq!(login.session().await.unwrap().token, "t2");
    assert_eq!(server.asked().len(), 3);
}

#[tokio::test]
async fn version_2_names_a_tenant() {
    let server = Fake::start(|_, _| {
        let endpoint = |region: &str| {
            let url = |kind| format!("https://{kind}.{region}/v1/AUTH_1");
            json!({"region": region, "publicURL": url("public"), "internalURL": url("internal")})
        };
        let answer = json!({"access": {
            "token": {"id": "t2", "issued_at": "2014-01-30T15:30:58.819584",
                      "expires": "2014-01-31T15:30:58Z", "tenant": {"id": "1"}},
            "serviceCatalog": [
                {"type": "compute", "name": "nova", "endpoints": [endpoint("nowhere")]},
                {"type": "object-store", "name": "swift",
                 "endpoints": [endpoint("one"), endpoint("two")]},
            ],
            "user": {"username": "joe"},
        }});
        fake::answer("200 OK", "", &answer.to_string())
    })
    .await;
    let mut config = config(&server.url, "/v2.0/");
    config.tenant = Some("team".to_owned());
    let session = login(&config).session().await.unwrap();
    assert_eq!(
        (session.token.to_str().unwrap(), session.url.as_str()),
        ("t2", "https://public.one/v1/AUTH_1")
    );
    assert!(session.is_fresh(), "a day by the server's clock, whatever ours says");
    assert!(server.asked()[0].head.starts_with("POST /v2.0/tokens "));
    let credentials = json!({"username": "joe", "password": "s3cret"});
    let expected = json!({"passwordCredentials": credentials, "tenantName": "team"});
    assert_eq!(body(&server), json!({"auth": expected}));

    config.tenant_id = Some("1".to_owned());
    config.region = Some("two".to_owned());
    config.endpoint_type = EndpointType::Internal;
    let session = login(&config).session().await.unwrap();
    assert_eq!(session.url, "https://internal.two/v1/AUTH_1");
    let expected = json!({"passwordCredentials": credentials, "tenantId": "1"});
    assert_eq!(body(&server), json!({"auth": expected}));

    config.region = Some("three".to_owned());
    let error = login(&config).session().await.unwrap_err().to_string();
    assert!(error.contains("\"three\"") && error.contains("{\"one\", \"two\"}"), "{error}");
}

#[tokio::test]
async fn version_3_names_domains_and_projects() {
    let server = Fake::start(|_, _| {
        let endpoint = |interface: &str, region: &str| {
            let url = format!("https://{interface}.{region}/v1/AUTH_1");
            json!({"interface": interface, "region": region, "region_id": region, "url": url})
        };
        let answer = json!({"token": {
            "methods": ["password"],
            "issued_at": "2015-11-06T14:32:17.893769Z",
            "expires_at": "2015-11-06T15:32:17.893797Z",
            "catalog": [
                {"type": "identity", "name": "keystone", "endpoints": [endpoint("public", "x")]},
                {"type": "object-store", "name": "swift", "endpoints": [
                    endpoint("admin", "one"), endpoint("public", "one"), endpoint("public", "two"),
                ]},
            ],
        }});
        fake::answer("201 Created", "x-subject-token: t3\n", &answer.to_string())
    })
    .await;
    let some = |text: &str| Some(text.to_owned());
    let plain = || config(&server.url, "/identity/v3");
    let user = |domain: Value| {
        let user = json!({"name": "joe", "domain": domain, "password": "s3cret"});
        json!({"methods": ["password"], "password": {"user": user}})
    };
    let cases = [
        (plain(), json!({"identity": user(json!({"name": "Default"}))})),
        (
            Config { tenant: some("team"), domain: some("d"), ..plain() },
            json!({"identity": user(json!({"name": "d"})),
                   "scope": {"project": {"name": "team", "domain": {"name": "d"}}}}),
        ),
        (
            Config {
                tenant: some("team"),
                domain_id: some("d1"),
                tenant_domain_id: some("d2"),
                ..plain()
            },
            json!({"identity": user(json!({"id": "d1"})),
                   "scope": {"project": {"name": "team", "domain": {"id": "d2"}}}}),
        ),
        (
            Config { tenant: some("team"), tenant_domain: some("other"), ..plain() },
            json!({"identity": user(json!({"name": "Default"})),
                   "scope": {"project": {"name": "team", "domain": {"name": "other"}}}}),
        ),
        (
            Config { tenant: some("team"), tenant_id: some("1"), ..plain() },
            json!({"identity": user(json!({"name": "Default"})),
                   "scope": {"project": {"id": "1"}}}),
        ),
        (
            Config { tenant: some("team"), trust_id: some("t"), ..plain() },
            json!({"identity": user(json!({"name": "Default"})),
                   "scope": {"OS-TRUST:trust": {"id": "t"}}}),
        ),
    ];
    for (config, expected) in cases {
        let session = login(&config).session().await.unwrap();
        assert_eq!(
            (session.token.to_str().unwrap(), session.url.as_str()),
            ("t3", "https://public.one/v1/AUTH_1")
        );
        assert!(session.is_fresh());
        assert_eq!(body(&server), json!({"auth": expected}));
    }
    assert!(server.asked()[0].head.starts_with("POST /identity/v3/auth/tokens "));
    let there = Config { region: some("two"), ..plain() };
    assert_eq!(login(&there).session().await.unwrap().url, "https://public.two/v1/AUTH_1");
    let admin = Config { endpoint_type: EndpointType::Admin, ..plain() };
    assert_eq!(login(&admin).session().await.unwrap().url, "https://admin.one/v1/AUTH_1");
}

#[tokio::test]
async fn who_is_refused_is_told_so_without_secrets() {
    let server = Fake::start(|_, _| {
        let answer = json!({"error": {"code": 401, "title": "Unauthorized",
            "message": "The request you have made requires authentication."}});
        fake::answer("401 Unauthorized", "", &answer.to_string())
    })
    .await;
    for path in ["/v1.0", "/v2.0", "/v3"] {
        let error = login(&config(&server.url, path)).session().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Denied);
        let shown = format!("{error} {error:?}");
        assert!(shown.contains("requires authentication") && !shown.contains("s3cret"), "{shown}");
    }
}

#[test]
fn the_url_or_the_setting_says_how() {
    let version = |path: &str, auth_version: u8| {
        Version::of(&Config { auth_version, ..config("https://auth.example", path) }).ok()
    };
    assert_eq!(version("/auth/v1.0", 0), Some(Version::V1));
    assert_eq!(version("/identity/v2.0", 0), Some(Version::V2));
    assert_eq!(version("/v3/", 0), Some(Version::V3));
    assert_eq!(version("/identity", 3), Some(Version::V3));
    assert_eq!((version("/identity", 0), version("/v3", 4)), (None, None));
}

/// Keystone, and `TempAuth` at `/v1.0`, with the store beside them.
fn token(asked: &Asked, token: &str, life: Duration) -> Option<String> {
    let host = asked.head.lines().find_map(|line| line.strip_prefix("host: ")).unwrap_or_default();
    let url = format!("http://{host}/store/v1/AUTH_test");
    if asked.head.starts_with("GET /v1.0 ") {
        let life = life.as_secs();
        let headers =
            format!("x-storage-url: {url}\nx-auth-token: {token}\nx-auth-token-expires: {life}\n");
        return Some(fake::answer("200 OK", &headers, ""));
    }
    let (begins, ends) = (Timestamp::now(), Timestamp::now() + life);
    if asked.head.starts_with("POST /v2.0/tokens ") {
        let answer = json!({"access": {
            "token": {"id": token, "issued_at": begins.to_string(), "expires": ends.to_string()},
            "serviceCatalog": [{"type": "object-store", "endpoints": [{"publicURL": url}]}],
        }});
        return Some(fake::answer("200 OK", "", &answer.to_string()));
    }
    if asked.head.starts_with("POST /v3/auth/tokens ") {
        let endpoint = json!({"interface": "public", "url": url});
        let answer = json!({"token": {
            "issued_at": begins.to_string(), "expires_at": ends.to_string(),
            "catalog": [{"type": "object-store", "endpoints": [endpoint]}],
        }});
        let headers = format!("x-subject-token: {token}\n");
        return Some(fake::answer("201 Created", &headers, &answer.to_string()));
    }
    None
}

#[tokio::test]
async fn tokens_are_kept_and_renewed() {
    let of = |path: &'static str| async move {
        suite::run(&Maker {
            token,
            shown_behind: "x-auth-token: ",
            store: |_| {
                let modified = "last-modified: Fri, 02 Jan 2026 03:04:05 GMT\n";
                fake::answer("201 Created", modified, "")
            },
            open: Box::new(move |url| {
                let config = Config { container: "c".to_owned(), ..config(url, path) };
                crate::swift::open(&config, Watch::default()).unwrap()
            }),
            // They are renewed when a tenth of it is left.
            brief: Duration::from_secs(5),
            ending: Duration::ZERO,
        })
        .await;
    };
    tokio::join!(of("/v1.0"), of("/v2.0"), of("/v3"));
}
