//! The OpenAPI document as a page: plain HTML, no script, no external resources.

use std::fmt::Write;

use serde_json::{Map, Value};

const STYLE: &str = "
:root { color-scheme: light dark; --line: #8884; --quiet: #777; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
code, pre { font: 0.9em ui-monospace, monospace; }
pre { overflow-x: auto; padding: 0.75rem; border: 1px solid var(--line); border-radius: 4px; }
table { border-collapse: collapse; width: 100%; margin: 0.5rem 0 1rem; }
th, td { text-align: left; vertical-align: top; padding: 0.25rem 0.75rem 0.25rem 0; border-bottom: 1px solid var(--line); }
th { font-weight: 600; color: var(--quiet); }
section { border-top: 1px solid var(--line); margin-top: 1.5rem; }
h3 code { font-size: 1em; }
.method { display: inline-block; min-width: 3.5em; font-weight: 700; }
";

/// Renders an OpenAPI document of this API as a page.
pub(super) fn page(document: &Value) -> String {
    let mut page = Page::default();
    let info = &document["info"];
    let title = text(&info["title"]);
    page.add(format_args!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <title>{title}</title><style>{STYLE}</style></head><body>\n\
         <h1>{title} {}</h1>\n<p>{}</p>\n<p>{}</p>\n\
         <p>The same for programs: <a href=\"openapi.json\"><code>/openapi.json</code></a> \
         (OpenAPI {}).</p>\n",
        text(&info["version"]),
        text(&info["description"]),
        text(&document["components"]["securitySchemes"]["bearer"]["description"]),
        text(&document["openapi"]),
    ));
    let operations: Vec<(&str, &str, &Value)> = entries(&document["paths"])
        .flat_map(|(path, methods)| {
            entries(methods).map(move |(method, operation)| (path, method, operation))
        })
        .collect();
    page.contents(&operations);
    for (path, method, operation) in operations {
        page.operation(path, method, operation);
    }
    page.add(format_args!("<h2 id=\"schemas\">Schemas</h2>\n"));
    for (name, schema) in entries(&document["components"]["schemas"]) {
        page.add(format_args!(
            "<section id=\"schema-{0}\"><h3><code>{0}</code></h3>\n",
            escaped(name)
        ));
        page.schema(schema);
        page.add(format_args!("</section>\n"));
    }
    page.add(format_args!("</body></html>\n"));
    page.0
}

/// The roles that may call an operation.
fn roles(operation: &Value) -> String {
    let roles = operation["x-roles"].as_array();
    let names = roles.map(|roles| roles.iter().map(text).collect::<Vec<_>>().join(", "));
    names.unwrap_or_else(|| "-".to_owned())
}

#[derive(Default)]
struct Page(String);

impl Page {
    fn add(&mut self, text: std::fmt::Arguments<'_>) {
        // Writing to a string never fails.
        let _ = self.0.write_fmt(text);
    }

    fn contents(&mut self, operations: &[(&str, &str, &Value)]) {
        self.add(format_args!(
            "<table><tr><th>operation</th><th>does</th><th>roles</th></tr>\n"
        ));
        for (path, method, operation) in operations {
            self.add(format_args!(
                "<tr><td><a href=\"#{}\"><code><span class=\"method\">{}</span>{}</code></a></td>\
                 <td>{}</td><td>{}</td></tr>\n",
                text(&operation["operationId"]),
                method.to_uppercase(),
                escaped(path),
                text(&operation["summary"]),
                roles(operation),
            ));
        }
        self.add(format_args!("</table>\n"));
    }

    fn operation(&mut self, path: &str, method: &str, operation: &Value) {
        self.add(format_args!(
            "<section id=\"{}\"><h3><code>{} {}</code></h3>\n<p>{} {}</p>\n",
            text(&operation["operationId"]),
            method.to_uppercase(),
            escaped(path),
            text(&operation["summary"]),
            text(&operation["description"]),
        ));
        let parameters = operation["parameters"].as_array().into_iter().flatten();
        let rows = parameters.map(|parameter| {
            let place = text(&parameter["in"]);
            let name = text(&parameter["name"]);
            let required = parameter["required"] == true;
            let description = text(&parameter["description"]);
            [
                format!("<code>{name}</code>"),
                format!("{place}{}", if required { ", required" } else { "" }),
                type_of(&parameter["schema"]),
                description,
            ]
        });
        self.table(&["parameter", "in", "type", ""], &rows.collect::<Vec<_>>());
        let body = &operation["requestBody"];
        for (media_type, content) in entries(&body["content"]) {
            self.add(format_args!(
                "<p>Body, <code>{}</code>: {}.</p>\n",
                escaped(media_type),
                text(&body["description"])
            ));
            self.fields(&content["schema"]);
        }
        let rows = entries(&operation["responses"]).map(|(status, response)| {
            let content = entries(&response["content"]).next();
            let carried =
                content.map_or(
                    String::new(),
                    |(media_type, content)| match content["schema"].get("$ref") {
                        Some(_) => type_of(&content["schema"]),
                        None => format!("<code>{}</code>", escaped(media_type)),
                    },
                );
            let problem = response.get("$ref").map(|_| link("Problem"));
            [
                escaped(status),
                problem.unwrap_or(carried),
                text(&response["description"]),
            ]
        });
        self.table(&["status", "carries", ""], &rows.collect::<Vec<_>>());
        self.add(format_args!("</section>\n"));
    }

