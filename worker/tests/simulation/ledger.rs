//! What has happened, as nobody in the run can see it, and the laws that it must obey.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use glyph_worker::broker::{Destination, Properties, Publication};
use glyph_workflow_engine::{
    WorkflowEvent,
    ids::{CommandId, StepId, TaskId},
    store::{RecordedOutcome, TaskWrite},
};
use uuid::Uuid;

use super::random::Random;

/// How long an entry of the log may stay invisible beside later ones, with the bug of that name.
const INVISIBLE_MAX: u64 = 400;

/// A command that a producer has sent, known by its body.
#[derive(Clone, Debug)]
pub(crate) struct Sent {
    /// None if its body has none.
    pub(crate) id: Option<CommandId>,
    pub(crate) task: Option<TaskId>,
    /// The reason for which it must die; none if it must be decided.
    pub(crate) dies: Option<&'static str>,
    /// Whether it starts its task itself.
    pub(crate) starts: bool,
    pub(crate) properties: Properties,
    /// When it was last delivered.
    pub(crate) delivered: Duration,
}

/// One task, as its commits tell.
#[derive(Clone, Debug, Default)]
struct Task {
    version: u64,
    started: Duration,
    completed: BTreeSet<(StepId, u32)>,
    /// The messages of events, by version.
    messages: BTreeMap<u64, Uuid>,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Ledger {
    sent: BTreeMap<Vec<u8>, Sent>,
    tasks: BTreeMap<TaskId, Task>,
    outcomes: BTreeMap<CommandId, RecordedOutcome>,
    /// Messages that somebody must receive, with the task and the version of the event.
    told: BTreeMap<Uuid, Option<(TaskId, u64)>>,
    received: BTreeMap<Uuid, u32>,
    /// Messages and events that were, and are not since the store was restored.
    lost: BTreeSet<Uuid>,
    was_restored: bool,
    /// Ids of all events, in the order of their commits, and when each becomes visible to a reader
    /// that does not wait for earlier ones.
    log: Vec<Uuid>,
    visible: BTreeMap<Uuid, Duration>,
}

impl Ledger {
    pub(crate) fn send(&mut self, body: Vec<u8>, sent: Sent) {
        self.sent.insert(body, sent);
    }

    pub(crate) fn has_outcome(&self, command: CommandId) -> bool {
        self.outcomes.contains_key(&command)
    }

    pub(crate) fn is_visible(&self, event: Uuid, at: Duration) -> bool {
        self.visible.get(&event).is_none_or(|from| *from <= at)
    }

    pub(crate) fn log(&self) -> &[Uuid] {
        &self.log
    }

    /// The store is what it was when it was dumped, with this ledger. What people have sent and received
    /// since stays so.
    pub(crate) fn restore(&mut self, dumped: Self) {
        let now = std::mem::replace(self, dumped);
        let was = now.told.into_keys().chain(now.log);
        let mut lost: BTreeSet<Uuid> = was.collect();
        for id in self.told.keys().chain(&self.log) {
            lost.remove(id);
        }
        self.lost = now.lost;
        self.lost.extend(lost);
        (self.sent, self.received) = (now.sent, now.received);
        self.was_restored = true;
    }

    /// Bodies and properties of commands that have no outcome.
    pub(crate) fn undecided(&self) -> Vec<(Vec<u8>, Properties)> {
        let is_undecided = |sent: &Sent| sent.id.is_none_or(|id| !self.has_outcome(id));
        let sent = self.sent.iter().filter(|(_, sent)| is_undecided(sent));
        sent.map(|(body, sent)| (body.clone(), sent.properties.clone()))
            .collect()
    }

    /// A batch was committed.
    pub(crate) fn committed(
        &mut self,
        writes: &[TaskWrite],
        at: Duration,
        random: &mut Random,
    ) -> Result<(), String> {
        for write in writes {
            let task = self.tasks.entry(write.task_id).or_default();
            if task.version == 0 && !write.events.is_empty() {
                task.started = at;
            }
            for event in &write.events {
                if event.version != task.version + 1 {
                    return Err(format!(
                        "INV-01: version {} of {} follows {}",
                        event.version, event.task_id, task.version
                    ));
                }
                if self.lost.contains(&event.event_id) {
                    return Err(format!(
                        "INV-14: version {} of {} has the id of an event from before a restore",
                        event.version, event.task_id
                    ));
                }
                task.version = event.version;
                task.happened(&event.event)?;
                self.log.push(event.event_id);
                let from = at + random.millis(0, INVISIBLE_MAX);
                self.visible.insert(event.event_id, from);
            }
            for command in &write.commands {
                let id = command.command_id;
                if self.outcomes.insert(id, command.outcome.clone()).is_some() {
                    return Err(format!("INV-02: command {id} was decided twice"));
                }
            }
            for message in &write.outbox {
                let of = message.version.map(|version| (write.task_id, version));
                if let Some(version) = message.version {
                    task.messages.insert(version, message.message_id);
                }
                self.told.insert(message.message_id, of);
            }
        }
        Ok(())
    }

    /// Messages that no batch tells of: those of projections and operators.
    pub(crate) fn logged(&mut self, messages: impl Iterator<Item = Uuid>) {
        for id in messages {
            self.told.entry(id).or_insert(None);
        }
    }

    /// Whether a message is of something that is committed.
    pub(crate) fn is_told(&self, message: Uuid) -> Result<(), String> {
        if self.told.contains_key(&message) {
            Ok(())
        } else {
            Err(format!("message {message} is of nothing that is committed"))
        }
    }

    pub(crate) fn knows(&self, message: Uuid) -> bool {
        self.told.contains_key(&message)
    }

