//! Revisions of workflows.

use glyph_workflow_engine::{
    ids::{RevisionId, WorkflowSelector},
    store::{WorkflowRow, content_hash, revision_id},
};
use uuid::Uuid;

use crate::stores::{adapter::Adapter, samples::*};

pub(in crate::stores) async fn revisions_are_numbered_and_equal_content_is_one(a: &impl Adapter) {
    let store = a.store();
    let config = workflow("flow", "first");
    assert!(store.load_by_name("flow").await.unwrap().is_none());
    let first = store.save(&config).await.unwrap();
    assert_eq!(first, revision_id(&config.id, 1).0);
    assert_eq!(store.save_by(&config, Some("ops")).await.unwrap(), first);
    let loaded = revision(&*store, first).await.unwrap();
    assert_eq!((loaded.revision, loaded.revision_id.0), (1, first));
    // The revision is not part of the content.
    assert_eq!(store.save(&loaded).await.unwrap(), first);
    assert_eq!(content_hash(&loaded), content_hash(&config));

    let second = workflow("flow", "second");
    let second = store.save_by(&second, Some("ops")).await.unwrap();
    assert_ne!(first, second);
    let by = |row: WorkflowRow| row.actor;
    let by: Vec<_> = store
        .revisions(None)
        .await
        .unwrap()
        .into_iter()
        .map(by)
        .collect();
    assert_eq!(by, [Some("ops".to_owned()), None], "the newest first");
    let newest = store.load_by_name("flow").await.unwrap().unwrap();
    assert_eq!(
        (newest.revision, newest.description.as_deref()),
        (2, Some("second"))
    );
    // Content equal to an older revision is new: only the newest counts.
    let third = store.save(&config).await.unwrap();
    assert_eq!(third, revision_id(&config.id, 3).0);
    let mut expected = config.clone();
    expected.revision = 3;
    expected.revision_id = RevisionId(third);
    assert_eq!(revision(&*store, third).await, Some(expected));
    let other = store.save(&workflow("another", "")).await.unwrap();
    assert!(revision(&*store, Uuid::nil()).await.is_none());

    let selectors: Vec<WorkflowSelector> = [
        "flow",
        "flow@1",
        "flow@9",
        "flow@4294967295",
        "none",
        "another",
    ]
    .iter()
    .map(|text| text.parse().unwrap())
    .chain([second, Uuid::nil()].map(|id| WorkflowSelector::Revision(RevisionId(id))))
    .collect();
    let resolved = store.resolve(&selectors).await.unwrap();
    let answer = |text: &str| resolved.get(&text.parse().unwrap()).map(|id| id.0);
    assert_eq!(resolved.len(), 4);
    assert_eq!(answer("flow"), Some(third));
    assert_eq!(answer("flow@1"), Some(first));
    assert_eq!(answer("another"), Some(other));
    assert_eq!(answer(&second.to_string()), Some(second));
    assert!(store.resolve(&[]).await.unwrap().is_empty());

    let all = store.revisions(None).await.unwrap();
    let listed: Vec<_> = all
        .iter()
        .map(|row| (row.workflow.as_str(), row.revision))
        .collect();
    assert_eq!(
        listed,
        [("another", 1), ("flow", 3), ("flow", 2), ("flow", 1)]
    );
    assert_eq!(all[1].content_hash, content_hash(&config));
    assert_eq!(store.revisions(Some(&slug("flow"))).await.unwrap().len(), 3);
}

pub(in crate::stores) async fn concurrent_saves_get_distinct_numbers(a: &impl Adapter) {
    let mut saves = Vec::new();
    for n in 0..16 {
        let store = if n % 2 == 0 {
            a.store()
        } else {
            a.another().await
        };
        // Each content comes twice, but only the newest revision counts, so it may be stored twice.
        let config = workflow("flow", &format!("{}", n / 2));
        saves.push(tokio::spawn(
            async move { store.save(&config).await.unwrap() },
        ));
    }
    let mut ids = Vec::new();
    for save in saves {
        ids.push(save.await.unwrap());
    }
    ids.sort();
    ids.dedup();
    let rows = a.store().revisions(None).await.unwrap();
    assert!((8..=16).contains(&rows.len()));
    assert_eq!(rows.len(), ids.len());
    let numbers: Vec<_> = rows.iter().rev().map(|row| row.revision).collect();
    assert_eq!(
        numbers,
        (1..=u32::try_from(rows.len()).unwrap()).collect::<Vec<_>>()
    );
}
