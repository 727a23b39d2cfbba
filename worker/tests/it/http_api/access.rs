//! Tokens, roles, and problem documents.

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
    let no_text = server.get("/api/v1/workflows/%ff").await;
    assert_problem(&no_text, 400, "malformed");
    let long = format!("/api/v1/tasks?status={}", "x".repeat(10_000));
    let long = server.get(&long).await;
    assert_problem(&long, 400, "malformed");
    assert!(long.text.len() < 4_000, "{} bytes", long.text.len());
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

/// The user of the token `annotator`.
pub(super) const ANNOTATOR: Uuid = Uuid::from_u128(7);

/// Tokens from lines in which `{TOKEN}` stands for the hash of a token.
pub(super) fn tokens_of(lines: &[String]) -> Tokens {
    use sha2::{Digest, Sha256};
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("tokens");
    let hashed = lines.iter().map(|line| {
        let (before, rest) = line.split_once('{').unwrap();
        let (token, after) = rest.split_once('}').unwrap();
        let digest = Sha256::digest(token);
        let hash = digest
            .iter()
            .fold(String::new(), |text, byte| format!("{text}{byte:02x}"));
        format!("{before}{hash}{after}\n")
    });
    std::fs::write(&file, hashed.collect::<String>()).unwrap();
    Tokens::from_file(&file).unwrap()
}

/// The tokens `viewer`, `annotator` (who is [`ANNOTATOR`]), `producer` and `operator`.
pub(super) fn one_token_for_each_role() -> Tokens {
    tokens_of(&[
        "viewer:{viewer}".to_owned(),
        format!("annotator:{{annotator}}:{ANNOTATOR} roles=annotator skills=icd name=ada"),
        "producer:{producer} name=feeder".to_owned(),
        "operator:{operator} name=olga".to_owned(),
    ])
}

#[tokio::test]
async fn tokens_decide_who_may_do_what() {
    let mut server = Server::new(one_token_for_each_role());
    for path in ["/api/v1/tasks", "/metrics"] {
        let answer = server.get(path).await;
        assert_problem(&answer, 401, "unauthenticated");
        assert_eq!(answer.headers["www-authenticate"], "Bearer");
    }
    assert_eq!(server.get("/livez").await.status, StatusCode::OK);
    server.token = Some("viewer");
    assert_eq!(server.get("/api/v1/tasks").await.status, StatusCode::OK);
    let created = server.post("/api/v1/workflows", DUAL.to_owned(), &[]).await;
    assert_problem(&created, 403, "forbidden");
    server.token = Some("operator");
    let created = server.post("/api/v1/workflows", DUAL.to_owned(), &[]).await;
    assert_eq!(created.status, StatusCode::CREATED);
    server.token = Some("producer");
    let task = Uuid::from_u128(1);
    assert_eq!(server.start(task).await.status, StatusCode::CREATED);
    let pause = server.verb(task, "pause", &json!({})).await;
    assert_problem(&pause, 403, "forbidden");
    let submitted = server.verb(task, "submit", &work(8, "a", &[])).await;
    assert_eq!(submitted.json["status"], "waiting", "{}", submitted.json);
}

#[tokio::test]
async fn an_expired_token_is_refused() {
    let tokens = tokens_of(&["viewer:{viewer} expires=2020-01-01T00:00:00Z".to_owned()]);
    let mut server = Server::new(tokens);
    server.token = Some("viewer");
    let answer = server.get("/api/v1/tasks").await;
    assert_problem(&answer, 401, "unauthenticated");
    let detail = answer.json["detail"].as_str().unwrap();
    assert!(detail.contains("expired at 2020-01-01"), "{detail}");
}

