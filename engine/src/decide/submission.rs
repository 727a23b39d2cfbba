//! Submissions: a person's work.

use std::{borrow::Cow, sync::Arc};

use uuid::Uuid;

use super::{builder::DecisionBuilder, decision::Refusal, start};
use crate::{
    assignment::{Eligibility, check_roles, reviews_own_work, submitted},
    command::{AnnotationInput, RejectionCode, Submission},
    config::{CompletionType, EndsWith, HookStage, Performer, StepConfig},
    events::WorkflowEvent,
    executor::{
        Selection, admit, annotators::ModelKey, check_readable, corrected, decision_of, selection,
    },
    ids::StepId,
    state::{AnnotationData, ReviewDecision, Visit, VisitStatus},
};

pub(super) fn submit(
    builder: &mut DecisionBuilder<'_>,
    command: &Submission,
) -> Result<(), Refusal> {
    if !builder.is_started() {
        // A rejected submission starts nothing: `decide` then drops the events emitted so far.
        if command.workflow.is_none() {
            return Err(Refusal::TaskNotFound);
        }
        start::start_by_submission(builder)?;
    }
    let open = |step: &StepConfig| builder.is_open_to_people(step);
    let step = builder
        .target_step(command.step_id.as_deref(), open)?
        .clone();
    let annotation = annotation(builder, &command.annotation);
    require_acceptable(builder, &step, &annotation)?;
    start::require_same_workflow(builder, command.workflow.as_ref())?;
    let visit = builder.visit(&step.id).number;
    builder.subject = Some(step.id.clone());
    let annotation = Arc::new(annotation);
    builder.emit(WorkflowEvent::AnnotationSubmitted {
        step_id: step.id.clone(),
        visit,
        annotation: Arc::clone(&annotation),
    });
    builder.score(&step.id, visit, &annotation);
    builder.go_on(&step, None);
    Ok(())
}

fn annotation(builder: &DecisionBuilder<'_>, input: &AnnotationInput) -> AnnotationData {
    AnnotationData {
        annotation_id: input
            .annotation_id
            .unwrap_or_else(|| Uuid::new_v5(&builder.command_id().0, b"annotation")),
        user_id: input.user_id,
        data: input.data.clone(),
        decision: input.decision.clone(),
        submitted_at: input.submitted_at,
        roles: input.roles.clone().unwrap_or_default(),
        confidence: input.confidence,
    }
}

/// Checks the rules in the order of [`RejectionCode`]; the first that applies is returned.
fn require_acceptable(
    builder: &DecisionBuilder<'_>,
    step: &StepConfig,
    annotation: &AnnotationData,
) -> Result<(), Refusal> {
    let state = builder.current();
    let visit = state.current_visit(&step.id);
    if let Some(visit) = visit {
        refuse_duplicate(step, visit, annotation)?;
        refuse_surplus(step, visit, annotation)?;
    }
    builder.require_running()?;
    builder.require_step_running(&step.id)?;
    let visit = require_open(&step.id, visit)?;
    if !step.kind.takes_submissions() {
        return Err(Refusal::rejected(
            RejectionCode::StepNotActive,
            format!(
                "step `{}` is of type {}: it takes no submissions",
                step.id,
                step.kind.as_str()
            ),
        ));
    }
    if !check_roles(step, &annotation.roles) {
        return Err(role_required(step));
    }
    if reviews_own_work(state, step, visit, annotation.user_id) {
        return Err(self_review(step, visit));
    }
    require_valid(builder, step, visit, annotation)
}

fn refuse_duplicate(
    step: &StepConfig,
    visit: &Visit,
    annotation: &AnnotationData,
) -> Result<(), Refusal> {
    if !submitted(
        step,
        visit,
        annotation.user_id,
        Some(annotation.annotation_id),
    ) {
        return Ok(());
    }
    let who = if step.unique_annotators() {
        format!("annotator {}", annotation.user_id)
    } else {
        format!("annotation {}", annotation.annotation_id)
    };
    Err(Refusal::rejected(
        RejectionCode::DuplicateAnnotator,
        format!(
            "{who} is already in visit {} of step `{}`",
            visit.number, step.id
        ),
    ))
}

/// Refuses submissions to a visit that its count has closed, and those that find every slot taken.
fn refuse_surplus(
    step: &StepConfig,
    visit: &Visit,
    annotation: &AnnotationData,
) -> Result<(), Refusal> {
    let slots = visit.slots.unwrap_or(u32::MAX);
    let closed = visit.status == VisitStatus::Completed || visit.found.is_some();
    let closed_by_count = closed && visit.free_slots() == Some(0);
    let full = visit.status == VisitStatus::Active
        && step.kind.takes_submissions()
        && Eligibility::to_submit(step, visit, annotation.user_id) == Eligibility::Full;
    if !closed_by_count && !full {
        return Ok(());
    }
    let taken = format!(
        "{} submitted, {} claimed",
        visit.annotations.len(),
        visit.assignments.len()
    );
    Err(Refusal::rejected(
        RejectionCode::Surplus,
        format!(
            "every slot of visit {} of step `{}` is taken: {taken} of {slots}",
            visit.number, step.id
        ),
    ))
}

