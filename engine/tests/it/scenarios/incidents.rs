//! Incidents: their causes, and how an operator or the workflow resolves them.

use chrono::TimeDelta;
use glyph_workflow_engine::{
    command::{Command, Migrate},
    state::IncidentCode,
};
use serde_json::json;

use super::{ROUTED, slug, with_completion};
use crate::scenario::{Scenario, TASK};

#[test]
fn an_escalated_stall_is_resolved_by_retry() {
    let mut scenario = Scenario::started(&with_completion(
        "{ type: annotation_count, count: 1, timeout: 1h, timeout_action: escalate }",
        "",
    ));
    scenario.assign("annotate", 1);
    scenario.pass(TimeDelta::hours(1));
    assert_eq!(
        scenario.control(Command::Retry),
        "waiting annotate | incident_resolved"
    );
    assert_eq!(scenario.control(Command::Retry), "rejected not_waiting");
}

#[test]
fn a_failed_expression_is_an_incident_that_an_operator_can_answer() {
    let mut scenario = Scenario::started(ROUTED);
    assert_eq!(
        scenario.submit("annotate", 1, json!({"label": "a"})),
        "waiting sure | annotation_submitted, step_completed, transition_occurred, step_activated, \
         incident_opened"
    );
    let incident = &scenario.state.as_ref().unwrap().incidents[0];
    assert!(
        incident.reason.contains("confidence"),
        "{}",
        incident.reason
    );
    assert_eq!(
        scenario.control(Command::Retry),
        "waiting sure | incident_resolved, incident_opened",
        "the facts are the same"
    );
    let answer = scenario.advance("sure", Some(json!(true)));
    assert!(
        answer.starts_with("completed | incident_resolved, step_completed"),
        "{answer}"
    );
}

#[test]
fn a_skipped_step_that_leads_nowhere_is_tried_again() {
    let mut scenario = Scenario::new(
        "
workflow:
  id: nowhere
  settings: { on_error: skip }
  steps:
    - { id: ask, type: conditional, condition: { expression: 'input.n > 1' } }
    - { id: annotate, type: annotation }
  transitions:
    - { from: ask, to: annotate, condition: { type: expression, expression: 'has(input.n)' } }
",
    );
    let answer = scenario.start(json!({}));
    assert_eq!(
        answer,
        "waiting ask | workflow_started, step_activated, step_skipped, incident_opened"
    );
    assert_eq!(
        scenario.control(Command::Retry),
        "waiting ask | incident_resolved, incident_opened"
    );
}

#[test]
fn a_failing_step_may_be_skipped() {
    let yaml = "
workflow:
  id: skipping
  steps:
    - { id: annotate, type: annotation }
    - { id: ask, type: conditional, on_error: skip, condition: { expression: 'annotation.missing > 1' } }
    - { id: done, type: auto_process, handler: finalize }
  transitions:
    - { from: annotate, to: ask }
    - { from: ask, to: done }
";
    let mut scenario = Scenario::started(yaml);
    assert_eq!(
        scenario.label("annotate", 1, "a"),
        "completed | annotation_submitted, step_completed, transition_occurred, step_activated, \
         step_skipped, transition_occurred, step_activated, step_completed, workflow_completed"
    );
    assert_eq!(scenario.output()["result"], json!({"label": "a"}));
}

#[test]
fn a_step_that_ends_resolves_that_somebody_was_inactive_on_it() {
    let mut scenario = Scenario::started(
        "
workflow:
  id: told
  steps:
    - id: label
      type: annotation
      completion: { type: annotation_count, count: 1, timeout: 1h, timeout_action: escalate }
",
    );
    scenario.assign("label", 1);
    scenario.pass(TimeDelta::hours(1));
    assert_eq!(scenario.state.as_ref().unwrap().incidents.len(), 1);
    let ended = scenario.label("label", 2, "a");
    assert!(
        ended.starts_with("completed |") && ended.contains("incident_resolved"),
        "{ended}"
    );
}

#[test]
fn a_step_that_ends_says_nothing_of_what_happened_on_another() {
    let step = "type: annotation, completion: { type: annotation_count, count: 1, timeout: 1h, \
                timeout_action: escalate }";
    let mut scenario = Scenario::started(&format!(
        "
workflow:
  id: told
  settings: {{ allow_parallel_steps: true }}
  steps:
    - {{ id: read, type: annotation }}
    - {{ id: topic, {step} }}
    - {{ id: tone, {step} }}
  transitions:
    - {{ from: read, to: topic }}
    - {{ from: read, to: tone }}
"
    ));
    scenario.label("read", 1, "x");
    scenario.assign("topic", 1);
    scenario.assign("tone", 2);
    scenario.pass(TimeDelta::hours(1));
    let open = |scenario: &Scenario| -> Vec<String> {
        let incidents = scenario.state.as_ref().unwrap().incidents.iter();
        incidents
            .map(|incident| incident.step_id.to_string())
            .collect()
    };
    assert_eq!(open(&scenario), ["topic", "tone"]);
    scenario.label("topic", 3, "a");
    assert_eq!(open(&scenario), ["tone"]);
}

