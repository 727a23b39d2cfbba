//! The decision: turns a state and a command into events and an outcome.
//!
//! Pure and synchronous. Input that cannot be derived (time, handlers) comes in [`DecideContext`],
//! and its consequences are recorded in the events. Rejections are found before the first event, so
//! a rejected command changes nothing.

mod assignment;
mod builder;
mod call;
mod child;
mod control;
mod decision;
mod flow;
mod gold;
mod hooks;
mod inactivity;
mod migrate;
mod start;
mod subject;
mod submission;
mod target;
mod timers;
mod verbs;

pub use decision::{DecideContext, Decision};
pub use verbs::{OfferedVerb, offered_verbs};

use self::{builder::DecisionBuilder, decision::Refusal};
use crate::{
    command::{Command, CommandEnvelope, Dead, Outcome, RejectionCode, Undecided},
    state::{Archived, WorkflowSnapshot},
};

/// Decides one command. Total: every state and command has an outcome.
pub fn decide(
    state: Option<&WorkflowSnapshot>,
    envelope: &CommandEnvelope,
    context: &DecideContext<'_>,
) -> Decision {
    let mut builder = DecisionBuilder::new(state.cloned(), envelope, context);
    match apply(&mut builder, envelope) {
        Ok(()) => builder.finish(),
        Err(refusal) => Decision {
            outcome: match refusal {
                Refusal::Rejected(rejection) => Outcome::Rejected(rejection),
                Refusal::TaskNotFound => Outcome::Undecided(Undecided::TaskNotFound),
                Refusal::NotPerformed => Outcome::Undecided(Undecided::NotPerformed),
                Refusal::Paused => Outcome::Undecided(Undecided::Paused),
                Refusal::WorkflowNotFound => Outcome::Dead(Dead::WorkflowNotFound(
                    envelope
                        .command
                        .workflow()
                        .map(ToString::to_string)
                        .unwrap_or_default(),
                )),
            },
            events: Vec::new(),
            state: state.cloned(),
            draft: None,
        },
    }
}

fn apply(builder: &mut DecisionBuilder<'_>, envelope: &CommandEnvelope) -> Result<(), Refusal> {
    if let Some(archived) = builder.archived() {
        return refuse_archived(&envelope.command, archived);
    }
    builder.give_back_paused_time();
    match &envelope.command {
        Command::Start(command) => start::start(builder, command),
        Command::Submission(command) => submission::submit(builder, command),
        Command::Advance(command) => control::advance(builder, command),
        Command::Assign(command) => assignment::assign(builder, command),
        Command::Release(command) => assignment::release(builder, command),
        Command::Activity(command) => assignment::activity(builder, command),
        Command::Pause(command) => control::pause(builder, command),
        Command::Resume(command) => control::resume(builder, command),
        Command::Cancel(command) => control::cancel(builder, command),
        Command::Retry(command) => control::retry(builder, command),
        Command::Migrate(command) => migrate::migrate(builder, command),
        Command::Child(command) => child::child(builder, command),
        Command::FireTimer(command) => timers::fire(builder, command),
    }
}

/// Nothing happens to an archived task any more. What other tasks and timers say lapses, as for any
/// task that has ended.
fn refuse_archived(command: &Command, archived: Archived) -> Result<(), Refusal> {
    match command {
        Command::Child(_) | Command::FireTimer(_) => Ok(()),
        Command::Start(_)
        | Command::Submission(_)
        | Command::Advance(_)
        | Command::Assign(_)
        | Command::Release(_)
        | Command::Activity(_)
        | Command::Pause(_)
        | Command::Resume(_)
        | Command::Cancel(_)
        | Command::Retry(_)
        | Command::Migrate(_) => {
            let Archived { at, ended } = archived;
            let at = at.format("%F");
            let detail = format!("the task is {ended}, and was archived on {at}");
            Err(Refusal::rejected(RejectionCode::TaskFinished, detail))
        }
    }
}
