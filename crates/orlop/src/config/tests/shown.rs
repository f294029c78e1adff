//! What `orlop config show` and `schema` print.

use super::super::json_schema;
use super::*;

const FILE: &str = "\
version: 0.1
log:
  fields: {service: registry, when: '007'}
http:
  addr: :80
  secret: hunter2
  headers: {X-A: [one, two]}
auth:
  htpasswd: {realm: r, path: /p}
health:
  http:
    - uri: http://ada:hunter2@h/
      headers: {Authorization: [Basic hunter2]}
database: {url: postgres://ada:hunter2@db/orlop?sslmode=require}
storage:
  gcs:
    bucket: b
    credentials: {private_key: hunter2}
proxy: {password: hunter2}
unknown: hunter2
";

#[test]
fn each_value_has_its_place_and_no_secret_is_seen() {
    let variables = [("REGISTRY_LOG_LEVEL", "debug"), ("REGISTRY_REDIS_PASSWORD", "hunter2")];
    let loaded = load_file(FILE, &variables).unwrap();
    let shown = loaded.show();
    let folder = loaded.source.as_ref().unwrap().parent().unwrap().display();
    let shown = shown.replace(&format!("{folder}/"), "");
    assert!(!shown.contains("hunter2"), "{shown}");
    for line in [
        "version: 0.1  # c.yml:1:1",
        "  level: debug  # REGISTRY_LOG_LEVEL",
        "  formatter: text  # default",
        "    when: \"007\"  # c.yml:3:31",
        "  addr: \":80\"  # c.yml:5:3",
        "  secret: \"********\"  # c.yml:6:3",
        "    X-A:",
        "      - one  # c.yml:7:19",
        "    path: /p  # c.yml:9:24",
        "    - uri: http://********@h/  # c.yml:12:7",
        "      statuscode: 200  # default",
        "  url: \"postgres://********@db/orlop?********\"  # c.yml:14:12",
        "      private_key: \"********\"  # c.yml:18:19",
    ] {
        assert!(shown.lines().any(|shown| shown == line), "{line}\n{shown}");
    }
}

#[test]
fn what_is_shown_means_the_same() {
    let text = FILE.replace("hunter2", "x").replace("unknown: x\n", "");
    let text = text.replace("http://ada:x@h/", "http://h/");
    let text = text.replace("postgres://ada:x@db/orlop?sslmode=require", "postgres://db/orlop");
    let first = load_file(&text, &[]).unwrap();
    let again = load_file(&first.show(), &[]).unwrap();
    assert_eq!(again.warnings, [""; 0]);
    let without_secret = |mut config: Config| {
        config.http.secret = None;
        config.health.http.clear();
        config.database = Database::Temporary;
        config.storage.place = Place::Memory;
        config
    };
    assert_eq!(without_secret(again.config.clone()), without_secret(first.config.clone()));
    let places = |text: &str| {
        text.lines().map(|line| line.split("  # ").next().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(places(&again.show()), places(&first.show()));
}

#[test]
fn the_defaults_are_shown_without_a_file() {
    let shown = load(None, &[("HOME", "/home/ada")]).unwrap().show();
    for line in [
        "    rootdirectory: /home/ada/.local/share/orlop  # default",
        "  addr: 127.0.0.1:5000  # default",
        "  none: {}  # default",
    ] {
        assert!(shown.lines().any(|shown| shown == line), "{line}\n{shown}");
    }
}

#[test]
fn the_schema_knows_every_key() {
    let schema = json_schema();
    assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
    let properties = &schema["properties"];
    let level = &properties["log"]["properties"]["level"];
    assert_eq!(level["default"], "info");
    assert!(level["anyOf"][0]["enum"].as_array().unwrap().contains(&"debug".into()));
    let any_case = regex::Regex::new(level["anyOf"][1]["pattern"].as_str().unwrap()).unwrap();
    assert!(any_case.is_match("DEBUG") && any_case.is_match("Warn") && !any_case.is_match("bug"));
    let secure = &properties["http"]["properties"]["relativeurls"]["anyOf"];
    assert_eq!(secure[0]["type"], "boolean");
    assert!(secure[1]["pattern"].as_str().unwrap().contains("[Tt][Rr][Uu][Ee]"));
    let interval = &properties["health"]["properties"]["http"]["items"]["properties"]["interval"];
    assert_eq!(interval["default"], "10s");
    assert_eq!(properties["loglevel"]["deprecated"], true);
    assert_eq!(properties["http"]["additionalProperties"], false);
    let drivers = properties["storage"]["anyOf"][0]["enum"].as_array().unwrap();
    assert!(drivers.contains(&"filesystem".into()) && drivers.contains(&"s3".into()));
    let storage = &properties["storage"]["anyOf"][1]["properties"];
    assert_eq!(storage["s3aws"], storage["s3"]);
    let rules = &properties["auth"]["anyOf"][1]["properties"]["rules"]["items"];
    assert_eq!(rules["required"].as_array().unwrap().len(), 3);
}
