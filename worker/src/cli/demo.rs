//! `glyph demo`: everything at work on sample data, without any service and without configuration.
//!
//! What runs is the real thing, queue, pipeline, store and outbox, on its embedded parts. Only the
//! people are made up: annotators of different quality, whose slips are the same in every run.

use std::{
    collections::{BTreeMap, HashSet},
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use clap::Args;
use glyph_workflow_engine::{
    WorkflowOrchestrator,
    ids::{Slug, TaskId},
    limits::PAGE_MAX,
    state::TaskStatus,
    store::{Store, TaskFilter},
};
use indicatif::ProgressBar;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    CliError, Output,
    connect::{Publisher, orchestrator},
    output::{Table, grouped},
    publish::{WINDOW, command_publication, publish_window},
    worker::serve,
};
use crate::{
    app::{AppError, Database, Parts, Running},
    metrics::Metrics,
    operations::workflows::WorkflowDocument,
    projections::{GoalProjector, StepOutcome},
    settings::{BrokerUrl, DatabaseUrl, SecretUrl, Settings},
    telemetry,
};

const DUAL: &str = include_str!("../../../examples/sentiment-dual.yaml");
const REVIEW: &str = include_str!("../../../examples/review.yaml");
const SINGLE: &str = include_str!("../../../examples/single.yaml");

/// Tasks of each workflow.
const DUAL_TASKS: usize = 140;
const REVIEW_TASKS: usize = 40;
const SINGLE_TASKS: usize = 20;
/// The demo is given up after this; it takes a few seconds.
const DEADLINE: Duration = Duration::from_secs(120);
const POLL: Duration = Duration::from_millis(50);

/// What people say, and what they mean by it.
const SAMPLES: [(&str, &str); 12] = [
    ("Arrived a day early and works perfectly.", "positive"),
    ("Stopped charging after a week.", "negative"),
    ("It is a lamp. It lights up.", "neutral"),
    ("My daughter has not put it down since.", "positive"),
    ("The manual is in a language I cannot name.", "negative"),
    ("Box was larger than expected.", "neutral"),
    ("Best kettle I have ever owned!", "positive"),
    ("Great, another cable that frays.", "negative"),
    ("Same as the one it replaces.", "neutral"),
    ("Support answered within minutes, on a Sunday.", "positive"),
    ("Would give zero stars if I could.", "negative"),
    ("Ordered two, got two.", "neutral"),
];
const LABELS: [&str; 3] = ["positive", "negative", "neutral"];

/// Annotators and how many of a hundred items each gets right.
const ANNOTATORS: [(&str, u64); 6] = [
    ("Ada", 97),
    ("Ben", 92),
    ("Chi", 89),
    ("Dag", 85),
    ("Eve", 78),
    ("Fox", 66),
];

/// Options of the demo.
#[derive(Clone, Copy, Debug, Args)]
pub struct DemoArgs {
    /// Stay up afterwards, with the HTTP API
    #[arg(long)]
    serve: bool,
}

pub(super) async fn run(
    args: DemoArgs,
    mut settings: Settings,
    output: Output,
) -> Result<(), CliError> {
    let folder = std::env::temp_dir().join(format!("glyph-demo-{}", Uuid::now_v7().simple()));
    std::fs::create_dir(&folder)
        .map_err(|error| CliError::failed("folder", format!("{}: {error}", folder.display())))?;
    let url = format!("sqlite://{}", folder.join("glyph.db").display());
    settings.database = Some(DatabaseUrl::Sqlite(SecretUrl::new(&url)));
    settings.broker = Some(BrokerUrl::Embedded);
    if settings.log == "info" {
        // A log between the lines of a progress bar helps nobody; GLYPH_LOG still asks for more.
        "warn".clone_into(&mut settings.log);
    }
    telemetry::init(&settings);
    output.note(&format!("Everything is kept in {}\n", folder.display()));
    let summary = play(&settings, output).await?;
    let document = summary.document(&folder, &url);
    output.result(&document, || summary.text(&folder, &url, &program()));
    if args.serve {
        output.note(&format!(
            "\nServing http://{}/api/v1/tasks (Ctrl-C ends it)",
            settings.http_addr
        ));
        serve(settings, Parts::default()).await?;
    }
    Ok(())
}

/// How this program can be called from here.
fn program() -> String {
    let Ok(path) = std::env::current_exe() else {
        return "glyph".to_owned();
    };
    let folders = std::env::var_os("PATH").unwrap_or_default();
    if std::env::split_paths(&folders).any(|folder| Some(folder.as_path()) == path.parent()) {
        return "glyph".to_owned();
    }
    let here = std::env::current_dir().ok();
    let below = here.and_then(|here| path.strip_prefix(here).ok().map(Path::to_owned));
    below.unwrap_or(path).display().to_string()
}

