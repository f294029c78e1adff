//! Credentials that the cloud library asks for.

use std::fmt::Debug;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use object_store::CredentialProvider;

use super::{Lasting, Source, lock};
use crate::{Error, ErrorKind, Future};

/// What of the library asks for credentials, and keeps them until five minutes before their end.
pub(crate) type Provider<C> = Arc<dyn CredentialProvider<Credential = C>>;

type Make<C> = Box<dyn Fn() -> object_store::Result<Provider<C>> + Send + Sync>;

/// A provider of the library. It can not forget what it has; another one has nothing yet.
pub(crate) struct Library<C> {
    make: Make<C>,
    provider: Mutex<Provider<C>>,
}

impl<C> Library<C> {
    /// Uses the providers that `make` makes.
    pub(crate) fn new(
        make: impl Fn() -> object_store::Result<Provider<C>> + Send + Sync + 'static,
    ) -> object_store::Result<Self> {
        Ok(Self { provider: Mutex::new(make()?), make: Box::new(make) })
    }
}

impl<C: Debug + Send + Sync + 'static> Source for Library<C> {
    type Credentials = C;

    fn credentials(self: Arc<Self>) -> Future<'static, Result<Arc<C>, Error>> {
        let provider = Arc::clone(&lock(&self.provider));
        Box::pin(async move {
            provider.get_credential().await.map_err(|error| {
                let cause = match &error {
                    object_store::Error::Generic { source, .. } => {
                        net::client::with_causes(source.as_ref())
                    }
                    error => net::client::with_causes(error),
                };
                Error::new(ErrorKind::Other, "ask for credentials".to_owned(), cause)
            })
        })
    }

    fn forget(&self) {
        match (self.make)() {
            Ok(provider) => *lock(&self.provider) = provider,
            Err(error) => {
                tracing::warn!(%error, "credentials that a store refuses can not be renewed");
            }
        }
    }
}

/// So that the library uses what lasts.
#[async_trait]
impl<C: Debug + Send + Sync + 'static> CredentialProvider for Lasting<Library<C>> {
    type Credential = C;

    async fn get_credential(&self) -> object_store::Result<Arc<C>> {
        self.get().await.map_err(|error| object_store::Error::Generic {
            store: "credentials",
            source: error.cause().to_owned().into(),
        })
    }
}
