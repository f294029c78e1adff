//! `/`, `/v2/` and what all answers have in common.

use http::Method;

use crate::support::TestRegistry;

#[tokio::test]
async fn the_base_says_that_this_is_a_registry() {
    let registry = TestRegistry::new().await;
    let answer = registry.get("/v2/").await.status(200);
    assert_eq!(answer.header("content-type"), "application/json");
    assert_eq!(&answer.body[..], b"{}");
    registry.head("/v2/").await.expect(200);
    let answer = registry.get("/v2").await.status(301);
    assert_eq!(answer.header("location"), "/v2/");
}

#[tokio::test]
async fn load_balancers_find_the_root_alive() {
    let registry = TestRegistry::new().await;
    let answer = registry.get("/").await.status(200);
    assert_eq!(answer.header("cache-control"), "no-cache");
    assert!(answer.body.is_empty());
}

#[tokio::test]
async fn the_old_ping_tells_of_a_standalone_registry() {
    let registry = TestRegistry::new().await;
    let answer = registry.get("/v1/_ping").await.status(200);
    assert_eq!(&answer.body[..], b"true");
    assert_eq!(answer.header("x-docker-registry-standalone"), "true");
}

/// Every resource names its methods in `Allow` when asked for another one.
#[tokio::test]
async fn methods_that_a_resource_does_not_have() {
    let registry = TestRegistry::new().await;
    let upload = registry.begin_upload("a/b").await;
    let digest = registry.push_blob("a/b", b"content").await;
    let blob = format!("/v2/a/b/blobs/{digest}");
    let referrers = format!("/v2/a/b/referrers/{digest}");
    for (target, allowed) in [
        ("/v2/", "GET, HEAD"),
        ("/v2/_catalog", "GET, HEAD"),
        ("/v2/a/b/tags/list", "GET, HEAD"),
        ("/v2/a/b/manifests/v1", "DELETE, GET, HEAD, PUT"),
        (blob.as_str(), "DELETE, GET, HEAD"),
        ("/v2/a/b/blobs/uploads/", "POST"),
        (upload.as_str(), "DELETE, GET, HEAD, PATCH, PUT"),
        (referrers.as_str(), "GET, HEAD"),
        ("/v1/search", "GET, HEAD"),
    ] {
        for method in ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "TRACE", "BREW"] {
            if allowed.split(", ").any(|allowed| allowed == method) {
                continue;
            }
            let method = Method::from_bytes(method.as_bytes()).unwrap();
            let answer = registry.request(method, target).body("{}").send().await;
            let answer = answer.refused(405, "UNSUPPORTED");
            assert_eq!(answer.header("allow"), allowed, "{answer}");
        }
        // Browsers ask so before they send a request of another site.
        let answer = registry.request(Method::OPTIONS, target).send().await.status(200);
        assert_eq!(answer.header("allow"), allowed, "{answer}");
        assert!(answer.body.is_empty(), "{answer}");
    }
}

#[tokio::test]
async fn paths_that_lead_nowhere() {
    let registry = TestRegistry::new().await;
    for target in [
        "/v2/a",
        "/v2/a/b",
        "/v2/a/tags",
        "/v2/a/tags/list/",
        "/v2/a/manifest/v1",
        "/v2/%ff/tags/list",
        "/v3/",
        "/v1/repositories",
        "/favicon.ico",
        "//v2/",
    ] {
        registry.get(target).await.refused(404, "UNSUPPORTED");
    }
}

