//! Scripts: what people and machines do to one task, move by move.
//!
//! A script shows what a workflow does before people work with it. It is also a test: it can state
//! the expected outcome of each move and the expected end. It is plain data; a simulation plays it.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{ConfigDuration, Sampling};
use crate::ids::{StepId, WorkflowId};

/// A script for one task.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Script {
    /// What the script shows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Files of other workflows that this one runs as sub-workflows, relative to the script.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100))]
    pub workflows: Vec<String>,
    /// The time at which the task starts, RFC 3339; 2026-01-01 at midnight when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clock: Option<DateTime<Utc>>,
    /// The item to be labelled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input: Option<Value>,
    /// Key-value pairs for search.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// The known answer, which makes it a gold task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected: Option<Value>,
    /// The samples that the task belongs to; none when left out.
    #[serde(default, skip_serializing_if = "Sampling::is_default")]
    pub sampling: Sampling,
    /// The people by name, with their roles. If the list is present, every person in the script
    /// must be on it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub people: BTreeMap<String, Person>,
    /// Responses of external handlers, by the step that calls them (`step.pre_process` for a hook),
    /// one for each call; the last response is repeated for all further calls.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub handlers: BTreeMap<String, Vec<HandlerAnswer>>,
    /// The moves, in this order.
    #[schemars(length(max = crate::limits::SCRIPT_MOVES_MAX))]
    pub moves: Vec<Move>,
    /// The expected end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expect: Option<ExpectedEnd>,
}

/// A person who works on the task.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Person {
    /// The roles sent with every submission and claim.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub roles: Vec<String>,
    /// The skills named when the person asks for the next task.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub skills: Vec<String>,
}

/// The response of an external handler to one call: an output or an error.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HandlerAnswer {
    /// The output.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<Value>,
    /// Why the call failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Whether the failure is permanent, so that no attempt follows (with `error`); false when left
    /// out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub is_final: Option<bool>,
}

/// One move; it has exactly one of the keys from `submit` to `pass`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Move {
    /// A person submits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub submit: Option<SubmitMove>,
    /// A person claims a slot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub assign: Option<PersonMove>,
    /// A person asks for the next task, among the task of the script and its child tasks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<PersonMove>,
    /// A person releases a slot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release: Option<ReleaseMove>,
    /// A person reports activity.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub activity: Option<PersonMove>,
    /// Ends a step that waits for a machine, an operator or enough people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub advance: Option<AdvanceMove>,
    /// An operator pauses the task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pause: Option<PauseMove>,
    /// An operator resumes the task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resume: Option<ControlMove>,
    /// An operator ends the task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cancel: Option<ControlMove>,
    /// An operator retries what an incident has stopped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry: Option<ControlMove>,
    /// An operator moves the task to another revision of its workflow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub migrate: Option<MigrateMove>,
    /// An operator pauses a whole workflow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workflow_pause: Option<WorkflowPauseMove>,
    /// An operator resumes a whole workflow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workflow_resume: Option<WorkflowMove>,
    /// An operator archives a workflow: it is paused until it is restored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workflow_archive: Option<WorkflowMove>,
    /// An operator restores an archived workflow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workflow_restore: Option<WorkflowMove>,
    /// Time passes; timers that fall due in it fire.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pass: Option<ConfigDuration>,
    /// The `sub_workflow` step to whose child task the move applies; `outer/inner` for a child's
    /// child.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub within: Option<String>,
    /// The expected outcome; anything but a rejection when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expect: Option<ExpectedOutcome>,
    /// The step in which a slot must be offered (`next`); `outer/STEP` for a step of a child.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offered: Option<String>,
    /// The steps that must be active afterwards, in any order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub active: Option<Vec<String>>,
}

/// A submission.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SubmitMove {
    /// The step; may be left out where one active step takes submissions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<String>,
    /// The person, by name or UUID.
    pub by: String,
    /// The annotation's data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<Value>,
    /// A reviewer's decision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decision: Option<Decision>,
    /// How sure the person is, 0 to 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub confidence: Option<f64>,
}

/// What a reviewer can decide.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Decision {
    /// The subject is accepted.
    Approve,
    /// The subject is rejected.
    Reject,
    /// The subject needs more work.
    RequestChanges,
    /// The reviewer's own value, in `data`, replaces the subject.
    Fix,
}

impl Decision {
    /// Every decision.
    pub const ALL: [Self; 4] = [Self::Approve, Self::Reject, Self::RequestChanges, Self::Fix];

    /// The name in annotations.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Approve => "approve",
            Self::Reject => "reject",
            Self::RequestChanges => "request_changes",
            Self::Fix => "fix",
        }
    }
}

/// A claim, an activity report or a request for the next task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PersonMove {
    /// The step; may be left out where one active step takes submissions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<String>,
    /// The person, by name or UUID.
    pub by: String,
}

/// A release.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReleaseMove {
    /// The step; may be left out where one active step takes submissions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<String>,
    /// The person, by name or UUID.
    pub by: String,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// A migration.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MigrateMove {
    /// The file of the revision, relative to the script.
    pub to: String,
    /// Steps whose id changes: the old id to the new one.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub steps: BTreeMap<String, StepId>,
}

