//! A program with its own handlers, using the library and the worker's documents.

use std::sync::Arc;

use glyph_worker::operations::workflows::WorkflowDocument;
use glyph_workflow_engine::{
    HandlerRegistry, OrchestrationError, WorkflowOrchestrator,
    executor::{HandlerInput, HandlerOutput},
    store::MemoryStore,
};
use serde_json::json;

const OWN: &str = "workflow: { id: own, steps: [{ id: a, type: auto_process, handler: shout }] }";

fn orchestrator() -> WorkflowOrchestrator {
    let store = Arc::new(MemoryStore::new());
    WorkflowOrchestrator::new(Arc::clone(&store) as _, store)
}

fn with_own_handler() -> WorkflowOrchestrator {
    let mut handlers = HandlerRegistry::built_in();
    let shout = |_: &HandlerInput<'_>| Ok(HandlerOutput::value(json!("HEY")));
    handlers.register("shout", Arc::new(shout));
    orchestrator().with_handlers(handlers)
}

#[tokio::test]
async fn a_workflow_may_call_a_handler_of_the_program_whichever_way_it_is_created() {
    let by_library = with_own_handler().create_workflow(OWN).await.unwrap();
    let by_document = WorkflowDocument::create(OWN.as_bytes(), None, &with_own_handler()).await;
    let (document, new) = by_document.unwrap();
    assert!(new);
    assert_eq!(document.config.steps, by_library.steps);
}

#[tokio::test]
async fn a_workflow_may_not_call_a_handler_that_the_program_lacks_whichever_way_it_is_created() {
    let by_library = orchestrator().create_workflow(OWN).await.unwrap_err();
    let by_document = WorkflowDocument::create(OWN.as_bytes(), None, &orchestrator()).await;
    let (OrchestrationError::ParseError(one), OrchestrationError::ParseError(other)) =
        (by_library, by_document.unwrap_err())
    else {
        panic!("both say what is wrong with the file")
    };
    assert_eq!(one, other);
}
