//! Which account, and how it is proven who is asking.

use std::collections::HashMap;

use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};

use super::{Config, Credentials, CredentialsKind};

/// Who hands out tokens, if it is not Microsoft's public cloud.
const AUTHORITY: (&str, AzureConfigKey) = ("AZURE_AUTHORITY_HOST", AzureConfigKey::AuthorityHost);

/// What of the environment says who this process is, and how the library calls it.
const IDENTITY: [(&str, AzureConfigKey); 6] = [
    ("AZURE_CLIENT_ID", AzureConfigKey::ClientId),
    ("AZURE_CLIENT_SECRET", AzureConfigKey::ClientSecret),
    ("AZURE_TENANT_ID", AzureConfigKey::AuthorityId),
    AUTHORITY,
    ("AZURE_FEDERATED_TOKEN_FILE", AzureConfigKey::FederatedTokenFile),
    ("IDENTITY_ENDPOINT", AzureConfigKey::MsiEndpoint),
];

/// Where the account is, and what opens it.
pub(super) struct Account {
    pub(super) name: String,
    pub(super) url: String,
    key: Option<String>,
    /// A shared access signature.
    signature: Option<String>,
}

impl Account {
    pub(super) fn of(config: &Config) -> Result<Self, String> {
        let said = match &config.connection_string {
            Some(text) => parse_connection_string(text)?,
            None => HashMap::new(),
        };
        let said = |key: &str| said.get(key).map(|value| (*value).to_owned());
        let name = said("accountname").unwrap_or_else(|| config.account_name.clone());
        if name.is_empty() {
            return Err("expected the name of an account, found none".to_owned());
        }
        let signature = said("sharedaccesssignature");
        // One of the two is in a connection string.
        let other_key = if signature.is_none() { config.account_key.clone() } else { None };
        let scheme = said("defaultendpointsprotocol").unwrap_or_else(|| "https".to_owned());
        let realm = said("endpointsuffix").unwrap_or_else(|| config.realm.clone());
        let url = said("blobendpoint")
            .or_else(|| config.service_url.clone())
            .unwrap_or_else(|| format!("{scheme}://{name}.blob.{realm}"));
        let url = url.trim_end_matches('/').to_owned();
        Ok(Self { name, url, key: said("accountkey").or(other_key), signature })
    }

    /// The library finds the account there when it signs a URL.
    pub(super) fn is_named_in_url(&self) -> bool {
        let (_, place) = self.url.split_once("://").unwrap_or_default();
        let (host, path) = place.split_once('/').unwrap_or((place, ""));
        host.starts_with(&format!("{}.", self.name)) || path == self.name
    }
}

/// `Key=value;Key=value`. Keys are made small; values may have `=` in them.
fn parse_connection_string(text: &str) -> Result<HashMap<String, &str>, String> {
    let pairs = text.split(';').map(str::trim).filter(|pair| !pair.is_empty());
    let pairs = pairs.map(|pair| match pair.split_once('=') {
        Some((key, value)) => Ok((key.trim().to_ascii_lowercase(), value.trim())),
        // What it is instead may be a secret.
        None => Err("the connection string: expected `Key=value;Key=value`".to_owned()),
    });
    pairs.collect()
}

/// How it is proven who is asking.
pub(super) enum Proof {
    Key(String),
    /// A shared access signature.
    Signature(String),
    Secret {
        client_id: String,
        tenant_id: String,
        secret: String,
    },
    Identity {
        client_id: Option<String>,
    },
}

impl Proof {
    pub(super) fn of(config: &Config, account: &Account) -> Result<Self, String> {
        let Credentials { kind, client_id, tenant_id, secret } = &config.credentials;
        let key = account.key.clone().map(Self::Key);
        let signature = account.signature.clone().map(Self::Signature);
        let secret = match (client_id, tenant_id, secret) {
            (Some(client_id), Some(tenant_id), Some(secret)) => Some(Self::Secret {
                client_id: client_id.clone(),
                tenant_id: tenant_id.clone(),
                secret: secret.clone(),
            }),
            _ => None,
        };
        let identity = Self::Identity { client_id: client_id.clone() };
        match kind {
            None => Ok(key.or(signature).or(secret).unwrap_or(identity)),
            Some(CredentialsKind::SharedKey) => key.ok_or("the account's key"),
            Some(CredentialsKind::ClientSecret) => secret.ok_or("clientid, tenantid and secret"),
            Some(CredentialsKind::Identity) => Ok(identity),
        }
        .map_err(|missing| format!("the credentials of this type need {missing}"))
    }

    /// `variable` tells of the environment.
    pub(super) fn apply(
        self,
        builder: MicrosoftAzureBuilder,
        variable: &dyn Fn(&str) -> Option<String>,
    ) -> MicrosoftAzureBuilder {
        let of_environment = |builder: MicrosoftAzureBuilder, name: &str, key| match variable(name)
        {
            Some(value) => builder.with_config(key, value.trim_end_matches('/')),
            None => builder,
        };
        match self {
            Self::Key(key) => builder.with_access_key(key),
            Self::Signature(text) => builder.with_config(AzureConfigKey::SasKey, text),
            Self::Secret { client_id, tenant_id, secret } => {
                let builder = of_environment(builder, AUTHORITY.0, AUTHORITY.1);
                builder.with_client_secret_authorization(client_id, secret, tenant_id)
            }
            Self::Identity { client_id } => {
                let builder = IDENTITY
                    .into_iter()
                    .fold(builder, |builder, (name, key)| of_environment(builder, name, key));
                match client_id {
                    Some(client_id) => builder.with_client_id(client_id),
                    None => builder,
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> Config {
        Config { account_name: "acme".to_owned(), container: "c".to_owned(), ..Config::default() }
    }

    #[test]
    fn where_accounts_are() {
        let url = |change: fn(&mut Config)| {
            let mut config = config();
            change(&mut config);
            Account::of(&config).unwrap().url
        };
        assert_eq!(url(|_| ()), "https://acme.blob.core.windows.net");
        let china = |config: &mut Config| config.realm = "core.chinacloudapi.cn".to_owned();
        assert_eq!(url(china), "https://acme.blob.core.chinacloudapi.cn");
        let elsewhere =
            |config: &mut Config| config.service_url = Some("http://127.0.0.1:9/acme/".to_owned());
        assert_eq!(url(elsewhere), "http://127.0.0.1:9/acme");
    }

    #[test]
    fn a_connection_string_says_all() {
        let said = |text: &str| {
            let account_key = Some("other".to_owned());
            let connection_string = Some(text.to_owned());
            Account::of(&Config { account_key, connection_string, ..config() })
        };
        let account = said(
            "DefaultEndpointsProtocol=http;AccountName=a;AccountKey=a2V5==;EndpointSuffix=realm.example;",
        )
        .unwrap();
        assert_eq!(
            (account.name.as_str(), account.url.as_str()),
            ("a", "http://a.blob.realm.example")
        );
        assert_eq!(account.key.as_deref(), Some("a2V5=="));
        let account =
            said("BlobEndpoint=https://b.example/;SharedAccessSignature=sv=2024&sig=x%3D").unwrap();
        assert_eq!((account.name.as_str(), account.url.as_str()), ("acme", "https://b.example"));
        assert_eq!(account.key, None);
        assert_eq!(account.signature.as_deref(), Some("sv=2024&sig=x%3D"));
        let error = said("only-a-secret").err().unwrap();
        assert!(!error.contains("only-a-secret"), "{error}");
    }
}
