//! The web console: its files, its sessions, and the answers that it stands on.

use std::time::Duration;

use axum::{
    body::Body,
    http::{Response, StatusCode},
};
use futures::StreamExt;
use glyph_worker::settings::Tokens;
use serde_json::{Value, json};
use tower::ServiceExt;
use uuid::Uuid;

use super::{Server, access::one_token_for_each_role, assert_problem, work};
use crate::support::eventually;

/// An exchange that the document of the API does not tell of: a file, or a stream.
async fn raw(
    server: &Server,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
) -> Response<Body> {
    let request = server.request(method, path, headers, Body::empty());
    server.router.clone().oneshot(request).await.unwrap()
}

fn header<'a>(answer: &'a Response<Body>, name: &str) -> &'a str {
    answer.headers()[name].to_str().unwrap()
}

#[tokio::test]
async fn the_files_are_served_with_their_types_and_a_strict_policy_and_need_no_token() {
    let server = Server::new(one_token_for_each_role());
    let moved = raw(&server, "GET", "/ui", &[]).await;
    assert_eq!(moved.status(), StatusCode::PERMANENT_REDIRECT);
    assert_eq!(header(&moved, "location"), "ui/");
    for (path, media_type) in [
        ("/ui/", "text/html; charset=utf-8"),
        ("/ui/index.html", "text/html; charset=utf-8"),
        ("/ui/app.js", "text/javascript; charset=utf-8"),
        ("/ui/style.css", "text/css; charset=utf-8"),
        ("/ui/icon.svg", "image/svg+xml"),
    ] {
        let answer = raw(&server, "GET", path, &[]).await;
        assert_eq!(answer.status(), StatusCode::OK, "{path}");
        assert_eq!(header(&answer, "content-type"), media_type, "{path}");
        assert_eq!(header(&answer, "x-content-type-options"), "nosniff");
        let policy = header(&answer, "content-security-policy");
        assert!(policy.starts_with("default-src 'none'"), "{policy}");
        assert!(!policy.contains("unsafe") && policy.contains("frame-ancestors 'none'"));
        let etag = header(&answer, "etag").to_owned();
        let known = raw(&server, "GET", path, &[("if-none-match", &etag)]).await;
        assert_eq!(known.status(), StatusCode::NOT_MODIFIED, "{path}");
        let other = raw(&server, "GET", path, &[("if-none-match", "\"other\"")]).await;
        assert_eq!(other.status(), StatusCode::OK, "{path}");
    }
    for path in ["/ui/nothing.js", "/ui/..%2fCargo.toml", "/ui/a/b"] {
        let answer = raw(&server, "GET", path, &[]).await;
        assert_eq!(answer.status(), StatusCode::NOT_FOUND, "{path}");
    }
    let posted = raw(&server, "POST", "/ui/app.js", &[]).await;
    assert_eq!(posted.status(), StatusCode::METHOD_NOT_ALLOWED);
}

#[tokio::test]
async fn a_session_is_a_cookie_that_counts_for_pages_of_this_origin_alone() {
    let mut server = Server::new(one_token_for_each_role());
    assert_problem(&server.get("/ui/session").await, 401, "unauthenticated");
    server.token = Some("operator");
    let signed_in = server.post("/ui/session", String::new(), &[]).await;
    assert_eq!(signed_in.status, StatusCode::OK, "{}", signed_in.json);
    assert_eq!(signed_in.json["role"], "operator");
    let cookie = signed_in.headers["set-cookie"].to_str().unwrap().to_owned();
    for part in ["; HttpOnly", "; SameSite=Strict", "; Path=/"] {
        assert!(cookie.contains(part), "{cookie}");
    }
    assert!(
        !cookie.contains("Secure") && !cookie.contains("operator"),
        "{cookie}"
    );
    let by_https = [
        ("host", "glyph.example"),
        ("origin", "https://glyph.example"),
    ];
    let by_https = server.post("/ui/session", String::new(), &by_https).await;
    assert!(
        by_https.headers["set-cookie"]
            .to_str()
            .unwrap()
            .ends_with("; Secure")
    );

    server.token = None;
    let cookie = cookie.split(';').next().unwrap().to_owned();
    let with = |headers: &[(&'static str, &'static str)]| {
        let own = [("cookie", cookie.as_str()), ("host", "glyph.example")];
        let headers: Vec<_> = own.into_iter().chain(headers.iter().copied()).collect();
        server.request("GET", "/ui/session", &headers, Body::empty())
    };
    for (headers, status) in [
        (vec![], 200),
        (vec![("origin", "http://glyph.example")], 200),
        (vec![("sec-fetch-site", "same-origin")], 200),
        (vec![("sec-fetch-site", "same-site")], 403),
        (vec![("sec-fetch-site", "cross-site")], 403),
        (vec![("origin", "http://glyph.example:8081")], 403),
        (vec![("origin", "https://other.example")], 403),
        // A page that may call sends a token of its own; the cookie of this page is not its.
        (vec![("origin", "https://app.example.org")], 401),
    ] {
        let answer = server.send(with(&headers)).await;
        assert_eq!(
            answer.status.as_u16(),
            status,
            "{headers:?} {}",
            answer.json
        );
    }
    let wrong = [("cookie", "glyph_session=bm9ib2R5")];
    let wrong = server.request("GET", "/ui/session", &wrong, Body::empty());
    assert_problem(&server.send(wrong).await, 401, "unauthenticated");
    let ended = server.request("DELETE", "/ui/session", &[], Body::empty());
    let ended = server.send(ended).await;
    assert_eq!(ended.status, StatusCode::NO_CONTENT);
    let cookie = ended.headers["set-cookie"].to_str().unwrap();
    assert!(cookie.starts_with("glyph_session=;") && cookie.contains("Max-Age=0"));
}