    /// A named schema: a table of its fields if it is an object, else its JSON.
    fn schema(&mut self, schema: &Value) {
        let plain = schema.get("properties").is_some()
            && ["oneOf", "anyOf", "allOf"]
                .iter()
                .all(|key| schema.get(key).is_none());
        if plain {
            self.add(format_args!("<p>{}</p>\n", text(&schema["description"])));
            self.fields(schema);
        } else {
            self.add(format_args!(
                "<pre>{}</pre>\n",
                escaped(&format!("{schema:#}"))
            ));
        }
    }

    fn fields(&mut self, schema: &Value) {
        let mut rows = Vec::new();
        field_rows(schema, "", &mut rows);
        self.table(&["field", "type", "", ""], &rows);
    }

    /// A table, unless it has no rows; the cells are HTML.
    fn table<const N: usize>(&mut self, head: &[&str; N], rows: &[[String; N]]) {
        if rows.is_empty() {
            return;
        }
        let row = |tag: &str, cells: &[String]| {
            let cells = cells.iter().map(|cell| format!("<{tag}>{cell}</{tag}>"));
            format!("<tr>{}</tr>\n", cells.collect::<String>())
        };
        let head = head.map(str::to_owned);
        let body: String = rows.iter().map(|cells| row("td", cells)).collect();
        self.add(format_args!("<table>{}{body}</table>\n", row("th", &head)));
    }
}

/// A row for each field; the fields of an inline object follow it.
fn field_rows(schema: &Value, before: &str, rows: &mut Vec<[String; 4]>) {
    let required = schema["required"].as_array();
    for (name, field) in entries(&schema["properties"]) {
        let required = required.is_some_and(|all| all.iter().any(|known| known == name));
        let name = format!("{before}{name}");
        rows.push([
            format!("<code>{}</code>", escaped(&name)),
            type_of(field),
            if required { "required" } else { "" }.to_owned(),
            text(&field["description"]),
        ]);
        field_rows(field, &format!("{name}."), rows);
    }
}

/// A short description of a schema, as HTML.
fn type_of(schema: &Value) -> String {
    if let Some(target) = schema.get("$ref").and_then(Value::as_str) {
        return link(target.rsplit('/').next().unwrap_or(target));
    }
    for key in ["anyOf", "oneOf"] {
        if let Some(parts) = schema.get(key).and_then(Value::as_array) {
            return parts.iter().map(type_of).collect::<Vec<_>>().join(" or ");
        }
    }
    if let Some(values) = schema.get("enum").and_then(Value::as_array) {
        let values = values.iter().map(|value| escaped(&value.to_string()));
        return values.collect::<Vec<_>>().join(" or ");
    }
    if let Some(value) = schema.get("const") {
        return escaped(&value.to_string());
    }
    let names: Vec<&str> = match &schema["type"] {
        Value::String(name) => vec![name],
        Value::Array(names) => names.iter().filter_map(Value::as_str).collect(),
        _ => vec!["any JSON"],
    };
    let names = names.into_iter().map(|name| match name {
        "array" => format!("list of {}", type_of(&schema["items"])),
        "object" => match schema.get("additionalProperties") {
            Some(Value::Object(values)) if !values.is_empty() => {
                format!("object of {}", type_of(&Value::Object(values.clone())))
            }
            _ => "object".to_owned(),
        },
        name => match schema.get("format").and_then(Value::as_str) {
            Some(format) if name != "null" => format!("{} ({})", escaped(name), escaped(format)),
            _ => escaped(name),
        },
    });
    names.collect::<Vec<_>>().join(" or ")
}

fn link(schema: &str) -> String {
    format!("<a href=\"#schema-{0}\">{0}</a>", escaped(schema))
}

fn entries(object: &Value) -> impl Iterator<Item = (&str, &Value)> {
    let fields = object.as_object().into_iter().flat_map(Map::iter);
    fields.map(|(name, value)| (name.as_str(), value))
}

/// A text of the document as HTML; empty where there is none.
fn text(value: &Value) -> String {
    escaped(value.as_str().unwrap_or_default())
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn types_are_told_in_a_few_words() {
        for (schema, type_name) in [
            (
                json!({"$ref": "#/components/schemas/A"}),
                "<a href=\"#schema-A\">A</a>",
            ),
            (
                json!({"type": ["string", "null"], "format": "uuid"}),
                "string (uuid) or null",
            ),
            (
                json!({"type": "array", "items": {"type": "integer"}}),
                "list of integer",
            ),
            (
                json!({"type": "object", "additionalProperties": {"type": "string"}}),
                "object of string",
            ),
            (json!({"enum": ["<a>", 1]}), "&quot;&lt;a&gt;&quot; or 1"),
            (json!({}), "any JSON"),
            (json!(true), "any JSON"),
        ] {
            assert_eq!(type_of(&schema), type_name);
        }
    }
}
