//! `glyph assignment`: what people hold.

use std::fmt::Write as _;

use chrono::{DateTime, SecondsFormat, Utc};
use clap::Subcommand;
use glyph_workflow_engine::{
    command::{Claim, ClaimRequest},
    ids::{CommandId, UserId},
    limits::PAGE_MAX,
};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::{
    CliError, Output, account,
    api::Call,
    connect::orchestrator,
    deployment::{Deployment, ask},
    output::Table,
    submit::submit,
};
use crate::{
    http::REASON,
    operations::assignments::{
        AssignmentList, HeldSlot, NothingReason, ReleaseAll, ReleasedSlots, held_slots, why_nothing,
    },
    settings::Settings,
    wire::{Unreadable, read_claim},
};

/// Verbs on claimed slots.
#[derive(Clone, Debug, Subcommand)]
pub enum AssignmentVerb {
    /// List the slots that a person has claimed; `release` frees all, `glyph task release` one
    List {
        /// User id of the person
        #[arg(long, short, value_name = "USER")]
        user: Uuid,
    },
    /// Claim the next task for a person; what the person holds comes first
    Next {
        /// User id of the person
        #[arg(long, short, value_name = "USER")]
        user: Uuid,
        /// Only tasks of this workflow: id, id@revision or revision UUID
        #[arg(long, short, value_name = "WORKFLOW")]
        workflow: Option<String>,
        /// Only this step
        #[arg(long, value_name = "ID")]
        step: Option<String>,
        /// Role of the person; may be repeated
        #[arg(long = "role", value_name = "ROLE")]
        roles: Vec<String>,
        /// Skill of the person; may be repeated
        #[arg(long = "skill", value_name = "SKILL")]
        skills: Vec<String>,
        /// Claim a slot even where the person holds one already
        #[arg(long)]
        fresh: bool,
        /// Id of the command; repeating an id has no effect [default: a new UUID]
        #[arg(long, value_name = "UUID")]
        command_id: Option<Uuid>,
    },
    /// Release all slots that a person has claimed
    Release {
        /// User id of the person
        #[arg(long, short, value_name = "USER")]
        user: Uuid,
        /// Reason
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
    },
}

pub(super) async fn run(
    verb: AssignmentVerb,
    settings: &Settings,
    output: Output,
) -> Result<(), CliError> {
    match verb {
        AssignmentVerb::List { user } => {
            let deployment = Deployment::open(settings).await?;
            let (mut held, mut after) = (Vec::new(), None);
            loop {
                let call = Call::get(&[&"assignments"])
                    .query("user_id", Some(user))
                    .query("after", after)
                    .query("limit", Some(PAGE_MAX));
                let page = deployment.ask(call, async |store| {
                    Ok(held_slots(&**store, UserId(user), after, PAGE_MAX).await?)
                });
                let page: AssignmentList = page.await?;
                held.extend(page.assignments);
                after = page.next_after;
                if after.is_none() {
                    break;
                }
            }
            output.result(&json!({"assignments": held}), || list_text(&held));
            Ok(())
        }
        AssignmentVerb::Next {
            user,
            workflow,
            step,
            roles,
            skills,
            fresh,
            command_id,
        } => {
            let body = json!({
                "user_id": user, "workflow": workflow, "step": step, "roles": roles,
                "skills": skills, "fresh": fresh,
            });
            let id = CommandId(command_id.unwrap_or_else(Uuid::now_v7));
            let as_it_is = |_: &mut Map<String, Value>| Ok::<_, Unreadable>(());
            let read = read_claim(id, None, None, body.to_string().as_bytes(), as_it_is);
            let (mut request, _) = read.map_err(|error| CliError::Usage(error.to_string()))?;
            request.sender = account::sender();
            let call = Call::post(&[&"assignments", &"next"]).key(id).json(&body);
            claim_next(&call, &request, settings, output).await
        }
        AssignmentVerb::Release { user, reason } => {
            let id = CommandId(Uuid::now_v7());
            let call = Call::post(&[&"assignments", &"release"])
                .query("user_id", Some(user))
                .key(id)
                .json(&json!({"reason": reason}));
            let report: ReleasedSlots = ask(settings, call, async |store| {
                let release = ReleaseAll {
                    user: UserId(user),
                    reason,
                    id,
                    correlation_id: id.to_string(),
                    sender: account::sender(),
                };
                let orchestrator = orchestrator(store, settings);
                let mut report = ReleasedSlots::default();
                for (slot, command) in release.commands(&**store).await? {
                    report.add(slot, submit(&orchestrator, command).await?);
                }
                Ok(report)
            })
            .await?;
            output.result(&report, || released_text(&report));
            Ok(())
        }
    }
}

/// Prints the claimed slot; null, with the reason where one is known, if there is none.
async fn claim_next(
    call: &Call,
    request: &ClaimRequest,
    settings: &Settings,
    output: Output,
) -> Result<(), CliError> {
    let (claim, reason) = match Deployment::open(settings).await? {
        Deployment::Store(store) => {
            let orchestrator = orchestrator(&store, settings);
            let claim = orchestrator.claim_next(&*store, request).await?;
            let reason = match &claim {
                Some(_) => None,
                None => why_nothing(&*store, &orchestrator, request).await?,
            };
            (claim, reason)
        }
        Deployment::Api(api) => {
            let answer = api.send(call).await?;
            let reason = answer.headers().get(REASON);
            let reason = reason.and_then(|name| NothingReason::from_name(name.to_str().ok()?));
            (api.document::<Option<Claim>>(answer).await?, reason)
        }
    };
    if let Some(claim) = claim {
        output.result(&json!({"claim": claim}), || {
            let Claim {
                task_id, step_id, ..
            } = &claim;
            let input = claim
                .input
                .as_ref()
                .map(Value::to_string)
                .unwrap_or_default();
            format!(
                "step {step_id} of task {task_id}, until {}\n{input}",
                time(claim.expires_at)
            )
        });
        return Ok(());
    }
    let document = json!({"claim": null, "reason": reason.map(NothingReason::as_str)});
    output.result(&document, || {
        match reason {
            Some(NothingReason::AnnotatorPaused) => "nothing: the person is paused",
            Some(NothingReason::WorkflowPaused) => "nothing: the workflow is paused",
            Some(NothingReason::NotQualified) => {
                "nothing: no step of the workflow is for such roles and skills"
            }
            Some(NothingReason::MaxConcurrent) => {
                "nothing: the person has claimed as many slots as a step allows"
            }
            None => "nothing: no slot is open that the person may take",
        }
        .to_owned()
    });
    Ok(())
}

fn released_text(report: &ReleasedSlots) -> String {
    let mut text = format!("{} released", report.released.len());
    for kept in &report.kept {
        let (task, step, code) = (kept.slot.task_id, &kept.slot.step_id, &kept.code);
        // Writing to a String does not fail.
        let _ = write!(text, "\nkept: step {step} of task {task} ({code})");
    }
    text
}

fn list_text(held: &[HeldSlot]) -> String {
    if held.is_empty() {
        return "the person has claimed nothing".to_owned();
    }
    let mut table = Table::new(&["task", "workflow", "step", "visit", "since", "expires", ""]);
    for slot in held {
        table.row([
            slot.task_id.to_string(),
            format!("{}@{}", slot.workflow, slot.revision),
            slot.step_id.to_string(),
            slot.visit.to_string(),
            time(slot.since),
            time(slot.expires_at),
            slot.draft.as_ref().map_or("", |_| "draft").to_owned(),
        ]);
    }
    table.render(0)
}

fn time(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Secs, true)
}
