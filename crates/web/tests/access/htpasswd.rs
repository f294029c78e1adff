//! Names and passwords.

use auth::Access;
use http::Method;

use crate::support::live_body;
use crate::{basic, get, get_until, htpasswd, registry_with, write_users};

const CHALLENGE: &str = r#"Basic realm="Registry Realm""#;

#[tokio::test]
async fn the_challenge_to_the_byte() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("htpasswd");
    write_users(&path, &["jo"]);
    let access = Access::new(htpasswd(&path), None, b"").unwrap();
    let registry = registry_with(access, &["a/b"]).await;

    let answer = get(&registry, "/v2/", "").await.status(401);
    assert_eq!(answer.header("www-authenticate"), CHALLENGE);
    assert_eq!(
        &answer.body[..],
        b"{\"errors\":[{\"code\":\"UNAUTHORIZED\",\"message\":\"authentication required\",\"detail\":null}]}\n"
    );
    let answer = get(&registry, "/v2/a/b/manifests/v1", "").await.status(401);
    assert_eq!(answer.header("www-authenticate"), CHALLENGE);
    assert_eq!(
        answer.json()["errors"][0]["detail"],
        serde_json::json!([{ "Type": "repository", "Class": "", "Name": "a/b", "Action": "pull" }])
    );

    for wrong in [
        basic("jo", "wrong"),
        basic("nobody", "jo"),
        basic("", ""),
        "Basic".to_owned(),
        "Basic !".to_owned(),
        "Bearer jo".to_owned(),
        "Digest jo".to_owned(),
    ] {
        let answer = get(&registry, "/v2/", &wrong).await.status(401);
        assert_eq!(answer.header("www-authenticate"), CHALLENGE, "{wrong}");
    }
    // Whoever is in the file may do everything, as with registry:2.
    let jo = basic("jo", "jo");
    get(&registry, "/v2/", &jo).await.expect(200);
    get(&registry, "/v2/a/b/manifests/v1", &jo).await.expect(200);
    assert_eq!(get(&registry, "/v2/_catalog", &jo).await.list("repositories"), ["a/b"]);
    let upload = registry.request(Method::POST, "/v2/new/blobs/uploads/");
    upload.header("authorization", &jo).send().await.expect(202);
    let delete = registry.request(Method::DELETE, "/v2/a/b/manifests/v1");
    delete.header("authorization", &jo).send().await.expect(202);
}

#[tokio::test]
async fn a_request_costs_no_bcrypt_and_a_changed_file_counts() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("htpasswd");
    write_users(&path, &["jo", "ann"]);
    let access = Access::new(htpasswd(&path), None, b"").unwrap();
    let registry = registry_with(access.clone(), &[]).await;
    for _ in 0..50 {
        get(&registry, "/v2/", &basic("jo", "jo")).await.expect(200);
    }
    assert_eq!(access.passwords_compared(), 1);

    // Another hash of the same password, and a user less.
    write_users(&path, &["jo"]);
    get_until(&registry, "/v2/", &basic("ann", "ann"), 401).await;
    let before = access.passwords_compared();
    get(&registry, "/v2/", &basic("jo", "jo")).await.expect(200);
    assert_eq!(access.passwords_compared(), before + 1);
    std::fs::write(&path, "a line that is no user\nbob:plain\n").unwrap();
    get_until(&registry, "/v2/", &basic("jo", "jo"), 401).await;
    get(&registry, "/v2/", &basic("bob", "plain")).await.expect(401);
    write_users(&path, &["jo"]);
    get_until(&registry, "/v2/", &basic("jo", "jo"), 200).await;
}

#[tokio::test]
async fn guessing_is_slowed_down_for_who_guesses() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("htpasswd");
    write_users(&path, &["jo", "ann"]);
    let access = Access::new(htpasswd(&path), None, b"").unwrap();
    let registry = registry_with(access.clone(), &[]).await;
    get(&registry, "/v2/", &basic("jo", "jo")).await.expect(200);
    let mut statuses = Vec::new();
    for at in 0..20 {
        let answer = get(&registry, "/v2/", &basic("jo", &format!("guess{at}"))).await;
        if answer.status == 429 {
            assert_eq!(answer.code(), "TOOMANYREQUESTS");
            let wait = answer.header("retry-after").parse::<u64>().unwrap();
            assert!((1..=60).contains(&wait), "{answer}");
        }
        statuses.push(answer.status);
    }
    assert_eq!(statuses.iter().filter(|status| **status == 401).count(), 10, "{statuses:?}");
    assert_eq!(access.passwords_compared(), 11);
    // Who is known goes on, and so do others.
    get(&registry, "/v2/", &basic("jo", "jo")).await.expect(200);
    get(&registry, "/v2/", &basic("ann", "ann")).await.expect(200);
}

#[tokio::test]
async fn nothing_of_a_body_is_needed_to_refuse_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("htpasswd");
    write_users(&path, &["jo"]);
    let access = Access::new(htpasswd(&path), None, b"").unwrap();
    let registry = registry_with(access, &[]).await;
    // Nothing is ever sent.
    let (_sender, body) = live_body();
    let put = registry.request(Method::PUT, "/v2/a/manifests/v1").live_body(body);
    put.send().await.refused(401, "UNAUTHORIZED");
}
