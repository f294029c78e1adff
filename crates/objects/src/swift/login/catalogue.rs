//! What Keystone says: the token, and where the services are.

use std::collections::BTreeSet;

use serde::Deserialize;

use super::Life;
use crate::swift::{Config, EndpointType};

/// The type of service that Swift is.
const OBJECT_STORE: &str = "object-store";

#[derive(Deserialize)]
pub(super) struct V2 {
    pub(super) access: Access,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Access {
    pub(super) token: V2Token,
    #[serde(default)]
    pub(super) service_catalog: Vec<Service<V2Endpoint>>,
}

#[derive(Deserialize)]
pub(super) struct V2Token {
    pub(super) id: String,
    #[serde(flatten)]
    pub(super) life: Life,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct V2Endpoint {
    region: Option<String>,
    #[serde(rename = "publicURL")]
    public_url: Option<String>,
    #[serde(rename = "internalURL")]
    internal_url: Option<String>,
    #[serde(rename = "adminURL")]
    admin_url: Option<String>,
}

#[derive(Deserialize)]
pub(super) struct V3 {
    pub(super) token: V3Token,
}

#[derive(Deserialize)]
pub(super) struct V3Token {
    #[serde(flatten)]
    pub(super) life: Life,
    #[serde(default)]
    pub(super) catalog: Vec<Service<V3Endpoint>>,
}

#[derive(Deserialize)]
pub(super) struct V3Endpoint {
    interface: String,
    region: Option<String>,
    region_id: Option<String>,
    url: String,
}

#[derive(Deserialize)]
pub(super) struct Service<E> {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default = "Vec::new")]
    endpoints: Vec<E>,
}

/// Where object stores are.
pub(super) struct Catalogue {
    endpoints: Vec<Endpoint>,
}

struct Endpoint {
    kind: EndpointType,
    region: String,
    url: String,
}

impl From<Vec<Service<V2Endpoint>>> for Catalogue {
    fn from(services: Vec<Service<V2Endpoint>>) -> Self {
        let endpoints = object_stores(services).flat_map(|endpoint| {
            let region = endpoint.region.unwrap_or_default();
            let urls = [
                (EndpointType::Public, endpoint.public_url),
                (EndpointType::Internal, endpoint.internal_url),
                (EndpointType::Admin, endpoint.admin_url),
            ];
            urls.into_iter().filter_map(move |(kind, url)| {
                Some(Endpoint { kind, region: region.clone(), url: url? })
            })
        });
        Self { endpoints: endpoints.collect() }
    }
}

impl From<Vec<Service<V3Endpoint>>> for Catalogue {
    fn from(services: Vec<Service<V3Endpoint>>) -> Self {
        let endpoints = object_stores(services).filter_map(|endpoint| {
            let kind = match endpoint.interface.as_str() {
                "public" => EndpointType::Public,
                "internal" => EndpointType::Internal,
                "admin" => EndpointType::Admin,
                _ => return None,
            };
            let region = endpoint.region.or(endpoint.region_id).unwrap_or_default();
            Some(Endpoint { kind, region, url: endpoint.url })
        });
        Self { endpoints: endpoints.collect() }
    }
}

fn object_stores<E>(services: Vec<Service<E>>) -> impl Iterator<Item = E> {
    let stores = services.into_iter().filter(|service| service.kind == OBJECT_STORE);
    stores.flat_map(|service| service.endpoints)
}

impl Catalogue {
    /// Where the store is that is meant, or why there is none.
    pub(super) fn url(self, config: &Config) -> Result<String, String> {
        let of_kind =
            || self.endpoints.iter().filter(|endpoint| endpoint.kind == config.endpoint_type);
        let is_here = |endpoint: &&Endpoint| {
            config.region.as_ref().is_none_or(|region| *region == endpoint.region)
        };
        let found = of_kind().find(is_here);
        found.map(|endpoint| endpoint.url.clone()).ok_or_else(|| {
            let regions = of_kind().map(|endpoint| endpoint.region.as_str());
            let regions = regions.collect::<BTreeSet<_>>();
            format!(
                "expected an {OBJECT_STORE} of type {:?} in region {:?}, found such in {regions:?}",
                config.endpoint_type,
                config.region.as_deref().unwrap_or("any"),
            )
        })
    }
}
