//! The dead queue, by the broker itself or by a worker over HTTP.

use std::collections::{BTreeMap, BTreeSet};

use glyph_workflow_engine::limits::PAGE_MAX;
use serde_json::json;

use super::{
    CliError, Output, account,
    api::{Api, Call},
    connect::dead_letters,
    job::chosen,
};
use crate::{
    dead_letters::{DeadLetter, DeadLetters, Letter, Visit},
    jobs::Selection,
    operations::letters::{Dropped, EditedLetter, LetterList},
    settings::Settings,
};

/// The dead queue.
pub(super) enum Letters {
    /// By the broker.
    Queue(Box<dyn DeadLetters>),
    /// By a worker's HTTP API.
    Api(Api),
}

impl Letters {
    /// The API of the settings if they name one, and else the queue.
    pub(super) async fn open(settings: &Settings) -> Result<Self, CliError> {
        match Api::of(settings)? {
            Some(api) => Ok(Self::Api(api)),
            None => dead_letters(settings).await.map(Self::Queue),
        }
    }

    /// Up to `limit` letters, oldest first.
    pub(super) async fn list(
        &self,
        limit: usize,
        reason: Option<&str>,
        output: Output,
    ) -> Result<Vec<DeadLetter>, CliError> {
        let queue = match self {
            Self::Queue(queue) => queue,
            Self::Api(api) => {
                let mut list = listed(api, reason, output).await?;
                list.dead_letters.truncate(limit);
                return Ok(list.dead_letters);
            }
        };
        let mut letters = Vec::new();
        queue
            .visit(&mut |handle, letter| {
                if letters.len() >= limit {
                    return Visit::End;
                }
                if reason.is_none_or(|reason| reason == letter.reason()) {
                    letters.push(letter.shown(handle));
                }
                Visit::Leave
            })
            .await?;
        Ok(letters)
    }

    /// Up to `limit` commands that were set aside.
    pub(super) async fn set_aside(&self, limit: usize) -> Result<Vec<DeadLetter>, CliError> {
        match self {
            Self::Queue(queue) => Ok(queue.set_aside(limit).await?),
            Self::Api(api) => {
                let call = Call::get(&[&"dead-letters"])
                    .query("set_aside", Some(true))
                    .query("limit", Some(limit.clamp(1, PAGE_MAX as usize)));
                let list: LetterList = api.ask(&call).await?;
                Ok(list.dead_letters)
            }
        }
    }

    /// The letter of that handle, or else the oldest one of that command id.
    pub(super) async fn find(&self, named: &str) -> Result<DeadLetter, CliError> {
        match self {
            Self::Queue(queue) => {
                let (handle, letter) = found(&**queue, named).await?;
                Ok(letter.shown(&handle))
            }
            Self::Api(api) => api.ask(&Call::get(&[&"dead-letters", &named])).await,
        }
    }

    /// What a selection picks, by reason. Fails if one that is named is no dead letter.
    pub(super) async fn count(
        &self,
        selection: &Selection,
        output: Output,
    ) -> Result<BTreeMap<String, u64>, CliError> {
        let mut counts = BTreeMap::new();
        match self {
            Self::Queue(queue) => {
                let mut missing: BTreeSet<String> = selection.ids.iter().cloned().collect();
                queue
                    .visit(&mut |handle, letter| {
                        if selection.picks(handle, letter) {
                            *counts.entry(letter.reason()).or_default() += 1;
                            let id = letter.command_id().unwrap_or_default();
                            let is_it =
                                |named: &String| named == handle || named.eq_ignore_ascii_case(&id);
                            missing.retain(|named| !is_it(named));
                        }
                        Visit::Leave
                    })
                    .await?;
                if let Some(id) = missing.first() {
                    return Err(CliError::not_found("dead_letter", id));
                }
            }
            Self::Api(_) if !selection.ids.is_empty() => {
                for id in &selection.ids {
                    let letter = self.find(id).await?;
                    *counts.entry(letter.reason).or_default() += 1;
                }
            }
            Self::Api(api) => {
                counts = listed(api, None, output).await?.reasons;
                let is_picked =
                    |reason: &String| selection.reason.as_ref().is_none_or(|r| r == reason);
                counts.retain(|reason, _| is_picked(reason));
            }
        }
        Ok(counts)
    }

    /// Changes the body of a letter. Returns its new handle, if it is still there.
    pub(super) async fn edit(
        &self,
        named: &str,
        change: impl FnOnce(&[u8]) -> Result<Vec<u8>, CliError>,
    ) -> Result<(String, Option<String>), CliError> {
        match self {
            Self::Queue(queue) => {
                let (handle, letter) = found(&**queue, named).await?;
                let body = change(&letter.body)?;
                let letter = letter.edited(body, &account::actor()).map_err(|error| {
                    CliError::failed(error.code.as_str(), format!("{error}; nothing was changed"))
                })?;
                let body = letter.body.clone();
                if !queue.replace(&handle, letter).await? {
                    return Err(CliError::not_found("dead_letter", handle));
                }
                // It has another content, and so another handle.
                Ok((handle, queue.handle_of(&body).await?))
            }
            Self::Api(api) => {
                let letter = self.find(named).await?;
                let body = change(letter.body.as_bytes())?;
                let body = json!({"body": String::from_utf8_lossy(&body)});
                let call = Call::put(&[&"dead-letters", &letter.letter]).json(&body);
                let edited: EditedLetter = api.ask(&call).await?;
                Ok((letter.letter, edited.letter))
            }
        }
    }

    /// Deletes what a selection picks. Returns how many letters that were.
    pub(super) async fn remove(&self, selection: &Selection) -> Result<u64, CliError> {
        match self {
            Self::Queue(queue) => {
                let picked = |handle: &str, letter: &Letter| selection.picks(handle, letter);
                let count = queue.remove(&picked).await?;
                tracing::info!(count, actor = account::actor(), "dead letters were dropped");
                Ok(count as u64)
            }
            Self::Api(api) => {
                let call = Call::post(&[&"dead-letters", &"drop"]).json(&chosen(selection, None));
                let Dropped { dropped } = api.ask(&call).await?;
                Ok(dropped)
            }
        }
    }
}

async fn found(queue: &dyn DeadLetters, named: &str) -> Result<(String, Letter), CliError> {
    let found = queue.find(named).await?;
    found.ok_or_else(|| CliError::not_found("dead_letter", named))
}

/// What a worker lists of the queue, which is its beginning.
async fn listed(api: &Api, reason: Option<&str>, output: Output) -> Result<LetterList, CliError> {
    let call = Call::get(&[&"dead-letters"])
        .query("reason", reason)
        .query("limit", Some(PAGE_MAX));
    let list: LetterList = api.ask(&call).await?;
    if list.more {
        output.note(&format!(
            "a worker looks at the oldest {PAGE_MAX} letters; there are more"
        ));
    }
    Ok(list)
}
