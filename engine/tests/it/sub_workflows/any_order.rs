//! Parent and child agree in the end, even if messages between them are lost, repeated or late.

use chrono::TimeDelta;
use glyph_workflow_engine::{
    WorkflowEvent,
    command::{Advance, Command, Submission},
    derive_timers,
    ids::TaskId,
    state::VisitStatus,
    store::{EventStore, Timer, TimerQueue},
};
use proptest::prelude::*;
use serde_json::json;

use super::{EXTRACT, Family, PARALLEL, ROOT};

/// The next move of a person, an operator, a worker or a crash.
#[derive(Clone, Debug)]
enum Move {
    /// Answers the nth waiting step.
    Answer(usize, u128),
    /// Performs the nth timer.
    Perform(usize),
    /// Performs the effect of the nth timer, and crashes.
    Half(usize),
    /// Performs again a row that was due earlier.
    Stale(usize),
    Pause(usize),
    Resume(usize),
    Cancel(usize),
    Retry(usize),
    Advance,
    Pass(i64),
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let n = 0_usize..16;
    let one = prop_oneof![
        8 => (n.clone(), 1_u128..4).prop_map(|(n, who)| Move::Answer(n, who)),
        12 => n.clone().prop_map(Move::Perform),
        6 => n.clone().prop_map(Move::Half),
        6 => n.clone().prop_map(Move::Stale),
        2 => n.clone().prop_map(Move::Pause),
        4 => n.clone().prop_map(Move::Resume),
        1 => n.clone().prop_map(Move::Cancel),
        2 => n.prop_map(Move::Retry),
        1 => Just(Move::Advance),
        3 => (1_i64..40).prop_map(Move::Pass),
    ];
    prop::collection::vec(one, 1..80)
}

impl Family {
    /// The root and all existing children requested by it or by its children.
    async fn tasks(&self) -> Vec<TaskId> {
        let (mut tasks, mut at) = (vec![ROOT], 0);
        while let Some(task) = tasks.get(at).copied() {
            at += 1;
            for event in self.store.events(task, 0, 1_000).await.unwrap().events {
                if let WorkflowEvent::ChildRequested(requested) = event.event
                    && self.exists(requested.task_id).await
                {
                    tasks.push(requested.task_id);
                }
            }
        }
        tasks
    }

    async fn nth_task(&self, n: usize) -> TaskId {
        let tasks = self.tasks().await;
        tasks[n % tasks.len()]
    }

    /// Answers the nth step that waits for a person; `who` also selects a reviewer's decision.
    async fn answer(&mut self, n: usize, who: u128) -> bool {
        let mut waiting = Vec::new();
        for task in self.tasks().await {
            let state = self.state(task).await;
            let steps = state.current_steps().into_iter();
            let of_people = steps.filter(|id| state.current_visit(id).unwrap().slots.is_some());
            waiting.extend(of_people.map(|id| (task, id)));
        }
        if waiting.is_empty() {
            return false;
        }
        let (task, step) = waiting[n % waiting.len()].clone();
        let decide = |s: &mut Submission| {
            s.annotation.decision = Some(["approve", "request_changes"][who as usize % 2].into());
        };
        self.submit_with(task, &step, who, json!({"n": n}), decide)
            .await;
        true
    }

    async fn play(&mut self, seen: &mut Vec<Timer>, one: &Move) {
        let rows = self.rows().await;
        for row in &rows {
            if !seen.contains(row) {
                seen.push(row.clone());
            }
        }
        let nth = |rows: &[Timer], n: usize| rows.get(n % rows.len().max(1)).cloned();
        match one {
            Move::Answer(n, who) => drop(self.answer(*n, *who).await),
            Move::Perform(n) => {
                if let Some(row) = nth(&rows, *n) {
                    self.perform(&row).await;
                }
            }
            Move::Half(n) => {
                if let Some(row) = nth(&rows, *n) {
                    self.effect(&row).await;
                }
            }
            Move::Stale(n) => {
                if let Some(row) = nth(seen, *n) {
                    self.perform(&row).await;
                }
            }
            Move::Pause(n) => {
                let task = self.nth_task(*n).await;
                self.pause(task, None).await;
            }
            Move::Resume(n) => {
                let task = self.nth_task(*n).await;
                self.control(task, Command::Resume).await;
            }
            Move::Cancel(n) => {
                let task = self.nth_task(*n).await;
                self.control(task, Command::Cancel).await;
            }
            Move::Retry(n) => {
                let task = self.nth_task(*n).await;
                self.control(task, Command::Retry).await;
            }
            Move::Advance => {
                let advance = Advance {
                    task_id: ROOT,
                    step_id: Some("left".to_owned()),
                    output: Some(json!("by hand")),
                };
                self.run(Command::Advance(advance)).await;
            }
            Move::Pass(seconds) => self.pass(TimeDelta::seconds(*seconds)),
        }
    }

    /// The invariants after every move: replay equals live, and timers follow from the states.
    async fn check(&self) {
        let mut rows = 0;
        for task in self.tasks().await {
            let events = self.store.events(task, 0, 1_000).await.unwrap().events;
            let replayed = glyph_workflow_engine::StateRebuilder::rebuild(&events).unwrap();
            let state = self.state(task).await;
            assert_eq!(replayed.as_ref(), Some(&state), "replay equals live");
            rows += derive_timers(&state).len();
        }
        let stored = self.store.timer_stats().await.unwrap().total;
        assert_eq!(
            usize::try_from(stored),
            Ok(rows),
            "timers follows from state"
        );
    }

    /// Every person answers, and every incident and pause is resolved: then all tasks end.
    async fn finish(&mut self) {
        for round in 0..60 {
            self.settle().await;
            self.pass(TimeDelta::minutes(1));
            let tasks = self.tasks().await;
            let mut open = false;
            for task in tasks {
                let state = self.state(task).await;
                open |= !state.status.is_final();
                self.control(task, Command::Resume).await;
                self.control(task, Command::Retry).await;
            }
            if !open {
                return;
            }
            self.settle().await;
            // People with odd numbers request changes; a loop has its bound.
            self.answer(round, 2 * (round as u128 + 10)).await;
        }
        panic!("it never ends: {:#?}", self.state(ROOT).await);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, ..ProptestConfig::default() })]

    #[test]
    fn parent_and_children_agree_whatever_is_lost_repeated_or_late(
        any in any::<bool>(),
        moves in moves(),
    ) {
        let first_wins = PARALLEL.replace("join_mode: all", "join_mode: any");
        let workflow = if any { &first_wins } else { PARALLEL };
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let mut family = Family::started(&[EXTRACT, workflow], "parallel").await;
            let mut seen = Vec::new();
            for one in &moves {
                family.play(&mut seen, one).await;
                family.check().await;
            }
            family.finish().await;
            family.settle().await;
            family.check().await;
            assert!(family.rows().await.is_empty());
            for task in family.tasks().await {
                let state = family.state(task).await;
                assert!(state.status.is_final(), "nobody is left behind: {state:#?}");
                let events = family.events(task).await;
                let count = |name| events.iter().filter(|event| **event == name).count();
                assert!(count("parent_told") <= 1);
                let completed = state.steps.values().flat_map(|step| &step.visits);
                let completed = completed.filter(|v| v.status == VisitStatus::Completed).count();
                assert_eq!(count("step_completed"), completed, "one completion a visit");
            }
        });
    }
}
