//! The verbs that are offered for a task are those that it accepts, in every state that chance leads
//! to.

use glyph_workflow_engine::OfferedVerb;
use proptest::{
    strategy::{Strategy, ValueTree},
    test_runner::TestRunner,
};

use crate::{
    properties::{WORKFLOWS, moves, play},
    scenario::Scenario,
};

/// The states that are looked at; the same ones in each run.
const STATES: usize = 10_000;

#[test]
fn what_is_offered_is_what_is_accepted() {
    let mut runner = TestRunner::deterministic();
    let stories = (0..WORKFLOWS.len(), moves());
    let (mut states, mut accepted, mut refused) = (0, 0, 0);
    while states < STATES {
        let (workflow, moves) = stories.new_tree(&mut runner).unwrap().current();
        let mut scenario = Scenario::new(WORKFLOWS[workflow]);
        for (at, one) in moves.iter().enumerate() {
            let before = (scenario.log.len(), scenario.pauses.clone());
            play(&mut scenario, one);
            if before == (scenario.log.len(), scenario.pauses.clone()) {
                continue;
            }
            states += 1;
            let offered = scenario.verbs();
            for verb in offered.iter().chain(&not_offered(&scenario, &offered)) {
                let is_accepted = scenario.accepts(verb);
                let after = || format!("{verb:?} after {:?} of workflow {workflow}", &moves[..=at]);
                assert_eq!(verb.accepted, is_accepted, "{}", after());
                accepted += usize::from(is_accepted);
                refused += usize::from(!is_accepted);
            }
            for verb in offered {
                assert_eq!(verb.detail.is_none(), verb.accepted, "{verb:?}");
            }
        }
    }
    assert!(
        accepted > STATES && refused > STATES,
        "{accepted}, {refused}"
    );
}

/// The verbs that are offered on other steps only, or on none.
fn not_offered(scenario: &Scenario, offered: &[OfferedVerb]) -> Vec<OfferedVerb> {
    let is_offered = |verb, step| {
        let mut on_step = offered
            .iter()
            .filter(|one| one.step_id.as_ref() == Some(step));
        on_step.any(|one| one.verb == verb)
    };
    let started = scenario.state.is_some();
    let steps = scenario.steps().filter(|_| started);
    let verbs = steps.flat_map(|step| {
        let verbs = ["retry", "advance", "pause", "resume", "assign"].into_iter();
        verbs
            .filter(move |verb| !is_offered(*verb, step))
            .map(|verb| OfferedVerb {
                verb,
                step_id: Some(step.clone()),
                user_id: None,
                needs: Vec::new(),
                accepted: false,
                code: None,
                detail: None,
            })
    });
    verbs.collect()
}
