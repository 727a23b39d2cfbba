//! Which commands were at work when a process died.
//!
//! A command that gets its process killed comes back, and with it everything that was delivered
//! beside it, all equally often. So before commands are run that have failed more than once, they
//! are written down, and taken out of the list afterwards. After the next death the list has the
//! few that were at work; they are run last and alone, and the others get past them.
//!
//! Only the order depends on the list: nothing is dead for being on it, and where it cannot be read
//! or written the broker's delivery limit still ends it. A kill by somebody's hand puts harmless commands on the list, too.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use chrono::{DateTime, TimeDelta, Utc};
use glyph_workflow_engine::{
    ids::CommandId,
    store::{EventStoreError, ProjectionWrite, Store},
};
use serde_json::{Value, json};
use tokio::time::sleep;
use uuid::Uuid;

/// The rows of the list: command id to how often it was at work, and when last.
const ROWS: &str = "suspects";
/// A row that nobody has taken back for this long belongs to a command that is gone.
const FORGOTTEN_AFTER: TimeDelta = TimeDelta::days(1);
/// Another lane writes at the same moment.
const TRIES: u32 = 20;
const AGAIN: Duration = Duration::from_millis(5);

/// The list, in the database.
pub(super) struct Suspects {
    store: Arc<dyn Store>,
}

impl Suspects {
    pub(super) fn new(store: Arc<dyn Store>) -> Self {
        Self { store }
    }

    /// How often each command on the list was at work.
    pub(super) async fn known(&self) -> HashMap<CommandId, u64> {
        let rows = self.store.projection_rows(ROWS).await;
        let rows = rows.inspect_err(unlisted).unwrap_or_default();
        let read = |(key, row): (String, Value)| {
            let id = Uuid::parse_str(&key).ok()?;
            Some((CommandId(id), row["runs"].as_u64()?))
        };
        rows.into_iter().filter_map(read).collect()
    }

    /// These commands are about to be run.
    pub(super) async fn at_work(&self, commands: &[CommandId]) {
        self.write(commands, |before, now| {
            let runs = before.and_then(|row| row["runs"].as_u64()).unwrap_or(0);
            Some(json!({"runs": runs + 1, "at": now}))
        })
        .await;
    }

    /// These commands were run, and the process lives.
    pub(super) async fn done(&self, commands: &[CommandId]) {
        self.write(commands, |_, _| None).await;
    }

    async fn write(
        &self,
        commands: &[CommandId],
        row: impl Fn(Option<&Value>, DateTime<Utc>) -> Option<Value>,
    ) {
        for _ in 0..TRIES {
            match self.try_write(commands, &row).await {
                Ok(true) => return,
                Ok(false) => sleep(AGAIN).await,
                Err(error) => return unlisted(&error),
            }
        }
        tracing::debug!("the list of suspects is busy");
    }

    /// Returns false if somebody else is writing.
    async fn try_write(
        &self,
        commands: &[CommandId],
        row: &impl Fn(Option<&Value>, DateTime<Utc>) -> Option<Value>,
    ) -> Result<bool, EventStoreError> {
        // It reads no events: its rows alone are of use here.
        let Some(open) = self.store.open_projection(ROWS, 0).await? else {
            return Ok(false);
        };
        let mut rows = BTreeMap::new();
        for (key, old) in &open.rows {
            let at = old["at"].as_str().and_then(|at| at.parse().ok());
            if at.is_none_or(|at: DateTime<Utc>| open.now - at > FORGOTTEN_AFTER) {
                rows.insert(key.clone(), None);
            }
        }
        for command in commands {
            let key = command.0.to_string();
            let new = row(open.rows.get(&key), open.now);
            if new.is_some() || open.rows.contains_key(&key) {
                rows.insert(key, new);
            }
        }
        let write = ProjectionWrite {
            rows,
            ..ProjectionWrite::default()
        };
        open.commit(write).await?;
        Ok(true)
    }
}

fn unlisted(error: &EventStoreError) {
    tracing::debug!(%error, "the list of suspects cannot be used");
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use glyph_workflow_engine::store::MemoryStore;

    use super::*;

    #[tokio::test]
    async fn what_nobody_took_back_is_forgotten_after_a_day() {
        let now = Arc::new(Mutex::new(DateTime::UNIX_EPOCH));
        let clock = Arc::clone(&now);
        let store = MemoryStore::with_clock(Arc::new(move || *clock.lock().unwrap()));
        let suspects = Suspects::new(Arc::new(store));
        let [one, other, third] = [1, 2, 3].map(|id| CommandId(Uuid::from_u128(id)));
        suspects.at_work(&[one]).await;
        suspects.at_work(&[one, other]).await;
        suspects.done(&[other, third]).await;
        assert_eq!(suspects.known().await, HashMap::from([(one, 2)]));

        for (hours, kept) in [(24, true), (1, false)] {
            *now.lock().unwrap() += TimeDelta::hours(hours);
            suspects.at_work(&[third]).await;
            assert_eq!(suspects.known().await.contains_key(&one), kept, "{hours}");
        }
    }
}
