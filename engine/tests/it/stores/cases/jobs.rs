//! Durable jobs.

use std::time::Duration;

use chrono::DateTime;
use glyph_workflow_engine::{
    ids::LogId,
    store::{
        ENDED_JOBS_MAX, JobItemOutcome, JobItemState, JobState, JobWrite, NewJob, NewJobItem, Store,
    },
};
use serde_json::json;
use uuid::Uuid;

use super::until;
use crate::stores::{adapter::Adapter, samples::*};

const LEASE: Duration = Duration::from_mins(10);

async fn create(store: &dyn Store, name: &str) -> Uuid {
    let job = NewJob {
        id: id(name),
        kind: "replay".to_owned(),
        actor: "cli:root".to_owned(),
        settings: json!({"all": true}),
    };
    // A repeated creation changes nothing.
    store.create_job(job.clone()).await.unwrap();
    store.create_job(job).await.unwrap();
    id(name)
}

fn items(names: &[&str]) -> Vec<NewJobItem> {
    let items = names.iter().map(|name| NewJobItem {
        identity: (*name).to_owned(),
        order_key: (*name != "none").then(|| "key".to_owned()),
        properties: r#"{"text": "\u0000"}"#.to_owned(),
        body: vec![0, 255, b'{'],
    });
    items.collect()
}

fn outcome(ordinal: i64, state: JobItemState, detail: Option<&str>) -> JobItemOutcome {
    JobItemOutcome {
        ordinal,
        state,
        detail: detail.map(ToOwned::to_owned),
    }
}