/// Creates workflows, enqueues the work, and lets the worker and the people do it.
async fn play(settings: &Settings, output: Output) -> Result<Summary, CliError> {
    let services = settings.services()?;
    let database = Database::open(&services, settings).await?;
    database.migrate().await?;
    let store = database.store();
    let orchestrator = Arc::new(orchestrator(&store, settings));
    for (name, source) in [
        ("sentiment-dual", DUAL),
        ("review", REVIEW),
        ("single", SINGLE),
    ] {
        WorkflowDocument::create(source.as_bytes(), &orchestrator)
            .await
            .map_err(|error| {
                CliError::failed("workflow", format!("{name}: {}", telemetry::chain(&error)))
            })?;
    }
    let publisher = Publisher::connect(settings).await?;
    let metrics = Arc::new(Metrics::new().map_err(AppError::Metrics)?);
    let running = Running::start(
        &database,
        &services,
        settings,
        Parts {
            http: false,
            ..Parts::default()
        },
        Arc::clone(&orchestrator),
        metrics,
    )
    .await?;
    let mut people = People {
        publisher,
        orchestrator,
        store,
        sent: 0,
        answered: HashSet::new(),
    };
    let started = Instant::now();
    let items = items();
    let bar = output.progress(Some(items.len() as u64), "tasks");
    people.enqueue(first_work(&items)).await?;
    let played = people.work_until_done(&items, &bar).await;
    bar.finish_and_clear();
    played?;
    let seconds = started.elapsed().as_secs_f64();
    running
        .drain(tokio::time::Instant::now() + settings.drain)
        .await?;
    // The projection has a pace of its own; whoever looks at the goals next shall see all of it.
    let goals = GoalProjector::new(Arc::clone(&people.store), settings.publish.messages());
    while let StepOutcome::Read(_) = goals.step().await? {}
    Summary::of(&people, &items, seconds).await
}

/// One thing to label, with the answer that is right.
struct Item {
    task: TaskId,
    workflow: &'static str,
    text: &'static str,
    truth: &'static str,
}

fn items() -> Vec<Item> {
    let counts = [
        ("sentiment-dual", DUAL_TASKS),
        ("review", REVIEW_TASKS),
        ("single", SINGLE_TASKS),
    ];
    let workflows = counts
        .into_iter()
        .flat_map(|(name, count)| std::iter::repeat_n(name, count));
    workflows
        .enumerate()
        .map(|(index, workflow)| {
            let (text, truth) = SAMPLES[index % SAMPLES.len()];
            let task = TaskId(derived(&format!("task/{index}")));
            Item {
                task,
                workflow,
                text,
                truth,
            }
        })
        .collect()
}

/// An id that is the same in every run.
fn derived(name: &str) -> Uuid {
    Uuid::new_v5(
        &Uuid::NAMESPACE_OID,
        format!("glyph/demo/{name}").as_bytes(),
    )
}

/// A number below `bound` that is the same in every run.
fn draw(name: &str, bound: u64) -> u64 {
    let bytes = derived(name).into_bytes();
    u64::from_be_bytes([
        bytes[8], bytes[9], bytes[10], bytes[11], bytes[12], bytes[13], bytes[14], bytes[15],
    ]) % bound
}

/// What an annotator answers: mostly the truth, else one of the other labels.
fn answer(annotator: (&str, u64), item: &Item) -> &'static str {
    let (name, quality) = annotator;
    let draw = |what: &str, bound| draw(&format!("{what}/{name}/{}", item.task), bound);
    if draw("slip", 100) < quality {
        return item.truth;
    }
    let others: Vec<_> = LABELS
        .into_iter()
        .filter(|label| *label != item.truth)
        .collect();
    if draw("which", 2) == 0 {
        others[0]
    } else {
        others[1]
    }
}

fn submission(
    item: &Item,
    user: &str,
    roles: &[&str],
    data: &Value,
    decision: Option<&str>,
) -> Value {
    json!({
        "type": "submission",
        "command_id": Uuid::now_v7(),
        "task_id": item.task,
        "annotation": {
            "user_id": derived(&format!("user/{user}")),
            "data": data,
            "decision": decision,
            "roles": roles,
        },
    })
}

/// Starts of all tasks, and what the annotators make of them.
fn first_work(items: &[Item]) -> Vec<Value> {
    let starts = items.iter().map(|item| {
        json!({
            "type": "start",
            "command_id": Uuid::now_v7(),
            "task_id": item.task,
            "workflow": item.workflow,
            "input": {"text": item.text},
            "labels": {"project": "demo"},
        })
    });
    let work = items.iter().enumerate().flat_map(|(index, item)| {
        let annotators = if item.workflow == "sentiment-dual" {
            2
        } else {
            1
        };
        (0..annotators).map(move |n| {
            let annotator = ANNOTATORS[(index + n * (1 + index / 6 % 5)) % ANNOTATORS.len()];
            let data = json!({"label": answer(annotator, item)});
            submission(item, annotator.0, &["annotator"], &data, None)
        })
    });
    starts.chain(work).collect()
}