#[tokio::test]
async fn without_tokens_nobody_signs_in() {
    let server = Server::new(Tokens::default());
    let session = server.get("/ui/session").await;
    assert_eq!(
        (&session.json["role"], &session.json["tokens"]),
        (&json!("operator"), &json!(false))
    );
    let signed_in = server.post("/ui/session", String::new(), &[]).await;
    assert!(!signed_in.headers.contains_key("set-cookie"));
}

/// The events of a stream by name, until there is one that `is_last` says.
async fn events(
    answer: Response<Body>,
    is_last: impl Fn(&str, &Value) -> bool,
) -> Vec<(String, Value)> {
    let mut body = answer.into_body().into_data_stream();
    let (mut text, mut found) = (String::new(), Vec::new());
    let reading = async {
        while let Some(part) = body.next().await {
            text += std::str::from_utf8(&part.unwrap()).unwrap();
            while let Some((event, _)) = text.split_once("\n\n") {
                let end = event.len() + 2;
                let of = |name: &str| event.lines().find_map(|line| line.strip_prefix(name));
                if let (Some(name), Some(data)) = (of("event: "), of("data: ")) {
                    found.push((name.to_owned(), serde_json::from_str(data).unwrap()));
                }
                text.drain(..end);
                let last = found.last();
                if last.is_some_and(|(name, data)| is_last(name, data)) {
                    return;
                }
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(20), reading)
        .await
        .expect("an event in time");
    found
}

#[tokio::test]
async fn the_stream_tells_the_status_and_each_change_of_a_task() {
    let server = Server::with_dual().await;
    let task = Uuid::from_u128(1);
    server.start(task).await;
    let path = format!("/ui/events?task={task}");
    let answer = raw(&server, "GET", &path, &[]).await;
    assert_eq!(header(&answer, "content-type"), "text/event-stream");
    let first = events(answer, |name, _| name == "task").await;
    let status = &first[0].1;
    assert_eq!(first[0].0, "status");
    assert_eq!(status["database"]["tasks"]["running"], 1);
    let steps = json!([{
        "workflow": "sentiment-dual", "revision": 1, "step_id": "annotate", "running": 1, "paused": 0,
        "with_incidents": 0, "oldest_at": status["database"]["steps"][0]["oldest_at"],
    }]);
    assert_eq!(status["database"]["steps"], steps);
    let before = first.last().unwrap().1["version"].as_u64().unwrap();

    let answer = raw(&server, "GET", &path, &[]).await;
    let changed = events(answer, |name, data| {
        name == "task" && data["version"].as_u64() > Some(before)
    });
    let submitted = async { server.verb(task, "submit", &work(1, "positive", &[])).await };
    let (changed, _) = tokio::join!(changed, submitted);
    assert!(changed.len() >= 2, "{changed:?}");
    assert_eq!(server.get("/api/v1/status").await.status, StatusCode::OK);

    // A stream does not hold up a worker that ends.
    let answer = raw(&server, "GET", &path, &[]).await;
    server.health.drain();
    events(answer, |_, _| false).await;
    // It still says how it is, whoever asks.
    for _ in 0..3 {
        assert_eq!(server.get("/api/v1/status").await.status, StatusCode::OK);
    }
}

#[tokio::test]
async fn the_stream_is_for_those_who_may_read() {
    for (role, status) in [
        ("viewer", 200),
        ("producer", 200),
        ("operator", 200),
        ("annotator", 403),
    ] {
        let mut server = Server::new(one_token_for_each_role());
        assert_eq!(raw(&server, "GET", "/ui/events", &[]).await.status(), 401);
        server.token = Some(role);
        assert_eq!(
            raw(&server, "GET", "/ui/events", &[]).await.status(),
            status,
            "{role}"
        );
    }
    let server = Server::new(Tokens::default());
    let unknown = raw(&server, "GET", "/ui/events?task=1", &[]).await;
    assert_eq!(unknown.status(), StatusCode::BAD_REQUEST);
}

const HELD: &str = "
workflow:
  id: held
  steps:
    - { id: label, type: annotation, field: label, assignment: { required_roles: [nurse] } }
    - { id: done, type: auto_process, handler: finalize }
  transitions:
    - { from: label, to: done, condition: { type: expression, expression: 'annotation.label == \"yes\"' } }
    - { from: done, to: _complete }
";

#[tokio::test]
async fn what_is_stuck_is_grouped_by_cause_and_verbs_are_offered_as_they_are_accepted() {
    let server = Server::with_dual().await;
    server.post("/api/v1/workflows", HELD.to_owned(), &[]).await;
    let [stands, waits, paused] = [1, 2, 3].map(Uuid::from_u128);
    for task in [stands, waits, paused] {
        server
            .verb(task, "start", &json!({"workflow": "held"}))
            .await;
    }
    let stuck = server.get("/api/v1/stuck").await;
    let group = &stuck.json["groups"][0];
    assert_eq!(
        (&group["cause"], &group["step_id"], &group["tasks"]),
        (&json!("nobody_qualified"), &json!("label"), &json!(3)),
        "{}",
        stuck.json
    );
    assert!(group["reason"].as_str().unwrap().contains("`nurse`"));

    server
        .verb(stands, "submit", &work(1, "no", &["nurse"]))
        .await;
    server
        .verb(paused, "pause", &json!({"reason": "asked to"}))
        .await;
    let person = Uuid::from_u128(7);
    let claim = json!({"user_id": person, "roles": ["nurse"]});
    server.verb(waits, "assign", &claim).await;
    server
        .post(
            "/api/v1/workflows/held/pause",
            json!({"reason": "a holiday"}).to_string(),
            &[],
        )
        .await;
    // What was read is answered again for a moment.
    let stuck = eventually("all causes", || async {
        let stuck = server.get("/api/v1/stuck").await.json;
        (stuck["groups"].as_array()?.len() == 3).then_some(stuck)
    })
    .await;
    let groups = stuck["groups"].as_array().unwrap();
    let of = |cause: &str| groups.iter().find(|group| group["cause"] == cause).unwrap();
    assert_eq!(of("incident")["code"], "no_transition");
    assert_eq!(of("incident")["examples"], json!([stands]));
    assert_eq!(of("workflow_paused")["actor"], "http:local");
    assert!(
        of("task_paused")["reason"]
            .as_str()
            .unwrap()
            .contains("asked to")
    );
    assert_eq!(stuck["claims"], json!([{"user_id": person, "slots": 1}]));
    server
        .post("/api/v1/workflows/held/resume", "{}".to_owned(), &[])
        .await;

    let tasks = server.get("/api/v1/tasks?incidents=true").await;
    assert_eq!(tasks.json["tasks"][0]["task_id"], json!(stands));
    assert_eq!(tasks.json["tasks"].as_array().unwrap().len(), 1);

    for task in [stands, waits, paused] {
        let path = format!("/api/v1/tasks/{task}/explain");
        let verbs = server.get(&path).await.json["verbs"].clone();
        let verbs = verbs.as_array().unwrap().clone();
        assert!(verbs.iter().any(|verb| verb["accepted"] == true), "{task}");
        let whole = |verb: &str| {
            let of_task = |one: &&Value| one["verb"] == verb && one["step_id"].is_null();
            verbs.iter().find(of_task).unwrap().clone()
        };
        assert_eq!(whole("retry")["accepted"], task == stands);
        assert_eq!(whole("resume")["accepted"], task == paused);
        // What is refused is refused with the sentence that is shown.
        for verb in verbs.iter().filter(|verb| verb["accepted"] == false) {
            let mut body = json!({"step_id": verb["step_id"], "user_id": verb["user_id"]});
            if verb["verb"] == "assign" {
                body["user_id"] = Uuid::from_u128(99).to_string().into();
                body["roles"] = json!(["nurse"]);
            }
            let answer = server
                .verb(task, verb["verb"].as_str().unwrap(), &body)
                .await;
            assert_problem(&answer, 409, verb["code"].as_str().unwrap());
            assert_eq!(answer.json["detail"], verb["detail"]);
        }
    }
    let released = server
        .verb(waits, "release", &json!({"user_id": person}))
        .await;
    assert_eq!(released.status, StatusCode::OK, "{}", released.json);
}

#[tokio::test]
async fn a_rejected_command_is_listed_and_run_again_with_another_payload() {
    let server = Server::with_dual().await;
    let task = Uuid::from_u128(1);
    server.start(task).await;
    let first = work(1, "positive", &[]);
    server.verb(task, "submit", &first).await;
    let again = server.verb(task, "submit", &first).await;
    assert_problem(&again, 409, "duplicate_annotator");
    let listed = server.get("/api/v1/rejected?workflow=sentiment-dual").await;
    let command = listed.json["commands"][0].clone();
    assert_eq!(command["reason"], "duplicate_annotator", "{}", listed.json);
    let none = server.get("/api/v1/rejected?reason=surplus").await;
    assert_eq!(none.json["commands"], json!([]));

    let mut payload = command["payload"].clone();
    payload["annotation"]["user_id"] = Uuid::from_u128(2).to_string().into();
    let path = format!(
        "/api/v1/rejected/{}/replay",
        command["command_id"].as_str().unwrap()
    );
    let applied = server
        .post(&path, json!({"payload": payload}).to_string(), &[])
        .await;
    assert_eq!(applied.status, StatusCode::OK, "{}", applied.json);
    assert_eq!(applied.json["result"]["status"], "completed");
    let twice = server.post(&path, "{}".to_owned(), &[]).await;
    assert_problem(&twice, 409, "already_replayed");
    let unknown = format!("/api/v1/rejected/{}/replay", Uuid::from_u128(5));
    assert_problem(
        &server.post(&unknown, "{}".to_owned(), &[]).await,
        404,
        "command_not_found",
    );

    for (path, body) in [
        ("rejected/replay", json!({})),
        ("rejected/replay", json!({"all": true, "reason": "surplus"})),
        (
            "rejected/replay",
            json!({"reason": "surplus", "stop_at": 2}),
        ),
        ("rejected/drop", json!({"ids": ["x"]})),
        ("rejected/drop", json!({"ids": []})),
        // A second condition is refused rather than left out.
        (
            "rejected/drop",
            json!({"ids": [Uuid::nil()], "reason": "surplus"}),
        ),
        ("dead-letters/replay", json!({"workflow": "w"})),
    ] {
        let answer = server
            .post(&format!("/api/v1/{path}"), body.to_string(), &[])
            .await;
        assert_problem(&answer, 400, "malformed");
    }
    let two = r#"{"reason": "surplus"} {"all": true}"#.to_owned();
    let two = server.post("/api/v1/rejected/replay", two, &[]).await;
    assert_problem(&two, 400, "malformed");
    let begun = json!({"reason": "surplus"}).to_string();
    let begun = server.post("/api/v1/rejected/replay", begun, &[]).await;
    assert_eq!(begun.status, StatusCode::ACCEPTED, "{}", begun.json);
    let job = begun.json["job"].as_str().unwrap();
    let shown = server.get(&format!("/api/v1/jobs/{job}")).await;
    assert_eq!(
        (&shown.json["state"], &shown.json["failed"]),
        (&json!("running"), &json!([]))
    );
    assert_eq!(server.get("/api/v1/jobs").await.json["jobs"][0]["id"], job);
    let stopped = server
        .post(&format!("/api/v1/jobs/{job}/stop"), String::new(), &[])
        .await;
    assert_eq!(stopped.status, StatusCode::ACCEPTED);
    // The dead queue is the broker's, and this server has none yet.
    assert_problem(
        &server.get("/api/v1/dead-letters").await,
        503,
        "unavailable",
    );
}

#[tokio::test]
async fn a_workflow_is_drawn() {
    let server = Server::with_dual().await;
    let drawn = server
        .get("/api/v1/workflows/sentiment-dual@1/diagram")
        .await;
    assert_eq!(drawn.status, StatusCode::OK);
    assert!(drawn.text.starts_with("<svg") && drawn.text.contains(">adjudicate<"));
    let unknown = server.get("/api/v1/workflows/nothing/diagram").await;
    assert_problem(&unknown, 404, "workflow_not_found");
}
