//! Free and claimed places.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use sqlx::{PgConnection, Row, postgres::PgRow};
use uuid::Uuid;

use super::{
    super::{EventStoreError, OpenStep, PlaceIndex, PlaceOrder, PlaceQuery},
    PgEventStore,
    connection::WORK_TIMEOUT,
    error::classify,
    rows::unsigned,
    tasks::{int, slug},
};
use crate::{
    ids::{RevisionId, StepId, TaskId, UserId, WorkflowId},
    limits::PAGE_MAX,
    state::{HeldPlace, OpenPlace, Places, PlacesChange},
};

/// A skip scan: one step through the index for each step of a revision, however many tasks wait.
const OPEN_STEPS: &str = "
    WITH RECURSIVE steps AS (
        (SELECT workflow_id, step_id, workflow FROM places ORDER BY workflow_id, step_id LIMIT 1)
        UNION ALL
        SELECT next.workflow_id, next.step_id, next.workflow
        FROM steps CROSS JOIN LATERAL (
            SELECT p.workflow_id, p.step_id, p.workflow FROM places p
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

const FEWEST_PEOPLE: &str = "
    SELECT task_id, step_id, visit, workflow, workflow_id, gold, submitted, reserved,
           waiting_since, barred, judged
    FROM places
    WHERE workflow_id = $1 AND step_id = $2 AND gold = $3
      AND NOT $4 = ANY (barred) AND NOT ($5 AND $4 = ANY (judged))
    ORDER BY taken, waiting_since, task_id LIMIT $6";

const OLDEST_BEGUN: &str = "
    SELECT task_id, step_id, visit, workflow, workflow_id, gold, submitted, reserved,
           waiting_since, barred, judged
    FROM places
    WHERE workflow_id = $1 AND step_id = $2 AND gold = $3 AND submitted > 0
      AND NOT $4 = ANY (barred) AND NOT ($5 AND $4 = ANY (judged))
    ORDER BY waiting_since, task_id LIMIT $6";

const HELD: &str = "
    SELECT user_id, task_id, step_id FROM claims WHERE user_id = $1 ORDER BY task_id, step_id";

const OPEN_OF_TASK: &str = "
    SELECT task_id, step_id, visit, workflow, workflow_id, gold, submitted, reserved,
           waiting_since, barred, judged
    FROM places WHERE task_id = $1 ORDER BY step_id";

const HELD_OF_TASK: &str = "SELECT user_id, task_id, step_id FROM claims WHERE task_id = $1";

/// People in an array of arrays cannot be unnested by one level, so they come as text.
const WRITE: &str = "
    WITH unset AS (
        DELETE FROM places p
        USING unnest($1::uuid[], $2::text[]) AS u (task_id, step_id)
        WHERE p.task_id = u.task_id AND p.step_id = u.step_id
    ), freed AS (
        DELETE FROM claims c
        USING unnest($3::uuid[], $4::uuid[], $5::text[]) AS u (user_id, task_id, step_id)
        WHERE c.user_id = u.user_id AND c.task_id = u.task_id AND c.step_id = u.step_id
    ), held AS (
        INSERT INTO claims (user_id, task_id, step_id)
        SELECT * FROM unnest($6::uuid[], $7::uuid[], $8::text[])
        ON CONFLICT (user_id, task_id, step_id) DO NOTHING
    )
    INSERT INTO places
        (task_id, step_id, visit, workflow, workflow_id, gold, submitted, reserved, waiting_since,
         barred, judged)
    SELECT n.task_id, n.step_id, n.visit, n.workflow, n.workflow_id, n.gold, n.submitted,
           n.reserved, n.waiting_since, string_to_array(n.barred, ',')::uuid[],
           string_to_array(n.judged, ',')::uuid[]
    FROM unnest($9::uuid[], $10::text[], $11::int[], $12::text[], $13::uuid[], $14::bool[],
                $15::int[], $16::int[], $17::timestamptz[], $18::text[], $19::text[])
         AS n (task_id, step_id, visit, workflow, workflow_id, gold, submitted, reserved,
               waiting_since, barred, judged)
    ON CONFLICT (task_id, step_id) DO UPDATE
    SET visit = excluded.visit, workflow = excluded.workflow, workflow_id = excluded.workflow_id,
        gold = excluded.gold, submitted = excluded.submitted, reserved = excluded.reserved,
        waiting_since = excluded.waiting_since, barred = excluded.barred, judged = excluded.judged";

/// Changes of a batch, as arrays.
#[derive(Default)]
pub(super) struct PlaceRows {
    unset: Vec<(TaskId, StepId)>,
    set: Vec<OpenPlace>,
    freed: Vec<HeldPlace>,
    held: Vec<HeldPlace>,
}

impl PlaceRows {
    pub(super) fn push(&mut self, task: TaskId, change: PlacesChange) {
        let unset = change.open_unset.into_iter();
        self.unset.extend(unset.map(|step| (task, step)));
        self.set.extend(change.open_set);
        self.freed.extend(change.held_unset);
        self.held.extend(change.held_set);
    }

    pub(super) async fn write(self, conn: &mut PgConnection) -> Result<(), EventStoreError> {
        let Self {
            unset,
            set,
            freed,
            held,
        } = self;
        if unset.is_empty() && set.is_empty() && freed.is_empty() && held.is_empty() {
            return Ok(());
        }
        let number = |n: u32| i32::try_from(n).unwrap_or(i32::MAX);
        let people = |people: &[UserId]| {
            let people: Vec<String> = people.iter().map(ToString::to_string).collect();
            people.join(",")
        };
        sqlx::query(WRITE)
            .bind(column(&unset, |(task, _)| task.0))
            .bind(column(&unset, |(_, step)| step.to_string()))
            .bind(column(&freed, |place| place.user_id.0))
            .bind(column(&freed, |place| place.task_id.0))
            .bind(column(&freed, |place| place.step_id.to_string()))
            .bind(column(&held, |place| place.user_id.0))
            .bind(column(&held, |place| place.task_id.0))
            .bind(column(&held, |place| place.step_id.to_string()))
            .bind(column(&set, |place| place.task_id.0))
            .bind(column(&set, |place| place.step_id.to_string()))
            .bind(column(&set, |place| number(place.visit)))
            .bind(column(&set, |place| place.workflow.to_string()))
            .bind(column(&set, |place| place.revision_id.0))
            .bind(column(&set, |place| place.gold))
            .bind(column(&set, |place| number(place.submitted)))
            .bind(column(&set, |place| number(place.reserved)))
            .bind(column(&set, |place| place.waiting_since))
            .bind(column(&set, |place| people(&place.barred)))
            .bind(column(&set, |place| people(&place.judged)))
            .execute(conn)
            .await
            .map_err(classify)?;
        Ok(())
    }
}

/// One column of rows.
fn column<R, C>(rows: &[R], value: impl Fn(&R) -> C) -> Vec<C> {
    rows.iter().map(value).collect()
}

/// Replaces the places of a task by those that follow from its state; answers whether they differ.
pub(super) async fn replace(
    conn: &mut PgConnection,
    task: TaskId,
    places: Places,
) -> Result<bool, EventStoreError> {
    let open = sqlx::query(OPEN_OF_TASK)
        .bind(task.0)
        .fetch_all(&mut *conn)
        .await
        .map_err(classify)?;
    let held = sqlx::query(HELD_OF_TASK)
        .bind(task.0)
        .fetch_all(&mut *conn)
        .await
        .map_err(classify)?;
    let found = Places {
        open: open.iter().map(open_place).collect::<Result<_, _>>()?,
        held: held.iter().map(held_place).collect::<Result<_, _>>()?,
    };
    let change = places.since(&found);
    let changed = !change.is_empty();
    let mut rows = PlaceRows::default();
    rows.push(task, change);
    rows.write(conn).await?;
    Ok(changed)
}

fn open_place(row: &PgRow) -> Result<OpenPlace, EventStoreError> {
    let people = |column: &str| -> Result<Vec<UserId>, EventStoreError> {
        let ids: Vec<Uuid> = row.try_get(column).map_err(classify)?;
        Ok(ids.into_iter().map(UserId).collect())
    };
    Ok(OpenPlace {
        task_id: TaskId(row.try_get("task_id").map_err(classify)?),
        step_id: slug("places", row.try_get("step_id").map_err(classify)?)?,
        visit: unsigned("places", int(row, "visit")?)?,
        workflow: slug("places", row.try_get("workflow").map_err(classify)?)?,
        revision_id: RevisionId(row.try_get("workflow_id").map_err(classify)?),
        gold: row.try_get("gold").map_err(classify)?,
        submitted: unsigned("places", int(row, "submitted")?)?,
        reserved: unsigned("places", int(row, "reserved")?)?,
        waiting_since: row
            .try_get::<DateTime<Utc>, _>("waiting_since")
            .map_err(classify)?,
        barred: people("barred")?,
        judged: people("judged")?,
    })
}

fn held_place(row: &PgRow) -> Result<HeldPlace, EventStoreError> {
    Ok(HeldPlace {
        user_id: UserId(row.try_get("user_id").map_err(classify)?),
        task_id: TaskId(row.try_get("task_id").map_err(classify)?),
        step_id: slug("claims", row.try_get("step_id").map_err(classify)?)?,
    })
}

#[async_trait]
impl PlaceIndex for PgEventStore {
    async fn open_steps(
        &self,
        workflow: Option<&WorkflowId>,
        step: Option<&StepId>,
    ) -> Result<Vec<OpenStep>, EventStoreError> {
        let (workflow, step) = (workflow.cloned(), step.cloned());
        let rows = self
            .run(WORK_TIMEOUT, move |conn| {
                Box::pin(async move {
                    sqlx::query(OPEN_STEPS)
                        .bind(workflow.as_deref())
                        .bind(step.as_deref())
                        .fetch_all(conn)
                        .await
                        .map_err(classify)
                })
            })
            .await?;
        rows.iter()
            .map(|row| {
                Ok(OpenStep {
                    revision_id: RevisionId(row.try_get("workflow_id").map_err(classify)?),
                    step_id: slug("places", row.try_get("step_id").map_err(classify)?)?,
                })
            })
            .collect()
    }

    async fn open_places(&self, query: PlaceQuery) -> Result<Vec<OpenPlace>, EventStoreError> {
        let rows = self
            .run(WORK_TIMEOUT, move |conn| {
                Box::pin(async move {
                    let sql = match query.order {
                        PlaceOrder::FewestPeople => FEWEST_PEOPLE,
                        PlaceOrder::OldestBegun => OLDEST_BEGUN,
                    };
                    sqlx::query(sql)
                        .bind(query.step.revision_id.0)
                        .bind(query.step.step_id.as_str())
                        .bind(query.gold)
                        .bind(query.user.0)
                        .bind(query.prevents_reassignment)
                        .bind(i64::from(query.limit.min(PAGE_MAX)))
                        .fetch_all(conn)
                        .await
                        .map_err(classify)
                })
            })
            .await?;
        rows.iter().map(open_place).collect()
    }

    async fn held_places(&self, user: UserId) -> Result<Vec<HeldPlace>, EventStoreError> {
        let rows = self
            .run(WORK_TIMEOUT, move |conn| {
                Box::pin(async move {
                    let rows = sqlx::query(HELD).bind(user.0).fetch_all(conn).await;
                    rows.map_err(classify)
                })
            })
            .await?;
        rows.iter().map(held_place).collect()
    }
}
