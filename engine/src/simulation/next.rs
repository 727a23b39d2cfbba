//! What a person who asks for the next task is offered.

use chrono::{DateTime, Utc};

use super::{Played, Simulation};
use crate::{
    assignment::{
        Eligibility, Offer, OfferPriority, check_roles, check_skills, offer_order,
        reviews_own_work, submitted,
    },
    command::{Assign, Command},
    config::StepConfig,
    ids::{StepId, TaskId, UserId},
    state::{Slots, TaskStatus, Visit, WorkflowSnapshot},
};

/// A person who asks for work.
#[derive(Clone, Copy, Debug)]
pub struct Asking<'a> {
    /// The person.
    pub user_id: UserId,
    /// Roles of the person.
    pub roles: &'a [String],
    /// Skills of the person.
    pub skills: &'a [String],
    /// Only this task; any task of the simulation when left out.
    pub task: Option<TaskId>,
    /// Only this step; any step when left out.
    pub step: Option<&'a str>,
}

/// What a person who asks for work gets.
#[derive(Clone, Debug)]
pub enum NextTask {
    /// A slot, which the person has claimed.
    Offered {
        /// The task.
        task_id: TaskId,
        /// The step.
        step_id: StepId,
        /// The visit.
        visit: u32,
        /// The claim.
        played: Vec<Played>,
    },
    /// Nothing.
    Nothing {
        /// The reason; of several steps, that of the one that came nearest to being offered.
        why: NotOffered,
        /// The reason for each step.
        detail: String,
    },
}

/// Why a step is not offered to a person, in the order in which the rules are asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum NotOffered {
    /// The task has ended.
    TaskFinished,
    /// No step waits for people.
    NotWaiting,
    /// The task, the step or the workflow is paused.
    TaskPaused,
    /// The step waits for a hook.
    StepNotActive,
    /// The person has submitted to the visit, or has claimed a slot of it.
    DuplicateAnnotator,
    /// The person lost a claim here to `reassign`.
    Reassigned,
    /// Every slot is submitted or claimed.
    Surplus,
    /// The person lacks a role.
    RoleRequired,
    /// The person lacks a skill.
    SkillRequired,
    /// The person would review or adjudicate their own work.
    SelfReview,
    /// The person has claimed as many slots as the step allows.
    MaxConcurrent,
}

impl NotOffered {
    /// The name in scripts.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::TaskFinished => "task_finished",
            Self::NotWaiting => "not_waiting",
            Self::TaskPaused => "task_paused",
            Self::StepNotActive => "step_not_active",
            Self::DuplicateAnnotator => "duplicate_annotator",
            Self::Reassigned => "reassigned",
            Self::Surplus => "surplus",
            Self::RoleRequired => "role_required",
            Self::SkillRequired => "skill_required",
            Self::SelfReview => "self_review",
            Self::MaxConcurrent => "max_concurrent",
        }
    }
}

impl Simulation {
    /// Offers a person the next task by the rules of a worker, and claims it. The share of gold tasks
    /// among claims is left out of account: with one task there is no choice.
    pub fn next_task(&mut self, asking: Asking<'_>) -> NextTask {
        let mut offers = Vec::new();
        let mut refused: Vec<(String, NotOffered)> = Vec::new();
        let tasks = self
            .tasks
            .iter()
            .filter(|(id, _)| asking.task.is_none_or(|task| task == **id));
        for state in tasks.filter_map(|(_, task)| task.state.as_ref()) {
            let slots = Slots::from(state).open;
            let steps = self.steps_for_people(state, asking.step);
            if steps.is_empty() {
                refused.push(("the task".to_owned(), without_steps(state)));
            }
            for (step, visit) in steps {
                let found = slots.iter().find(|slot| slot.step_id == step.id);
                match (self.not_offered(&asking, state, step, visit), found) {
                    (None, Some(slot)) => offers.push(Offer {
                        slot: slot.clone(),
                        strategy: step.load_balancing(),
                        priority: OfferPriority::Usual,
                    }),
                    (why, _) => refused.push((
                        format!("step `{}`", self.named(state.task_id, &step.id)),
                        why.unwrap_or(NotOffered::Surplus),
                    )),
                }
            }
        }
        offer_order(&mut offers, asking.user_id);
        let Some(Offer { slot, .. }) = offers.into_iter().next() else {
            let why = refused.iter().map(|(_, why)| *why).max();
            let detail = refused
                .iter()
                .map(|(what, why)| format!("{what}: {}", why.as_str()));
            return NextTask::Nothing {
                why: why.unwrap_or(NotOffered::NotWaiting),
                detail: detail.collect::<Vec<_>>().join(", "),
            };
        };
        let played = self.run(Command::Assign(Assign {
            task_id: slot.task_id,
            step_id: Some(slot.step_id.to_string()),
            user_id: asking.user_id,
            roles: (!asking.roles.is_empty()).then(|| asking.roles.to_vec()),
            offered: None,
        }));
        NextTask::Offered {
            task_id: slot.task_id,
            step_id: slot.step_id,
            visit: slot.visit,
            played,
        }
    }

