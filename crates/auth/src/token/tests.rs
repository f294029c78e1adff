//! Tokens of every kind, signed in the test.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    self, EcdsaKeyPair, EcdsaSigningAlgorithm, Ed25519KeyPair, KeyPair, RsaKeyPair,
};
use data_encoding::{BASE64, BASE64URL_NOPAD};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa};
use serde_json::{Value, json};

use super::*;
use crate::Action;

/// A key that signs.
enum Signer {
    Rsa(Box<RsaKeyPair>),
    Ec(EcdsaKeyPair, &'static str),
    Ed25519(Ed25519KeyPair),
    Secret(Vec<u8>),
}

impl Signer {
    fn rsa() -> Self {
        Self::Rsa(Box::new(RsaKeyPair::generate(KeySize::Rsa2048).unwrap()))
    }

    fn ec(algorithm: &'static EcdsaSigningAlgorithm, curve: &'static str) -> Self {
        Self::Ec(EcdsaKeyPair::generate(algorithm).unwrap(), curve)
    }

    fn p256() -> Self {
        Self::ec(&signature::ECDSA_P256_SHA256_FIXED_SIGNING, "P-256")
    }

    fn ed25519() -> Self {
        Self::Ed25519(Ed25519KeyPair::generate().unwrap())
    }

    fn jwk(&self) -> Value {
        let text = |bytes: &[u8]| BASE64URL_NOPAD.encode(bytes);
        match self {
            Self::Rsa(pair) => {
                let public = certificate::rsa_numbers(pair.public_key().as_ref()).unwrap();
                json!({ "kty": "RSA", "n": text(&public.0), "e": text(&public.1) })
            }
            Self::Ec(pair, curve) => {
                let point = &pair.public_key().as_ref()[1..];
                let (x, y) = point.split_at(point.len() / 2);
                json!({ "kty": "EC", "crv": curve, "x": text(x), "y": text(y) })
            }
            Self::Ed25519(pair) => {
                let x = text(pair.public_key().as_ref());
                json!({ "kty": "OKP", "crv": "Ed25519", "x": x })
            }
            Self::Secret(secret) => json!({ "kty": "oct", "k": text(secret) }),
        }
    }

    fn named(&self, kid: &str) -> Value {
        let mut jwk = self.jwk();
        jwk["kid"] = kid.into();
        jwk
    }

    fn sign(&self, algorithm: &str, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match self {
            Self::Rsa(pair) => {
                let encoding: &'static dyn signature::RsaEncoding = match algorithm {
                    "RS256" => &signature::RSA_PKCS1_SHA256,
                    "RS384" => &signature::RSA_PKCS1_SHA384,
                    "RS512" => &signature::RSA_PKCS1_SHA512,
                    "PS256" => &signature::RSA_PSS_SHA256,
                    "PS384" => &signature::RSA_PSS_SHA384,
                    "PS512" => &signature::RSA_PSS_SHA512,
                    other => panic!("{other}"),
                };
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(encoding, &random, message, &mut signature).unwrap();
                signature
            }
            Self::Ec(pair, _) => pair.sign(&random, message).unwrap().as_ref().to_vec(),
            Self::Ed25519(pair) => pair.sign(message).as_ref().to_vec(),
            Self::Secret(secret) => {
                let kind = match algorithm {
                    "HS256" => hmac::HMAC_SHA256,
                    "HS384" => hmac::HMAC_SHA384,
                    "HS512" => hmac::HMAC_SHA512,
                    other => panic!("{other}"),
                };
                hmac::sign(&hmac::Key::new(kind, secret), message).as_ref().to_vec()
            }
        }
    }

    /// A token with this header (and its `alg`).
    fn token(&self, header: &Value, claims: &Value) -> String {
        let part = |value: &Value| BASE64URL_NOPAD.encode(value.to_string().as_bytes());
        let signed = format!("{}.{}", part(header), part(claims));
        let algorithm = header["alg"].as_str().unwrap();
        let signature = self.sign(algorithm, signed.as_bytes());
        format!("{signed}.{}", BASE64URL_NOPAD.encode(&signature))
    }
}

