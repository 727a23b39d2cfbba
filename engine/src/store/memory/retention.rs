//! Retention. This store has no accounts and no file: it deletes as the others do.

use std::collections::{BTreeSet, HashMap, HashSet};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::{Value, value::RawValue};
use uuid::Uuid;

use super::{
    super::{
        BroughtBack, CommandRow, EventStoreError, Leftover, LeftoverPage, RecordedOutcome,
        Retention, ToArchive, WholeCommand, WholeEvent, WholeTask, retention::EventPlace,
    },
    data::{Data, MemoryStore},
    locks::Lock,
};
use crate::{events::StoredEvent, ids::TaskId, state::WorkflowSnapshot};

#[async_trait]
impl Retention for MemoryStore {
    async fn check_owner(&self) -> Result<(), EventStoreError> {
        Ok(())
    }

    async fn leftovers(
        &self,
        kind: Leftover,
        after: Option<Uuid>,
        limit: u32,
        delete: bool,
    ) -> Result<LeftoverPage, EventStoreError> {
        let mut data = self.data();
        let mut ids: BTreeSet<Uuid> = match kind {
            Leftover::Snapshots => data.snapshots.keys().map(|task| task.0).collect(),
            Leftover::Drafts => data.drafts.keys().map(|(task, ..)| task.0).collect(),
            Leftover::RejectedPayloads => data.exported.iter().map(|id| id.0).collect(),
        };
        ids.retain(|id| after.is_none_or(|after| *id > after));
        let mut page = LeftoverPage::default();
        let ids: Vec<Uuid> = ids.into_iter().take(limit as usize).collect();
        page.next_after = ids.get(limit as usize - 1).copied();
        for id in ids {
            for bytes in data.leftovers_of(kind, id, delete) {
                page.rows += 1;
                page.bytes += bytes;
            }
        }
        Ok(page)
    }

    async fn archivable(
        &self,
        before: DateTime<Utc>,
        after: Option<TaskId>,
        limit: u32,
    ) -> Result<Vec<TaskId>, EventStoreError> {
        let data = self.data();
        let tasks = data.tasks.values().filter(|row| {
            after.is_none_or(|after| row.task_id > after)
                && row.updated_at < before
                && data.may_be_archived(row.task_id)
        });
        let ids = tasks.map(|row| row.task_id);
        Ok(ids.take(limit as usize).collect())
    }

    async fn whole_task(&self, task: TaskId) -> Result<Option<WholeTask>, EventStoreError> {
        let data = self.data();
        let Some(row) = data.tasks.get(&task) else {
            return Ok(None);
        };
        let events = data.placed(task);
        let events = events
            .map(|(position, event)| whole_event(position, event))
            .collect::<Result<Vec<_>, _>>()?;
        let stream = data.streams.get(&task).into_iter().flatten();
        let causes: HashSet<_> = stream.map(|event| event.metadata.command_id).collect();
        let is_of_task = |row: &&CommandRow| {
            let rejected = matches!(row.outcome, RecordedOutcome::Rejected { .. });
            row.task_id == Some(task) && (rejected || causes.contains(&row.command_id))
        };
        let commands = data.commands.values().filter(is_of_task).cloned();
        let mut commands: Vec<WholeCommand> = commands.map(WholeCommand::from).collect();
        commands.sort_by_key(|row| (row.decided_at, row.command_id));
        let drafts = data.drafts.values().filter(|draft| draft.task_id == task);
        Ok(Some(WholeTask {
            task: row.clone(),
            events,
            commands,
            drafts: drafts.cloned().collect(),
        }))
    }

    async fn archive(&self, tasks: &[ToArchive]) -> Result<Vec<TaskId>, EventStoreError> {
        let now = self.now();
        let mut data = self.data();
        let mut archived = Vec::new();
        for ToArchive { whole, state } in tasks {
            let task = whole.task.task_id;
            let Some(_head) = self.locks.try_take(Lock::Head(task)) else {
                continue;
            };
            if data.version(task) == whole.task.version && data.may_be_archived(task) {
                data.archive(whole, state.clone().archived_at(now));
                archived.push(task);
            }
        }
        Ok(archived)
    }

    async fn bring_back(&self, whole: &WholeTask) -> Result<BroughtBack, EventStoreError> {
        let _head = self.locks.take(Lock::Head(whole.task.task_id)).await;
        let mut data = self.data();
        let task = whole.task.task_id;
        if !data.tasks.contains_key(&task) {
            return Ok(BroughtBack::NotThere);
        }
        let found = data.placed(task).map(|(position, event)| {
            let place = EventPlace {
                event_id: event.event_id,
                batch: 0,
                position,
            };
            (event.version, place)
        });
        if data.version(task) != whole.task.version || !whole.has(found) {
            return Ok(BroughtBack::Another);
        }
        if !data.archived.contains_key(&task) {
            return Ok(BroughtBack::AlreadyWhole);
        }
        let mut events = Vec::with_capacity(whole.events.len());
        for event in &whole.events {
            let read = event.read(task);
            let read = read.map_err(|error| EventStoreError::Data(error.into()))?;
            let index = usize::try_from(event.position - 1).unwrap_or(usize::MAX);
            if let Some(entry) = data.log.get_mut(index) {
                *entry = Some((whole.task.workflow.clone(), read.clone()));
            }
            events.push(read);
        }
        data.streams.insert(task, events);
        for command in &whole.commands {
            let row = CommandRow {
                command_id: command.command_id,
                task_id: Some(task),
                command_type: command.command_type.clone(),
                content_hash: command.hash().unwrap_or_default(),
                outcome: command.outcome.clone(),
                payload: command.payload.clone(),
                decided_at: command.decided_at,
            };
            data.commands.entry(row.command_id).or_insert(row);
        }
        for draft in &whole.drafts {
            let key = (task, draft.step_id.clone(), draft.visit, draft.user_id);
            data.drafts.entry(key).or_insert_with(|| draft.clone());
        }
        data.tasks.insert(task, whole.task.clone());
        data.archived.remove(&task);
        Ok(BroughtBack::Restored)
    }

