//! What each route wants, and what is open.

use auth::{Access, silly::Silly};
use http::Method;

use crate::support::{TestRegistry, sha256};
use crate::{ask, basic, get, htpasswd, registry_with, write_users};

fn silly() -> Access {
    let silly = Silly { realm: "https://auth.example/token".into(), service: "registry".into() };
    Access::new(silly, None, b"").unwrap()
}

fn digest() -> String {
    sha256(b"content")
}

#[tokio::test]
async fn the_scope_that_each_route_and_method_wants() {
    let registry = registry_with(silly(), &["a/b"]).await;
    let digest = digest();
    let blob = format!("/v2/a/b/blobs/{digest}");
    let referrers = format!("/v2/a/b/referrers/{digest}");
    let mount = format!("/v2/a/b/blobs/uploads/?mount={digest}&from=c");
    let pull = "repository:a/b:pull";
    let push = "repository:a/b:pull repository:a/b:push";
    let delete = "repository:a/b:delete";
    for (methods, target, scope) in [
        ("GET HEAD POST BREW", "/v2/", ""),
        ("GET HEAD", "/v2/_catalog", "registry:catalog:*"),
        ("GET HEAD", "/v1/search?q=a", "registry:catalog:*"),
        ("GET HEAD", "/v2/a/b/tags/list", pull),
        ("GET HEAD", "/v2/a/b/manifests/v1", pull),
        ("PUT", "/v2/a/b/manifests/v1", push),
        ("DELETE", "/v2/a/b/manifests/v1", delete),
        ("GET HEAD", &blob, pull),
        ("DELETE", &blob, delete),
        ("GET HEAD", &referrers, pull),
        ("POST", "/v2/a/b/blobs/uploads/", push),
        ("POST", &mount, "repository:a/b:pull repository:a/b:push repository:c:pull"),
        ("POST", "/v2/a/b/blobs/uploads/?mount=x&from=A", push),
        ("GET HEAD", "/v2/a/b/blobs/uploads/1", pull),
        ("PATCH PUT", "/v2/a/b/blobs/uploads/1", push),
        ("DELETE", "/v2/a/b/blobs/uploads/1", delete),
        // What is not there, or can not be, is told only to who is known.
        ("GET PUT DELETE", "/v2/nowhere", ""),
        ("GET", "/v2/a/b/other", ""),
        ("GET", "/v2/A/tags/list", ""),
        ("BREW", "/v2/a/b/tags/list", ""),
    ] {
        for method in methods.split(' ') {
            let method = Method::from_bytes(method.as_bytes()).unwrap();
            let answer = ask(&registry, method, target, "").await.status(401);
            let scope =
                if scope.is_empty() { String::new() } else { format!(",scope=\"{scope}\"") };
            assert_eq!(
                answer.header("www-authenticate"),
                format!(r#"Bearer realm="https://auth.example/token",service="registry"{scope}"#),
                "{answer}"
            );
        }
    }
}

#[tokio::test]
async fn anything_at_all_is_enough_for_silly() {
    let registry = registry_with(silly(), &["a/b"]).await;
    for credentials in ["x", "Bearer y", &basic("jo", "jo")] {
        get(&registry, "/v2/", credentials).await.expect(200);
        get(&registry, "/v2/a/b/manifests/v1", credentials).await.expect(200);
        get(&registry, "/v2/_catalog", credentials).await.expect(200);
    }
}

#[tokio::test]
async fn what_is_open_stays_open() {
    let registry = registry_with(silly(), &["a/b"]).await;
    get(&registry, "/", "").await.expect(200);
    get(&registry, "/v1/_ping", "").await.expect(200);
    get(&registry, "/v2", "").await.expect(301);
    get(&registry, "/nowhere", "").await.refused(404, "UNSUPPORTED");
    for target in ["/v2/", "/v2/a/b/manifests/v1", "/v2/_catalog", "/v2/a/b/blobs/uploads/"] {
        let answer = ask(&registry, Method::OPTIONS, target, "").await;
        let answer = answer.status(200);
        assert!(answer.get("allow").is_some(), "{answer}");
    }
}

#[tokio::test]
async fn without_access_control_credentials_do_not_matter() {
    let registry = registry_with(Access::none(), &["a/b"]).await;
    for credentials in ["", "x", "Basic !", &basic("jo", "jo")] {
        get(&registry, "/v2/", credentials).await.expect(200);
        get(&registry, "/v2/a/b/manifests/v1", credentials).await.expect(200);
    }
}

/// Whatever the header holds: no panic, no failure of ours.
#[tokio::test]
async fn no_authorization_is_too_odd() {
    use crate::support::Random;
    use crate::token::{Issuer, checker};
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("htpasswd");
    write_users(&path, &["jo"]);
    let issuer = Issuer::new();
    let registries: Vec<TestRegistry> = vec![
        registry_with(silly(), &["a"]).await,
        registry_with(Access::new(htpasswd(&path), None, b"").unwrap(), &["a"]).await,
        registry_with(Access::new(checker(folder.path(), &issuer), None, b"").unwrap(), &["a"])
            .await,
        registry_with(
            Access::new(htpasswd(&path), Some(crate::house_rules()), b"").unwrap(),
            &["a"],
        )
        .await,
    ];
    let mut random = Random::new(Random::seed("no_authorization_is_too_odd"));
    let starts: [&[u8]; 8] =
        [b"", b"Basic ", b"Bearer ", b"basic", b"Bearer a.b.", b"\xff", b"Basic Og==", b" "];
    for _ in 0..300 {
        let mut value = random.pick(&starts).to_vec();
        let length = random.below(40);
        let rest = random.bytes(length).into_iter();
        value.extend(rest.filter(|byte| *byte >= 32 && *byte != 127));
        for registry in &registries {
            for target in ["/v2/", "/v2/a/manifests/v1", "/v2/_catalog"] {
                // Every answer is checked to be no failure.
                let request = registry.request(Method::GET, target);
                let _ = request.header("authorization", &value).send().await;
            }
        }
    }
}

#[tokio::test]
async fn operators_see_what_became_of_credentials() {
    use http_body_util::BodyExt;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("htpasswd");
    write_users(&path, &["jo"]);
    let mut registry = registry_with(Access::none(), &["a"]).await;
    let mut config = web::Config::new(None, true);
    config.access = Access::new(htpasswd(&path), Some(crate::house_rules()), b"").unwrap();
    let metrics = web::Metrics::default();
    registry.service = web::Service::new(registry.registry.clone(), config, metrics.clone());
    for (target, credentials) in [
        ("/v2/", String::new()),
        ("/v2/", basic("jo", "wrong")),
        ("/v2/", basic("jo", "jo")),
        ("/v2/a/tags/list", basic("jo", "jo")),
        ("/v2/library/x/tags/list", String::new()),
        ("/", String::new()),
    ] {
        let _ = get(&registry, target, &credentials).await;
    }
    let path = Some("/metrics".to_owned());
    let health = web::Health::default();
    let debug = web::Debug::new(registry.registry.clone(), health, metrics, path);
    let body = debug
        .handle(&Method::GET, "/metrics", &http::HeaderMap::new())
        .await
        .into_body()
        .collect()
        .await
        .unwrap();
    let text = String::from_utf8(body.to_bytes().to_vec()).unwrap();
    for outcome in ["challenged", "wrong", "admitted", "denied", "anonymous", "open"] {
        let line = format!("orlop_auth_requests_total{{outcome=\"{outcome}\"}} 1\n");
        assert!(text.contains(&line), "{outcome}: {text}");
    }
}