/// Everybody who is made up, at their desks.
struct People {
    publisher: Publisher,
    orchestrator: Arc<WorkflowOrchestrator>,
    store: Arc<dyn Store>,
    /// Commands enqueued.
    sent: u64,
    /// Tasks that were answered, at the version that asked.
    answered: HashSet<(TaskId, u64)>,
}

impl People {
    async fn enqueue(&mut self, commands: Vec<Value>) -> Result<(), CliError> {
        for window in commands.chunks(WINDOW) {
            let messages = window.iter().map(|command| {
                let text = |key: &str| command[key].as_str().unwrap_or_default().to_owned();
                let body = command.to_string().into_bytes().into();
                command_publication(&text("type"), text("command_id"), body)
            });
            self.sent += publish_window(self.publisher.get(), messages.collect()).await?;
        }
        Ok(())
    }

    /// Answers whatever asks for a person, until every task has ended.
    async fn work_until_done(&mut self, items: &[Item], bar: &ProgressBar) -> Result<(), CliError> {
        let items: BTreeMap<TaskId, &Item> = items.iter().map(|item| (item.task, item)).collect();
        let deadline = Instant::now() + DEADLINE;
        loop {
            let counts = self.store.task_counts().await?;
            let ended = counts.iter().filter(|(status, _)| status.is_final());
            let ended = u64::try_from(ended.map(|(_, count)| count).sum::<i64>()).unwrap_or(0);
            bar.set_position(ended);
            if ended >= items.len() as u64 {
                return Ok(());
            }
            if Instant::now() > deadline {
                let text = format!("only {ended} of {} tasks ended in time", items.len());
                return Err(CliError::failed("stuck", text));
            }
            let answers = self.answers(&items).await?;
            self.enqueue(answers).await?;
            tokio::time::sleep(POLL).await;
        }
    }

    async fn answers(&mut self, items: &BTreeMap<TaskId, &Item>) -> Result<Vec<Value>, CliError> {
        let mut answers = Vec::new();
        for (workflow, step) in [
            ("sentiment-dual", "adjudicate"),
            ("review", "review"),
            ("review", "annotate"),
        ] {
            let filter = TaskFilter {
                workflow: Slug::new(workflow).ok(),
                status: Some(TaskStatus::Running),
                step: Slug::new(step).ok(),
                limit: PAGE_MAX,
                ..TaskFilter::default()
            };
            for task in self.store.tasks(filter).await?.tasks {
                let Some(item) = items.get(&task.task_id) else {
                    continue;
                };
                // One answer for each time that the task asks.
                if self.answered.insert((task.task_id, task.version)) {
                    answers.extend(self.answer(step, item).await?);
                }
            }
        }
        Ok(answers)
    }

    /// What the person whose turn it is says; nothing, where the queue already holds the answer.
    async fn answer(&self, step: &str, item: &Item) -> Result<Option<Value>, CliError> {
        let truth = json!({"label": item.truth});
        let state = self
            .orchestrator
            .get_task_state(item.task.0)
            .await?
            .into_snapshot();
        let visit = |step: &str| state.current_visit(step);
        Ok(match step {
            "adjudicate" => Some(submission(item, "Judge", &["adjudicator"], &truth, None)),
            "review" => {
                let judged = visit("annotate").and_then(|visit| visit.annotations.last());
                let right = judged.is_some_and(|annotation| annotation.data == truth);
                let decision = if right { "approve" } else { "request_changes" };
                let data = json!({"reason": "as the guideline has it"});
                Some(submission(
                    item,
                    "Rita",
                    &["reviewer"],
                    &data,
                    Some(decision),
                ))
            }
            // Changes were requested; the first submission is in the queue from the beginning.
            _ if visit("annotate").is_some_and(|visit| visit.number > 1) => {
                Some(submission(item, "Ada", &["annotator"], &truth, None))
            }
            _ => None,
        })
    }
}

/// What came out.
struct Summary {
    statuses: BTreeMap<TaskStatus, usize>,
    /// Tasks of the dual workflow whose annotators agreed, and all of them.
    agreed: (usize, usize),
    adjudicated: usize,
    reworked: usize,
    /// Right answers among annotations and among results.
    annotations_right: (usize, usize),
    results_right: (usize, usize),
    commands: u64,
    events: u64,
    seconds: f64,
}

