//! Hides the secrets of workflows from those who may only read them: values of headers, and what
//! stands in a URL after its host, where tokens are.

use glyph_workflow_engine::{WorkflowEvent, events::StoredEvent};
use serde_json::Value;

/// What stands for a hidden text.
const HIDDEN: &str = "***";

/// Hides the secrets in the `config` of handlers, wherever it stands in a document.
pub fn hide(document: &mut Value) {
    match document {
        Value::Object(fields) => {
            for (key, value) in fields {
                match (key.as_str(), &mut *value) {
                    ("headers", Value::Object(headers)) => headers.values_mut().for_each(hide_text),
                    ("url", Value::String(url)) => *url = shown_url(url),
                    _ => hide(value),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(hide),
        _ => {}
    }
}

/// Hides the secrets in an event.
pub fn hide_in_event(stored: &mut StoredEvent) {
    if let WorkflowEvent::HandlerRequested(requested) = &mut stored.event
        && let Some(job) = &mut requested.job
    {
        hide(&mut job.config);
    }
}

/// A header that names a secret of the settings (an object) tells nothing and stays.
fn hide_text(header: &mut Value) {
    if header.is_string() {
        *header = HIDDEN.into();
    }
}

fn shown_url(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else {
        return HIDDEN.to_owned();
    };
    match rest.find(['/', '?', '#']) {
        Some(end) if rest[end..].len() > 1 => format!("{scheme}://{}/{HIDDEN}", &rest[..end]),
        _ => url.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn headers_and_what_follows_a_host_are_hidden() {
        let mut document = json!({"steps": [{"config": {
            "url": "https://hooks.example.org/services/T0/SECRET?x=1",
            "headers": {"Authorization": "Bearer SECRET", "X-Key": {"secret": "NAME"}},
        }, "name": "url"}], "url": "https://example.org"});
        hide(&mut document);
        assert_eq!(
            document,
            json!({"steps": [{"config": {
                "url": "https://hooks.example.org/***",
                "headers": {"Authorization": "***", "X-Key": {"secret": "NAME"}},
            }, "name": "url"}], "url": "https://example.org"})
        );
    }
}
