//! What can go one way or another, and which way it goes in a case.

use crate::{
    config::{
        CompletionType, Decision, EndsWith, ExternalHandler, Performer, StepConfig, TimeoutAction,
    },
    ids::StepId,
    state::Visit,
};

use super::guide::{Answers, Variant};

/// Something that can go one way or another: the start of the task, or a visit of a step.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    /// The step, with the path to its task; none for the start.
    pub(super) step: Option<String>,
    /// The step before.
    pub(super) from: Option<StepId>,
    /// What of the step: its own work, or the hook of that name.
    pub(super) hook: Option<String>,
}

/// One way in which it can go.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Way {
    pub(super) choice: Choice,
    /// For people: `one of 3 differs`.
    pub(super) label: String,
    /// Whether it goes so whenever the task comes back, and not only the first time.
    pub(super) always: bool,
}

/// What happens at a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Choice {
    /// The task starts as it usually does.
    Start,
    /// The task starts with a variant of its input or its labels.
    StartWith(usize),
    /// The task is gold, and people give the known answer.
    GoldRight,
    /// The task is gold, and people give another answer.
    GoldWrong,
    /// Everybody says the same.
    Agree,
    /// Everybody says the same variant.
    Say(usize),
    /// The last one of those asked says something else.
    OneDiffers,
    /// The last one says something else in one field.
    PartlyDiffer,
    /// Everybody says something else.
    AllDiffer,
    /// Those who must have submitted agree, and an operator closes the step.
    CloseEarly,
    /// Those who must have submitted differ, and an operator closes the step.
    CloseEarlyApart,
    /// Somebody claims the last slot and goes silent.
    GoSilent,
    /// Nobody comes.
    Nobody,
    /// A reviewer decides.
    Decide(Decision),
    /// A handler, a hook or a child outputs something.
    Output,
    /// It outputs a variant.
    OutputVariant(usize),
    /// It fails for good.
    Fail,
    /// A job is never answered.
    NoAnswer,
    /// An operator advances the step.
    Advance,
}

impl Choice {
    /// Whether the task is then left to wait on purpose.
    pub(super) fn leaves_waiting(self) -> bool {
        matches!(
            self,
            Self::Nobody | Self::GoSilent | Self::Fail | Self::NoAnswer
        )
    }
}

impl Way {
    fn new(choice: Choice, label: impl Into<String>) -> Self {
        Self {
            choice,
            label: label.into(),
            always: false,
        }
    }
}

/// Of a step to which the task can come back, the ways that can send it round again.
fn add_repeated(ways: &mut Vec<Way>, in_loop: bool) {
    let repeated = ways.iter().filter(|way| {
        in_loop
            && matches!(
                way.choice,
                Choice::OneDiffers
                    | Choice::Say(_)
                    | Choice::Decide(Decision::Reject)
                    | Choice::OutputVariant(_)
            )
    });
    let repeated: Vec<Way> = repeated
        .map(|way| Way {
            label: format!("{} every time", way.label),
            always: true,
            ..way.clone()
        })
        .collect();
    ways.extend(repeated);
}

/// One case: where things go another way than usual, in the order in which the task gets there.
#[derive(Clone, Debug, Default)]
pub(super) struct Course {
    pub(super) turns: Vec<(Place, Way)>,
}

impl Course {
    pub(super) fn turn_at(&self, place: &Place) -> Option<&Way> {
        let mut turns = self.turns.iter();
        let turn = turns.find(|(at, way)| {
            // A task comes back to a step from another one.
            let same_step = at.step == place.step && at.hook == place.hook;
            at == place || (way.always && same_step)
        });
        turn.map(|(_, way)| way)
    }

    /// The same case, with one more turn.
    pub(super) fn with(&self, place: &Place, way: &Way) -> Self {
        let mut turns = self.turns.clone();
        turns.push((place.clone(), way.clone()));
        Self { turns }
    }

    /// What distinguishes the case.
    pub(super) fn label(&self) -> String {
        let turns = self.turns.iter().map(|(place, way)| {
            let hook = place
                .hook
                .as_ref()
                .map_or(String::new(), |hook| format!(".{hook}"));
            match &place.step {
                Some(step) => format!("{step}{hook}: {}", way.label),
                None => way.label.clone(),
            }
        });
        let turns: Vec<String> = turns.collect();
        if turns.is_empty() {
            "straight on".to_owned()
        } else {
            turns.join(", then ")
        }
    }
}

/// How a task can start: with each of several variants, as a gold task.
pub(super) fn ways_to_start<'l>(
    variants: impl IntoIterator<Item = &'l str>,
    gold: usize,
) -> Vec<Way> {
    let mut ways = vec![Way::new(Choice::Start, "straight on")];
    let variants = variants.into_iter().enumerate();
    ways.extend(variants.map(|(at, label)| Way::new(Choice::StartWith(at), label)));
    if gold > 0 {
        ways.push(Way::new(Choice::GoldRight, "gold, answered right"));
    }
    if gold > 1 {
        ways.push(Way::new(Choice::GoldWrong, "gold, answered wrong"));
    }
    ways
}

