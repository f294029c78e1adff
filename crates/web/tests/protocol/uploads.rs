//! `/v2/<name>/blobs/uploads/…`: the ways in which a blob is pushed.

use http::Method;

use crate::support::{TestRegistry, sha256, sha512};

const CONTENT: &[u8] = b"the content of a layer";

#[tokio::test]
async fn one_post_with_the_whole_blob() {
    let registry = TestRegistry::new().await;
    let digest = sha256(CONTENT);
    let target = format!("/v2/a/b/blobs/uploads/?digest={digest}");
    let answer = registry.request(Method::POST, target).body(CONTENT).send().await.status(201);
    assert_eq!(answer.header("location"), format!("/v2/a/b/blobs/{digest}"));
    assert_eq!(answer.header("docker-content-digest"), digest);
    assert!(answer.body.is_empty());
    assert_eq!(&registry.get(answer.header("location")).await.status(200).body[..], CONTENT);
    assert!(registry.upload_files().is_empty());
}

#[tokio::test]
async fn a_session_begins() {
    let registry = TestRegistry::new().await;
    for target in ["/v2/a/b/blobs/uploads/", "/v2/a/b/blobs/uploads", "/v2/a/b/blobs/uploads/?x=y"]
    {
        let answer = registry.request(Method::POST, target).send().await.status(202);
        let id = answer.header("docker-upload-uuid");
        assert_eq!(answer.header("location"), format!("/v2/a/b/blobs/uploads/{id}"));
        assert_eq!(answer.header("range"), "0-0");
        assert_eq!(answer.header("content-length"), "0");
    }
}

#[tokio::test]
async fn post_then_put() {
    let registry = TestRegistry::new().await;
    let upload = registry.begin_upload("a/b").await;
    let digest = sha256(CONTENT);
    let put = registry.request(Method::PUT, format!("{upload}?digest={digest}"));
    let put = put.header("content-type", "application/octet-stream");
    let answer = put.body(CONTENT).send().await.status(201);
    assert_eq!(answer.header("location"), format!("/v2/a/b/blobs/{digest}"));
    assert_eq!(answer.header("docker-content-digest"), digest);
    assert_eq!(&registry.get(answer.header("location")).await.status(200).body[..], CONTENT);
    // The session is over.
    registry.get(&upload).await.refused(404, "BLOB_UPLOAD_UNKNOWN");
    let again = registry.request(Method::PUT, format!("{upload}?digest={digest}"));
    again.body(CONTENT).send().await.refused(404, "BLOB_UPLOAD_UNKNOWN");
    assert!(registry.upload_files().is_empty());
}

/// What dockerd and podman do: a stream of unknown length, no type, no range, then an empty PUT.
#[tokio::test]
async fn a_stream_and_an_empty_put() {
    let registry = TestRegistry::new().await;
    let upload = registry.begin_upload("a/b").await;
    let (sender, body) = crate::support::live_body();
    let patch = registry.request(Method::PATCH, &upload).live_body(body).spawn();
    for chunk in CONTENT.chunks(5) {
        sender.send(chunk.to_vec()).await;
    }
    drop(sender);
    let answer = patch.await.unwrap().status(202);
    assert_eq!(answer.header("range"), format!("0-{}", CONTENT.len() - 1));
    let location = answer.header("location").to_owned();
    assert!(answer.get("docker-upload-uuid").is_some());

    let digest = sha256(CONTENT);
    let encoded = digest.replace(':', "%3A");
    let put = registry.request(Method::PUT, format!("{location}?digest={encoded}"));
    put.body("").send().await.expect(201);
    let answer = registry.get(format!("/v2/a/b/blobs/{digest}")).await.status(200);
    assert_eq!(&answer.body[..], CONTENT);
}

