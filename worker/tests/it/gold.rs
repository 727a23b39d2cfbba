//! Annotators who fall below the accuracy limit on gold tasks are flagged, once for each drop.

use std::{sync::Arc, time::Duration};

use glyph_worker::{
    projections::{GoldProjector, PageOutcome, gold::PROJECTION},
    wire::CloudEventMessages,
};
use glyph_workflow_engine::{
    WorkflowOrchestrator,
    command::{
        Assign, ClaimRequest, Command, CommandEnvelope, OperatorCommand, OperatorEnvelope, Outcome,
        Sender, Start,
    },
    ids::{CommandId, TaskId, UserId},
    pauses_of,
    store::{
        MemoryStore, OperatorLog, Outbox, ProjectionStore, ProjectionWrite, PublisherId,
        RecordedOutcome,
    },
};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::engine::{envelope, submission, task};

fn watched(on_fall: &str) -> String {
    format!(
        "
workflow:
  id: sentiment-dual
  gold: {{ share: 0.1, min_accuracy: 0.7, window: 5{on_fall} }}
  steps:
    - {{ id: annotate, type: annotation, consensus: {{ field: label }} }}
"
    )
}

struct Scenario {
    store: Arc<MemoryStore>,
    orchestrator: WorkflowOrchestrator,
}

impl Scenario {
    async fn new(on_fall: &str) -> Self {
        let store = Arc::new(MemoryStore::new());
        let orchestrator =
            WorkflowOrchestrator::new(Arc::clone(&store) as _, Arc::clone(&store) as _);
        let scenario = Self {
            store,
            orchestrator,
        };
        scenario.revise(&watched(on_fall)).await;
        scenario
    }

    async fn revise(&self, yaml: &str) {
        self.orchestrator.create_workflow(yaml).await.unwrap();
    }

    /// Starts a task that is not gold.
    async fn start(&self, n: u128) {
        let start = Start {
            task_id: TaskId(task(n)),
            workflow: "sentiment-dual".parse().unwrap(),
            input: None,
            labels: None,
            expected: None,
        };
        self.run(CommandEnvelope::new(task(n), Command::Start(start)))
            .await;
    }

    /// Answers the next gold tasks right (`1`) or wrong (`0`), and runs the projection.
    async fn answers(&self, first: u128, user: u128, answers: &str) {
        for (n, answer) in (first..).zip(answers.chars()) {
            self.answer(n, user, answer == '1').await;
        }
        self.catch_up().await;
    }

    /// Claims the next task for the person.
    async fn claim(&self, user: u128) -> Option<TaskId> {
        let request = ClaimRequest {
            command_id: CommandId(Uuid::now_v7()),
            correlation_id: None,
            traceparent: None,
            user_id: UserId(Uuid::from_u128(user)),
            workflow: None,
            step: None,
            roles: Vec::new(),
            skills: Vec::new(),
            fresh: true,
            sender: Sender::default(),
        };
        let claimed = self.orchestrator.claim_next(&*self.store, &request).await;
        claimed.unwrap().map(|slot| slot.task_id)
    }

    async fn operator_command(&self, operator_command: OperatorCommand) -> bool {
        let operator_command = OperatorEnvelope::new(Uuid::now_v7(), operator_command);
        let outcome = self
            .orchestrator
            .operator_command(&*self.store, operator_command)
            .await
            .unwrap();
        matches!(outcome, RecordedOutcome::Applied { .. })
    }

    async fn resume(&self, user: u128) -> bool {
        self.operator_command(OperatorCommand::AnnotatorResume {
            workflow: "sentiment-dual".parse().unwrap(),
            user_id: UserId(Uuid::from_u128(user)),
            reason: None,
            by_rule: false,
        })
        .await
    }

    /// Whether the person is paused, and whether by the rule.
    async fn paused(&self, user: u128) -> Option<bool> {
        let user = Some(UserId(Uuid::from_u128(user)));
        let pauses = self.store.annotator_pauses(user).await.unwrap();
        let mut open = pauses.iter().filter(|pause| pause.is_open());
        open.next().map(|pause| pause.by_rule)
    }

    /// Rebuilds all derived data; nothing may be flagged again.
    async fn rebuild(&self) {
        let operator_commands = self.store.operator_commands().await.unwrap().len();
        self.store.reset_projection(PROJECTION).await.unwrap();
        assert!(!self.store.replace_pauses(pauses_of).await.unwrap());
        self.catch_up().await;
        assert_eq!(
            self.store.operator_commands().await.unwrap().len(),
            operator_commands
        );
    }

