//! Operator commands, and the pauses that follow from them.

use async_trait::async_trait;
use chrono::{DateTime, Utc};

use super::{
    super::{
        AnnotatorPause, CommandRow, DerivePauses, EventStoreError, OpenPauses, OperatorFacts,
        OperatorLog, Pauses, PlannedOperatorCommand, RecordedOutcome, WorkflowPause,
    },
    data::{Data, MemoryStore, refuse_nul},
};
use crate::ids::{TaskId, UserId};

#[async_trait]
impl OperatorLog for MemoryStore {
    async fn operator_command(
        &self,
        operator_command: PlannedOperatorCommand,
    ) -> Result<CommandRow, EventStoreError> {
        let now = self.now();
        self.data().operator_command(operator_command, now)
    }

    async fn operator_commands(&self) -> Result<Vec<CommandRow>, EventStoreError> {
        Ok(self.data().operator_commands())
    }

    async fn workflow_pauses(&self) -> Result<OpenPauses, EventStoreError> {
        let now = self.now();
        Ok(OpenPauses::at(self.data().open_pauses().cloned(), now))
    }

    async fn annotator_pauses(
        &self,
        user: Option<UserId>,
    ) -> Result<Vec<AnnotatorPause>, EventStoreError> {
        let data = self.data();
        let pauses = data.annotator_pauses.values();
        let mut found: Vec<_> = pauses
            .filter(|pause| user.is_none_or(|user| pause.user_id == user))
            .cloned()
            .collect();
        found.sort_by_key(AnnotatorPause::age);
        Ok(found)
    }

    async fn replace_pauses(&self, derive: DerivePauses) -> Result<bool, EventStoreError> {
        let mut data = self.data();
        let wanted = derive(&data.operator_commands());
        let found = std::mem::take(&mut data.pauses);
        let annotators = std::mem::take(&mut data.annotator_pauses);
        data.put_pauses(wanted);
        Ok(data.pauses != found || data.annotator_pauses != annotators)
    }
}

impl Data {
    pub(super) fn put_pauses(&mut self, pauses: Pauses) {
        self.pauses.extend(
            pauses
                .workflows
                .into_iter()
                .map(|pause| ((pause.workflow.clone(), pause.pause_id), pause)),
        );
        let annotators = pauses.annotators.into_iter();
        self.annotator_pauses
            .extend(annotators.map(|pause| (pause.pause_id, pause)));
    }

    /// Decides an operator command and writes the outcome, unless its id is known.
    pub(super) fn operator_command(
        &mut self,
        operator_command: PlannedOperatorCommand,
        now: DateTime<Utc>,
    ) -> Result<CommandRow, EventStoreError> {
        let PlannedOperatorCommand {
            id,
            subject,
            decide,
        } = operator_command;
        if let Some(known) = self.commands.get(&id) {
            return Ok(known.clone());
        }
        let pause = self
            .open_pauses()
            .find(|pause| pause.workflow == subject.workflow)
            .cloned();
        let annotators = self.annotator_pauses.values();
        let annotator = annotators
            .filter(|p| p.workflow == subject.workflow && Some(p.user_id) == subject.user_id)
            .max_by_key(|pause| pause.age())
            .cloned();
        let write = decide(OperatorFacts {
            now,
            pause,
            annotator,
        });
        refuse_nul(&(&write.record.outcome, &write.record.payload))?;
        let row = CommandRow::from(write.record);
        self.commands.insert(id, row.clone());
        self.put_pauses(write.pauses);
        self.enqueue(write.messages, now);
        Ok(row)
    }

    /// Pauses not recorded as ended.
    pub(super) fn open_pauses(&self) -> impl Iterator<Item = &WorkflowPause> {
        self.pauses
            .values()
            .filter(|pause| pause.ended_at.is_none())
    }

    /// Whether the workflow of a task is paused.
    pub(super) fn is_paused(&self, task: TaskId, now: DateTime<Utc>) -> bool {
        let workflow = self.tasks.get(&task).map(|row| &row.workflow);
        self.open_pauses()
            .any(|pause| Some(&pause.workflow) == workflow && pause.applies_at(now))
    }

    pub(super) fn operator_commands(&self) -> Vec<CommandRow> {
        let applied = |row: &&CommandRow| {
            row.task_id.is_none() && matches!(row.outcome, RecordedOutcome::Applied { .. })
        };
        let mut operator_commands: Vec<_> =
            self.commands.values().filter(applied).cloned().collect();
        operator_commands.sort_by_key(|row| (row.decided_at, row.command_id));
        operator_commands
    }
}