#[tokio::test]
async fn chunks_with_their_ranges() {
    let registry = TestRegistry::new().await;
    for with_last_chunk in [false, true] {
        let upload = registry.begin_upload("a/b").await;
        let patch = |from: usize, to: usize, range: String| {
            let patch = registry.request(Method::PATCH, &upload).header("content-range", range);
            patch.body(&CONTENT[from..to]).send()
        };
        let answer = patch(0, 1, "0-0".to_owned()).await.status(202);
        assert_eq!(answer.header("range"), "0-0");
        let answer = patch(1, 10, "1-9".to_owned()).await.status(202);
        assert_eq!(answer.header("range"), "0-9");
        // RFC 9110 has the unit in front; registry:2 fails at that.
        let answer = patch(10, 15, "bytes 10-14/22".to_owned()).await.status(202);
        assert_eq!(answer.header("range"), "0-14");

        let digest = sha256(CONTENT);
        if !with_last_chunk {
            patch(15, 22, "15-21".to_owned()).await.expect(202);
        }
        let put = registry.request(Method::PUT, format!("{upload}?digest={digest}"));
        let put = if with_last_chunk {
            put.header("content-range", "15-21").body(&CONTENT[15..])
        } else {
            put
        };
        put.send().await.expect(201);
        let target = format!("/v2/a/b/blobs/{digest}");
        assert_eq!(&registry.get(&target).await.status(200).body[..], CONTENT);
        registry.delete(&target).await.expect(202);
    }
}

/// Any content type will do: it says nothing about a blob.
#[tokio::test]
async fn the_content_type_of_a_chunk_does_not_matter() {
    let registry = TestRegistry::new().await;
    let upload = registry.begin_upload("a/b").await;
    let patch = registry.request(Method::PATCH, &upload).header("content-type", "text/html");
    patch.body(CONTENT).send().await.expect(202);
}

#[tokio::test]
async fn the_status_of_a_session() {
    let registry = TestRegistry::new().await;
    let first = registry.begin_upload("a/b").await;
    let mut upload = first.clone();
    for (received, range) in [(0, "0-0"), (22, "0-21"), (44, "0-43")] {
        if received > 0 {
            // The first name stays good, as it does for a client that did not hear the answer.
            let patch = registry.request(Method::PATCH, &first).body(CONTENT).send().await;
            upload = patch.status(202).header("location").to_owned();
        }
        for answer in
            [registry.get(&first).await, registry.get(&upload).await, registry.head(&upload).await]
        {
            let answer = answer.status(204);
            assert_eq!(answer.header("range"), range);
            assert_eq!(answer.header("location"), upload);
            assert!(upload.ends_with(answer.header("docker-upload-uuid")));
        }
    }
}

#[tokio::test]
async fn a_session_is_cancelled() {
    let registry = TestRegistry::new().await;
    let upload = registry.begin_upload("a/b").await;
    registry.request(Method::PATCH, &upload).body(CONTENT).send().await.expect(202);
    assert_eq!(registry.upload_files().len(), 1);
    registry.delete(&upload).await.expect(204);
    assert!(registry.upload_files().is_empty(), "its space is free");
    registry.delete(&upload).await.refused(404, "BLOB_UPLOAD_UNKNOWN");
    registry.get(&upload).await.refused(404, "BLOB_UPLOAD_UNKNOWN");
    let patch = registry.request(Method::PATCH, &upload).body(CONTENT);
    patch.send().await.refused(404, "BLOB_UPLOAD_UNKNOWN");
}

#[tokio::test]
async fn a_session_belongs_to_its_repository() {
    let registry = TestRegistry::new().await;
    let upload = registry.begin_upload("a/b").await;
    let elsewhere = upload.replace("/a/b/", "/c/");
    registry.get(&elsewhere).await.refused(404, "BLOB_UPLOAD_UNKNOWN");
    registry.delete(&elsewhere).await.refused(404, "BLOB_UPLOAD_UNKNOWN");
    let patch = registry.request(Method::PATCH, &elsewhere).body(CONTENT);
    patch.send().await.refused(404, "BLOB_UPLOAD_UNKNOWN");
    registry.get(&upload).await.expect(204);
}

