//! Who may do what: every operation of the API for every role, and every verb with the rights that it
//! says it needs. `docs/security.md` lists both, as this build has them.
#![cfg(target_os = "linux")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs,
    path::PathBuf,
    process::Stdio,
};

use serde_json::Value;
use sqlx::{AssertSqlSafe, ConnectOptions, raw_sql};
use tokio::process::Command;
use uuid::Uuid;

use crate::{
    least_privilege::GRANTS,
    support::{eventually, services::Services, tokens},
};

/// `none` is a caller without a token.
const ROLES: [&str; 5] = ["none", "viewer", "annotator", "producer", "operator"];
const MAY: &str = "yes";
const MAY_NOT: &str = "–";

fn page() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/security.md")
}

/// Compares a generated part of the page with what stands there. `UPDATE_SCHEMAS=1` writes it.
fn assert_listed(part: &str, generated: &str) {
    let page = page();
    let mut text = fs::read_to_string(&page).unwrap();
    let (begin, end) = (
        format!("<!-- {part}: generated -->\n"),
        "\n<!-- end -->".to_owned(),
    );
    let from = text.find(&begin).unwrap() + begin.len();
    let to = from + text[from..].find(&end).unwrap();
    if std::env::var_os("UPDATE_SCHEMAS").is_some() {
        text.replace_range(from..to, generated);
        fs::write(&page, text).unwrap();
        return;
    }
    assert_eq!(
        &text[from..to],
        generated,
        "docs/security.md, {part}: run the test with UPDATE_SCHEMAS=1"
    );
}

/// A table in Markdown, its columns as wide as they must be.
fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let mut text = format!("| {} |\n|{}", head.join(" | "), "---|".repeat(head.len()));
    for row in rows {
        write!(text, "\n| {} |", row.join(" | ")).unwrap();
    }
    text
}

/// The table of the page: which role may call an operation, by method and path.
fn promised() -> BTreeMap<String, [bool; ROLES.len()]> {
    let text = fs::read_to_string(page()).unwrap();
    let (_, from) = text.split_once("<!-- operations: generated -->").unwrap();
    let (rows, _) = from.split_once("<!-- end -->").unwrap();
    let mut promised = BTreeMap::new();
    for row in rows.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        let may = std::array::from_fn(|role| match cells[role + 1] {
            MAY => true,
            MAY_NOT => false,
            other => panic!("`{other}` in {row}"),
        });
        promised.insert(cells[0].trim_matches('`').to_owned(), may);
    }
    promised
}

/// The operations of a document, as the page lists them.
fn listed(document: &Value) -> String {
    let mut rows = Vec::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            let named = operation["x-roles"].as_array();
            let may = ROLES.map(|role| match named {
                None => MAY,
                Some(named) if named.iter().any(|one| one == role) => MAY,
                Some(_) => MAY_NOT,
            });
            let name = format!("`{} {path}`", method.to_uppercase());
            rows.push([name].into_iter().chain(may.map(str::to_owned)).collect());
        }
    }
    let head: Vec<&str> = ["operation"].into_iter().chain(ROLES).collect();
    table(&head, &rows)
}

