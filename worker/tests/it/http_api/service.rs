//! Health, and the description of the API itself.

use axum::http::StatusCode;
use glyph_worker::{http::PartState, settings::Tokens};
use serde_json::json;

use super::{DOCUMENT, Server};

#[tokio::test]
async fn readiness_names_what_is_missing() {
    let server = Server::new(Tokens::default());
    assert_eq!(server.get("/livez").await.status, StatusCode::OK);
    let starting = server.get("/readyz").await;
    assert_eq!(starting.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(
        starting.json["not_ready"],
        json!(["database", "migrations", "broker"])
    );
    server.health.update(|readiness| {
        readiness.database = PartState::ready();
        readiness.migrations = PartState::ready();
        readiness.broker = PartState::not_ready("gone");
    });
    let waiting = server.get("/readyz").await;
    assert_eq!(waiting.json["not_ready"], json!(["broker"]));
    assert_eq!(waiting.json["parts"]["broker"]["reason"], "gone");
    server
        .health
        .update(|readiness| readiness.broker = PartState::ready());
    assert_eq!(server.get("/readyz").await.status, StatusCode::OK);
}

#[tokio::test]
async fn the_document_is_served_and_its_page_tells_of_every_operation() {
    let server = Server::new(Tokens::default());
    let document = server.get("/openapi.json").await;
    assert_eq!(document.status, StatusCode::OK);
    assert_eq!(document.json, DOCUMENT.0);
    let page = server.get("/docs").await;
    assert_eq!(page.status, StatusCode::OK);
    for (path, method, operation) in DOCUMENT.operations() {
        let heading = format!(
            "<section id={}><h3><code>{method} {path}</code>",
            operation["operationId"]
        );
        assert!(page.text.contains(&heading), "the page lacks {heading}");
        assert_ne!(operation["summary"], "", "{method} {path} has no summary");
    }
    for link in page.text.split("href=\"#").skip(1) {
        let anchor = format!("id=\"{}\"", link.split('"').next().unwrap());
        assert!(page.text.contains(&anchor), "nothing has {anchor}");
    }
    assert!(page.text.contains("<code>annotation.user_id</code>"));
    assert!(!page.text.contains("://"), "the page names another place");
}
