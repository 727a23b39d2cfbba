//! Steps.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    AnswerConfig, AssignmentConfig, Completion, CompletionType, ConfigDuration, ConsensusConfig,
    DisagreementStrategy, ExternalHandler, Hook, HookId, HookStage, Hooks, InternalHandler,
    LoadBalancing, OnUnsure, Performer, StepType, TieBreaker, TimeoutAction,
};
use crate::ids::{StepId, WorkflowId};

/// One step of a workflow.
///
/// One struct serves all types of step. A table in the validator lists the keys allowed for each
/// type, so that a misplaced key is reported as misplaced instead of unknown.
// The table is `StepSpec`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StepConfig {
    /// The name in transitions and commands.
    pub id: StepId,
    /// A name for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Instructions or purpose.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// What kind of work it is.
    #[serde(rename = "type")]
    pub kind: StepType,
    /// When the step is done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completion: Option<Completion>,
    /// What people are asked for: where the answer is, what it may be, what makes two alike.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<AnswerConfig>,
    /// How several annotations become one value (annotation steps).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consensus: Option<ConsensusConfig>,
    /// Who may do the step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub assignment: Option<AssignmentConfig>,
    /// Path in `annotation.data` of the answer; on a review or adjudication, that of the subject's
    /// step when left out. Short for `answer.field`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// Name of the handler (`auto_process`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handler: Option<String>,
    /// The handler's own settings (`auto_process`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<serde_json::Value>,
    /// The expression of a `conditional` step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub condition: Option<ExpressionConfig>,
    /// Where a `conditional` step goes when its expression is true (a step or terminal).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub true_branch: Option<super::Target>,
    /// Where a `conditional` step goes when its expression is false (a step or terminal).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub false_branch: Option<super::Target>,
    /// The workflow that a `sub_workflow` step runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workflow: Option<WorkflowId>,
    /// Input of the child: its key to an expression of the parent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input_mapping: Option<BTreeMap<String, String>>,
    /// Context of the parent: its key to a path in the child's output.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_mapping: Option<BTreeMap<String, String>>,
    /// Which incoming branches the step waits for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub join_mode: Option<JoinMode>,
    /// How many branches `n_of_m` waits for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 500))]
    pub join_count: Option<u32>,
    /// How long the join waits before it goes on with what has arrived.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub join_timeout: Option<ConfigDuration>,
    /// What happens to the task when this step fails; `settings.on_error` when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_error: Option<OnError>,
    /// Handlers called around the step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hooks: Option<Hooks>,
}

/// What happens to a task whose step fails.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnError {
    /// An incident stops the step until `retry`.
    #[default]
    Pause,
    /// The step is skipped and the task goes on.
    Skip,
    /// An incident stops the step until `retry`, and is marked so that operators are notified.
    Escalate,
}

/// An expression.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ExpressionConfig {
    /// Its source, in the Common Expression Language.
    pub expression: String,
}

/// Which incoming branches a step waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum JoinMode {
    /// Every branch.
    All,
    /// The first branch; the others are withdrawn.
    Any,
    /// `join_count` branches; the others are withdrawn.
    NOfM,
}

impl StepConfig {
    /// A step with nothing but its id and type.
    pub fn new(id: StepId, kind: StepType) -> Self {
        Self {
            id,
            name: None,
            description: None,
            kind,
            completion: None,
            answer: None,
            consensus: None,
            assignment: None,
            field: None,
            handler: None,
            config: None,
            condition: None,
            true_branch: None,
            false_branch: None,
            workflow: None,
            input_mapping: None,
            output_mapping: None,
            join_mode: None,
            join_count: None,
            join_timeout: None,
            on_error: None,
            hooks: None,
        }
    }

    /// How the step completes.
    pub fn completion_type(&self) -> CompletionType {
        let named = self.completion.as_ref().map(|completion| completion.kind);
        named.unwrap_or(self.kind.spec().default_completion)
    }

    /// Number of submissions that a new visit asks for; `None` where an `advance` decides. A step
    /// that completes by confidence starts with this number, then asks for more one at a time.
    pub fn slots(&self) -> Option<u32> {
        let completion = self.completion.as_ref();
        match self.completion_type() {
            CompletionType::AnnotationCount => Some(completion.and_then(|c| c.count).unwrap_or(1)),
            CompletionType::Confidence => Some(self.min_required()),
            CompletionType::ReviewDecision => Some(1),
            CompletionType::Auto | CompletionType::Manual => None,
        }
    }

    /// Submissions with which an `advance` (or the timeout action `proceed`) may close a visit.
    pub fn min_required(&self) -> u32 {
        let completion = self.completion.as_ref();
        match self.completion_type() {
            CompletionType::AnnotationCount => completion
                .and_then(|c| c.min_required.or(c.count))
                .unwrap_or(1),
            CompletionType::Confidence => completion.and_then(|c| c.min).unwrap_or(2),
            CompletionType::ReviewDecision => 1,
            CompletionType::Auto | CompletionType::Manual => 0,
        }
    }