/// Each cell of the page's table over HTTP, for the operations that a worker serves.
#[tokio::test(flavor = "multi_thread")]
async fn every_role_gets_every_operation_as_listed_and_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let tokens_file = folder.path().join("tokens");
    let user = format!(":{}", Uuid::from_u128(7));
    let lines = ROLES.iter().skip(1).map(|role| {
        let user = if *role == "annotator" { &*user } else { "" };
        tokens::line(role, role, user)
    });
    fs::write(&tokens_file, lines.collect::<String>()).unwrap();
    let address = tokens::free();
    let _worker = tokens::worker(folder.path(), &tokens_file, address)
        .spawn()
        .unwrap();
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::Client::new();
    let url = |path: &str| format!("http://{address}{path}");
    let document: Value = eventually("the document", || async {
        let request = client.get(url("/openapi.json")).bearer_auth("viewer");
        let answer = request.send().await.ok()?.bytes().await.ok()?;
        serde_json::from_slice(&answer).ok()
    })
    .await;
    assert_listed("operations", &listed(&document));

    let promised = promised();
    let mut tried = BTreeSet::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for method in methods.as_object().unwrap().keys() {
            let method = method.to_uppercase();
            let name = format!("{method} {path}");
            let may = promised[&name];
            let path = path
                .replace("{task_id}", &Uuid::from_u128(1).to_string())
                .replace("{user_id}", &Uuid::from_u128(2).to_string())
                .replace(['{', '}'], "");
            for (role, may) in ROLES.into_iter().zip(may) {
                let method = method.parse().unwrap();
                // Without a body: what a role may call is refused for that, and changes nothing.
                let mut request = client.request(method, url(&path));
                if role != "none" {
                    request = request.bearer_auth(role);
                }
                let answer = request.send().await.unwrap();
                let refusal = if role == "none" { 401 } else { 403 };
                let is_refused = answer.status().as_u16() == refusal;
                assert_eq!(is_refused, !may, "{name} as {role}: {}", answer.status());
                tried.insert(name.clone());
            }
            let unknown = client
                .request(method.parse().unwrap(), url(&path))
                .bearer_auth("unknown");
            let is_refused = unknown.send().await.unwrap().status() == 401;
            assert_eq!(is_refused, !may[0], "{name} with an unknown token");
        }
    }
    let listed: BTreeSet<String> = promised.into_keys().collect();
    assert_eq!(tried, listed);
}

/// The verbs below some words, with what their help says that they need.
async fn verbs(words: Vec<String>) -> Vec<(String, String)> {
    let mut glyph = Command::new(env!("CARGO_BIN_EXE_glyph"));
    glyph.args(&words).arg("--help").stdin(Stdio::null());
    let output = glyph.output().await.unwrap();
    let help = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{words:?}: {help}");
    let Some((_, below)) = help.split_once("Commands:\n") else {
        let need = help.lines().find_map(|line| line.strip_prefix("Needs: "));
        let need = need.unwrap_or_else(|| panic!("{words:?} needs what? {help}"));
        return vec![(words.join(" "), need.to_owned())];
    };
    // What a name does goes on in lines that are further in.
    let lines = below.lines().take_while(|line| !line.is_empty());
    let names = lines.filter_map(|line| line.strip_prefix("  "));
    let names = names.filter_map(|line| line.split(' ').next().filter(|name| !name.is_empty()));
    let deeper = names.filter(|name| *name != "help").map(|name| {
        let words = words.iter().cloned().chain([name.to_owned()]);
        Box::pin(verbs(words.collect()))
    });
    futures::future::join_all(deeper).await.concat()
}

const DUAL: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../examples/sentiment-dual.yaml"
);
const ID: &str = "00000000-0000-0000-0000-000000000001";

/// A file that a verb makes.
const EXPORTED: &str = concat!(env!("CARGO_TARGET_TMPDIR"), "/exported.jsonl");