/// What the document says of each operation, and what each role gets from it.
#[tokio::test]
async fn every_operation_but_health_and_pages_is_for_the_roles_that_it_names() {
    let mut server = Server::new(one_token_for_each_role());
    for (path, method, operation) in DOCUMENT.operations() {
        let named = operation["x-roles"].as_array();
        let is_open = ["/livez", "/readyz", "/annotate"].contains(&path)
            || (path == "/ui/session" && method == "DELETE");
        assert_eq!(named.is_none(), is_open, "{method} {path}");
        let path = path
            .replace("{task_id}", &Uuid::from_u128(1).to_string())
            .replace(['{', '}'], "");
        for role in [
            None,
            Some("viewer"),
            Some("annotator"),
            Some("producer"),
            Some("operator"),
        ] {
            server.token = role;
            let request = server.request(method.as_str(), &path, &[], Body::empty());
            let status = server.send(request).await.status;
            let expected = named.is_none_or(|named| {
                let mut named = named.iter().filter_map(|one| one.as_str());
                named.any(|one| Some(one) == role)
            });
            let refused = match status {
                StatusCode::UNAUTHORIZED => role.is_none(),
                StatusCode::FORBIDDEN => role.is_some(),
                _ => false,
            };
            assert_eq!(refused, !expected, "{method} {path} as {role:?}: {status}");
        }
    }
}

/// The table as it is meant, beside the one in the code: whoever changes one changes the other.
#[test]
fn annotators_and_viewers_get_what_is_theirs_alone() {
    let of = |role: &str| {
        let operations = DOCUMENT.operations();
        let mut ids: Vec<&str> = operations
            .filter(|(_, _, operation)| {
                let roles = operation["x-roles"].as_array().into_iter().flatten();
                roles.into_iter().any(|one| one == role)
            })
            .map(|(_, _, operation)| operation["operationId"].as_str().unwrap())
            .collect();
        ids.sort_unstable();
        ids
    };
    assert_eq!(
        of("annotator"),
        [
            "activity_task",
            "assign_task",
            "claim_next",
            "list_assignments",
            "list_schemas",
            "list_task_events",
            "release_assignments",
            "release_task",
            "show_answers",
            "show_asyncapi",
            "show_docs",
            "show_message_schema",
            "show_openapi",
            "show_schema",
            "show_session",
            "show_task_state",
            "sign_in",
            "submit_task",
        ]
    );
    let changes = |id: &&str| !id.starts_with("list_") && !id.starts_with("show_");
    let by_producers: Vec<&str> = of("producer").into_iter().filter(changes).collect();
    assert_eq!(
        by_producers,
        [
            "activity_task",
            "advance_task",
            "assign_task",
            "claim_next",
            "diff_workflows",
            "explain_task",
            "export_labels",
            "release_assignments",
            "release_task",
            "sign_in",
            "start_task",
            "submit_task",
            "try_workflow",
        ]
    );
    let by_viewers: Vec<&str> = of("viewer").into_iter().filter(changes).collect();
    assert_eq!(
        by_viewers,
        [
            "diff_workflows",
            "explain_task",
            "export_labels",
            "sign_in",
            "try_workflow",
        ]
    );
}

#[tokio::test]
async fn secrets_of_workflows_are_for_operators_alone() {
    const YAML: &str = "
workflow:
  id: calling
  steps:
    - id: enrich
      type: auto_process
      handler: queue
      config: { url: 'https://example.org/TOKEN', headers: { Authorization: Bearer TOKEN } }
";
    let mut server = Server::new(one_token_for_each_role());
    server.token = Some("operator");
    let created = server.post("/api/v1/workflows", YAML.to_owned(), &[]).await;
    assert_eq!(created.status, StatusCode::CREATED, "{}", created.json);
    let task = Uuid::from_u128(1);
    server
        .verb(task, "start", &json!({"workflow": "calling"}))
        .await;
    for (token, tells) in [("operator", true), ("producer", false), ("viewer", false)] {
        server.token = Some(token);
        for path in [
            "/api/v1/workflows/calling".to_owned(),
            format!("/api/v1/tasks/{task}/events"),
            format!("/api/v1/tasks/{task}/state"),
            format!("/api/v1/tasks/{task}/explain"),
        ] {
            let answer = server.get(&path).await;
            assert_eq!(answer.status, StatusCode::OK, "{}", answer.json);
            let shown = answer.text.contains("TOKEN");
            assert!(tells || !shown, "{token} {path}: {}", answer.text);
            let holds_them = path.ends_with("calling") || path.ends_with("events");
            assert!(
                shown || !(tells && holds_them),
                "{token} {path}: {}",
                answer.text
            );
        }
    }
}
