//! External actions that reached goals trigger.

use std::time::Duration;

use async_trait::async_trait;
use uuid::Uuid;

use super::{
    super::{
        EventStoreError, GoalActionOutcome, GoalActionRow, GoalActionStatus, GoalStore,
        NewGoalAction, goals::Settlement,
    },
    data::{MemoryStore, later},
};

#[async_trait]
impl GoalStore for MemoryStore {
    async fn claim_goal_actions(
        &self,
        lease: Duration,
        limit: u32,
    ) -> Result<Vec<GoalActionRow>, EventStoreError> {
        let now = self.now();
        let mut data = self.data();
        let due = data
            .goal_actions
            .values_mut()
            .filter(|(row, due)| row.status == GoalActionStatus::Waiting && *due <= now);
        let claimed = due.take(limit as usize).map(|(row, due)| {
            *due = later(now, lease);
            row.clone()
        });
        Ok(claimed.collect())
    }

    async fn settle_goal_action(
        &self,
        id: Uuid,
        outcome: GoalActionOutcome,
    ) -> Result<(), EventStoreError> {
        let now = self.now();
        let settlement = Settlement::from(outcome);
        if let Some((row, due)) = self.data().goal_actions.get_mut(&id) {
            row.changed_at = now;
            row.status = settlement.status;
            if let Some(error) = settlement.error {
                row.attempts += 1;
                row.last_error = Some(error);
            }
            *due = later(now, settlement.after);
        }
        Ok(())
    }

    async fn goal_actions(&self) -> Result<Vec<GoalActionRow>, EventStoreError> {
        let data = self.data();
        let mut rows: Vec<_> = data
            .goal_actions
            .values()
            .map(|(row, _)| row.clone())
            .collect();
        rows.sort_by_key(|row| {
            let NewGoalAction {
                workflow,
                goal,
                epoch,
                action,
                id,
                ..
            } = &row.action;
            (workflow.clone(), goal.clone(), *epoch, action.clone(), *id)
        });
        Ok(rows)
    }
}
