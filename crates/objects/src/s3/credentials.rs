//! Who is asking: access keys, and whoever hands them out.

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey as Key};

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

#[cfg(test)]
mod tests;
