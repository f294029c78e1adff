//! One certificate, from the order to the chain.

use std::sync::Arc;
use std::time::Duration;

use instant_acme::{
    Account, AccountCredentials, AuthorizationStatus, ChallengeType, Identifier, NewAccount,
    NewOrder, OrderStatus, RetryPolicy,
};
use rcgen::{CertificateParams, CustomExtension, DistinguishedName, KeyPair};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::PrivateKeyDer;
use rustls::sign::CertifiedKey;

use super::folder::Folder;
use super::{Config, Error};

/// How long the authority is asked whether it is done.
const PATIENCE: RetryPolicy = RetryPolicy::new().timeout(Duration::from_mins(2));

/// An account as it is kept: it is of no use with another authority.
#[derive(serde::Deserialize, serde::Serialize)]
struct KeptAccount {
    directory: String,
    credentials: AccountCredentials,
}

/// The kept account, or a new one.
pub(super) async fn account(folder: &Folder, config: &Config) -> Result<Account, Error> {
    let directory = config.directory();
    if let Some(json) = folder.read_account()? {
        match serde_json::from_str::<KeptAccount>(&json) {
            Ok(kept) if kept.directory == directory => {
                return Ok(Account::builder()?.from_credentials(kept.credentials).await?);
            }
            Ok(_) => tracing::info!("the kept account is with another authority"),
            Err(_) => tracing::warn!("the kept account can not be read"),
        }
    }
    let email = config.email.as_ref().map(|email| format!("mailto:{email}"));
    let contact: Vec<&str> = email.as_deref().into_iter().collect();
    let new = NewAccount {
        contact: &contact,
        terms_of_service_agreed: true,
        only_return_existing: false,
    };
    let (account, credentials) =
        Account::builder()?.create(&new, directory.to_owned(), None).await?;
    let kept = KeptAccount { directory: directory.to_owned(), credentials };
    let json = serde_json::to_string(&kept).map_err(|error| unusable(&error))?;
    folder.write_account(&json)?;
    Ok(account)
}

/// A new key and its certificate for `host`, as PEM. `answer` takes what has to be shown to the
/// authority when it asks.
pub(super) async fn certificate(
    account: &Account,
    host: &str,
    answer: impl Fn(Arc<CertifiedKey>),
) -> Result<String, Error> {
    let identifiers = [Identifier::Dns(host.to_owned())];
    let mut order = account.new_order(&NewOrder::new(&identifiers)).await?;
    let mut authorizations = order.authorizations();
    while let Some(authorization) = authorizations.next().await {
        let mut authorization = authorization?;
        if authorization.status == AuthorizationStatus::Valid {
            continue;
        }
        let mut challenge = authorization.challenge(ChallengeType::TlsAlpn01).ok_or_else(|| {
            unusable(&"it does not ask in the one way that can be answered here, tls-alpn-01")
        })?;
        answer(challenge_certificate(host, challenge.key_authorization().digest().as_ref())?);
        challenge.set_ready().await?;
    }
    if order.poll_ready(&PATIENCE).await? != OrderStatus::Ready {
        return Err(refusal(&mut order, host).await);
    }
    let key = KeyPair::generate().map_err(|error| unusable(&error))?;
    let mut params = params(host)?;
    params.distinguished_name = DistinguishedName::new();
    let request = params.serialize_request(&key).map_err(|error| unusable(&error))?;
    order.finalize_csr(request.der()).await?;
    let chain = order.poll_certificate(&PATIENCE).await?;
    Ok(key.serialize_pem() + &chain)
}

/// Why the authority was not convinced, in its own words if it has any.
async fn refusal(order: &mut instant_acme::Order, host: &str) -> Error {
    let mut authorizations = order.authorizations();
    while let Some(Ok(authorization)) = authorizations.next().await {
        for challenge in &authorization.challenges {
            if let Some(problem) = &challenge.error {
                return unusable(&format!("the authority refused: {problem}"));
            }
        }
    }
    unusable(&format!("the authority could not reach this server as {host} on port 443"))
}

/// RFC 8737 §3: a certificate that carries the digest of what was agreed on.
fn challenge_certificate(host: &str, digest: &[u8]) -> Result<Arc<CertifiedKey>, Error> {
    // What takes it panics at any other length.
    if digest.len() != 32 {
        return Err(unusable(&"the authority's question can not be read"));
    }
    let key = KeyPair::generate().map_err(|error| unusable(&error))?;
    let mut params = params(host)?;
    params.custom_extensions = vec![CustomExtension::new_acme_identifier(digest)];
    let certificate = params.self_signed(&key).map_err(|error| unusable(&error))?;
    let private = PrivateKeyDer::try_from(key.serialize_der()).map_err(|error| unusable(&error))?;
    let chain = vec![certificate.der().clone()];
    // Not from_der, which looks into the certificate and does not know this extension.
    let private =
        aws_lc_rs::sign::any_supported_type(&private).map_err(|error| unusable(&error))?;
    Ok(Arc::new(CertifiedKey::new(chain, private)))
}

fn params(host: &str) -> Result<CertificateParams, Error> {
    CertificateParams::new([host.to_owned()]).map_err(|error| unusable(&error))
}

fn unusable(error: &dyn std::fmt::Display) -> Error {
    Error::Unusable(error.to_string())
}
