//! Free and claimed slots.

use std::collections::BTreeSet;

use async_trait::async_trait;

use super::{
    super::{EventStoreError, OpenStep, PlaceIndex, PlaceOrder, PlaceQuery},
    data::{Data, MemoryStore},
};
use crate::{
    ids::{StepId, TaskId, UserId, WorkflowId},
    state::{HeldPlace, OpenPlace, PlacesChange},
};

#[async_trait]
impl PlaceIndex for MemoryStore {
    async fn open_steps(
        &self,
        workflow: Option<&WorkflowId>,
        step: Option<&StepId>,
    ) -> Result<Vec<OpenStep>, EventStoreError> {
        let now = self.now();
        let data = self.data();
        let steps: BTreeSet<_> = data
            .places
            .values()
            .filter(|place| workflow.is_none_or(|workflow| place.workflow == *workflow))
            .filter(|place| step.is_none_or(|step| place.step_id == *step))
            .filter(|place| !data.is_held(place.task_id, now))
            .map(|place| OpenStep {
                revision_id: place.revision_id,
                step_id: place.step_id.clone(),
            })
            .collect();
        Ok(steps.into_iter().collect())
    }

    async fn open_places(&self, query: PlaceQuery) -> Result<Vec<OpenPlace>, EventStoreError> {
        let data = self.data();
        let wanted = |place: &&OpenPlace| {
            place.revision_id == query.step.revision_id
                && place.step_id == query.step.step_id
                && place.gold == query.gold
                && !place.barred.contains(&query.user)
                && !(query.prevents_reassignment && place.judged.contains(&query.user))
                && (query.order == PlaceOrder::FewestPeople || place.submitted > 0)
        };
        let mut places: Vec<_> = data.places.values().filter(wanted).cloned().collect();
        places.sort_by_key(|place| {
            let people = match query.order {
                PlaceOrder::FewestPeople => place.taken(),
                PlaceOrder::OldestBegun => 0,
            };
            (people, place.waiting_since, place.task_id)
        });
        places.truncate(query.limit as usize);
        Ok(places)
    }

    async fn held_places(&self, user: UserId) -> Result<Vec<HeldPlace>, EventStoreError> {
        let data = self.data();
        let held = data.held.iter().filter(|held| held.user_id == user);
        Ok(held.cloned().collect())
    }
}

impl Data {
    pub(super) fn change_places(&mut self, task: TaskId, change: PlacesChange) {
        for step in change.open_unset {
            self.places.remove(&(task, step));
        }
        let set = change.open_set.into_iter();
        self.places
            .extend(set.map(|place| ((task, place.step_id.clone()), place)));
        for held in &change.held_unset {
            self.held.remove(held);
        }
        self.held.extend(change.held_set);
    }
}
