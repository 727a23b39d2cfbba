//! Agreement over time, folded from the log of an in-memory store.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use chrono::{DateTime, Utc};
use glyph_worker::{
    projections::{
        AgreementProjector, PageOutcome,
        agreement::{AgreementPoint, PROJECTION, courses, summaries},
    },
    wire::{
        CloudEventMessages,
        data::{AgreementProgress, KappaOf},
    },
};
use glyph_workflow_engine::{
    WorkflowOrchestrator,
    command::{Command, CommandEnvelope, Start},
    consensus::{Bounds, cohens_kappa, krippendorffs_alpha_nominal},
    ids::TaskId,
    store::{LoggedMessage, MemoryStore, Outbox, ProjectionStore, ProjectionWrite, PublisherId},
};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::engine::{DUAL, envelope, submission, task};

/// A store with a manual clock, and a workflow.
struct Scenario {
    store: Arc<MemoryStore>,
    orchestrator: WorkflowOrchestrator,
    seconds: Arc<AtomicI64>,
}

impl Scenario {
    async fn new() -> Self {
        Self::with(DUAL).await
    }

    async fn with(yaml: &str) -> Self {
        let seconds = Arc::new(AtomicI64::new(0));
        let clock = Arc::clone(&seconds);
        let now = move || at(clock.load(Ordering::SeqCst));
        let store = Arc::new(MemoryStore::with_clock(Arc::new(now)));
        let orchestrator =
            WorkflowOrchestrator::new(Arc::clone(&store) as _, Arc::clone(&store) as _);
        orchestrator.create_workflow(yaml).await.unwrap();
        Self {
            store,
            orchestrator,
            seconds,
        }
    }

    async fn run(&self, command: CommandEnvelope) {
        let report = self
            .orchestrator
            .process_batch(vec![command], None)
            .await
            .unwrap();
        assert_eq!(report.outcomes.len(), 1);
    }

    async fn label(&self, n: u128, labels: [&str; 2]) {
        for (user, label) in (1..).zip(labels) {
            self.run(envelope(&submission(task(n), "annotate", user, label)))
                .await;
        }
    }

    async fn start_gold(&self, n: u128, expected: Value) {
        let start = Start {
            task_id: TaskId(task(n)),
            workflow: "sentiment-dual".parse().unwrap(),
            input: None,
            labels: None,
            expected: Some(expected),
        };
        self.run(CommandEnvelope::new(task(n), Command::Start(start)))
            .await;
    }

    fn projector(&self, length: usize) -> AgreementProjector {
        let store = Arc::clone(&self.store) as _;
        AgreementProjector::new(store, CloudEventMessages::default(), length)
    }

    async fn summary(&self) -> AgreementProgress {
        let mut found = summaries(&*self.store).await.unwrap();
        assert_eq!(found.len(), 1);
        found.remove(0)
    }

    /// Messages since the last call.
    async fn told(&self) -> Vec<LoggedMessage> {
        let publisher = PublisherId(Uuid::nil());
        let lease = Duration::from_mins(1);
        let rows = self.store.claim(publisher, lease, 1_000).await.unwrap();
        let positions: Vec<_> = rows.iter().map(|row| row.position).collect();
        self.store.confirmed(&positions).await.unwrap();
        let carried = rows.iter().map(|row| row.content.message().unwrap());
        carried.cloned().collect()
    }
}

fn at(seconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_800_000_000 + seconds, 0).unwrap()
}

