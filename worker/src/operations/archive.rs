//! Archives: files of JSON lines that hold whole tasks.
//!
//! A line says its form, the log that it comes from, what it holds and the SHA-256 of that, so damage
//! is found by the line. Before the first task of a revision comes a line with the revision, so that
//! a file can be read without the database. Lines are complete on the disk before anything is
//! deleted.

use std::{
    collections::HashSet,
    fs::File,
    io::{self, BufRead, BufReader, BufWriter, Write},
    path::Path,
};

use glyph_workflow_engine::{
    WorkflowConfig,
    ids::{LogId, RevisionId},
    state::WorkflowSnapshot,
    store::{WholeTask, WholeTaskError, hex},
};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};
use uuid::Uuid;

/// The form of lines that this build writes and reads.
const FORM: u32 = 1;

/// A line of an archive.
#[derive(Deserialize, Serialize)]
struct Line {
    #[serde(rename = "glyph_archive")]
    form: u32,
    log: Uuid,
    holds: Content,
    sha256: String,
    content: Box<RawValue>,
}

#[derive(Clone, Copy, Debug, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
enum Content {
    Workflow,
    Task,
}

/// A revision as an archive holds it.
#[derive(Serialize)]
struct RevisionLine<'w> {
    id: RevisionId,
    revision: u32,
    config: &'w WorkflowConfig,
}

/// Writes an archive.
pub struct ArchiveWriter {
    file: BufWriter<File>,
    log: LogId,
    revisions: HashSet<RevisionId>,
}

impl ArchiveWriter {
    /// An archive of tasks of one log, in an empty file.
    pub fn new(file: File, log: LogId) -> Self {
        Self {
            file: BufWriter::new(file),
            log,
            revisions: HashSet::new(),
        }
    }

    /// Whether the revision is not in the file yet.
    pub fn lacks(&self, revision: RevisionId) -> bool {
        !self.revisions.contains(&revision)
    }

    /// Adds a revision.
    ///
    /// # Errors
    ///
    /// The file cannot be written.
    pub fn revision(&mut self, config: &WorkflowConfig) -> io::Result<()> {
        let line = RevisionLine {
            id: config.revision_id,
            revision: config.revision,
            config,
        };
        self.line(Content::Workflow, &line)?;
        self.revisions.insert(config.revision_id);
        Ok(())
    }

    /// Adds a task. Returns the length of its line in bytes.
    ///
    /// # Errors
    ///
    /// The file cannot be written.
    pub fn task(&mut self, task: &WholeTask) -> io::Result<u64> {
        self.line(Content::Task, task)
    }

    fn line(&mut self, holds: Content, content: &impl Serialize) -> io::Result<u64> {
        let content = RawValue::from_string(serde_json::to_string(content)?)?;
        let line = Line {
            form: FORM,
            log: self.log.0,
            holds,
            sha256: digest(content.get()),
            content,
        };
        let mut text = serde_json::to_vec(&line)?;
        text.push(b'\n');
        self.file.write_all(&text)?;
        Ok(text.len() as u64)
    }

    /// Waits until everything so far is on the disk.
    ///
    /// # Errors
    ///
    /// The file cannot be written.
    pub fn sync(&mut self) -> io::Result<()> {
        self.file.flush()?;
        self.file.get_ref().sync_data()
    }
}

fn digest(text: &str) -> String {
    hex(&Sha256::digest(text))
}

/// A task of an archive, with the line that holds it.
#[derive(Debug)]
pub struct ArchiveTask {
    /// The line, from 1.
    pub line: u64,
    /// The id of the log that it comes from.
    pub log: Uuid,
    /// The task.
    pub whole: WholeTask,
    /// Its last state.
    pub state: WorkflowSnapshot,
}

/// A line of an archive is not as it was written.
#[derive(Debug, thiserror::Error)]
#[error("line {line}: {fault}")]
pub struct ArchiveFault {
    /// The line, from 1.
    pub line: u64,
    /// What is wrong with it.
    #[source]
    pub fault: LineFault,
}

/// What is wrong with a line.
#[derive(Debug, thiserror::Error)]
pub enum LineFault {
    /// The file cannot be read.
    #[error("cannot be read")]
    Read(#[from] io::Error),
    /// It ends before its end.
    #[error(
        "it ends in the middle. Where a run of `glyph retention` was interrupted, the last line may be \
         incomplete: its task was not archived, so the line can be deleted"
    )]
    Incomplete,
    /// It is no JSON of this form.
    #[error("it is no line of an archive: {0}")]
    Json(serde_json::Error),
    /// A later build wrote it.
    #[error("it has form {0}, and this build reads form {FORM}")]
    Form(u32),
    /// Something in it was changed.
    #[error("its content does not have the SHA-256 that it says")]
    Changed,
    /// The task is not whole.
    #[error("its task is not whole: {0}")]
    Task(WholeTaskError),
}

/// The tasks of an archive, one at a time; the file must end with a whole line.
///
/// # Errors
///
/// The file cannot be opened.
pub fn read_archive(
    path: &Path,
) -> io::Result<impl Iterator<Item = Result<ArchiveTask, ArchiveFault>>> {
    let mut file = BufReader::new(File::open(path)?);
    let mut number = 0;
    Ok(std::iter::from_fn(move || {
        loop {
            number += 1;
            let mut text = Vec::new();
            let fault = |fault| ArchiveFault {
                line: number,
                fault,
            };
            match file.read_until(b'\n', &mut text) {
                Ok(0) => return None,
                Ok(_) => {}
                Err(error) => return Some(Err(fault(error.into()))),
            }
            match task_of(&text) {
                Ok(None) => {}
                Ok(Some((log, whole, state))) => {
                    return Some(Ok(ArchiveTask {
                        line: number,
                        log,
                        whole,
                        state,
                    }));
                }
                Err(error) => return Some(Err(fault(error))),
            }
        }
    }))
}

/// The task of a line; none if it holds a revision.
fn task_of(text: &[u8]) -> Result<Option<(Uuid, WholeTask, WorkflowSnapshot)>, LineFault> {
    let Some(text) = text.strip_suffix(b"\n") else {
        return Err(LineFault::Incomplete);
    };
    let line: Line = serde_json::from_slice(text).map_err(LineFault::Json)?;
    if line.form != FORM {
        return Err(LineFault::Form(line.form));
    }
    if digest(line.content.get()) != line.sha256 {
        return Err(LineFault::Changed);
    }
    match line.holds {
        Content::Workflow => Ok(None),
        Content::Task => {
            let whole: WholeTask =
                serde_json::from_str(line.content.get()).map_err(LineFault::Json)?;
            let state = whole.last_state().map_err(LineFault::Task)?;
            Ok(Some((line.log, whole, state)))
        }
    }
}
