//! Who is asking Google, and over which connections.

use std::sync::Arc;

use object_store::client::{HttpClient, HttpConnector, HttpService};
use object_store::gcp::{
    GcpCredential, GcpCredentialProvider, GoogleCloudStorage, GoogleCloudStorageBuilder,
};

use super::{Config, environment};
use crate::Error;
use crate::cloud::{self, retries};
use crate::credentials::Lasting;
use crate::credentials::bearer::{Bearer, Renewing};
use crate::credentials::library::Library;

/// What requests need of it.
pub(super) struct Identity {
    pub(super) connections: HttpClient,
    /// Nobody has to say who it is to an emulator.
    pub(super) credentials: Option<GcpCredentialProvider>,
    /// What makes URLs.
    pub(super) signer: Option<GoogleCloudStorage>,
}

impl Bearer for GcpCredential {
    fn token(&self) -> Option<&str> {
        Some(&self.bearer)
    }
}

impl Identity {
    /// Nobody.
    pub(super) fn none(connections: impl HttpService + 'static) -> Self {
        Self { connections: HttpClient::new(connections), credentials: None, signer: None }
    }

    /// Whom the configuration, the environment or the machine names.
    pub(super) fn find(
        config: &Config,
        connections: impl HttpConnector + HttpService + Clone + 'static,
    ) -> Result<Self, Error> {
        let unusable = |error| cloud::unusable(&config.bucket, &error);
        let builder = builder(config).with_http_connector(connections.clone());
        let library = builder.clone().build().map_err(unusable)?;
        let source = builder.clone();
        let source = Library::new(move || Ok(source.clone().build()?.credentials().clone()));
        let credentials = Arc::new(Lasting::new(source.map_err(unusable)?));
        let connections = Renewing {
            connections: HttpClient::new(connections),
            credentials: Arc::clone(&credentials),
        };
        // Who can not sign asks Google to, with the same credentials.
        let signer = builder
            .with_credentials(Arc::clone(&credentials) as GcpCredentialProvider)
            .with_signing_credentials(Arc::clone(library.signing_credentials()))
            .with_http_connector(connections.clone())
            .build()
            .map_err(unusable)?;
        Ok(Self {
            connections: HttpClient::new(connections),
            credentials: Some(credentials),
            signer: Some(signer),
        })
    }
}

fn builder(config: &Config) -> GoogleCloudStorageBuilder {
    let builder =
        GoogleCloudStorageBuilder::new().with_bucket_name(&config.bucket).with_retry(retries());
    if let Some(path) = &config.key_file {
        builder.with_application_credentials(path.to_string_lossy())
    } else if !config.credentials.is_empty() {
        let key = serde_json::to_string(&config.credentials).unwrap_or_default();
        builder.with_service_account_key(key)
    } else {
        match environment("GOOGLE_APPLICATION_CREDENTIALS") {
            Some(path) => builder.with_application_credentials(path),
            None => builder,
        }
    }
}

#[cfg(test)]
mod tests;
