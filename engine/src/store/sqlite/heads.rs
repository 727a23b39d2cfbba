//! Heads of streams, under the lock of the file.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use sqlx::SqliteConnection;

use super::{
    super::{EventStoreError, PublisherId, batch::HeadOfStream, rows::Columns},
    query::fetch,
    rows::{array, micros},
};
use crate::ids::TaskId;

/// `relay_only`: a message of the task waits that is not leased to the publisher.
const HEADS: &str = "
    SELECT r.value AS task_id, COALESCE(t.version, 0) AS version, t.updated_at,
           COALESCE(t.status = 'archived', 0) AS archived, EXISTS (
        SELECT 1 FROM outbox AS o
        WHERE o.task_id = r.value
          AND (?2 IS NULL OR o.owner IS NOT ?2 OR o.leased_until <= ?3)
    ) AS relay_only
    FROM json_each(?1) AS r
    LEFT JOIN tasks AS t ON t.task_id = r.value";

/// The head of a stream.
#[derive(Clone, Copy, Debug)]
pub(super) struct Head {
    /// The stream's own part.
    pub(super) stream: HeadOfStream,
    /// Whether its new messages go to the relay.
    pub(super) relay_only: bool,
}

/// The heads of some streams, all of which are present in the result.
pub(super) async fn heads(
    connection: &mut SqliteConnection,
    tasks: &[TaskId],
    publisher: Option<PublisherId>,
    now: DateTime<Utc>,
) -> Result<HashMap<TaskId, Head>, EventStoreError> {
    if tasks.is_empty() {
        return Ok(HashMap::new());
    }
    let query = sqlx::query(HEADS)
        .bind(array(tasks)?)
        .bind(publisher.map(|publisher| publisher.0.hyphenated()))
        .bind(micros(now));
    let found = fetch(connection, query, |row| {
        let columns = Columns::of("tasks", row);
        let head = Head {
            stream: HeadOfStream {
                version: columns.number("version")?,
                decided: columns.opt_time("updated_at")?,
                archived: columns.flag("archived")?,
            },
            relay_only: columns.flag("relay_only")?,
        };
        Ok((columns.task("task_id")?, head))
    });
    Ok(found.await?.into_iter().collect())
}
