//! Requests of the HTTP API.

use axum::{body::Body, http::Request};
use glyph_worker::settings::Tokens;
use serde_json::json;
use tokio::runtime::{Builder, Runtime};

use super::{Target, kind_of};
use crate::{http_api::Server, support::engine::task};

/// A method and a target, headers, an empty line, a body.
pub(super) fn target() -> Target {
    let task = task(1);
    let mut samples = Vec::new();
    let document = glyph_worker::http::openapi_document();
    let document = crate::support::openapi::Document(document);
    for (path, method, operation) in document.operations() {
        let path = path.replace("{task_id}", &task.to_string());
        let path = path
            .replace("{workflow}", "sentiment-dual")
            .replace("{step}", "annotate");
        let path = path.replace(['{', '}'], "");
        let queries = operation["parameters"].as_array().into_iter().flatten();
        let queries = queries.filter(|parameter| parameter["in"] == "query");
        let names = queries.filter_map(|parameter| parameter["name"].as_str());
        let query: Vec<String> = names.map(|name| format!("{name}=1")).collect();
        let media_type = operation["requestBody"]["content"].as_object();
        let media_type = media_type.and_then(|content| content.keys().next());
        let head = media_type.map_or(String::new(), |kind| format!("content-type: {kind}\n"));
        samples.push(format!("{method} {path}\n{head}\n{{}}").into_bytes());
        if !query.is_empty() {
            let query = query.join("&");
            samples.push(format!("{method} {path}?{query}\n{head}\n{{}}").into_bytes());
        }
    }
    let work = json!({"step_id": "annotate", "workflow": "sentiment-dual",
        "annotation": {"user_id": task, "data": {"label": "yes"}}});
    for (verb, body) in [
        (
            "start",
            json!({"workflow": "sentiment-dual", "input": {"text": "a"}}),
        ),
        ("submission", work),
        (
            "pause",
            json!({"reason": "a", "until": "2099-01-01T00:00:00Z"}),
        ),
        ("migrate", json!({"to": 1, "dry_run": true})),
    ] {
        let head = "content-type: application/json\nidempotency-key: a\nauthorization: Bearer a";
        samples.push(format!("POST /api/v1/tasks/{task}/{verb}\n{head}\n\n{body}").into_bytes());
    }
    Target {
        name: "http",
        samples,
        words: &[
            "GET ",
            "POST ",
            "PUT ",
            "DELETE ",
            "PATCH ",
            "/api/v1/",
            "/..",
            "//",
            "%00",
            "%ff",
            "%2F",
            "?",
            "&",
            "=",
            "limit=0",
            "limit=-1",
            "limit=18446744073709551616",
            "after=",
            "cursor=",
            "status=running",
            "workflow=",
            "sentiment-dual",
            "sentiment-dual@1",
            "\n\n",
            "content-type: application/json",
            "content-type: text/plain",
            "application/yaml",
            "content-length: 1",
            "accept: text/html",
            "origin: https://a.org",
            "null",
            "{}",
            "[]",
            "\"\"",
            "-1",
            "1e400",
            "\\u0000",
            "from=2026-01-01",
            "dry_run",
            "true",
            "label.a=b",
            "fields=",
            "wait=1",
        ],
        check,
    }
}

thread_local! {
    static RUNTIME: Runtime = Builder::new_current_thread().enable_all().build().unwrap();
}

fn check(input: &[u8]) -> String {
    let Some((request, is_stream)) = request_of(input) else {
        return "no request".to_owned();
    };
    if is_stream {
        return "a stream".to_owned();
    }
    RUNTIME.with(|runtime| {
        runtime.block_on(async {
            let server = Server::new(Tokens::default());
            let dual = include_str!("../../../../examples/sentiment-dual.yaml");
            server.post("/api/v1/workflows", dual.to_owned(), &[]).await;
            server.start(task(1)).await;
            let answer = server.send_any(request).await;
            // Without a broker, some operations have nobody to ask.
            let status = answer.status.as_u16();
            assert!(status < 500 || status == 503, "{status}: {}", answer.text);
            if answer.status.is_client_error() {
                let is_problem =
                    answer.json["code"].is_string() && answer.json["detail"].is_string();
                assert!(
                    is_problem || answer.text.is_empty(),
                    "{status}: {}",
                    answer.text
                );
            }
            let code = answer.json["code"].as_str().unwrap_or_default();
            let detail = answer.json["detail"].as_str().unwrap_or_default();
            format!("{status} {code} {}", kind_of(detail))
        })
    })
}

/// The request, if it is one, and whether its answer does not end.
fn request_of(input: &[u8]) -> Option<(Request<Body>, bool)> {
    let text = String::from_utf8_lossy(input);
    let (head, body) = text.split_once("\n\n")?;
    let mut lines = head.lines();
    let (method, target) = lines.next()?.split_once(' ')?;
    let mut request = Request::builder().method(method).uri(target);
    for (name, value) in lines.filter_map(|line| line.split_once(": ")) {
        request = request.header(name, value);
    }
    let request = request.body(Body::from(body.to_owned())).ok()?;
    let is_stream = request.uri().path().ends_with("/stream");
    Some((request, is_stream))
}