#[tokio::test]
async fn how_agreement_went_is_told_in_points_and_does_not_depend_on_pages() {
    let mut courses_read = Vec::new();
    for page_after_each in [false, true] {
        let scenario = Scenario::new().await;
        let projector = scenario.projector(100);
        for n in 0..40_u8 {
            // Half a minute apart, and the first ten agree.
            scenario.seconds.store(30 * i64::from(n), Ordering::SeqCst);
            let second = if n < 10 { "positive" } else { "negative" };
            scenario
                .label(u128::from(n) + 1, ["positive", second])
                .await;
            if page_after_each {
                catch_up(&projector).await;
            }
        }
        catch_up(&projector).await;
        courses_read.push(courses(&*scenario.store).await.unwrap().remove(0).history);
    }
    let history = &courses_read[0];
    assert_eq!(*history, courses_read[1]);
    assert_eq!(history.len(), 20, "one a minute");
    let agreed = |point: &AgreementPoint| point.agreement.unwrap();
    assert!((agreed(&history[4]) - 1.0).abs() < 1e-9);
    // The 39th of 40: the second of each minute adds no point.
    assert!((agreed(&history[19]) - 10.0 / 39.0).abs() < 1e-5);
    assert_eq!(history[19].classes.len(), 2);
}

async fn catch_up(projector: &AgreementProjector) {
    while let PageOutcome::Read { .. } = projector.step().await.unwrap() {}
}

/// The labels of two people on item `n`.
fn labels(n: u128) -> [&'static str; 2] {
    let label = |k: u128| ["a", "b", "c"][usize::try_from(n * k % 7 % 3).unwrap()];
    [label(1), label(3)]
}

#[tokio::test]
async fn the_newest_items_are_followed_and_a_rebuild_finds_the_same() {
    let scenario = Scenario::new().await;
    let projector = scenario.projector(20);
    for n in 0..50 {
        scenario.label(n, labels(n)).await;
        if n % 7 == 0 {
            catch_up(&projector).await;
        }
    }
    catch_up(&projector).await;

    let inside: Vec<[u32; 2]> = (30..50)
        .map(|n| labels(n).map(|label| u32::from(label.as_bytes()[0])))
        .collect();
    let row = |k: usize| inside.iter().map(|item| item[k]).collect::<Vec<_>>();
    let ratings = [row(0), row(1)].map(|row| row.into_iter().map(Some).collect::<Vec<_>>());
    let live = scenario.summary().await;
    assert_eq!((live.items, live.window), (20, 20));
    let near = |found: Option<f64>, wanted: f64| {
        assert!((found.unwrap() - wanted).abs() < 1e-12, "{live:?}");
    };
    near(live.alpha, krippendorffs_alpha_nominal(&ratings).unwrap());
    near(live.kappa, cohens_kappa(&row(0), &row(1)).unwrap());
    assert_eq!(live.kappa_of, Some(KappaOf::TwoPeople));
    let bounded = |value: Option<f64>, bounds: Option<Bounds>| {
        let (value, bounds) = (value.unwrap(), bounds.unwrap());
        assert!(bounds.lower < value && value < bounds.upper, "{live:?}");
    };
    bounded(live.agreement, live.agreement_interval);
    bounded(live.alpha, live.alpha_interval);
    bounded(live.kappa, live.kappa_interval);
    bounded(live.ac1, live.ac1_interval);
    assert_eq!(live.classes.len(), 3);
    let equal = inside.iter().filter(|item| item[0] == item[1]).count();
    near(live.agreement, equal as f64 / 20.0);

    // A new window length applies from the next start, even without another item.
    scenario.told().await;
    catch_up(&scenario.projector(10)).await;
    let shorter = scenario.summary().await;
    assert_eq!((shorter.items, shorter.window), (10, 10));
    assert_eq!(scenario.told().await, [], "no item has come");
    catch_up(&scenario.projector(30)).await;
    let longer = scenario.summary().await;
    assert_eq!((longer.items, longer.window), (10, 30));

    scenario.store.reset_projection(PROJECTION).await.unwrap();
    catch_up(&scenario.projector(20).silent()).await;
    assert_eq!(scenario.summary().await, live);
    assert_eq!(scenario.told().await, [], "a recount tells nothing");
}

const ASKS_MORE: &str = "
workflow:
  id: sentiment-dual
  steps:
    - id: annotate
      type: annotation
      completion: { type: annotation_count, count: 2 }
      answer: { field: label, kind: category, values: [a, b, c] }
      consensus: { on_disagreement: { strategy: additional_annotators, max_additional: 1, fallback: majority_vote } }
