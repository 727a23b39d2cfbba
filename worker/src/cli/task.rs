//! `glyph task`: the verbs on tasks, by the same orchestrator, inbox and outbox as commands from
//! the queue.

use std::collections::BTreeMap;

use clap::{Args, Subcommand};
use glyph_workflow_engine::{
    WorkflowOrchestrator,
    command::{Command, CommandEnvelope, Outcome, ProcessResult},
    config::Metric,
    events::{ConsensusCalculated, StoredEvent, Vote},
    ids::{CommandId, Slug, TaskId},
    limits::PAGE_MAX,
    state::TaskStatus,
    store::{ErrorClass, EventPage, RecordedOutcome, Store, TaskFilter, TaskPage},
};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::{
    CliError, Output,
    connect::{open_store, orchestrator},
    migration::{self, MigrateArgs},
    output::{Table, clipped},
};
use crate::{
    http::{ChildStanding, explain_task, state_document},
    settings::Settings,
    wire::commands::{CommandRequest, read_request},
};

/// Attempts of a command whose commit is in doubt or whose database is away for a moment.
const ATTEMPTS_MAX: u32 = 3;

/// Verbs on tasks.
#[derive(Clone, Debug, Subcommand)]
pub enum TaskVerb {
    /// Start a task in a workflow
    Start {
        #[command(flatten)]
        target: Target,
        /// Workflow id, id@revision or revision UUID
        #[arg(long, short, value_name = "WORKFLOW")]
        workflow: String,
        /// Data to label, as JSON or @FILE
        #[arg(long, value_name = "JSON", value_parser = json_argument)]
        input: Option<Value>,
        /// Label to search by; may be repeated
        #[arg(long = "label", value_name = "KEY=VALUE", value_parser = pair)]
        labels: Vec<(String, String)>,
        /// Known answer, which makes it a gold task, as JSON or @FILE
        #[arg(long, value_name = "JSON", value_parser = json_argument)]
        expected: Option<Value>,
    },
    /// Submit a person's work
    Submit {
        #[command(flatten)]
        target: Target,
        #[command(flatten)]
        step: Step,
        /// User who did the work
        #[arg(long, value_name = "UUID")]
        user: Uuid,
        /// The annotation, as JSON or @FILE
        #[arg(long, value_name = "JSON", value_parser = json_argument)]
        data: Option<Value>,
        /// Reviewer's decision: approve, reject, request_changes or fix
        #[arg(long, value_name = "DECISION")]
        decision: Option<String>,
        /// Role of the user; may be repeated
        #[arg(long = "role", value_name = "ROLE")]
        roles: Vec<String>,
        /// Confidence of the user, from 0 to 1
        #[arg(long, value_name = "NUMBER")]
        confidence: Option<f64>,
        /// Id of the annotation [default: derived from the command id]
        #[arg(long, value_name = "UUID")]
        annotation_id: Option<Uuid>,
        /// Workflow to start the task in, if it has not been started
        #[arg(long, short, value_name = "WORKFLOW")]
        workflow: Option<String>,
    },
    /// End a step that waits for an external result, an operator or enough submissions
    Advance {
        #[command(flatten)]
        target: Target,
        #[command(flatten)]
        step: Step,
        /// Result of an external step, as JSON or @FILE
        #[arg(long = "result", value_name = "JSON", value_parser = json_argument)]
        result: Option<Value>,
    },
    /// Show the state of a task, now or at an earlier version
    State {
        /// Task id
        task: Uuid,
        /// Show the state at this version
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
        at_version: Option<u64>,
    },
    /// Explain why a task waits, or how it was decided
    Explain {
        /// Task id
        task: Uuid,
    },
    /// List the events of a task, oldest first
    History {
        /// Task id
        task: Uuid,
        /// Only events after this version
        #[arg(long, value_name = "N", default_value_t = 0)]
        after: u64,
        /// Maximum number of events
        #[arg(long, value_name = "N", default_value_t = 1_000,
              value_parser = clap::value_parser!(u32).range(1..=i64::from(PAGE_MAX)))]
        limit: u32,
    },
    /// List and search tasks
    List {
        /// Only tasks of this workflow
        #[arg(long, short, value_name = "ID")]
        workflow: Option<Slug>,
        /// Only tasks with this status: running, paused, completed, failed or cancelled
        #[arg(long, value_name = "STATUS", value_parser = status)]
        status: Option<TaskStatus>,
        /// Only tasks that wait in this step
        #[arg(long, value_name = "ID")]
        step: Option<Slug>,
        /// Only tasks with this label; may be repeated
        #[arg(long = "label", value_name = "KEY=VALUE", value_parser = pair)]
        labels: Vec<(String, String)>,
        /// Continue after this task
        #[arg(long, value_name = "TASK")]
        after: Option<Uuid>,
        /// Maximum number of tasks
        #[arg(long, value_name = "N", default_value_t = 100,
              value_parser = clap::value_parser!(u32).range(1..=i64::from(PAGE_MAX)))]
        limit: u32,
    },
    /// Pause a task, or one of its steps
    Pause {
        #[command(flatten)]
        target: Target,
        #[command(flatten)]
        step: Step,
        /// Reason
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
        /// When the pause ends by itself, as an RFC 3339 time
        #[arg(long, value_name = "TIME")]
        until: Option<String>,
    },
    /// Resume a task, or one of its steps
    Resume(ControlArgs),
    /// Cancel a task
    Cancel(ControlArgs),
    /// Retry what failed and opened an incident
    Retry(ControlArgs),
    /// Migrate one task, or the tasks of a workflow, to another revision
    Migrate(MigrateArgs),
    /// Claim a slot of a task for a user
    Assign {
        #[command(flatten)]
        target: Target,
        #[command(flatten)]
        step: Step,
        /// User
        #[arg(long, value_name = "UUID")]
        user: Uuid,
        /// Role of the user; may be repeated
        #[arg(long = "role", value_name = "ROLE")]
        roles: Vec<String>,
    },
    /// Release a claimed slot
    Release {
        #[command(flatten)]
        target: Target,
        #[command(flatten)]
        step: Step,
        /// User who claimed it
        #[arg(long, value_name = "UUID")]
        user: Uuid,
        /// Reason
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
    },
}

