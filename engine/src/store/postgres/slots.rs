//! Open and claimed slots.

use async_trait::async_trait;
use sqlx::PgConnection;

use super::{
    super::{
        ClaimCount, EventStoreError, PeopleSeen, SlotIndex, SlotOrder, SlotQuery,
        StepWithOpenSlots, rows,
    },
    PgEventStore,
    connection::WORK_TIMEOUT,
    query::{execute, fetch, scalar},
    rows::column,
};
use crate::{
    ids::{StepId, TaskId, UserId, WorkflowId},
    limits::PAGE_MAX,
    state::{ClaimedSlot, OpenSlot, Slots, SlotsChange},
};

/// The columns of an open slot.
macro_rules! place_columns {
    () => {
        "task_id, step_id, visit, workflow, workflow_id, gold, submitted, reserved, \
         waiting_since, barred, released, judged"
    };
}

/// A skip scan: one index step for each step of a revision, however many tasks wait.
const OPEN_STEPS: &str = "
    WITH RECURSIVE steps AS (
        (SELECT workflow_id, step_id, workflow FROM slots ORDER BY workflow_id, step_id LIMIT 1)
        UNION ALL
        SELECT next.workflow_id, next.step_id, next.workflow
        FROM steps CROSS JOIN LATERAL (
            SELECT p.workflow_id, p.step_id, p.workflow FROM slots p
            WHERE (p.workflow_id, p.step_id) > (steps.workflow_id, steps.step_id)
            ORDER BY p.workflow_id, p.step_id LIMIT 1
        ) next
    )
    SELECT workflow_id, step_id FROM steps
    WHERE ($1::text IS NULL OR workflow = $1) AND ($2::text IS NULL OR step_id = $2)
      AND NOT EXISTS (
          SELECT FROM workflow_pauses p
          WHERE p.workflow = steps.workflow AND p.ended_at IS NULL
            AND (p.until IS NULL OR p.until > statement_timestamp()))
    ORDER BY workflow_id, step_id";

const FEWEST_PEOPLE: &str = concat!(
    "SELECT ",
    place_columns!(),
    "
    FROM slots
    WHERE workflow_id = $1 AND step_id = $2 AND gold = $3
      AND NOT $4 = ANY (barred) AND NOT ($5 AND $4 = ANY (judged))
      AND ($4 = ANY (released)) = $7
    ORDER BY taken, waiting_since, task_id LIMIT $6"
);

const OLDEST_BEGUN: &str = concat!(
    "SELECT ",
    place_columns!(),
    "
    FROM slots
    WHERE workflow_id = $1 AND step_id = $2 AND gold = $3 AND submitted > 0
      AND NOT $4 = ANY (barred) AND NOT ($5 AND $4 = ANY (judged))
      AND ($4 = ANY (released)) = $7
    ORDER BY waiting_since, task_id LIMIT $6"
);

const HELD: &str = "
    SELECT user_id, task_id, step_id FROM claims WHERE user_id = $1 ORDER BY task_id, step_id";

const CLAIM_COUNTS: &str = "
    SELECT user_id, count(*) AS slots FROM claims
    GROUP BY user_id ORDER BY slots DESC, user_id LIMIT $1";

