use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::media_type::*;

fn digest(text: &str) -> String {
    Digest::sha256(text.as_bytes()).to_string()
}

fn descriptor(media_type: &str, content: &str) -> Value {
    json!({ "mediaType": media_type, "digest": digest(content), "size": content.len() })
}

/// A complete manifest of this type.
fn image(media_type: &str) -> Value {
    json!({
        "schemaVersion": 2,
        "mediaType": media_type,
        "config": descriptor(OCI_CONFIG, "config"),
        "layers": [descriptor(OCI_LAYER, "one"), descriptor(OCI_LAYER_ZSTD, "two")],
    })
}

fn index(media_type: &str) -> Value {
    json!({
        "schemaVersion": 2,
        "mediaType": media_type,
        "manifests": [descriptor(OCI_MANIFEST, "one"), descriptor(OCI_INDEX, "two")],
    })
}

/// `value` with the changes of `patch` in its top level.
fn with(mut value: Value, patch: Value) -> Value {
    let (Value::Object(object), Value::Object(patch)) = (&mut value, patch) else { panic!() };
    object.extend(patch);
    value
}

fn without(mut value: Value, key: &str) -> Value {
    value.as_object_mut().unwrap().remove(key);
    value
}

fn parse(value: &Value, content_type: Option<&str>) -> Result<Manifest, ManifestError> {
    Manifest::parse(value.to_string().as_bytes(), content_type)
}

fn parse_text(text: &str) -> Result<Manifest, ManifestError> {
    Manifest::parse(text.as_bytes(), Some(OCI_MANIFEST))
}

#[track_caller]
fn assert_descriptor_error(result: Result<Manifest, ManifestError>, expected_path: &str) {
    match result {
        Err(ManifestError::Descriptor { path, .. }) => assert_eq!(path, expected_path),
        other => panic!("expected an error at {expected_path}, found {other:?}"),
    }
}

#[test]
fn images_and_indexes_are_read() {
    for media_type in [OCI_MANIFEST, DOCKER_MANIFEST] {
        let manifest = parse(&image(media_type), Some(media_type)).unwrap();
        assert_eq!(manifest.kind, ManifestKind::Image);
        assert_eq!(manifest.media_type, media_type);
        assert_eq!(manifest.schema_version, Some(2));
        assert_eq!(manifest.config.as_ref().unwrap().digest, Digest::sha256(b"config"));
        assert_eq!(manifest.layers[1].media_type, OCI_LAYER_ZSTD);
        assert!(manifest.children().is_empty());
    }
    for media_type in [OCI_INDEX, DOCKER_MANIFEST_LIST] {
        let manifest = parse(&index(media_type), Some(media_type)).unwrap();
        assert_eq!(manifest.kind, ManifestKind::Index);
        assert_eq!(manifest.children().len(), 2);
        assert!(manifest.required_blobs().is_empty());
    }
}

#[test]
fn optional_fields_are_read() {
    let manifest = parse(
        &with(
            index(OCI_INDEX),
            json!({
                "subject": descriptor(OCI_MANIFEST, "subject"),
                "artifactType": "application/x",
                "annotations": { "a": "b" },
                "unknown": { "digest": "no" },
                "manifests": [{
                    "mediaType": OCI_MANIFEST, "digest": digest("x"), "size": 1,
                    "platform": { "os": "linux", "architecture": "arm", "variant": "v7" },
                    "annotations": { "c": "d" }, "artifactType": "application/y",
                    "urls": ["https://example.com"], "data": "eA==", "other": 1,
                }],
            }),
        ),
        None,
    )
    .unwrap();
    assert_eq!(manifest.subject.as_ref().unwrap().digest, Digest::sha256(b"subject"));
    assert_eq!(manifest.artifact_type.as_deref(), Some("application/x"));
    assert_eq!(manifest.annotations["a"], "b");
    let child = &manifest.children()[0];
    assert_eq!(child.platform.as_ref().unwrap().variant.as_deref(), Some("v7"));
    assert_eq!(child.annotations["c"], "d");
    assert_eq!(child.urls, ["https://example.com"]);
    assert_eq!(child.data.as_deref(), Some("eA=="));
}