#[tokio::test]
async fn names_are_checked_as_the_spec_says() {
    let registry = TestRegistry::new().await;
    let longest = "a".repeat(255);
    let too_long = "a".repeat(256);
    let mut deep = "a/".repeat(127);
    deep.push('a');
    for name in
        [longest.as_str(), deep.as_str(), "a.b_c__d-e---f/0", "a%2Fb", "uploads", "blobs/uploads"]
    {
        registry.get(format!("/v2/{name}/tags/list")).await.refused(404, "NAME_UNKNOWN");
        registry.begin_upload(name).await;
    }
    for name in [
        too_long.as_str(),
        "A",
        "a//b",
        "a..b",
        "a___b",
        "-a",
        "a-",
        "a/../b",
        "a%00b",
        "a%20b",
        "%C3%A4",
        "a:b",
    ] {
        for path in ["tags/list", "manifests/v1", "blobs/uploads/x", "blobs/x", "referrers/x"] {
            let answer = registry.get(format!("/v2/{name}/{path}")).await;
            answer.refused(400, "NAME_INVALID");
        }
        let target = format!("/v2/{name}/blobs/uploads/");
        registry.request(Method::POST, target).send().await.refused(400, "NAME_INVALID");
    }
}

#[tokio::test]
async fn locations_are_absolute_or_relative_as_configured() {
    let absolute = TestRegistry::with(registry::Config::default(), |web| {
        web.urls.relative = false;
    })
    .await;
    let post = |registry: &TestRegistry| registry.request(Method::POST, "/v2/a/blobs/uploads/");
    let answer = post(&absolute).send().await.status(202);
    let location = answer.header("location");
    assert!(location.starts_with("http://registry.test/v2/a/blobs/uploads/"), "{location}");

    let forwarded = post(&absolute)
        .header("x-forwarded-proto", "https")
        .header("x-forwarded-host", "r.example")
        .send()
        .await
        .status(202);
    assert!(forwarded.header("location").starts_with("https://r.example/v2/a/blobs/uploads/"));

    let relative = TestRegistry::new().await;
    let answer = post(&relative).send().await.status(202);
    assert!(answer.header("location").starts_with("/v2/a/blobs/uploads/"), "{answer}");

    let fixed = TestRegistry::with(registry::Config::default(), |web| {
        web.urls.host = Some("https://fixed.example".to_owned());
    })
    .await;
    let answer = post(&fixed).send().await.status(202);
    assert!(answer.header("location").starts_with("https://fixed.example/v2/a/"), "{answer}");
}

#[tokio::test]
async fn configured_headers_are_on_every_answer() {
    let registry = TestRegistry::with(registry::Config::default(), |web| {
        for (name, value) in [
            ("x-content-type-options", "nosniff"),
            ("access-control-allow-methods", "HEAD"),
            ("access-control-allow-methods", "GET"),
            ("content-type", "text/x"),
            ("docker-content-digest", "x"),
        ] {
            web.headers.append(name, value.parse().unwrap());
        }
    })
    .await;
    for target in ["/", "/v2/", "/v2/a/tags/list", "/nowhere"] {
        for method in [Method::GET, Method::OPTIONS] {
            let answer = registry.request(method, target).send().await;
            assert_eq!(answer.header("x-content-type-options"), "nosniff");
            assert_eq!(answer.all("access-control-allow-methods"), ["HEAD", "GET"]);
        }
    }
    // What the registry says itself, it knows better.
    let digest = registry.push_image("a", "v1", "image").await;
    let answer = registry.get("/v2/a/manifests/v1").await.status(200);
    assert_eq!(answer.all("docker-content-digest"), [digest]);
    assert_eq!(answer.all("content-type"), ["application/vnd.oci.image.manifest.v1+json"]);
}

/// Clients name the upstream registry with `ns` when they use a mirror.
#[tokio::test]
async fn the_namespace_parameter_is_accepted() {
    let registry = TestRegistry::new().await;
    let digest = registry.push_image("a/b", "v1", "image").await;
    let blob = registry.push_blob("a/b", b"content").await;
    registry.get("/v2/?ns=docker.io").await.expect(200);
    registry.get("/v2/a/b/manifests/v1?ns=docker.io").await.expect(200);
    registry.get(format!("/v2/a/b/manifests/{digest}?ns=docker.io")).await.expect(200);
    registry.get(format!("/v2/a/b/blobs/{blob}?ns=docker.io")).await.expect(200);
    registry.get("/v2/a/b/tags/list?ns=docker.io").await.expect(200);
}
