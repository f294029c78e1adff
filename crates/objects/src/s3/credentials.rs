//! Who is asking: access keys, and whoever hands them out.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use object_store::CredentialProvider;
use object_store::aws::{
    AmazonS3Builder, AmazonS3ConfigKey as Key, AwsCredential, AwsCredentialProvider,
};
use tokio::time::Instant;

use super::Keys;
use super::profile::Profile;

/// What the environment may say of it, under the names that Amazon's own programs know.
const VARIABLES: [(&str, Key); 11] = [
    ("AWS_ACCESS_KEY_ID", Key::AccessKeyId),
    ("AWS_SECRET_ACCESS_KEY", Key::SecretAccessKey),
    ("AWS_SESSION_TOKEN", Key::Token),
    ("AWS_WEB_IDENTITY_TOKEN_FILE", Key::WebIdentityTokenFile),
    ("AWS_ROLE_ARN", Key::RoleArn),
    ("AWS_ROLE_SESSION_NAME", Key::RoleSessionName),
    ("AWS_ENDPOINT_URL_STS", Key::StsEndpoint),
    ("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", Key::ContainerCredentialsRelativeUri),
    ("AWS_CONTAINER_CREDENTIALS_FULL_URI", Key::ContainerCredentialsFullUri),
    ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", Key::ContainerAuthorizationTokenFile),
    ("AWS_EC2_METADATA_SERVICE_ENDPOINT", Key::MetadataEndpoint),
];

/// A builder that knows who is asking, and in which region: as `keys` say, or as the variables,
/// the shared files and the machine say, in the order of Amazon's own programs.
pub(super) fn identify(
    keys: Option<&Keys>,
    variable: &dyn Fn(&str) -> Option<String>,
) -> Result<AmazonS3Builder, String> {
    let mut builder = AmazonS3Builder::new();
    let mut region = variable("AWS_REGION").or_else(|| variable("AWS_DEFAULT_REGION"));
    if let Some(keys) = keys {
        builder = with_keys(builder, keys);
    } else {
        for (name, key) in VARIABLES {
            if let Some(value) = variable(name) {
                builder = builder.with_config(key, value);
            }
        }
        let is_set = |name: &str| variable(name).is_some();
        let has_keys = is_set("AWS_ACCESS_KEY_ID") || is_set("AWS_SECRET_ACCESS_KEY");
        let has_identity = is_set("AWS_WEB_IDENTITY_TOKEN_FILE") && is_set("AWS_ROLE_ARN");
        if !has_keys && !has_identity {
            let profile = Profile::read(variable)?;
            region = region.or_else(|| profile.region());
            if let Some(keys) = profile.keys()? {
                builder = with_keys(builder, &keys);
            }
        }
    }
    Ok(match region {
        Some(region) => builder.with_region(region),
        None => builder,
    })
}

fn with_keys(builder: AmazonS3Builder, keys: &Keys) -> AmazonS3Builder {
    let builder = builder.with_access_key_id(&keys.id).with_secret_access_key(&keys.secret);
    match &keys.session_token {
        Some(token) => builder.with_token(token),
        None => builder,
    }
}

/// How long somebody waits for new keys who has old ones.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long the old ones are used then before new ones are asked for again.
const PAUSE: Duration = Duration::from_secs(5);

/// Keys that stay in use while no new ones can be had.
///
/// The library asks for new ones five minutes before the old ones end, and from then on it fails
/// when it gets none. Whether the old ones are still good the store knows best.
#[derive(Debug)]
pub(super) struct Lasting {
    source: AwsCredentialProvider,
    last: Mutex<Option<Last>>,
}

#[derive(Clone, Debug)]
struct Last {
    keys: Arc<AwsCredential>,
    /// Until then they are not renewed.
    until: Instant,
}

impl Lasting {
    pub(super) fn new(source: AwsCredentialProvider) -> Self {
        Self { source, last: Mutex::default() }
    }

    fn last(&self) -> MutexGuard<'_, Option<Last>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn keep(&self, keys: &Arc<AwsCredential>, until: Instant) {
        *self.last() = Some(Last { keys: Arc::clone(keys), until });
    }
}

#[async_trait]
impl CredentialProvider for Lasting {
    type Credential = AwsCredential;

    async fn get_credential(&self) -> object_store::Result<Arc<AwsCredential>> {
        let Some(last) = self.last().clone() else {
            let keys = self.source.get_credential().await?;
            self.keep(&keys, Instant::now());
            return Ok(keys);
        };
        if Instant::now() < last.until {
            return Ok(last.keys);
        }
        // It goes on when nobody waits any more: what it brings is there for whoever asks next.
        let source = Arc::clone(&self.source);
        let asking = tokio::spawn(async move { source.get_credential().await });
        let problem = match tokio::time::timeout(PATIENCE, asking).await {
            Ok(Ok(Ok(keys))) => {
                self.keep(&keys, Instant::now());
                return Ok(keys);
            }
            Ok(Ok(Err(error))) => net::client::with_causes(&error),
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no answer within {PATIENCE:?}"),
        };
        tracing::warn!(
            error = problem,
            "no new keys for S3: the old ones are used as long as they are good"
        );
        self.keep(&last.keys, Instant::now() + PAUSE);
        Ok(last.keys)
    }
}

#[cfg(test)]
mod tests;