#[test]
fn null_is_as_good_as_absent() {
    let nulls = json!({
        "manifests": null, "subject": null, "annotations": null, "artifactType": null,
        "layers": null,
    });
    let manifest = parse(&with(image(OCI_MANIFEST), nulls), None).unwrap();
    assert_eq!(manifest.kind, ManifestKind::Image);
    assert!(manifest.layers.is_empty());
    let nulls = json!({ "config": null, "layers": null });
    assert!(parse(&with(index(OCI_INDEX), nulls), None).is_ok());
}

#[test]
fn header_and_body_must_agree() {
    let body = image(OCI_MANIFEST);
    let header = format!("{} ; charset=utf-8", OCI_MANIFEST.to_uppercase());
    assert_eq!(parse(&body, Some(&header)).unwrap().media_type, OCI_MANIFEST);
    assert_eq!(
        parse(&body, Some(DOCKER_MANIFEST)),
        Err(ManifestError::MediaTypeMismatch {
            header: DOCKER_MANIFEST.into(),
            body: OCI_MANIFEST.into()
        })
    );
    for absent in [without(body.clone(), "mediaType"), with(body, json!({ "mediaType": "" }))] {
        let manifest = parse(&absent, Some(DOCKER_MANIFEST)).unwrap();
        assert_eq!(manifest.media_type, DOCKER_MANIFEST, "the header decides");
    }
}

#[test]
fn without_type_the_fields_decide() {
    let untyped = |value: Value| parse(&without(value, "mediaType"), None);
    assert_eq!(untyped(image("")).unwrap().media_type, OCI_MANIFEST);
    assert_eq!(untyped(index("")).unwrap().media_type, OCI_INDEX);
    assert_eq!(untyped(json!({ "schemaVersion": 2 })), Err(ManifestError::UnknownKind));
    let both = with(image(""), json!({ "manifests": [] }));
    assert!(matches!(untyped(both), Err(ManifestError::UnexpectedField { .. })));
}

#[test]
fn unknown_json_types_are_accepted() {
    let own = "application/vnd.example.manifest+json";
    let manifest = parse(&image(own), Some(own)).unwrap();
    assert_eq!((manifest.kind, manifest.media_type.as_str()), (ManifestKind::Image, own));
    assert_eq!(parse(&index(own), None).unwrap().kind, ManifestKind::Index);
    assert_eq!(parse(&json!({ "schemaVersion": 2 }), Some(own)), Err(ManifestError::UnknownKind));
    for other in ["application/octet-stream", "text/plain", "x"] {
        assert_eq!(
            parse(&image(other), Some(other)),
            Err(ManifestError::MediaTypeUnsupported { media_type: other.into() })
        );
    }
}

#[test]
fn schema_1_is_refused_by_name() {
    let old = json!({ "schemaVersion": 1, "name": "a", "fsLayers": [] });
    for header in
        [None, Some(DOCKER_SCHEMA1), Some(DOCKER_SCHEMA1_SIGNED), Some("application/json")]
    {
        assert_eq!(parse(&old, header), Err(ManifestError::Schema1));
    }
    assert_eq!(parse(&image(DOCKER_SCHEMA1_SIGNED), None), Err(ManifestError::Schema1));
}

#[test]
fn schema_version_must_be_2() {
    for (version, found) in
        [(json!(3), "3"), (json!("2"), "\"2\""), (json!(2.5), "2.5"), (json!(null), "none")]
    {
        assert_eq!(
            parse(&with(image(OCI_MANIFEST), json!({ "schemaVersion": version })), None),
            Err(ManifestError::SchemaVersion { found: found.into() })
        );
    }
}