    async fn archived(
        &self,
        tasks: &[TaskId],
    ) -> Result<HashMap<TaskId, DateTime<Utc>>, EventStoreError> {
        let data = self.data();
        let at = |task: &TaskId| Some((*task, data.archived.get(task)?.archived?.at));
        Ok(tasks.iter().filter_map(at).collect())
    }
}

impl Data {
    /// The events of a task that are in the log, with their positions.
    fn placed(&self, task: TaskId) -> impl Iterator<Item = (i64, &StoredEvent)> {
        let log = (1_i64..).zip(&self.log);
        log.filter_map(move |(position, entry)| {
            let (_, event) = entry.as_ref()?;
            (event.task_id == task).then_some((position, event))
        })
    }

    fn may_be_archived(&self, task: TaskId) -> bool {
        let ended = self
            .tasks
            .get(&task)
            .is_some_and(|row| row.status.is_final());
        let timers = self.due.values().any(|(timer, _)| timer.task_id == task);
        let mut outbox = self.outbox.values();
        let sends = outbox.any(|message| message.row.task_id == Some(task));
        ended && !timers && !sends && !self.archived.contains_key(&task)
    }

    fn archive(&mut self, whole: &WholeTask, state: WorkflowSnapshot) {
        let task = whole.task.task_id;
        let leaving: HashSet<u64> = whole.leaving().into_iter().collect();
        for entry in &mut self.log {
            if entry
                .as_ref()
                .is_some_and(|(_, event)| event.task_id == task && leaving.contains(&event.version))
            {
                *entry = None;
            }
        }
        if let Some(events) = self.streams.get_mut(&task) {
            events.retain(|event| !leaving.contains(&event.version));
        }
        for command in &whole.commands {
            let id = command.command_id;
            let stays = self.commands.get(&id).is_some_and(|row| {
                let rejected = matches!(row.outcome, RecordedOutcome::Rejected { .. });
                rejected && row.payload.is_some() && !self.exported.contains(&id)
            });
            if !stays {
                self.commands.remove(&id);
            }
        }
        self.snapshots.remove(&task);
        self.drafts.retain(|(of, ..), _| *of != task);
        if let Some(row) = self.tasks.get_mut(&task) {
            row.status = state.status;
        }
        self.archived.insert(task, state);
    }

    /// The sizes of leftovers of one task or command.
    fn leftovers_of(&mut self, kind: Leftover, id: Uuid, delete: bool) -> Vec<u64> {
        match kind {
            Leftover::Snapshots => {
                let Some(states) = self.snapshots.get_mut(&TaskId(id)) else {
                    return Vec::new();
                };
                let newest = states.keys().next_back().copied().unwrap_or_default();
                let old = states.range(..newest);
                let sizes = old.map(|(_, state)| size(state)).collect();
                if delete {
                    states.retain(|version, _| *version == newest);
                }
                sizes
            }
            Leftover::Drafts => {
                let row = self.tasks.get(&TaskId(id));
                if !row.is_some_and(|row| row.status.is_final()) {
                    return Vec::new();
                }
                let of_task = self.drafts.iter().filter(|((task, ..), _)| task.0 == id);
                let sizes = of_task.map(|(_, draft)| size(&draft.draft)).collect();
                if delete {
                    self.drafts.retain(|(task, ..), _| task.0 != id);
                }
                sizes
            }
            Leftover::RejectedPayloads => {
                let Some(row) = self.commands.get_mut(&id.into()) else {
                    return Vec::new();
                };
                let sizes = row.payload.iter().map(size).collect();
                if delete {
                    row.payload = None;
                }
                sizes
            }
        }
    }
}

fn size(content: &impl Serialize) -> u64 {
    serde_json::to_string(content).map_or(0, |text| text.len() as u64)
}

fn whole_event(position: i64, event: &StoredEvent) -> Result<WholeEvent, EventStoreError> {
    let raw = |value: &Value| RawValue::from_string(value.to_string());
    let write = || {
        let content = serde_json::to_value(&event.event)?;
        let metadata = serde_json::to_value(&event.metadata)?;
        Ok((raw(&content["event_data"])?, raw(&metadata)?))
    };
    let (event_data, metadata) =
        write().map_err(|error: serde_json::Error| EventStoreError::Data(error.into()))?;
    Ok(WholeEvent {
        version: event.version,
        event_id: event.event_id,
        event_type: event.event.event_type().to_owned(),
        event_data,
        metadata,
        occurred_at: event.occurred_at,
        batch: 0,
        position,
    })
}
