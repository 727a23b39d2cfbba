//! Which step a command means.

use super::{builder::DecisionBuilder, decision::Refusal};
use crate::{
    command::RejectionCode,
    config::StepConfig,
    state::{TaskStatus, WorkflowPause, WorkflowSnapshot},
};

impl<'a> DecisionBuilder<'a> {
    /// The step that a command names, or the only active one that `takes` it.
    pub(super) fn target_step(
        &self,
        named: Option<&str>,
        takes: impl Fn(&StepConfig) -> bool,
    ) -> Result<&'a StepConfig, Refusal> {
        let state = self.state()?;
        let config = self.config();
        if let Some(id) = named {
            return config.step(id).ok_or_else(|| {
                let known: Vec<&str> = config.steps.iter().map(|s| s.id.as_str()).collect();
                Refusal::rejected(
                    RejectionCode::UnknownStep,
                    format!(
                        "workflow `{}` has no step `{id}`; its steps are {}",
                        config.id,
                        known.join(", ")
                    ),
                )
            });
        }
        // A paused step takes nothing. If there is no other candidate, the refusal says so.
        let (paused, running): (Vec<_>, Vec<_>) = state
            .active_steps()
            .partition(|id| self.require_step_running(id).is_err());
        let candidates = if running.is_empty() { paused } else { running };
        let active: Vec<&'a StepConfig> = candidates
            .into_iter()
            .filter_map(|id| config.step(id))
            .collect();
        let mut taking = active.iter().filter(|step| takes(step));
        match (taking.next(), taking.next(), active.as_slice()) {
            (Some(step), None, _) => Ok(step),
            (None, None, [only]) if !state.status.is_final() => Ok(only),
            _ => Err(self.not_running().unwrap_or_else(|| {
                Refusal::rejected(
                    RejectionCode::StepNotActive,
                    match active.len() {
                        0 => "no step is active".to_owned(),
                        n => format!("{n} steps are active: name one in `step_id`"),
                    },
                )
            })),
        }
    }

    /// The refusal if the task has ended, is paused, or its workflow is paused.
    fn not_running(&self) -> Option<Refusal> {
        refuse_status(self.current()).or_else(|| self.workflow_pause().map(refuse_paused_workflow))
    }

    /// Refuses the command unless the task itself is running. A pause of its workflow is ignored.
    pub(super) fn require_status_running(&self) -> Result<(), Refusal> {
        refuse_status(self.state()?).map_or(Ok(()), Err)
    }

    /// Refuses the command if the step is paused.
    pub(super) fn require_step_running(&self, step: &str) -> Result<(), Refusal> {
        let visit = self.state()?.current_visit(step);
        match visit.and_then(|visit| visit.pause.as_ref()) {
            None => Ok(()),
            Some(pause) => Err(Refusal::rejected(
                RejectionCode::TaskPaused,
                format!(
                    "step `{step}` is paused: {}",
                    pause.reason.as_deref().unwrap_or("no reason was given")
                ),
            )),
        }
    }

    /// Refuses the command unless the task and its workflow are running.
    pub(super) fn require_running(&self) -> Result<(), Refusal> {
        self.state()?;
        self.not_running().map_or(Ok(()), Err)
    }
}

fn refuse_paused_workflow(pause: &WorkflowPause) -> Refusal {
    Refusal::rejected(
        RejectionCode::TaskPaused,
        format!(
            "the workflow `{}` is {}: {}",
            pause.workflow,
            pause.word(),
            pause.reason.as_deref().unwrap_or("no reason was given")
        ),
    )
}

fn refuse_status(state: &WorkflowSnapshot) -> Option<Refusal> {
    match state.status {
        TaskStatus::Running => None,
        TaskStatus::Paused => {
            let reason = state
                .pause
                .as_ref()
                .and_then(|pause| pause.reason.as_deref());
            Some(Refusal::rejected(
                RejectionCode::TaskPaused,
                format!(
                    "the task is paused: {}",
                    reason.unwrap_or("no reason was given")
                ),
            ))
        }
        status @ (TaskStatus::Completed
        | TaskStatus::Failed
        | TaskStatus::Cancelled
        | TaskStatus::Archived) => Some(Refusal::rejected(
            RejectionCode::TaskFinished,
            format!("the task is {status}"),
        )),
    }
}
