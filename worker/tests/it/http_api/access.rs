//! Tokens, roles, origins, and problem documents.

use axum::{body::Body, http::StatusCode};
use glyph_worker::settings::Tokens;
use serde_json::json;
use uuid::Uuid;

use super::{DOCUMENT, DUAL, Server, assert_problem, work};

#[tokio::test]
async fn unreadable_and_unknown_things_have_documents() {
    let server = Server::with_dual().await;
    let task = Uuid::from_u128(9);
    assert_problem(&server.get("/api/v1/nothing").await, 404, "not_found");
    assert_problem(&server.get("/api/v1/tasks/9/state").await, 400, "malformed");
    assert_problem(
        &server.get(&format!("/api/v1/tasks/{task}/state")).await,
        404,
        "task_not_found",
    );
    assert_problem(
        &server.get(&format!("/api/v1/tasks/{task}/events")).await,
        404,
        "task_not_found",
    );
    assert_problem(
        &server.get("/api/v1/tasks?colour=red").await,
        400,
        "malformed",
    );
    assert_problem(
        &server.get("/api/v1/tasks?status=lost").await,
        400,
        "malformed",
    );
    assert_problem(&server.get("/api/v1/tasks?limit=0").await, 400, "malformed");
    assert_problem(
        &server.post("/api/v1/goals", String::new(), &[]).await,
        405,
        "method_not_allowed",
    );
    let submit = format!("/api/v1/tasks/{task}/submit");
    assert_problem(
        &server.post(&submit, "{".to_owned(), &[]).await,
        400,
        "malformed",
    );
    assert_problem(
        &server
            .post(&submit, work(1, "a", &[]).to_string(), &[])
            .await,
        404,
        "task_not_found",
    );
    assert_problem(
        &server.post(&submit, " ".repeat((1 << 20) + 1), &[]).await,
        413,
        "too_large",
    );
    // A character that no database stores is refused early.
    let nul = server.get("/api/v1/tasks?label.a=%00").await;
    assert_problem(&nul, 400, "malformed");
    let nul = DUAL.replacen("name: ", "name: \"\\0\" #", 1);
    let nul = server.post("/api/v1/workflows", nul, &[]).await;
    assert_problem(&nul, 422, "invalid_workflow");
    let unknown = json!({"workflow": "nope"});
    assert_problem(
        &server.verb(task, "start", &unknown).await,
        404,
        "workflow_not_found",
    );
}

/// The tokens `viewer`, `producer` (who is `user`) and `operator`.
/// The producer's token stands for `user`, if one is named.
pub(super) fn one_token_for_each_role(user: Option<Uuid>) -> Tokens {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("tokens");
    let hash = |token: &str| {
        use sha2::{Digest, Sha256};
        let bytes = Sha256::digest(token);
        bytes
            .iter()
            .fold(String::new(), |text, byte| format!("{text}{byte:02x}"))
    };
    let of_user = user.map_or_else(String::new, |user| format!(":{user}"));
    let lines = [
        format!("viewer:{}", hash("viewer")),
        format!("producer:{}{of_user}", hash("producer")),
        format!("operator:{}", hash("operator")),
    ];
    std::fs::write(&file, lines.join("\n")).unwrap();
    Tokens::from_file(&file).unwrap()
}

