//! Goals on the store of embedded mode: reported once, executed once, whichever process does it.

use std::{collections::BTreeMap, sync::Arc};

use glyph_worker::{
    metrics::Metrics,
    projections::{GOALS, GoalProjector, PageOutcome, read_goals},
    timers::GoalActionRunner,
    webhook::{WebhookClient, WebhookSettings},
    wire::CloudEventMessages,
};
use glyph_workflow_engine::{
    WorkflowOrchestrator,
    command::{CommandEnvelope, OperatorCommand, OperatorEnvelope, Outcome, RejectionCode},
    executor::AnnotationData,
    goals::GoalStatement,
    ids::{CommandId, Slug},
    store::{
        CommandLog, GoalActionStatus, GoalStore, MemoryStore, OperatorLog, Outbox, ProjectionStore,
        PublisherId, Store, WorkflowConfigStore,
    },
};
use serde_json::json;
use uuid::Uuid;

use crate::support::engine::{envelope, submission as support_submission};

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

struct Scenario {
    store: Arc<MemoryStore>,
    orchestrator: Arc<WorkflowOrchestrator>,
}

impl Scenario {
    async fn new(yaml: &str) -> Self {
        let store = Arc::new(MemoryStore::with_clock(Arc::new(chrono::Utc::now)));
        let orchestrator = Arc::new(WorkflowOrchestrator::new(
            Arc::clone(&store) as _,
            Arc::clone(&store) as _,
        ));
        orchestrator.create_workflow(yaml).await.unwrap();
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
        while let PageOutcome::Read { .. } = projector.step().await.unwrap() {}
    }

