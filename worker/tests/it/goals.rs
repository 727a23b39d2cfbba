//! Goals, with the store of embedded mode: told of once, done once, by whoever does it.

use std::{collections::BTreeMap, sync::Arc};

use glyph_worker::{
    metrics::Metrics,
    projections::{GOALS, GoalActionRunner, GoalProjector, StepOutcome, read_goals},
    webhook::{WebhookClient, WebhookSettings},
    wire::CloudEventMessages,
};
use glyph_workflow_engine::{
    WorkflowOrchestrator,
    command::{Act, ActEnvelope},
    executor::AnnotationData,
    goals::GoalStatement,
    ids::Slug,
    store::{
        ActLog, GoalActionStatus, GoalStore, MemoryStore, Outbox, ProjectionStore, PublisherId,
        Store,
    },
};
use serde_json::json;
use uuid::Uuid;

const FLOW: &str = "
workflow:
  id: flow
  steps: [{ id: annotate, type: annotation }]
goals:
  - { id: volume, type: volume, target: 3, on_complete: [notify, pause], alerts: { progress: [0.5] } }
  - { id: sign-off, type: manual, on_complete: [notify] }
  - { id: done, type: composite, goals: [volume, sign-off],
      on_complete: [trigger_webhook: { url: 'https://example.org/hook' }] }
";

struct Desk {
    store: Arc<MemoryStore>,
    orchestrator: Arc<WorkflowOrchestrator>,
}

impl Desk {
    async fn new() -> Self {
        let store = Arc::new(MemoryStore::with_clock(Arc::new(chrono::Utc::now)));
        let orchestrator = Arc::new(WorkflowOrchestrator::new(
            Arc::clone(&store) as _,
            Arc::clone(&store) as _,
        ));
        orchestrator.create_workflow(FLOW).await.unwrap();
        Self {
            store,
            orchestrator,
        }
    }

    async fn complete_tasks(&self, from: u128, to: u128) {
        let config = self.store.clone() as Arc<dyn Store>;
        let workflow = config.load_by_name("flow").await.unwrap().unwrap();
        for n in from..=to {
            let task = Uuid::from_u128(n);
            self.orchestrator
                .start_task(task, workflow.revision_id.0)
                .await
                .unwrap();
            let answer =
                AnnotationData::new(Uuid::from_u128(1_000 + n), Uuid::from_u128(7), json!({}));
            self.orchestrator
                .process_submission(task, "annotate", answer)
                .await
                .unwrap();
        }
    }

    fn projector(&self) -> GoalProjector {
        GoalProjector::new(Arc::clone(&self.store) as _, CloudEventMessages::default())
    }

    async fn project(&self) {
        let projector = self.projector();
        while let StepOutcome::Read(_) = projector.step().await.unwrap() {}
    }

    /// What was said since the last call, by type.
    async fn said(&self) -> BTreeMap<String, usize> {
        let lease = std::time::Duration::from_secs(600);
        let rows = self
            .store
            .claim(PublisherId(Uuid::nil()), lease, 1_000)
            .await
            .unwrap();
        let positions: Vec<_> = rows.iter().map(|row| row.position).collect();
        self.store.confirmed(&positions).await.unwrap();
        let mut said = BTreeMap::new();
        for row in rows
            .iter()
            .filter(|row| row.message_type.starts_with("goal."))
        {
            *said.entry(row.message_type.clone()).or_default() += 1;
        }
        said
    }

    fn runner(&self) -> GoalActionRunner {
        GoalActionRunner::new(
            Arc::clone(&self.store) as _,
            Arc::clone(&self.orchestrator),
            WebhookClient::new(WebhookSettings::default()).unwrap(),
            Arc::new(Metrics::new().unwrap()),
        )
    }
}

fn counts(said: &[(&str, usize)]) -> BTreeMap<String, usize> {
    said.iter()
        .map(|(kind, n)| ((*kind).to_owned(), *n))
        .collect()
}

#[tokio::test]
async fn goals_are_told_of_once_and_their_actions_done_once() {
    let desk = Desk::new().await;
    desk.complete_tasks(1, 3).await;
    desk.project().await;
    let (one, other) = (desk.projector(), desk.projector());
    let (one, other) = tokio::join!(one.step(), other.step());
    assert!(one.is_ok() && other.is_ok());
    let expected = [
        ("goal.alert", 1),
        ("goal.completed", 1),
        ("goal.progressed", 2),
    ];
    assert_eq!(desk.said().await, counts(&expected));

    // The pause is an operator's act under the action's id, however often it is performed.
    let runner = desk.runner();
    assert_eq!(runner.step().await.unwrap(), 1);
    assert_eq!(runner.step().await.unwrap(), 0);
    let (paused, _) = desk.store.workflow_pauses().await.unwrap();
    assert_eq!(paused.len(), 1);
    assert_eq!(
        paused[0].reason.as_deref(),
        Some("the goal `volume` is reached")
    );

    let act = Act::GoalComplete {
        workflow: Slug::new("flow").unwrap(),
        goal: Slug::new("sign-off").unwrap(),
        statement: GoalStatement::default(),
    };
    let act = ActEnvelope::new(Uuid::from_u128(5), act);
    for _ in 0..2 {
        let again = act.clone();
        desk.orchestrator.act(&*desk.store, again).await.unwrap();
    }
    desk.project().await;
    assert_eq!(
        desk.said().await.get("goal.completed"),
        Some(&1),
        "of the goal that was signed off"
    );
    // No host may be called here, so the webhook is given up, and says why.
    assert_eq!(runner.step().await.unwrap(), 1);
    let actions = desk.store.goal_actions().await.unwrap();
    let webhook = actions
        .iter()
        .find(|row| row.action.action == "trigger_webhook")
        .unwrap();
    assert_eq!(webhook.status, GoalActionStatus::Failed);
    assert!(webhook.last_error.as_ref().unwrap().contains("example.org"));
    assert_eq!(webhook.action.payload["body"]["data"]["goal"], "done");

    // Made anew, the numbers are the same, and nothing is said or done again.
    let live = read_goals(&*desk.store).await.unwrap();
    desk.store.reset_projection(GOALS).await.unwrap();
    let projector = desk.projector().without_progress();
    while let StepOutcome::Read(_) = projector.step().await.unwrap() {}
    assert_eq!(read_goals(&*desk.store).await.unwrap(), live);
    assert_eq!(desk.said().await, counts(&[]));
    assert_eq!(runner.step().await.unwrap(), 0);
    assert_eq!(desk.store.goal_actions().await.unwrap(), actions);
}
