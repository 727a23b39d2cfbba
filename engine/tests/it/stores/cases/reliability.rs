//! The inputs of annotator models, and their positions in the log.

use glyph_workflow_engine::store::{LogFilter, LogPosition, ModelCheckpoint};
use serde_json::json;

use super::until;
use crate::stores::{adapter::Adapter, samples::*};

pub(in crate::stores) async fn the_events_of_one_workflow_are_found_in_the_log(a: &impl Adapter) {
    let store = a.store();
    for n in 0..4 {
        let flow = if n % 2 == 0 { "even" } else { "odd" };
        append(&*store, numbered(n), None, started(flow, &[])).await;
    }
    for n in 0..8 {
        append(&*store, numbered(n % 4), None, vec![annotated(json!(n))]).await;
    }
    let log = until(async || {
        let log = store.read_log(LogPosition::default(), 100).await.unwrap();
        (log.len() >= 16).then_some(log)
    })
    .await;
    let filter = LogFilter {
        workflow: slug("even"),
        event_types: vec!["annotation_submitted", "workflow_started"],
    };
    let asked = |entry: &glyph_workflow_engine::store::LogEntry| {
        entry.workflow == filter.workflow
            && filter.event_types.contains(&entry.event.event.event_type())
    };
    let expected: Vec<_> = log
        .iter()
        .filter(|entry| asked(entry))
        .map(|entry| (entry.position, entry.event.clone()))
        .collect();
    assert_eq!(expected.len(), 2 + 4);

    let (mut found, mut after, mut looked_at) = (Vec::new(), LogPosition::default(), 0);
    loop {
        let page = store.read_workflow_log(filter.clone(), after, 5).await;
        let page = page.unwrap();
        assert!(page.read <= 5);
        looked_at += page.read;
        found.extend(page.entries);
        // Reading advances the position, whether or not something was found.
        assert_eq!(page.read > 0, page.through > after);
        after = page.through;
        if page.read < 5 {
            break;
        }
    }
    assert_eq!((looked_at, found), (16, expected));
    assert_eq!(after, log.last().unwrap().position);
}

pub(in crate::stores) async fn a_model_is_kept_as_far_as_it_has_come(a: &impl Adapter) {
    let (store, other) = (a.store(), a.another().await);
    let model = id("model");
    let row = |entry, state: &str| ModelCheckpoint {
        model,
        workflow: slug("flow"),
        step_id: slug("annotate"),
        position: LogPosition { entry, position: 0 },
        // Numbers are read back to the last bit, and keys in their order.
        state: format!(r#"{{"z": 0.1234567890123456789, "a": "{state} Grüße"}}"#),
    };
    assert_eq!(store.model_checkpoint(model).await.unwrap(), None);
    assert_eq!(store.checkpoint_position(model).await.unwrap(), None);
    store.keep_model(row(7, "first")).await.unwrap();
    other.keep_model(row(5, "behind")).await.unwrap();
    other.keep_model(row(7, "level")).await.unwrap();
    assert_eq!(
        store.model_checkpoint(model).await.unwrap(),
        Some(row(7, "first"))
    );
    other.keep_model(row(9, "ahead")).await.unwrap();
    assert_eq!(
        store.model_checkpoint(model).await.unwrap(),
        Some(row(9, "ahead"))
    );
    let position = store.checkpoint_position(model).await.unwrap();
    assert_eq!(position, Some(row(9, "").position));
    assert_eq!(store.model_checkpoint(id("another")).await.unwrap(), None);
    store.forget_models().await.unwrap();
    assert_eq!(other.model_checkpoint(model).await.unwrap(), None);
}