    async fn run(&self, command: CommandEnvelope) {
        let done = self.orchestrator.process_batch(vec![command], None).await;
        let outcomes = done.unwrap().outcomes;
        assert!(
            matches!(outcomes[..], [Outcome::Applied(_)]),
            "{outcomes:?}"
        );
    }

    /// `user` answers the `n`-th gold task right or wrong.
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
        // A fresh projector knows only the stored rows, as after a crash.
        loop {
            let store = Arc::clone(&self.store) as _;
            let projector = GoldProjector::new(store, CloudEventMessages::default());
            if projector.step().await.unwrap() == PageOutcome::CaughtUp {
                return;
            }
        }
    }

    /// Messages since the last call: the annotator, the accuracy, and whether the rule paused them.
    async fn told(&self) -> Vec<(String, f64, bool)> {
        let publisher = PublisherId(Uuid::nil());
        let lease = Duration::from_mins(1);
        let rows = self.store.claim(publisher, lease, 1_000).await.unwrap();
        let positions: Vec<_> = rows.iter().map(|row| row.position).collect();
        self.store.confirmed(&positions).await.unwrap();
        let read = |body: &str| {
            let body: Value = serde_json::from_str(body).unwrap();
            assert_eq!(body["type"], "dev.glyph.annotator.flagged.v1");
            assert_eq!(body.get("sequence"), None);
            let data = &body["data"];
            assert_eq!(data["min_accuracy"], 0.7);
            assert_eq!(data["answers"], 5);
            let right = data["right"].as_f64().unwrap();
            assert!((data["accuracy"].as_f64().unwrap() - right / 5.0).abs() < 1e-12);
            assert!(data["p_value"].as_f64().unwrap() <= 0.05);
            let user = data["user_id"].as_str().unwrap().to_owned();
            assert_eq!(body["subject"], user);
            let accuracy = data["accuracy"].as_f64().unwrap();
            (user, accuracy, data["paused"].as_bool().unwrap())
        };
        rows.iter()
            .map(|row| row.content.message().unwrap())
            .inspect(|row| assert_eq!(row.routing_key, "annotator.flagged.sentiment-dual"))
            .map(|row| read(&row.body))
            .collect()
    }

    /// The same if nobody was paused.
    async fn flagged(&self) -> Vec<(String, f64)> {
        let told = self.told().await.into_iter();
        told.map(|(user, accuracy, paused)| {
            assert!(!paused);
            (user, accuracy)
        })
        .collect()
    }
}

#[tokio::test]
async fn a_fall_is_told_of_once_whatever_is_read_again() {
    let scenario = Scenario::new("").await;
    let good = 1;
    let falling = 2;
    let name = Uuid::from_u128(falling).to_string();
    let mut n = 0;
    let mut tell = async |answers: &str, told: &[(String, f64)]| {
        for answer in answers.chars() {
            scenario.answer(n, falling, answer == '1').await;
            scenario.answer(n + 1_000, good, true).await;
            n += 1;
        }
        scenario.catch_up().await;
        assert_eq!(scenario.flagged().await, told, "{answers}");
    };
    tell("0000", &[]).await;
    tell("1", &[(name.clone(), 0.2)]).await;
    tell("0000", &[]).await;
    tell("11111", &[]).await;
    tell("000", &[]).await;
    tell("0", &[(name.clone(), 0.2)]).await;

    scenario.store.reset_projection(PROJECTION).await.unwrap();
    scenario.catch_up().await;
    assert_eq!(scenario.flagged().await, [], "a recount tells nobody again");
}

