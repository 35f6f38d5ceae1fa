//! The OpenAPI document follows these rules, so that client generators understand it. The rules are
//! checked for every operation and schema, including those of new routes. Each test also breaks its
//! rule in a copy of the document, and checks that the rule reports it.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{DocumentConfig, document};

/// Returns the locations in the document that break the rule.
type Rule = fn(&Value) -> Vec<String>;

fn parsed(config: &DocumentConfig<'_>) -> Value {
    serde_json::from_str(&document(config).unwrap()).unwrap()
}

/// Checks that the document follows a rule, and that the rule reports each of these changes. A
/// change is a JSON pointer and the new value.
fn check(rule: Rule, changes: &[(&str, Value)]) {
    let document = parsed(&DocumentConfig::default());
    assert_eq!(rule(&document), Vec::<String>::new());
    for (pointer, value) in changes {
        let mut spoiled = document.clone();
        let target = spoiled.pointer_mut(pointer);
        *target.unwrap_or_else(|| panic!("there is no {pointer}")) = value.clone();
        assert_ne!(rule(&spoiled), Vec::<String>::new(), "{pointer} is not reported");
    }
}

/// Each operation with its method and path.
fn operations(document: &Value) -> impl Iterator<Item = (String, &Value)> {
    document["paths"].as_object().unwrap().iter().flat_map(|(path, item)| {
        let item = item.as_object().unwrap();
        item.iter().map(move |(method, operation)| (format!("{method} {path}"), operation))
    })
}

/// Each request body of a media type.
fn bodies(document: &Value) -> impl Iterator<Item = (String, &str, &Value)> {
    operations(document).flat_map(|(what, operation)| {
        let content = operation["requestBody"]["content"].as_object().into_iter().flatten();
        content.map(move |(media_type, body)| (what.clone(), media_type.as_str(), &body["schema"]))
    })
}

/// Each parameter and each member of an object, with its name and schema.
fn members(document: &Value) -> Vec<(String, String, &Value)> {
    let mut found = Vec::new();
    for (what, operation) in operations(document) {
        for parameter in operation["parameters"].as_array().into_iter().flatten() {
            let name = parameter["name"].as_str().unwrap().to_owned();
            found.push((format!("{what}?{name}"), name, &parameter["schema"]));
        }
    }
    visit(document, "", &mut |pointer, value| {
        for (name, schema) in value["properties"].as_object().into_iter().flatten() {
            found.push((format!("{pointer}.{name}"), name.clone(), schema));
        }
    });
    found
}

/// Calls a function with every value in a document.
fn visit<'a>(value: &'a Value, pointer: &str, found: &mut impl FnMut(&str, &'a Value)) {
    found(pointer, value);
    match value {
        Value::Object(members) => members
            .iter()
            .for_each(|(name, member)| visit(member, &format!("{pointer}/{name}"), found)),
        Value::Array(items) => items
            .iter()
            .enumerate()
            .for_each(|(n, item)| visit(item, &format!("{pointer}/{n}"), found)),
        _ => {}
    }
}

/// A schema without a reference and without null.
fn resolved<'a>(document: &'a Value, schema: &'a Value) -> &'a Value {
    if let Some(reference) = schema["$ref"].as_str() {
        return resolved(document, document.pointer(&reference[1..]).unwrap());
    }
    let choices = ["oneOf", "anyOf"].into_iter().find_map(|name| schema[name].as_array());
    let mut choices = choices.into_iter().flatten().filter(|one| one["type"] != "null");
    choices.next().map_or(schema, |choice| resolved(document, choice))
}

fn is_nullable(schema: &Value) -> bool {
    let of_type = |schema: &Value| match &schema["type"] {
        Value::Array(types) => types.iter().any(|one| one == "null"),
        one => one == "null",
    };
    let choices = ["oneOf", "anyOf"].into_iter().find_map(|name| schema[name].as_array());
    of_type(schema) || choices.is_some_and(|choices| choices.iter().any(of_type))
}