/// Which task, and under which id the command is known.
#[derive(Clone, Copy, Debug, Args)]
pub struct Target {
    /// Task id
    task: Uuid,
    /// Id of the command; repeating an id has no effect [default: a new UUID]
    #[arg(long, value_name = "UUID")]
    command_id: Option<Uuid>,
}

/// Which step.
#[derive(Clone, Debug, Args)]
pub struct Step {
    /// Step; needed only where it is ambiguous
    #[arg(long, value_name = "ID")]
    step: Option<String>,
}

/// Which task and why.
#[derive(Clone, Debug, Args)]
pub struct ControlArgs {
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    step: Step,
    /// Reason
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
}

/// JSON in the argument itself, or in the file after an `@`.
fn json_argument(text: &str) -> Result<Value, String> {
    let content = match text.strip_prefix('@') {
        None => text.to_owned(),
        Some(path) => std::fs::read_to_string(path).map_err(|e| format!("file `{path}`: {e}"))?,
    };
    serde_json::from_str(&content)
        .map_err(|error| format!("{error}; a text needs its quotes, as '\"positive\"'"))
}

pub(super) fn pair(text: &str) -> Result<(String, String), String> {
    let pair = text
        .split_once('=')
        .map(|(key, value)| (key.to_owned(), value.to_owned()));
    pair.ok_or_else(|| "write KEY=VALUE".to_owned())
}

pub(super) fn status(text: &str) -> Result<TaskStatus, String> {
    let names = || TaskStatus::ALL.map(TaskStatus::as_str).join(", ");
    TaskStatus::from_name(text).ok_or_else(|| format!("there are: {}", names()))
}

