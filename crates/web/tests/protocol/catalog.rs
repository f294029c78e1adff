//! `/v2/_catalog` and `/v1/search`

use crate::support::TestRegistry;

/// In byte order: a name is one text, slashes do not make a tree of it.
const NAMES: [&str; 7] = ["a", "a-b", "a/1x", "a/b/c", "a/zz", "a_b", "b"];

async fn registry_with_repositories() -> TestRegistry {
    let registry = TestRegistry::new().await;
    for name in NAMES.iter().rev() {
        registry.push_image(name, "latest", "image").await;
    }
    registry
}

#[tokio::test]
async fn all_repositories_in_order() {
    let registry = registry_with_repositories().await;
    let answer = registry.get("/v2/_catalog").await.status(200);
    assert_eq!(answer.list("repositories"), NAMES);
    assert_eq!(answer.header("content-type"), "application/json");
    assert_eq!(answer.next_page(), None);
    registry.head("/v2/_catalog").await.expect(200);
}

#[tokio::test]
async fn page_by_page_to_the_end() {
    let registry = registry_with_repositories().await;
    for size in 1..=8 {
        let mut found = Vec::new();
        let mut target = format!("/v2/_catalog?n={size}");
        loop {
            let answer = registry.get(&target).await.status(200);
            let names = answer.list("repositories");
            assert!(names.len() <= size && !names.is_empty(), "no page is empty: {answer}");
            found.extend(names);
            match answer.next_page() {
                Some(next) => target = next,
                None => break,
            }
        }
        assert_eq!(found, NAMES);
    }
}

#[tokio::test]
async fn sizes_and_starting_points() {
    let registry = registry_with_repositories().await;
    for (query, expected) in [
        ("n=0", &[][..]),
        ("n=1000", &NAMES[..]),
        ("last=a%2Fb%2Fc", &NAMES[4..]),
        ("last=a/b/c", &NAMES[4..]),
        ("last=a/b", &NAMES[3..]),
        ("last=zzz", &[]),
        ("last=%00", &NAMES[..]),
        ("n=1&last=a", &NAMES[1..2]),
    ] {
        let answer = registry.get(format!("/v2/_catalog?{query}")).await.status(200);
        assert_eq!(answer.list("repositories"), expected, "{query}");
    }
    for n in ["-1", "x", "", "1001", "18446744073709551615", "99999999999999999999"] {
        let answer = registry.get(format!("/v2/_catalog?n={n}")).await;
        answer.refused(400, "PAGINATION_NUMBER_INVALID");
    }
}

#[tokio::test]
async fn a_hundred_without_being_asked() {
    let registry = TestRegistry::new().await;
    for n in 0..101 {
        registry.push_image(&format!("r{n:03}"), "latest", "image").await;
    }
    let answer = registry.get("/v2/_catalog").await.status(200);
    assert_eq!(answer.list("repositories").len(), 100);
    assert_eq!(answer.next_page().unwrap(), "/v2/_catalog?last=r099&n=100");
    let answer = registry.get(answer.next_page().unwrap()).await.status(200);
    assert_eq!(answer.list("repositories"), ["r100"]);
    assert_eq!(answer.next_page(), None);
}

#[tokio::test]
async fn a_repository_without_manifests_leaves_the_catalogue() {
    let registry = TestRegistry::new().await;
    let listed = async || registry.get("/v2/_catalog").await.status(200).list("repositories");
    registry.push_blob("a/b", b"content").await;
    registry.begin_upload("a/b").await;
    assert!(listed().await.is_empty(), "blobs alone do not count");
    let first = registry.push_image("a/b", "v1", "first").await;
    let second = registry.push_image("a/b", "v2", "second").await;
    assert_eq!(listed().await, ["a/b"]);
    registry.delete("/v2/a/b/manifests/v1").await.expect(202);
    registry.delete("/v2/a/b/manifests/v2").await.expect(202);
    assert_eq!(listed().await, ["a/b"], "manifests without tags count");
    registry.delete(format!("/v2/a/b/manifests/{first}")).await.expect(202);
    assert_eq!(listed().await, ["a/b"]);
    registry.delete(format!("/v2/a/b/manifests/{second}")).await.expect(202);
    assert!(listed().await.is_empty());
    assert_eq!(registry.get("/v1/search?q=a").await.json()["num_results"], 0);
    registry.push_image("a/b", "v1", "first").await;
    assert_eq!(listed().await, ["a/b"]);
}

async fn search(registry: &TestRegistry, query: &str) -> (Vec<String>, serde_json::Value) {
    let answer = registry.get(format!("/v1/search?{query}")).await.status(200);
    let json = answer.json();
    let names = json["results"].as_array().unwrap().iter();
    (names.map(|result| result["name"].as_str().unwrap().to_owned()).collect(), json)
}

#[tokio::test]
async fn search_finds_what_contains_the_term() {
    let registry = registry_with_repositories().await;
    for (term, expected) in [
        ("b", &["a-b", "a/b/c", "a_b", "b"][..]),
        ("a/", &["a/1x", "a/b/c", "a/zz"]),
        ("a%2Fb", &["a/b/c"]),
        // Neither is a wildcard.
        ("_", &["a_b"]),
        ("%25", &[]),
        ("!", &[]),
        ("a%25b", &[]),
        ("", &NAMES),
        ("nothing", &[]),
        ("'; DROP TABLE tags; --", &[]),
    ] {
        let (names, json) = search(&registry, &format!("q={}", term.replace(' ', "+"))).await;
        assert_eq!(names, expected, "{term}");
        assert_eq!(json["num_results"], expected.len());
    }
}

#[tokio::test]
async fn search_for_what_no_name_can_contain() {
    let registry = registry_with_repositories().await;
    for term in ["%00", "%00b", "b%00", "%FF"] {
        let (names, json) = search(&registry, &format!("q={term}")).await;
        assert!(names.is_empty(), "{term} is in {names:?}");
        assert_eq!(json["num_results"], 0);
    }
}

#[tokio::test]
async fn search_has_the_fields_that_docker_reads() {
    let registry = registry_with_repositories().await;
    let (_, json) = search(&registry, "q=zz&n=25").await;
    assert_eq!(
        json,
        serde_json::json!({
            "num_pages": 1, "num_results": 1, "page": 1, "page_size": 25, "query": "zz",
            "results": [{
                "name": "a/zz", "description": "", "star_count": 0,
                "is_official": false, "is_automated": false, "is_trusted": false,
            }],
        })
    );
}

#[tokio::test]
async fn search_has_pages() {
    let registry = registry_with_repositories().await;
    let mut found = Vec::new();
    for page in 1..=4 {
        let (names, json) = search(&registry, &format!("n=2&page={page}")).await;
        assert_eq!(json["num_pages"], 4);
        assert_eq!(json["page"], page);
        found.extend(names);
    }
    assert_eq!(found, NAMES);
    assert!(search(&registry, "n=2&page=5").await.0.is_empty());
    // Search was never strict about numbers.
    for query in ["n=-1", "n=x", "n=0", "page=0", "page=x", "n=99999999999999999999", "page=1&n="] {
        assert_eq!(search(&registry, query).await.0, NAMES, "{query}");
    }
}