#[test]
fn every_object_schema_has_a_name() {
    let rule: Rule = |document| {
        let mut broken = Vec::new();
        visit(document, "", &mut |pointer, value| {
            let parts: Vec<_> = pointer.split('/').skip(1).collect();
            let is_named = matches!(parts.as_slice(), ["components", "schemas", _])
                || matches!(parts.as_slice(), ["components", "schemas", _, "allOf", _]);
            if value["properties"].is_object() && !is_named {
                broken.push(pointer.to_owned());
            }
        });
        broken
    };
    let row = "/components/schemas/PageView_Track/properties/items/items";
    check(rule, &[(row, json!({"type": "object", "properties": {}}))]);
}

#[test]
fn a_body_has_one_media_type_and_one_schema_and_is_marked_as_required_or_optional() {
    let rule: Rule = |document| {
        let mut broken = Vec::new();
        for (what, operation) in operations(document) {
            let body = &operation["requestBody"];
            if body.is_object() && !body["required"].is_boolean() {
                broken.push(format!("{what}: required"));
            }
            if body["content"].as_object().is_some_and(|content| content.len() != 1) {
                broken.push(format!("{what}: one media type"));
            }
        }
        for (what, media_type, schema) in bodies(document) {
            if is_nullable(schema) || !(schema["$ref"].is_string() || schema["type"].is_string()) {
                broken.push(format!("{what} {media_type}"));
            }
        }
        broken
    };
    let body = "/paths/~1api~1uploads~1{id}~1presign/post/requestBody";
    let schema = format!("{body}/content/application~1json/schema");
    let nullable = json!({"oneOf": [{"$ref": "#/components/schemas/Renewal"}, {"type": "null"}]});
    let content = "/paths/~1api~1uploads~1{id}~1content/put/requestBody/content";
    let text = json!({"schema": {"type": "string"}});
    check(
        rule,
        &[
            (&schema, nullable),
            (&format!("{body}/required"), Value::Null),
            (content, json!({"audio/mpeg": text, "application/octet-stream": text})),
        ],
    );
    let document = parsed(&DocumentConfig::default());
    assert_eq!(document.pointer(body).unwrap()["required"], false);
    assert_eq!(document["paths"]["/api/uploads"]["post"]["requestBody"]["required"], true);
}

#[test]
fn a_file_in_a_body_is_binary() {
    let rule: Rule = |document| {
        let mut broken = Vec::new();
        for (what, media_type, schema) in bodies(document) {
            let schema = resolved(document, schema);
            let file = match media_type {
                "application/json" => continue,
                "multipart/form-data" => &schema["properties"]["file"],
                _ if schema["contentMediaType"] == media_type => schema,
                _ => &Value::Null,
            };
            if file["type"] != "string" || file["format"] != "binary" {
                broken.push(format!("{what} {media_type}"));
            }
        }
        broken
    };
    let raw = "/paths/~1api~1uploads~1{id}~1content/put/requestBody/content\
               /application~1octet-stream/schema";
    let form = "/components/schemas/FileForm/properties/file";
    check(rule, &[(raw, json!({"type": "string"})), (form, json!({"type": "string"}))]);
}

#[test]
fn a_member_with_a_fixed_list_of_values_lists_them() {
    // These members are free text.
    const FREE: [&str; 3] = [
        "/components/schemas/Marker.reason",
        "/components/schemas/NewVerdict.reason",
        "/components/schemas/Readiness.reason",
    ];
    const LISTED: [&str; 9] = [
        "status",
        "strategy",
        "confirmed_by",
        "reason",
        "algorithm",
        "ordering",
        "mode",
        "kind",
        "trigger",
    ];
    let rule: Rule = |document| {
        let listed = members(document).into_iter().filter(|(pointer, name, _)| {
            LISTED.contains(&name.as_str()) && !FREE.contains(&pointer.as_str())
        });
        let broken = listed.filter(|(_, _, schema)| {
            let schema = resolved(document, schema);
            schema["type"] != "integer" && !schema["enum"].is_array()
        });
        broken.map(|(pointer, ..)| pointer).collect()
    };
    let text = json!({"type": ["string", "null"]});
    let status = "/components/schemas/Upload/properties/status";
    let ordering = "/paths/~1api~1tracks/get/parameters/3/schema";
    check(rule, &[(status, text.clone()), (ordering, text)]);
}