#[tokio::test]
async fn who_falls_is_paused_once_and_let_go_on_by_an_operator() {
    let scenario = Scenario::new(", on_fall: pause").await;
    let (good, falling) = (1, 2);
    let name = Uuid::from_u128(falling).to_string();
    for n in 900..910 {
        scenario.start(n).await;
    }
    assert!(
        scenario.claim(falling).await.is_some(),
        "nobody has fallen yet"
    );
    let held = scenario.claim(falling).await.unwrap();
    scenario.answers(0, falling, "0010").await;
    assert_eq!(
        (scenario.paused(falling).await, scenario.told().await),
        (None, vec![])
    );
    scenario.answers(10, falling, "0").await;
    assert_eq!(scenario.paused(falling).await, Some(true));
    assert_eq!(scenario.told().await, [(name.clone(), 0.2, true)]);

    // This person alone is offered no more slots, and no work that has begun is lost.
    assert_eq!(scenario.claim(falling).await, None);
    assert!(scenario.claim(good).await.is_some());
    scenario
        .run(envelope(&submission(held.0, "annotate", falling, "a")))
        .await;
    scenario
        .run(CommandEnvelope::new(
            Uuid::now_v7(),
            Command::Assign(Assign {
                task_id: TaskId(task(905)),
                step_id: None,
                user_id: UserId(Uuid::from_u128(falling)),
                roles: None,
                offered: None,
            }),
        ))
        .await;
    scenario.rebuild().await;
    assert_eq!(
        (scenario.paused(falling).await, scenario.told().await),
        (Some(true), vec![])
    );

    // Replaying the log does not undo the operator's command.
    assert!(scenario.resume(falling).await);
    assert!(scenario.claim(falling).await.is_some());
    scenario.rebuild().await;
    assert_eq!(
        (scenario.paused(falling).await, scenario.told().await),
        (None, vec![])
    );
    assert!(
        !scenario.resume(falling).await,
        "there is no pause any more"
    );

    // Accuracy counts anew: it takes five answers again.
    scenario.answers(20, falling, "0000").await;
    assert_eq!(scenario.paused(falling).await, None);
    scenario.answers(30, falling, "0").await;
    assert_eq!(scenario.paused(falling).await, Some(true));
    assert_eq!(scenario.told().await, [(name, 0.0, true)]);
    scenario.rebuild().await;
    assert_eq!(scenario.store.operator_commands().await.unwrap().len(), 3);
}

#[tokio::test]
async fn a_rule_ends_its_own_pause_when_it_holds_no_more() {
    let scenario = Scenario::new(", on_fall: pause").await;
    let (recovering, forgiven, by_hand) = (2, 3, 4);
    scenario.start(900).await;
    scenario.answers(0, recovering, "00001").await;
    scenario.answers(10, forgiven, "00000").await;
    scenario
        .operator_command(OperatorCommand::AnnotatorPause {
            workflow: "sentiment-dual".parse().unwrap(),
            user_id: UserId(Uuid::from_u128(by_hand)),
            reason: None,
            fallen_at: None,
        })
        .await;
    scenario.answers(20, by_hand, "00000").await;
    let all = async || {
        let mut paused = Vec::new();
        for user in [recovering, forgiven, by_hand] {
            paused.push(scenario.paused(user).await);
        }
        paused
    };
    assert_eq!(all().await, [Some(true), Some(true), Some(false)]);

    // Answers on tasks already claimed at the pause, which were right.
    scenario.answers(30, recovering, "1").await;
    assert_eq!(all().await, [None, Some(true), Some(false)], "two of five");
    assert_eq!(scenario.claim(recovering).await, Some(TaskId(task(900))));
    // A later revision has a lower limit; a pause by an operator stays.
    scenario.revise(&watched("")).await;
    scenario.start(901).await;
    scenario.catch_up().await;
    assert_eq!(all().await, [None, None, Some(false)]);
    scenario.rebuild().await;
    assert_eq!(all().await, [None, None, Some(false)]);
}

#[tokio::test]
async fn a_pause_by_a_bare_share_is_judged_anew() {
    let scenario = Scenario::new(", on_fall: pause").await;
    let user = 2;
    scenario.answers(0, user, "00000").await;
    assert_eq!(scenario.paused(user).await, Some(true));
    // The row as a build left it that paused below a share of 0.7.
    let key = format!("annotator/sentiment-dual/{}", Uuid::from_u128(user));
    let mut step = scenario
        .store
        .open_projection(PROJECTION, 1)
        .await
        .unwrap()
        .unwrap();
    let mut row = std::mem::take(&mut step.rows)[&key].clone();
    row["answers"] = json!([false, true, false, true, true]);
    row.as_object_mut().unwrap().remove("p_value");
    let write = ProjectionWrite {
        rows: [(key, Some(row)), ("test/sentiment-dual".to_owned(), None)].into(),
        ..ProjectionWrite::default()
    };
    step.commit(write).await.unwrap();

    scenario.answer(20, 7, true).await;
    scenario.catch_up().await;
    assert_eq!(scenario.paused(user).await, None);
}
