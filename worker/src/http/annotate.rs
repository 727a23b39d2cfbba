//! The reference client for annotators: one page without anything to fetch, which calls this API
//! with what its user enters. It holds nothing to guard, so it needs no token.

use std::sync::LazyLock;

use axum::{
    http::header,
    response::{Html, IntoResponse},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use sha2::{Digest, Sha256};

use super::operation::Operation;

const PAGE: &str = include_str!("../../../examples/clients/annotator/index.html");

/// Runs the page's own script and no other; shows pictures and plays sound of whatever origin a
/// task names.
static POLICY: LazyLock<String> = LazyLock::new(|| {
    let script = PAGE
        .split_once("<script>")
        .and_then(|(_, rest)| rest.split_once("</script>"));
    let hash = STANDARD.encode(Sha256::digest(script.map_or("", |(script, _)| script)));
    format!(
        "default-src 'none'; script-src 'sha256-{hash}'; style-src 'unsafe-inline'; \
         connect-src 'self'; img-src * data:; media-src * data:; form-action 'none'; \
         base-uri 'none'; frame-ancestors 'none'"
    )
});

pub(super) fn operation() -> Operation {
    Operation::get("/annotate", "show_annotator_client", show)
        .open()
        .summary("A client for annotators, for a browser")
        .answers_text("text/html", "The page")
}

async fn show() -> impl IntoResponse {
    (
        [(header::CONTENT_SECURITY_POLICY, POLICY.as_str())],
        Html(PAGE),
    )
}