pub(in crate::stores) async fn a_job_is_done_by_one_runner_at_a_time_and_counted_once(
    a: &impl Adapter,
) {
    let store = a.store();
    let job = create(&*store, "job").await;
    let (one, other) = (id("one"), id("other"));
    let claimed = store.claim_job(one, LEASE).await.unwrap().unwrap();
    assert_eq!(
        (claimed.id, claimed.state, claimed.items()),
        (job, JobState::Running, 0)
    );
    assert_eq!(
        (&*claimed.actor, &claimed.settings),
        ("cli:root", &json!({"all": true}))
    );
    assert!(store.claim_job(other, LEASE).await.unwrap().is_none());
    let write = |write: JobWrite| JobWrite {
        lease: LEASE,
        ..write
    };

    let arriving = write(JobWrite {
        phase: Some("freezing"),
        note: Some("the broker is away".to_owned()),
        add: Some((JobItemState::Arriving, items(&["a", "none"]))),
        ..JobWrite::default()
    });
    assert!(!store.write_job(job, other, arriving.clone()).await.unwrap());
    assert!(store.write_job(job, one, arriving).await.unwrap());
    let more = write(JobWrite {
        note: Some(String::new()),
        arrived: true,
        add: Some((JobItemState::Arriving, items(&["c"]))),
        ..JobWrite::default()
    });
    assert!(store.write_job(job, one, more).await.unwrap());
    let row = store.job(job).await.unwrap().unwrap();
    assert_eq!((&*row.phase, &row.reason), ("freezing", &None));
    assert_eq!(
        (
            row.count(JobItemState::Pending),
            row.count(JobItemState::Arriving)
        ),
        (2, 1)
    );
    let pending = store
        .job_items(job, JobItemState::Pending, 0, 9)
        .await
        .unwrap();
    let seen: Vec<_> = pending
        .iter()
        .map(|item| (item.ordinal, item.order_key.as_deref()))
        .collect();
    assert_eq!(seen, [(1, Some("key")), (2, None)]);
    assert_eq!(pending[0].body, [0, 255, b'{']);
    assert_eq!(pending[0].properties, r#"{"text": "\u0000"}"#);
    assert_eq!(store.last_job_item(job).await.unwrap().unwrap().ordinal, 3);
    assert_eq!(
        store
            .job_items(job, JobItemState::Pending, 1, 9)
            .await
            .unwrap()
            .len(),
        1
    );

    // An outcome that is written twice counts once, and a failure is not taken back.
    for _ in 0..2 {
        let settled = write(JobWrite {
            arrived: true,
            outcomes: vec![
                outcome(1, JobItemState::Succeeded, None),
                outcome(2, JobItemState::Failed, Some("dead again")),
            ],
            ..JobWrite::default()
        });
        assert!(store.write_job(job, one, settled).await.unwrap());
    }
    let late = write(JobWrite {
        outcomes: vec![outcome(2, JobItemState::Succeeded, None)],
        ..JobWrite::default()
    });
    assert!(store.write_job(job, one, late).await.unwrap());
    let failed = store
        .job_items(job, JobItemState::Failed, 0, 9)
        .await
        .unwrap();
    assert_eq!(failed[0].detail.as_deref(), Some("dead again"));
    assert!(failed[0].body.is_empty() && failed[0].properties.is_empty());

    // The next runner goes on once the lease is given up, and the first one is told.
    assert!(store.stop_job(job, "cli:boss").await.unwrap());
    assert!(
        store
            .write_job(job, one, JobWrite::default())
            .await
            .unwrap()
    );
    let claimed = until(async || store.claim_job(other, LEASE).await.unwrap()).await;
    assert_eq!(claimed.stop_by.as_deref(), Some("cli:boss"));
    assert!(
        !store
            .write_job(job, one, JobWrite::default())
            .await
            .unwrap()
    );
    let end = write(JobWrite {
        outcomes: vec![outcome(3, JobItemState::Returned, None)],
        end: Some((JobState::Stopped, Some("by cli:boss".to_owned()))),
        ..JobWrite::default()
    });
    assert!(store.write_job(job, other, end).await.unwrap());
    let row = store.job(job).await.unwrap().unwrap();
    assert_eq!(
        (row.state, row.reason.as_deref()),
        (JobState::Stopped, Some("by cli:boss"))
    );
    for (state, items) in [
        (JobItemState::Succeeded, 1),
        (JobItemState::Failed, 1),
        (JobItemState::Returned, 1),
    ] {
        assert_eq!(row.count(state), items, "{state:?}");
    }
    assert_eq!(row.items(), 3);
}

pub(in crate::stores) async fn an_ended_job_is_nobodys_and_old_ones_are_forgotten(
    a: &impl Adapter,
) {
    let store = a.store();
    let runner = id("runner");
    for n in 0..=ENDED_JOBS_MAX + 1 {
        let job = create(&*store, &format!("job {n}")).await;
        assert_eq!(
            store.claim_job(runner, LEASE).await.unwrap().unwrap().id,
            job
        );
        let end = JobWrite {
            end: Some((JobState::Done, None)),
            ..JobWrite::default()
        };
        assert!(store.write_job(job, runner, end).await.unwrap());
        assert!(
            !store
                .write_job(job, runner, JobWrite::default())
                .await
                .unwrap()
        );
        assert!(!store.stop_job(job, "cli:root").await.unwrap());
    }
    assert!(store.claim_job(runner, LEASE).await.unwrap().is_none());
    assert!(store.job(id("job 0")).await.unwrap().is_none());
    let jobs = store.jobs(1_000).await.unwrap();
    assert_eq!(jobs.len(), ENDED_JOBS_MAX as usize + 1);
    assert_eq!(jobs[0].id, id(&format!("job {}", ENDED_JOBS_MAX + 1)));
}

pub(in crate::stores) async fn a_restore_begins_another_log_and_tells_jobs_to_stop(
    a: &impl Adapter,
) {
    let store = a.store();
    let (job, runner) = (create(&*store, "job").await, id("runner"));
    store.claim_job(runner, LEASE).await.unwrap().unwrap();
    let taken = JobWrite {
        lease: LEASE,
        phase: Some("replaying"),
        add: Some((JobItemState::Pending, items(&["a"]))),
        ..JobWrite::default()
    };
    assert!(store.write_job(job, runner, taken).await.unwrap());
    let before = store.log_id().await.unwrap();

    let report = store.restored().await.unwrap();
    let log = store.log_id().await.unwrap();
    assert_ne!(log, before);
    assert_eq!((report.log_id, report.jobs_stopped), (log.0, 1));
    let again = LogId(store.restored().await.unwrap().log_id);
    let projection = store.open_projection("p", 1).await.unwrap().unwrap();
    let logs = projection.log.clone();
    drop(projection);
    let until: Vec<_> = logs.former.iter().map(|former| former.until).collect();
    assert!(until[0] < until[1], "{until:?}");
    let at = [DateTime::UNIX_EPOCH, until[0], until[1]];
    assert_eq!(at.map(|at| logs.at(at)), [before, log, again]);
    // What it holds is in no queue: somebody has to put it back.
    let goes_on = store.claim_job(id("other"), LEASE).await.unwrap().unwrap();
    assert_eq!(goes_on.stop_by.as_deref(), Some("glyph restore"));
    assert_eq!(
        (&*goes_on.phase, goes_on.count(JobItemState::Pending)),
        ("replaying", 1)
    );
}