/// A pause of a whole workflow.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WorkflowPauseMove {
    /// The workflow; that of the task when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workflow: Option<WorkflowId>,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// After how long it ends by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lasting: Option<ConfigDuration>,
}

/// A resume, archiving or restoring of a whole workflow.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WorkflowMove {
    /// The workflow; that of the task when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workflow: Option<WorkflowId>,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// An `advance`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AdvanceMove {
    /// The step; may be left out where one active step can take it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<String>,
    /// The outcome of an external step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<Value>,
}

/// A pause.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PauseMove {
    /// The step; the whole task when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<String>,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// After how long it ends by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lasting: Option<ConfigDuration>,
}

/// A resume, cancel or retry.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ControlMove {
    /// The step; the whole task when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<String>,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// The expected outcome of a move.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ExpectedOutcome {
    /// The step goes on waiting.
    Waiting,
    /// The task went on.
    Advanced,
    /// The task has its output.
    Completed,
    /// The task ended without output.
    Failed,
    /// Refused, for whatever reason.
    Rejected,
    /// Refused: the person has submitted already.
    DuplicateAnnotator,
    /// Refused: no slot is free.
    Surplus,
    /// Refused: the task has ended.
    TaskFinished,
    /// Refused: the task is paused.
    TaskPaused,
    /// Refused: the step is not active.
    StepNotActive,
    /// Refused: the person lacks a role.
    RoleRequired,
    /// Refused: the person would review their own work.
    SelfReview,
    /// Refused: the annotation lacks what the step needs.
    InvalidAnnotation,
    /// Refused: nothing waits for this command; nobody is offered anything because no step waits for
    /// people.
    NotWaiting,
    /// Refused: the migration does not map a step at which the task stands.
    MigrationUnmapped,
    /// A slot is offered and claimed (`next`).
    Offered,
    /// Nothing is offered, for whatever reason (`next`).
    Nothing,
    /// Nothing is offered: the person lacks a skill.
    SkillRequired,
    /// Nothing is offered: the person lost a claim here to `reassign`.
    Reassigned,
    /// Nothing is offered: the person has claimed as many slots as the step allows.
    MaxConcurrent,
}

impl ExpectedOutcome {
    /// The name in YAML: of a process result, or the code of a rejection.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Advanced => "advanced",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Rejected => "rejected",
            Self::DuplicateAnnotator => "duplicate_annotator",
            Self::Surplus => "surplus",
            Self::TaskFinished => "task_finished",
            Self::TaskPaused => "task_paused",
            Self::StepNotActive => "step_not_active",
            Self::RoleRequired => "role_required",
            Self::SelfReview => "self_review",
            Self::InvalidAnnotation => "invalid_annotation",
            Self::NotWaiting => "not_waiting",
            Self::MigrationUnmapped => "migration_unmapped",
            Self::Offered => "offered",
            Self::Nothing => "nothing",
            Self::SkillRequired => "skill_required",
            Self::Reassigned => "reassigned",
            Self::MaxConcurrent => "max_concurrent",
        }
    }
}

/// The expected end of the task.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ExpectedEnd {
    /// Its status.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<ExpectedStatus>,
    /// Keys of its output and their values. Mappings are compared key by key and may have further
    /// keys; all else is compared exactly.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<Map<String, Value>>,
    /// Keys of its output and their whole values: a mapping has the keys written here and no others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exactly: Option<Map<String, Value>>,
    /// Codes of the task's open incidents, in any order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub incidents: Option<Vec<String>>,
}

/// The status of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ExpectedStatus {
    /// The task is working or waiting for people.
    Running,
    /// An operator or a rule has paused the task.
    Paused,
    /// The task has its output.
    Completed,
    /// The task ended without output.
    Failed,
    /// An operator cancelled the task.
    Cancelled,
}

impl ExpectedStatus {
    /// The name in YAML.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }
}

impl ExpectedEnd {
    /// The keys of a task's output.
    pub const OUTPUT_KEYS: [&'static str; 6] = [
        "result",
        "result_of",
        "agreement",
        "resolved_by",
        "steps",
        "context",
    ];

    /// The keys of a step's result, in `steps` of the output.
    pub const RESULT_KEYS: [&'static str; 11] = [
        "kind",
        "value",
        "agreement",
        "resolved_by",
        "decision",
        "annotations",
        "posterior",
        "agreed",
        "disputed",
        "reached",
        "audit",
    ];
}

impl Move {
    /// The keys of which a move has exactly one.
    pub const ACTIONS: [&'static str; 16] = [
        "submit",
        "assign",
        "next",
        "release",
        "activity",
        "advance",
        "pause",
        "resume",
        "cancel",
        "retry",
        "migrate",
        "workflow_pause",
        "workflow_resume",
        "workflow_archive",
        "workflow_restore",
        "pass",
    ];
}

impl Script {
    /// The files of the revisions to which moves migrate, each once, in the order of their moves.
    pub fn revisions(&self) -> Vec<&str> {
        let mut files: Vec<&str> = Vec::new();
        for migrate in self.moves.iter().filter_map(|one| one.migrate.as_ref()) {
            if !files.contains(&migrate.to.as_str()) {
                files.push(&migrate.to);
            }
        }
        files
    }
}
