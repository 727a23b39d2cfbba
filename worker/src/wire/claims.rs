//! A request to claim work over HTTP.

use std::{collections::BTreeSet, sync::LazyLock};

use glyph_workflow_engine::{
    command::{ClaimRequest, Sender},
    ids::{CommandId, StepId, UserId, WorkflowSelector},
};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::{
    body::{parse_or_empty, typed},
    bounds::check_roles,
    known_fields::{IgnoredFields, field_names, unknown_fields},
    unreadable::{CommandFault, Unreadable},
};

/// An annotator requests work.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct ClaimBody {
    /// The annotator.
    user_id: UserId,
    /// Only tasks of this workflow, or of one revision of it; of any workflow if left out.
    #[serde(default)]
    workflow: Option<WorkflowSelector>,
    /// Only this step; any step if left out.
    #[serde(default)]
    step: Option<StepId>,
    /// Roles of the annotator.
    #[serde(default)]
    roles: Option<Vec<String>>,
    /// Skills of the annotator.
    #[serde(default)]
    skills: Option<Vec<String>>,
    /// Whether to claim a slot even where the annotator holds one already; else that one is given
    /// back first.
    #[serde(default)]
    fresh: Option<bool>,
}

static KNOWN_FIELDS: LazyLock<BTreeSet<String>> = LazyLock::new(field_names::<ClaimBody>);

/// Reads a request for work. `complete` adds the values from outside the body to the fields, or
/// rejects them. Unknown fields are ignored, as in commands, and returned.
pub fn read_claim<E: From<Unreadable>>(
    command_id: CommandId,
    correlation_id: Option<String>,
    traceparent: Option<String>,
    body: &[u8],
    complete: impl FnOnce(&mut Map<String, Value>) -> Result<(), E>,
) -> Result<(ClaimRequest, IgnoredFields), E> {
    let unreadable = |fault: CommandFault| fault.into_unreadable(Some(command_id));
    let mut fields = parse_or_empty(body).map_err(unreadable)?;
    complete(&mut fields)?;
    let ignored = unknown_fields(&fields, &KNOWN_FIELDS);
    let read = || -> Result<ClaimBody, CommandFault> {
        let body: ClaimBody = typed(fields)?;
        check_roles("roles", body.roles.as_deref())?;
        check_roles("skills", body.skills.as_deref())?;
        Ok(body)
    };
    let body = read().map_err(unreadable)?;
    let request = ClaimRequest {
        command_id,
        correlation_id,
        traceparent,
        user_id: body.user_id,
        workflow: body.workflow,
        step: body.step,
        roles: body.roles.unwrap_or_default(),
        skills: body.skills.unwrap_or_default(),
        fresh: body.fresh.unwrap_or_default(),
        sender: Sender::default(),
    };
    Ok((request, ignored))
}