fn claims() -> Value {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    json!({
        "iss": "issuer", "aud": "service", "sub": "jo", "exp": now + 60,
        "access": [{ "type": "repository", "name": "a", "actions": ["pull"] }],
    })
}

fn config() -> Config {
    Config {
        realm: "https://auth.example/token".to_owned(),
        service: "service".to_owned(),
        issuer: "issuer".to_owned(),
        root_cert_bundle: None,
        jwks: None,
        fetch_jwks: None,
        signing_algorithms: Vec::new(),
        auto_redirect: None,
    }
}

/// A checker that trusts these keys.
fn trusting(keys: &[Value]) -> (tempfile::TempDir, Token) {
    let folder = tempfile::tempdir().unwrap();
    let jwks = folder.path().join("jwks.json");
    std::fs::write(&jwks, json!({ "keys": keys }).to_string()).unwrap();
    let token = Token::new(Config { jwks: Some(jwks), ..config() }).unwrap();
    (folder, token)
}

#[tokio::test]
async fn every_algorithm_with_its_kind_of_key_and_no_other() {
    let signers = [
        ("rsa", Signer::rsa(), &["RS256", "RS384", "RS512", "PS256", "PS384", "PS512"][..]),
        ("p256", Signer::p256(), &["ES256"]),
        ("p384", Signer::ec(&signature::ECDSA_P384_SHA384_FIXED_SIGNING, "P-384"), &["ES384"]),
        ("p521", Signer::ec(&signature::ECDSA_P521_SHA512_FIXED_SIGNING, "P-521"), &["ES512"]),
        ("ed", Signer::ed25519(), &["EdDSA"]),
        ("oct", Signer::Secret(vec![7; 64]), &["HS256", "HS384", "HS512"]),
    ];
    let keys = signers.iter().map(|(kid, signer, _)| signer.named(kid)).collect::<Vec<_>>();
    let (_folder, token) = trusting(&keys);
    for (kid, signer, algorithms) in &signers {
        for algorithm in *algorithms {
            let text = signer.token(&json!({ "alg": algorithm, "kid": kid }), &claims());
            let granted = token.check(&text).await.unwrap_or_else(|| panic!("{algorithm}"));
            assert_eq!(granted.user.as_deref(), Some("jo"));
            assert!(granted.allows(&Scope::Repository("a".parse().unwrap(), Action::Pull)));
            // The same key under another's name, and a changed payload.
            for (other, ..) in signers.iter().filter(|(other, ..)| other != kid) {
                let text = signer.token(&json!({ "alg": algorithm, "kid": other }), &claims());
                assert!(token.check(&text).await.is_none(), "{algorithm} as {other}");
            }
            let mut parts = text.split('.').collect::<Vec<_>>();
            let changed = BASE64URL_NOPAD.encode(b"{}");
            parts[1] = &changed;
            assert!(token.check(&parts.join(".")).await.is_none());
        }
    }
}

/// The well-known trick: a public key taken for a shared secret.
#[tokio::test]
async fn a_public_key_is_no_secret() {
    let rsa = Signer::rsa();
    let (_folder, token) = trusting(&[rsa.named("rsa")]);
    let Signer::Rsa(pair) = &rsa else { unreachable!() };
    let der = pair.public_key().as_ref().to_vec();
    let n = BASE64URL_NOPAD.decode(rsa.jwk()["n"].as_str().unwrap().as_bytes()).unwrap();
    for secret in [der, n] {
        let forged = Signer::Secret(secret);
        let text = forged.token(&json!({ "alg": "HS256", "kid": "rsa" }), &claims());
        assert!(token.check(&text).await.is_none());
    }
}

