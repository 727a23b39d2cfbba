//! Routes.

use std::{any::Any, sync::Arc, time::Duration};

use axum::{
    Extension, Router,
    extract::{Request, State},
    http::{HeaderName, HeaderValue, Method, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
};
use glyph_workflow_engine::{
    command::{Activity, Advance, Assign, Control, Pause, Release, Start, Submission},
    goals::GoalStatement,
    ids::{StepId, TaskId, UserId, WorkflowId},
    state::{IncidentCode, TaskStatus},
    store::{EventPage, TaskPage},
};
use schemars::{json_schema, schema_for};
use serde_json::Value;
use tower_http::{catch_panic::CatchPanicLayer, cors::CorsLayer};

use super::{
    Api, Problem, REQUEST_TIMEOUT,
    access::Access,
    agreement, annotate, annotator_reports, annotators,
    annotators::AnnotatorOperatorResult,
    assignments,
    assignments::ClaimAnswer,
    backtests, commands,
    commands::{NextStep, WorkResult},
    console, feed, goals,
    goals::CompletionResult,
    health::{Liveness, ReadinessDocument, livez, readyz},
    incidents, jobs, labels, letters, log, migration,
    migration::{MigrateAnswer, MigrateBody},
    openapi,
    openapi::ApiDocument,
    operation::Operation,
    outbox, rejected,
    request::{IDEMPOTENCY_KEY, page_limit},
    schemas, session, status,
    status::StatusBoard,
    stuck,
    stuck::StuckBoard,
    tasks,
    tasks::{ExplainedTask, SeenState},
    trials, workflows,
    workflows::OperatorResult,
};
use crate::{
    operations::{
        agreement::AgreementList,
        annotators::AnnotatorList,
        answers::AnswersDocument,
        assignments::{AssignmentList, ReleasedSlots},
        goals::{GoalDocument, GoalList},
        migration::{MigrationPage, MigrationRequest},
        tasks::StateDocument,
        workflows::{FlowDocument, WorkflowDiff, WorkflowDocument, WorkflowList},
    },
    telemetry,
    wire::{ClaimBody, Links, ReasonBody, operator_commands::OperatorBody},
};

/// How long a browser remembers that a page of a listed origin may call.
const PREFLIGHT_VALID: Duration = Duration::from_mins(10);

/// The whole API: `/api/v1`, its document, metrics and health.
pub fn router(api: Api) -> Router {
    let operations = operations();
    let document = Arc::new(ApiDocument::of(&operations, &api.links));
    guarded(operations, console::files(), api)
        .layer(Extension(document))
        .layer(Extension(StatusBoard::default()))
        .layer(Extension(StuckBoard::default()))
}

/// The OpenAPI 3.1 document of the whole API.
pub fn openapi_document() -> Value {
    ApiDocument::of(&operations(), &Links::default()).json
}

/// Method and path of each operation, those included that the document leaves out.
pub fn operation_names() -> Vec<String> {
    let names = operations().into_iter();
    names
        .map(|one| format!("{} {}", one.method, one.path))
        .collect()
}

/// Metrics and health alone, for a separate listener that needs no token.
pub fn operations_router(api: Api) -> Router {
    let mut operations = health_operations();
    operations.push(metrics_operation().open());
    guarded(operations, Router::new(), api)
}

/// All operations. This list feeds both the router and the OpenAPI document, so the two cannot
/// differ; the tests check every response against the document.
fn operations() -> Vec<Operation> {
    let mut all = workflow_operations();
    all.extend(task_operations());
    all.extend(command_operations());
    let limit = page_limit();
    all.push(
        Operation::get("/api/v1/assignments", "list_assignments", assignments::list)
            .access(Access::ANYBODY)
            .summary("The slots that a person has claimed, in pages")
            .query(
                "user_id",
                "The person; may be left out with a token that belongs to a user.",
                schema_for!(UserId),
            )
            .query(
                "after",
                "The last task of the previous page.",
                schema_for!(TaskId),
            )
            .query("limit", "Tasks per page.", limit)
            .answers::<AssignmentList>(200, "The claimed slots, by task"),
    );
    all.push(
        Operation::command::<ClaimBody, _>(
            "/api/v1/assignments/next",
            "claim_next",
            assignments::next,
        )
        .summary("Claim the next task for a person; what the person holds comes first")
        .access(Access::WORK)
        .person_from_token()
        .answers::<ClaimAnswer>(200, "The claimed slot, with the data needed to begin")
        .answers_nothing(
            204,
            "No slot is open that the person may take. The header `x-glyph-reason` is \
             `annotator_paused` where the person is paused in a workflow that was asked for, \
             `workflow_paused` where that workflow is paused or archived, `not_qualified` where none of \
             its steps is for the person's roles and skills, and `max_concurrent` where the person has \
             claimed as many slots as a step allows; \
             `x-glyph-ignored` has the paths of the body that were ignored",
        ),
    );
    all.push(
        Operation::command::<ReasonBody, _>(
            "/api/v1/assignments/release",
            "release_assignments",
            assignments::release_all,
        )
        .summary("Release all slots that a person has claimed")
        .access(Access::WORK)
        .query(
            "user_id",
            "The person; may be left out with a token that belongs to a user.",
            schema_for!(UserId),
        )
        .answers::<ReleasedSlots>(200, "What was released"),
    );
    all.extend(annotator_operations());
    all.extend(annotator_reports::operations());
    all.extend(labels::operations());
    all.extend(backtests::operations());
    all.extend(trials::operations());
    all.extend(feed::operations());
    all.push(
        Operation::get("/api/v1/goals", "list_goals", goals::list)
            .summary("Progress of all goals")
            .answers::<GoalList>(200, "The goals"),
    );
    all.push(
        Operation::get(
            "/api/v1/goals/{workflow}/{goal}",
            "show_goal",
            goals::show,
        )
        .summary("One goal: progress, forecast and its basis, contributions by step, alerts, actions")
        .answers::<GoalDocument>(200, "The goal")
        .problems(&[404]),
    );
    all.push(
        Operation::command::<GoalStatement, _>(
            "/api/v1/goals/{workflow}/{goal}/complete",
            "complete_goal",
            goals::complete,
        )
        .summary("Complete a manual goal, or a composite goal that allows an override")
        .person_from_token()
        .answers::<CompletionResult>(200, "The recorded completion"),
    );
    all.push(
        Operation::get("/api/v1/agreement", "list_agreement", agreement::list)
            .summary("Agreement of annotators over the newest items of each step and field")
            .query(
                "workflow",
                "Only in this workflow.",
                schema_for!(WorkflowId),
            )
            .query("step", "Only of this step.", schema_for!(StepId))
            .query(
                "class",
                "Only questions with this answer, and of their classes only it: a text as it is, \
                 anything else as JSON.",
                json_schema!({"type": "string"}),
            )
            .answers::<AgreementList>(200, "The agreement"),
    );
    all.extend(schemas::operations());
    all.push(annotate::operation());
    all.extend(log::operations());
    all.extend(outbox::operations());
    all.extend(incidents::operations());
    all.extend(rejected::operations());
    all.extend(letters::operations());
    all.extend(jobs::operations());
    all.extend(status::operations());
    all.extend(stuck::operations());
    all.extend(session::operations());
    all.extend(health_operations());
    all.push(metrics_operation());
    all.push(
        Operation::get("/openapi.json", "show_openapi", openapi::openapi)
            .access(Access::ANYBODY)
            .summary("This document, OpenAPI 3.1")
            .answers::<Value>(200, "The document"),
    );
    all.push(
        Operation::get("/docs", "show_docs", openapi::docs)
            .access(Access::ANYBODY)
            .summary("This document as an HTML page")
            .answers_text("text/html", "The page"),
    );
    all
}

fn workflow_operations() -> Vec<Operation> {
    vec![
        Operation::get("/api/v1/workflows", "list_workflows", workflows::list)
            .summary("Every stored revision, except those of archived workflows")
            .query(
                "workflow",
                "Only revisions of this workflow, archived or not.",
                schema_for!(WorkflowId),
            )
            .query(
                "archived",
                "Include revisions of archived workflows.",
                json_schema!({"type": "boolean", "default": false}),
            )
            .answers::<WorkflowList>(200, "The revisions"),
        Operation::post("/api/v1/workflows", "create_workflow", workflows::create)
            .summary("Validate a workflow file and store it as a new, immutable revision")
            .reads_yaml("A workflow file, YAML by schemas/workflow.v1.json")
            .answers::<WorkflowDocument>(201, "A new revision")
            .answers::<WorkflowDocument>(200, "The newest revision, whose content is the same")
            .problems(&[422]),
        Operation::get("/api/v1/workflows/{id}", "show_workflow", workflows::show)
            .summary("One revision, with templates and library steps resolved")
            .answers::<WorkflowDocument>(200, "The revision")
            .problems(&[404]),
        Operation::get(
            "/api/v1/workflows/{id}/yaml",
            "show_workflow_file",
            workflows::yaml,
        )
        .summary(
            "One revision as a file, with templates and library steps written out; storing it again \
             gives the same revision, unless secrets are hidden from the caller",
        )
        .answers_yaml("The file")
        .problems(&[404]),
        Operation::get(
            "/api/v1/workflows/{id}/diff",
            "diff_workflows",
            workflows::diff,
        )
        .summary("How another revision differs from this one, value by value")
        .query(
            "to",
            "The other: workflow id, id@revision or revision UUID; required.",
            schema_for!(String),
        )
        .answers::<WorkflowDiff>(200, "What differs")
        .problems(&[404]),
        Operation::get("/api/v1/workflows/{id}/flow", "show_flow", workflows::flow)
            .summary("How many tasks of a workflow went from step to step in the last hour and day")
            .answers::<FlowDocument>(200, "The ways that were gone, over all revisions")
            .problems(&[404]),
        Operation::get(
            "/api/v1/workflows/{id}/answers",
            "show_answers",
            workflows::answers,
        )
        .access(Access::ANYBODY)
        .summary("What each step asks people for, as JSON Schemas of `annotation.data`")
        .answers::<AnswersDocument>(200, "The steps that people submit to")
        .problems(&[404]),
        Operation::get(
            "/api/v1/workflows/{id}/diagram",
            "show_diagram",
            workflows::diagram,
        )
        .summary("A drawing of one revision, as SVG")
        .answers_text("image/svg+xml", "The drawing")
        .problems(&[404]),
        Operation::command::<OperatorBody, _>(
            "/api/v1/workflows/{id}/pause",
            "pause_workflow",
            workflows::pause,
        )
        .summary("Pause all tasks of a workflow, in all its revisions")
        .answers::<OperatorResult>(200, "The pause of the workflow now, if any"),
        Operation::command::<OperatorBody, _>(
            "/api/v1/workflows/{id}/resume",
            "resume_workflow",
            workflows::resume,
        )
        .summary("Resume all tasks of a workflow")
        .answers::<OperatorResult>(200, "The pause of the workflow now, if any"),
        Operation::command::<ReasonBody, _>(
            "/api/v1/workflows/{id}/archive",
            "archive_workflow",
            workflows::archive,
        )
        .summary(
            "Archive a workflow: pause its tasks until it is restored, and leave it out of lists",
        )
        .answers::<OperatorResult>(200, "The pause of the workflow now, if any"),
        Operation::command::<ReasonBody, _>(
            "/api/v1/workflows/{id}/restore",
            "restore_workflow",
            workflows::restore,
        )
        .summary("Restore an archived workflow and resume its tasks")
        .answers::<OperatorResult>(200, "The pause of the workflow now, if any"),
        Operation::command::<MigrationRequest, _>(
            "/api/v1/workflows/{id}/migrate",
            "migrate_tasks",
            migration::migrate,
        )
        .summary("Migrate tasks to another revision, or report what would happen, in pages")
        .answers::<MigrationPage>(200, "What happened, or would happen, to each task"),
    ]
}

fn annotator_operations() -> Vec<Operation> {
    vec![
        Operation::get("/api/v1/annotators", "list_annotators", annotators::list)
            .summary("Accuracy of annotators on gold tasks and by question, and their pauses")
            .query(
                "workflow",
                "Only this workflow; with what the models of its questions know of each annotator, \
                 and of pairs who agree suspiciously.",
                schema_for!(WorkflowId),
            )
            .query("user_id", "Only this annotator.", schema_for!(UserId))
            .answers::<AnnotatorList>(200, "The annotators"),
        Operation::command::<ReasonBody, _>(
            "/api/v1/workflows/{id}/annotators/{user_id}/pause",
            "pause_annotator",
            annotators::pause,
        )
        .summary("Pause an annotator in a workflow: no more slots are offered")
        .answers::<AnnotatorOperatorResult>(200, "The pause of the annotator now, if any"),
        Operation::command::<ReasonBody, _>(
            "/api/v1/workflows/{id}/annotators/{user_id}/resume",
            "resume_annotator",
            annotators::resume,
        )
        .summary("Resume an annotator in a workflow; accuracy counts anew from now on")
        .answers::<AnnotatorOperatorResult>(200, "The pause of the annotator now, if any"),
    ]
}

fn task_operations() -> Vec<Operation> {
    vec![
        Operation::get("/api/v1/tasks", "list_tasks", tasks::list)
            .summary("Search tasks, in pages")
            .query("workflow", "In this workflow.", schema_for!(WorkflowId))
            .query("status", "With this status.", schema_for!(TaskStatus))
            .query("step", "Waiting in this step.", schema_for!(StepId))
            .query(
                "incidents",
                "Only those with an open incident.",
                json_schema!({"type": "boolean", "default": false}),
            )
            .query(
                "incident",
                "Only those with an open incident with this code.",
                schema_for!(IncidentCode),
            )
            .query(
                "held_by",
                "In which this person has claimed a slot.",
                schema_for!(UserId),
            )
            .query(
                "oldest",
                "Those first that have been left alone longest, on one page: without `after`.",
                json_schema!({"type": "boolean", "default": false}),
            )
            .query(
                "label.*",
                "With these labels, as `label.project=p1`.",
                schema_for!(String),
            )
            .query(
                "after",
                "The last task of the previous page.",
                schema_for!(TaskId),
            )
            .query("limit", "Tasks per page.", page_limit())
            .answers::<TaskPage>(200, "A page of tasks, by id unless `oldest` is set"),
        Operation::get(
            "/api/v1/tasks/{task_id}/state",
            "show_task_state",
            tasks::state,
        )
        .access(Access::ANYBODY)
        .summary("The state of a task, now or at an earlier version")
        .query(
            "at_version",
            "The state at this version.",
            json_schema!({"type": "integer", "minimum": 1}),
        )
        .answers::<SeenState>(
            200,
            "The state; its version is the `ETag`. An annotator gets the input, own work and what \
             that is about, without a version",
        )
        .answers_nothing(304, "The state still has the version of `If-None-Match`")
        .problems(&[404, 410, 422]),
        Operation::get(
            "/api/v1/tasks/{task_id}/events",
            "list_task_events",
            tasks::events,
        )
        .access(Access::ANYBODY)
        .summary("The history of a task, in pages; for an annotator what the annotator did, numbered anew")
        .query(
            "after",
            "The last version of the previous page.",
            json_schema!({"type": "integer", "minimum": 0}),
        )
        .query("limit", "Events per page.", page_limit())
        .answers::<EventPage>(200, "A page of events, oldest first")
        .problems(&[404]),
        Operation::get(
            "/api/v1/tasks/{task_id}/explain",
            "explain_task",
            tasks::explain,
        )
        .summary("Why a task waits, or how it was decided, and what an operator can do")
        .answers::<ExplainedTask>(200, "The explanation")
        .problems(&[404]),
    ]
}

fn command_operations() -> Vec<Operation> {
    let result = "The new state of the task";
    let operations = vec![
        Operation::command::<Start, _>(
            "/api/v1/tasks/{task_id}/start",
            "start_task",
            commands::start,
        )
        .summary("Start a task in a workflow")
        .access(Access::PRODUCE)
        .answers::<StateDocument<'_>>(201, "The state; its version is the `ETag`"),
        Operation::command::<Submission, _>(
            "/api/v1/tasks/{task_id}/submit",
            "submit_task",
            commands::submit,
        )
        .summary("Submit a person's work")
        .access(Access::WORK)
        .person_from_token()
        .answers::<WorkResult>(200, result),
        Operation::command::<Advance, _>(
            "/api/v1/tasks/{task_id}/advance",
            "advance_task",
            commands::advance,
        )
        .summary("End a step that waits for an external result, an operator or enough submissions")
        .access(Access::PRODUCE)
        .answers::<NextStep>(200, "Where the task goes next"),
        Operation::command::<Assign, _>(
            "/api/v1/tasks/{task_id}/assign",
            "assign_task",
            commands::assign,
        )
        .summary("Claim a slot for a person")
        .access(Access::WORK)
        .person_from_token()
        .answers::<WorkResult>(200, result),
        Operation::command::<Release, _>(
            "/api/v1/tasks/{task_id}/release",
            "release_task",
            commands::release,
        )
        .summary("Release a claimed slot")
        .access(Access::WORK)
        .person_from_token()
        .answers::<WorkResult>(200, result),
        Operation::command::<Activity, _>(
            "/api/v1/tasks/{task_id}/activity",
            "activity_task",
            commands::activity,
        )
        .summary("Extend a claim, and save a draft")
        .access(Access::WORK)
        .person_from_token()
        .answers::<WorkResult>(200, result),
        Operation::command::<Pause, _>(
            "/api/v1/tasks/{task_id}/pause",
            "pause_task",
            commands::pause,
        )
        .summary("Pause a task, or one of its steps")
        .answers::<WorkResult>(200, result),
        Operation::command::<Control, _>(
            "/api/v1/tasks/{task_id}/resume",
            "resume_task",
            commands::resume,
        )
        .summary("Resume a task, or one of its steps")
        .answers::<WorkResult>(200, result),
        Operation::command::<Control, _>(
            "/api/v1/tasks/{task_id}/cancel",
            "cancel_task",
            commands::cancel,
        )
        .summary("Cancel a task")
        .answers::<WorkResult>(200, result),
        Operation::command::<Control, _>(
            "/api/v1/tasks/{task_id}/retry",
            "retry_task",
            commands::retry,
        )
        .summary("Retry what failed and opened an incident")
        .answers::<WorkResult>(200, result),
        Operation::command::<MigrateBody, _>(
            "/api/v1/tasks/{task_id}/migrate",
            "migrate_task",
            migration::migrate_one,
        )
        .summary("Migrate a task to another revision, or report what would happen")
        .answers::<MigrateAnswer>(200, "The new state of the task, or what would happen to it"),
    ];
    let told = operations.into_iter().map(Operation::answers_outcome);
    told.collect()
}

fn health_operations() -> Vec<Operation> {
    vec![
        Operation::get("/livez", "show_liveness", livez)
            .open()
            .summary("Liveness of the process")
            .answers::<Liveness>(200, "The process is alive"),
        Operation::get("/readyz", "show_readiness", readyz)
            .open()
            .summary("Readiness of the process, with the parts that are missing")
            .answers::<ReadinessDocument>(200, "The process is ready")
            .answers::<ReadinessDocument>(503, "The process is not ready"),
    ]
}

fn metrics_operation() -> Operation {
    Operation::get("/metrics", "show_metrics", metrics)
        .summary("Metrics in the Prometheus text format")
        .answers_text("text/plain", "The metrics")
}

/// Adds what every route shares: problem documents for unknown paths and methods, panics and
/// timeouts.
fn guarded(operations: Vec<Operation>, files: Router<Api>, api: Api) -> Router {
    let cors = cors(&api.cors_origins);
    let routes = operations.into_iter().map(|o| o.into_route(&api));
    routes
        .fold(files, |router, (path, route)| router.route(path, route))
        .fallback(async || Problem::no_route())
        .method_not_allowed_fallback(async || Problem::no_method())
        .layer(middleware::from_fn(bounded))
        .layer(CatchPanicLayer::custom(panicked))
        .layer(cors)
        .with_state(api)
}

/// Lets pages of the listed origins call. For pages of others it answers nothing that would let a
/// browser send their requests or show them the answers.
fn cors(origins: &[HeaderValue]) -> CorsLayer {
    if origins.is_empty() {
        return CorsLayer::new();
    }
    let text = HeaderName::from_static;
    CorsLayer::new()
        .allow_origin(origins.to_vec())
        .allow_methods([Method::GET, Method::POST, Method::PUT])
        .allow_headers([
            header::AUTHORIZATION,
            header::CONTENT_TYPE,
            header::IF_NONE_MATCH,
            IDEMPOTENCY_KEY,
            text("traceparent"),
            text("x-correlation-id"),
        ])
        .expose_headers([
            header::ETAG,
            header::RETRY_AFTER,
            IDEMPOTENCY_KEY,
            text("x-glyph-ignored"),
            text("x-glyph-reason"),
        ])
        .max_age(PREFLIGHT_VALID)
}

async fn bounded(request: Request, next: Next) -> Response {
    let mut response = match tokio::time::timeout(REQUEST_TIMEOUT, next.run(request)).await {
        Ok(response) => response,
        Err(_) => Problem::timeout().into_response(),
    };
    // A browser shows an answer as the type that it has, and not as one that it guesses.
    let nosniff = HeaderValue::from_static("nosniff");
    let headers = response.headers_mut();
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, nosniff);
    response
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "the signature that the layer asks for"
)]
fn panicked(panic: Box<dyn Any + Send>) -> Response {
    let message = telemetry::panic_text(&*panic);
    tracing::error!(message, "a request panicked");
    Problem::internal().into_response()
}

async fn metrics(State(api): State<Api>) -> impl IntoResponse {
    (
        [(
            header::CONTENT_TYPE,
            "text/plain; version=0.0.4; charset=utf-8",
        )],
        (api.metrics)(),
    )
}
