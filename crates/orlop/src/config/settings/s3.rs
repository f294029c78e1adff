//! `storage.s3`: a bucket of an S3-compatible store.

use objects::s3::{Config, Encryption, Keys};

use super::super::error::{ConfigError, Origin};
use super::section::Section;
use super::storage::Place;

pub(super) fn read(s3: &Section<'_>) -> Result<Place, ConfigError> {
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
    let bucket = Config {
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
    };
    Ok(Place::S3 { bucket: Box::new(bucket), part_size: s3.must_number("chunksize")? })
}