impl Summary {
    async fn of(people: &People, items: &[Item], seconds: f64) -> Result<Self, CliError> {
        let mut summary = Self {
            statuses: BTreeMap::new(),
            agreed: (0, 0),
            adjudicated: 0,
            reworked: 0,
            annotations_right: (0, 0),
            results_right: (0, 0),
            commands: people.sent,
            events: 0,
            seconds,
        };
        for item in items {
            let state = people
                .orchestrator
                .get_task_state(item.task.0)
                .await?
                .into_snapshot();
            *summary.statuses.entry(state.status).or_default() += 1;
            summary.events += state.version;
            let annotate = state.steps.get("annotate");
            let visits = annotate.map_or(&[][..], |step| &step.visits);
            for annotation in visits.iter().flat_map(|visit| &visit.annotations) {
                summary.annotations_right.1 += 1;
                summary.annotations_right.0 += usize::from(annotation.data["label"] == item.truth);
            }
            let result = state.output.as_ref().map(|output| &output["result"]);
            let label = result.map(|result| result.get("label").unwrap_or(result));
            summary.results_right.1 += 1;
            summary.results_right.0 += usize::from(label == Some(&json!(item.truth)));
            summary.adjudicated += usize::from(state.steps.contains_key("adjudicate"));
            summary.reworked += usize::from(visits.len() > 1);
            if item.workflow == "sentiment-dual" {
                summary.agreed.1 += 1;
                summary.agreed.0 += usize::from(!state.steps.contains_key("adjudicate"));
            }
        }
        Ok(summary)
    }

    fn document(&self, folder: &Path, url: &str) -> Value {
        json!({
            "folder": folder,
            "database_url": url,
            "tasks": self.statuses,
            "agreement": share(self.agreed),
            "adjudicated": self.adjudicated,
            "reworked": self.reworked,
            "annotations_right": share(self.annotations_right),
            "results_right": share(self.results_right),
            "commands": self.commands,
            "events": self.events,
            "seconds": self.seconds,
            "commands_per_second": self.commands as f64 / self.seconds,
        })
    }

    fn text(&self, folder: &Path, url: &str, program: &str) -> String {
        let percent = |part| format!("{:.0} %", share(part) * 100.0);
        let mut table = Table::plain();
        for (status, count) in &self.statuses {
            table.row([status.to_string(), format!("{count} tasks")]);
        }
        table.row([
            "agreement".to_owned(),
            format!(
                "{} of {} pairs of annotators agreed",
                percent(self.agreed),
                self.agreed.1
            ),
        ]);
        table.row([
            "adjudications".to_owned(),
            format!("{} ties decided by an adjudicator", self.adjudicated),
        ]);
        table.row([
            "reviews".to_owned(),
            format!("{} sent back for changes", self.reworked),
        ]);
        table.row([
            "quality".to_owned(),
            format!(
                "{} of the single answers are right, {} of the results",
                percent(self.annotations_right),
                percent(self.results_right)
            ),
        ]);
        table.row([
            "throughput".to_owned(),
            format!(
                "{} commands and {} events in {:.1} s: {:.0} commands/s, each on disk",
                grouped(self.commands),
                grouped(self.events),
                self.seconds,
                self.commands as f64 / self.seconds
            ),
        ]);
        let example = items()
            .first()
            .map(|item| item.task.to_string())
            .unwrap_or_default();
        let look = [
            ("all tasks", "task list".to_owned()),
            ("one of them", format!("task state {example}")),
            ("what happened to it", format!("task history {example}")),
            ("goals", "goal list".to_owned()),
            ("the workflows", "workflow list".to_owned()),
        ];
        let mut commands = Table::plain();
        for (what, arguments) in look {
            commands.row([
                what.to_owned(),
                format!("{program} {arguments} --database-url {url}"),
            ]);
        }
        format!(
            "{}\n\nWhere to look next\n{}\n  everything in  {}",
            table.render(2),
            commands.render(2),
            folder.display()
        )
    }
}

fn share((part, whole): (usize, usize)) -> f64 {
    if whole == 0 {
        0.0
    } else {
        part as f64 / whole as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn annotators_are_as_good_as_they_are_said_to_be() {
        let items = items();
        for (name, quality) in ANNOTATORS {
            let right = items
                .iter()
                .filter(|item| answer((name, quality), item) == item.truth);
            let share = right.count() as f64 / items.len() as f64 * 100.0;
            assert!((share - quality as f64).abs() < 9.0, "{name}: {share}");
        }
    }

    #[test]
    fn two_annotators_of_a_task_are_two_people() {
        for command in first_work(&items())
            .chunks(2)
            .skip(items().len() / 2)
            .take(DUAL_TASKS)
        {
            assert_eq!(command[0]["task_id"], command[1]["task_id"]);
            let user = |n: usize| command[n]["annotation"]["user_id"].clone();
            assert_ne!(user(0), user(1));
        }
    }
}
