//! Open and claimed slots.

use async_trait::async_trait;
use sqlx::SqliteConnection;

use super::{
    super::{
        ClaimCount, EventStoreError, PeopleSeen, SlotIndex, SlotOrder, SlotQuery,
        StepWithOpenSlots, rows,
    },
    connection::SqliteEventStore,
    query::{execute, fetch, scalar},
    rows::{array, json, micros},
};
use crate::{
    ids::{StepId, TaskId, UserId, WorkflowId},
    limits::PAGE_MAX,
    state::{ClaimedSlot, OpenSlot, Slots, SlotsChange},
};

const OPEN_STEPS: &str = "
    SELECT DISTINCT s.workflow_id, s.step_id FROM slots AS s
    WHERE (?1 IS NULL OR s.workflow = ?1) AND (?2 IS NULL OR s.step_id = ?2)
      AND NOT EXISTS (
          SELECT 1 FROM workflow_pauses AS p
          WHERE p.workflow = s.workflow AND p.ended_at IS NULL
            AND (p.until IS NULL OR p.until > ?3))
    ORDER BY s.workflow_id, s.step_id";

const FEWEST_PEOPLE: &str = "
    SELECT * FROM slots
    WHERE workflow_id = ?1 AND step_id = ?2 AND gold = ?3
      AND NOT EXISTS (SELECT 1 FROM json_each(barred) WHERE value = ?4)
      AND NOT (?5 AND EXISTS (SELECT 1 FROM json_each(judged) WHERE value = ?4))
      AND EXISTS (SELECT 1 FROM json_each(released) WHERE value = ?4) = ?7
    ORDER BY taken, waiting_since, task_id
    LIMIT ?6";

const OLDEST_BEGUN: &str = "
    SELECT * FROM slots
    WHERE workflow_id = ?1 AND step_id = ?2 AND gold = ?3 AND submitted > 0
      AND NOT EXISTS (SELECT 1 FROM json_each(barred) WHERE value = ?4)
      AND NOT (?5 AND EXISTS (SELECT 1 FROM json_each(judged) WHERE value = ?4))
      AND EXISTS (SELECT 1 FROM json_each(released) WHERE value = ?4) = ?7
    ORDER BY waiting_since, task_id
    LIMIT ?6";

const HELD: &str = "SELECT * FROM claims WHERE user_id = ?1 ORDER BY task_id, step_id";

const CLAIM_COUNTS: &str = "
    SELECT user_id, COUNT(*) AS slots FROM claims
    GROUP BY user_id ORDER BY slots DESC, user_id LIMIT ?1";

/// The steps and roles of people at work, among the newest events of the log.
const SEEN: &str = "
    SELECT DISTINCT newest.event_data ->> 'step_id' AS step_id, role.value AS role
    FROM (
        SELECT stream_id, event_type, event_data FROM stored_events
        ORDER BY position DESC LIMIT ?2
    ) AS newest
    JOIN tasks AS t ON t.task_id = newest.stream_id AND t.workflow = ?1
    LEFT JOIN json_each(coalesce(
        newest.event_data -> '$.annotation.roles', newest.event_data -> '$.roles', '[]'
    )) AS role
    WHERE newest.event_type IN ('task_assigned', 'annotation_submitted')";

/// Whether the log has more events than that.
const BEYOND: &str = "SELECT 1 FROM stored_events ORDER BY position DESC LIMIT 1 OFFSET ?1";

const COUNT_CLAIMS: &str = "SELECT COUNT(*) FROM claims WHERE user_id = ?1";
const OPEN_OF_TASK: &str = "SELECT * FROM slots WHERE task_id = ?1 ORDER BY step_id";
const CLAIMS_OF_TASK: &str = "SELECT * FROM claims WHERE task_id = ?1";

const UNSET: &str = "
    DELETE FROM slots WHERE (task_id, step_id) IN (
        SELECT value ->> 0, value ->> 1 FROM json_each(?1))";

const FREE: &str = "
    DELETE FROM claims WHERE (user_id, task_id, step_id) IN (
        SELECT value ->> 0, value ->> 1, value ->> 2 FROM json_each(?1))";

const HOLD: &str = "
    INSERT INTO claims (user_id, task_id, step_id)
    SELECT value ->> 0, value ->> 1, value ->> 2 FROM json_each(?1) WHERE true
    ON CONFLICT (user_id, task_id, step_id) DO NOTHING";

const SET: &str = "
    INSERT INTO slots
        (task_id, step_id, visit, workflow, workflow_id, gold, submitted, reserved, waiting_since,
         barred, released, judged)
    SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5,
           value ->> 6, value ->> 7, value ->> 8, value ->> 9, value ->> 10, value ->> 11
    FROM json_each(?1) WHERE true
    ON CONFLICT (task_id, step_id) DO UPDATE SET
        visit = excluded.visit, workflow = excluded.workflow, workflow_id = excluded.workflow_id,
        gold = excluded.gold, submitted = excluded.submitted, reserved = excluded.reserved,
        waiting_since = excluded.waiting_since, barred = excluded.barred,
        released = excluded.released, judged = excluded.judged";

