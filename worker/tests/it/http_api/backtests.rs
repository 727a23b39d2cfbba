//! Recorded tasks, decided again under other settings.

use axum::http::StatusCode;
use glyph_worker::settings::Tokens;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{Server, access::one_token_for_each_role, assert_problem, work};

const VOTES: &str = "
workflow:
  id: votes
  steps:
    - id: annotate
      type: annotation
      completion: { type: annotation_count, count: 3 }
      consensus: { field: label, threshold: 0.3, on_disagreement: { strategy: majority_vote } }
  transitions:
    - { from: annotate, to: _complete }
";

async fn backtest(server: &Server, body: &Value) -> super::Answer {
    server
        .post("/api/v1/backtests", body.to_string(), &[])
        .await
}

#[tokio::test]
async fn recorded_tasks_are_decided_again() {
    let server = Server::new(Tokens::default());
    let created = server
        .post("/api/v1/workflows", VOTES.to_owned(), &[])
        .await;
    assert_eq!(created.status, StatusCode::CREATED, "{}", created.json);
    for n in 1..=4_u128 {
        let task = Uuid::from_u128(n);
        let project = if n == 1 { "p1" } else { "p2" };
        let start = json!({"workflow": "votes", "labels": {"project": project}, "expected": "cat"});
        server.verb(task, "start", &start).await;
        for user in 1..=3 {
            let done = server
                .verb(task, "submit", &work(user, "cat", &["crowd"]))
                .await;
            assert_eq!(done.status, StatusCode::OK, "{}", done.json);
        }
    }
    let body = json!({
        "workflow": "votes",
        "set": {"completion.count": 2},
        "prices": {"roles": {"crowd": 0.5}},
    });
    let answer = backtest(&server, &body).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.json);
    let report = answer.json;
    assert_eq!(
        report["annotations"],
        json!({"used": 8, "saved": 4, "unusable": 0})
    );
    assert_eq!(report["simulated"]["cost"], 4.0);
    assert_eq!(report["gold"]["simulated"]["right"], 4);
    assert_eq!(report["read_to_end"], true);
    assert_eq!(report["unknown"], json!([]));
    let one = json!({
        "workflow": "votes@1",
        "labels": {"project": "p1"},
        "known": {(Uuid::from_u128(1).to_string()): "dog"},
    });
    let report = backtest(&server, &one).await.json;
    assert_eq!(
        (&report["tasks"], &report["gold"]["recorded"]["right"]),
        (&json!(1), &json!(0))
    );

    assert_problem(&backtest(&server, &json!({})).await, 400, "malformed");
    let unknown = json!({"workflow": "nobody"});
    assert_problem(
        &backtest(&server, &unknown).await,
        404,
        "workflow_not_found",
    );
    let nowhere = json!({"workflow": "votes", "set": {"steps.zebra.count": 1}});
    assert_problem(&backtest(&server, &nowhere).await, 400, "malformed");
    let free = json!({"workflow": "votes", "prices": {"each": -1.0}});
    assert_problem(&backtest(&server, &free).await, 400, "malformed");
    let invalid = json!({"workflow": "votes", "set": {"completion.count": 0}});
    let refused = backtest(&server, &invalid).await;
    assert_problem(&refused, 422, "invalid_workflow");
    assert!(
        refused.json["diagnostics"][0]["path"]
            .as_str()
            .unwrap()
            .contains("completion.count")
    );
}

#[tokio::test]
async fn a_backtest_is_for_operators() {
    let mut server = Server::new(one_token_for_each_role());
    for token in ["viewer", "producer"] {
        server.token = Some(token);
        let answer = backtest(&server, &json!({"workflow": "votes"})).await;
        assert_problem(&answer, 403, "forbidden");
    }
}
