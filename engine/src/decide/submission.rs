//! Submissions: a person's work.

use std::{borrow::Cow, sync::Arc};

use serde_json::Value;
use uuid::Uuid;

use super::{
    builder::DecisionBuilder,
    decision::Refusal,
    inactivity::{closes_at, refuse_excluded},
    start,
};
use crate::{
    assignment::{Eligibility, check_roles, check_skills, reviews_own_work, submitted},
    command::{AnnotationInput, Authority, RejectionCode, Submission},
    config::{CompletionType, EndsWith, HookStage, StepConfig},
    events::WorkflowEvent,
    executor::{admit, annotators::ModelKey, corrected, subject_value},
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
    let step = builder.target_step(command.step_id.as_deref(), open)?;
    let annotation = annotation(builder, step, &command.annotation);
    require_acceptable(builder, step, &annotation)?;
    start::require_same_workflow(builder, command.workflow.as_ref())?;
    let visit = builder.visit(&step.id).number;
    builder.subject = Some(step.id.clone());
    let annotation = Arc::new(annotation);
    builder.emit(WorkflowEvent::AnnotationSubmitted {
        step_id: step.id.clone(),
        visit,
        annotation: Arc::clone(&annotation),
        closes_at: closes_at(builder, step),
    });
    builder.score(&step.id, visit, &annotation);
    builder.go_on(step, None);
    Ok(())
}

fn annotation(
    builder: &DecisionBuilder<'_>,
    step: &StepConfig,
    input: &AnnotationInput,
) -> AnnotationData {
    let roles = input.roles.clone().unwrap_or_default();
    let answers = step.kind.spec().ends_with == EndsWith::Annotations;
    let reliability = Some(&builder.config().reliability).filter(|_| answers);
    let group = reliability.and_then(|config| config.group_of(input.user_id, &roles));
    AnnotationData {
        annotation_id: input
            .annotation_id
            .unwrap_or_else(|| Uuid::new_v5(&builder.command_id().0, b"annotation")),
        user_id: input.user_id,
        data: input.data.clone(),
        decision: input.decision.clone(),
        submitted_at: input.submitted_at,
        group: group.map(str::to_owned),
        roles,
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
        refuse_excluded(step, visit, annotation.user_id)?;
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
    require_skills(builder, step)?;
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

/// Refuses a person whose skills are known and are not all that the step asks for.
pub(super) fn require_skills(
    builder: &DecisionBuilder<'_>,
    step: &StepConfig,
) -> Result<(), Refusal> {
    let Authority::Annotator { skills } = &builder.authority else {
        return Ok(());
    };
    if check_skills(step, skills) {
        return Ok(());
    }
    Err(Refusal::rejected(
        RejectionCode::RoleRequired,
        format!(
            "step `{}` asks for the skills {}",
            step.id,
            step.required_skills().join(", ")
        ),
    ))
}

pub(super) fn self_review(step: &StepConfig, visit: &Visit) -> Refusal {
    let about = visit
        .reviewed
        .as_ref()
        .map_or_else(String::new, |about| format!(" on step `{}`", about.step_id));
    Refusal::rejected(
        RejectionCode::SelfReview,
        format!(
            "step `{}` is closed to the authors of what it is about, and to those who did the steps \
             that it excludes: this person has worked{about}",
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
    let spec = step.kind.spec();
    let given = if spec.ends_with == EndsWith::Decision {
        corrected(annotation)
    } else {
        Cow::Borrowed(&annotation.data)
    };
    let asks_answer = match spec.ends_with {
        EndsWith::Decision => require_decision(builder, visit, annotation)? == ReviewDecision::Fix,
        // A step that says nothing about its answers takes anything.
        EndsWith::Annotations => {
            step.answer.is_some()
                || step.field.is_some()
                || step.consensus.is_some()
                || step.completion_type() == CompletionType::Confidence
        }
        EndsWith::Value => true,
        EndsWith::ValueOrNone | EndsWith::Verdict => false,
    };
    if !asks_answer {
        return Ok(());
    }
    let question = builder.asked(step, visit);
    let input = builder.current().input.as_ref().unwrap_or(&Value::Null);
    let answer = question.read(&given, input).map_err(|error| {
        let asked = question.kind().as_str();
        invalid(format!(
            "{error} (step `{}` asks for an answer of kind `{asked}`)",
            step.id
        ))
    })?;
    let workflow = &builder.config().id;
    let Some(key) = ModelKey::of_confidence(workflow, step, &question) else {
        return Ok(());
    };
    let item = (builder.task_id(), visit, input);
    let label = (annotation, &answer);
    admit((&question, &key), builder.annotators, item, label).map_err(|detail| {
        invalid(format!(
            "{detail} (step `{}` completes by confidence)",
            step.id
        ))
    })
}

/// The decision of a review; it needs one, and something to approve.
fn require_decision(
    builder: &DecisionBuilder<'_>,
    visit: &Visit,
    annotation: &AnnotationData,
) -> Result<ReviewDecision, Refusal> {
    let Some(decision) = annotation.review_decision() else {
        let known = ReviewDecision::ALL.map(ReviewDecision::as_str).join(", ");
        return Err(invalid(format!(
            "a review needs a `decision` (in the annotation or its data): one of {known}"
        )));
    };
    if decision == ReviewDecision::Approve && subject_value(builder.current(), visit).is_none() {
        return Err(invalid(
            "there is no value to approve: `fix` gives one, `reject` and `request_changes` do \
             without"
                .to_owned(),
        ));
    }
    Ok(decision)
}

fn invalid(detail: String) -> Refusal {
    Refusal::rejected(RejectionCode::InvalidAnnotation, detail)
}