/// Arguments for each verb that needs the database alone.
const ARGUMENTS: &[(&str, &[&str])] = &[
    ("agreement", &[]),
    ("annotator list", &["--workflow", "sentiment-dual"]),
    ("annotator pause", &["sentiment-dual", ID]),
    ("annotator resume", &["sentiment-dual", ID]),
    ("annotator show", &[ID]),
    ("assignment list", &["--user", ID]),
    ("assignment next", &["--user", ID]),
    ("assignment release", &["--user", ID]),
    (
        "backtest",
        &[
            "-w",
            "sentiment-dual",
            "--set",
            "steps.annotate.completion.count=3",
        ],
    ),
    ("events replay", &["--to", "nowhere"]),
    ("events tail", &[]),
    ("goal complete", &["sentiment-dual", "volume"]),
    ("goal list", &[]),
    ("goal show", &["sentiment-dual", "volume"]),
    ("incident list", &[]),
    ("job list", &[]),
    ("job show", &[ID]),
    ("job stop", &[ID]),
    ("labels calibration", &[]),
    ("labels export", &["-w", "sentiment-dual"]),
    ("labels look", &["-w", "sentiment-dual"]),
    ("labels suspect", &["-w", "sentiment-dual"]),
    ("outbox drop", &[ID]),
    ("outbox list", &[]),
    ("rebuild", &[]),
    ("rejected drop", &[ID]),
    ("rejected export", &[EXPORTED]),
    ("rejected edit", &[ID, "--set", "step_id=a"]),
    ("rejected list", &[]),
    ("rejected replay", &[ID]),
    ("rejected show", &[ID]),
    ("status", &[]),
    ("storage", &[]),
    ("stuck", &[]),
    ("task activity", &[ID, "--user", ID]),
    ("task advance", &[ID]),
    ("task assign", &[ID, "--user", ID]),
    ("task cancel", &[ID]),
    ("task explain", &[ID]),
    ("task history", &[ID]),
    ("task list", &[]),
    ("task migrate", &[ID, "--to", "sentiment-dual"]),
    ("task pause", &[ID]),
    ("task release", &[ID, "--user", ID]),
    ("task resume", &[ID]),
    ("task retry", &[ID]),
    ("task start", &[ID, "--workflow", "sentiment-dual"]),
    ("task state", &[ID]),
    (
        "task submit",
        &[ID, "--user", ID, "--data", r#"{"label":"a"}"#],
    ),
    ("topology adopt", &[]),
    ("topology declare", &[]),
    ("workflow answers", &["sentiment-dual"]),
    ("workflow archive", &["sentiment-dual"]),
    ("workflow create", &[DUAL]),
    ("workflow diff", &["sentiment-dual", "sentiment-dual"]),
    ("workflow flow", &["sentiment-dual"]),
    ("workflow list", &[]),
    ("workflow pause", &["sentiment-dual"]),
    ("workflow restore", &["sentiment-dual"]),
    ("workflow resume", &["sentiment-dual"]),
    ("workflow show", &["sentiment-dual"]),
    ("workflow trial", &["sentiment-dual"]),
    ("workflow visualize", &["sentiment-dual"]),
    ("workflow yaml", &["sentiment-dual"]),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_verb_gets_by_with_the_rights_that_its_help_names() {
    let verbs = verbs(Vec::new()).await;
    let rows: Vec<Vec<String>> = verbs
        .iter()
        .map(|(verb, need)| vec![format!("`glyph {verb}`"), need.clone()])
        .collect();
    assert_listed("verbs", &table(&["verb", "needs"], &rows));

    let services = Services::new().await;
    let pool = services.store.pool();
    let account = |name: &str| format!("{}_{name}", services.prefix);
    let (reader, worker) = (account("reader"), account("worker"));
    let grants = GRANTS
        .replace(":role", &worker)
        .replace(":schema", "public");
    let set_up = format!(
        "CREATE ROLE {reader} LOGIN PASSWORD 'of the test';
         CREATE ROLE {worker} LOGIN PASSWORD 'of the test';
         GRANT USAGE ON SCHEMA public TO {reader};
         GRANT SELECT ON ALL TABLES IN SCHEMA public TO {reader}; {grants}"
    );
    raw_sql(AssertSqlSafe(set_up)).execute(pool).await.unwrap();
    let url = |account: &str| {
        let options = pool.connect_options().as_ref().clone();
        options
            .username(account)
            .password("of the test")
            .to_url_lossy()
    };
    let (reader_url, worker_url) = (url(&reader), url(&worker));
    let _ = fs::remove_file(EXPORTED);
    let arguments: BTreeMap<&str, &[&str]> = ARGUMENTS.iter().copied().collect();
    for (verb, need) in &verbs {
        let url = if need.starts_with("the database, SELECT alone") && verb != "task import" {
            &reader_url
        } else if need == "the database, as the worker's account" {
            &worker_url
        } else {
            continue;
        };
        let words: Vec<&str> = verb.split(' ').collect();
        let mut glyph = services.process(&words);
        glyph
            .args(arguments[&**verb])
            .env("DATABASE_URL", url.as_str());
        let output = glyph.output().await.unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        // What is asked of may not exist; whether it exists must be told.
        assert!(
            matches!(output.status.code(), Some(0 | 1)) && !said.contains("permission denied"),
            "{verb}: {}: {said}",
            output.status
        );
    }
    let drop = format!("DROP OWNED BY {reader}, {worker}; DROP ROLE {reader}, {worker}");
    raw_sql(AssertSqlSafe(drop)).execute(pool).await.unwrap();
    services.remove().await;
}
