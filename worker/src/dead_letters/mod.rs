//! The dead queue, for operators: what stands in it, and how letters leave it.
//!
//! RabbitMQ ([`crate::amqp`]) and the embedded queue ([`crate::embedded`]) implement
//! [`DeadLetters`] alike.

mod letter;

use async_trait::async_trait;

pub use letter::{DeadLetter, Handles, Letter, MarkedLetter, is_set_aside, mark_of};

use crate::broker::BrokerError;

/// What to do with a letter that was visited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Visit {
    /// It stays.
    Leave,
    /// It is removed.
    Remove,
    /// It stays, and the visit ends.
    End,
}

/// Sees each letter once, oldest first.
pub type Visitor<'a> = &'a mut (dyn FnMut(&str, &Letter) -> Visit + Send);

/// Picks letters, by handle and content.
pub type Chosen<'a> = &'a (dyn for<'l> Fn(&'l str, &'l Letter) -> bool + Sync);

/// Where letters go that are taken out of the queue.
#[async_trait]
pub trait LetterStore: Send {
    /// Stores a page. The letters are removed once this has returned.
    async fn keep(&mut self, page: Vec<Letter>) -> Result<(), KeepError>;

    /// The page has been removed.
    async fn removed(&mut self) -> Result<(), KeepError>;
}

/// Why letters could not be stored.
pub type KeepError = Box<dyn std::error::Error + Send + Sync>;

/// The most letters, and about the most bytes, of a page.
pub const PAGE_LETTERS: usize = 500;
/// See [`PAGE_LETTERS`].
pub const PAGE_BYTES: usize = 4 * 1024 * 1024;

/// The dead queue.
#[async_trait]
pub trait DeadLetters: Send + Sync {
    /// Visits the letters that are there when it begins: all of them, or it fails, unless the visitor
    /// ends it or removes some. Returns how many were removed.
    async fn visit(&self, visitor: Visitor<'_>) -> Result<usize, BrokerError>;

    /// Up to `limit` commands that were set aside and wait for their next try.
    async fn set_aside(&self, limit: usize) -> Result<Vec<DeadLetter>, BrokerError>;

    /// Takes those that `chosen` picks of the letters that are there when it begins, page by page.
    /// Letters of a page that was kept and not removed, because the process died, are there again;
    /// once the keeper knows of the removal, they are not. Fails if not all letters could be seen.
    /// Returns how many were taken.
    async fn take(
        &self,
        chosen: Chosen<'_>,
        keeper: &mut dyn LetterStore,
    ) -> Result<usize, BrokerError>;

    /// Puts a letter in the place of another one, at the end of the queue. Returns false if there is
    /// no letter of that handle.
    async fn replace(&self, handle: &str, by: Letter) -> Result<bool, BrokerError>;

    /// Removes those that `chosen` picks. Returns how many were removed.
    async fn remove(&self, chosen: Chosen<'_>) -> Result<usize, BrokerError> {
        self.visit(&mut |handle, letter| {
            if chosen(handle, letter) {
                Visit::Remove
            } else {
                Visit::Leave
            }
        })
        .await
    }

    /// The letter of that handle, or else the oldest one of that command id.
    async fn find(&self, named: &str) -> Result<Option<(String, Letter)>, BrokerError> {
        let mut found: Option<(String, Letter)> = None;
        self.visit(&mut |handle, letter| {
            let is_command = |id: String| id.eq_ignore_ascii_case(named);
            let is_handle = handle == named;
            if is_handle || found.is_none() && letter.command_id().is_some_and(is_command) {
                found = Some((handle.to_owned(), letter.clone()));
            }
            if is_handle { Visit::End } else { Visit::Leave }
        })
        .await?;
        Ok(found)
    }

    /// The handle of the newest letter with this body.
    async fn handle_of(&self, body: &[u8]) -> Result<Option<String>, BrokerError> {
        let mut found = None;
        self.visit(&mut |handle, letter| {
            if letter.body == body {
                found = Some(handle.to_owned());
            }
            Visit::Leave
        })
        .await?;
        Ok(found)
    }

    /// Up to `limit` letters, oldest first; all stay in the queue.
    async fn list(&self, limit: usize) -> Result<Vec<DeadLetter>, BrokerError> {
        let mut listed = Vec::new();
        self.visit(&mut |handle, letter| {
            if listed.len() >= limit {
                return Visit::End;
            }
            listed.push(letter.shown(handle));
            Visit::Leave
        })
        .await?;
        Ok(listed)
    }
}