pub(super) fn require_active<'v>(
    step: &StepId,
    visit: Option<&'v Visit>,
) -> Result<&'v Visit, Refusal> {
    visit
        .filter(|visit| visit.status == VisitStatus::Active)
        .ok_or_else(|| {
            Refusal::rejected(
                RejectionCode::StepNotActive,
                match visit {
                    Some(visit) => {
                        format!("visit {} of step `{step}` is over", visit.number)
                    }
                    None => format!("step `{step}` has not been reached"),
                },
            )
        })
}

impl DecisionBuilder<'_> {
    /// Whether people can work on the step now.
    pub(super) fn is_open_to_people(&self, step: &StepConfig) -> bool {
        let visit = self.current().current_visit(&step.id);
        step.kind.takes_submissions() && visit.is_some_and(Visit::is_open)
    }
}

/// The visit, if people may work on it now.
pub(super) fn require_open<'v>(
    step: &StepId,
    visit: Option<&'v Visit>,
) -> Result<&'v Visit, Refusal> {
    let visit = require_active(step, visit)?;
    match visit.current_hook() {
        None => Ok(visit),
        Some(hook) => Err(Refusal::rejected(
            RejectionCode::StepNotActive,
            match hook.stage {
                HookStage::PreProcess => {
                    format!("step `{step}` is not open yet: its hook `{hook}` is at work")
                }
                HookStage::OnStart | HookStage::PostProcess | HookStage::OnComplete => {
                    format!("the work on step `{step}` is done: its hook `{hook}` is at work")
                }
            },
        )),
    }
}

pub(super) fn role_required(step: &StepConfig) -> Refusal {
    Refusal::rejected(
        RejectionCode::RoleRequired,
        format!(
            "step `{}` asks for one of the roles {}",
            step.id,
            step.required_roles().join(", ")
        ),
    )
}

pub(super) fn self_review(step: &StepConfig, visit: &Visit) -> Refusal {
    let judged = visit
        .reviewed
        .as_ref()
        .map_or("", |judged| judged.step_id.as_str());
    Refusal::rejected(
        RejectionCode::SelfReview,
        format!(
            "who has submitted to step `{judged}` cannot do step `{}`, which judges it",
            step.id
        ),
    )
}

/// Checks that the annotation has the content that the step uses.
fn require_valid(
    builder: &DecisionBuilder<'_>,
    step: &StepConfig,
    visit: &Visit,
    annotation: &AnnotationData,
) -> Result<(), Refusal> {
    let invalid = |detail: String| Err(Refusal::rejected(RejectionCode::InvalidAnnotation, detail));
    let selection = selection(builder.config(), step, visit);
    let needs_value = match step.kind.spec().ends_with {
        EndsWith::Decision => match decision_of(annotation) {
            None => {
                let known = ReviewDecision::ALL.map(ReviewDecision::as_str).join(", ");
                return invalid(format!(
                    "a review needs a `decision` (in the annotation or its data): one of {known}"
                ));
            }
            Some(decision) => decision == ReviewDecision::Fix,
        },
        EndsWith::Annotations => selection != Selection::All,
        EndsWith::Value => true,
        EndsWith::ValueOrNone | EndsWith::Verdict => false,
    };
    let given = if step.kind.spec().ends_with == EndsWith::Decision {
        corrected(annotation)
    } else {
        Cow::Borrowed(&annotation.data)
    };
    let asks_posterior = step.completion_type() == CompletionType::Confidence;
    if (needs_value || asks_posterior)
        && let Err(error) = selection.check(&given)
    {
        return invalid(format!(
            "{error}, which step `{}` takes as its value",
            step.id
        ));
    }
    if step.kind.spec().performer == Performer::Annotators
        && !asks_posterior
        && let Some(consensus) = &step.consensus
        && let Err(error) = check_readable(consensus, &annotation.data)
    {
        return invalid(format!("{error} (step `{}` compares annotations)", step.id));
    }
    let Some(key) = ModelKey::of_confidence(&builder.config().id, step) else {
        return Ok(());
    };
    let label = (annotation.user_id, &annotation.data);
    admit(&key, builder.annotators, (builder.task_id(), visit), label).or_else(|detail| {
        invalid(format!(
            "{detail} (step `{}` completes by confidence)",
            step.id
        ))
    })
}
