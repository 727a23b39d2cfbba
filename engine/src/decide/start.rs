//! Starting a task.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{decision::Refusal, work::Work};
use crate::{
    command::{RejectionCode, Start},
    events::{WorkflowEvent, WorkflowStarted},
    ids::WorkflowSelector,
    state::ParentTask,
};

pub(super) fn start(work: &mut Work<'_>, command: &Start) -> Result<(), Refusal> {
    let Start {
        input,
        labels,
        expected,
        ..
    } = command.clone();
    let labels = labels.unwrap_or_default();
    if !work.is_started() {
        begin(
            work,
            Details {
                by_submission: false,
                input,
                labels,
                expected,
                parent: None,
            },
        )?;
        let entry = work.config().entry_step.clone();
        // If the entry step takes submissions, the task waits for people even while its workflow
        // is paused; any other entry step would run at once.
        if !work.step(&entry).kind.takes_submissions() {
            work.require_running()?;
        }
        work.enter(entry, None);
        return Ok(());
    }
    require_same_workflow(work, Some(&command.workflow))?;
    if !work.current().awaits_details {
        return Err(already_started(work));
    }
    // A submission started the task earlier; this `start` supplies the details.
    let becomes_gold = expected.is_some();
    work.emit(WorkflowEvent::TaskDetailsSupplied {
        input,
        labels,
        expected,
        parent: None,
    });
    if becomes_gold {
        work.score_earlier();
    }
    Ok(())
}

/// Starts the task on behalf of its first submission.
pub(super) fn start_by_submission(work: &mut Work<'_>) -> Result<(), Refusal> {
    begin(
        work,
        Details {
            by_submission: true,
            ..Details::default()
        },
    )?;
    let entry = work.config().entry_step.clone();
    work.enter(entry, None);
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
pub(super) fn begin(work: &mut Work<'_>, details: Details) -> Result<(), Refusal> {
    let Details {
        by_submission,
        input,
        labels,
        expected,
        parent,
    } = details;
    let workflow = work.named.ok_or(Refusal::WorkflowNotFound)?;
    work.bind(workflow);
    work.emit(WorkflowEvent::WorkflowStarted(WorkflowStarted {
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
    }));
    Ok(())
}

/// Refuses a command that names another workflow than the task's. Another revision is accepted.
pub(super) fn require_same_workflow(
    work: &Work<'_>,
    selector: Option<&WorkflowSelector>,
) -> Result<(), Refusal> {
    let other = match selector {
        None => false,
        Some(WorkflowSelector::Latest(id) | WorkflowSelector::Numbered(id, _)) => {
            *id != work.current().workflow.workflow
        }
        Some(WorkflowSelector::Revision(id)) => {
            let named = work.named.map(|named| &named.config().id);
            *id != work.current().workflow.revision_id
                && named != Some(&work.current().workflow.workflow)
        }
    };
    if other {
        Err(already_started(work))
    } else {
        Ok(())
    }
}

pub(super) fn already_started(work: &Work<'_>) -> Refusal {
    let workflow = &work.current().workflow;
    Refusal::rejected(
        RejectionCode::AlreadyStarted,
        format!(
            "the task runs in `{}@{}`",
            workflow.workflow, workflow.revision
        ),
    )
}
