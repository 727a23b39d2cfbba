//! Migrates running tasks to another revision.

use axum::http::StatusCode;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{DUAL, Server, assert_problem, work};

#[tokio::test]
async fn tasks_move_to_another_revision_in_pages_and_are_told_what_would_become_of_them() {
    let server = Server::with_dual().await;
    let tasks: Vec<Uuid> = (1..=5).map(Uuid::from_u128).collect();
    for task in &tasks {
        server.start(*task).await;
    }
    server
        .verb(tasks[0], "submit", &work(0xA1, "positive", &[]))
        .await;
    server.verb(tasks[4], "cancel", &json!({})).await;
    let one = DUAL
        .replace("count: 2", "count: 1")
        .replace("id: adjudicate", "id: judge");
    let one = one
        .replace("adjudicate,", "judge,")
        .replace("to: adjudicate", "to: judge");
    let created = server.post("/api/v1/workflows", one, &[]).await;
    assert_eq!(created.json["revision"], 2, "{}", created.json);
    let path = "/api/v1/workflows/sentiment-dual/migrate";
    let page = async |body: Value, key: &str| {
        let key = [("idempotency-key", key)];
        server.post(path, body.to_string(), &key).await
    };
    let key = Uuid::from_u128(0x51).to_string();

    let dry = page(json!({"to": "sentiment-dual@2", "dry_run": true}), &key)
        .await
        .json;
    let outcomes = |page: &Value| -> Vec<String> {
        let tasks = page["tasks"].as_array().unwrap().iter();
        tasks
            .map(|task| task["outcome"].as_str().unwrap().to_owned())
            .collect()
    };
    // Ended tasks are not selected.
    assert_eq!(outcomes(&dry), ["would_move"; 4]);
    assert_eq!(dry["tasks"][0]["then"][0], "consensus_calculated annotate");
    assert_eq!(dry["tasks"][0]["stands_at"], json!([]));
    assert_eq!(dry["tasks"][1]["stands_at"], json!(["annotate"]));
    let state = async |task: Uuid| {
        server
            .get(&format!("/api/v1/tasks/{task}/state"))
            .await
            .json
    };
    assert_eq!(state(tasks[0]).await["revision"], 1);

    let looked = json!({"to": "sentiment-dual@2", "dry_run": true});
    let looked = server.verb(tasks[1], "migrate", &looked).await;
    assert_eq!(looked.json["outcome"], "would_move", "{}", looked.json);
    let unclear = json!({"to": "sentiment-dual@2", "dry_run": "yes"});
    let unclear = server.verb(tasks[1], "migrate", &unclear).await;
    assert_problem(&unclear, 400, "malformed");
    assert_eq!(state(tasks[1]).await["revision"], 1);

    let first = page(json!({"to": "sentiment-dual", "limit": 3}), &key)
        .await
        .json;
    assert_eq!(outcomes(&first), ["moved"; 3]);
    assert_eq!(first["tasks"][0]["result"]["status"], "completed");
    let rest = json!({"to": "sentiment-dual", "limit": 3, "after": first["next_after"]});
    let second = page(rest, &key).await.json;
    assert_eq!(outcomes(&second), ["moved"]);
    assert_eq!(second["next_after"], Value::Null);
    // A second migration, under this key or another, has nothing left to do.
    for key in [key.as_str(), &Uuid::from_u128(0x52).to_string()] {
        let again = page(json!({"to": "sentiment-dual"}), key).await.json;
        assert_eq!(outcomes(&again), ["already_there"; 3]);
    }
    assert_eq!(state(tasks[3]).await["version"], 3);

    // Nor has a migration of a single task.
    let there = json!({"to": "sentiment-dual@2"});
    let again = server.verb(tasks[3], "migrate", &there).await;
    assert_eq!(again.status, StatusCode::OK, "{}", again.json);
    assert_eq!(state(tasks[3]).await["version"], 3);
    let there = json!({"to": "sentiment-dual@2", "dry_run": true});
    let again = server.verb(tasks[3], "migrate", &there).await;
    assert_eq!(again.json["outcome"], "already_there", "{}", again.json);

    let back = page(json!({"to": "sentiment-dual@1", "from": 1}), &key)
        .await
        .json;
    assert_eq!(outcomes(&back), [""; 0]);
    let renamed =
        json!({"to": "sentiment-dual@1", "steps": {"annotate": "nowhere"}, "dry_run": true});
    let refused = page(renamed, &key).await.json;
    assert_eq!(outcomes(&refused), ["would_be_rejected"; 3]);
    assert_eq!(refused["tasks"][0]["reason"], "migration_unmapped");

    for (body, status, code) in [
        (json!({"to": "other"}), 404, "workflow_not_found"),
        (
            json!({"to": "sentiment-dual", "status": "completed"}),
            400,
            "malformed",
        ),
        (json!({"to": "sentiment-dual", "from": 3}), 400, "malformed"),
        (
            json!({"to": "sentiment-dual", "step": "annotat"}),
            400,
            "malformed",
        ),
        (
            json!({"to": "sentiment-dual", "lables": {}}),
            400,
            "malformed",
        ),
        (json!({}), 400, "malformed"),
    ] {
        assert_problem(&page(body, &key).await, status, code);
    }
}
