//! Starting a task.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{builder::DecisionBuilder, decision::Refusal};
use crate::{
    command::{Authority, RejectionCode, Start},
    events::{WorkflowEvent, WorkflowStarted},
    ids::WorkflowSelector,
    state::ParentTask,
};

pub(super) fn start(builder: &mut DecisionBuilder<'_>, command: &Start) -> Result<(), Refusal> {
    let Start {
        input,
        labels,
        expected,
        ..
    } = command.clone();
    let labels = labels.unwrap_or_default();
    if !builder.is_started() {
        begin(
            builder,
            Details {
                by_submission: false,
                input,
                labels,
                expected,
                parent: None,
            },
        )?;
        let entry = builder.config().entry_step.clone();
        // If the entry step takes submissions, the task waits for people even while its workflow
        // is paused; any other entry step would run at once.
        if !builder.step(&entry).kind.takes_submissions() {
            builder.require_running()?;
        }
        builder.enter(entry, None);
        return Ok(());
    }
    require_same_workflow(builder, Some(&command.workflow))?;
    if !builder.current().awaits_details {
        return Err(already_started(builder));
    }
    // A submission started the task earlier; this `start` supplies the details.
    let becomes_gold = expected.is_some();
    if becomes_gold && builder.authority != Authority::Operator {
        return Err(Refusal::rejected(
            RejectionCode::RoleRequired,
            "the task has submissions: only an operator can set `expected` now; without it, the \
             `start` supplies the other details",
        ));
    }
    builder.emit(WorkflowEvent::TaskDetailsSupplied {
        input,
        labels,
        expected,
        parent: None,
    });
    if becomes_gold {
        builder.score_earlier();
    }
    Ok(())
}

/// Starts the task on behalf of its first submission.
pub(super) fn start_by_submission(builder: &mut DecisionBuilder<'_>) -> Result<(), Refusal> {
    begin(
        builder,
        Details {
            by_submission: true,
            ..Details::default()
        },
    )?;
    let entry = builder.config().entry_step.clone();
    builder.enter(entry, None);
    Ok(())
}

/// The details that a task starts with.
#[derive(Default)]
pub(super) struct Details {
    pub(super) by_submission: bool,
    pub(super) input: Option<Value>,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) expected: Option<Value>,
    pub(super) parent: Option<ParentTask>,
}

/// Binds the task to the revision that the command names.
pub(super) fn begin(builder: &mut DecisionBuilder<'_>, details: Details) -> Result<(), Refusal> {
    let Details {
        by_submission,
        input,
        labels,
        expected,
        parent,
    } = details;
    let workflow = builder.named.ok_or(Refusal::WorkflowNotFound)?;
    builder.bind(workflow);
    builder.emit(WorkflowEvent::WorkflowStarted(WorkflowStarted {
        workflow: workflow.reference(),
        content_hash: workflow.content_hash().to_owned(),
        by_submission,
        input,
        labels,
        expected,
        context: workflow
            .config()
            .settings
            .context
            .clone()
            .into_iter()
            .collect(),
        parent,
        sampling: builder.sampling,
    }));
    Ok(())
}

/// Refuses a command that names another workflow than the task's. Another revision is accepted.
pub(super) fn require_same_workflow(
    builder: &DecisionBuilder<'_>,
    selector: Option<&WorkflowSelector>,
) -> Result<(), Refusal> {
    let other = match selector {
        None => false,
        Some(WorkflowSelector::Latest(id) | WorkflowSelector::Numbered(id, _)) => {
            *id != builder.current().workflow.workflow
        }
        Some(WorkflowSelector::Revision(id)) => {
            let named = builder.named.map(|named| &named.config().id);
            *id != builder.current().workflow.revision_id
                && named != Some(&builder.current().workflow.workflow)
        }
    };
    if other {
        Err(already_started(builder))
    } else {
        Ok(())
    }
}

pub(super) fn already_started(builder: &DecisionBuilder<'_>) -> Refusal {
    let workflow = &builder.current().workflow;
    Refusal::rejected(
        RejectionCode::AlreadyStarted,
        format!(
            "the task runs in `{}@{}`",
            workflow.workflow, workflow.revision
        ),
    )
}