#[test]
fn artifact_manifests_have_blobs() {
    let artifact = json!({
        "mediaType": OCI_ARTIFACT,
        "artifactType": "application/x",
        "blobs": [descriptor("text/plain", "one")],
        "subject": descriptor(OCI_MANIFEST, "subject"),
    });
    let manifest = parse(&artifact, Some(OCI_ARTIFACT)).unwrap();
    assert_eq!(manifest.kind, ManifestKind::Image);
    assert_eq!(manifest.schema_version, None);
    assert_eq!(manifest.required_blobs()[0].digest, Digest::sha256(b"one"));
    assert_eq!(manifest.effective_artifact_type(), Some("application/x"));
    for field in ["config", "layers", "manifests"] {
        assert!(matches!(
            parse(&with(artifact.clone(), json!({ field: [] })), None),
            Err(ManifestError::UnexpectedField { field: found, .. }) if found == field
        ));
    }
    let broken = with(artifact, json!({ "blobs": [1] }));
    assert_descriptor_error(parse(&broken, None), "blobs[0]");
}

#[test]
fn fields_of_the_other_kind_are_refused() {
    for (value, field) in [
        (with(image(OCI_MANIFEST), json!({ "manifests": [] })), "manifests"),
        (with(image(DOCKER_MANIFEST), json!({ "manifests": [] })), "manifests"),
        (with(index(OCI_INDEX), json!({ "layers": [] })), "layers"),
        (with(index(DOCKER_MANIFEST_LIST), json!({ "config": {} })), "config"),
    ] {
        match parse(&value, None) {
            Err(ManifestError::UnexpectedField { field: found, .. }) => assert_eq!(found, field),
            other => panic!("{other:?}"),
        }
    }
    assert!(matches!(
        parse(&without(image(OCI_MANIFEST), "config"), None),
        Err(ManifestError::MissingField { field: "config", .. })
    ));
}

#[test]
fn ambiguous_keys_are_refused() {
    let text = image(OCI_MANIFEST).to_string();
    let again = text.replacen('{', "{\"layers\": [],", 1);
    assert_eq!(parse_text(&again), Err(ManifestError::DuplicateKey { path: "layers".into() }));
    for spelling in ["Layers", "LAYERS", "layer\u{17f}", "\\u004cayers"] {
        let other = text.replacen('{', &format!("{{\"{spelling}\": [],"), 1);
        match parse_text(&other) {
            Err(ManifestError::MisspelledKey { path, .. }) => assert_eq!(path, "layers"),
            other => panic!("{spelling}: {other:?}"),
        }
    }
    let twice = text.replace("\"size\":3", "\"size\":3,\"size\":4");
    assert_eq!(
        parse_text(&twice),
        Err(ManifestError::DuplicateKey { path: "layers[0].size".into() })
    );
    let unknown = text.replacen('{', "{\"other\":1,\"other\":2,\"Other\":3,", 1);
    assert!(parse_text(&unknown).is_ok(), "keys that are not read do not matter");
}

