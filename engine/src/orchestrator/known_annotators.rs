//! What is known about annotators now, for reports.

use std::fmt;

use chrono::{DateTime, Utc};

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
    /// How far the annotator models of this process have read the log, where one of them is still
    /// reading what a decision or a report needs of it; none while none is.
    pub fn models_behind_since(&self) -> Option<DateTime<Utc>> {
        self.models.behind_since()
    }

    /// The models of `keys`, brought to the end of the log. A model that nothing has used yet
    /// learns from the whole log first, also where the call is dropped meanwhile: whoever asks again
    /// finds it further on.
    pub async fn known_annotators(
        &self,
        keys: impl IntoIterator<Item = ModelKey> + Send,
    ) -> Result<KnownAnnotators, OrchestrationError> {
        let mut models = ModelsInUse::default();
        let keys: Vec<ModelKey> = keys.into_iter().collect();
        for key in &keys {
            self.models.learn(key).await?;
        }
        // Each is nearly at the end by now.
        self.models.prepare(&mut models, keys).await?;
        Ok(KnownAnnotators(models))
    }
}
