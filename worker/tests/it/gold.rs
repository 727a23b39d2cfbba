//! Annotators who fall short on gold tasks are told of, once for each fall.

use std::{sync::Arc, time::Duration};

use glyph_worker::{
    projections::{GoldProjector, StepOutcome, gold::PROJECTION},
    wire::CloudEventMessages,
};
use glyph_workflow_engine::{
    WorkflowOrchestrator,
    command::{Command, CommandEnvelope, Start},
    ids::TaskId,
    store::{MemoryStore, Outbox, ProjectionStore, PublisherId},
};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::engine::{envelope, submission, task};

const WATCHED: &str = "
workflow:
  id: sentiment-dual
  gold: { share: 0.1, min_accuracy: 0.6, window: 5 }
  steps:
    - { id: annotate, type: annotation, consensus: { field: label } }
";

struct Desk {
    store: Arc<MemoryStore>,
    orchestrator: WorkflowOrchestrator,
}

impl Desk {
    async fn new() -> Self {
        let store = Arc::new(MemoryStore::new());
        let orchestrator =
            WorkflowOrchestrator::new(Arc::clone(&store) as _, Arc::clone(&store) as _);
        orchestrator.create_workflow(WATCHED).await.unwrap();
        Self {
            store,
            orchestrator,
        }
    }

    async fn run(&self, command: CommandEnvelope) {
        let done = self.orchestrator.process_batch(vec![command], None).await;
        assert_eq!(done.unwrap().outcomes.len(), 1);
    }

    /// The `n`-th gold task, answered right or wrong by `user`.
    async fn answer(&self, n: u128, user: u128, right: bool) {
        let start = Start {
            task_id: TaskId(task(n)),
            workflow: "sentiment-dual".parse().unwrap(),
            input: None,
            labels: None,
            expected: Some(json!("a")),
        };
        self.run(CommandEnvelope::new(task(n), Command::Start(start)))
            .await;
        let label = if right { "a" } else { "b" };
        self.run(envelope(&submission(task(n), "annotate", user, label)))
            .await;
    }

    async fn catch_up(&self) {
        // Whoever reads on knows no more than the rows: as after a crash.
        loop {
            let store = Arc::clone(&self.store) as _;
            let projector = GoldProjector::new(store, CloudEventMessages::default());
            if projector.step().await.unwrap() == StepOutcome::CaughtUp {
                return;
            }
        }
    }

    /// Messages since the last look: whose they are, and the accuracy.
    async fn flagged(&self) -> Vec<(String, f64)> {
        let publisher = PublisherId(Uuid::nil());
        let lease = Duration::from_secs(60);
        let rows = self.store.claim(publisher, lease, 1_000).await.unwrap();
        let positions: Vec<_> = rows.iter().map(|row| row.position).collect();
        self.store.confirmed(&positions).await.unwrap();
        let read = |body: &str| {
            let body: Value = serde_json::from_str(body).unwrap();
            assert_eq!(body["type"], "dev.glyph.annotator.flagged.v1");
            assert_eq!(body.get("sequence"), None);
            let data = &body["data"];
            assert_eq!(data["min_accuracy"], 0.6);
            let user = data["user_id"].as_str().unwrap().to_owned();
            assert_eq!(body["subject"], user);
            (user, data["accuracy"].as_f64().unwrap())
        };
        rows.iter()
            .inspect(|row| assert_eq!(row.routing_key, "annotator.flagged.sentiment-dual"))
            .map(|row| read(&row.body))
            .collect()
    }
}

#[tokio::test]
async fn a_fall_is_told_of_once_whatever_is_read_again() {
    let desk = Desk::new().await;
    let good = 1;
    let falling = 2;
    let name = Uuid::from_u128(falling).to_string();
    let mut n = 0;
    let mut tell = async |answers: &str, told: &[(String, f64)]| {
        for answer in answers.chars() {
            desk.answer(n, falling, answer == '1').await;
            desk.answer(n + 1_000, good, true).await;
            n += 1;
        }
        desk.catch_up().await;
        assert_eq!(desk.flagged().await, told, "{answers}");
    };
    tell("0000", &[]).await;
    tell("1", &[(name.clone(), 0.2)]).await;
    tell("0000", &[]).await;
    tell("11111", &[]).await;
    tell("000", &[(name.clone(), 0.4)]).await;

    desk.store.reset_projection(PROJECTION).await.unwrap();
    desk.catch_up().await;
    assert_eq!(desk.flagged().await, [], "a recount tells nobody again");
}
