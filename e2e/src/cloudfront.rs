//! Clients are sent to Amazon `CloudFront` for the content of a bucket.

use anyhow::{Context as _, Result, ensure};

use crate::image::pseudo_random;
use crate::registry::Setup;
use crate::scenario::{Scenario, Stage};

/// Only with an object store.
pub(crate) const SCENARIOS: &[Scenario] =
    &[Scenario::new("cloudfront: signed URLs", 60, signed_urls)];

const CLOUDFRONT: &str = "https://cdn.example";

/// Where clients are sent, the signature is of what is in the URL.
fn signed_urls(stage: &Stage) -> Result<()> {
    let key = stage.path("key.pem");
    let public = stage.path("public.pem");
    stage.client("openssl").args(["genrsa", "-traditional", "-out"]).arg(&key).succeed()?;
    let openssl = stage.client("openssl").args(["rsa", "-pubout", "-in"]).arg(&key);
    openssl.arg("-out").arg(&public).succeed()?;
    let options = format!(
        "[{{name: cloudfront, options: {{baseurl: '{CLOUDFRONT}', privatekey: {}, keypairid: K1}}}}]",
        key.display()
    );
    let setup =
        Setup { environment: vec![("REGISTRY_MIDDLEWARE_STORAGE", options)], ..Setup::default() };
    stage.with_registry_set_up(&setup, |registry| {
        let digest = registry.http.push_blob("team/app", &pseudo_random("cdn", 100_000))?;
        let url = format!("http://{}/v2/team/app/blobs/{digest}", registry.host);
        let curl = stage.client("curl").args(["--silent", "--fail", "--output", "/dev/null"]);
        let location = curl.args(["--write-out", "%{redirect_url}", &url]).text()?;
        let (url, query) = location.split_once("?Expires=").context("no end")?;
        let (end, query) = query.split_once("&Signature=").context("no signature")?;
        let (signature, id) = query.split_once("&Key-Pair-Id=").context("no key")?;
        ensure!(id == "K1", "the key of {location}");
        // The bucket's folder of this registry, which is what CloudFront asks the bucket for.
        ensure!(url.starts_with(CLOUDFRONT) && url.contains("/store/"), "{location}");

        let policy = format!(
            r#"{{"Statement":[{{"Resource":"{url}","Condition":{{"DateLessThan":{{"AWS:EpochTime":{end}}}}}}}]}}"#
        );
        let policy = stage.file("policy", policy)?;
        let encoded = signature.replace('-', "+").replace('_', "=").replace('~', "/");
        let decoded = stage.path("signature");
        let base64 = stage.client("openssl").args(["base64", "-d", "-A", "-out"]).arg(&decoded);
        base64.input(encoded).succeed()?;
        let verify = stage.client("openssl").args(["dgst", "-sha1", "-verify"]).arg(&public);
        verify.arg("-signature").arg(&decoded).arg(&policy).succeed()?;
        Ok(())
    })
}
