//! Clients are sent to Amazon `CloudFront` for the content of a bucket.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use crate::image::pseudo_random;
use crate::registry::{Registry, Setup};
use crate::scenario::{Scenario, Stage, wait_until};

/// Only with an object store.
pub(crate) const SCENARIOS: &[Scenario] = &[
    Scenario::new("cloudfront: signed URLs", 60, signed_urls),
    Scenario::new("cloudfront: the bucket's own for Amazon's networks", 60, amazons_networks),
];

const CLOUDFRONT: &str = "https://cdn.example";

/// Where clients are sent, the signature is of what is in the URL.
fn signed_urls(stage: &Stage) -> Result<()> {
    let key = stage.path("key.pem");
    let public = stage.path("public.pem");
    make_key(stage, &key)?;
    let openssl = stage.client("openssl").args(["rsa", "-pubout", "-in"]).arg(&key);
    openssl.arg("-out").arg(&public).succeed()?;
    let setup = Setup { environment: vec![middleware(&key, "")], ..Setup::default() };
    stage.with_registry_set_up(&setup, |registry| {
        let location = location(stage, registry, "192.0.2.7")?;
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

/// Who is in a network of the region is sent to the bucket, as a trusted proxy tells it.
fn amazons_networks(stage: &Stage) -> Result<()> {
    let key = stage.path("key.pem");
    make_key(stage, &key)?;
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let options = format!(
        ", ipfilteredby: awsregion, awsregion: eu-west-1, iprangesurl: 'http://{address}/list'"
    );
    let trusted = ("REGISTRY_HTTP_TRUSTEDPROXIES", "[127.0.0.1]".to_owned());
    let environment = vec![middleware(&key, &options), trusted];
    let setup = Setup { environment, ..Setup::default() };
    std::thread::scope(|scope| {
        // It is asked for once, as the next time is hours away.
        scope.spawn(|| listener.accept().map(|(connection, _)| show_list(connection)));
        let played = stage.with_registry_set_up(&setup, |registry| {
            wait_until(Duration::from_secs(20), || {
                let near = location(stage, registry, "203.0.113.7")?;
                ensure!(near.contains("X-Amz-Signature"), "expected the bucket, found {near}");
                stage
                    .client("curl")
                    .args(["--silent", "--fail", "--output", "/dev/null", &near])
                    .succeed()
            })?;
            for far in ["203.0.113.200", "192.0.2.7"] {
                let location = location(stage, registry, far)?;
                ensure!(location.starts_with(CLOUDFRONT), "{far}: {location}");
            }
            Ok(())
        });
        // If nobody has asked, somebody does now.
        let _ = TcpStream::connect(address);
        played
    })
}

fn show_list(mut connection: TcpStream) -> std::io::Result<()> {
    let list = r#"{"prefixes": [{"ip_prefix": "203.0.113.0/25", "region": "eu-west-1"},
        {"ip_prefix": "192.0.2.0/24", "region": "us-east-1"}], "ipv6_prefixes": []}"#;
    let _ = connection.read(&mut [0; 4096])?;
    write!(connection, "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{list}", list.len())
}

fn make_key(stage: &Stage, key: &Path) -> Result<()> {
    stage.client("openssl").args(["genrsa", "-traditional", "-out"]).arg(key).succeed()?;
    Ok(())
}

fn middleware(key: &Path, more: &str) -> (&'static str, String) {
    let key = key.display();
    let options = format!("baseurl: '{CLOUDFRONT}', privatekey: {key}, keypairid: K1{more}");
    ("REGISTRY_MIDDLEWARE_STORAGE", format!("[{{name: cloudfront, options: {{{options}}}}}]"))
}

/// Where a client with this address is sent for a blob.
fn location(stage: &Stage, registry: &Registry, client: &str) -> Result<String> {
    let digest = registry.http.push_blob("team/app", &pseudo_random("cdn", 100_000))?;
    let url = format!("http://{}/v2/team/app/blobs/{digest}", registry.host);
    let curl = stage.client("curl").args(["--silent", "--fail", "--output", "/dev/null"]);
    let from = format!("x-forwarded-for: {client}");
    curl.args(["--header", &from, "--write-out", "%{redirect_url}", &url]).text()
}
