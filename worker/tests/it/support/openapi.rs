//! Checks requests and responses against the API's OpenAPI document.

use axum::http::{Method, StatusCode, Uri};
use jsonschema::Validator;
use serde_json::{Map, Value, json};

/// The document, as the API serves it.
pub(crate) struct Document(pub(crate) Value);

impl Document {
    /// Every operation: path, method and description.
    pub(crate) fn operations(&self) -> impl Iterator<Item = (&str, Method, &Value)> {
        let paths = self.0["paths"].as_object().into_iter().flatten();
        paths.flat_map(|(path, methods)| {
            let methods = methods.as_object().into_iter().flatten();
            methods.map(move |(method, operation)| {
                (
                    path.as_str(),
                    method.to_uppercase().parse().unwrap(),
                    operation,
                )
            })
        })
    }

    /// The operation behind a request, if there is one.
    fn operation(&self, method: &Method, path: &str) -> Option<&Value> {
        let same = |template: &str| {
            let (template, path) = (template.split('/'), path.split('/'));
            template.clone().count() == path.clone().count()
                && template
                    .zip(path)
                    .all(|(t, p)| t == p || t.starts_with('{'))
        };
        self.operations()
            .find(|(template, known, _)| known == method && same(template))
            .map(|(_, _, operation)| operation)
    }

    /// Panics unless the document describes this request, which was taken; `request` is the body if
    /// it is JSON.
    pub(crate) fn assert_takes(
        &self,
        method: &Method,
        uri: &Uri,
        request: Option<&Value>,
        answer: &Value,
    ) {
        let exchange = format!("{method} {uri} -> {answer:#}");
        let operation = self.operation(method, uri.path());
        let operation = operation.unwrap_or_else(|| panic!("the document lacks {exchange}"));
        for (name, value) in query(uri) {
            self.assert_parameter(operation, &name, &value, &exchange);
        }
        if let Some(request) = request {
            let content = &operation["requestBody"]["content"]["application/json"];
            self.assert_valid(&content["schema"], request, &exchange);
        }
    }

    /// Panics unless the document describes this answer.
    pub(crate) fn assert_answers(
        &self,
        method: &Method,
        uri: &Uri,
        (status, media_type, answer): (StatusCode, Option<&str>, &Value),
    ) {
        let exchange = format!("{method} {uri} -> {status} {answer:#}");
        let Some(operation) = self.operation(method, uri.path()) else {
            assert!(!status.is_success(), "the document lacks {exchange}");
            return;
        };
        let responses = operation["responses"].as_object().unwrap();
        let response = responses.get(status.as_str()).unwrap_or_else(|| {
            assert!(
                status.is_server_error(),
                "the document lacks the status of {exchange}"
            );
            &responses["default"]
        });
        let response = match response.get("$ref") {
            Some(_) => &self.0["components"]["responses"]["Problem"],
            None => response,
        };
        let Some(content) = response.get("content").and_then(Value::as_object) else {
            assert!(
                media_type.is_none(),
                "the document promises no content: {exchange}"
            );
            return;
        };
        let given = media_type.and_then(|t| t.split(';').next());
        let found = content.iter().find(|(promised, _)| given == Some(promised));
        let (promised, content) = found.unwrap_or_else(|| panic!("{given:?} in {exchange}"));
        if promised.ends_with("json") {
            self.assert_valid(&content["schema"], answer, &exchange);
        }
    }

    fn assert_parameter(&self, operation: &Value, name: &str, value: &str, exchange: &str) {
        let parameters = operation["parameters"].as_array().into_iter().flatten();
        let schema = parameters
            .filter(|parameter| parameter["in"] == "query")
            .find_map(|parameter| {
                let schema = &parameter["schema"];
                let open = schema.get("patternProperties").and_then(Value::as_object);
                let open = open.into_iter().flatten().next();
                match open {
                    Some((pattern, schema)) => {
                        let prefix = pattern.trim_matches(['^', '.']).replace('\\', "");
                        name.starts_with(&prefix).then_some(schema)
                    }
                    None => (parameter["name"] == name).then_some(schema),
                }
            })
            .unwrap_or_else(|| panic!("the document lacks the parameter {name} of {exchange}"));
        let value = match schema["type"].as_str() {
            Some("boolean") => value.parse::<bool>().map_or(json!(value), |b| json!(b)),
            Some("integer") => value.parse::<u64>().map_or(json!(value), |n| json!(n)),
            Some("number") => value.parse::<f64>().map_or(json!(value), |n| json!(n)),
            _ => json!(value),
        };
        self.assert_valid(schema, &value, exchange);
    }

    fn assert_valid(&self, schema: &Value, value: &Value, exchange: &str) {
        let failpoints: Vec<String> = self
            .validator(schema)
            .iter_errors(value)
            .map(|fault| format!("{}: {fault}", fault.instance_path()))
            .collect();
        assert!(
            failpoints.is_empty(),
            "{exchange} is not as documented: {failpoints:#?}"
        );
    }

    fn validator(&self, schema: &Value) -> Validator {
        let mut root = schema.as_object().cloned().unwrap_or_else(Map::new);
        root.insert("components".to_owned(), self.0["components"].clone());
        let options = jsonschema::options().should_validate_formats(true);
        options.build(&root.into()).unwrap()
    }
}

fn query(uri: &Uri) -> Vec<(String, String)> {
    let pairs = uri.query().unwrap_or_default().split('&');
    pairs
        .filter_map(|pair| pair.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}
