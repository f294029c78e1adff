//! Signatures are those of Amazon's own library.

use std::time::{Duration, UNIX_EPOCH};

use cloudfront::{Error, PrivateKey, Signer};

const KEY: &[u8] = include_bytes!("key.pem");

#[test]
fn as_amazon_signs_them() {
    // The file beside it says how these were made.
    let signed: serde_json::Value = serde_json::from_str(include_str!("signatures.json")).unwrap();
    for key in [KEY, include_bytes!("key-pkcs8.pem")] {
        let signer = Signer::new(PrivateKey::from_pem(key).unwrap(), "KEXAMPLE12345".to_owned());
        for case in signed.as_array().unwrap() {
            let end = UNIX_EPOCH + Duration::from_secs(case["end"].as_u64().unwrap());
            let found = signer.sign(case["url"].as_str().unwrap(), end).unwrap();
            assert_eq!(found, case["signed"].as_str().unwrap());
        }
    }
}

#[test]
fn what_is_no_key_is_named() {
    let text = String::from_utf8(KEY.to_vec()).unwrap();
    let damaged = text.replace("MII", "MIA");
    for (pem, expected) in [
        (&b""[..], Error::NoKey),
        (b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", Error::NoKey),
        (b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", Error::NotRsa),
        (include_bytes!("key-of-a-curve.pem"), Error::NotRsa),
        (damaged.as_bytes(), Error::NotRsa),
    ] {
        assert_eq!(PrivateKey::from_pem(pem).unwrap_err(), expected);
    }
    let shown = format!("{:?}", PrivateKey::from_pem(KEY).unwrap());
    assert_eq!(shown, "PrivateKey(********)");
}

#[test]
fn several_threads_sign_with_one_key() {
    let key = PrivateKey::from_pem(KEY).unwrap();
    let expected = key.sign(b"a text").unwrap();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..20 {
                    assert_eq!(key.sign(b"a text").unwrap(), expected);
                }
            });
        }
    });
}