pub(super) async fn run(
    verb: TaskVerb,
    settings: &Settings,
    output: Output,
) -> Result<(), CliError> {
    match verb {
        TaskVerb::Migrate(args) => migration::run(args, settings, output).await,
        TaskVerb::State { task, at_version } => state(task, at_version, settings, output).await,
        TaskVerb::Explain { task } => explain(TaskId(task), settings, output).await,
        TaskVerb::History { task, after, limit } => {
            history(TaskId(task), after, limit, settings, output).await
        }
        TaskVerb::List {
            workflow,
            status,
            step,
            labels,
            after,
            limit,
        } => {
            let labels = labels.into_iter().collect();
            let after = after.map(TaskId);
            let filter = TaskFilter {
                workflow,
                status,
                step,
                labels,
                after,
                limit,
            };
            list(filter, settings, output).await
        }
        verb => {
            let (command_type, target, body) = command_of(verb);
            let body = Value::Object(body).to_string();
            let request = CommandRequest {
                command_type,
                task_id: TaskId(target.task),
                command_id: CommandId(target.command_id.unwrap_or_else(Uuid::now_v7)),
                correlation_id: None,
                traceparent: None,
                body: body.as_bytes(),
            };
            let command = read_request(&request)
                .map_err(|unreadable| CliError::Usage(unreadable.to_string()))?
                .envelope;
            let store = open_store(settings).await?;
            let orchestrator = orchestrator(&store, settings);
            let command_id = command.command_id;
            let outcome = submit(&orchestrator, command).await?;
            show_outcome(command_id, outcome, output)
        }
    }
}

/// The command of a verb that changes something: type, target, and the fields that were given.
fn command_of(verb: TaskVerb) -> (&'static str, Target, Map<String, Value>) {
    let mut body = Map::new();
    let mut set = |key: &str, value: Value| {
        if !value.is_null() {
            body.insert(key.to_owned(), value);
        }
    };
    let (command_type, target) = match verb {
        TaskVerb::Start {
            target,
            workflow,
            input,
            labels,
            expected,
        } => {
            let labels: BTreeMap<_, _> = labels.into_iter().collect();
            set("workflow", workflow.into());
            set("input", input.into());
            set("labels", (!labels.is_empty()).then(|| json!(labels)).into());
            set("expected", expected.into());
            ("start", target)
        }
        TaskVerb::Submit {
            target,
            step,
            user,
            data,
            decision,
            roles,
            confidence,
            annotation_id,
            workflow,
        } => {
            let annotation = json!({
                "user_id": user,
                "data": data,
                "decision": decision,
                "roles": (!roles.is_empty()).then_some(roles),
                "confidence": confidence,
                "annotation_id": annotation_id,
            });
            set("step_id", step.step.into());
            set("annotation", annotation);
            set("workflow", workflow.into());
            ("submission", target)
        }
        TaskVerb::Advance {
            target,
            step,
            result,
        } => {
            set("step_id", step.step.into());
            set("output", result.into());
            ("advance", target)
        }
        TaskVerb::Pause {
            target,
            step,
            reason,
            until,
        } => {
            set("step_id", step.step.into());
            set("reason", reason.into());
            set("until", until.into());
            ("pause", target)
        }
        TaskVerb::Resume(args) => ("resume", control(args, set)),
        TaskVerb::Cancel(args) => ("cancel", control(args, set)),
        TaskVerb::Retry(args) => ("retry", control(args, set)),
        TaskVerb::Assign {
            target,
            step,
            user,
            roles,
        } => {
            set("step_id", step.step.into());
            set("user_id", json!(user));
            set("roles", (!roles.is_empty()).then(|| json!(roles)).into());
            ("assign", target)
        }
        TaskVerb::Release {
            target,
            step,
            user,
            reason,
        } => {
            set("step_id", step.step.into());
            set("user_id", json!(user));
            set("reason", reason.into());
            ("release", target)
        }
        TaskVerb::Migrate(_)
        | TaskVerb::State { .. }
        | TaskVerb::Explain { .. }
        | TaskVerb::History { .. }
        | TaskVerb::List { .. } => {
            unreachable!("`run` has answered the verbs that are no single command")
        }
    };
    (command_type, target, body)
}

fn control(args: ControlArgs, mut set: impl FnMut(&str, Value)) -> Target {
    set("step_id", args.step.step.into());
    set("reason", args.reason.into());
    args.target
}

