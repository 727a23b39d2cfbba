//! Nobody judges what they made, in workflows of any shape.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
};

use glyph_workflow_engine::state::Slots;
use proptest::prelude::*;
use serde_json::json;

use crate::scenario::{Scenario, user};

/// What follows a step that annotates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Link {
    Review,
    Adjudication,
    Finalize,
    Merge,
    /// A merger of every step that has annotated so far.
    MergeAll,
    /// A review after which the section may begin again.
    Loop,
}

/// A step that so many people annotate, and what judges it.
type Section = (u32, Vec<Link>);

fn sections() -> impl Strategy<Value = Vec<Section>> {
    let link = prop::sample::select(vec![
        Link::Review,
        Link::Adjudication,
        Link::Finalize,
        Link::Merge,
        Link::MergeAll,
        Link::Loop,
    ]);
    prop::collection::vec((1_u32..3, prop::collection::vec(link, 1..5)), 1..4)
}

#[derive(Clone, Copy, Debug)]
struct Attempt {
    who: u128,
    decision: &'static str,
    /// Whether the person claims the slot first.
    claims: bool,
}

fn attempts() -> impl Strategy<Value = Vec<Attempt>> {
    let decision = prop::sample::select(vec!["approve", "fix", "reject"]);
    let one = (1_u128..6, decision, any::<bool>()).prop_map(|(who, decision, claims)| Attempt {
        who,
        decision,
        claims,
    });
    prop::collection::vec(one, 1..40)
}

/// The file, and its steps in their order: the section and what the step is.
fn workflow(sections: &[Section]) -> (String, Vec<(String, usize, Option<Link>)>) {
    let (mut steps, mut transitions) = (String::new(), String::new());
    let mut order = Vec::new();
    let mut before: Option<(String, Option<Link>)> = None;
    let mut chain = |id: String, link: Option<Link>, begin: &str| {
        if let Some((from, link)) = before.replace((id.clone(), link)) {
            if link == Some(Link::Loop) {
                writeln!(transitions, "    - {{ from: {from}, to: {begin}, condition: {{ type: on_disagreement }}, priority: 1, loop: {{ max_iterations: 2, on_exhausted: {id} }} }}").unwrap();
            }
            writeln!(transitions, "    - {{ from: {from}, to: {id} }}").unwrap();
        }
    };
    let mut begin = String::new();
    for (s, (count, links)) in sections.iter().enumerate() {
        let id = format!("make{s}");
        writeln!(steps, "    - {{ id: {id}, type: annotation, field: label, completion: {{ type: annotation_count, count: {count} }} }}").unwrap();
        chain(id.clone(), None, &begin);
        begin.clone_from(&id);
        order.push((id, s, None));
        for (l, link) in links.iter().enumerate() {
            let id = format!("link{s}{l}");
            let what = match link {
                Link::Review | Link::Loop => "type: review".to_owned(),
                Link::Adjudication => "type: adjudication".to_owned(),
                Link::Finalize => "type: auto_process, handler: finalize".to_owned(),
                Link::Merge => "type: auto_process, handler: result_merger".to_owned(),
                Link::MergeAll => {
                    let all: Vec<String> = (0..=s).map(|s| format!("make{s}")).collect();
                    let all = all.join(", ");
                    format!(
                        "type: auto_process, handler: result_merger, config: {{ steps: [{all}] }}"
                    )
                }
            };
            writeln!(steps, "    - {{ id: {id}, {what} }}").unwrap();
            chain(id.clone(), Some(*link), &begin);
            order.push((id, s, Some(*link)));
        }
    }
    let last = "end".to_owned();
    writeln!(steps, "    - {{ id: {last}, type: annotation }}").unwrap();
    chain(last, None, &begin);
    let yaml = format!("workflow:\n  id: judged\n  steps:\n{steps}  transitions:\n{transitions}");
    (yaml, order)
}

/// Who has made the value, told apart from who may have: the rest of those who ever submitted to a step
/// whose work is in it.
#[derive(Default)]
struct Makers {
    by_step: BTreeMap<String, BTreeSet<u128>>,
    steps: BTreeSet<String>,
    surely: BTreeSet<u128>,
}

impl Makers {
    fn take_all(&mut self, section: usize) {
        self.steps = (0..=section).map(|s| format!("make{s}")).collect();
        self.surely = self.may_be();
    }

    fn may_be(&self) -> BTreeSet<u128> {
        let of = |step| self.by_step.get(step).into_iter().flatten().copied();
        self.steps.iter().flat_map(of).collect()
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn an_author_is_never_offered_nor_allowed_to_judge(sections in sections(), attempts in attempts()) {
        let (yaml, order) = workflow(&sections);
        let mut scenario = Scenario::new(&yaml);
        scenario.start(json!(null));
        let (mut makers, mut reached) = (Makers::default(), 0);
        for Attempt { who, decision, claims } in attempts {
            let state = scenario.state.as_ref().unwrap();
            let slots = Slots::from(state);
            let Some(slot) = slots.open.first() else { break };
            let step = slot.step_id.to_string();
            let Some(place) = order.iter().position(|(id, ..)| *id == step) else { break };
            let link = order[place].2;
            let before = std::mem::replace(&mut reached, place);
            for (_, section, passed) in order.iter().take(place).skip(before + 1) {
                if *passed == Some(Link::MergeAll) {
                    makers.take_all(*section);
                }
            }
            let offered_to = |who| !slot.authors.contains(&user(who));
            if link.is_some() {
                for who in 1..6 {
                    prop_assert!(!makers.surely.contains(&who) || !offered_to(who), "{step} is offered to {who}\n{yaml}");
                    prop_assert!(makers.may_be().contains(&who) || offered_to(who), "{step} is kept from {who}\n{yaml}");
                }
            }
            let offered = offered_to(who);
            if claims {
                let came = scenario.assign(&step, who);
                prop_assert!(link.is_none() || offered == (came != "rejected self_review"), "{came}\n{yaml}");
            }
            let came = match link {
                Some(Link::Review | Link::Loop) => scenario.submit_with(&step, who, json!({"label": "f"}), |s| {
                    s.annotation.decision = Some(decision.to_owned());
                }),
                _ => scenario.label(&step, who, "x"),
            };
            if link.is_some() {
                prop_assert_eq!(!offered, came == "rejected self_review", "{}\n{}", came, yaml);
            }
            if came.starts_with("rejected") {
                continue;
            }
            makers.by_step.entry(step.clone()).or_default().insert(who);
            match link {
                None => {
                    // A round anew: what earlier sections and rounds said is not what is judged.
                    makers.steps = [step.clone()].into();
                    makers.surely = makers.by_step[&step].clone();
                }
                Some(Link::Adjudication) => {
                    makers.surely.insert(who);
                    makers.steps.insert(step);
                }
                Some(Link::Review | Link::Loop) => {
                    if decision == "fix" {
                        makers.surely.insert(who);
                    }
                    // Who fixed in an earlier round counts as well.
                    makers.steps.insert(step);
                }
                Some(_) => {}
            }
        }
    }
}
