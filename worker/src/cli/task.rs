//! `glyph task`: the verbs on tasks. They use the same orchestrator, inbox and outbox as commands
//! from the queue.

use std::collections::BTreeMap;

use clap::{Args, Subcommand};
use glyph_workflow_engine::{
    WorkflowSnapshot,
    events::StoredEvent,
    ids::{CommandId, Slug, TaskId, UserId},
    limits::PAGE_MAX,
    state::{IncidentCode, TaskStatus},
    store::{EventPage, TaskFilter, TaskPage},
};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::{
    CliError, Output,
    api::Call,
    connect::orchestrator,
    deployment::{Deployment, ask},
    explain::explain,
    import::{self, ImportArgs},
    keys::{self, IdArgs, TaskArg, UserArg, task_uuid},
    migration::{self, MigrateArgs},
    output::{Table, clipped},
    status::pauses,
    submit::{carry_out, operation_of, show_outcome},
    values::{incident_code, json_argument, pair, status},
};
use crate::{
    operations::{
        explain::summary_of,
        incidents::tasks_with,
        tasks::{history as history_page, state_document},
    },
    settings::Settings,
    wire::{CommandRequest, read_request},
};

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
        #[command(flatten)]
        user: UserArg,
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
    /// Import a data set or the export of an annotation tool: tasks, and judgements in the file
    Import(Box<ImportArgs>),
    /// Show the ids of tasks or users of your own keys
    #[command(after_help = keys::RULE)]
    Id(IdArgs),
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
        #[command(flatten)]
        task: TaskArg,
        /// Show the state at this version
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
        at_version: Option<u64>,
    },
    /// Explain why a task waits, or how it was decided
    Explain {
        #[command(flatten)]
        task: TaskArg,
    },
    /// List the events of a task, oldest first
    History {
        #[command(flatten)]
        task: TaskArg,
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
        /// Only tasks with this status: running, paused, completed, failed,
        /// cancelled or archived
        #[arg(long, value_name = "STATUS", value_parser = status)]
        status: Option<TaskStatus>,
        /// Only tasks that wait in this step
        #[arg(long, value_name = "ID")]
        step: Option<Slug>,
        /// Only tasks with an open incident, or with one of that code, as handler_failed
        #[arg(long, value_name = "CODE", num_args = 0..=1, value_parser = incident_code)]
        #[expect(
            clippy::option_option,
            reason = "not given, given alone, or given with a code"
        )]
        incident: Option<Option<IncidentCode>>,
        /// Only tasks in which this person has claimed a slot
        #[arg(long, value_name = "USER")]
        held_by: Option<Uuid>,
        /// Those first that have been left alone longest; one page, so raise --limit for more
        #[arg(long, conflicts_with = "after")]
        oldest: bool,
        /// Only tasks with this label; may be repeated
        #[arg(long = "label", value_name = "KEY=VALUE", value_parser = pair)]
        labels: Vec<(String, String)>,
        /// Continue after this task
        #[arg(long, value_name = "TASK", value_parser = task_uuid)]
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
    /// Extend a claim of a user, and save a draft
    Activity {
        #[command(flatten)]
        target: Target,
        #[command(flatten)]
        step: Step,
        #[command(flatten)]
        user: UserArg,
        /// Unfinished work to keep, as JSON or @FILE
        #[arg(long, value_name = "JSON", value_parser = json_argument)]
        draft: Option<Value>,
    },
    /// Claim a slot of a task for a user
    Assign {
        #[command(flatten)]
        target: Target,
        #[command(flatten)]
        step: Step,
        #[command(flatten)]
        user: UserArg,
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
        #[command(flatten)]
        user: UserArg,
        /// Reason
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
    },
}

/// The task, and the id of the command.
#[derive(Clone, Debug, Args)]
pub struct Target {
    #[command(flatten)]
    task: TaskArg,
    /// Id of the command; repeating an id has no effect [default: a new UUID]
    #[arg(long, value_name = "UUID")]
    command_id: Option<Uuid>,
}

/// The step.
#[derive(Clone, Debug, Args)]
pub struct Step {
    /// Step; needed only where it is ambiguous
    #[arg(long, value_name = "ID")]
    step: Option<String>,
}

/// The task and the reason.
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

