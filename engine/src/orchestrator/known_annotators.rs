//! What is known about annotators now, for reports.

use std::fmt;

use super::{OrchestrationError, WorkflowOrchestrator, live_models::ModelsInUse};
use crate::executor::annotators::{ModelKey, ModelSource};

/// Annotator models that have read the log to its end. While it lives, batches take their models
/// for shared, so it should not be kept for long.
pub struct KnownAnnotators(ModelsInUse);

impl fmt::Debug for KnownAnnotators {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KnownAnnotators").finish_non_exhaustive()
    }
}

impl KnownAnnotators {
    /// Looks at the models, which learn nothing meanwhile.
    pub fn look<T>(&self, look: impl FnOnce(&dyn ModelSource) -> T) -> T {
        self.0.look(|looked| look(looked))
    }
}

impl WorkflowOrchestrator {
    /// The models of `keys`, brought to the end of the log. A model that nothing has used yet
    /// learns from the whole log first; what it has learned is kept if the call is dropped.
    pub async fn known_annotators(
        &self,
        keys: impl IntoIterator<Item = ModelKey> + Send,
    ) -> Result<KnownAnnotators, OrchestrationError> {
        let mut models = ModelsInUse::default();
        let keys: Vec<ModelKey> = keys.into_iter().collect();
        self.models.prepare(&mut models, keys).await?;
        Ok(KnownAnnotators(models))
    }
}
