//! The filter of the log over HTTP.

use axum::{body::Body, http::Request};
use glyph_worker::{
    settings::{Settings, SettingsFlags},
    telemetry,
};
use serde_json::{Value, json};

use super::{Answer, Server, access::one_token_for_each_role, assert_problem};

async fn put(server: &Server, token: &str, body: &Value) -> Answer {
    let request = Request::builder()
        .method("PUT")
        .uri("/api/v1/log")
        .header("content-type", "application/json")
        .header("authorization", format!("Bearer {token}"))
        .body(Body::from(body.to_string()));
    server.send(request.unwrap()).await
}

#[tokio::test]
async fn an_operator_sets_the_filter_of_the_log() {
    let quiet = [("GLYPH_LOG".to_owned(), "error".to_owned())];
    telemetry::init(&Settings::load(&SettingsFlags::default(), quiet).unwrap());
    let server = Server::new(one_token_for_each_role());
    let asked = json!({"filter": "error,glyph_worker=off"});
    for token in ["viewer", "annotator", "producer"] {
        assert_problem(&put(&server, token, &asked).await, 403, "forbidden");
    }
    let set = put(&server, "operator", &asked).await;
    assert_eq!(
        set.json,
        json!({"filter": "error,glyph_worker=off", "before": "error"})
    );
    for bad in [
        json!({"filter": "glyph_worker=loudly"}),
        json!({"filter": 1}),
        json!({"level": "info"}),
    ] {
        assert_problem(&put(&server, "operator", &bad).await, 400, "malformed");
    }
    let back = put(&server, "operator", &json!({"filter": "error"})).await;
    assert_eq!(back.json["before"], "error,glyph_worker=off");
}
