use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{openapi, read_query};
use crate::http::Query;
use crate::operation::Effect;
use crate::operations::{find, groups};

/// Calls `visit` with every reference within a document.
fn visit_references(value: &Value, visit: &mut impl FnMut(&str)) {
    match value {
        Value::Object(fields) => {
            if let Some(Value::String(reference)) = fields.get("$ref") {
                visit(reference);
            }
            fields.values().for_each(|value| visit_references(value, visit));
        }
        Value::Array(values) => values.iter().for_each(|value| visit_references(value, visit)),
        _ => {}
    }
}

#[test]
fn the_document_has_every_operation_and_every_reference_resolves() {
    let document = &*openapi::DOCUMENT;
    assert_eq!(document["openapi"], "3.1.0");
    let paths = document["paths"].as_object().unwrap();
    let mut ids = BTreeSet::new();
    let entries: Vec<_> = groups().into_iter().flat_map(|group| group.entries).collect();
    assert_eq!(paths.len(), entries.len());
    for entry in entries {
        let path = &paths[&format!("/_conduit/admin/v1/{}/{}", entry.group, entry.verb)];
        assert!(path["post"]["summary"].as_str().is_some_and(|text| !text.is_empty()), "{}", entry.name());
        assert_eq!(path.get("get").is_some(), entry.effect == Effect::Reads, "{}", entry.name());
        for operation in path.as_object().unwrap().values() {
            assert!(ids.insert(operation["operationId"].as_str().unwrap().to_owned()), "{operation}");
            assert!(operation["responses"]["200"]["content"]["application/json"]["schema"].is_object());
        }
        // What the body is made of is what the command line has.
        let schema = openapi::schema_of(&entry);
        let empty = serde_json::Map::new();
        let properties: BTreeSet<_> = schema["properties"].as_object().unwrap_or(&empty).keys().cloned().collect();
        let command = entry.command();
        let arguments: BTreeSet<_> = command.get_arguments().map(|argument| argument.get_id().to_string()).collect();
        assert_eq!(properties, arguments, "{}", entry.name());
    }
    let mut references = 0;
    visit_references(document, &mut |reference| {
        references += 1;
        let pointer = reference.strip_prefix('#').unwrap_or_else(|| panic!("{reference} leads outside"));
        assert!(document.pointer(pointer).is_some(), "{reference} leads nowhere");
    });
    assert!(references > groups().len());
}

#[test]
fn query_arguments_get_the_types_of_the_schema() {
    let entry = find("job", "list").unwrap();
    let query = Query::of("/x?active=true&limit=5&kind=7&from=3&access_token=secret".parse().unwrap());
    let prepared = read_query(&entry, &query).unwrap();
    assert_eq!(prepared.arguments, json!({"active": true, "kind": "7", "target": null, "from": 3, "limit": 5}));
    let wrong = Query::of("/x?limit=many".parse().unwrap());
    assert_eq!(read_query(&entry, &wrong).unwrap_err().errcode, "M_INVALID_PARAM");
    let unknown = Query::of("/x?colour=red".parse().unwrap());
    assert_eq!(read_query(&entry, &unknown).unwrap_err().errcode, "M_INVALID_PARAM");
}
