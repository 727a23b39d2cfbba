//! The decision: turns a state and a command into events and an outcome.
//!
//! Pure and synchronous. Input that cannot be derived (time, handlers) comes in [`DecideContext`],
//! and its consequences are recorded in the events. Rejections are found before the first event, so
//! a rejected command changes nothing.

mod assignment;
mod call;
mod child;
mod control;
mod decision;
mod due;
mod flow;
mod gold;
mod hooks;
mod migrate;
mod start;
mod submission;
mod target;
mod work;

pub use decision::{DecideContext, Decision};

use self::{decision::Refusal, work::Work};
use crate::{
    command::{Command, CommandEnvelope, Dead, Outcome, Undecided},
    state::WorkflowSnapshot,
};

/// Decides one command. Total: every state and command has an outcome.
pub fn decide(
    state: Option<&WorkflowSnapshot>,
    envelope: &CommandEnvelope,
    context: &DecideContext<'_>,
) -> Decision {
    let mut work = Work::new(state.cloned(), envelope, context);
    match apply(&mut work, envelope) {
        Ok(()) => work.finish(),
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

fn apply(work: &mut Work<'_>, envelope: &CommandEnvelope) -> Result<(), Refusal> {
    work.give_back_paused_time();
    match &envelope.command {
        Command::Start(command) => start::start(work, command),
        Command::Submission(command) => submission::submit(work, command),
        Command::Advance(command) => control::advance(work, command),
        Command::Assign(command) => assignment::assign(work, command),
        Command::Release(command) => assignment::release(work, command),
        Command::Activity(command) => assignment::activity(work, command),
        Command::Pause(command) => control::pause(work, command),
        Command::Resume(command) => control::resume(work, command),
        Command::Cancel(command) => control::cancel(work, command),
        Command::Retry(command) => control::retry(work, command),
        Command::Migrate(command) => migrate::migrate(work, command),
        Command::Child(command) => child::child(work, command),
        Command::FireTimer(command) => due::due(work, command),
    }
}
