//! The OpenAPI 3.1 document, made from the registry.

use std::sync::LazyLock;

use schemars::SchemaGenerator;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use super::BASE;
use crate::entry::Entry;
use crate::http::{Answer, answer};
use crate::operation::{Effect, Needs};
use crate::operations::groups;

/// The document. It does not change while the server runs.
pub(super) static DOCUMENT: LazyLock<Value> = LazyLock::new(build);

/// `GET /_conduit/admin/v1/openapi.json`: for anybody, as it says nothing about this server.
pub(super) async fn get_document() -> Answer {
    answer(&*DOCUMENT)
}

fn generator() -> SchemaGenerator {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.definitions_path = "/components/schemas".into();
        settings.meta_schema = None;
    });
    settings.into_generator()
}

/// The schema of an operation's arguments with all types in place.
pub(super) fn schema_of(entry: &Entry) -> Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.inline_subschemas = true;
        settings.meta_schema = None;
    });
    entry.schema(&mut settings.into_generator()).into()
}

/// `UserSuspend`: what the schema of an operation is called.
fn schema_name(entry: &Entry) -> String {
    let words = entry.group.split(['-', '_']).chain(entry.verb.split(['-', '_']));
    let capital =
        |word: &str| word.chars().next().map(|first| first.to_ascii_uppercase()).into_iter().collect::<String>();
    words.map(|word| format!("{}{}", capital(word), word.get(1..).unwrap_or_default())).collect()
}

fn build() -> Value {
    let mut generator = generator();
    let (mut paths, mut schemas, mut tags) = (Map::new(), Map::new(), Vec::new());
    for group in groups() {
        tags.push(json!({"name": group.name, "description": group.about}));
        for entry in &group.entries {
            let name = schema_name(entry);
            let mut schema: Value = entry.schema(&mut generator).into();
            // Said by the operation.
            schema.as_object_mut().map(|schema| schema.remove("description"));
            paths.insert(format!("{BASE}/{}/{}", entry.group, entry.verb), describe_path(entry, &name));
            schemas.insert(format!("{name}Arguments"), schema);
        }
    }
    // What the arguments refer to.
    schemas.extend(generator.take_definitions(true));
    let error = json!({
        "type": "object",
        "required": ["errcode", "error"],
        "properties": {"errcode": {"type": "string"}, "error": {"type": "string"}},
    });
    schemas.insert("Error".to_owned(), error);
    schemas.insert("Answer".to_owned(), answer_schema());
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Administration of Conduit",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Every operation, as `conduit admin` and the admin room have it. What only reads can also be \
                            asked by GET, with query arguments.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "tags": tags,
        "security": [{"accessToken": []}],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {"accessToken": {
                "type": "http",
                "scheme": "bearer",
                "description": "the access token of an administrator, or of a moderator where they may",
            }},
        },
    })
}

fn answer_schema() -> Value {
    json!({
        "type": "object",
        "description": "the named values of the answer; for lists `items`, with `next` where there is another page and \
                        `total` where it was counted; `message` for a sentence",
        "properties": {
            "message": {"type": "string"},
            "items": {"type": "array", "items": {"type": "object"}},
            "next": {"type": "string", "description": "give this as `from` for the next page"},
            "total": {"type": "integer"},
        },
    })
}

fn describe_path(entry: &Entry, name: &str) -> Value {
    let mut command = entry.command();
    let summary = command.get_about().map(ToString::to_string).unwrap_or_default();
    let about = command.get_long_about().map(ToString::to_string).unwrap_or_else(|| summary.clone());
    let who = match entry.needs {
        Needs::Moderator => "Moderators and administrators may.",
        Needs::Administrator => "Administrators may.",
    };
    let usage = command.render_usage().to_string().replace("Usage: ", "").trim().to_owned();
    let description = format!("{about}\n\n{who} On a command line: `{} {usage}`", entry.group);
    let answers = json!({
        "200": {
            "description": "It is done.",
            "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Answer"}}},
        },
        "default": {
            "description": "It was refused or failed.",
            "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}},
        },
    });
    let operation = |id: String| {
        json!({
            "tags": [entry.group],
            "operationId": id,
            "summary": summary,
            "description": description,
            "responses": answers,
        })
    };
    let mut path = Map::new();
    let mut post = operation(format!("{}-{}", entry.group, entry.verb));
    let body = json!({"$ref": format!("#/components/schemas/{name}Arguments")});
    post["requestBody"] = json!({"required": false, "content": {"application/json": {"schema": body}}});
    if entry.effect == Effect::Destroys {
        post["x-destroys"] = true.into();
    }
    path.insert("post".to_owned(), post);
    if entry.effect == Effect::Reads {
        let mut read = operation(format!("{}-{}-get", entry.group, entry.verb));
        read["parameters"] = describe_parameters(entry);
        path.insert("get".to_owned(), read);
    }
    Value::Object(path)
}

fn describe_parameters(entry: &Entry) -> Value {
    let schema = schema_of(entry);
    let required = schema["required"].as_array().cloned().unwrap_or_default();
    let empty = Map::new();
    let properties = schema["properties"].as_object().unwrap_or(&empty).iter();
    let parameter = |(name, schema): (&String, &Value)| {
        json!({
            "name": name,
            "in": "query",
            "required": required.iter().any(|one| one == name),
            "description": schema["description"],
            "schema": schema,
        })
    };
    properties.map(parameter).collect()
}