#[test]
fn descriptors_are_checked_and_the_error_says_where() {
    let with_layer = |layer: Value| {
        let good = descriptor(OCI_LAYER, "good");
        parse(&with(image(OCI_MANIFEST), json!({ "layers": [good, layer] })), None)
    };
    let layer = descriptor(OCI_LAYER, "x");
    for (patch, path) in [
        (json!({ "digest": "sha256:abc" }), "layers[1].digest"),
        (json!({ "digest": digest("x").to_uppercase() }), "layers[1].digest"),
        (json!({ "digest": null }), "layers[1].digest"),
        (json!({ "digest": 1 }), "layers[1].digest"),
        (json!({ "size": -1 }), "layers[1].size"),
        (json!({ "size": 1.5 }), "layers[1].size"),
        (json!({ "size": "1" }), "layers[1].size"),
        (json!({ "size": null }), "layers[1].size"),
        (json!({ "size": i64::MAX as u64 + 1 }), "layers[1].size"),
        (json!({ "mediaType": 1 }), "layers[1].mediaType"),
        (json!({ "urls": "x" }), "layers[1].urls"),
        (json!({ "annotations": { "a": 1 } }), "layers[1].annotations"),
        (json!({ "platform": 1 }), "layers[1].platform"),
    ] {
        assert_descriptor_error(with_layer(with(layer.clone(), patch)), path);
    }
    assert_descriptor_error(with_layer(json!("x")), "layers[1]");
    assert_descriptor_error(with_layer(json!(null)), "layers[1]");
    assert_eq!(
        with_layer(with(layer.clone(), json!({ "digest": "blake3:00ff" }))),
        Err(ManifestError::UnknownAlgorithm {
            path: "layers[1].digest".into(),
            algorithm: "blake3".into()
        })
    );
    assert!(with_layer(with(layer.clone(), json!({ "size": i64::MAX }))).is_ok());
    assert!(with_layer(with(layer.clone(), json!({ "mediaType": "what/ever" }))).is_ok());
    assert_eq!(with_layer(without(layer, "mediaType")).unwrap().layers[1].media_type, "");

    let subject = with(image(OCI_MANIFEST), json!({ "subject": {} }));
    assert_descriptor_error(parse(&subject, None), "subject.digest");
    let config = with(image(OCI_MANIFEST), json!({ "config": [] }));
    assert_descriptor_error(parse(&config, None), "config");
    assert_eq!(
        parse(&with(image(OCI_MANIFEST), json!({ "layers": 7 })), None).unwrap_err().to_string(),
        "layers: expected a list of descriptors, found 7"
    );
}

