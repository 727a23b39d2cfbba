//! Operator commands, and the pauses of workflows that result from them.

use std::{sync::Arc, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};
use glyph_workflow_engine::{
    MessageBuilder, NoMessages,
    command::{OperatorCommand, OperatorEnvelope},
    ids::{CommandId, TaskId, UserId},
    pauses_of, plan_operator_command,
    store::{
        CommandRecord, CommandRow, OpenPauses, OperatorFacts, OperatorSubject, OperatorWrite,
        Pauses, PlannedOperatorCommand, ProjectionWrite, RecordedOutcome, Store, Timer, TimerKind,
        TimerLane, WorkflowPause,
    },
};
use serde_json::json;

use super::until;
use crate::stores::{adapter::Adapter, samples::*};

/// Writes an operator command with its change to the pause of the workflow.
async fn operator_command(
    store: &dyn Store,
    name: &str,
    operator_command: OperatorCommand,
    change: impl FnOnce(&OperatorFacts, CommandId) -> Vec<WorkflowPause> + Send + 'static,
) -> CommandRow {
    let (id, subject) = (command(name), operator_command.subject());
    let decide = move |facts: OperatorFacts| OperatorWrite {
        pauses: Pauses {
            workflows: change(&facts, id),
            ..Pauses::default()
        },
        messages: vec![message(self::id(&format!("act {id}")), None)],
        record: CommandRecord {
            command_id: id,
            task_id: None,
            command_type: operator_command.type_name(),
            content_hash: operator_command.content_hash(),
            outcome: RecordedOutcome::Applied {
                result: json!({"workflow": operator_command.workflow()}),
            },
            payload: Some(operator_command.payload()),
            decided_at: facts.now,
        },
    };
    let planned = PlannedOperatorCommand {
        id,
        subject,
        decide: Box::new(decide),
    };
    store.operator_command(planned).await.unwrap()
}

async fn pause(store: &dyn Store, name: &str, workflow: &str) -> CommandRow {
    let workflow = slug(workflow);
    let begin = OperatorCommand::WorkflowPause {
        workflow: workflow.clone(),
        reason: Some("audit".to_owned()),
        until: None,
    };
    operator_command(store, name, begin, |facts, pause_id| {
        assert_eq!(facts.pause, None);
        vec![WorkflowPause {
            pause_id,
            workflow,
            reason: Some("audit".to_owned()),
            since: facts.now,
            until: None,
            archived: false,
            ended_at: None,
        }]
    })
    .await
}

async fn resume(store: &dyn Store, name: &str, workflow: &str) -> CommandRow {
    let end = OperatorCommand::WorkflowResume {
        workflow: slug(workflow),
        reason: None,
        ran_out: None,
    };
    operator_command(store, name, end, |facts, _| {
        let pause = facts.pause.clone().expect("the workflow is paused");
        vec![WorkflowPause {
            ended_at: Some(facts.now),
            ..pause
        }]
    })
    .await
}

pub(in crate::stores) async fn an_act_is_recorded_once_and_its_pause_is_read_by_batches(
    a: &impl Adapter,
) {
    let (store, other) = (a.store(), a.another().await);
    let one = task("one");
    append(&*store, one, None, started("flow", &[])).await;
    assert!(read_by_batch(&*store, one).await.is_empty());

    let first = pause(&*store, "pause", "flow").await;
    assert_eq!(first.task_id, None);
    // The same id again decides nothing and gets the stored row.
    let again = pause_again(&*other, "pause", "flow").await;
    assert_eq!(again, first);
    assert_eq!(
        store.operator_commands().await.unwrap(),
        std::slice::from_ref(&first)
    );
    assert_eq!(
        store.command(first.command_id).await.unwrap(),
        Some(first.clone())
    );

    let seen = read_by_batch(&*other, one).await;
    assert_eq!(seen.len(), 1);
    assert_eq!(seen[0].pause_id, first.command_id);
    assert_eq!(seen[0].since, first.decided_at);
    assert_eq!(
        store.workflow_pauses().await.unwrap(),
        OpenPauses {
            active: seen.clone(),
            expired: vec![],
        }
    );

    // An ended pause still matters to a task that has not changed since before it, and to no other.
    resume(&*other, "resume", "flow").await;
    let seen = read_by_batch(&*store, one).await;
    assert_eq!(seen.len(), 1);
    assert!(seen[0].ended_at.is_some());
    assert_eq!(
        store.workflow_pauses().await.unwrap(),
        OpenPauses::default()
    );
    append(&*store, one, None, vec![annotated(json!(1))]).await;
    assert!(read_by_batch(&*store, one).await.is_empty());
    // Its message was written with it, and so was the message of its end; the task has had two
    // batches.
    let waiting = store.outbox_stats().await.unwrap().pending;
    assert_eq!(waiting, 2 + 2);
}