#[tokio::test]
async fn session_ids_that_never_were() {
    let registry = TestRegistry::new().await;
    registry.begin_upload("a/b").await;
    for id in ["x", "00000000-0000-0000-0000-000000000000", "%00", "..", "..%2f..%2fx", "a%20b"] {
        let target = format!("/v2/a/b/blobs/uploads/{id}");
        let digest = sha256(CONTENT);
        for (method, query) in [
            (Method::GET, String::new()),
            (Method::PATCH, String::new()),
            (Method::PUT, format!("?digest={digest}")),
            (Method::DELETE, String::new()),
        ] {
            let answer =
                registry.request(method, format!("{target}{query}")).body("x").send().await;
            assert!((400..=405).contains(&answer.status), "{answer}");
        }
    }
}

#[tokio::test]
async fn a_wrong_digest_ends_the_session_and_frees_its_space() {
    let registry = TestRegistry::new().await;
    let wrong = sha256(b"something else");

    let upload = registry.begin_upload("a/b").await;
    registry.request(Method::PATCH, &upload).body(CONTENT).send().await.expect(202);
    let put = registry.request(Method::PUT, format!("{upload}?digest={wrong}"));
    let answer = put.send().await.refused(400, "DIGEST_INVALID");
    let detail = &answer.json()["errors"][0]["detail"];
    assert_eq!(
        (&detail["expected"], &detail["found"]),
        (&wrong.clone().into(), &sha256(CONTENT).into())
    );
    registry.get(&upload).await.refused(404, "BLOB_UPLOAD_UNKNOWN");
    assert!(registry.upload_files().is_empty());

    let target = format!("/v2/a/b/blobs/uploads/?digest={wrong}");
    let post = registry.request(Method::POST, target).body(CONTENT);
    post.send().await.refused(400, "DIGEST_INVALID");
    assert!(registry.upload_files().is_empty());
    for digest in [&wrong, &sha256(CONTENT)] {
        registry.get(format!("/v2/a/b/blobs/{digest}")).await.refused(404, "BLOB_UNKNOWN");
    }
}

#[tokio::test]
async fn a_put_needs_a_digest_and_lets_the_client_try_again() {
    let registry = TestRegistry::new().await;
    let upload = registry.begin_upload("a/b").await;
    registry.request(Method::PATCH, &upload).body(CONTENT).send().await.expect(202);
    for query in ["", "?digest=", "?digest=sha256:baddigeststring", "?digest=md5:00", "?other=1"] {
        let put = registry.request(Method::PUT, format!("{upload}{query}"));
        put.send().await.refused(400, "DIGEST_INVALID");
    }
    let put = registry.request(Method::PUT, format!("{upload}?digest={}", sha256(CONTENT)));
    put.send().await.expect(201);
}

/// Knowing a digest is no proof of having its content.
#[tokio::test]
async fn a_digest_that_exists_still_needs_its_bytes() {
    let registry = TestRegistry::new().await;
    let digest = registry.push_blob("secret", CONTENT).await;
    let post = registry.request(Method::POST, format!("/v2/mine/blobs/uploads/?digest={digest}"));
    post.send().await.refused(400, "DIGEST_INVALID");
    let upload = registry.begin_upload("mine").await;
    let put = registry.request(Method::PUT, format!("{upload}?digest={digest}"));
    put.send().await.refused(400, "DIGEST_INVALID");
    registry.get(format!("/v2/mine/blobs/{digest}")).await.refused(404, "BLOB_UNKNOWN");
}

#[tokio::test]
async fn the_empty_blob_by_every_way() {
    let registry = TestRegistry::new().await;
    for digest in [sha256(b""), sha512(b"")] {
        for way in ["post", "put", "empty patch"] {
            let request = if way == "post" {
                let target = format!("/v2/a/b/blobs/uploads/?digest={digest}");
                registry.request(Method::POST, target)
            } else {
                let upload = registry.begin_upload("a/b").await;
                if way == "empty patch" {
                    let answer = registry.request(Method::PATCH, &upload).body("").send().await;
                    assert_eq!(answer.status(202).header("range"), "0-0");
                }
                registry.request(Method::PUT, format!("{upload}?digest={digest}"))
            };
            let answer = request.send().await;
            assert_eq!(answer.status(201).header("docker-content-digest"), digest, "{way}");
            let target = format!("/v2/a/b/blobs/{digest}");
            assert!(registry.get(&target).await.status(200).body.is_empty());
            registry.delete(&target).await.expect(202);
        }
    }
}