/// How people can do a step; the first way is the usual one.
pub(super) fn ways_of_people(
    step: &StepConfig,
    visit: &Visit,
    answers: &Answers,
    in_loop: bool,
) -> Vec<Way> {
    let mut ways = if step.kind.spec().performer == Performer::Annotators {
        ways_of_annotators(step, visit, answers)
    } else if step.kind.spec().ends_with == EndsWith::Decision {
        ways_of_reviewers()
    } else {
        let mut ways = vec![Way::new(Choice::Agree, "decides")];
        ways.extend(ways_to_say(answers));
        ways
    };
    add_repeated(&mut ways, in_loop);
    let silence = match step.timeout_action() {
        TimeoutAction::Escalate | TimeoutAction::Fail => true,
        TimeoutAction::Proceed => closes_early(step, visit),
        // The slot is free again, as if nobody had come.
        TimeoutAction::Requeue | TimeoutAction::Reassign => false,
    };
    if silence {
        ways.push(Way::new(Choice::GoSilent, "a claim times out"));
    }
    ways.push(Way::new(Choice::Nobody, "nobody comes"));
    ways
}

fn ways_of_annotators(step: &StepConfig, visit: &Visit, answers: &Answers) -> Vec<Way> {
    let people = people(visit);
    let several = people > 1;
    let usual = if several { "all agree" } else { "answers" };
    let mut ways = vec![Way::new(Choice::Agree, usual)];
    if several && answers.data.len() > 1 {
        let label = if people == 2 {
            "two differ".to_owned()
        } else {
            format!("one of {people} differs")
        };
        ways.push(Way::new(Choice::OneDiffers, label));
        // Of two people all differ once more are asked.
        if answers.data.len() > 2 || people > 2 {
            ways.push(Way::new(Choice::AllDiffer, "all differ"));
        }
        if answers.partly.is_some() {
            ways.push(Way::new(Choice::PartlyDiffer, "one field differs"));
        }
    }
    ways.extend(ways_to_say(answers));
    if closes_early(step, visit) {
        let least = step.min_required();
        ways.push(Way::new(
            Choice::CloseEarly,
            format!("closed early by `advance`, {least} agree"),
        ));
        if least > 1 && answers.data.len() > 1 {
            ways.push(Way::new(
                Choice::CloseEarlyApart,
                format!("closed early by `advance`, {least} differ"),
            ));
        }
    }
    ways
}

fn ways_of_reviewers() -> Vec<Way> {
    let word = |decision: Decision| match decision {
        Decision::Approve => "approves",
        Decision::Reject => "rejects",
        Decision::RequestChanges => "requests changes",
        Decision::Fix => "fixes",
    };
    let decisions = Decision::ALL.into_iter();
    decisions
        .map(|decision| Way::new(Choice::Decide(decision), word(decision)))
        .collect()
}

fn ways_to_say(answers: &Answers) -> impl Iterator<Item = Way> {
    let variants = answers.variants.iter().enumerate();
    variants.map(|(at, variant)| Way::new(Choice::Say(at), variant.label.clone()))
}

/// How a call to a handler, or a child task that is not at hand, can end.
pub(super) fn ways_of_output(
    handler: Option<ExternalHandler>,
    variants: &[Variant],
    in_loop: bool,
) -> Vec<Way> {
    let mut ways = vec![Way::new(Choice::Output, "answers")];
    let variants = variants.iter().enumerate();
    ways.extend(variants.map(|(at, variant)| {
        Way::new(
            Choice::OutputVariant(at),
            format!("answers {}", variant.label),
        )
    }));
    add_repeated(&mut ways, in_loop);
    ways.push(match handler {
        Some(ExternalHandler::Queue) => Way::new(Choice::NoAnswer, "never answers"),
        Some(ExternalHandler::Webhook) | None => Way::new(Choice::Fail, "fails"),
    });
    ways
}

/// How a step that waits for an operator can end.
pub(super) fn ways_of_operator() -> Vec<Way> {
    vec![
        Way::new(Choice::Advance, "advanced"),
        Way::new(Choice::Nobody, "never advanced"),
    ]
}

/// How many people a visit asks; two where an operator decides when it ends.
pub(super) fn people(visit: &Visit) -> usize {
    let slots = visit.slots.unwrap_or(2);
    usize::try_from(slots).unwrap_or(usize::MAX)
}

fn closes_early(step: &StepConfig, visit: &Visit) -> bool {
    let least = usize::try_from(step.min_required()).unwrap_or(usize::MAX);
    step.completion_type() == CompletionType::AnnotationCount && least < people(visit)
}
