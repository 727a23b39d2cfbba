//! Letters go back to the dead queue, each once.

use std::{collections::BTreeSet, sync::Arc};

use chrono::{SecondsFormat, Utc};
use glyph_workflow_engine::store::{JobItem, JobItemOutcome, JobItemState, JobWrite};

use super::{error::JobError, runner::JobRun};
use crate::{
    broker::{Destination, Publication, PublishOutcome},
    dead_letters::{Letter, Visit, mark_of},
    wire::reasons::{HEADER_REPLAY, failure_headers},
};

/// Items put back at a time.
const PAGE: u32 = 50;

impl JobRun<'_> {
    /// Finishes what an earlier process began to put back: what is in the dead queue already is only
    /// recorded.
    ///
    /// A letter that is overlooked there would be in it twice. None is: an item is marked as going back
    /// before it is published, its mark goes with it, and the visit sees every letter or fails, also
    /// while somebody else reads the queue. What a killed process sent and saw no confirm of is in
    /// the queue by now or never: the broker reads the rest of a closed connection and drops it at
    /// once, and the lease of the job gave it seconds for that.
    pub(super) async fn finish_put_back(&self) -> Result<(), JobError> {
        let mut there: Option<BTreeSet<i64>> = None;
        for state in [JobItemState::Failing, JobItemState::Returning] {
            loop {
                let items = self.store.job_items(self.id, state, 0, PAGE).await?;
                if items.is_empty() {
                    break;
                }
                let marks = match &there {
                    Some(marks) => marks,
                    None => there.insert(self.marks().await?),
                };
                let (back, missing): (Vec<_>, Vec<_>) = items
                    .into_iter()
                    .partition(|item| marks.contains(&item.ordinal));
                let ordinals: Vec<_> = back.iter().map(|item| item.ordinal).collect();
                self.settle(&ordinals, after(state)).await?;
                self.publish(&missing, state).await?;
            }
        }
        Ok(())
    }

    /// The items of this job that are in the dead queue.
    async fn marks(&self) -> Result<BTreeSet<i64>, JobError> {
        let (job, mut found) = (self.id.to_string(), BTreeSet::new());
        self.letters
            .visit(&mut |_, letter| {
                if let Some(mark) = letter.mark().filter(|mark| mark.job == job) {
                    found.insert(mark.ordinal);
                }
                Visit::Leave
            })
            .await?;
        Ok(found)
    }

    /// Puts back all items that were not tried.
    pub(super) async fn return_letters(&self) -> Result<(), JobError> {
        loop {
            let items = self.pending().await?;
            if items.is_empty() {
                return Ok(());
            }
            let ordinals: Vec<_> = items.iter().map(|item| item.ordinal).collect();
            self.settle(&ordinals, JobItemState::Returning).await?;
            self.publish(&items, JobItemState::Returning).await?;
        }
    }

    /// Items that are in the inbox anyway are only recorded.
    pub(super) async fn return_rejected(&self) -> Result<(), JobError> {
        loop {
            let items = self.pending().await?;
            if items.is_empty() {
                return Ok(());
            }
            let ordinals: Vec<_> = items.iter().map(|item| item.ordinal).collect();
            self.settle(&ordinals, JobItemState::Returned).await?;
        }
    }

    async fn pending(&self) -> Result<Vec<JobItem>, JobError> {
        let items = self
            .store
            .job_items(self.id, JobItemState::Pending, 0, PAGE);
        Ok(items.await?)
    }

    /// Publishes items to the dead queue and records it. They are [`JobItemState::Failing`] or
    /// [`JobItemState::Returning`] in the store already.
    pub(super) async fn publish(
        &self,
        items: &[JobItem],
        state: JobItemState,
    ) -> Result<(), JobError> {
        if items.is_empty() {
            return Ok(());
        }
        let mut window = Vec::with_capacity(items.len());
        for item in items {
            window.push(self.copy_of(item, state)?);
        }
        let outcomes = self.publisher.publish(self.channel, &window).await;
        let mut back = Vec::new();
        let mut failure = None;
        for (item, outcome) in items.iter().zip(outcomes) {
            match outcome {
                PublishOutcome::Confirmed => back.push(item.ordinal),
                PublishOutcome::Returned(why) | PublishOutcome::Unknown(why) => {
                    failure = Some(why);
                }
                PublishOutcome::Nacked => failure = Some("refused".to_owned()),
            }
        }
        self.settle(&back, after(state)).await?;
        match failure {
            None => Ok(()),
            Some(why) => Err(JobError::PutBack(why)),
        }
    }

    async fn settle(&self, ordinals: &[i64], state: JobItemState) -> Result<(), JobError> {
        if ordinals.is_empty() {
            return Ok(());
        }
        let outcomes = ordinals.iter().map(|ordinal| JobItemOutcome {
            ordinal: *ordinal,
            state,
            detail: None,
        });
        self.write(JobWrite {
            outcomes: outcomes.collect(),
            ..JobWrite::default()
        })
        .await
    }

    /// A letter that was not tried is as it was; one that is dead again says why.
    fn copy_of(&self, item: &JobItem, state: JobItemState) -> Result<Publication, JobError> {
        let letter = Letter::from_stored(&item.properties, item.body.clone());
        let letter = letter.map_err(|_| JobError::Unknown)?;
        let shown = letter.shown("");
        let mut headers = vec![(HEADER_REPLAY, mark_of(self.id, item.ordinal))];
        if state == JobItemState::Failing {
            let detail = item.detail.as_deref().unwrap_or_default();
            let (reason, error) = detail.split_once(": ").unwrap_or((detail, ""));
            let now = || Utc::now().to_rfc3339_opts(SecondsFormat::Micros, true);
            headers.extend(failure_headers(
                reason,
                error,
                shown.attempts.saturating_add(1),
                shown.first_failed_at.unwrap_or_else(now),
            ));
        }
        let text = |name: &str| {
            let value = shown
                .properties
                .get(name)
                .and_then(serde_json::Value::as_str);
            value.unwrap_or_default().to_owned()
        };
        Ok(Publication {
            destination: Destination::Dead,
            routing_key: shown.routing_key.clone(),
            message_id: text("message_id"),
            message_type: text("type"),
            correlation_id: None,
            reply_to: None,
            headers: headers
                .into_iter()
                .map(|(name, value)| (name.to_owned(), value))
                .collect(),
            original: Some(Arc::clone(&letter.properties)),
            content_type: "application/json",
            body: letter.body.into(),
            timestamp: Utc::now(),
            mandatory: true,
            persistent: true,
        })
    }
}

/// The state of an item that is back.
fn after(state: JobItemState) -> JobItemState {
    match state {
        JobItemState::Failing | JobItemState::Failed => JobItemState::Failed,
        JobItemState::Arriving
        | JobItemState::Pending
        | JobItemState::Succeeded
        | JobItemState::Returning
        | JobItemState::Returned => JobItemState::Returned,
    }
}