/// Clients may announce sha512, so that it is computed on the way; most do not.
#[tokio::test]
async fn sha512_announced_and_not() {
    let registry = TestRegistry::new().await;
    for query in ["?digest-algorithm=sha512", "?digest-algorithm=sha256", ""] {
        let content = format!("content for {query:?}");
        let digest = sha512(content.as_bytes());
        let target = format!("/v2/a/b/blobs/uploads/{query}");
        let answer = registry.request(Method::POST, target).send().await.status(202);
        let upload = answer.header("location");
        registry.request(Method::PATCH, upload).body(content.clone()).send().await.expect(202);
        let put = registry.request(Method::PUT, format!("{upload}?digest={digest}"));
        let answer = put.send().await.status(201);
        assert_eq!(answer.header("docker-content-digest"), digest);
        assert_eq!(answer.header("location"), format!("/v2/a/b/blobs/{digest}"));
        let answer = registry.get(answer.header("location")).await.status(200);
        assert_eq!(answer.body, content);
    }
    for name in ["md5", "", "SHA256"] {
        let target = format!("/v2/a/b/blobs/uploads/?digest-algorithm={name}");
        registry.request(Method::POST, target).send().await.refused(400, "DIGEST_INVALID");
    }
    let wrong = sha512(b"other");
    let upload = registry.begin_upload("a/b").await;
    let put = registry.request(Method::PUT, format!("{upload}?digest={wrong}")).body(CONTENT);
    put.send().await.refused(400, "DIGEST_INVALID");
    assert!(registry.upload_files().is_empty());
}

#[tokio::test]
async fn mount_from_another_repository() {
    let registry = TestRegistry::new().await;
    let digest = registry.push_blob("library/base", CONTENT).await;
    for from in ["library/base", "library%2Fbase"] {
        for digest in [digest.clone(), digest.replace(':', "%3A")] {
            let target = format!("/v2/a/b/blobs/uploads/?mount={digest}&from={from}");
            let answer = registry.request(Method::POST, target).send().await.status(201);
            let digest = sha256(CONTENT);
            assert_eq!(answer.header("location"), format!("/v2/a/b/blobs/{digest}"));
            assert_eq!(answer.header("docker-content-digest"), digest);
            let answer = registry.get(answer.header("location")).await.status(200);
            assert_eq!(&answer.body[..], CONTENT);
            registry.delete(format!("/v2/a/b/blobs/{digest}")).await.expect(202);
        }
    }
}

#[tokio::test]
async fn mount_without_saying_from_where() {
    let registry = TestRegistry::new().await;
    let digest = registry.push_blob("library/base", CONTENT).await;
    for query in [format!("mount={digest}"), format!("mount={digest}&from=")] {
        let target = format!("/v2/a/b/blobs/uploads/?{query}");
        registry.request(Method::POST, target).send().await.expect(201);
        registry.delete(format!("/v2/a/b/blobs/{digest}")).await.expect(202);
    }
}

/// A mount that can not be done is the beginning of an upload.
#[tokio::test]
async fn mount_of_what_is_not_there() {
    let registry = TestRegistry::new().await;
    let digest = sha256(CONTENT);
    registry.push_blob("library/base", b"other content").await;
    for from in ["&from=library/base", "&from=never/seen", ""] {
        let target = format!("/v2/a/b/blobs/uploads/?mount={digest}{from}");
        let answer = registry.request(Method::POST, target).send().await.status(202);
        let upload = answer.header("location");
        assert_eq!(answer.header("range"), "0-0");
        let put = registry.request(Method::PUT, format!("{upload}?digest={digest}")).body(CONTENT);
        put.send().await.expect(201);
        registry.delete(format!("/v2/a/b/blobs/{digest}")).await.expect(202);
    }
    let deleted = registry.push_blob("c", CONTENT).await;
    registry.delete(format!("/v2/c/blobs/{deleted}")).await.expect(202);
    for from in ["&from=c", ""] {
        let target = format!("/v2/a/b/blobs/uploads/?mount={deleted}{from}");
        registry.request(Method::POST, target).send().await.expect(202);
    }
}

