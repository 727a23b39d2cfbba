//! The log of all events, and the annotator models learned from it.

use async_trait::async_trait;
use uuid::Uuid;

use super::{
    super::{
        EventStoreError, LogEntry, LogFilter, LogPage, LogPosition, LoggedMessage, MessageLog,
        ModelCheckpoint, ReliabilityStore,
    },
    data::{Data, MemoryStore},
};

pub(super) fn entries(data: &Data, after: usize, limit: u32) -> Vec<LogEntry> {
    (1_i64..)
        .zip(&data.log)
        .skip(after)
        .filter_map(|(entry, event)| Some((entry, event.as_ref()?)))
        .take(limit as usize)
        .map(|(entry, (workflow, event))| LogEntry {
            position: LogPosition { entry, position: 0 },
            workflow: workflow.clone(),
            started_at: data
                .streams
                .get(&event.task_id)
                .and_then(|events| events.first())
                .map_or(event.occurred_at, |first| first.occurred_at),
            event: event.clone(),
        })
        .collect()
}

#[async_trait]
impl MessageLog for MemoryStore {
    async fn log_end(&self) -> Result<LogPosition, EventStoreError> {
        let data = self.data();
        let number = |len: usize| i64::try_from(len).unwrap_or(i64::MAX);
        Ok(LogPosition {
            entry: number(data.log.len()),
            position: number(data.log_messages.len()),
        })
    }

    async fn logged_messages(
        &self,
        after: LogPosition,
        through: LogPosition,
        limit: u32,
    ) -> Result<Vec<(LogPosition, LoggedMessage)>, EventStoreError> {
        let data = self.data();
        let all = (1_i64..).zip(&data.log_messages);
        let placed = all.map(|(position, (events, message))| {
            let entry = i64::try_from(*events).unwrap_or(i64::MAX);
            (LogPosition { entry, position }, message.clone())
        });
        let wanted = placed.filter(|(position, _)| *position > after && *position <= through);
        Ok(wanted.take(limit as usize).collect())
    }
}

#[async_trait]
impl ReliabilityStore for MemoryStore {
    async fn read_workflow_log(
        &self,
        filter: LogFilter,
        after: LogPosition,
        limit: u32,
    ) -> Result<LogPage, EventStoreError> {
        let data = self.data();
        let skip = usize::try_from(after.entry).unwrap_or_default();
        let mut page = LogPage {
            entries: Vec::new(),
            through: after,
            read: 0,
            is_last: false,
        };
        let rest = (1_i64..).zip(&data.log).skip(skip);
        let rest = rest.filter_map(|(entry, event)| Some((entry, event.as_ref()?)));
        for (entry, (workflow, event)) in rest.take(limit as usize) {
            page.read += 1;
            page.through = LogPosition { entry, position: 0 };
            let asked = filter.event_types.contains(&event.event.event_type());
            if asked && *workflow == filter.workflow {
                page.entries.push((page.through, event.clone()));
            }
        }
        page.is_last = page.read < limit;
        Ok(page)
    }

    async fn model_checkpoint(
        &self,
        model: Uuid,
    ) -> Result<Option<ModelCheckpoint>, EventStoreError> {
        Ok(self.data().learnt.get(&model).cloned())
    }

    async fn checkpoint_position(
        &self,
        model: Uuid,
    ) -> Result<Option<LogPosition>, EventStoreError> {
        Ok(self.data().learnt.get(&model).map(|row| row.position))
    }

    async fn keep_model(&self, row: ModelCheckpoint) -> Result<(), EventStoreError> {
        let mut data = self.data();
        let further = |kept: &ModelCheckpoint| kept.position >= row.position;
        if !data.learnt.get(&row.model).is_some_and(further) {
            data.learnt.insert(row.model, row);
        }
        Ok(())
    }

    async fn forget_models(&self) -> Result<(), EventStoreError> {
        self.data().learnt.clear();
        Ok(())
    }
}