    /// Most submissions that a visit asks for, if the step completes by confidence.
    pub fn most_submissions(&self) -> Option<u32> {
        let completion = self.completion.as_ref();
        (self.completion_type() == CompletionType::Confidence)
            .then(|| completion.and_then(|c| c.max).unwrap_or(10))
    }

    /// Probability of the best answer at which a step that completes by confidence stops asking.
    /// `answer`: the name of the best answer's class, which may have a target of its own.
    pub fn confidence_target(&self, answer: Option<&str>) -> f64 {
        let completion = self.completion.as_ref();
        let targets = completion.and_then(|c| c.targets.as_ref());
        let own = targets
            .zip(answer)
            .and_then(|(all, answer)| all.get(answer));
        own.copied().or_else(|| completion?.target).unwrap_or(0.95)
    }

    /// Whether every submission must come from a different person.
    pub fn unique_annotators(&self) -> bool {
        self.completion
            .as_ref()
            .and_then(|c| c.unique_annotators)
            .unwrap_or(true)
    }

    /// What happens to a claimed slot whose claimant is inactive.
    pub fn timeout_action(&self) -> TimeoutAction {
        self.completion
            .as_ref()
            .and_then(|c| c.timeout_action)
            .unwrap_or_default()
    }

    /// The external handler that does the step, if any. A program that registers its own handler
    /// under that name runs it inside the decision instead, and no external call is made.
    pub fn external_handler(&self) -> Option<ExternalHandler> {
        self.handler.as_deref().and_then(ExternalHandler::from_name)
    }

    /// Whether the step's handler is this one, or the program's replacement for it.
    pub fn calls(&self, handler: InternalHandler) -> bool {
        self.handler.as_deref() == Some(handler.as_str())
    }

    /// The hooks of a stage, in their order.
    pub fn hooks_at(&self, stage: HookStage) -> &[Hook] {
        self.hooks.as_ref().map_or(&[], |hooks| match stage {
            HookStage::PreProcess => &hooks.pre_process,
            HookStage::OnStart => &hooks.on_start,
            HookStage::PostProcess => &hooks.post_process,
            HookStage::OnComplete => &hooks.on_complete,
        })
    }

    /// One hook.
    pub fn hook(&self, id: HookId) -> Option<&Hook> {
        self.hooks_at(id.stage).get(usize::try_from(id.index).ok()?)
    }

    /// Roles, of which an annotator needs at least one.
    pub fn required_roles(&self) -> &[String] {
        self.assignment.as_ref().map_or(&[], |a| &a.required_roles)
    }

    /// Skills that an annotator must all have to be offered a slot.
    pub fn required_skills(&self) -> &[String] {
        self.assignment.as_ref().map_or(&[], |a| &a.required_skills)
    }

    /// Most slots that one person may have claimed at a time, over all tasks; at this number, none
    /// is offered here.
    pub fn max_concurrent(&self) -> Option<u32> {
        self.assignment.as_ref().and_then(|a| a.max_concurrent)
    }

    /// Which of the free slots is offered first; `round_robin` when left out.
    pub fn load_balancing(&self) -> LoadBalancing {
        self.assignment
            .as_ref()
            .and_then(|a| a.load_balancing)
            .unwrap_or_default()
    }

    /// How a step that completes by confidence ends below its target.
    pub fn on_unsure(&self) -> OnUnsure {
        let completion = self.completion.as_ref();
        completion.and_then(|c| c.on_unsure).unwrap_or_default()
    }

    /// Steps whose submitters are excluded from this one.
    pub fn not_who_did(&self) -> &[StepId] {
        self.assignment.as_ref().map_or(&[], |a| &a.not_who_did)
    }

    /// Steps whose annotations are shown to whoever claims this one.
    pub fn shows(&self) -> &[StepId] {
        self.assignment.as_ref().map_or(&[], |a| &a.show)
    }

    /// Whether a visit may ask more than one person.
    pub fn asks_several(&self) -> bool {
        let asks_on = self.consensus.as_ref().is_some_and(|consensus| {
            consensus.on_disagreement.strategy == DisagreementStrategy::AdditionalAnnotators
                || consensus.tie_breaker == TieBreaker::AdditionalAnnotator
        });
        let most = self.most_submissions().or_else(|| self.slots());
        self.kind.spec().performer == Performer::Annotators && (asks_on || most != Some(1))
    }

    /// Whether the authors of the subject are excluded from this step.
    pub fn prevents_reassignment(&self) -> bool {
        self.assignment
            .as_ref()
            .and_then(|a| a.prevent_reassignment)
            .unwrap_or(self.kind.spec().has_subject())
    }
}
