//! Routes.

use std::{any::Any, sync::Arc};

use axum::{
    Extension, Router,
    extract::{Request, State},
    http::header,
    middleware::{self, Next},
    response::{IntoResponse, Response},
};
use glyph_workflow_engine::{
    command::{
        Activity, Advance, Assign, Claim, Control, Pause, ProcessResult, Release, Start, Submission,
    },
    goals::GoalStatement,
    ids::{StepId, TaskId, UserId, WorkflowId},
    limits::PAGE_MAX,
    state::TaskStatus,
    store::{EventPage, TaskPage},
};
use schemars::{json_schema, schema_for};
use serde_json::Value;
use tower_http::catch_panic::CatchPanicLayer;

use super::{
    Api, Problem, REQUEST_TIMEOUT, agreement,
    agreement::AgreementList,
    annotators,
    annotators::{AnnotatorList, AnnotatorOperatorResult},
    assignments, commands,
    commands::NextStep,
    goals,
    goals::{CompletionResult, GoalList},
    health::{Liveness, ReadinessDocument, livez, readyz},
    migration,
    migration::{MigrateAnswer, MigrateBody},
    openapi,
    openapi::ApiDocument,
    operation::Operation,
    request::PAGE_DEFAULT,
    tasks, workflows,
    workflows::{OperatorResult, WorkflowList},
};
use crate::{
    operations::{
        explain::Explanation,
        migration::{MigrationPage, MigrationRequest},
        tasks::StateDocument,
        workflows::WorkflowDocument,
    },
    settings::Role,
    telemetry,
    wire::{ClaimBody, ReasonBody, operator_commands::OperatorBody},
};

/// The whole API: `/api/v1`, its document, metrics and health.
pub fn router(api: Api) -> Router {
    let operations = operations();
    let document = Arc::new(ApiDocument::of(&operations));
    guarded(operations, api).layer(Extension(document))
}

/// The OpenAPI 3.1 document of the whole API.
pub fn openapi_document() -> Value {
    ApiDocument::of(&operations()).json
}

/// Metrics and health alone, for a listener of their own that needs no token.
pub fn operations_router(api: Api) -> Router {
    let mut operations = health_operations();
    operations.push(metrics_operation().open());
    guarded(operations, api)
}

/// Everything that is served. An operation is in the router and in the OpenAPI document by
/// standing here, so the two cannot differ; every answer of the tests is held against the document.
fn operations() -> Vec<Operation> {
    let mut all = workflow_operations();
    all.extend(task_operations());
    all.extend(command_operations());
    all.push(
        Operation::command::<ClaimBody, _>(
            "/api/v1/assignments/next",
            "claim_next",
            assignments::next,
        )
        .summary("Claim the next task for a person")
        .role(Role::Producer)
        .person_from_token()
        .answers::<Claim>(200, "The claimed slot, with what is needed to begin")
        .answers_nothing(
            204,
            "Nothing is free that the person may take; the header `x-glyph-reason` is \
             `annotator_paused` where the person is paused in a workflow that was asked for",
        ),
    );
    all.extend(annotator_operations());
    all.push(
        Operation::get("/api/v1/goals", "list_goals", goals::list)
            .summary("Progress of all goals")
            .answers::<GoalList>(200, "The goals"),
    );
    all.push(
        Operation::command::<GoalStatement, _>(
            "/api/v1/goals/{workflow}/{goal}/complete",
            "complete_goal",
            goals::complete,
        )
        .summary("Complete a manual goal, or a composite one that may be overridden")
        .person_from_token()
        .answers::<CompletionResult>(200, "What was recorded"),
    );
    all.push(
        Operation::get("/api/v1/agreement", "list_agreement", agreement::list)
            .summary("Agreement of annotators over the newest items of each step and field")
            .answers::<AgreementList>(200, "The agreement"),
    );
    all.extend(health_operations());
    all.push(metrics_operation());
    all.push(
        Operation::get("/openapi.json", "show_openapi", openapi::openapi)
            .summary("This document, OpenAPI 3.1")
            .answers::<Value>(200, "The document"),
    );
    all.push(
        Operation::get("/docs", "show_docs", openapi::docs)
            .summary("This document as a page to read")
            .answers_text("text/html", "The page"),
    );
    all
}

