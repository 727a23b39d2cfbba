//! What a selection picks becomes the items of a job.

use std::collections::HashMap;

use async_trait::async_trait;
use glyph_workflow_engine::{
    ids::CommandId,
    limits::PAGE_MAX,
    store::{CommandRow, JobItemState, JobRow, JobState, JobWrite, NewJobItem},
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{
    error::JobError,
    runner::JobRun,
    spec::{JobSettings, first_replay, replay_of},
};
use crate::dead_letters::{KeepError, Letter, LetterStore};

/// Rejected commands per read.
const PAGE: u32 = 500;
/// Items per read; each may be large.
const ITEMS: u32 = 50;

/// Where a rejected command came from, and under which id it is tried again.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
pub(super) struct ReplayIds {
    pub(super) source: CommandId,
    pub(super) replay: CommandId,
}

impl JobRun<'_> {
    /// Moves the chosen letters from the dead queue into the job.
    ///
    /// One job after the other. A letter that is an item may be in the queue again until its job knows
    /// that it is gone, and one that a job puts back is in it before the job knows; a job that took
    /// either would hold it twice.
    pub(super) async fn freeze_letters(
        &self,
        job: &JobRow,
        settings: &JobSettings,
    ) -> Result<(), JobError> {
        let jobs = self.store.jobs(PAGE_MAX).await?;
        let is_earlier = |other: &&JobRow| {
            other.state == JobState::Running
                && other.kind == job.kind
                && (other.created_at, other.id) < (job.created_at, job.id)
        };
        let has_begun = job.items() > 0;
        if let Some(first) = jobs.iter().find(is_earlier).filter(|_| !has_begun) {
            return Err(JobError::Behind(first.id));
        }
        let mut keeper = LetterKeeper {
            run: self,
            stored: self.arriving().await?,
        };
        let chosen = |handle: &str, letter: &Letter| {
            let picked = settings.select.picks(handle, letter);
            if picked && letter.stored().is_none() {
                tracing::warn!(
                    letter = handle,
                    "a dead letter stays: a number in its headers is none"
                );
                return false;
            }
            picked
        };
        self.letters.take(&chosen, &mut keeper).await?;
        Ok(())
    }

    /// Letters that were stored and perhaps not removed, by content.
    async fn arriving(&self) -> Result<HashMap<String, usize>, JobError> {
        let (mut stored, mut after) = (HashMap::new(), 0);
        loop {
            let page = self
                .store
                .job_items(self.id, JobItemState::Arriving, after, ITEMS);
            let page = page.await?;
            let Some(last) = page.last() else {
                return Ok(stored);
            };
            after = last.ordinal;
            for item in page {
                *stored.entry(item.identity).or_default() += 1;
            }
        }
    }

    /// Makes items of the chosen rejected commands, oldest first. A process that goes on after
    /// another one begins behind the last item.
    pub(super) async fn freeze_rejected(
        &self,
        job: &JobRow,
        settings: &JobSettings,
    ) -> Result<(), JobError> {
        if !settings.select.ids.is_empty() {
            return self.freeze_named(settings).await;
        }
        let last = self.store.last_job_item(self.id).await?;
        let mut after = match last {
            Some(item) => Some(ids_of(&item.properties)?.source),
            None => None,
        };
        let filter = settings.select.of_rejected();
        loop {
            let page = self.store.rejected(&filter, after, PAGE).await?;
            let rows = page.commands.into_iter();
            let rows: Vec<_> = rows
                .filter(|row| row.decided_at <= job.created_at)
                .collect();
            let first: Vec<_> = rows
                .iter()
                .map(|row| replay_of(row.command_id, 1))
                .collect();
            let known = self.store.commands(&first).await?;
            let items = rows.into_iter().zip(first).filter(|(_, replay)| {
                // It was tried before: it is done, or its replay is in the list itself.
                !known.iter().any(|row| row.command_id == *replay)
            });
            let items: Vec<_> = items
                .filter_map(|(row, replay)| item_of(&row, replay))
                .collect();
            self.add_pending(items).await?;
            match page.next_after {
                Some(next) => after = Some(next),
                None => return Ok(()),
            }
        }
    }

    /// Commands named one by one are all added in one write.
    async fn freeze_named(&self, settings: &JobSettings) -> Result<(), JobError> {
        if self.store.last_job_item(self.id).await?.is_some() {
            return Ok(());
        }
        let ids = settings.select.ids.iter();
        let ids: Vec<_> = ids
            .filter_map(|id| Uuid::parse_str(id).ok().map(CommandId))
            .collect();
        let mut rows = self.store.commands(&ids).await?;
        rows.sort_by_key(|row| (row.decided_at, row.command_id));
        let mut items = Vec::new();
        for row in rows {
            if let Ok(replay) = first_replay(self.store, row.command_id).await? {
                items.extend(item_of(&row, replay));
            }
        }
        self.add_pending(items).await
    }

    async fn add_pending(&self, items: Vec<NewJobItem>) -> Result<(), JobError> {
        self.write(JobWrite {
            add: Some((JobItemState::Pending, items)),
            ..JobWrite::default()
        })
        .await
    }
}

fn item_of(row: &CommandRow, replay: CommandId) -> Option<NewJobItem> {
    let payload = row.payload.as_ref()?;
    let ids = ReplayIds {
        source: row.command_id,
        replay,
    };
    Some(NewJobItem {
        identity: row.command_id.to_string(),
        order_key: row.task_id.map(|task| task.to_string()),
        properties: serde_json::to_string(&ids).ok()?,
        body: payload.to_string().into_bytes(),
    })
}

pub(super) fn ids_of(properties: &str) -> Result<ReplayIds, JobError> {
    serde_json::from_str(properties).map_err(|_| JobError::Unknown)
}

/// Stores letters as items of a job.
struct LetterKeeper<'r> {
    run: &'r JobRun<'r>,
    /// Letters that are items already, by content.
    stored: HashMap<String, usize>,
}

#[async_trait]
impl LetterStore for LetterKeeper<'_> {
    async fn keep(&mut self, page: Vec<Letter>) -> Result<(), KeepError> {
        let mut items = Vec::with_capacity(page.len());
        for letter in page {
            let identity = letter.hash();
            if let Some(stored) = self.stored.get_mut(&identity).filter(|count| **count > 0) {
                *stored -= 1;
                continue;
            }
            // What is no UUID names no task: such letters have no order to keep.
            let task = letter.task().and_then(|task| Uuid::parse_str(&task).ok());
            let task = task.map(|task| task.to_string());
            items.push(NewJobItem {
                identity,
                order_key: task.or_else(|| letter.command_id()),
                properties: letter.stored().ok_or("its properties cannot be stored")?,
                body: letter.body,
            });
        }
        let write = JobWrite {
            add: Some((JobItemState::Arriving, items)),
            ..JobWrite::default()
        };
        Ok(self.run.write(write).await?)
    }

    async fn removed(&mut self) -> Result<(), KeepError> {
        let write = JobWrite {
            // Others of an earlier process may still be in the queue. If they are not, everything has
            // arrived when the phase ends.
            arrived: self.stored.values().all(|count| *count == 0),
            ..JobWrite::default()
        };
        Ok(self.run.write(write).await?)
    }
}