/// A second copy of the operator command; deciding it again would be a bug.
async fn pause_again(store: &dyn Store, name: &str, workflow: &str) -> CommandRow {
    let decide = |_: OperatorFacts| -> OperatorWrite { panic!("a known act is not decided") };
    let id = command(name);
    let subject = OperatorSubject {
        workflow: slug(workflow),
        user_id: None,
    };
    let planned = PlannedOperatorCommand {
        id,
        subject,
        decide: Box::new(decide),
    };
    store.operator_command(planned).await.unwrap()
}

/// The pauses that a batch of one task reads.
async fn read_by_batch(store: &dyn Store, task: TaskId) -> Vec<WorkflowPause> {
    open(store, &[task], None).await.pauses
}

pub(in crate::stores) async fn timers_of_a_paused_workflow_is_not_claimed(a: &impl Adapter) {
    let store = a.store();
    let now = open(&*store, &[task("one")], None).await.now;
    for (name, workflow) in [("one", "held"), ("two", "free")] {
        let row = Timer {
            id: id(name),
            task_id: task(name),
            step_id: Some(slug("annotate")),
            visit: 1,
            kind: TimerKind::AssignmentTimeout,
            n: 1,
            due_at: now - TimeDelta::seconds(5),
        };
        append_with(
            &*store,
            task(name),
            None,
            started(workflow, &[]),
            |write, _| {
                write.timers_set = vec![row];
            },
        )
        .await;
    }
    pause(&*store, "pause", "held").await;
    let long = Duration::from_mins(10);
    let free = store
        .claim_timers(TimerLane::Decisions, long, 10)
        .await
        .unwrap();
    let ids: Vec<_> = free.iter().map(|row| row.id).collect();
    assert_eq!(ids, [id("two")]);
    assert!(
        store
            .claim_timers(TimerLane::Decisions, long, 10)
            .await
            .unwrap()
            .is_empty()
    );
    resume(&*store, "resume", "held").await;
    let claimed = store
        .claim_timers(TimerLane::Decisions, long, 10)
        .await
        .unwrap();
    let ids: Vec<_> = claimed.iter().map(|row| row.id).collect();
    assert_eq!(ids, [id("one")]);

    // The clock ends a pause, whether or not that has been recorded.
    let begin = OperatorCommand::WorkflowPause {
        workflow: slug("free"),
        reason: None,
        until: None,
    };
    store.drop_timers(&free).await.unwrap();
    store.drop_timers(&claimed).await.unwrap();
    append_with(
        &*store,
        task("two"),
        None,
        vec![annotated(json!(1))],
        |write, _| {
            write.timers_set = vec![Timer {
                id: id("three"),
                ..claimed[0].clone()
            }];
            write.timers_set[0].task_id = task("two");
        },
    )
    .await;
    operator_command(&*store, "short pause", begin, |facts, pause_id| {
        vec![WorkflowPause {
            pause_id,
            workflow: slug("free"),
            reason: None,
            since: facts.now,
            until: Some(facts.now + TimeDelta::milliseconds(200)),
            archived: false,
            ended_at: None,
        }]
    })
    .await;
    let freed = until(async || {
        let rows = store
            .claim_timers(TimerLane::Decisions, long, 10)
            .await
            .unwrap();
        (!rows.is_empty()).then_some(rows)
    })
    .await;
    assert_eq!(freed[0].id, id("three"));
    let open = store.workflow_pauses().await.unwrap();
    assert_eq!((open.active.len(), open.expired.len()), (0, 1));
}

pub(in crate::stores) async fn pauses_are_remade_from_operator_commands(a: &impl Adapter) {
    let store = a.store();
    pause(&*store, "one", "flow").await;
    resume(&*store, "two", "flow").await;
    pause(&*store, "three", "flow").await;
    pause(&*store, "four", "other").await;
    let live = store.workflow_pauses().await.unwrap();
    assert!(
        !store.replace_pauses(pauses_of).await.unwrap(),
        "nothing differs"
    );
    assert!(store.replace_pauses(|_| Pauses::default()).await.unwrap());
    assert_eq!(
        store.workflow_pauses().await.unwrap(),
        OpenPauses::default()
    );
    assert!(store.replace_pauses(pauses_of).await.unwrap());
    assert_eq!(store.workflow_pauses().await.unwrap(), live);
}

fn pause_of_annotator(name: &str, fallen: Option<DateTime<Utc>>) -> PlannedOperatorCommand {
    let operator_command = OperatorCommand::AnnotatorPause {
        workflow: slug("flow"),
        user_id: UserId(id("ann")),
        reason: Some("answers".to_owned()),
        fallen_at: fallen,
    };
    plan(name, operator_command)
}

fn resume_of_annotator(name: &str, by_rule: bool) -> PlannedOperatorCommand {
    let operator_command = OperatorCommand::AnnotatorResume {
        workflow: slug("flow"),
        user_id: UserId(id("ann")),
        reason: None,
        by_rule,
    };
    plan(name, operator_command)
}

fn plan(name: &str, operator_command: OperatorCommand) -> PlannedOperatorCommand {
    let messages: Arc<dyn MessageBuilder> = Arc::new(NoMessages);
    plan_operator_command(
        OperatorEnvelope::new(command(name), operator_command),
        &messages,
    )
}

