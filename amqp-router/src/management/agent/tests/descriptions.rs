//! Types as they describe themselves.

use super::*;

#[test]
fn types_describe_themselves() {
    let mut backend = Fake::default();
    let mut about = |operation, kind: &str| {
        let request = strings(&[("operation", operation), ("entityType", kind)]);
        let answer = ask(&mut backend, &request, Value::Null);
        assert_eq!((status(&answer), description(&answer)), (200, "OK"));
        body(&answer).clone()
    };
    let bases = words([
        "io.skupper.router.configurationEntity",
        "io.skupper.router.entity",
    ]);
    assert_eq!(
        about("GET-TYPES", "site").get("io.skupper.router.site"),
        Some(&bases)
    );
    let management = about("GET-TYPES", "org.amqp.management");
    let bases = words([
        "io.skupper.router.org.amqp.management",
        "io.skupper.router.operationalEntity",
        "io.skupper.router.entity",
    ]);
    assert_eq!(management.get("io.skupper.router.management"), Some(&bases));
    let own = about("GET-ATTRIBUTES", "network");
    let attributes = words(["networkId", "tenantId", "name", "identity", "type"]);
    assert_eq!(own.get("io.skupper.router.network"), Some(&attributes));
    let own = about("GET-OPERATIONS", "sslProfile");
    let operations = words(["CREATE", "UPDATE", "DELETE", "READ"]);
    assert_eq!(own.get("io.skupper.router.sslProfile"), Some(&operations));
    let own = about("GET-OPERATIONS", "entity");
    assert_eq!(own.get("io.skupper.router.entity"), Some(&words([])));
    let own = about("GET-ATTRIBUTES", "address");
    let attributes = words([
        "prefix",
        "pattern",
        "distribution",
        "priority",
        "name",
        "identity",
        "type",
    ]);
    let full = "io.skupper.router.router.config.address";
    assert_eq!(own.get(full), Some(&attributes));
    assert_eq!(
        about("GET-TYPES", "").as_map().map(<[_]>::len),
        Some(Schema::all().len())
    );
    assert_eq!(about("GET-ANNOTATIONS", "site"), Value::Map(vec![]));
    let schema = about("GET-SCHEMA", "");
    let role = schema
        .get("entityTypes")
        .and_then(|types| types.get("listener")?.get("attributes")?.get("role"));
    let role = role.expect("a listener has a role");
    assert_eq!(role.get("default"), Some(&"normal".into()));
    assert_eq!(role.get("create"), Some(&true.into()));
    let entity = |name| {
        let types = schema.get("entityTypes");
        types.and_then(|types| types.get(name)).expect("known")
    };
    let drawn = |of, attribute| {
        let attribute = entity(of)
            .get("attributes")
            .and_then(|all| all.get(attribute));
        attribute.expect("known").get("graph").is_some()
    };
    assert!(drawn("router.link", "unsettledCount") && drawn("routerMetrics", "acceptedDeliveries"));
    assert!(!drawn("router.link", "capacity") && !drawn("listener", "cost"));
    let names = entity("site").get("attributes").and_then(Value::as_map);
    let names = names.expect("attributes").iter();
    let names: Vec<_> = names.filter_map(|(name, _)| name.as_str()).collect();
    assert_eq!(names[5..], ["name", "identity"], "{names:?}");
    assert_eq!(entity("router").get("singleton"), Some(&true.into()));
    assert_eq!(entity("site").get("singleton"), None);
    let described = |schema: &Value| {
        let text = schema.get("description").and_then(Value::as_str);
        text.map(str::to_owned).expect("a description")
    };
    assert!(described(role).starts_with("Who is at the other end"));
    let site = schema
        .get("entityTypes")
        .and_then(|types| types.get("site"));
    assert!(described(site.expect("there are sites")).starts_with("The site that"));
    let text = about("GET-JSON-SCHEMA", "");
    let json: serde_json::Value =
        serde_json::from_str(text.as_str().expect("a text")).expect("JSON");
    assert_eq!(json["prefix"], "io.skupper.router");
    assert_eq!(
        json["entityTypes"]["listener"]["attributes"]["cost"]["default"],
        1
    );
}