    /// Messages since the last call, by type.
    async fn said(&self) -> BTreeMap<String, usize> {
        let lease = std::time::Duration::from_mins(10);
        let rows = self
            .store
            .claim(PublisherId(Uuid::nil()), lease, 1_000)
            .await
            .unwrap();
        let positions: Vec<_> = rows.iter().map(|row| row.position).collect();
        self.store.confirmed(&positions).await.unwrap();
        let mut said = BTreeMap::new();
        let carried = rows.iter().filter_map(|row| row.content.message());
        for message in carried.filter(|message| message.message_type.starts_with("goal.")) {
            *said.entry(message.message_type.clone()).or_default() += 1;
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
    let scenario = Scenario::new(FLOW).await;
    scenario.complete_tasks(1, 3).await;
    scenario.project().await;
    let (one, other) = (scenario.projector(), scenario.projector());
    let (one, other) = tokio::join!(one.step(), other.step());
    assert!(one.is_ok() && other.is_ok());
    let expected = [
        ("goal.alert", 1),
        ("goal.completed", 1),
        ("goal.progressed", 2),
    ];
    assert_eq!(scenario.said().await, counts(&expected));

    // The pause is an operator command under the action's id, however often it is executed.
    let runner = scenario.runner();
    assert_eq!(runner.step().await.unwrap(), 1);
    assert_eq!(runner.step().await.unwrap(), 0);
    let paused = scenario.store.workflow_pauses().await.unwrap().active;
    assert_eq!(paused.len(), 1);
    assert_eq!(
        paused[0].reason.as_deref(),
        Some("the goal `volume` is reached")
    );

    let operator_command = OperatorCommand::GoalComplete {
        workflow: Slug::new("flow").unwrap(),
        goal: Slug::new("sign-off").unwrap(),
        statement: GoalStatement::default(),
    };
    let operator_command = OperatorEnvelope::new(Uuid::from_u128(5), operator_command);
    for _ in 0..2 {
        let again = operator_command.clone();
        scenario
            .orchestrator
            .operator_command(&*scenario.store, again)
            .await
            .unwrap();
    }
    scenario.project().await;
    assert_eq!(
        scenario.said().await.get("goal.completed"),
        Some(&1),
        "of the goal that was signed off"
    );
    // No host may be called here, so the webhook is given up with a reason.
    assert_eq!(runner.step().await.unwrap(), 1);
    let actions = scenario.store.goal_actions().await.unwrap();
    let webhook = actions
        .iter()
        .find(|row| row.action.action == "trigger_webhook")
        .unwrap();
    assert_eq!(webhook.status, GoalActionStatus::Failed);
    assert!(webhook.last_error.as_ref().unwrap().contains("example.org"));
    assert_eq!(webhook.action.payload["body"]["data"]["goal"], "done");

    // A rebuild gives the same numbers, and nothing is reported or executed again.
    let live = read_goals(&*scenario.store).await.unwrap();
    scenario.store.reset_projection(GOALS).await.unwrap();
    let projector = scenario.projector().without_progress();
    while let PageOutcome::Read { .. } = projector.step().await.unwrap() {}
    assert_eq!(read_goals(&*scenario.store).await.unwrap(), live);
    assert_eq!(scenario.said().await, counts(&[]));
    assert_eq!(runner.step().await.unwrap(), 0);
    assert_eq!(scenario.store.goal_actions().await.unwrap(), actions);
}

const ARCHIVED: &str = "
workflow:
  id: flow
  steps: [{ id: annotate, type: annotation }]
goals:
  - { id: volume, type: volume, target: 2, on_complete: [archive, pause] }
";

#[tokio::test]
async fn a_reached_goal_archives_its_workflow_once() {
    let scenario = Scenario::new(ARCHIVED).await;
    scenario.complete_tasks(1, 2).await;
    scenario.project().await;
    let runner = scenario.runner();
    while runner.step().await.unwrap() > 0 {}
    let archived = async || {
        let pauses = scenario.store.workflow_pauses().await.unwrap();
        pauses
            .active
            .iter()
            .map(|pause| pause.archived)
            .collect::<Vec<_>>()
    };
    assert_eq!(archived().await, [true]);
    let actions = scenario.store.goal_actions().await.unwrap();
    assert_eq!(actions.len(), 2);
    for row in &actions {
        assert_eq!(row.status, GoalActionStatus::Done, "{row:?}");
    }
    // Open work is paused and kept: a refused command can be replayed.
    let late = submission(9, 7);
    let workflow = scenario.store.load_by_name("flow").await.unwrap().unwrap();
    let nine = Uuid::from_u128(9);
    scenario
        .orchestrator
        .start_task(nine, workflow.revision_id.0)
        .await
        .unwrap();
    let report = scenario
        .orchestrator
        .process_batch(vec![late.clone()], None)
        .await;
    let outcomes = report.unwrap().outcomes;
    assert!(
        matches!(&outcomes[..], [Outcome::Rejected(r)] if r.code == RejectionCode::TaskPaused),
        "{outcomes:?}"
    );
    let kept = scenario
        .store
        .command(late.command_id)
        .await
        .unwrap()
        .unwrap();
    assert!(kept.payload.is_some());

    // An operator restores the workflow, and no replay of the log archives it again.
    let operator_command = OperatorCommand::WorkflowRestore {
        workflow: Slug::new("flow").unwrap(),
        reason: None,
    };
    let operator_command = OperatorEnvelope::new(Uuid::from_u128(5), operator_command);
    scenario
        .orchestrator
        .operator_command(&*scenario.store, operator_command)
        .await
        .unwrap();
    assert_eq!(archived().await, [false; 0]);
    scenario.store.reset_projection(GOALS).await.unwrap();
    scenario.project().await;
    while runner.step().await.unwrap() > 0 {}
    assert_eq!(archived().await, [false; 0]);
    let mut again = late;
    again.command_id = CommandId(Uuid::from_u128(77));
    let report = scenario.orchestrator.process_batch(vec![again], None).await;
    assert!(matches!(
        report.unwrap().outcomes[..],
        [Outcome::Applied(_)]
    ));
}

fn submission(task: u128, user: u128) -> CommandEnvelope {
    let mut body = support_submission(Uuid::from_u128(task), "annotate", user, "a");
    body["workflow"] = json!("flow");
    envelope(&body)
}
