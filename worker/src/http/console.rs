//! The files of the web console, which are part of the program.

use std::sync::LazyLock;

use axum::{
    Router,
    extract::Path,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Redirect, Response},
    routing::get,
};
use glyph_workflow_engine::store::hex;
use sha2::{Digest, Sha256};

use super::{Api, Problem};

/// Scripts, styles and answers come from here alone, and no other page shows this one in a frame.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
    connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

macro_rules! files {
    ($($name:literal),* $(,)?) => {
        &[$(($name, include_bytes!(concat!("ui/", $name)))),*]
    };
}

/// Every file of the folder.
const FILES: &[(&str, &[u8])] = files![
    "agreement.js",
    "api.js",
    "app.js",
    "data.js",
    "diagram.js",
    "dom.js",
    "events.js",
    "goals.js",
    "icon.svg",
    "index.html",
    "keys.js",
    "labels.js",
    "letters.js",
    "log.js",
    "now.js",
    "outbox.js",
    "people.js",
    "stuck.js",
    "style.css",
    "task.js",
    "tasks.js",
    "trial.js",
    "workflow.js",
];

/// A file with what is sent beside it.
struct File {
    name: &'static str,
    content: &'static [u8],
    media_type: &'static str,
    etag: String,
}

static SERVED: LazyLock<Vec<File>> = LazyLock::new(|| {
    let files = FILES.iter().map(|(name, content)| File {
        name,
        content,
        media_type: media_type(name),
        etag: etag(content),
    });
    files.collect()
});

/// The routes of the files. They need no token: they say nothing.
pub(super) fn files() -> Router<Api> {
    Router::new()
        .route("/ui", get(async || Redirect::permanent("ui/")))
        .route(
            "/ui/",
            get(async |headers: HeaderMap| serve("index.html", &headers)),
        )
        .route("/ui/{file}", get(file))
}

async fn file(Path(name): Path<String>, headers: HeaderMap) -> Response {
    serve(&name, &headers)
}

fn serve(name: &str, headers: &HeaderMap) -> Response {
    let Some(file) = SERVED.iter().find(|file| file.name == name) else {
        return Problem::no_route().into_response();
    };
    let known = headers
        .get(header::IF_NONE_MATCH)
        .map(HeaderValue::as_bytes);
    let sent = [
        (header::CONTENT_TYPE, file.media_type),
        (header::ETAG, &*file.etag),
        // Asked for again each time: another version of the worker has other files.
        (header::CACHE_CONTROL, "no-cache"),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::REFERRER_POLICY, "no-referrer"),
    ];
    if known == Some(file.etag.as_bytes()) {
        return (StatusCode::NOT_MODIFIED, sent).into_response();
    }
    (sent, file.content).into_response()
}

fn media_type(name: &str) -> &'static str {
    match name.rsplit_once('.').map(|(_, extension)| extension) {
        Some("html") => "text/html; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("svg") => "image/svg+xml",
        _ => "application/octet-stream",
    }
}

fn etag(content: &[u8]) -> String {
    format!("\"{}\"", hex(&Sha256::digest(content)[..8]))
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, fs, path::Path};

    use super::*;

    #[test]
    fn every_file_of_the_folder_is_served_as_what_it_is() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/http/ui");
        let found = fs::read_dir(folder).unwrap();
        let found: BTreeSet<String> = found
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        let listed: BTreeSet<String> = FILES.iter().map(|(name, _)| (*name).to_owned()).collect();
        assert_eq!(found, listed);
        for file in SERVED.iter() {
            assert_ne!(file.media_type, "application/octet-stream", "{}", file.name);
        }
    }

    #[test]
    fn no_file_names_another_place_or_has_a_script_inside() {
        for (name, content) in FILES {
            let text = std::str::from_utf8(content).unwrap();
            for line in text.lines() {
                let line = line.replace("http://www.w3.org/2000/svg", "");
                assert!(!line.contains("://"), "{name}: {line}");
            }
            if media_type(name).starts_with("text/html") {
                assert!(
                    !text.contains("<style") && !text.contains(" style="),
                    "{name}"
                );
                assert!(!text.contains(" onclick"), "{name}");
                assert_eq!(
                    text.matches("<script").count(),
                    text.matches("<script type=\"module\" src=").count()
                );
            }
        }
    }
}