fn workflow_operations() -> Vec<Operation> {
    vec![
        Operation::get("/api/v1/workflows", "list_workflows", workflows::list)
            .summary("Every stored revision, but for those of archived workflows")
            .query(
                "workflow",
                "Only the revisions of this one, archived or not.",
                schema_for!(WorkflowId),
            )
            .query(
                "archived",
                "Also those of archived workflows.",
                json_schema!({"type": "boolean", "default": false}),
            )
            .answers::<WorkflowList>(200, "The revisions"),
        Operation::post("/api/v1/workflows", "create_workflow", workflows::create)
            .summary("Check a workflow file and store it as a new, immutable revision")
            .reads_yaml("A workflow file, YAML by schemas/workflow.v1.json")
            .answers::<WorkflowDocument>(201, "A new revision")
            .answers::<WorkflowDocument>(200, "The newest revision, whose content is the same")
            .problems(&[422]),
        Operation::get("/api/v1/workflows/{id}", "show_workflow", workflows::show)
            .summary("One revision, with templates and library steps resolved")
            .answers::<WorkflowDocument>(200, "The revision")
            .problems(&[404]),
        Operation::command::<OperatorBody, _>(
            "/api/v1/workflows/{id}/pause",
            "pause_workflow",
            workflows::pause,
        )
        .summary("IntakePause all tasks of a workflow, in all its revisions")
        .answers::<OperatorResult>(200, "What holds the workflow now"),
        Operation::command::<OperatorBody, _>(
            "/api/v1/workflows/{id}/resume",
            "resume_workflow",
            workflows::resume,
        )
        .summary("Let all tasks of a workflow go on")
        .answers::<OperatorResult>(200, "What holds the workflow now"),
        Operation::command::<ReasonBody, _>(
            "/api/v1/workflows/{id}/archive",
            "archive_workflow",
            workflows::archive,
        )
        .summary(
            "IntakePause all tasks of a workflow until it is restored, and leave it out of lists",
        )
        .answers::<OperatorResult>(200, "What holds the workflow now"),
        Operation::command::<ReasonBody, _>(
            "/api/v1/workflows/{id}/restore",
            "restore_workflow",
            workflows::restore,
        )
        .summary("Take a workflow out of the archive: its tasks go on")
        .answers::<OperatorResult>(200, "What holds the workflow now"),
        Operation::command::<MigrationRequest, _>(
            "/api/v1/workflows/{id}/migrate",
            "migrate_tasks",
            migration::migrate,
        )
        .summary("Move tasks to another revision, or say what would become of them, in pages")
        .answers::<MigrationPage>(200, "What has become of the tasks of the page"),
    ]
}

fn annotator_operations() -> Vec<Operation> {
    vec![
        Operation::get("/api/v1/annotators", "list_annotators", annotators::list)
            .summary("How annotators stand: answers to gold tasks, and who is paused")
            .query("workflow", "Only in this one.", schema_for!(WorkflowId))
            .query("user_id", "Only this person.", schema_for!(UserId))
            .answers::<AnnotatorList>(200, "The annotators"),
        Operation::command::<ReasonBody, _>(
            "/api/v1/workflows/{id}/annotators/{user_id}/pause",
            "pause_annotator",
            annotators::pause,
        )
        .summary("Offer an annotator no more slots in a workflow")
        .answers::<AnnotatorOperatorResult>(200, "Where the annotator stands now"),
        Operation::command::<ReasonBody, _>(
            "/api/v1/workflows/{id}/annotators/{user_id}/resume",
            "resume_annotator",
            annotators::resume,
        )
        .summary("Offer slots to an annotator again, who is judged anew from now on")
        .answers::<AnnotatorOperatorResult>(200, "Where the annotator stands now"),
    ]
}

fn task_operations() -> Vec<Operation> {
    let limit = || json_schema!({"type": "integer", "minimum": 1, "maximum": PAGE_MAX, "default": PAGE_DEFAULT});
    vec![
        Operation::get("/api/v1/tasks", "list_tasks", tasks::list)
            .summary("Search tasks, in pages")
            .query("workflow", "In this workflow.", schema_for!(WorkflowId))
            .query("status", "With this status.", schema_for!(TaskStatus))
            .query("step", "Waiting in this step.", schema_for!(StepId))
            .query(
                "label.*",
                "With these labels, as `label.project=p1`.",
                schema_for!(String),
            )
            .query(
                "after",
                "The last task of the page before.",
                schema_for!(TaskId),
            )
            .query("limit", "Tasks of a page.", limit())
            .answers::<TaskPage>(200, "A page of tasks, by id"),
        Operation::get(
            "/api/v1/tasks/{task_id}/state",
            "show_task_state",
            tasks::state,
        )
        .summary("The state of a task, rebuilt from its events, now or as it was")
        .query(
            "at_version",
            "As it was at this version.",
            json_schema!({"type": "integer", "minimum": 1}),
        )
        .answers::<StateDocument<'_>>(200, "The state; its version is the `ETag`")
        .answers_nothing(304, "It is still the one of `If-None-Match`")
        .problems(&[404]),
        Operation::get(
            "/api/v1/tasks/{task_id}/events",
            "list_task_events",
            tasks::events,
        )
        .summary("The history of a task, in pages")
        .query(
            "after",
            "The last version of the page before.",
            json_schema!({"type": "integer", "minimum": 0}),
        )
        .query("limit", "Events of a page.", limit())
        .answers::<EventPage>(200, "A page of events, oldest first")
        .problems(&[404]),
        Operation::get(
            "/api/v1/tasks/{task_id}/explain",
            "explain_task",
            tasks::explain,
        )
        .summary("Why a task waits, or why it was decided so")
        .answers::<Explanation>(200, "The explanation")
        .problems(&[404]),
    ]
}