#[tokio::test]
async fn mounts_that_make_no_sense() {
    let registry = TestRegistry::new().await;
    let digest = sha256(CONTENT);
    let post = |query: String| {
        registry.request(Method::POST, format!("/v2/a/b/blobs/uploads/?{query}")).send()
    };
    post("mount=sha256:x&from=a".to_owned()).await.refused(400, "DIGEST_INVALID");
    post("mount=".to_owned()).await.refused(400, "DIGEST_INVALID");
    post(format!("mount={digest}&from=NOT//A/NAME")).await.refused(400, "NAME_INVALID");
    post(format!("mount={digest}&from={}", "a".repeat(256))).await.refused(400, "NAME_INVALID");
}

#[tokio::test]
async fn two_clients_push_the_same_layer_at_once() {
    let registry = TestRegistry::new().await;
    let digest = sha256(CONTENT);
    let mut pushes = Vec::new();
    for _ in 0..8 {
        let upload = registry.begin_upload("a/b").await;
        let (sender, body) = crate::support::live_body();
        let put = registry.request(Method::PUT, format!("{upload}?digest={digest}"));
        pushes.push((sender, put.live_body(body).spawn()));
    }
    // All are half-way before any of them is done.
    for (sender, _) in &pushes {
        sender.send(&CONTENT[..10]).await;
        sender.taken().await;
    }
    let mut answers = Vec::new();
    for (sender, push) in pushes {
        sender.send(&CONTENT[10..]).await;
        drop(sender);
        answers.push(push);
    }
    for answer in answers {
        answer.await.unwrap().expect(201);
    }
    let answer = registry.get(format!("/v2/a/b/blobs/{digest}")).await.status(200);
    assert_eq!(&answer.body[..], CONTENT);
    assert_eq!(std::fs::read(registry.blob_file(&digest)).unwrap(), CONTENT);
    assert!(registry.upload_files().is_empty(), "one copy is kept");
}

/// What a dry run of the purge lists goes on as if nothing had been asked.
#[tokio::test]
async fn uploads_that_nobody_went_on_with_are_listed_and_removed() {
    let registry = TestRegistry::new().await;
    let uploads = [registry.begin_upload("a").await, registry.begin_upload("b").await];
    let rules = &registry.registry;
    assert_eq!(rules.list_idle_uploads(0, 100).await.unwrap(), [], "without bytes it is nothing");
    let mut patched = Vec::new();
    for upload in &uploads {
        let patch = registry.request(Method::PATCH, upload).body(CONTENT).send().await;
        patched.push(patch.status(202).header("location").to_owned());
    }
    let uploads = patched;
    assert_eq!(rules.list_idle_uploads(3600, 100).await.unwrap(), []);
    let idle = rules.list_idle_uploads(0, 100).await.unwrap();
    assert_eq!(idle.len(), 2, "{idle:?}");
    for upload in &uploads {
        let is_it = |idle: &&registry::IdleUpload| upload.ends_with(&idle.id) && !idle.is_stray;
        let listed = idle.iter().find(is_it).unwrap_or_else(|| panic!("{upload}: {idle:?}"));
        assert!(listed.age_seconds.is_some_and(|age| age < 60), "{listed:?}");
        registry.get(upload).await.expect(204);
    }
    assert_eq!(rules.list_idle_uploads(0, 1).await.unwrap().len(), 1);
    assert_eq!(rules.purge_uploads(0).await.unwrap().sessions, 2);
    registry.get(&uploads[0]).await.refused(404, "BLOB_UPLOAD_UNKNOWN");
}