/// The steps and roles of people at work, among the newest events. Not quite in the order of the log: nothing depends on it.
const SEEN: &str = "
    SELECT DISTINCT work.data ->> 'step_id' AS step_id, role.name AS role
    FROM (
        SELECT stream_id, event_type, event_data FROM stored_events
        ORDER BY batch DESC, position DESC LIMIT $2
    ) newest
    JOIN tasks t ON t.task_id = newest.stream_id AND t.workflow = $1
    CROSS JOIN LATERAL (SELECT newest.event_data::jsonb OFFSET 0) work (data)
    LEFT JOIN LATERAL jsonb_array_elements_text(
        coalesce(work.data #> '{annotation,roles}', work.data -> 'roles')
    ) role (name) ON true
    WHERE newest.event_type IN ('task_assigned', 'annotation_submitted')";

/// Whether the log has more events than that.
const BEYOND: &str =
    "SELECT 1 FROM stored_events ORDER BY batch DESC, position DESC OFFSET $1 LIMIT 1";

const OPEN_OF_TASK: &str = concat!(
    "SELECT ",
    place_columns!(),
    " FROM slots WHERE task_id = $1 ORDER BY step_id"
);

const CLAIMS_OF_TASK: &str = "SELECT user_id, task_id, step_id FROM claims WHERE task_id = $1";

/// Claims for one person run one at a time: the number of claimed slots cannot grow between
/// counting and claiming.
const LOCK_CLAIMANT: &str = "
    SELECT pg_advisory_xact_lock(
        hashtextextended('glyph claims ' || current_schema() || ' ' || $1, 0))";

/// A separate statement after the lock, so its snapshot is taken under the lock.
const COUNT_CLAIMS: &str = "SELECT count(*) FROM claims WHERE user_id = $1";

/// `unnest` cannot unnest an array of arrays by one level, so the people come as text.
const WRITE: &str = "
    WITH unset AS (
        DELETE FROM slots p
        USING unnest($1::uuid[], $2::text[]) AS u (task_id, step_id)
        WHERE p.task_id = u.task_id AND p.step_id = u.step_id
    ), freed AS (
        DELETE FROM claims c
        USING unnest($3::uuid[], $4::uuid[], $5::text[]) AS u (user_id, task_id, step_id)
        WHERE c.user_id = u.user_id AND c.task_id = u.task_id AND c.step_id = u.step_id
    ), claimed AS (
        INSERT INTO claims (user_id, task_id, step_id)
        SELECT * FROM unnest($6::uuid[], $7::uuid[], $8::text[])
        ON CONFLICT (user_id, task_id, step_id) DO NOTHING
    )
    INSERT INTO slots
        (task_id, step_id, visit, workflow, workflow_id, gold, submitted, reserved, waiting_since,
         barred, released, judged)
    SELECT n.task_id, n.step_id, n.visit, n.workflow, n.workflow_id, n.gold, n.submitted,
           n.reserved, n.waiting_since, string_to_array(n.barred, ',')::uuid[],
           string_to_array(n.released, ',')::uuid[], string_to_array(n.judged, ',')::uuid[]
    FROM unnest($9::uuid[], $10::text[], $11::int[], $12::text[], $13::uuid[], $14::bool[],
                $15::int[], $16::int[], $17::timestamptz[], $18::text[], $19::text[], $20::text[])
         AS n (task_id, step_id, visit, workflow, workflow_id, gold, submitted, reserved,
               waiting_since, barred, released, judged)
    ON CONFLICT (task_id, step_id) DO UPDATE
    SET visit = excluded.visit, workflow = excluded.workflow, workflow_id = excluded.workflow_id,
        gold = excluded.gold, submitted = excluded.submitted, reserved = excluded.reserved,
        waiting_since = excluded.waiting_since, barred = excluded.barred,
        released = excluded.released, judged = excluded.judged";

/// Changes of a batch, as arrays.
#[derive(Default)]
pub(super) struct SlotRows {
    unset: Vec<(TaskId, StepId)>,
    set: Vec<OpenSlot>,
    freed: Vec<ClaimedSlot>,
    claimed: Vec<ClaimedSlot>,
}

impl SlotRows {
    pub(super) fn push(&mut self, task: TaskId, change: SlotsChange) {
        let unset = change.open_unset.into_iter();
        self.unset.extend(unset.map(|step| (task, step)));
        self.set.extend(change.open_set);
        self.freed.extend(change.claims_unset);
        self.claimed.extend(change.claims_set);
    }

    pub(super) async fn write(self, conn: &mut PgConnection) -> Result<(), EventStoreError> {
        let Self {
            unset,
            set,
            freed,
            claimed,
        } = self;
        if unset.is_empty() && set.is_empty() && freed.is_empty() && claimed.is_empty() {
            return Ok(());
        }
        let number = |n: u32| i32::try_from(n).unwrap_or(i32::MAX);
        let people = |people: &[UserId]| {
            let people: Vec<String> = people.iter().map(ToString::to_string).collect();
            people.join(",")
        };
        let query = sqlx::query(WRITE)
            .bind(column(&unset, |(task, _)| task.0))
            .bind(column(&unset, |(_, step)| step.to_string()))
            .bind(column(&freed, |slot| slot.user_id.0))
            .bind(column(&freed, |slot| slot.task_id.0))
            .bind(column(&freed, |slot| slot.step_id.to_string()))
            .bind(column(&claimed, |slot| slot.user_id.0))
            .bind(column(&claimed, |slot| slot.task_id.0))
            .bind(column(&claimed, |slot| slot.step_id.to_string()))
            .bind(column(&set, |slot| slot.task_id.0))
            .bind(column(&set, |slot| slot.step_id.to_string()))
            .bind(column(&set, |slot| number(slot.visit)))
            .bind(column(&set, |slot| slot.workflow.to_string()))
            .bind(column(&set, |slot| slot.revision_id.0))
            .bind(column(&set, |slot| slot.gold))
            .bind(column(&set, |slot| number(slot.submitted)))
            .bind(column(&set, |slot| number(slot.reserved)))
            .bind(column(&set, |slot| slot.waiting_since))
            .bind(column(&set, |slot| people(&slot.barred)))
            .bind(column(&set, |slot| people(&slot.released)))
            .bind(column(&set, |slot| people(&slot.authors)));
        execute(conn, query).await.map(drop)
    }
}

/// How many slots a person has claimed, read under the lock of the person's claims.
pub(super) async fn count_held(
    conn: &mut PgConnection,
    user: UserId,
) -> Result<u32, EventStoreError> {
    execute(conn, sqlx::query(LOCK_CLAIMANT).bind(user.0.to_string())).await?;
    let claimed: i64 = scalar(conn, sqlx::query(COUNT_CLAIMS).bind(user.0)).await?;
    Ok(u32::try_from(claimed).unwrap_or(u32::MAX))
}

/// Replaces the slots of a task with those derived from its state; returns whether they differed.
pub(super) async fn replace(
    conn: &mut PgConnection,
    task: TaskId,
    slots: Slots,
) -> Result<bool, EventStoreError> {
    let open = sqlx::query(OPEN_OF_TASK).bind(task.0);
    let claimed = sqlx::query(CLAIMS_OF_TASK).bind(task.0);
    let found = Slots {
        open: fetch(conn, open, rows::open_slot).await?,
        claimed: fetch(conn, claimed, rows::claimed_slot).await?,
    };
    let change = slots.since(&found);
    let changed = !change.is_empty();
    let mut rows = SlotRows::default();
    rows.push(task, change);
    rows.write(conn).await?;
    Ok(changed)
}

#[async_trait]
impl SlotIndex for PgEventStore {
    async fn open_steps(
        &self,
        workflow: Option<&WorkflowId>,
        step: Option<&StepId>,
    ) -> Result<Vec<StepWithOpenSlots>, EventStoreError> {
        let query = sqlx::query(OPEN_STEPS)
            .bind(workflow.map(WorkflowId::as_str))
            .bind(step.map(StepId::as_str));
        self.fetch(WORK_TIMEOUT, query, rows::open_step).await
    }

    async fn open_slots(&self, query: SlotQuery) -> Result<Vec<OpenSlot>, EventStoreError> {
        let limit = query.limit.min(PAGE_MAX) as usize;
        let mut found = self.slots_of(&query, false, limit).await?;
        // Rarely asked: only once the person has nearly run out of other slots.
        if found.len() < limit {
            let rest = limit - found.len();
            found.extend(self.slots_of(&query, true, rest).await?);
        }
        Ok(found)
    }

    async fn claimed_slots(&self, user: UserId) -> Result<Vec<ClaimedSlot>, EventStoreError> {
        let query = sqlx::query(HELD).bind(user.0);
        self.fetch(WORK_TIMEOUT, query, rows::claimed_slot).await
    }

    async fn claim_counts(&self, limit: u32) -> Result<Vec<ClaimCount>, EventStoreError> {
        let query = sqlx::query(CLAIM_COUNTS).bind(i64::from(limit));
        self.fetch(WORK_TIMEOUT, query, rows::claim_count).await
    }

    async fn people_seen(
        &self,
        workflow: &WorkflowId,
        events: u32,
    ) -> Result<PeopleSeen, EventStoreError> {
        let newest = i64::from(events);
        let seen = sqlx::query(SEEN).bind(workflow.as_str()).bind(newest);
        let seen = self.fetch(WORK_TIMEOUT, seen, rows::seen).await?;
        let more = sqlx::query(BEYOND).bind(newest);
        let more = self.fetch_optional(WORK_TIMEOUT, more, |_| Ok(())).await?;
        Ok(rows::people_seen(seen, more.is_none()))
    }
}

impl PgEventStore {
    /// Open slots of visits in which the person has, or has not, released one.
    async fn slots_of(
        &self,
        query: &SlotQuery,
        released: bool,
        limit: usize,
    ) -> Result<Vec<OpenSlot>, EventStoreError> {
        let sql = match query.order {
            SlotOrder::FewestPeople => FEWEST_PEOPLE,
            SlotOrder::OldestBegun => OLDEST_BEGUN,
        };
        let query = sqlx::query(sql)
            .bind(query.step.revision_id.0)
            .bind(query.step.step_id.as_str())
            .bind(query.gold)
            .bind(query.user.0)
            .bind(query.prevents_reassignment)
            .bind(i64::try_from(limit).unwrap_or(i64::MAX))
            .bind(released);
        self.fetch(WORK_TIMEOUT, query, rows::open_slot).await
    }
}
