//! Hooks: handlers called around the work of a step.
//!
//! `pre_process` hooks run in order before the visit opens, and `post_process` hooks before its
//! result is final; the visit counts how many are done. `on_start` and `on_complete` are
//! notifications: nothing waits for them, and they outlast the visit and the task.

use serde_json::Value;

use super::builder::DecisionBuilder;
use crate::{
    config::{Hook, HookId, HookStage, OnError, StepConfig},
    events::{HookEnded, StepOpened, WorkflowEvent},
    executor::{ExecutorError, HandlerInput, error_chain, run_handler},
    ids::StepId,
    state::{FoundResult, IncidentCode},
};

impl DecisionBuilder<'_> {
    /// Runs the `pre_process` hooks. Returns whether the visit is open.
    pub(super) fn open(&mut self, step: &StepConfig) -> bool {
        if !self.visit(&step.id).opening {
            return true;
        }
        if !self.work_off(step) {
            return false;
        }
        let visit = self.visit(&step.id);
        self.emit(WorkflowEvent::StepOpened(StepOpened {
            step_id: step.id.clone(),
            visit: visit.number,
            from_step: visit.entered_from.clone(),
            reviewed: visit.reviewed.clone(),
            slots: visit.slots,
        }));
        self.notify(step, HookStage::OnStart);
        true
    }

    /// Ends the visit with a result, after the `post_process` hooks are done. Returns whether it
    /// has ended.
    pub(super) fn conclude(&mut self, step: &StepConfig, found: FoundResult) -> bool {
        // A result without a value stays so: hooks refine a value, but cannot supply a missing one.
        if found.result.value.is_none() || step.hooks_at(HookStage::PostProcess).is_empty() {
            self.complete(step, found);
            return true;
        }
        let visit = self.visit(&step.id).number;
        self.emit(WorkflowEvent::ResultFound {
            step_id: step.id.clone(),
            visit,
            found,
        });
        self.refine(step)
    }

    /// Runs the `post_process` hooks. Returns whether the visit has ended.
    pub(super) fn refine(&mut self, step: &StepConfig) -> bool {
        if !self.work_off(step) {
            return false;
        }
        if let Some(found) = self.visit(&step.id).found.clone() {
            self.complete(step, found);
        }
        true
    }

    fn complete(&mut self, step: &StepConfig, found: FoundResult) {
        let visit = self.visit(&step.id).number;
        let judgement = self.judgement(step, &found.result);
        self.emit(WorkflowEvent::StepCompleted {
            step_id: step.id.clone(),
            visit,
            result: found.result,
            context: found.context,
            judgement: judgement.map(Box::new),
        });
        self.notify(step, HookStage::OnComplete);
        if let Some(reason) = found.escalation {
            self.escalate(&step.id, IncidentCode::Disagreement, reason);
        }
    }

    /// Runs the hooks that the visit waits for, in order. Returns whether all are done.
    fn work_off(&mut self, step: &StepConfig) -> bool {
        while let Some((id, hook)) = self
            .visit(&step.id)
            .current_hook()
            .and_then(|id| Some((id, step.hook(id)?)))
        {
            if !self.do_hook(step, id, hook) {
                return false;
            }
        }
        true
    }

    /// Runs one hook, or requests its call. Returns whether it is done.
    fn do_hook(&mut self, step: &StepConfig, id: HookId, hook: &Hook) -> bool {
        // A hook that has failed for good waits for `retry`, whatever else advances the step.
        let held = self.current().incidents.iter().any(|incident| {
            incident.step_id == step.id && incident.code == IncidentCode::HandlerFailed
        });
        if held {
            return false;
        }
        let Some(handler) = self.handlers.get(&hook.handler) else {
            let Some(outside) = hook.external_handler() else {
                let error = ExecutorError::UnknownHandler {
                    step_id: step.id.clone(),
                    handler: hook.handler.clone(),
                };
                return self.hook_failed(step, id, None, &error_chain(&error));
            };
            let call = self.visit(&step.id).call.as_ref();
            // After a migration, the revision may name another handler.
            if call.is_none_or(|call| call.hook != Some(id) || call.handler != outside) {
                self.request_first(step, outside, Some(id));
            }
            return false;
        };
        let config = hook.config.as_ref().unwrap_or(&Value::Null);
        let context = self.context(step, None);
        let input = HandlerInput {
            config,
            context: &context,
        };
        let output = run_handler(&**handler, &input);
        match output {
            Ok(output) => {
                self.end_hook(step, id, None, output.value);
                true
            }
            Err(source) => {
                let error = ExecutorError::Handler {
                    step_id: step.id.clone(),
                    handler: hook.handler.clone(),
                    source,
                };
                self.hook_failed(step, id, None, &error_chain(&error))
            }
        }
    }

    /// Requests the hooks of a notification stage.
    pub(super) fn notify(&mut self, step: &StepConfig, stage: HookStage) {
        for (index, hook) in (0..).zip(step.hooks_at(stage)) {
            if let Some(outside) = hook.external_handler() {
                self.request_first(step, outside, Some(HookId { stage, index }));
            }
        }
    }

    /// Records the answer of a hook that the visit waits for.
    pub(super) fn end_hook(
        &mut self,
        step: &StepConfig,
        hook: HookId,
        n: Option<u32>,
        output: Option<Value>,
    ) {
        let visit = self.visit(&step.id).number;
        self.hook_ended(&step.id, visit, hook, n, Ok(output));
    }

    pub(super) fn hook_ended(
        &mut self,
        step_id: &StepId,
        visit: u32,
        hook: HookId,
        n: Option<u32>,
        came_to: Result<Option<Value>, String>,
    ) {
        let (output, error) = match came_to {
            Ok(output) => (output.filter(|output| !output.is_null()), None),
            Err(error) => (None, Some(error)),
        };
        self.emit(WorkflowEvent::HookEnded(HookEnded {
            step_id: step_id.clone(),
            visit,
            hook,
            n,
            output,
            error,
        }));
    }

    /// Applies `on_error` to a hook that the visit waits for and that failed for good. Returns
    /// whether the visit continues without it.
    pub(super) fn hook_failed(
        &mut self,
        step: &StepConfig,
        hook: HookId,
        n: Option<u32>,
        reason: &str,
    ) -> bool {
        let reason = format!("hook `{hook}`: {reason}");
        match step.on_error.unwrap_or(self.config().settings.on_error) {
            OnError::Skip => {
                let visit = self.visit(&step.id).number;
                self.hook_ended(&step.id, visit, hook, n, Err(reason));
                true
            }
            OnError::Pause => {
                self.open_incident(&step.id, IncidentCode::HandlerFailed, reason);
                false
            }
            OnError::Escalate => {
                self.escalate(&step.id, IncidentCode::HandlerFailed, reason);
                false
            }
        }
    }
}
