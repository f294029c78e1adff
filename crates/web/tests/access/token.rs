//! Tokens of another server.

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use auth::Access;
use auth::token::{Config, Token};
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use data_encoding::BASE64URL_NOPAD;
use http::Method;
use oci::media_type::{DOCKER_CONFIG, DOCKER_MANIFEST, DOCKER_PLUGIN_CONFIG};
use registry::Class;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::TestRegistry;
use crate::{ask, basic, get, registry_with};

/// Signs tokens.
pub(crate) struct Issuer(Ed25519KeyPair);

impl Issuer {
    pub(crate) fn new() -> Self {
        Self(Ed25519KeyPair::generate().unwrap())
    }

    /// The value of a header with a token for `user` that grants this, such as `repository:a:pull`.
    fn bearer(&self, user: &str, scopes: &[&str]) -> String {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        self.bearer_until(user, scopes, now + 300)
    }

    fn bearer_until(&self, user: &str, scopes: &[&str], exp: u64) -> String {
        let access = scopes.iter().map(|scope| {
            let parts = scope.split(':').collect::<Vec<_>>();
            let actions = parts[2].split(',').collect::<Vec<_>>();
            // As clients write it: `repository(plugin):a:pull`.
            let (kind, class) = parts[0].split_once('(').unwrap_or((parts[0], ""));
            let class = class.trim_end_matches(')');
            json!({ "type": kind, "class": class, "name": parts[1], "actions": actions })
        });
        let claims = json!({
            "iss": "issuer", "aud": ["registry"], "sub": user, "exp": exp,
            "access": access.collect::<Vec<_>>(),
        });
        let part = |value: &Value| BASE64URL_NOPAD.encode(value.to_string().as_bytes());
        let signed = format!("{}.{}", part(&json!({ "alg": "EdDSA", "kid": "k" })), part(&claims));
        let signature = BASE64URL_NOPAD.encode(self.0.sign(signed.as_bytes()).as_ref());
        format!("Bearer {signed}.{signature}")
    }
}

/// Takes the tokens of `issuer`, whose key is kept in `folder`.
pub(crate) fn checker(folder: &Path, issuer: &Issuer) -> Token {
    Token::new(config(folder, issuer)).unwrap()
}

fn config(folder: &Path, issuer: &Issuer) -> Config {
    let x = BASE64URL_NOPAD.encode(issuer.0.public_key().as_ref());
    let jwk = json!({ "kty": "OKP", "crv": "Ed25519", "kid": "k", "x": x });
    let jwks = folder.join("jwks.json");
    std::fs::write(&jwks, json!({ "keys": [jwk] }).to_string()).unwrap();
    Config {
        realm: "https://auth.example/token".to_owned(),
        service: "registry".to_owned(),
        issuer: "issuer".to_owned(),
        root_cert_bundle: None,
        jwks: Some(jwks),
        fetch_jwks: None,
        signing_algorithms: Vec::new(),
        auto_redirect: None,
    }
}

async fn registry() -> (TempDir, TestRegistry, Issuer) {
    let folder = tempfile::tempdir().unwrap();
    let issuer = Issuer::new();
    let access = Access::new(checker(folder.path(), &issuer), None, b"").unwrap();
    let registry = registry_with(access, &["a", "b", "c/d"]).await;
    (folder, registry, issuer)
}

const START: &str = r#"Bearer realm="https://auth.example/token",service="registry""#;