fn command_operations() -> Vec<Operation> {
    let result = "Where the task stands now";
    vec![
        Operation::command::<Start, _>(
            "/api/v1/tasks/{task_id}/start",
            "start_task",
            commands::start,
        )
        .summary("Bind a task to a workflow and enter it")
        .role(Role::Producer)
        .answers::<StateDocument<'_>>(201, "The state; its version is the `ETag`"),
        Operation::command::<Submission, _>(
            "/api/v1/tasks/{task_id}/submit",
            "submit_task",
            commands::submit,
        )
        .summary("Hand in a person's work")
        .role(Role::Producer)
        .person_from_token()
        .answers::<ProcessResult>(200, result),
        Operation::command::<Advance, _>(
            "/api/v1/tasks/{task_id}/advance",
            "advance_task",
            commands::advance,
        )
        .summary("End a step that waits for a machine, an operator or enough people")
        .role(Role::Producer)
        .answers::<NextStep>(200, "Where the task goes from here"),
        Operation::command::<Assign, _>(
            "/api/v1/tasks/{task_id}/assign",
            "assign_task",
            commands::assign,
        )
        .summary("Claim a slot for a person")
        .role(Role::Producer)
        .person_from_token()
        .answers::<ProcessResult>(200, result),
        Operation::command::<Release, _>(
            "/api/v1/tasks/{task_id}/release",
            "release_task",
            commands::release,
        )
        .summary("Give a slot back")
        .role(Role::Producer)
        .person_from_token()
        .answers::<ProcessResult>(200, result),
        Operation::command::<Activity, _>(
            "/api/v1/tasks/{task_id}/activity",
            "activity_task",
            commands::activity,
        )
        .summary("Keep a slot, and a draft")
        .role(Role::Producer)
        .person_from_token()
        .answers::<ProcessResult>(200, result),
        Operation::command::<Pause, _>(
            "/api/v1/tasks/{task_id}/pause",
            "pause_task",
            commands::pause,
        )
        .summary("IntakePause a task")
        .answers::<ProcessResult>(200, result),
        Operation::command::<Control, _>(
            "/api/v1/tasks/{task_id}/resume",
            "resume_task",
            commands::resume,
        )
        .summary("Let a held task go on")
        .answers::<ProcessResult>(200, result),
        Operation::command::<Control, _>(
            "/api/v1/tasks/{task_id}/cancel",
            "cancel_task",
            commands::cancel,
        )
        .summary("End a task without a result")
        .answers::<ProcessResult>(200, result),
        Operation::command::<Control, _>(
            "/api/v1/tasks/{task_id}/retry",
            "retry_task",
            commands::retry,
        )
        .summary("Try again what an incident holds")
        .answers::<ProcessResult>(200, result),
        Operation::command::<MigrateBody, _>(
            "/api/v1/tasks/{task_id}/migrate",
            "migrate_task",
            migration::migrate_one,
        )
        .summary("Move a task to another revision, or say what would become of it")
        .answers::<MigrateAnswer>(200, "Where the task stands now, or what would become of it"),
    ]
}

fn health_operations() -> Vec<Operation> {
    vec![
        Operation::get("/livez", "show_liveness", livez)
            .open()
            .summary("Whether the process lives")
            .answers::<Liveness>(200, "It does"),
        Operation::get("/readyz", "show_readiness", readyz)
            .open()
            .summary("Whether the process can work, and what is missing")
            .answers::<ReadinessDocument>(200, "It can")
            .answers::<ReadinessDocument>(503, "It cannot"),
    ]
}

fn metrics_operation() -> Operation {
    Operation::get("/metrics", "show_metrics", metrics)
        .summary("Metrics in the Prometheus text format")
        .answers_text("text/plain", "The metrics")
}

/// What holds on every route: unknown paths and methods, panics and slowness have documents too.
fn guarded(operations: Vec<Operation>, api: Api) -> Router {
    let routes = operations.into_iter().map(|o| o.into_route(&api.tokens));
    routes
        .fold(Router::new(), |router, (path, route)| {
            router.route(path, route)
        })
        .fallback(async || Problem::no_route())
        .method_not_allowed_fallback(async || Problem::no_method())
        .layer(middleware::from_fn(bounded))
        .layer(CatchPanicLayer::custom(panicked))
        .with_state(api)
}

async fn bounded(request: Request, next: Next) -> Response {
    match tokio::time::timeout(REQUEST_TIMEOUT, next.run(request)).await {
        Ok(response) => response,
        Err(_) => Problem::timeout().into_response(),
    }
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