    /// A window is about to reach the broker: of each task, no message before an earlier one that
    /// nobody has received, unless that one is in the same window.
    pub(crate) fn window(&self, window: &[Publication]) -> Result<(), String> {
        let mut ahead: BTreeSet<Uuid> = BTreeSet::new();
        for publication in window {
            if publication.destination != Destination::Events {
                continue;
            }
            let id = id_of(publication)?;
            self.is_told(id)?;
            if let Some(Some((task, version))) = self.told.get(&id) {
                let earlier = self.tasks[task].messages.range(..version);
                for (earlier, its_id) in earlier {
                    if !self.received.contains_key(its_id) && !ahead.contains(its_id) {
                        return Err(format!(
                            "INV-15: message of version {version} of {task} is sent before the one \
                             of version {earlier}"
                        ));
                    }
                }
            }
            ahead.insert(id);
        }
        Ok(())
    }

    /// A message has arrived.
    pub(crate) fn receive(&mut self, publication: &Publication) -> Result<(), String> {
        *self.received.entry(id_of(publication)?).or_default() += 1;
        Ok(())
    }

    /// A command is on its way to a worker.
    pub(crate) fn delivered(&mut self, body: &[u8], at: Duration) {
        if let Some(sent) = self.sent.get_mut(body) {
            sent.delivered = at;
        }
    }

    /// A delivery is acknowledged, and so many other copies of it are on the broker.
    pub(crate) fn settled(&self, body: &[u8], others: usize) -> Result<(), String> {
        let sent = self.sent_as(body)?;
        let decided = sent.id.is_some_and(|id| self.outcomes.contains_key(&id));
        if decided || others > 0 {
            return Ok(());
        }
        Err(format!(
            "a command is acknowledged that has neither an outcome nor a copy: {}",
            String::from_utf8_lossy(body)
        ))
    }

    /// A copy of a command has arrived in a retry queue or the dead queue.
    pub(crate) fn copied(&self, body: &[u8], copy: &Properties) -> Result<(), String> {
        let before = &self.sent_as(body)?.properties;
        let keeps = copy.correlation_id == before.correlation_id
            && copy.reply_to == before.reply_to
            && copy.routing_key == before.routing_key
            && copy.message_id == before.message_id
            && copy.message_type == before.message_type
            && before
                .headers
                .iter()
                .all(|(name, value)| copy.headers.get(name) == Some(value));
        if keeps {
            Ok(())
        } else {
            Err(format!(
                "INV-31: a copy is not as its producer sent it: {copy:?}"
            ))
        }
    }

    /// A command is dead.
    pub(crate) fn died(&self, body: &[u8], reason: &str) -> Result<(), String> {
        let sent = self.sent_as(body)?;
        let task = sent.task.and_then(|task| self.tasks.get(&task));
        let unstarted = task.is_none_or(|task| task.version == 0 || task.started >= sent.delivered);
        let may_die =
            sent.dies == Some(reason) || (reason == "task_not_found" && unstarted && !sent.starts);
        if may_die {
            Ok(())
        } else {
            let body = String::from_utf8_lossy(body);
            Err(format!(
                "INV-28: an innocent command is dead ({reason}): {body}"
            ))
        }
    }

    fn sent_as(&self, body: &[u8]) -> Result<&Sent, String> {
        let sent = self.sent.get(body);
        sent.ok_or_else(|| format!("nobody sent {}", String::from_utf8_lossy(body)))
    }

    /// What must hold of commands and messages once nothing is on its way: every command has its
    /// outcome or is dead, and every message was received.
    pub(crate) fn is_complete(&self, dead: &BTreeMap<&[u8], (usize, usize)>) -> Result<(), String> {
        for (body, sent) in &self.sent {
            let decided = sent.id.is_some_and(|id| self.outcomes.contains_key(&id));
            let (buried, found) = dead.get(body.as_slice()).copied().unwrap_or_default();
            let text = || String::from_utf8_lossy(body);
            if !decided && buried == 0 {
                return Err(format!("a command has no outcome: {}", text()));
            }
            // What jobs had taken at the time of a dump is put back from it, perhaps a second time.
            let (least, most) = if self.was_restored {
                (buried.min(1), usize::MAX)
            } else {
                (buried, buried)
            };
            if found > most || (!decided && found < least) {
                return Err(format!(
                    "INV-30: a command was dead {buried} times and is in the dead queue {found} \
                     times: {}",
                    text()
                ));
            }
        }
        for (id, of) in &self.told {
            if !self.received.contains_key(id) {
                return Err(format!("INV-14: message {id} of {of:?} was never received"));
            }
        }
        let is_known = |id: &&Uuid| self.told.contains_key(id) || self.lost.contains(id);
        let stranger = self.received.keys().find(|id| !is_known(id));
        stranger.map_or(Ok(()), |id| Err(format!("message {id} is of nothing")))
    }

    pub(crate) fn tasks(&self) -> Vec<TaskId> {
        let started = self.tasks.iter().filter(|(_, task)| task.version > 0);
        started.map(|(id, _)| *id).collect()
    }
}

impl Task {
    fn happened(&mut self, event: &WorkflowEvent) -> Result<(), String> {
        if let WorkflowEvent::StepCompleted { step_id, visit, .. } = event
            && !self.completed.insert((step_id.clone(), *visit))
        {
            return Err(format!(
                "INV-05: visit {visit} of {step_id} has ended twice"
            ));
        }
        Ok(())
    }
}

fn id_of(publication: &Publication) -> Result<Uuid, String> {
    let id = &publication.message_id;
    Uuid::parse_str(id).map_err(|_| format!("a message has the id `{id}`"))
}