#[tokio::test]
async fn tokens_decide_who_may_do_what() {
    let user = Uuid::from_u128(7);
    let mut server = Server::new(one_token_for_each_role(Some(user)));

    for path in ["/api/v1/tasks", "/metrics"] {
        let answer = server.get(path).await;
        assert_problem(&answer, 401, "unauthenticated");
        assert_eq!(answer.headers["www-authenticate"], "Bearer");
    }
    assert_eq!(server.get("/livez").await.status, StatusCode::OK);
    server.token = Some("viewer");
    assert_eq!(server.get("/api/v1/tasks").await.status, StatusCode::OK);
    assert_problem(
        &server.post("/api/v1/workflows", DUAL.to_owned(), &[]).await,
        403,
        "forbidden",
    );
    server.token = Some("operator");
    assert_eq!(
        server
            .post("/api/v1/workflows", DUAL.to_owned(), &[])
            .await
            .status,
        StatusCode::CREATED
    );
    server.token = Some("producer");
    let task = Uuid::from_u128(1);
    assert_eq!(server.start(task).await.status, StatusCode::CREATED);
    assert_problem(
        &server.verb(task, "pause", &json!({})).await,
        403,
        "forbidden",
    );
    assert_problem(
        &server.verb(task, "submit", &work(8, "a", &[])).await,
        403,
        "forbidden",
    );
    let own = server
        .verb(
            task,
            "submit",
            &json!({"annotation": {"data": {"label": "a"}}}),
        )
        .await;
    assert_eq!(own.json["status"], "waiting", "{}", own.json);
    let state = server.get(&format!("/api/v1/tasks/{task}/state")).await;
    let annotation = &state.json["steps"]["annotate"]["visits"][0]["annotations"][0];
    assert_eq!(annotation["user_id"], user.to_string());

    // The user is written into the body itself, not into a copy in which numbers would be rounded.
    let submit = format!("/api/v1/tasks/{task}/submit");
    let rounded = r#"{"annotation": {"data": {"label": 18446744073709551617}}}"#;
    let refused = server.post(&submit, rounded.to_owned(), &[]).await;
    assert_problem(&refused, 400, "malformed");

    // Annotators cannot tell gold tasks from others.
    let gold = Uuid::from_u128(3);
    let body = json!({"workflow": "sentiment-dual", "expected": {"label": "a"}});
    server.verb(gold, "start", &body).await;
    let own = json!({"annotation": {"data": {"label": "a"}}});
    server.verb(gold, "submit", &own).await;
    for (token, sees) in [("producer", false), ("operator", true)] {
        server.token = Some(token);
        for part in ["state", "events"] {
            let answer = server.get(&format!("/api/v1/tasks/{gold}/{part}")).await;
            assert_eq!(answer.status, StatusCode::OK);
            let tells =
                answer.text.contains("\"expected\":{") || answer.text.contains("\"gold\":true");
            assert_eq!(tells, sees, "{token} {part}: {}", answer.text);
        }
        let judged = server.get("/api/v1/annotators").await;
        assert_eq!(judged.status == StatusCode::OK, sees);
    }
    server.token = Some("producer");

    // The claim belongs to the token's user.
    let other = Uuid::from_u128(2);
    server.start(other).await;
    let next = "/api/v1/assignments/next";
    let claimed = server.post(next, String::new(), &[]).await;
    assert_eq!(
        claimed.json["user_id"],
        user.to_string(),
        "{}",
        claimed.json
    );
    let body = json!({"user_id": Uuid::from_u128(8)}).to_string();
    assert_problem(&server.post(next, body, &[]).await, 403, "forbidden");
    // And so does the list of claims.
    let held = server.get("/api/v1/assignments").await;
    assert_eq!(
        held.json["assignments"][0]["user_id"],
        user.to_string(),
        "{}",
        held.json
    );
    let others = format!("/api/v1/assignments?user_id={}", Uuid::from_u128(8));
    assert_problem(&server.get(&others).await, 403, "forbidden");
    server.token = Some("viewer");
    assert_eq!(server.get(&others).await.json["assignments"], json!([]));
}

#[tokio::test]
async fn without_tokens_pages_of_other_origins_are_refused() {
    let server = Server::new(Tokens::default());
    let request =
        |headers: &[(&str, &str)]| server.request("GET", "/api/v1/tasks", headers, Body::empty());
    let foreign = server
        .send(request(&[("origin", "https://example.org")]))
        .await;
    assert_problem(&foreign, 403, "forbidden");
    let rebound = server.send(request(&[("host", "example.org")])).await;
    assert_problem(&rebound, 403, "forbidden");
    let local = server.send(request(&[("host", "localhost:8080")])).await;
    assert_eq!(local.status, StatusCode::OK);
}

#[tokio::test]
async fn every_operation_but_health_needs_a_token_of_its_role() {
    let roles = ["viewer", "producer", "operator"];
    let mut server = Server::new(one_token_for_each_role(None));
    for (path, method, operation) in DOCUMENT.operations() {
        let needed = operation["x-role"].as_str();
        let health = ["/livez", "/readyz"].contains(&path);
        assert_eq!(needed.is_none(), health, "{method} {path}");
        let path = path
            .replace("{task_id}", &Uuid::from_u128(1).to_string())
            .replace(['{', '}'], "");
        for (rank, role) in [None, Some("viewer"), Some("producer"), Some("operator")]
            .into_iter()
            .enumerate()
        {
            server.token = role;
            let request = server.request(method.as_str(), &path, &[], Body::empty());
            let status = server.send(request).await.status;
            let enough = needed.is_none_or(|needed| roles.iter().take(rank).any(|r| *r == needed));
            let refused = match status {
                StatusCode::UNAUTHORIZED => role.is_none(),
                StatusCode::FORBIDDEN => role.is_some(),
                _ => false,
            };
            assert_eq!(refused, !enough, "{method} {path} as {role:?}: {status}");
        }
    }
}
