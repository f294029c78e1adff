//! `storage.s3`, `azure`, `gcs`, `swift`, `oss`: a bucket of an object store.

use std::fmt;
use std::sync::Arc;

use objects::azure::CredentialsKind;
use objects::s3::{Encryption, Keys};
use objects::swift::EndpointType;
use objects::{Objects, Watch, azure, gcs, oss, s3, swift};

use super::super::error::{ConfigError, Origin};
use super::section::Section;

/// A part of an object, in bytes, where nobody can choose it.
const PART_SIZE: usize = 10 << 20;

/// Google takes content in multiples of this.
const GCS_UNIT: usize = 256 << 10;

/// A bucket or container, and how it is spoken to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Bucket {
    pub(crate) maker: Maker,
    /// Bytes in a part of an object.
    pub(crate) part_size: usize,
}

/// Who makes the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Maker {
    S3(Box<s3::Config>),
    Azure(Box<azure::Config>),
    Gcs(Box<gcs::Config>),
    Swift(Box<swift::Config>),
    Oss(Box<oss::Config>),
}

impl Bucket {
    /// What `distribution` calls this kind of store.
    pub(crate) fn driver(&self) -> &'static str {
        match self.maker {
            Maker::S3(_) => "s3aws",
            Maker::Azure(_) => "azure",
            Maker::Gcs(_) => "gcs",
            Maker::Swift(_) => "swift",
            Maker::Oss(_) => "oss",
        }
    }

    /// Opens it. Nothing is asked of it yet. `watch` hears of all that is asked later.
    pub(crate) fn open(&self, watch: Watch) -> Result<Arc<dyn Objects>, objects::Error> {
        match &self.maker {
            Maker::S3(config) => s3::open(config, watch),
            Maker::Azure(config) => azure::open(config, watch),
            Maker::Gcs(config) => gcs::open(config, watch),
            Maker::Swift(config) => swift::open(config, watch),
            Maker::Oss(config) => oss::open(config, watch),
        }
    }
}

impl fmt::Display for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, bucket, root) = match &self.maker {
            Maker::S3(config) => ("s3", &config.bucket, &config.root),
            Maker::Azure(config) => ("azure", &config.container, &config.root),
            Maker::Gcs(config) => ("gcs", &config.bucket, &config.root),
            Maker::Swift(config) => ("swift", &config.container, &config.prefix),
            Maker::Oss(config) => ("oss", &config.bucket, &config.root_directory),
        };
        write!(f, "{scheme}://{bucket}/{}", root.trim_matches('/'))
    }
}

