//! Open and claimed slots.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
};

use async_trait::async_trait;

use super::{
    super::{
        ClaimCount, EventStoreError, PeopleSeen, SlotIndex, SlotOrder, SlotQuery, StepWithOpenSlots,
    },
    data::{Data, MemoryStore},
};
use crate::{
    ids::{StepId, TaskId, UserId, WorkflowId},
    state::{ClaimedSlot, OpenSlot, SlotsChange},
};

#[async_trait]
impl SlotIndex for MemoryStore {
    async fn open_steps(
        &self,
        workflow: Option<&WorkflowId>,
        step: Option<&StepId>,
    ) -> Result<Vec<StepWithOpenSlots>, EventStoreError> {
        let now = self.now();
        let data = self.data();
        let steps: BTreeSet<_> = data
            .slots
            .values()
            .filter(|slot| workflow.is_none_or(|workflow| slot.workflow == *workflow))
            .filter(|slot| step.is_none_or(|step| slot.step_id == *step))
            .filter(|slot| !data.is_paused(slot.task_id, now))
            .map(|slot| StepWithOpenSlots {
                revision_id: slot.revision_id,
                step_id: slot.step_id.clone(),
            })
            .collect();
        Ok(steps.into_iter().collect())
    }

    async fn open_slots(&self, query: SlotQuery) -> Result<Vec<OpenSlot>, EventStoreError> {
        let data = self.data();
        let wanted = |slot: &&OpenSlot| {
            slot.revision_id == query.step.revision_id
                && slot.step_id == query.step.step_id
                && slot.gold == query.gold
                && !slot.barred.contains(&query.user)
                && !(query.prevents_reassignment && slot.authors.contains(&query.user))
                && (query.order == SlotOrder::FewestPeople || slot.submitted > 0)
        };
        let mut slots: Vec<_> = data.slots.values().filter(wanted).cloned().collect();
        slots.sort_by_key(|slot| {
            let people = match query.order {
                SlotOrder::FewestPeople => slot.taken(),
                SlotOrder::OldestBegun => 0,
            };
            let released = slot.released.contains(&query.user);
            (released, people, slot.waiting_since, slot.task_id)
        });
        slots.truncate(query.limit as usize);
        Ok(slots)
    }

    async fn claimed_slots(&self, user: UserId) -> Result<Vec<ClaimedSlot>, EventStoreError> {
        let data = self.data();
        let claimed = data
            .claimed
            .iter()
            .filter(|claimed| claimed.user_id == user);
        Ok(claimed.cloned().collect())
    }

    async fn claim_counts(&self, limit: u32) -> Result<Vec<ClaimCount>, EventStoreError> {
        let mut counts: BTreeMap<UserId, u64> = BTreeMap::new();
        for claimed in &self.data().claimed {
            *counts.entry(claimed.user_id).or_default() += 1;
        }
        let mut counts: Vec<_> = counts
            .into_iter()
            .map(|(user_id, slots)| ClaimCount { user_id, slots })
            .collect();
        counts.sort_by_key(|count| Reverse(count.slots));
        counts.truncate(limit as usize);
        Ok(counts)
    }

    async fn people_seen(
        &self,
        workflow: &WorkflowId,
        events: u32,
    ) -> Result<PeopleSeen, EventStoreError> {
        let data = self.data();
        let newest = data.log.iter().rev().take(events as usize);
        let mut seen = PeopleSeen {
            whole: data.log.len() <= events as usize,
            ..PeopleSeen::default()
        };
        for (_, event) in newest.flatten().filter(|(of, _)| of == workflow) {
            if let Some((step_id, roles)) = event.event.work_of() {
                seen.steps.insert(step_id.clone());
                seen.roles.extend(roles.iter().cloned());
            }
        }
        Ok(seen)
    }
}

impl Data {
    pub(super) fn change_slots(&mut self, task: TaskId, change: SlotsChange) {
        for step in change.open_unset {
            self.slots.remove(&(task, step));
        }
        let set = change.open_set.into_iter();
        self.slots
            .extend(set.map(|slot| ((task, slot.step_id.clone()), slot)));
        for claimed in &change.claims_unset {
            self.claimed.remove(claimed);
        }
        self.claimed.extend(change.claims_set);
    }
}