/// Runs one command; where its commit is in doubt it is run again, as its id makes that safe.
pub(super) async fn submit(
    orchestrator: &WorkflowOrchestrator,
    command: CommandEnvelope,
) -> Result<Outcome, CliError> {
    let mut attempt = 1;
    loop {
        match orchestrator
            .process_batch(vec![command.clone()], None)
            .await
        {
            Ok(mut report) => {
                return report
                    .outcomes
                    .pop()
                    .ok_or_else(|| CliError::failed("bug", "the command had no outcome"));
            }
            Err(error) if error.class() == ErrorClass::Retry && attempt < ATTEMPTS_MAX => {
                attempt += 1;
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// Prints what became of a command; a refused one is a failure.
pub(super) fn show_outcome(
    command_id: CommandId,
    outcome: Outcome,
    output: Output,
) -> Result<(), CliError> {
    let name = outcome.name();
    let (result, repeated) = match outcome {
        Outcome::Applied(result) => (serde_json::to_value(result).unwrap_or_default(), false),
        Outcome::Duplicate(RecordedOutcome::Applied { result }) => (result, true),
        Outcome::Rejected(rejection) => {
            return refused(
                command_id,
                name,
                rejection.code.as_str(),
                &rejection.detail,
                output,
            );
        }
        Outcome::Duplicate(RecordedOutcome::Rejected { reason, detail }) => {
            return refused(command_id, name, &reason, &detail, output);
        }
        Outcome::Undecided(undecided) => return Err(undecided.into()),
        Outcome::Dead(dead) => return Err(dead.into()),
    };
    let document = json!({"command_id": command_id, "outcome": name, "result": result});
    output.result(&document, || {
        let text = result_text(result);
        if repeated {
            format!("{text} (this command was applied before)")
        } else {
            text
        }
    });
    Ok(())
}

fn refused(
    command_id: CommandId,
    outcome: &str,
    code: &str,
    detail: &str,
    output: Output,
) -> Result<(), CliError> {
    if !output.is_json() {
        return Err(CliError::failed(
            code,
            format!("rejected, {code}: {detail}"),
        ));
    }
    let document =
        json!({"command_id": command_id, "outcome": outcome, "reason": code, "detail": detail});
    output.result(&document, String::new);
    Err(CliError::Shown)
}

fn result_text(result: Value) -> String {
    match serde_json::from_value(result) {
        Ok(ProcessResult::Waiting { step_id, reason }) => format!("waits in {step_id}: {reason}"),
        Ok(ProcessResult::Advanced { next_steps, .. }) => {
            let steps: Vec<_> = next_steps.iter().map(Slug::as_str).collect();
            format!("waits in {}", steps.join(", "))
        }
        Ok(ProcessResult::Completed { output }) => {
            format!(
                "completed: {}",
                output.get("result").unwrap_or(&Value::Null)
            )
        }
        Ok(ProcessResult::Failed { error }) => format!("failed: {error}"),
        Err(error) => format!("applied, with a result that cannot be read: {error}"),
    }
}

/// Where a child task stands, in one line.
fn standing(child: &ChildStanding) -> String {
    let status = child.status.map_or("not started", TaskStatus::as_str);
    let steps: Vec<&str> = child.current_steps.iter().map(Slug::as_str).collect();
    let at = if steps.is_empty() {
        String::new()
    } else {
        format!(" at {}", steps.join(", "))
    };
    let held = match child.incidents {
        0 => String::new(),
        n => format!(", held by {n} incidents"),
    };
    format!(
        "  child task {} of `{}`: {status}{at}{held}",
        child.task_id, child.workflow
    )
}

async fn explain(task: TaskId, settings: &Settings, output: Output) -> Result<(), CliError> {
    let store = open_store(settings).await?;
    let state = orchestrator(&store, settings)
        .get_task_state(task.0)
        .await?;
    let explanation = explain_task(&*store, state.snapshot()).await?;
    output.result(&explanation, || {
        let mut lines = vec![format!("{}: {}", explanation.status, explanation.summary)];
        for waiting in &explanation.waiting {
            lines.push(format!(
                "waits in `{}` (visit {}) since {}: {}",
                waiting.step_id, waiting.visit, waiting.since, waiting.reason
            ));
            lines.extend(waiting.child.as_ref().map(standing));
        }
        for hook in &explanation.hooks {
            let stands = match &hook.given_up {
                Some(error) => format!("given up: {error}"),
                None => "no answer yet".to_owned(),
            };
            lines.push(format!(
                "hook `{}` of `{}` (visit {}): {stands}",
                hook.hook, hook.step_id, hook.visit
            ));
        }
        for decision in &explanation.decisions {
            let result = &decision.result;
            let by = result.resolved_by.map_or("nobody", |by| by.as_str());
            lines.push(format!(
                "version {}: `{}` ended with {}, by {by}",
                decision.version,
                decision.step_id,
                clipped(&json!(result.value).to_string(), 60),
            ));
            if let Some(consensus) = &decision.consensus {
                lines.push(format!(
                    "  {}",
                    comparison(
                        consensus.metric,
                        consensus.agreement,
                        consensus.threshold,
                        &consensus.votes
                    )
                ));
                lines.extend(
                    annotators(consensus)
                        .into_iter()
                        .map(|line| format!("  {line}")),
                );
                for field in &consensus.fields {
                    lines.push(format!(
                        "  `{}`, weight {}: {}",
                        field.field,
                        field.weight,
                        comparison(field.metric, field.agreement, field.threshold, &field.votes)
                    ));
                }
            }
        }
        lines.join("\n")
    });
    Ok(())
}

/// How probable the answers were and why, and whose vote counted how much: a line each.
fn annotators(consensus: &ConsensusCalculated) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(posterior) = &consensus.posterior {
        let soft = &posterior.soft_labels;
        let answers: Vec<String> = soft
            .classes
            .iter()
            .zip(&soft.probabilities)
            .map(|(class, p)| format!("{} {p:.3}", clipped(&class.to_string(), 30)))
            .collect();
        lines.push(format!(
            "posterior {} against a target of {}, at most {} people",
            answers.join(", "),
            posterior.target,
            posterior.max
        ));
        for label in &posterior.evidence.labels {
            lines.push(format!(
                "  {} gave {}: right with {:.3}, from {} labels",
                label.annotator,
                clipped(&label.class, 30),
                label.accuracy,
                label.labels
            ));
        }
    }
    for one in consensus.weights.iter().flat_map(|used| &used.annotators) {
        lines.push(format!(
            "{}: weight {:.3}, right with {:.3}",
            one.user_id, one.weight, one.accuracy
        ));
    }
    lines
}

/// What was compared, in one line: `percent_agreement 0.500 against 1: 2 x "a", 1 x "b"`.
fn comparison(metric: Metric, agreement: Option<f64>, threshold: f64, votes: &[Vote]) -> String {
    let agreement = agreement.map_or("undefined".to_owned(), |a| format!("{a:.3}"));
    let votes: Vec<String> = votes
        .iter()
        .map(|vote| format!("{} x {}", vote.count, clipped(&vote.value.to_string(), 30)))
        .collect();
    let head = format!("{} {agreement} against {threshold}", metric.as_str());
    if votes.is_empty() {
        return head;
    }
    format!("{head}: {}", votes.join(", "))
}

async fn state(
    task: Uuid,
    at_version: Option<u64>,
    settings: &Settings,
    output: Output,
) -> Result<(), CliError> {
    let store = open_store(settings).await?;
    let state = orchestrator(&store, settings)
        .state_at(task, at_version)
        .await?
        .into_snapshot();
    let holding = match at_version {
        None => store.workflow_pauses().await?.0,
        // What holds the workflow now says nothing about then.
        Some(_) => Vec::new(),
    };
    output.result(&state_document(&state), || {
        let mut facts = Table::plain();
        facts.row(["task", &state.task_id.to_string()]);
        let workflow = &state.workflow;
        facts.row([
            "workflow",
            &format!("{}@{}", workflow.workflow, workflow.revision),
        ]);
        facts.row(["status", state.status.as_str()]);
        facts.row(["version", &state.version.to_string()]);
        let explanation = crate::http::explain(&state, &[], holding);
        facts.row(["why", &explanation.summary]);
        if let Some(output) = &state.output {
            facts.row(["result", &clipped(&output["result"].to_string(), 100)]);
        }
        let mut steps = Table::new(&["step", "visit", "status", "submitted", "value"]);
        for (id, step) in &state.steps {
            for visit in &step.visits {
                let status = serde_json::to_value(visit.status).unwrap_or_default();
                let value = visit
                    .result
                    .as_ref()
                    .map(|result| json!(result.value).to_string());
                steps.row([
                    id.to_string(),
                    visit.number.to_string(),
                    status.as_str().unwrap_or_default().to_owned(),
                    visit.annotations.len().to_string(),
                    clipped(&value.unwrap_or_default(), 60),
                ]);
            }
        }
        format!("{}\n\n{}", facts.render(0), steps.render(0))
    });
    Ok(())
}

async fn history(
    task: TaskId,
    after: u64,
    limit: u32,
    settings: &Settings,
    output: Output,
) -> Result<(), CliError> {
    let store = open_store(settings).await?;
    let page = store.events(task, after, limit).await?;
    if page.events.is_empty() && store.task(task).await?.is_none() {
        return Err(CliError::not_found("task", task));
    }
    output.result(&page, || history_text(task, &page));
    Ok(())
}

fn history_text(task: TaskId, page: &EventPage) -> String {
    let mut table = Table::new(&["version", "at", "event", "step", "content"]);
    for event in &page.events {
        table.row([
            event.version.to_string(),
            event.occurred_at.format("%F %T%.3f").to_string(),
            event.event.event_type().to_owned(),
            event
                .event
                .step_id()
                .map(ToString::to_string)
                .unwrap_or_default(),
            clipped(&content(event), 80),
        ]);
    }
    let more = page
        .next_after
        .map(|version| format!("\nmore: glyph task history {task} --after {version}"));
    format!("{}{}", table.render(0), more.unwrap_or_default())
}

/// What an event says, without what other columns show.
fn content(event: &StoredEvent) -> String {
    let mut value = serde_json::to_value(&event.event).unwrap_or_default();
    let Some(Value::Object(mut data)) = value.get_mut("event_data").map(Value::take) else {
        return String::new();
    };
    for shown in ["step_id", "from_step", "content_hash"] {
        data.remove(shown);
    }
    let fields = data.iter().map(|(key, value)| format!("{key}={value}"));
    fields.collect::<Vec<_>>().join(" ")
}

async fn list(filter: TaskFilter, settings: &Settings, output: Output) -> Result<(), CliError> {
    let page = tasks(&*open_store(settings).await?, filter).await?;
    output.result(&page, || list_text(&page));
    Ok(())
}

async fn tasks(store: &dyn Store, filter: TaskFilter) -> Result<TaskPage, CliError> {
    Ok(store.tasks(filter).await?)
}

fn list_text(page: &TaskPage) -> String {
    if page.tasks.is_empty() {
        return "no such tasks".to_owned();
    }
    let mut table = Table::new(&["task", "workflow", "status", "steps", "version", "updated"]);
    for task in &page.tasks {
        let steps: Vec<_> = task.current_steps.iter().map(Slug::as_str).collect();
        let held = if task.incidents > 0 {
            " (incident)"
        } else {
            ""
        };
        table.row([
            task.task_id.to_string(),
            format!("{}@{}", task.workflow, task.revision),
            task.status.to_string(),
            format!("{}{held}", steps.join(", ")),
            task.version.to_string(),
            task.updated_at.format("%F %T").to_string(),
        ]);
    }
    let more = page
        .next_after
        .map(|task| format!("\nmore: add --after {task}"));
    format!("{}{}", table.render(0), more.unwrap_or_default())
}

/// Builds the envelope of a kept payload under another id.
pub(super) fn envelope_of(
    payload: &Value,
    command_id: CommandId,
) -> Result<CommandEnvelope, CliError> {
    let unreadable = |why: String| CliError::failed("malformed", why);
    let command_type = payload
        .get("type")
        .and_then(Value::as_str)
        .unwrap_or_default();
    let task = payload
        .get("task_id")
        .and_then(Value::as_str)
        .unwrap_or_default();
    let body = payload.to_string();
    let request = CommandRequest {
        command_type,
        task_id: task
            .parse()
            .map_err(|_| unreadable(format!("`{task}` is no task id")))?,
        command_id,
        correlation_id: None,
        traceparent: None,
        body: body.as_bytes(),
    };
    let read = read_request(&request).map_err(|error| unreadable(error.to_string()))?;
    debug_assert!(Command::TYPES.contains(&command_type));
    Ok(read.envelope)
}
