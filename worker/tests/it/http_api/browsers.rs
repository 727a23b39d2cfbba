//! Pages in a browser: those of other origins cannot act.

use axum::{body::Body, http::StatusCode};
use glyph_worker::settings::Tokens;
use serde_json::json;
use uuid::Uuid;

use super::{Answer, DUAL, Server, access::one_token_for_each_role, assert_problem};

async fn get(server: &Server, headers: &[(&str, &str)]) -> Answer {
    let request = server.request("GET", "/api/v1/tasks", headers, Body::empty());
    server.send(request).await
}

#[tokio::test]
async fn pages_of_other_origins_are_refused_with_and_without_tokens() {
    let open = Server::new(Tokens::default());
    let mut closed = Server::new(one_token_for_each_role());
    closed.token = Some("viewer");
    for server in [&open, &closed] {
        for headers in [
            &[("origin", "https://example.org")][..],
            &[("origin", "null")],
            &[
                ("host", "localhost:8080"),
                ("origin", "http://localhost:3000"),
            ],
            &[
                ("host", "localhost:8080"),
                ("origin", "http://127.0.0.1:8080"),
            ],
            &[("host", "localhost:8080"), ("sec-fetch-site", "cross-site")],
            &[("host", "localhost:8080"), ("sec-fetch-site", "same-site")],
        ] {
            assert_problem(&get(server, headers).await, 403, "forbidden");
        }
        for headers in [
            &[][..],
            &[("host", "localhost:8080")],
            &[("host", "[::1]:8080"), ("origin", "http://[::1]:8080")],
            &[
                ("host", "localhost:8080"),
                ("sec-fetch-site", "same-origin"),
            ],
            &[("host", "localhost:8080"), ("sec-fetch-site", "none")],
        ] {
            let answer = get(server, headers).await;
            assert_eq!(
                answer.status,
                StatusCode::OK,
                "{headers:?}: {}",
                answer.json
            );
            assert_eq!(answer.headers["x-content-type-options"], "nosniff");
        }
    }
    // A name that somebody else gave this machine's address.
    let rebound = &[("host", "rebound.example.org:8080")];
    assert_problem(&get(&open, rebound).await, 403, "forbidden");
    assert_eq!(get(&closed, rebound).await.status, StatusCode::OK);
}

#[tokio::test]
async fn bodies_that_a_browser_sends_without_asking_are_refused() {
    let server = Server::new(Tokens::default());
    let yaml = server
        .post(
            "/api/v1/workflows",
            DUAL.to_owned(),
            &[("content-type", "text/plain")],
        )
        .await;
    assert_problem(&yaml, 415, "unsupported_media_type");
    let created = server.post("/api/v1/workflows", DUAL.to_owned(), &[]).await;
    assert_eq!(created.status, StatusCode::CREATED);
    let task = Uuid::from_u128(1);
    let path = format!("/api/v1/tasks/{task}/start");
    let body = json!({"workflow": "sentiment-dual"}).to_string();
    for sent in [
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data",
    ] {
        let started = server
            .post(&path, body.clone(), &[("content-type", sent)])
            .await;
        assert_problem(&started, 415, "unsupported_media_type");
    }
    let untyped = server.request("POST", &path, &[], Body::from(body.clone()));
    assert_problem(&server.send(untyped).await, 415, "unsupported_media_type");
    let with_charset = [("content-type", "Application/JSON; charset=utf-8")];
    let started = server.post(&path, body, &with_charset).await;
    assert_eq!(started.status, StatusCode::CREATED, "{}", started.json);
    // Without a body there is nothing to name the type of.
    let cancel = format!("/api/v1/tasks/{task}/cancel");
    let request = server.request("POST", &cancel, &[], Body::empty());
    assert_eq!(server.send(request).await.status, StatusCode::OK);
}

#[tokio::test]
async fn only_listed_origins_are_let_in() {
    let server = Server::new(Tokens::default());
    let ask = async |origin: &str| {
        let headers = [
            ("origin", origin),
            ("access-control-request-method", "POST"),
            (
                "access-control-request-headers",
                "content-type,idempotency-key",
            ),
        ];
        let request = server.request(
            "OPTIONS",
            "/api/v1/assignments/next",
            &headers,
            Body::empty(),
        );
        let response = tower::ServiceExt::oneshot(server.router.clone(), request).await;
        response.unwrap().headers().clone()
    };
    let listed = ask("https://app.example.org").await;
    assert_eq!(
        listed["access-control-allow-origin"],
        "https://app.example.org"
    );
    let other = ask("https://example.org").await;
    assert!(!other.contains_key("access-control-allow-origin"));
    let headers = [
        ("host", "localhost:8080"),
        ("origin", "https://app.example.org"),
        ("sec-fetch-site", "cross-site"),
    ];
    let answer = get(&server, &headers).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.json);
    assert_eq!(
        answer.headers["access-control-allow-origin"],
        "https://app.example.org"
    );
}