";

#[tokio::test]
async fn who_is_asked_because_people_differ_changes_nothing() {
    let scenario = Scenario::with(ASKS_MORE).await;
    for (n, labels) in [
        (1, ["a", "a"]),
        (2, ["a", "b"]),
        (3, ["b", "a"]),
        (4, ["b", "b"]),
    ] {
        scenario.label(n, labels).await;
    }
    for n in [2, 3] {
        let third = submission(task(n), "annotate", 3, "a");
        scenario.run(envelope(&third)).await;
    }
    catch_up(&scenario.projector(20)).await;
    let found = scenario.summary().await;
    assert_eq!((found.items, found.agreement), (4, Some(0.5)));
    assert_eq!(
        found.kappa_of,
        Some(KappaOf::TwoPeople),
        "the third is no part of it"
    );
    assert_eq!((found.categories_used, found.categories_known), (2, 3));
}

#[tokio::test]
async fn rows_of_an_earlier_form_are_made_anew() {
    let scenario = Scenario::new().await;
    for n in 0..5 {
        scenario.label(n, labels(n)).await;
    }
    catch_up(&scenario.projector(20)).await;
    let live = scenario.summary().await;
    let mut step = scenario
        .store
        .open_projection(PROJECTION, 1)
        .await
        .unwrap()
        .unwrap();
    let rows = std::mem::take(&mut step.rows)
        .into_iter()
        .map(|(key, mut row)| {
            row.as_object_mut().unwrap().remove("form");
            row["window"] = json!({"items": [[0, 1]], "answers": {}});
            (key, Some(row))
        });
    let write = ProjectionWrite {
        rows: rows.collect(),
        ..ProjectionWrite::default()
    };
    step.commit(write).await.unwrap();
    catch_up(&scenario.projector(20)).await;
    assert_eq!(scenario.summary().await, live);
}

#[tokio::test]
async fn gold_tasks_say_nothing_of_the_agreement_on_others() {
    let scenario = Scenario::new().await;
    scenario.label(1, ["a", "b"]).await;
    scenario.start_gold(2, json!("a")).await;
    scenario.label(2, ["a", "a"]).await;
    catch_up(&scenario.projector(20)).await;
    assert_eq!(scenario.summary().await.items, 1);
}

#[tokio::test]
async fn messages_come_at_most_every_five_seconds_and_none_is_lost() {
    let scenario = Scenario::new().await;
    let projector = scenario.projector(20);
    catch_up(&projector).await;
    assert_eq!(scenario.told().await, [], "there is nothing to tell");

    let mut ids = BTreeSet::new();
    let mut next = async |expected: Option<usize>| {
        // Another process may take over at any time: the row records what was reported.
        catch_up(&scenario.projector(20)).await;
        let told = scenario.told().await;
        let told: Vec<_> = told
            .iter()
            .filter(|row| row.message_type == "agreement.progressed")
            .collect();
        assert_eq!(told.len(), usize::from(expected.is_some()));
        for row in told {
            assert_eq!(
                row.routing_key,
                "agreement.progressed.sentiment-dual.annotate"
            );
            let body: Value = serde_json::from_str(&row.body).unwrap();
            assert_eq!(body["data"]["items"], json!(expected));
            assert_eq!(body["subject"], "sentiment-dual/annotate/label");
            assert_eq!(body.get("sequence"), None);
            assert!(ids.insert(row.message_id), "each message has its own id");
        }
    };
    scenario.label(1, ["a", "a"]).await;
    next(Some(1)).await;
    scenario.label(2, ["a", "b"]).await;
    next(None).await;
    scenario.label(3, ["b", "b"]).await;
    scenario.seconds.store(4, Ordering::SeqCst);
    next(None).await;
    scenario.seconds.store(5, Ordering::SeqCst);
    next(Some(3)).await;
    scenario.seconds.store(60, Ordering::SeqCst);
    next(None).await;
}
