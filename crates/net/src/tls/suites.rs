//! Cipher suites by the names that Go gives them.

use rustls::SupportedCipherSuite;
use rustls::version::TLS13;

use super::Error;

/// Those of `known` that are named, in the order of `known`, which is that of preference.
pub(super) fn choose(
    known: &[SupportedCipherSuite],
    names: &[String],
) -> Result<Vec<SupportedCipherSuite>, Error> {
    for name in names {
        if !known.iter().any(|suite| name_of(suite) == *name) {
            let known = known.iter().map(name_of).collect();
            return Err(Error::CipherSuite { name: name.clone(), known });
        }
    }
    let named = |suite: &SupportedCipherSuite| names.contains(&name_of(suite));
    let is_new = |suite: &SupportedCipherSuite| suite.version() == &TLS13;
    // A list from before TLS 1.3 has nothing to say about it; Go reads it so too.
    let names_new = known.iter().any(|suite| is_new(suite) && named(suite));
    let wanted = |suite: &&SupportedCipherSuite| {
        names.is_empty() || named(suite) || (is_new(suite) && !names_new)
    };
    Ok(known.iter().filter(wanted).copied().collect())
}

fn name_of(suite: &SupportedCipherSuite) -> String {
    let name = format!("{:?}", suite.suite());
    name.strip_prefix("TLS13_").map_or_else(|| name.clone(), |rest| format!("TLS_{rest}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(names: &[&str]) -> Result<Vec<String>, String> {
        let known = rustls::crypto::aws_lc_rs::ALL_CIPHER_SUITES;
        let names: Vec<_> = names.iter().map(|&name| name.to_owned()).collect();
        match choose(known, &names) {
            Ok(suites) => Ok(suites.iter().map(name_of).collect()),
            Err(error) => Err(error.to_string()),
        }
    }

    #[test]
    fn all_names_are_those_of_go() {
        let mut all = chosen(&[]).unwrap();
        all.sort();
        assert_eq!(
            all,
            [
                "TLS_AES_128_GCM_SHA256",
                "TLS_AES_256_GCM_SHA384",
                "TLS_CHACHA20_POLY1305_SHA256",
                "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
                "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
                "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
                "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
                "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
                "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
            ]
        );
    }

    #[test]
    fn a_list_without_tls_1_3_leaves_that_alone() {
        let old = "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384";
        let mut suites = chosen(&[old]).unwrap();
        suites.retain(|name| name != old);
        assert_eq!(suites.len(), 3);
        assert!(suites.iter().all(|name| !name.contains("ECDHE")), "{suites:?}");
        let new = "TLS_AES_256_GCM_SHA384";
        let mut both = chosen(&[old, new]).unwrap();
        both.sort();
        assert_eq!(both, [new, old]);
    }

    #[test]
    fn what_is_not_spoken_is_an_error_that_lists_what_is() {
        for name in ["TLS_RSA_WITH_AES_128_CBC_SHA", "TLS13_AES_128_GCM_SHA256", "x", ""] {
            let error = chosen(&[name]).unwrap_err();
            assert!(error.starts_with(&format!("cipher suite {name}: expected one of ")));
            assert!(error.contains("TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"), "{error}");
        }
    }
}