/// Writes the changes, each with its task.
pub(super) async fn write<'a>(
    connection: &mut SqliteConnection,
    changes: impl Iterator<Item = (TaskId, &'a SlotsChange)> + Clone,
) -> Result<(), EventStoreError> {
    let unset: Vec<_> = changes
        .clone()
        .flat_map(|(task, change)| change.open_unset.iter().map(move |step| (task, step)))
        .collect();
    let claim = |claimed: &'a ClaimedSlot| (claimed.user_id, claimed.task_id, &claimed.step_id);
    let freed: Vec<_> = changes
        .clone()
        .flat_map(|(_, change)| change.claims_unset.iter().map(claim))
        .collect();
    let claimed: Vec<_> = changes
        .clone()
        .flat_map(|(_, change)| change.claims_set.iter().map(claim))
        .collect();
    let set = changes
        .flat_map(|(_, change)| &change.open_set)
        .map(|slot| {
            Ok((
                slot.task_id,
                &slot.step_id,
                slot.visit,
                &slot.workflow,
                slot.revision_id,
                u8::from(slot.gold),
                slot.submitted,
                slot.reserved,
                micros(slot.waiting_since),
                json(&slot.barred)?,
                json(&slot.released)?,
                json(&slot.authors)?,
            ))
        })
        .collect::<Result<Vec<_>, EventStoreError>>()?;
    for (sql, rows, none) in [
        (UNSET, array(&unset)?, unset.is_empty()),
        (FREE, array(&freed)?, freed.is_empty()),
        (HOLD, array(&claimed)?, claimed.is_empty()),
        (SET, array(&set)?, set.is_empty()),
    ] {
        if !none {
            execute(connection, sqlx::query(sql).bind(rows)).await?;
        }
    }
    Ok(())
}

/// How many slots a person has claimed.
pub(super) async fn count_held(
    connection: &mut SqliteConnection,
    user: UserId,
) -> Result<u32, EventStoreError> {
    scalar(
        connection,
        sqlx::query(COUNT_CLAIMS).bind(user.0.hyphenated()),
    )
    .await
}

/// Replaces the slots of a task with those derived from its state; returns whether they differed.
pub(super) async fn replace(
    connection: &mut SqliteConnection,
    task: TaskId,
    slots: Slots,
) -> Result<bool, EventStoreError> {
    let open = sqlx::query(OPEN_OF_TASK).bind(task.0.hyphenated());
    let claimed = sqlx::query(CLAIMS_OF_TASK).bind(task.0.hyphenated());
    let found = Slots {
        open: fetch(&mut *connection, open, rows::open_slot).await?,
        claimed: fetch(&mut *connection, claimed, rows::claimed_slot).await?,
    };
    let change = slots.since(&found);
    write(connection, std::iter::once((task, &change))).await?;
    Ok(!change.is_empty())
}

#[async_trait]
impl SlotIndex for SqliteEventStore {
    async fn open_steps(
        &self,
        workflow: Option<&WorkflowId>,
        step: Option<&StepId>,
    ) -> Result<Vec<StepWithOpenSlots>, EventStoreError> {
        let query = sqlx::query(OPEN_STEPS)
            .bind(workflow.map(WorkflowId::as_str))
            .bind(step.map(StepId::as_str))
            .bind(micros(self.now()));
        self.fetch(query, rows::open_step).await
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
        let query = sqlx::query(HELD).bind(user.0.hyphenated());
        self.fetch(query, rows::claimed_slot).await
    }

    async fn claim_counts(&self, limit: u32) -> Result<Vec<ClaimCount>, EventStoreError> {
        let query = sqlx::query(CLAIM_COUNTS).bind(limit);
        self.fetch(query, rows::claim_count).await
    }

    async fn people_seen(
        &self,
        workflow: &WorkflowId,
        events: u32,
    ) -> Result<PeopleSeen, EventStoreError> {
        let newest = i64::from(events);
        let seen = sqlx::query(SEEN).bind(workflow.as_str()).bind(newest);
        let seen = self.fetch(seen, rows::seen).await?;
        let more = sqlx::query(BEYOND).bind(newest);
        let more = self.fetch_optional(more, |_| Ok(())).await?;
        Ok(rows::people_seen(seen, more.is_none()))
    }
}

impl SqliteEventStore {
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
            .bind(query.step.revision_id.0.hyphenated())
            .bind(query.step.step_id.as_str())
            .bind(query.gold)
            .bind(query.user.0.hyphenated())
            .bind(query.prevents_reassignment)
            .bind(i64::try_from(limit).unwrap_or(i64::MAX))
            .bind(released);
        self.fetch(query, rows::open_slot).await
    }
}
