//! What a model says of one visit of a task when it is asked again.

use super::AnnotatorModel;
use crate::ids::TaskId;

impl AnnotatorModel {
    /// How difficult a visit's question was, by its labels: the expected share of them that are
    /// guesses, from 0 to 0.9. `None` if the model no longer holds the visit by itself, or has no
    /// label of it.
    pub fn difficulty(&self, task: TaskId, visit: u32) -> Option<f64> {
        self.model().difficulty(&Self::item(task, visit))
    }

    /// The visit that an item of [`model`](Self::model) stands for.
    pub fn visit_of(item: &str) -> Option<(TaskId, u32)> {
        let (task, visit) = item.split_once('/')?;
        Some((task.parse().ok()?, visit.parse().ok()?))
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn the_name_of_an_item_tells_its_visit() {
        let task = TaskId(Uuid::from_u128(7));
        let item = AnnotatorModel::item(task, 3);
        assert_eq!(AnnotatorModel::visit_of(&item), Some((task, 3)));
        assert_eq!(AnnotatorModel::visit_of("anything"), None);
    }
}
