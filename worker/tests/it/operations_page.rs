//! `docs/operations.md` and what stands beside it: the alerts are those of the rules, the tests that
//! it names exist, and what is deployed has few rights.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use serde_json::Value;

use crate::support::services::Services;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn page() -> String {
    read("docs/operations.md")
}

/// Names in backticks in the cells of a row.
fn names(row: &str) -> impl Iterator<Item = &str> {
    row.split('`').skip(1).step_by(2)
}

/// The documents of a file of YAML.
fn documents(path: &str) -> Vec<Value> {
    let text = read(path);
    let documents = text.split("\n---\n");
    documents
        .map(|document| serde_yaml::from_str(document).unwrap())
        .collect()
}

#[test]
fn every_alert_is_explained_and_stands_on_metrics_that_exist() {
    let rules = documents("docker/alerts.yml").remove(0);
    let rules = rules["groups"][0]["rules"].as_array().unwrap();
    let alerts: BTreeSet<&str> = rules
        .iter()
        .map(|rule| rule["alert"].as_str().unwrap())
        .collect();
    let page = page();
    let rows = page.lines().filter(|line| line.starts_with("| `Glyph"));
    let explained: BTreeSet<&str> = rows.filter_map(|row| names(row).next()).collect();
    assert_eq!(explained, alerts);

    // As they are declared: a gauge without a series yet is not shown.
    let declared = read("worker/src/metrics.rs");
    let is_known = |name: &str| {
        let name = name
            .trim_start_matches("glyph_")
            .trim_end_matches("_bucket");
        declared.contains(&format!("\"{name}\""))
    };
    let texts = rules
        .iter()
        .map(|rule| rule["expr"].as_str().unwrap())
        .chain(names(&page));
    for text in texts {
        let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let words = text.split(|c| !is_part(c));
        let metrics = words.filter(|word| word.starts_with("glyph_"));
        // The role of the worker, in examples, is none.
        for metric in metrics.filter(|metric| *metric != "glyph_worker") {
            assert!(is_known(metric), "{metric} in {text}");
        }
    }
}

#[test]
fn every_failure_names_tests_that_exist() {
    fn sources(folder: &Path, code: &mut String) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                sources(&path, code);
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                code.push_str(&fs::read_to_string(path).unwrap());
            }
        }
    }
    let mut code = String::new();
    for folder in ["engine/src", "engine/tests", "worker/src", "worker/tests"] {
        sources(&root().join(folder), &mut code);
    }
    let page = page();
    let (_, table) = page.split_once("\n## What may fail\n").unwrap();
    let rows: Vec<&str> = table
        .lines()
        .filter(|line| line.starts_with("| ") && !line.starts_with("| **"))
        .skip(1)
        .collect();
    assert!(rows.len() > 40, "the table is read: {}", rows.len());
    for row in rows {
        let (_, tests) = row.trim_end_matches(" |").rsplit_once(" | ").unwrap();
        assert!(names(tests).next().is_some(), "{row}");
        for test in names(tests) {
            assert!(code.contains(&format!("fn {test}(")), "{test}: {row}");
        }
    }
}

/// Of the tables as they are: grants name roles, and are tried with the rights.
#[tokio::test(flavor = "multi_thread")]
async fn queries_of_the_pages_run() {
    let services = Services::new().await;
    let mut run = 0;
    for entry in fs::read_dir(root().join("docs")).unwrap() {
        let path = entry.unwrap().path();
        let text = fs::read_to_string(&path).unwrap_or_default();
        let blocks = text.split("```sql\n").skip(1);
        for block in blocks.filter_map(|block| block.split("```").next()) {
            if block.starts_with("SELECT") {
                let query = sqlx::AssertSqlSafe(block.trim_end().trim_end_matches(';').to_owned());
                let rows = sqlx::query(query).fetch_all(services.store.pool()).await;
                assert!(
                    rows.is_ok(),
                    "{}: {block}: {:?}",
                    path.display(),
                    rows.err()
                );
                run += 1;
            }
        }
    }
    assert!(run > 0);
    services.remove().await;
}

/// The owner migrates, once; workers have accounts of their own, and never the owner's secret.
#[test]
fn what_is_deployed_runs_workers_with_the_rights_of_workers() {
    let worker = serde_json::json!(["worker", "--no-migrate"]);
    let is_worker = |arguments: &Value| {
        let first_two = arguments.as_array().map(|all| all.iter().take(2).cloned());
        first_two.map(Iterator::collect::<Value>).as_ref() == Some(&worker)
    };
    let compose = documents("docker-compose.yml").remove(0);
    for name in ["worker", "api"] {
        let service = &compose["services"][name];
        assert!(is_worker(&service["command"]), "{name}");
        let volumes = service["volumes"].to_string();
        let is_mounted = |of: &str| volumes.contains(&format!("\"{of}-secrets:"));
        assert!(is_mounted("worker"), "{name}: {volumes}");
        for other in ["owner", "postgres", "rabbitmq"] {
            assert!(!is_mounted(other), "{name}: {volumes}");
        }
    }
    let migrate = &compose["services"]["migrate"];
    assert_eq!(migrate["command"], serde_json::json!(["migrate"]));

    let job = documents("deploy/kubernetes/migrate.yaml").remove(0);
    assert_eq!(job["kind"], "Job");
    let pod = &job["spec"]["template"]["spec"];
    assert_eq!(
        pod["initContainers"][0]["args"],
        serde_json::json!(["migrate"])
    );
    for path in [
        "deploy/kubernetes/worker.yaml",
        "deploy/kubernetes/api.yaml",
    ] {
        let deployment = documents(path).remove(0);
        let pod = &deployment["spec"]["template"]["spec"];
        let container = &pod["containers"][0];
        assert!(is_worker(&container["args"]), "{path}");
        assert_eq!(container["livenessProbe"]["httpGet"]["path"], "/livez");
        assert_eq!(container["readinessProbe"]["httpGet"]["path"], "/readyz");
        assert!(!deployment.to_string().contains("glyph-owner"), "{path}");
        let of = |name: &str| {
            let set = container["env"].as_array().unwrap();
            let found = set.iter().find(|set| set["name"] == name).unwrap();
            found["value"].as_str().unwrap().to_owned()
        };
        let drain: u64 = of("GLYPH_DRAIN_SECS").parse().unwrap();
        let hook = &container["lifecycle"]["preStop"]["exec"]["command"][1];
        let before: u64 = hook.as_str().map_or(0, |seconds| seconds.parse().unwrap());
        let grace = pod["terminationGracePeriodSeconds"].as_u64().unwrap();
        assert!(grace > before + drain, "{path}");
    }

    let worker = read("deploy/systemd/glyph-worker.service");
    assert!(worker.contains("\nExecStart=/usr/local/bin/glyph worker --no-migrate\n"));
    assert!(!worker.contains("owner_database_url"));
    let migrate = read("deploy/systemd/glyph-migrate.service");
    assert!(migrate.contains("\nExecStart=/usr/local/bin/glyph migrate\n"));
    // The accounts are those whose rights are tested.
    for path in ["deploy/README.md", "docs/running.md"] {
        let text = read(path);
        let rights =
            r"set_permissions glyph-worker '^glyph\..*' '^(glyph\..*|amq\.default)$' '^glyph\..*'";
        assert!(text.contains(rights), "{path}");
    }
}