    /// A step with the path to its task, as scripts write it.
    pub(super) fn named(&self, task: TaskId, step: &StepId) -> String {
        match self.path_to(task) {
            Some(path) => format!("{path}/{step}"),
            None => step.to_string(),
        }
    }

    /// The active steps that people work on.
    fn steps_for_people<'s>(
        &'s self,
        state: &'s WorkflowSnapshot,
        only: Option<&str>,
    ) -> Vec<(&'s StepConfig, &'s Visit)> {
        let Some(workflow) = self.workflow_of(state) else {
            return Vec::new();
        };
        let active = state
            .active_steps()
            .filter(|id| only.is_none_or(|only| **id == *only));
        active
            .filter_map(|id| Some((workflow.step(id)?, state.current_visit(id)?)))
            .filter(|(step, _)| step.kind.takes_submissions())
            .collect()
    }

    fn not_offered(
        &self,
        asking: &Asking<'_>,
        state: &WorkflowSnapshot,
        step: &StepConfig,
        visit: &Visit,
    ) -> Option<NotOffered> {
        let user = asking.user_id;
        let paused = state.status == TaskStatus::Paused
            || visit.pause.is_some()
            || self.is_workflow_paused(state, self.now);
        let slots = Eligibility::of(visit, user);
        let takes_part = submitted(step, visit, user, None) || slots == Eligibility::HoldsSlot;
        let claimed = || {
            let states = self.tasks.values().filter_map(|task| task.state.as_ref());
            let claimed = states.flat_map(|state| Slots::from(state).claimed);
            claimed.filter(|slot| slot.user_id == user).count()
        };
        let most = step
            .max_concurrent()
            .and_then(|most| usize::try_from(most).ok());
        let rules = [
            (paused, NotOffered::TaskPaused),
            (!visit.is_open(), NotOffered::StepNotActive),
            (takes_part, NotOffered::DuplicateAnnotator),
            (visit.excluded.contains(&user), NotOffered::Reassigned),
            (slots == Eligibility::Full, NotOffered::Surplus),
            (!check_roles(step, asking.roles), NotOffered::RoleRequired),
            (
                !check_skills(step, asking.skills),
                NotOffered::SkillRequired,
            ),
            (
                reviews_own_work(state, step, visit, user),
                NotOffered::SelfReview,
            ),
            (
                most.is_some_and(|most| claimed() >= most),
                NotOffered::MaxConcurrent,
            ),
        ];
        let broken = rules.into_iter().find(|(broken, _)| *broken);
        broken.map(|(_, why)| why)
    }

    /// Whether the workflow of a task is paused as a whole.
    pub(super) fn is_workflow_paused(&self, state: &WorkflowSnapshot, at: DateTime<Utc>) -> bool {
        let own = self.pauses.iter();
        let mut own = own.filter(|pause| pause.workflow == state.workflow.workflow);
        own.any(|pause| pause.applies_at(at))
    }
}

/// Why a task in which no step waits for people offers nothing.
fn without_steps(state: &WorkflowSnapshot) -> NotOffered {
    match state.status {
        TaskStatus::Completed
        | TaskStatus::Failed
        | TaskStatus::Cancelled
        | TaskStatus::Archived => NotOffered::TaskFinished,
        TaskStatus::Running | TaskStatus::Paused => NotOffered::NotWaiting,
    }
}