#[tokio::test]
async fn challenges_to_the_byte() {
    let (_folder, registry, issuer) = registry().await;
    let challenge = async |target: &str, credentials: &str| {
        let answer = get(&registry, target, credentials).await.status(401);
        assert_eq!(answer.code(), "UNAUTHORIZED");
        answer.header("www-authenticate").to_owned()
    };
    let manifest = "/v2/a/manifests/v1";
    assert_eq!(challenge("/v2/", "").await, START);
    assert_eq!(challenge(manifest, "").await, format!(r#"{START},scope="repository:a:pull""#));
    assert_eq!(
        challenge(manifest, &basic("jo", "jo")).await,
        format!(r#"{START},scope="repository:a:pull""#)
    );
    for invalid in ["Bearer x".to_owned(), issuer.bearer_until("jo", &["repository:a:pull"], 5)] {
        assert_eq!(
            challenge(manifest, &invalid).await,
            format!(r#"{START},scope="repository:a:pull",error="invalid_token""#)
        );
        assert_eq!(challenge("/v2/", &invalid).await, format!(r#"{START},error="invalid_token""#));
    }
    assert_eq!(
        challenge(manifest, &issuer.bearer("jo", &["repository:b:pull"])).await,
        format!(r#"{START},scope="repository:a:pull",error="insufficient_scope""#)
    );
    assert_eq!(
        challenge("/v2/_catalog", &issuer.bearer("jo", &["repository:a:*"])).await,
        format!(r#"{START},scope="registry:catalog:*",error="insufficient_scope""#)
    );
    let target = format!("/v2/a/blobs/uploads/?mount={}&from=b", crate::support::sha256(b"x"));
    let push = ask(&registry, Method::POST, &target, "").await.status(401);
    assert_eq!(
        push.header("www-authenticate"),
        format!(r#"{START},scope="repository:a:pull,push repository:b:pull""#)
    );
    assert_eq!(push.json()["errors"][0]["detail"].as_array().unwrap().len(), 3);
}

#[tokio::test]
async fn the_realm_follows_what_the_client_asked() {
    let folder = tempfile::tempdir().unwrap();
    let issuer = Issuer::new();
    let auto_redirect = Some("/auth/token".to_owned());
    let token = Token::new(Config { auto_redirect, ..config(folder.path(), &issuer) }).unwrap();
    let registry = registry_with(Access::new(token, None, b"").unwrap(), &[]).await;
    for (headers, realm) in [
        (vec![], "https://registry.test/auth/token"),
        (vec![("x-forwarded-proto", "http")], "http://registry.test/auth/token"),
        (
            vec![("x-forwarded-proto", "https"), ("x-forwarded-host", "a.b")],
            "https://a.b/auth/token",
        ),
        (
            vec![("forwarded", "for=192.0.2.1;proto=http;host=\"a.b:8443\"")],
            "http://a.b:8443/auth/token",
        ),
    ] {
        let mut request = registry.request(Method::GET, "/v2/");
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let answer = request.send().await.status(401);
        let challenge = format!(r#"Bearer realm="{realm}",service="registry""#);
        assert_eq!(answer.header("www-authenticate"), challenge);
    }
}

#[tokio::test]
async fn a_token_may_be_for_a_class_of_content() {
    let folder = tempfile::tempdir().unwrap();
    let issuer = Issuer::new();
    let classes = vec![Class::Image, Class::Plugin];
    for (classes, refused) in [(classes, 403), (Vec::new(), 201)] {
        let rules = registry::Config { classes, ..registry::Config::default() };
        let token = checker(folder.path(), &issuer);
        let registry = TestRegistry::with(rules, |config| {
            config.access = Access::new(token, None, b"").unwrap();
        })
        .await;
        let put = async |scopes: &[&str], config: &str| {
            let manifest = json!({
                "schemaVersion": 2, "mediaType": DOCKER_MANIFEST, "layers": [],
                "config": { "mediaType": config, "digest": crate::support::sha256(b"{}"), "size": 2 },
            });
            let request = registry.request(Method::PUT, "/v2/a/manifests/v1");
            let request = request.header("authorization", issuer.bearer("jo", scopes));
            let request = request.header("content-type", DOCKER_MANIFEST);
            request.body(manifest.to_string()).send().await
        };
        let bearer = issuer.bearer("jo", &["repository:a:pull,push"]);
        let digest = crate::support::sha256(b"{}");
        let target = format!("/v2/a/blobs/uploads/?digest={digest}");
        let upload = registry.request(Method::POST, target).header("authorization", &bearer);
        upload.body("{}").send().await.expect(201);

        let (image, plugin) = ("repository:a:pull,push", "repository(plugin):a:pull,push");
        put(&[image], DOCKER_CONFIG).await.expect(201);
        put(&[plugin], DOCKER_PLUGIN_CONFIG).await.expect(201);
        put(&["repository(image):a:*"], DOCKER_CONFIG).await.expect(201);
        put(&[image, plugin], DOCKER_PLUGIN_CONFIG).await.expect(201);
        put(&[plugin], DOCKER_CONFIG).await.expect(refused);
        let answer = put(&[image], DOCKER_PLUGIN_CONFIG).await.status(refused);
        if refused == 403 {
            assert_eq!(answer.code(), "DENIED");
        }
    }
}

#[tokio::test]
async fn a_token_is_good_for_what_it_says() {
    let (_folder, registry, issuer) = registry().await;
    let token = issuer.bearer("jo", &["repository:a:pull,push", "repository:c/d:*"]);
    for (method, target, status) in [
        ("GET", "/v2/", 200),
        ("GET", "/v2/a/manifests/v1", 200),
        ("GET", "/v2/a/tags/list", 200),
        ("POST", "/v2/a/blobs/uploads/", 202),
        ("DELETE", "/v2/a/manifests/v1", 401),
        ("GET", "/v2/b/manifests/v1", 401),
        ("GET", "/v2/none/manifests/v1", 401),
        ("POST", "/v2/b/blobs/uploads/", 401),
        ("DELETE", "/v2/c/d/manifests/v1", 202),
        ("GET", "/v2/_catalog", 401),
        ("GET", "/v1/search?q=a", 401),
    ] {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        ask(&registry, method, target, &token).await.expect(status);
    }
    let token = issuer.bearer("jo", &["registry:catalog:*"]);
    let answer = get(&registry, "/v2/_catalog", &token).await.status(200);
    assert_eq!(answer.list("repositories"), ["a", "b", "c/d"]);
}

#[tokio::test]
async fn a_mount_wants_both_repositories() {
    let (_folder, registry, issuer) = registry().await;
    let blob = crate::support::sha256(b"layer of a");
    let mount = async |query: &str, scopes: &[&str]| {
        let target = format!("/v2/b/blobs/uploads/?mount={blob}{query}");
        ask(&registry, Method::POST, &target, &issuer.bearer("jo", scopes)).await.status
    };
    assert_eq!(mount("&from=a", &["repository:b:pull,push"]).await, 401);
    assert_eq!(mount("&from=a", &["repository:b:pull", "repository:a:pull"]).await, 401);
    // Without `from`, only what the token may pull is looked at.
    assert_eq!(mount("", &["repository:b:pull,push"]).await, 202);
    assert_eq!(mount("", &["repository:b:pull,push", "repository:c/d:pull"]).await, 202);
    assert_eq!(mount("", &["repository:b:pull,push", "repository:a:pull"]).await, 201);
    assert_eq!(mount("&from=a", &["repository:b:pull,push", "repository:a:pull"]).await, 201);
}