pub(super) async fn run(
    verb: TaskVerb,
    settings: &Settings,
    output: Output,
) -> Result<(), CliError> {
    match verb {
        TaskVerb::Migrate(args) => migration::run(args, settings, output).await,
        TaskVerb::Import(args) => import::run(*args, settings, output).await,
        TaskVerb::Id(args) => {
            keys::show(&args, output);
            Ok(())
        }
        TaskVerb::State { task, at_version } => {
            state(task.shown(output), at_version, settings, output).await
        }
        TaskVerb::Explain { task } => explain(task.shown(output), settings, output).await,
        TaskVerb::History { task, after, limit } => {
            history(task.shown(output), after, limit, settings, output).await
        }
        TaskVerb::List {
            workflow,
            status,
            step,
            incident,
            held_by,
            oldest,
            labels,
            after,
            limit,
        } => {
            let labels = labels.into_iter().collect();
            let after = after.map(TaskId);
            let filter = TaskFilter {
                workflow,
                status,
                or_archived: false,
                step,
                incidents: incident.is_some(),
                held_by: held_by.map(UserId),
                oldest_first: oldest,
                labels,
                after,
                limit,
            };
            list(filter, incident.flatten(), settings, output).await
        }
        verb => {
            let (command_type, target, body) = command_of(verb);
            let text = Value::Object(body.clone()).to_string();
            let task_id = target.task.shown(output);
            let request = CommandRequest {
                command_type,
                task_id,
                command_id: CommandId(target.command_id.unwrap_or_else(Uuid::now_v7)),
                correlation_id: None,
                traceparent: None,
                body: text.as_bytes(),
            };
            let command = read_request(&request)
                .map_err(|unreadable| CliError::Usage(unreadable.to_string()))?
                .envelope;
            let operation = operation_of(command_type);
            let call = Call::post(&[&"tasks", &task_id, &operation]).json(&body);
            show_outcome(carry_out(call, command, settings).await?, output)
        }
    }
}

/// The command of a verb that changes something: type, target, and the given fields.
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
                "user_id": user.id(),
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
        TaskVerb::Activity {
            target,
            step,
            user,
            draft,
        } => {
            set("step_id", step.step.into());
            set("user_id", json!(user.id()));
            set("draft", draft.into());
            ("activity", target)
        }
        TaskVerb::Assign {
            target,
            step,
            user,
            roles,
        } => {
            set("step_id", step.step.into());
            set("user_id", json!(user.id()));
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
            set("user_id", json!(user.id()));
            set("reason", reason.into());
            ("release", target)
        }
        TaskVerb::Migrate(_)
        | TaskVerb::Import(_)
        | TaskVerb::Id(_)
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

async fn state(
    task: TaskId,
    at_version: Option<u64>,
    settings: &Settings,
    output: Output,
) -> Result<(), CliError> {
    let deployment = Deployment::open(settings).await?;
    let call = Call::get(&[&"tasks", &task, &"state"]).query("at_version", at_version);
    let state: WorkflowSnapshot = deployment
        .ask(call, async |store| {
            let orchestrator = orchestrator(store, settings);
            let state = orchestrator.state_at(task.0, at_version).await?;
            Ok(state.into_snapshot())
        })
        .await?;
    let active = match at_version {
        None if !output.is_json() => pauses(&deployment).await?,
        // The current pause of the workflow says nothing about an earlier version.
        _ => Vec::new(),
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
        facts.row(["why", &summary_of(&state, active)]);
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
    let call = Call::get(&[&"tasks", &task, &"events"])
        .query("after", Some(after))
        .query("limit", Some(limit));
    let page: EventPage = ask(settings, call, async |store| {
        let page = history_page(&**store, task, after, limit).await?;
        if page.events.is_empty() && store.task(task).await?.is_none() {
            return Err(CliError::not_found("task", task));
        }
        Ok(page)
    })
    .await?;
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
    let archived = page.archived.map(|at| {
        let at = at.format("%F");
        format!("\nthe task was archived on {at}: versions that are not shown are in the archive")
    });
    let (more, archived) = (more.unwrap_or_default(), archived.unwrap_or_default());
    format!("{}{more}{archived}", table.render(0))
}

/// The content of an event, without the fields that other columns show.
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

async fn list(
    filter: TaskFilter,
    code: Option<IncidentCode>,
    settings: &Settings,
    output: Output,
) -> Result<(), CliError> {
    let mut call = Call::get(&[&"tasks"])
        .query("workflow", filter.workflow.as_ref())
        .query("status", filter.status)
        .query("step", filter.step.as_ref())
        .query("incidents", filter.incidents.then_some(true))
        .query("incident", code)
        .query("held_by", filter.held_by)
        .query("oldest", filter.oldest_first.then_some(true))
        .query("after", filter.after)
        .query("limit", Some(filter.limit));
    for (key, value) in &filter.labels {
        call = call.query(&format!("label.{key}"), Some(value));
    }
    let page: TaskPage = ask(settings, call, async |store| {
        Ok(match code {
            Some(code) => tasks_with(&**store, filter, code).await?,
            None => store.tasks(filter).await?,
        })
    })
    .await?;
    output.result(&page, || list_text(&page));
    Ok(())
}

fn list_text(page: &TaskPage) -> String {
    let more = page.more.then(|| match page.next_after {
        Some(task) => format!("\nmore: add --after {task}"),
        None => "\nmore: raise --limit".to_owned(),
    });
    if page.tasks.is_empty() {
        return format!("no such tasks{}", more.unwrap_or_default());
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
    format!("{}{}", table.render(0), more.unwrap_or_default())
}
