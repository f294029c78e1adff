//! The header `Authorization`, and tokens of another server: only what it has signed opens a door,
//! and only the one that it names.
#![no_main]

use std::sync::LazyLock;
use std::task::{Context, Poll, Waker};

use auth::token::{Config, Token};
use auth::{Access, Action, Request, Scope};
use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use data_encoding::{BASE64, BASE64URL_NOPAD};
use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use serde_json::{Value, json};
use tempfile::TempDir;

const SECRET: &[u8] = b"a secret of sixteen bytes or more";
const HEADER: &str = r#"{"alg":"HS256","kid":"k"}"#;

#[derive(Arbitrary, Debug)]
enum Input<'a> {
    /// The header of a stranger, who has no key.
    Header(&'a [u8]),
    /// A token that was signed with the shared secret, whatever its own header says.
    Signed { header: Option<&'a str>, claims: &'a str },
    /// The same, of which only what it grants is odd.
    Grant(&'a str),
    /// A certificate with other bytes here and there, and others that may speak for it.
    Chain { changes: Vec<(u16, u8)>, others: Vec<&'a [u8]> },
}

/// Somebody who trusts one shared secret and one authority.
struct Server {
    access: Access,
    leaf: Vec<u8>,
    leaf_key: EcdsaKeyPair,
    _folder: TempDir,
}

static SERVER: LazyLock<Server> = LazyLock::new(|| {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let leaf = CertificateParams::new(["leaf".to_owned()]).unwrap();
    let leaf = leaf.signed_by(&key, &authority).unwrap().der().to_vec();

    let folder = tempfile::tempdir().unwrap();
    let [bundle, jwks] = ["bundle.pem", "jwks.json"].map(|name| folder.path().join(name));
    std::fs::write(&bundle, authority.pem()).unwrap();
    let secret = json!({ "kty": "oct", "kid": "k", "k": BASE64URL_NOPAD.encode(SECRET) });
    std::fs::write(&jwks, json!({ "keys": [secret] }).to_string()).unwrap();
    let token = Token::new(Config {
        realm: "https://auth.example/token".to_owned(),
        service: "service".to_owned(),
        issuer: "issuer".to_owned(),
        root_cert_bundle: Some(bundle),
        jwks: Some(jwks),
        fetch_jwks: None,
        signing_algorithms: Vec::new(),
        auto_redirect: None,
    });
    let server = Server {
        access: Access::new(token.unwrap(), None, b"").unwrap(),
        leaf,
        leaf_key: EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &key.serialize_der())
            .unwrap(),
        _folder: folder,
    };
    let granted = server.claims(r#"[{"type":"repository","name":"a","actions":["push"]}]"#);
    assert!(server.admits(by_secret(HEADER, &granted).as_bytes()));
    assert!(server.admits(server.by_leaf(&server.leaf, &[]).as_bytes()));
    server
});

fuzz_target!(|input: Input<'_>| {
    let server = &*SERVER;
    match input {
        Input::Header(value) => assert!(!server.admits(value)),
        Input::Signed { header, claims } => {
            let header = header.unwrap_or(HEADER);
            if server.admits(by_secret(header, claims).as_bytes()) {
                let header: Value = serde_json::from_str(header).unwrap();
                assert_eq!((&header["alg"], &header["kid"]), (&json!("HS256"), &json!("k")));
                assert!(grants(claims));
            }
        }
        Input::Grant(access) => {
            let claims = server.claims(access);
            let admitted = server.admits(by_secret(HEADER, &claims).as_bytes());
            assert!(!admitted || grants(&claims));
        }
        Input::Chain { changes, others } => {
            let mut leaf = server.leaf.clone();
            let length = leaf.len();
            for (place, byte) in changes {
                leaf[usize::from(place) % length] = byte;
            }
            let admitted = server.admits(server.by_leaf(&leaf, &others).as_bytes());
            assert!(!admitted || leaf == server.leaf);
        }
    }
});

impl Server {
    /// Whether a request with this header may push to the repository `a`.
    fn admits(&self, authorization: &[u8]) -> bool {
        let request = Request {
            authorization: Some(authorization),
            address: [127, 0, 0, 1].into(),
            host: None,
            forwarded_proto: None,
            base_url: None,
            wanted: &[Scope::Repository("a".parse().unwrap(), Action::Push)],
            needed: 1,
        };
        let admitted = std::pin::pin!(self.access.admit(&request));
        match admitted.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(admitted) => admitted.is_ok(),
            Poll::Pending => panic!("there is nothing to wait for"),
        }
    }

    fn claims(&self, access: &str) -> String {
        format!(r#"{{"iss":"issuer","aud":"service","exp":9e9,"access":{access}}}"#)
    }

    /// A token that is signed with the key of the good certificate.
    fn by_leaf(&self, leaf: &[u8], others: &[&[u8]]) -> String {
        let chain = std::iter::once(&leaf).chain(others).map(|der| BASE64.encode(der));
        let header = json!({ "alg": "ES256", "x5c": chain.collect::<Vec<_>>() }).to_string();
        let claims = self.claims(r#"[{"type":"repository","name":"a","actions":["*"]}]"#);
        bearer(&header, &claims, |text| {
            self.leaf_key.sign(&SystemRandom::new(), text).unwrap().as_ref().to_vec()
        })
    }
}

fn by_secret(header: &str, claims: &str) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET);
    bearer(header, claims, |text| hmac::sign(&key, text).as_ref().to_vec())
}

fn bearer(header: &str, claims: &str, sign: impl Fn(&[u8]) -> Vec<u8>) -> String {
    let [header, claims] = [header, claims].map(|part| BASE64URL_NOPAD.encode(part.as_bytes()));
    let signed = format!("{header}.{claims}");
    let signature = BASE64URL_NOPAD.encode(&sign(signed.as_bytes()));
    format!("Bearer {signed}.{signature}")
}

/// What has to be in a token that lets somebody push to the repository `a`.
fn grants(claims: &str) -> bool {
    let claims: Value = serde_json::from_str(claims).unwrap();
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let is_for_us = claims["aud"] == "service" || list(&claims["aud"]).contains(&json!("service"));
    let is_granted = list(&claims["access"]).iter().any(|access| {
        let actions = list(&access["actions"]);
        access["type"] == "repository"
            && access["name"] == "a"
            && (actions.contains(&json!("push")) || actions.contains(&json!("*")))
    });
    claims["iss"] == "issuer" && claims["exp"].is_number() && is_for_us && is_granted
}