#[test]
fn a_migration_renames_steps_wherever_they_are_named() {
    let yaml = "
workflow:
  id: told
  steps:
    - { id: annotate, type: annotation }
    - id: label
      type: annotation
      assignment: { not_who_did: [annotate] }
      completion: { type: annotation_count, count: 1, timeout: 1h, timeout_action: escalate }
  transitions:
    - { from: annotate, to: label }
";
    let mut scenario = Scenario::started(yaml);
    scenario.label("annotate", 1, "a");
    scenario.assign("label", 2);
    scenario.pass(TimeDelta::hours(1));
    let to = scenario.revise(&yaml.replace("annotate", "read").replace("label", "tag"));
    let names = [("annotate", "read"), ("label", "tag")];
    scenario.run(Command::Migrate(Migrate {
        task_id: TASK,
        to,
        steps: names.map(|(from, to)| (slug(from), slug(to))).into(),
    }));
    let state = scenario.state.as_ref().unwrap();
    let visit = &state.steps[&slug("tag")].visits[0];
    assert_eq!(visit.entered_from, Some(slug("read")));
    assert_eq!(visit.not_who_did, [slug("read")]);
    assert_eq!(state.incidents[0].step_id, slug("tag"));
    let again = scenario.label("tag", 1, "b");
    assert!(again.starts_with("rejected"), "{again}");
    assert!(scenario.label("tag", 3, "b").starts_with("completed |"));
}

#[test]
fn an_advance_without_a_step_means_the_one_that_is_active() {
    let mut scenario = Scenario::started(
        "
workflow:
  id: two
  steps:
    - { id: annotate, type: annotation, completion: { type: manual } }
    - { id: again, type: annotation, completion: { type: manual } }
  transitions:
    - { from: annotate, to: again }
",
    );
    scenario.label("annotate", 1, "a");
    let advanced = scenario.advance("", None);
    assert!(advanced.starts_with("advanced [again]"), "{advanced}");
}

#[test]
fn a_value_that_grows_or_nests_without_end_is_an_incident() {
    // Each merges the one before it.
    let nested = (0..70)
        .map(|n| format!("    - {{ id: n{n}, type: auto_process, handler: result_merger }}\n"));
    let nested = nested.collect::<Vec<_>>().concat();
    let nested_ways = (0..69).map(|n| format!("    - {{ from: n{n}, to: n{} }}\n", n + 1));
    let nested_ways = nested_ways.collect::<Vec<_>>().concat();
    let nested = format!(
        "workflow:\n  id: dual\n  steps:\n    - {{ id: ann, type: annotation }}\n{nested}  transitions:\n    - \
         {{ from: ann, to: n0 }}\n{nested_ways}"
    );
    let mergers = (0..20).map(|n| {
        let before: Vec<String> = (0..n).map(|k| format!(", m{k}")).collect();
        let steps = format!("ann{}", before.concat());
        format!(
            "    - {{ id: m{n}, type: auto_process, handler: result_merger, config: {{ steps: [{steps}] }} }}\n"
        )
    });
    let mergers = mergers.collect::<Vec<_>>().concat();
    let ways = (0..19).map(|n| format!("    - {{ from: m{n}, to: m{} }}\n", n + 1));
    let ways = ways.collect::<Vec<_>>().concat();
    let doubled = format!(
        "workflow:\n  id: dual\n  steps:\n    - {{ id: ann, type: annotation }}\n{mergers}  transitions:\n    - \
         {{ from: ann, to: m0 }}\n{ways}"
    );
    for (yaml, data, reason) in [
        (&nested, json!(1), "it nests deeper than 64"),
        (
            &doubled,
            json!("x".repeat(1_000)),
            "it would have more than 1048576 bytes",
        ),
    ] {
        let mut scenario = Scenario::started(yaml);
        let answer = scenario.submit("ann", 1, data);
        assert!(answer.ends_with("incident_opened"), "{answer}");
        let incident = &scenario.state.as_ref().unwrap().incidents[0];
        assert_eq!(incident.code, IncidentCode::HandlerFailed);
        assert!(incident.reason.contains(reason), "{}", incident.reason);
    }
}
