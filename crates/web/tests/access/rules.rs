//! Rules of the configuration.

use std::collections::BTreeSet;

use auth::{Access, Action, Backend, Rules};
use http::Method;
use tempfile::TempDir;

use crate::support::{TestRegistry, sha256};
use crate::{ask, basic, get, get_until, house_rules, htpasswd, registry_with, rule, write_users};

const IMAGES: [&str; 5] = ["library/alpine", "library/x/y", "secret", "team/app", "team/other"];

async fn registry() -> (TempDir, TestRegistry) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("htpasswd");
    write_users(&path, &["jo", "ci"]);
    let access = Access::new(htpasswd(&path), Some(house_rules()), b"").unwrap();
    (folder, registry_with(access, &IMAGES).await)
}

#[tokio::test]
async fn everyone_may_pull_and_ci_may_push() {
    let (_folder, registry) = registry().await;
    let (jo, ci) = (basic("jo", "jo"), basic("ci", "ci"));
    let manifest = |name: &str| format!("/v2/{name}/manifests/v1");
    let upload = |name: &str| format!("/v2/{name}/blobs/uploads/");
    for (method, target, nobody, jos, cis) in [
        ("GET", manifest("library/alpine"), 200, 200, 200),
        ("GET", manifest("library/none"), 404, 404, 404),
        ("GET", manifest("team/app"), 401, 200, 200),
        ("GET", manifest("secret"), 401, 403, 200),
        ("GET", manifest("none"), 401, 403, 404),
        ("POST", upload("library/alpine"), 401, 403, 202),
        ("POST", upload("team/app"), 401, 202, 202),
        ("POST", upload("team/other"), 401, 403, 202),
        ("DELETE", manifest("team/other"), 401, 403, 403),
        ("GET", "/v2/".to_owned(), 401, 200, 200),
        ("GET", "/v2/A/tags/list".to_owned(), 401, 400, 400),
    ] {
        for (credentials, status) in [("", nobody), (&jo, jos), (&ci, cis)] {
            let method = Method::from_bytes(method.as_bytes()).unwrap();
            let answer = ask(&registry, method, &target, credentials).await.status(status);
            match status {
                401 => {
                    assert!(answer.header("www-authenticate").starts_with(START));
                }
                403 => {
                    assert_eq!(answer.code(), "DENIED");
                    assert!(answer.get("www-authenticate").is_none());
                }
                _ => {}
            }
        }
    }
    // A wrong password is never taken for none; an empty one is none.
    get(&registry, &manifest("library/alpine"), &basic("jo", "wrong")).await.expect(401);
    get(&registry, &manifest("library/alpine"), &basic("", "")).await.expect(200);
}

/// Where strangers may do something, clients are not made to log in: they are sent for a token.
const START: &str = r#"Bearer realm="http://registry.test/v2/token",service="Registry Realm""#;

