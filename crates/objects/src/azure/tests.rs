//! What is opened, and tokens of identities.

use std::collections::BTreeMap;

use super::*;
use crate::credentials::suite::{self, Maker};
use crate::fake::{self, Asked};

/// Tokens are asked for at `/TENANT/oauth2/v2.0/token`, or of the machine at `/machine`, and have
/// to be asked for with `proof`.
fn token(asked: &Asked, proof: &str, token: &str, life: Duration) -> Option<String> {
    let target = asked.head.split(' ').nth(1).unwrap_or_default();
    if !target.starts_with("/tenant/oauth2/v2.0/token") && !target.starts_with("/machine?") {
        return None;
    }
    let text = format!("{} {}", asked.head, asked.body);
    if !text.contains(proof) {
        return Some(fake::answer("401 Unauthorized", "", "who?"));
    }
    let (life, now) = (life.as_secs(), jiff::Timestamp::now().as_second().unsigned_abs());
    let body = format!(
        r#"{{"access_token": "{token}", "expires_in": {life}, "expires_on": "{}"}}"#,
        now + life
    );
    // The machine tells numbers in text.
    let quoted = format!(r#""expires_in": "{life}""#);
    let plain = format!(r#""expires_in": {life}"#);
    let of_machine = target.starts_with("/machine");
    Some(fake::answer("200 OK", "", &if of_machine { body.replace(&plain, &quoted) } else { body }))
}

fn store(_: &Asked) -> String {
    let headers = "last-modified: Fri, 02 Jan 2026 03:04:05 GMT\netag: \"1\"\n";
    fake::answer("201 Created", headers, "")
}

fn maker(
    token: fn(&Asked, &str, Duration) -> Option<String>,
    credentials: Credentials,
    variables: &[(&'static str, &str)],
) -> Maker {
    let variables = variables.iter().map(|(name, value)| (*name, (*value).to_owned()));
    let variables = variables.collect::<BTreeMap<_, _>>();
    let open = move |url: &str| {
        let config = Config {
            account_name: "acme".to_owned(),
            container: "c".to_owned(),
            service_url: Some(format!("{url}/acme")),
            credentials: credentials.clone(),
            ..Config::default()
        };
        let variable = |name: &str| Some(variables.get(name)?.replace("URL", url));
        open_as(&config, Watch::default(), &variable).unwrap()
    };
    Maker {
        token,
        shown_behind: "authorization: Bearer ",
        store,
        open: Box::new(open),
        // The library renews them five minutes before their end.
        brief: Duration::from_secs(302),
        ending: Duration::from_secs(200),
    }
}

#[tokio::test]
async fn tokens_of_the_machine_are_kept_and_renewed() {
    let asked = |asked: &Asked, name: &str, life| token(asked, "client_id=one-of-two", name, life);
    let credentials =
        Credentials { client_id: Some("one-of-two".to_owned()), ..Credentials::default() };
    suite::run(&maker(asked, credentials, &[("IDENTITY_ENDPOINT", "URL/machine")])).await;
}

#[tokio::test]
async fn tokens_of_a_workload_are_kept_and_renewed() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    std::fs::write(&file, "of-the-cluster").unwrap();
    let asked = |asked: &Asked, name: &str, life| {
        token(asked, "client_assertion=of-the-cluster", name, life)
    };
    let variables = [
        ("AZURE_CLIENT_ID", "client"),
        ("AZURE_TENANT_ID", "tenant"),
        ("AZURE_AUTHORITY_HOST", "URL/"),
        ("AZURE_FEDERATED_TOKEN_FILE", &*file.to_string_lossy()),
    ];
    suite::run(&maker(asked, Credentials::default(), &variables)).await;
}

#[tokio::test]
async fn tokens_of_an_application_are_kept_and_renewed() {
    let asked = |asked: &Asked, name: &str, life| token(asked, "client_secret=hidden", name, life);
    let some = |text: &str| Some(text.to_owned());
    let credentials = Credentials {
        kind: None,
        client_id: some("client"),
        tenant_id: some("tenant"),
        secret: some("hidden"),
    };
    suite::run(&maker(asked, credentials, &[("AZURE_AUTHORITY_HOST", "URL")])).await;
}

fn config() -> Config {
    Config { account_name: "acme".to_owned(), container: "c".to_owned(), ..Config::default() }
}

#[test]
fn what_is_missing_is_named() {
    let open_as = |kind| {
        let credentials = Credentials { kind: Some(kind), ..Credentials::default() };
        open(&Config { credentials, ..config() }, Watch::default())
            .map(|_| ())
            .map_err(|error| error.to_string())
    };
    let error = open_as(CredentialsKind::SharedKey).unwrap_err();
    assert!(error.contains("the account's key"), "{error}");
    let error = open_as(CredentialsKind::ClientSecret).unwrap_err();
    assert!(error.contains("clientid, tenantid and secret"), "{error}");
    open_as(CredentialsKind::Identity).unwrap();
}

#[test]
fn secrets_are_not_shown() {
    let credentials = Credentials { secret: Some("hidden1".to_owned()), ..Credentials::default() };
    let config = Config {
        account_key: Some("aGlkZGVuMg==".to_owned()),
        connection_string: Some("AccountKey=aGlkZGVuMg==".to_owned()),
        credentials,
        ..config()
    };
    let store = open(&config, Watch::default()).unwrap();
    // The key in Base64, and its bytes.
    for shown in [format!("{config:?}"), format!("{store:?}")] {
        for secret in ["hidden", "aGlk", "104, 105"] {
            assert!(!shown.contains(secret), "{shown}");
        }
    }
}
