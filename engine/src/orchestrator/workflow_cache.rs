//! A cache of compiled revisions.

use std::{collections::HashMap, sync::Arc};

use quick_cache::sync::Cache;

use super::OrchestrationError;
use crate::{
    config::WorkflowConfig,
    ids::{RevisionId, WorkflowSelector},
    store::{WorkflowConfigStore, content_hash},
    transition::CompiledWorkflow,
};

/// Revisions kept compiled; a colder one is loaded and compiled again (milliseconds).
const COMPILED_MAX: usize = 1_024;

/// Compiled revisions by UUID. Revisions are immutable, so an entry is never stale. Names are
/// resolved by the store every time.
pub(super) struct WorkflowCache {
    store: Arc<dyn WorkflowConfigStore>,
    compiled: Cache<RevisionId, Arc<CompiledWorkflow>>,
}

impl WorkflowCache {
    pub(super) fn new(store: Arc<dyn WorkflowConfigStore>) -> Self {
        Self {
            store,
            compiled: Cache::new(COMPILED_MAX),
        }
    }

    /// The revision with that UUID, if there is one.
    pub(super) async fn get(
        &self,
        id: RevisionId,
    ) -> Result<Option<Arc<CompiledWorkflow>>, OrchestrationError> {
        if let Some(compiled) = self.compiled.get(&id) {
            return Ok(Some(compiled));
        }
        match self.store.load(id.0).await? {
            Some(config) => self.keep(config).map(Some),
            None => Ok(None),
        }
    }

    /// Compiles a stored revision and caches it.
    fn keep(&self, config: WorkflowConfig) -> Result<Arc<CompiledWorkflow>, OrchestrationError> {
        let id = config.revision_id;
        let hash = content_hash(&config);
        let compiled = CompiledWorkflow::new(Arc::new(config), hash).map_err(|source| {
            OrchestrationError::StoredWorkflow {
                revision_id: id.0,
                source,
            }
        })?;
        let compiled = Arc::new(compiled);
        self.compiled.insert(id, Arc::clone(&compiled));
        Ok(compiled)
    }

    /// The revision that each selector means now; unknown ones are omitted.
    pub(super) async fn resolve(
        &self,
        selectors: &[WorkflowSelector],
    ) -> Result<HashMap<WorkflowSelector, Arc<CompiledWorkflow>>, OrchestrationError> {
        let mut resolved = HashMap::new();
        if selectors.is_empty() {
            return Ok(resolved);
        }
        for (selector, id) in self.store.resolve(selectors).await? {
            if let Some(workflow) = self.get(id).await? {
                resolved.insert(selector, workflow);
            }
        }
        Ok(resolved)
    }
}