#[test]
fn a_member_of_a_response_that_can_be_null_is_required() {
    let rule: Rule = |document| {
        let mut broken = Vec::new();
        for name in in_responses(document) {
            let schema = &document["components"]["schemas"][&name];
            let parts = schema["allOf"].as_array().into_iter().flatten().chain([schema]);
            for part in parts {
                let required: Vec<_> = part["required"].as_array().into_iter().flatten().collect();
                for (member, schema) in part["properties"].as_object().into_iter().flatten() {
                    if is_nullable(schema) && !required.iter().any(|one| *one == member) {
                        broken.push(format!("{name}.{member}"));
                    }
                }
            }
        }
        broken
    };
    check(
        rule,
        &[
            ("/components/schemas/Upload/required", json!(["id"])),
            ("/components/schemas/Problem/properties/detail/type", json!(["string", "null"])),
        ],
    );
}

/// The names of the schemas in responses.
fn in_responses(document: &Value) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let mut open: Vec<&Value> =
        operations(document).map(|(_, operation)| &operation["responses"]).collect();
    while let Some(value) = open.pop() {
        visit(value, "", &mut |_, value| {
            let reference = value["$ref"].as_str().unwrap_or_default();
            if let Some(name) = reference.strip_prefix("#/components/schemas/")
                && names.insert(name.to_owned())
            {
                open.push(&document["components"]["schemas"][name]);
            }
        });
    }
    names
}

#[test]
fn a_parameter_is_not_nullable() {
    let rule: Rule = |document| {
        let parameters =
            members(document).into_iter().filter(|(pointer, ..)| pointer.contains('?'));
        parameters
            .filter(|(_, _, schema)| is_nullable(schema))
            .map(|(pointer, ..)| pointer)
            .collect()
    };
    let key = "/paths/~1api~1uploads/post/parameters/0/schema/type";
    check(rule, &[(key, json!(["string", "null"]))]);
}

#[test]
fn the_only_server_has_the_public_url() {
    let url = |config: &DocumentConfig<'_>| parsed(config)["servers"].clone();
    assert_eq!(url(&DocumentConfig::default()), json!([{"url": "/"}]));
    let public_url = "https://uploads.example.com/base";
    let config = DocumentConfig { public_url, ..DocumentConfig::default() };
    assert_eq!(url(&config), json!([{"url": public_url}]));
}

#[test]
fn every_operation_declares_its_security() {
    let rule: Rule = |document| {
        let open = operations(document).filter(|(_, one)| !one["security"].is_array());
        open.map(|(what, _)| what).collect()
    };
    check(rule, &[("/paths/~1api~1uploads/post/security", Value::Null)]);
}

#[test]
fn without_authentication_no_operation_declares_security_except_bucket_events() {
    let closed = parsed(&DocumentConfig { authentication: false, ..DocumentConfig::default() });
    let secured: Vec<_> =
        operations(&closed).filter(|(_, one)| one.get("security").is_some()).collect();
    let [(what, events)] = secured.as_slice() else { panic!("{secured:?}") };
    assert_eq!(what, "post /api/events/s3");
    assert_eq!(events["security"], json!([{"events": []}]));
    let schemes = closed["components"]["securitySchemes"].as_object().unwrap();
    assert_eq!(schemes.keys().collect::<Vec<_>>(), ["events"]);
}

#[test]
fn the_snapshot_is_current() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/http/openapi.json");
    let document = document(&DocumentConfig::default()).unwrap();
    if std::env::var_os("UPDATE_SNAPSHOTS").is_some() {
        std::fs::write(path, &document).unwrap();
    }
    let snapshot = std::fs::read_to_string(path).unwrap_or_default();
    assert!(snapshot == document, "run with UPDATE_SNAPSHOTS=1 and review the difference");
}