/// The bucket that `storage` names, if it names one.
pub(super) fn read(storage: &Section<'_>) -> Result<Option<Bucket>, ConfigError> {
    type Read = fn(&Section<'_>) -> Result<Maker, ConfigError>;
    let makers: [(&str, Read); 5] = [
        ("s3", read_s3),
        ("azure", read_azure),
        ("gcs", read_gcs),
        ("swift", read_swift),
        ("oss", read_oss),
    ];
    for (name, read) in makers {
        let section = storage.section(name);
        if section.is_set() {
            let maker = read(&section)?;
            let part_size = match maker {
                Maker::Azure(_) => PART_SIZE,
                _ => section.must_number("chunksize")?,
            };
            return Ok(Some(Bucket { maker, part_size }));
        }
    }
    Ok(None)
}

fn read_s3(s3: &Section<'_>) -> Result<Maker, ConfigError> {
    let keys = match (s3.text("accesskey")?, s3.text("secretkey")?) {
        (Some(id), Some(secret)) => {
            Some(Keys { id, secret, session_token: s3.text("sessiontoken")? })
        }
        (None, None) => None,
        (Some(_), None) => return Err(s3.unfit("accesskey", "needs secretkey beside it")),
        (None, Some(_)) => return Err(s3.unfit("secretkey", "needs accesskey beside it")),
    };
    let endpoint = s3.text("regionendpoint")?;
    // Few stores have a host name for each bucket, and `registry:2` asked for none.
    let is_said = !matches!(s3.origin_of("forcepathstyle"), Origin::Default);
    let path_style = s3.is_on("forcepathstyle")? || (endpoint.is_some() && !is_said);
    let class = s3.text("storageclass")?.filter(|class| class != "NONE" && class != "STANDARD");
    Ok(Maker::S3(Box::new(s3::Config {
        bucket: s3.must_text("bucket")?,
        region: s3.text("region")?,
        redirect_endpoint: s3.text("redirectendpoint")?,
        virtual_hosted: !path_style,
        keys,
        encryption: match (s3.is_on("encrypt")?, s3.text("keyid")?) {
            (false, _) => Encryption::Default,
            (true, None) => Encryption::Store,
            (true, Some(key)) => Encryption::Kms(key),
        },
        storage_class: class,
        acl: s3.text("objectacl")?.filter(|acl| acl != "private"),
        insecure: !s3.is_on("secure")?,
        skip_verify: s3.is_on("skipverify")?,
        authorities: s3.path("authorities")?,
        root: s3.text("rootdirectory")?.unwrap_or_default(),
        dual_stack: s3.is_on("usedualstack")?,
        accelerate: s3.is_on("accelerate")?,
        fips: s3.is_on("usefipsendpoint")?,
        user_agent: s3.text("useragent")?,
        endpoint,
    })))
}

fn read_azure(azure: &Section<'_>) -> Result<Maker, ConfigError> {
    let kind = azure.get("credentials.type", |kind| match kind {
        "client_secret" => Some(CredentialsKind::ClientSecret),
        "shared_key" => Some(CredentialsKind::SharedKey),
        "default_credentials" => Some(CredentialsKind::Identity),
        _ => None,
    })?;
    Ok(Maker::Azure(Box::new(azure::Config {
        account_name: azure.must_text("accountname")?,
        account_key: azure.text("accountkey")?,
        container: azure.must_text("container")?,
        connection_string: azure.text("connectionstring")?,
        realm: azure.must_text("realm")?,
        service_url: azure.text("serviceurl")?,
        root: azure.text("rootdirectory")?.unwrap_or_default(),
        max_retries: azure.must_number("max_retries")?,
        retry_delay: azure.must_duration("retry_delay")?,
        skip_verify: azure.is_on("skipverify")?,
        authorities: azure.path("authorities")?,
        credentials: azure::Credentials {
            kind,
            client_id: azure.text("credentials.clientid")?,
            tenant_id: azure.text("credentials.tenantid")?,
            secret: azure.text("credentials.secret")?,
        },
    })))
}

fn read_gcs(gcs: &Section<'_>) -> Result<Maker, ConfigError> {
    if gcs.must_number::<usize>("chunksize")? % GCS_UNIT != 0 {
        return Err(gcs.unfit("chunksize", "is no multiple of 262144"));
    }
    Ok(Maker::Gcs(Box::new(gcs::Config {
        bucket: gcs.must_text("bucket")?,
        key_file: gcs.path("keyfile")?,
        credentials: gcs.pairs("credentials").into_iter().collect(),
        root: gcs.text("rootdirectory")?.unwrap_or_default(),
        max_concurrency: gcs.must_number("maxconcurrency")?,
        user_agent: gcs.text("useragent")?,
        emulator: None,
    })))
}

fn read_swift(swift: &Section<'_>) -> Result<Maker, ConfigError> {
    let endpoint_type = swift.get("endpointtype", |kind| match kind {
        "public" => Some(EndpointType::Public),
        "internal" => Some(EndpointType::Internal),
        "admin" => Some(EndpointType::Admin),
        _ => None,
    })?;
    Ok(Maker::Swift(Box::new(swift::Config {
        username: swift.must_text("username")?,
        password: swift.must_text("password")?,
        auth_url: swift.must_text("authurl")?,
        tenant: swift.text("tenant")?,
        tenant_id: swift.text("tenantid")?,
        domain: swift.text("domain")?,
        domain_id: swift.text("domainid")?,
        tenant_domain: swift.text("tenantdomain")?,
        tenant_domain_id: swift.text("tenantdomainid")?,
        trust_id: swift.text("trustid")?,
        region: swift.text("region")?,
        auth_version: swift.get("authversion", |text| text.parse().ok())?.unwrap_or_default(),
        container: swift.must_text("container")?,
        prefix: swift.text("prefix")?.unwrap_or_default(),
        endpoint_type: endpoint_type.unwrap_or_default(),
        insecure_skip_verify: swift.is_on("insecureskipverify")?,
        secret_key: swift.text("secretkey")?,
        access_key: swift.text("accesskey")?,
        temp_url_container_key: swift.is_on("tempurlcontainerkey")?,
        temp_url_methods: swift.texts("tempurlmethods")?,
    })))
}

fn read_oss(oss: &Section<'_>) -> Result<Maker, ConfigError> {
    Ok(Maker::Oss(Box::new(oss::Config {
        access_key_id: oss.must_text("accesskeyid")?,
        access_key_secret: oss.must_text("accesskeysecret")?,
        region: oss.must_text("region")?,
        bucket: oss.must_text("bucket")?,
        endpoint: oss.text("endpoint")?,
        internal: oss.is_on("internal")?,
        encrypt: oss.is_on("encrypt")?,
        encryption_key_id: oss.text("encryptionkeyid")?,
        secure: oss.is_on("secure")?,
        root_directory: oss.text("rootdirectory")?.unwrap_or_default(),
        ..oss::Config::default()
    })))
}