#[tokio::test]
async fn clients_get_tokens_with_a_password_or_without() {
    let (folder, registry) = registry().await;
    let challenge = async |target: &str, credentials: &str| {
        let answer = get(&registry, target, credentials).await.status(401);
        answer.header("www-authenticate").to_owned()
    };
    let token = async |credentials: &str| {
        let target = "/v2/token?service=Registry+Realm&scope=repository%3Asecret%3Apull";
        let answer = get(&registry, target, credentials).await.status(200);
        assert_eq!(answer.header("cache-control"), "no-store");
        assert_eq!(answer.json()["token"], answer.json()["access_token"]);
        assert_eq!(answer.json()["expires_in"], 300);
        format!("Bearer {}", answer.json()["token"].as_str().unwrap())
    };
    assert_eq!(challenge("/v2/", "").await, START);
    let (alpine, app) = ("/v2/library/alpine/manifests/v1", "/v2/team/app/manifests/v1");
    assert_eq!(challenge(app, "").await, format!(r#"{START},scope="repository:team/app:pull""#));

    let nobody = token("").await;
    get(&registry, "/v2/", &nobody).await.expect(200);
    get(&registry, alpine, &nobody).await.expect(200);
    assert_eq!(
        challenge(app, &nobody).await,
        format!(r#"{START},scope="repository:team/app:pull",error="insufficient_scope""#)
    );
    let jo = token(&basic("jo", "jo")).await;
    get(&registry, app, &jo).await.expect(200);
    get(&registry, "/v2/secret/manifests/v1", &jo).await.refused(403, "DENIED");

    let answer = get(&registry, "/v2/token", &basic("jo", "wrong")).await.status(401);
    assert_eq!(answer.header("www-authenticate"), r#"Basic realm="Registry Realm""#);
    ask(&registry, Method::POST, "/v2/token", "").await.refused(405, "UNSUPPORTED");
    for odd in ["Bearer x", &format!("{jo}A"), &jo[..jo.len() - 4]] {
        assert_eq!(challenge("/v2/", odd).await, format!(r#"{START},error="invalid_token""#));
    }
    // With the password the token ends.
    write_users(&folder.path().join("htpasswd"), &["jo"]);
    get_until(&registry, app, &jo, 401).await;
    get(&registry, alpine, &nobody).await.expect(200);
}

#[tokio::test]
async fn where_no_stranger_is_welcome_there_are_no_tokens() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("htpasswd");
    write_users(&path, &["jo"]);
    let rules = Rules::new([rule(&["**"], &["*"], &[Action::Pull])]);
    let access = Access::new(htpasswd(&path), Some(rules), b"").unwrap();
    let registry = registry_with(access, &[]).await;
    let answer = get(&registry, "/v2/", "").await.status(401);
    assert_eq!(answer.header("www-authenticate"), r#"Basic realm="Registry Realm""#);
    get(&registry, "/v2/token", "").await.refused(404, "UNSUPPORTED");
}

#[tokio::test]
async fn a_mount_that_is_not_allowed_becomes_an_upload() {
    let (_folder, registry) = registry().await;
    let jo = basic("jo", "jo");
    let mount = async |layer: &str, from: &str| {
        let digest = sha256(format!("layer of {layer}").as_bytes());
        let target = format!("/v2/team/app/blobs/uploads/?mount={digest}{from}");
        ask(&registry, Method::POST, &target, &jo).await.status
    };
    assert_eq!(mount("secret", "&from=secret").await, 202);
    assert_eq!(mount("secret", "").await, 202);
    assert_eq!(mount("team/other", "&from=team/other").await, 201);
    assert_eq!(mount("library/alpine", "").await, 201);
}

#[tokio::test]
async fn lists_show_what_may_be_pulled() {
    let (_folder, registry) = registry().await;
    for (credentials, expected) in [
        (String::new(), &IMAGES[..2]),
        (basic("jo", "jo"), &["library/alpine", "library/x/y", "team/app", "team/other"]),
        (basic("ci", "ci"), &IMAGES[..]),
    ] {
        for size in 1..=6 {
            let found = walk(&registry, &format!("/v2/_catalog?n={size}"), &credentials).await;
            assert_eq!(found, expected, "pages of {size}");
        }
        let answer = get(&registry, "/v1/search?q=", &credentials).await.status(200).json();
        let found = answer["results"].as_array().unwrap().iter();
        let found = found.map(|result| result["name"].as_str().unwrap()).collect::<Vec<_>>();
        assert_eq!(found, expected);
        assert_eq!(answer["num_results"], expected.len());
        let answer = get(&registry, "/v1/search?q=secret", &credentials).await.json();
        assert_eq!(answer["num_results"], u64::from(expected.len() == IMAGES.len()));
    }
}

/// All names of a catalogue, page by page. No link names what is not shown.
async fn walk(registry: &TestRegistry, first: &str, credentials: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut target = first.to_owned();
    for _ in 0..1000 {
        let answer = get(registry, &target, credentials).await.status(200);
        found.extend(answer.list("repositories"));
        let Some(next) = answer.next_page() else {
            return found;
        };
        target = next;
    }
    panic!("the catalogue has no end");
}

/// More names than are looked at for one page, of which few may be seen, and those by a pattern
/// that gives no hint where they are.
#[tokio::test]
async fn a_page_takes_no_more_work_than_it_may() {
    let mut registry = registry_with(Access::none(), &[]).await;
    let manifest = crate::support::images::index(&[]);
    let mut expected = BTreeSet::new();
    for at in 0..5200 {
        let hidden = format!("r{at:05}/hidden");
        push_empty(&registry, &hidden, &manifest).await;
        if at % 2000 == 1999 {
            let seen = format!("r{at:05}/seen");
            push_empty(&registry, &seen, &manifest).await;
            expected.insert(seen);
        }
    }
    let rules = Rules::new([rule(&["*/seen"], &["anonymous"], &[Action::Pull])]);
    let mut config = web::Config::new(None, true);
    config.access = Access::new(Backend::None, Some(rules), b"").unwrap();
    registry.service =
        web::Service::new(registry.registry.clone(), config, web::Metrics::default());
    let first = get(&registry, "/v2/_catalog?n=5", "").await.status(200);
    assert_eq!(first.list("repositories").len(), 2);
    let next = first.next_page().expect("the page ended early");
    assert!(!next.contains("hidden"), "{next}");
    let found = walk(&registry, "/v2/_catalog?n=5", "").await;
    assert_eq!(found.into_iter().collect::<BTreeSet<_>>(), expected);
    // A place that somebody else has made up.
    get(&registry, "/v2/_catalog?last=~AAAA", "").await.refused(400, "PAGINATION_NUMBER_INVALID");
}

async fn push_empty(registry: &TestRegistry, name: &str, manifest: &str) {
    registry.push_manifest(name, "v1", oci::media_type::OCI_INDEX, manifest).await;
}

#[tokio::test]
async fn without_a_way_to_log_in_there_is_no_challenge() {
    let rules = Rules::new([rule(&["library/**"], &["anonymous"], &[Action::Pull])]);
    let access = Access::new(Backend::None, Some(rules), b"").unwrap();
    let registry = registry_with(access, &IMAGES).await;
    get(&registry, "/v2/", "").await.expect(200);
    get(&registry, "/v2/library/alpine/manifests/v1", "").await.expect(200);
    get(&registry, "/v2/secret/manifests/v1", "").await.refused(403, "DENIED");
    let upload = ask(&registry, Method::POST, "/v2/library/alpine/blobs/uploads/", "").await;
    upload.refused(403, "DENIED");
}