#[tokio::test]
async fn odd_tokens_are_refused() {
    let signer = Signer::ed25519();
    let (_folder, token) = trusting(&[signer.named("k")]);
    let good = signer.token(&json!({ "alg": "EdDSA", "kid": "k" }), &claims());
    assert!(token.check(&good).await.is_some());
    let unsigned = format!("{}..", BASE64URL_NOPAD.encode(br#"{"alg":"none"}"#));
    let head = good.rsplit_once('.').unwrap().0.to_owned();
    for odd in [
        "",
        ".",
        "..",
        "a.b.c",
        "....",
        &unsigned,
        &head,
        &format!("{head}."),
        &good[..50],
        "é.é.é",
    ] {
        assert!(token.check(odd).await.is_none(), "{odd}");
    }
    for header in [
        json!({ "alg": "EdDSA" }),
        json!({ "alg": "EdDSA", "kid": "other" }),
        json!({ "alg": "EdDSA", "kid": "k", "crit": ["exp"] }),
        json!({ "alg": "EdDSA", "kid": 5 }),
        json!({ "alg": "EdDSA", "x5c": ["x"], "kid": "other" }),
    ] {
        assert!(token.check(&signer.token(&header, &claims())).await.is_none(), "{header}");
    }
    let mut expired = claims();
    expired["exp"] = 1.into();
    let text = signer.token(&json!({ "alg": "EdDSA", "kid": "k" }), &expired);
    assert!(token.check(&text).await.is_none());
}

#[tokio::test]
async fn a_key_in_the_header_must_be_a_trusted_one() {
    let (ours, theirs) = (Signer::p256(), Signer::p256());
    let (_folder, token) = trusting(&[ours.named("ours")]);
    let with = |signer: &Signer, jwk: Value| {
        signer.token(&json!({ "alg": "ES256", "jwk": jwk }), &claims())
    };
    assert!(token.check(&with(&ours, ours.jwk())).await.is_some());
    assert!(token.check(&with(&theirs, theirs.jwk())).await.is_none());
    // registry:3.0.0-rc.2 and before believed this one.
    assert!(token.check(&with(&theirs, theirs.named("ours"))).await.is_none());
}

#[tokio::test]
async fn a_key_may_fix_its_algorithm_and_the_configuration_too() {
    let signer = Signer::rsa();
    let mut jwk = signer.named("k");
    jwk["alg"] = "PS256".into();
    let (folder, token) = trusting(&[jwk]);
    let sign = |algorithm| signer.token(&json!({ "alg": algorithm, "kid": "k" }), &claims());
    assert!(token.check(&sign("PS256")).await.is_some());
    assert!(token.check(&sign("RS256")).await.is_none());
    let only = Config {
        jwks: Some(folder.path().join("jwks.json")),
        signing_algorithms: vec![Algorithm::Rs256],
        ..config()
    };
    assert!(Token::new(only).unwrap().check(&sign("PS256")).await.is_none());
}

#[tokio::test]
async fn a_file_of_keys_is_read_again() {
    let (first, second) = (Signer::ed25519(), Signer::ed25519());
    let (folder, token) = trusting(&[first.named("k")]);
    let sign = |signer: &Signer| signer.token(&json!({ "alg": "EdDSA", "kid": "k" }), &claims());
    assert!(token.check(&sign(&first)).await.is_some());
    let keys = json!({ "keys": [second.named("k")] }).to_string();
    std::fs::write(folder.path().join("jwks.json"), keys).unwrap();
    let changed = std::time::Instant::now();
    while token.check(&sign(&first)).await.is_some() {
        assert!(changed.elapsed().as_secs() < 60, "the change is never seen");
    }
    assert!(token.check(&sign(&second)).await.is_some());
}

/// A server of keys that says what it is told to, and how often it was asked.
#[derive(Clone)]
struct KeyServer {
    asked: Arc<AtomicUsize>,
    answer: Arc<Mutex<Result<Vec<u8>, String>>>,
}

impl KeyServer {
    fn new(keys: &[Value]) -> Self {
        let server =
            Self { asked: Arc::default(), answer: Arc::new(Mutex::new(Err("down".to_owned()))) };
        server.say(keys);
        server
    }

    fn say(&self, keys: &[Value]) {
        let set = json!({ "keys": keys }).to_string().into_bytes();
        *self.answer.lock().unwrap() = Ok(set);
    }

    fn fail(&self) {
        *self.answer.lock().unwrap() = Err("down".to_owned());
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }

    fn trusting(&self) -> Token {
        let server = self.clone();
        let fetch: FetchKeys = Arc::new(move || {
            server.asked.fetch_add(1, Ordering::Relaxed);
            let answer = server.answer.lock().unwrap().clone();
            Box::pin(async move { answer })
        });
        Token::new(Config { fetch_jwks: Some(fetch), ..config() }).unwrap()
    }
}

async fn pass(seconds: u64) {
    tokio::time::sleep(std::time::Duration::from_secs(seconds)).await;
}

fn signed(signer: &Signer, kid: &str) -> String {
    signer.token(&json!({ "alg": "EdDSA", "kid": kid }), &claims())
}

#[tokio::test(start_paused = true)]
async fn a_server_of_keys_is_asked_when_a_key_is_unknown_but_not_always() {
    let (first, second) = (Signer::ed25519(), Signer::ed25519());
    let server = KeyServer::new(&[first.named("1")]);
    let token = server.trusting();
    for _ in 0..10 {
        assert!(token.check(&signed(&first, "1")).await.is_some());
        assert!(token.check(&signed(&second, "2")).await.is_none());
    }
    assert_eq!(server.asked(), 1);

    // A new key is found when it is needed; one that is withdrawn is forgotten after a time.
    server.say(&[second.named("2")]);
    pass(11).await;
    assert!(token.check(&signed(&second, "2")).await.is_some());
    assert!(token.check(&signed(&first, "1")).await.is_none());
    server.say(&[]);
    assert!(token.check(&signed(&second, "2")).await.is_some());
    pass(301).await;
    assert!(token.check(&signed(&second, "2")).await.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_server_of_keys_may_be_down() {
    let signer = Signer::ed25519();
    let server = KeyServer::new(&[signer.named("1")]);
    server.fail();
    let token = server.trusting();
    assert!(token.check(&signed(&signer, "1")).await.is_none());
    server.say(&[signer.named("1")]);
    assert!(token.check(&signed(&signer, "1")).await.is_none(), "too soon to ask again");
    pass(11).await;
    assert!(token.check(&signed(&signer, "1")).await.is_some());

    // Known keys outlive it.
    server.fail();
    let before = server.asked();
    pass(3600).await;
    assert!(token.check(&signed(&signer, "1")).await.is_some());
    let during = server.asked() - before;
    assert!((10..=20).contains(&during), "asked {during} times in an hour");

    let asked = server.asked();
    drop(token);
    pass(3600).await;
    assert_eq!(server.asked(), asked, "nobody needs them any more");
}

/// A key pair that signs tokens and certificates.
fn pair() -> (rcgen::KeyPair, Signer) {
    let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    let algorithm = &signature::ECDSA_P256_SHA256_FIXED_SIGNING;
    let signer = EcdsaKeyPair::from_pkcs8(algorithm, &pair.serialize_der()).unwrap();
    (pair, Signer::Ec(signer, "P-256"))
}

fn authority() -> CertificateParams {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params
}

fn leaf() -> CertificateParams {
    CertificateParams::new(vec!["auth.example".to_owned()]).unwrap()
}

fn trusting_bundle(pem: &str) -> (tempfile::TempDir, Token) {
    let folder = tempfile::tempdir().unwrap();
    let bundle = folder.path().join("bundle.pem");
    std::fs::write(&bundle, pem).unwrap();
    let token = Token::new(Config { root_cert_bundle: Some(bundle), ..config() }).unwrap();
    (folder, token)
}

#[tokio::test]
async fn a_certificate_of_the_bundle_signs_under_three_names() {
    let (pair, signer) = pair();
    let certificate = leaf().self_signed(&pair).unwrap();
    let (_folder, token) = trusting_bundle(&certificate.pem());
    // libtrust's name, computed another way.
    let info = rcgen::PublicKeyData::subject_public_key_info(&pair);
    let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &info);
    let name = data_encoding::BASE32.encode(&hash.as_ref()[..30]);
    assert_eq!(name.len(), 48);
    let groups = (0..12).map(|at| &name[at * 4..at * 4 + 4]).collect::<Vec<_>>().join(":");
    let jwk: jwk::Jwk = serde_json::from_value(signer.jwk()).unwrap();
    let thumbprint = jwk.key().unwrap().thumbprint();
    let x5c = json!([BASE64.encode(certificate.der())]);
    for header in [
        json!({ "alg": "ES256", "kid": groups }),
        json!({ "alg": "ES256", "kid": thumbprint }),
        json!({ "alg": "ES256", "x5c": x5c }),
        json!({ "alg": "ES256", "jwk": { "kty": "EC", "x5c": x5c } }),
        json!({ "alg": "ES256", "jwk": signer.jwk() }),
    ] {
        assert!(token.check(&signer.token(&header, &claims())).await.is_some(), "{header}");
    }
}

#[tokio::test]
async fn a_chain_must_lead_to_an_authority_of_the_bundle() {
    let (root_pair, _) = pair();
    let root = CertifiedIssuer::self_signed(authority(), root_pair).unwrap();
    let (_folder, token) = trusting_bundle(&root.pem());

    let (middle_pair, _) = pair();
    let middle = CertifiedIssuer::signed_by(authority(), middle_pair, &root).unwrap();
    let (leaf_pair, signer) = pair();
    let mut params = leaf();
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::CodeSigning];
    let certificate = params.signed_by(&leaf_pair, &middle).unwrap();
    let text = |chain: &[&[u8]]| {
        let chain = chain.iter().map(|der| BASE64.encode(der)).collect::<Vec<_>>();
        signer.token(&json!({ "alg": "ES256", "x5c": chain }), &claims())
    };
    assert!(token.check(&text(&[certificate.der(), middle.der()])).await.is_some());
    assert!(token.check(&text(&[certificate.der()])).await.is_none(), "a link is missing");

    // One who is no authority signs for another one.
    let (direct_pair, _) = pair();
    let direct = CertifiedIssuer::signed_by(leaf(), direct_pair, &root).unwrap();
    let certificate = leaf().signed_by(&leaf_pair, &direct).unwrap();
    assert!(token.check(&text(&[certificate.der(), direct.der()])).await.is_none());

    // Nor does the bundle's own certificate, unless it is an authority.
    let (_folder, token) = trusting_bundle(&direct.pem());
    assert!(token.check(&text(&[certificate.der()])).await.is_none());

    // A stranger's.
    let certificate = leaf().self_signed(&leaf_pair).unwrap();
    assert!(token.check(&text(&[certificate.der()])).await.is_none());
}

#[test]
fn a_configuration_without_keys_is_refused() {
    assert!(matches!(Token::new(config()), Err(Error::NoKeys)));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    std::fs::write(&path, "nothing").unwrap();
    let bundle = Config { root_cert_bundle: Some(path.clone()), ..config() };
    assert!(matches!(Token::new(bundle), Err(Error::Content { .. })));
    let jwks = Config { jwks: Some(path), ..config() };
    assert!(matches!(Token::new(jwks), Err(Error::Content { .. })));
}

#[test]
fn the_realm_can_follow_the_request() {
    let (_folder, mut token) = trusting(&[]);
    token.auto_redirect = Some("/auth/token".to_owned());
    let realm = |host, forwarded_proto| token.realm(Origin { host, forwarded_proto });
    assert_eq!(realm(Some("r.example:5000"), None), "https://r.example:5000/auth/token");
    assert_eq!(realm(Some("r.example"), Some("http")), "http://r.example/auth/token");
    assert_eq!(realm(Some("r.example"), Some("javascript")), "https://r.example/auth/token");
    assert_eq!(realm(Some("a\"b"), None), "https://auth.example/token");
    assert_eq!(realm(None, None), "https://auth.example/token");
}

proptest::proptest! {
    #[test]
    fn no_token_is_too_odd(
        header in "\\{\"alg\":\"(ES256|HS256|EdDSA|RS256)\",\"(kid|jwk|x5c)\":(\"k\"|\\[\"\"\\]|\\{\\}|5)\\}",
        rest in "[a-zA-Z0-9_.-]{0,40}",
    ) {
        let text = format!("{}.{rest}", BASE64URL_NOPAD.encode(header.as_bytes()));
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let (_folder, token) = trusting(&[Signer::ed25519().named("k")]);
        proptest::prop_assert!(runtime.block_on(token.check(&text)).is_none());
    }
}