#[test]
fn other_fields_are_checked() {
    for (patch, expected) in [
        (json!({ "artifactType": 1 }), "artifactType"),
        (json!({ "annotations": [] }), "annotations"),
        (json!({ "mediaType": {} }), "mediaType"),
    ] {
        match parse(&with(image(OCI_MANIFEST), patch), None) {
            Err(ManifestError::Field { path, .. }) => assert_eq!(path, expected),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn only_json_objects_are_manifests() {
    for text in ["", "{", "{}x", "{\"a\"}", "\u{feff}{}", "{\"a\":1,}", "nope"] {
        assert!(matches!(parse_text(text), Err(ManifestError::Json { .. })), "{text}");
    }
    for text in ["[]", "1", "\"x\"", "null", " [{}]"] {
        assert_eq!(parse_text(text), Err(ManifestError::NotAnObject), "{text}");
    }
    assert!(matches!(Manifest::parse(b"{\"\xff\":1}", None), Err(ManifestError::Json { .. })));
}

#[test]
fn sizes_and_depth_are_bounded() {
    let exact = |size: usize| {
        let text = image(OCI_MANIFEST).to_string();
        let padding = " ".repeat(size - text.len());
        parse_text(&(text + &padding))
    };
    assert!(exact(MAX_MANIFEST_SIZE).is_ok());
    assert_eq!(
        exact(MAX_MANIFEST_SIZE + 1),
        Err(ManifestError::TooLarge { size: MAX_MANIFEST_SIZE + 1 })
    );

    let nested = |depth: usize| {
        let nest = format!("{{\"x\":{}{},", "[".repeat(depth), "]".repeat(depth));
        parse_text(&image(OCI_MANIFEST).to_string().replacen('{', &nest, 1))
    };
    assert!(nested(127).is_ok());
    assert!(matches!(nested(128), Err(ManifestError::Json { .. })));
    assert!(matches!(nested(1_000_000), Err(ManifestError::Json { .. })));
    let brackets = with(image(OCI_MANIFEST), json!({ "x": format!("\"\\{}", "[".repeat(200)) }));
    assert!(parse(&brackets, None).is_ok(), "brackets in strings do not nest");

    let many = format!("{{\"schemaVersion\":2,\"layers\":[{}1]}}", "{},".repeat(MAX_DESCRIPTORS));
    assert_eq!(
        Manifest::parse(many.as_bytes(), None).and(Ok(())),
        Err(ManifestError::MissingField { media_type: OCI_MANIFEST.into(), field: "config" })
    );
    assert_eq!(
        Manifest::parse(many.as_bytes(), Some("application/json")).and(Ok(())),
        Err(ManifestError::TooManyDescriptors { field: "layers" })
    );
}

#[test]
fn foreign_layers_are_optional() {
    let manifest = parse(
        &with(
            image(OCI_MANIFEST),
            json!({ "layers": [
                descriptor(OCI_LAYER, "one"),
                descriptor(DOCKER_FOREIGN_LAYER, "foreign"),
                with(descriptor(OCI_LAYER, "elsewhere"), json!({ "urls": ["https://example.com"] })),
                descriptor(OCI_NONDISTRIBUTABLE_LAYER, "foreign"),
                descriptor(OCI_NONDISTRIBUTABLE_LAYER, "one"),
                descriptor(OCI_LAYER, "two"),
                descriptor(OCI_LAYER, "one"),
                descriptor(OCI_LAYER, "config"),
            ] }),
        ),
        None,
    )
    .unwrap();
    let digests =
        |blobs: Vec<&Descriptor>| blobs.iter().map(|blob| blob.digest).collect::<Vec<_>>();
    let of = |contents: &[&str]| {
        contents.iter().map(|content| Digest::sha256(content.as_bytes())).collect::<Vec<_>>()
    };
    assert_eq!(digests(manifest.required_blobs()), of(&["config", "one", "two"]));
    assert_eq!(digests(manifest.optional_blobs()), of(&["foreign", "elsewhere"]));
}

#[test]
fn artifact_type_falls_back_to_the_config() {
    let typed = |value: Value| parse(&value, None).unwrap();
    let artifact_type = json!({ "artifactType": "application/x" });
    assert_eq!(
        typed(with(image(OCI_MANIFEST), artifact_type.clone())).effective_artifact_type(),
        Some("application/x")
    );
    assert_eq!(typed(image(OCI_MANIFEST)).effective_artifact_type(), Some(OCI_CONFIG));
    assert_eq!(
        typed(with(image(OCI_MANIFEST), json!({ "artifactType": "" }))).effective_artifact_type(),
        Some(OCI_CONFIG)
    );
    assert_eq!(typed(index(OCI_INDEX)).effective_artifact_type(), None);
    assert_eq!(
        typed(with(index(OCI_INDEX), artifact_type)).effective_artifact_type(),
        Some("application/x")
    );
}

#[test]
fn large_manifests_are_read_in_linear_time() {
    let layers: Vec<_> = (0..25_000).map(|i| descriptor("x", &i.to_string())).collect();
    let value = json!({
        "schemaVersion": 2, "config": descriptor(OCI_CONFIG, "config"), "layers": layers,
    });
    let manifest = parse(&value, None).unwrap();
    assert_eq!(manifest.required_blobs().len(), 25_001);
    assert!(manifest.optional_blobs().is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = Manifest::parse(&bytes, None);
    }

    /// Damages a good manifest, so that the checks behind the JSON syntax are reached.
    #[test]
    fn damaged_manifests_are_read_or_refused(
        at in any::<prop::sample::Index>(),
        removed in 0_usize..20,
        inserted in "([0-9\"{}\\[\\],:a-z]|null|\"size\":|\"digest\":){0,4}",
        of_index in any::<bool>(),
    ) {
        let mut text = if of_index { index(OCI_INDEX) } else { image(OCI_MANIFEST) }.to_string();
        let at = at.index(text.len());
        text.replace_range(at..(at + removed).min(text.len()), &inserted);
        if let Ok(manifest) = Manifest::parse(text.as_bytes(), None) {
            prop_assert!(serde_json::from_str::<Value>(&text).is_ok());
            prop_assert!(manifest.manifests.is_empty() || manifest.layers.is_empty());
        }
    }
}