pub(in crate::stores) async fn a_rule_acts_in_the_step_that_finds_it(a: &impl Adapter) {
    let store = a.store();
    append(&*store, task("one"), None, started("flow", &[])).await;
    let fallen = store.open_projection("rule", 10).await.unwrap();
    let fallen = fallen.expect("nobody else is at it").now;
    let step = async |operator_commands: Vec<PlannedOperatorCommand>| {
        let step = until(async || store.open_projection("rule", 10).await.unwrap()).await;
        let write = ProjectionWrite {
            operator_commands,
            ..ProjectionWrite::default()
        };
        step.commit(write).await.unwrap();
    };
    let open = async || {
        let pauses = store
            .annotator_pauses(Some(UserId(id("ann"))))
            .await
            .unwrap();
        let open: Vec<_> = pauses.iter().filter(|p| p.is_open()).cloned().collect();
        (pauses.len(), open.first().map(|pause| pause.by_rule))
    };
    step(vec![pause_of_annotator("fall", Some(fallen))]).await;
    assert_eq!(open().await, (1, Some(true)));
    let others = store.annotator_pauses(Some(UserId(id("bob")))).await;
    assert_eq!(others.unwrap(), []);
    // Found again, then resumed by an operator.
    step(vec![pause_of_annotator("fall", Some(fallen))]).await;
    assert_eq!(open().await, (1, Some(true)));
    store
        .operator_command(resume_of_annotator("let go", false))
        .await
        .unwrap();
    assert_eq!(open().await, (1, None));
    step(vec![
        pause_of_annotator("fall", Some(fallen)),
        pause_of_annotator("found late", Some(fallen)),
    ])
    .await;
    assert_eq!(open().await, (1, None));
    let late = store.command(command("found late")).await.unwrap().unwrap();
    assert!(matches!(late.outcome, RecordedOutcome::Rejected { .. }));

    // A rule does not end a pause by an operator.
    store
        .operator_command(pause_of_annotator("by hand", None))
        .await
        .unwrap();
    step(vec![resume_of_annotator("forgiven", true)]).await;
    assert_eq!(open().await, (2, Some(false)));

    let live = store.annotator_pauses(None).await.unwrap();
    assert!(!store.replace_pauses(pauses_of).await.unwrap());
    assert!(store.replace_pauses(|_| Pauses::default()).await.unwrap());
    assert_eq!(store.annotator_pauses(None).await.unwrap(), []);
    assert!(store.replace_pauses(pauses_of).await.unwrap());
    assert_eq!(store.annotator_pauses(None).await.unwrap(), live);
}

pub(in crate::stores) async fn an_archived_workflow_is_held_until_it_is_restored(a: &impl Adapter) {
    let (store, other) = (a.store(), a.another().await);
    let (one, flow) = (task("one"), slug("flow"));
    append(&*store, one, None, started("flow", &[])).await;
    let reason = || Some("the project is over".to_owned());
    let operator_command = async |name: &str, operator_command: OperatorCommand| {
        let row = store
            .operator_command(plan(name, operator_command))
            .await
            .unwrap();
        matches!(row.outcome, RecordedOutcome::Applied { .. })
    };
    let paused = |until| OperatorCommand::WorkflowPause {
        workflow: slug("flow"),
        reason: None,
        until,
    };
    let archived = || OperatorCommand::WorkflowArchive {
        workflow: slug("flow"),
        reason: reason(),
    };
    let resumed = || OperatorCommand::WorkflowResume {
        workflow: slug("flow"),
        reason: None,
        ran_out: None,
    };
    let restored = || OperatorCommand::WorkflowRestore {
        workflow: slug("flow"),
        reason: None,
    };
    assert!(!operator_command("nothing", restored()).await);
    // A pause before it becomes part of it, and the earlier end is forgotten.
    let soon = open(&*store, &[one], None).await.now + TimeDelta::hours(1);
    assert!(operator_command("pause", paused(Some(soon))).await);
    assert!(!operator_command("not archived", restored()).await);
    assert!(operator_command("archive", archived()).await);
    assert!(operator_command("archive again", archived()).await);
    assert!(!operator_command("held already", paused(None)).await);
    assert!(!operator_command("resume", resumed()).await);
    let seen = read_by_batch(&*other, one).await;
    assert_eq!(seen.len(), 1);
    assert!(seen[0].archived);
    assert_eq!((seen[0].until, &seen[0].reason), (None, &reason()));
    assert_eq!(seen[0].pause_id, command("pause"));
    assert_eq!(other.workflow_pauses().await.unwrap().active, seen);
    let offered = async || store.open_steps(Some(&flow), None).await.unwrap().len();
    assert_eq!(offered().await, 0);

    assert!(operator_command("restore", restored()).await);
    assert_eq!(
        store.workflow_pauses().await.unwrap(),
        OpenPauses::default()
    );
    assert_eq!(offered().await, 1);
    assert!(operator_command("pause again", paused(None)).await);
    assert!(!store.replace_pauses(pauses_of).await.unwrap());
}
