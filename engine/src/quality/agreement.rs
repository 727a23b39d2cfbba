//! Agreement over the newest items of one question. Its cost depends on the window, not on earlier
//! items.

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use super::{sample::Sample, series::Series};
use crate::{
    config::{Level, Metric},
    consensus::{Bounds, CONFIDENCE_DEFAULT, ConsensusError, Pooled},
    ids::{StepId, WorkflowId},
};

/// Classes that a summary lists.
const CLASSES_MAX: usize = 50;

/// A question people can agree on: the answers to one step, or to one field of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Question {
    /// The workflow.
    pub workflow: WorkflowId,
    /// The step.
    pub step_id: StepId,
    /// The path in `annotation.data`; all of the data if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// The measure of one item: `percent_agreement` for categories, the step's own metric for
    /// answers that can be more or less alike.
    pub measure: Metric,
}

impl Question {
    /// The question behind a comparison by `metric`.
    pub fn new(
        workflow: &WorkflowId,
        step_id: &StepId,
        field: Option<&str>,
        metric: Metric,
    ) -> Self {
        let measure = if metric.corrects_for_chance() {
            Metric::PercentAgreement
        } else {
            metric
        };
        Self {
            workflow: workflow.clone(),
            step_id: step_id.clone(),
            field: field.map(str::to_owned),
            measure,
        }
    }

    /// Whether answers are compared as categories, equal or not.
    pub fn is_categorical(&self) -> bool {
        self.measure == Metric::PercentAgreement
    }

    /// The key of its row: short even for a long path.
    pub fn key(&self) -> String {
        let field = self.field.as_ref().map_or_else(String::new, |field| {
            format!("/{}", Uuid::new_v5(&Uuid::NAMESPACE_OID, field.as_bytes()))
        });
        let (workflow, step, measure) = (&self.workflow, &self.step_id, self.measure.as_str());
        format!("{workflow}/{step}/{measure}{field}")
    }
}

/// Agreement of annotators over the newest items of a step, or of one field of its answers. Intervals
/// are those of 95 %.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AgreementProgress {
    /// The workflow.
    pub workflow: WorkflowId,
    /// The step.
    pub step_id: StepId,
    /// The path in `annotation.data`; all of the data if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// The measure of one item: `percent_agreement` for categories; the step's own metric for
    /// answers that can be more or less alike.
    pub measure: Metric,
    /// Level of measurement of `alpha`.
    #[serde(default)]
    pub level: Level,
    /// Items in the window. An item is the first comparison of a visit, before anybody was asked
    /// because of an answer; gold tasks are excluded.
    pub items: usize,
    /// The size of the window; the oldest item leaves when a new one enters.
    pub window: usize,
    /// Different answers in the window.
    #[serde(default)]
    pub categories_used: usize,
    /// Possible answers, as far as is known.
    #[serde(default)]
    pub categories_known: usize,
    /// Mean of `measure` over the items.
    pub agreement: Option<f64>,
    /// The interval of `agreement`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agreement_interval: Option<Bounds>,
    /// Krippendorff's alpha; null if it is not defined.
    pub alpha: Option<f64>,
    /// The interval of `alpha`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alpha_interval: Option<Bounds>,
    /// Why there is no alpha.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alpha_undefined: Option<String>,
    /// Cohen's or Fleiss' kappa, as `kappa_of` says; null if it is not defined.
    pub kappa: Option<f64>,
    /// Which kappa it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kappa_of: Option<KappaOf>,
    /// The interval of `kappa`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kappa_interval: Option<Bounds>,
    /// Why there is no kappa.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kappa_undefined: Option<String>,
    /// Gwet's AC1 over the known categories; null if it is not defined.
    #[serde(default)]
    pub ac1: Option<f64>,
    /// The interval of `ac1`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ac1_interval: Option<Bounds>,
    /// Why there is no AC1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ac1_undefined: Option<String>,
    /// Agreement on each of the most frequent answers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub classes: Vec<ClassAgreement>,
    /// When the newest item was added.
    pub updated_at: DateTime<Utc>,
}

/// Whose kappa it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum KappaOf {
    /// Cohen's: the same two people gave all answers, and each is reckoned with the own habits.
    TwoPeople,
    /// Fleiss' (Scott's pi where two answer an item): all people are reckoned with the habits of all.
    AllAnswers,
}

/// Agreement on one answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ClassAgreement {
    /// The answer.
    pub value: Value,
    /// How often it was given.
    pub given: u64,
    /// How often another person gives it to an item to which somebody gave it.
    pub agreement: f64,
    /// The interval of `agreement`.
    pub interval: Bounds,
}

/// The newest items of one question.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Window {
    series: Series,
    /// The number of the next item.
    next: u64,
}

impl Window {
    /// Adds an item; the oldest ones leave that exceed the length.
    pub fn add(&mut self, sample: &Sample<'_>, length: usize) {
        self.series.add(self.next, sample);
        self.next += 1;
        self.fit(length);
    }

    /// Removes the oldest items that exceed the length.
    pub fn fit(&mut self, length: usize) {
        let length = u64::try_from(length.max(1)).unwrap_or(u64::MAX);
        self.series.drop_before(self.next.saturating_sub(length));
    }

    /// The results for the items in the window.
    pub fn summary(
        &self,
        question: &Question,
        length: usize,
        updated_at: DateTime<Utc>,
    ) -> AgreementProgress {
        let series = &self.series;
        let is_categorical = question.is_categorical();
        let coefficient = |found: Option<Result<Pooled, ConsensusError>>| {
            let without = || Found::without("these answers are no categories");
            found.map_or_else(without, Found::of)
        };
        let kappa = is_categorical.then(|| series.kappa());
        let kappa_of = kappa.as_ref().and_then(|kappa| kappa.as_ref().ok());
        let kappa_of = kappa_of.map(|(_, is_cohen)| {
            if *is_cohen {
                KappaOf::TwoPeople
            } else {
                KappaOf::AllAnswers
            }
        });
        let agreement = Found::of(if is_categorical {
            series.observed()
        } else {
            series.similarity()
        });
        let alpha = coefficient(is_categorical.then(|| series.alpha()));
        let kappa = coefficient(kappa.map(|kappa| kappa.map(|(pooled, _)| pooled)));
        let ac1 = coefficient(is_categorical.then(|| series.ac1()));
        let (categories_used, categories_known) = series.categories();
        AgreementProgress {
            workflow: question.workflow.clone(),
            step_id: question.step_id.clone(),
            field: question.field.clone(),
            measure: question.measure,
            level: series.measure.level,
            items: series.len(),
            window: length,
            categories_used,
            categories_known,
            agreement: agreement.value,
            agreement_interval: agreement.bounds,
            alpha: alpha.value,
            alpha_interval: alpha.bounds,
            alpha_undefined: alpha.undefined,
            kappa_of: kappa_of.filter(|_| kappa.value.is_some()),
            kappa: kappa.value,
            kappa_interval: kappa.bounds,
            kappa_undefined: kappa.undefined,
            ac1: ac1.value,
            ac1_interval: ac1.bounds,
            ac1_undefined: ac1.undefined,
            classes: if is_categorical {
                classes(series)
            } else {
                Vec::new()
            },
            updated_at,
        }
    }
}

fn classes(series: &Series) -> Vec<ClassAgreement> {
    let classes = series.classes(CLASSES_MAX).into_iter();
    let found = classes.filter_map(|class| {
        let estimate = class.pooled.estimate(CONFIDENCE_DEFAULT).ok()?;
        Some(ClassAgreement {
            value: class.value,
            given: class.given,
            agreement: estimate.value,
            interval: estimate.bounds,
        })
    });
    found.collect()
}

/// A coefficient, or why there is none.
struct Found {
    value: Option<f64>,
    bounds: Option<Bounds>,
    undefined: Option<String>,
}

impl Found {
    fn of(pooled: Result<Pooled, ConsensusError>) -> Self {
        match pooled.and_then(|pooled| pooled.estimate(CONFIDENCE_DEFAULT)) {
            Ok(estimate) => Self {
                value: Some(estimate.value),
                bounds: Some(estimate.bounds),
                undefined: None,
            },
            Err(error) => Self::without(&error.to_string()),
        }
    }

    fn without(reason: &str) -> Self {
        Self {
            value: None,
            bounds: None,
            undefined: Some(reason.to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::json;

    use super::*;
    use crate::{
        consensus::{cohens_kappa, krippendorffs_alpha_nominal, percent_agreement},
        events::{ConsensusCalculated, EVENT_SCHEMA_VERSION, StoredEvent, WorkflowEvent, upcast},
        ids::Slug,
        quality::ComparedVisit,
    };

    fn question(metric: Metric) -> Question {
        Question::new(
            &Slug::new("w").unwrap(),
            &Slug::new("s").unwrap(),
            Some("label"),
            metric,
        )
    }

    /// The comparison of these answers, by these people.
    fn compared(metric: &str, answers: &[Value], people: &[u128]) -> StoredEvent {
        let mut votes: Vec<(Value, Vec<usize>)> = Vec::new();
        for (place, value) in answers.iter().enumerate() {
            match votes.iter_mut().find(|(known, _)| known == value) {
                Some((_, by)) => by.push(place),
                None => votes.push((value.clone(), vec![place])),
            }
        }
        // The event orders votes by count, not by time.
        votes.reverse();
        let votes = votes.iter().map(
            |(value, by)| json!({"value": value, "count": by.len(), "by": by, "weight": by.len()}),
        );
        let people: Vec<Uuid> = people.iter().map(|n| Uuid::from_u128(*n)).collect();
        event(&json!({
            "step_id": "s", "visit": 1, "metric": metric, "level": "nominal", "field": "label",
            "agreement": 0.5, "threshold": 0.8, "units": 1, "pairs": 1, "agreed": true,
            "method": "majority_vote", "votes": votes.collect::<Vec<_>>(), "tied": false,
            "value": null, "resolved_by": null, "annotators": people,
        }))
    }

    fn event(data: &Value) -> StoredEvent {
        let event = upcast(
            "consensus_calculated",
            EVENT_SCHEMA_VERSION,
            &data.to_string(),
        )
        .unwrap();
        let stored = json!({
            "event_id": Uuid::nil(), "task_id": Uuid::nil(), "version": 1,
            "occurred_at": "2026-01-01T00:00:00Z",
        });
        StoredEvent {
            event_id: Uuid::nil(),
            task_id: serde_json::from_value(stored["task_id"].clone()).unwrap(),
            version: 1,
            occurred_at: DateTime::UNIX_EPOCH,
            metadata: serde_json::from_value(json!({
                "command_id": Uuid::nil(), "correlation_id": "c",
                "schema_version": EVENT_SCHEMA_VERSION,
            }))
            .unwrap(),
            event,
        }
    }

    fn change(event: &mut StoredEvent, change: impl FnOnce(&mut ConsensusCalculated)) {
        let WorkflowEvent::ConsensusCalculated(calculated) = &mut event.event else {
            panic!("a comparison")
        };
        change(calculated);
    }

    /// Windows by field, of the comparisons.
    fn windows(events: &[StoredEvent], length: usize) -> Vec<(Option<String>, Window)> {
        let mut windows: Vec<(Option<String>, Window)> = Vec::new();
        for event in events {
            for sample in ComparedVisit::of(event).into_iter().flat_map(|v| v.samples) {
                let position = windows.iter().position(|(field, _)| *field == sample.field);
                let position = position.unwrap_or_else(|| {
                    windows.push((sample.field.clone(), Window::default()));
                    windows.len() - 1
                });
                windows[position].1.add(&sample, length);
            }
        }
        windows
    }

    fn summary(window: &Window, metric: Metric) -> AgreementProgress {
        window.summary(&question(metric), 10, DateTime::UNIX_EPOCH)
    }

    /// Answers of so many kinds that codes are assigned, freed and assigned again.
    fn item(n: u32) -> [Value; 3] {
        let answer = |k: u32| match n * (k + 7) % 11 {
            0 => json!(format!("text {n}")),
            rest => json!(["a", "b", "c"][rest as usize % 3]),
        };
        [answer(0), answer(1), answer(2)]
    }

    #[test]
    fn a_window_has_the_coefficients_of_what_is_inside() {
        let mut window = Window::default();
        for n in 1..200_u32 {
            let event = compared("percent_agreement", &item(n), &[1, 2, 3]);
            let compared = ComparedVisit::of(&event).unwrap();
            window.add(&compared.samples[0], 10);
            let first = n.saturating_sub(9).max(1);
            let inside: Vec<[Value; 3]> = (first..=n).map(item).collect();
            let code = |value: &Value| {
                let all = inside.iter().flatten();
                u32::try_from(all.clone().position(|other| other == value).unwrap()).unwrap()
            };
            let row = |k: usize| inside.iter().map(|item| code(&item[k])).collect::<Vec<_>>();
            let ratings =
                [row(0), row(1), row(2)].map(|row| row.into_iter().map(Some).collect::<Vec<_>>());
            let found = summary(&window, Metric::CohenKappa);
            assert_eq!(found.items, inside.len());
            let same = |found: Option<f64>, wanted: Result<f64, ConsensusError>| match wanted {
                Ok(wanted) => assert!((found.unwrap() - wanted).abs() < 1e-12, "{n}"),
                Err(_) => assert_eq!(found, None, "{n}"),
            };
            same(found.alpha, krippendorffs_alpha_nominal(&ratings));
            same(found.agreement, percent_agreement(&ratings));
            assert_eq!(found.alpha.is_none(), found.alpha_undefined.is_some());
            assert_eq!(found.kappa_of, found.kappa.map(|_| KappaOf::AllAnswers));
            let used: BTreeSet<_> = inside.iter().flatten().map(Value::to_string).collect();
            assert_eq!(found.categories_used, used.len());

            let text = serde_json::to_value(&window).unwrap();
            let read: Window = serde_json::from_value(text).unwrap();
            assert_eq!(read, window, "{n}");
        }
    }

    #[test]
    fn two_people_are_told_apart_whoever_comes_first() {
        let (yes, no) = (json!("yes"), json!("no"));
        let habits = [
            (&yes, &yes),
            (&yes, &no),
            (&yes, &no),
            (&no, &no),
            (&yes, &yes),
            (&no, &no),
        ];
        let events: Vec<StoredEvent> = habits
            .iter()
            .enumerate()
            .map(|(n, (one, other))| {
                let (one, other) = ((*one).clone(), (*other).clone());
                if n % 2 == 0 {
                    compared("cohen_kappa", &[one, other], &[7, 3])
                } else {
                    compared("cohen_kappa", &[other, one], &[3, 7])
                }
            })
            .collect();
        let found = summary(&windows(&events, 10)[0].1, Metric::CohenKappa);
        let code = |value: &Value| u32::from(*value == yes);
        let one: Vec<u32> = habits.iter().map(|(one, _)| code(one)).collect();
        let other: Vec<u32> = habits.iter().map(|(_, other)| code(other)).collect();
        assert_eq!(found.kappa_of, Some(KappaOf::TwoPeople));
        assert!((found.kappa.unwrap() - cohens_kappa(&one, &other).unwrap()).abs() < 1e-12);

        // A third person, or one who is not known: nobody's habits can be told apart.
        for people in [&[7_u128, 9][..], &[]] {
            let mut events = events.clone();
            events.push(compared("cohen_kappa", &[yes.clone(), no.clone()], people));
            let found = summary(&windows(&events, 10)[0].1, Metric::CohenKappa);
            assert_eq!(found.kappa_of, Some(KappaOf::AllAnswers));
        }
    }

    #[test]
    fn fields_of_an_object_are_questions_of_their_own() {
        let flags = |a: bool, b: bool| json!({"a": a, "b": b});
        let mut events =
            vec![compared("gwet_ac1", &[flags(true, true), flags(true, true)], &[1, 2]); 8];
        events.push(compared(
            "gwet_ac1",
            &[flags(true, true), flags(true, false)],
            &[1, 2],
        ));
        let found = windows(&events, 10);
        let names: Vec<_> = found.iter().map(|(field, _)| field.as_deref()).collect();
        assert_eq!(names, [Some("label.a"), Some("label.b")]);
        let of = |n: usize| summary(&found[n].1, Metric::GwetAc1);
        // Nobody says no to the first: it is known that one could.
        assert_eq!(
            (of(0).ac1, of(0).categories_used, of(0).categories_known),
            (Some(1.0), 1, 2)
        );
        assert!(of(0).alpha.is_none() && of(1).ac1.unwrap() > 0.8);
    }

    #[test]
    fn lists_are_compared_by_element() {
        let events = [
            compared(
                "krippendorff_alpha",
                &[json!(["a", "b"]), json!(["a", "b"])],
                &[1, 2],
            ),
            compared(
                "krippendorff_alpha",
                &[json!(["a", "b", "c"]), json!(["a", "c"])],
                &[1, 2],
            ),
        ];
        let found = summary(&windows(&events, 10)[0].1, Metric::KrippendorffAlpha);
        assert_eq!((found.items, found.agreement), (2, Some(0.6)));
    }

    #[test]
    fn classes_have_an_agreement_each() {
        let (toxic, fine) = (json!("toxic"), json!("fine"));
        let pair = |one: &Value, other: &Value| {
            compared("percent_agreement", &[one.clone(), other.clone()], &[1, 2])
        };
        let mut events = vec![pair(&fine, &fine); 6];
        events.extend([pair(&toxic, &fine), pair(&toxic, &toxic)]);
        let found = summary(&windows(&events, 10)[0].1, Metric::PercentAgreement);
        let named = |n: usize| (found.classes[n].value.clone(), found.classes[n].given);
        assert_eq!((named(0), named(1)), ((fine, 13), (toxic, 3)));
        assert!((found.classes[1].agreement - 2.0 / 3.0).abs() < 1e-12);
        let interval = found.classes[1].interval;
        assert!(interval.lower < 0.4 && interval.upper > 0.8, "{interval:?}");
    }

    #[test]
    fn regions_have_a_mean_and_no_coefficient() {
        let mut events = Vec::new();
        for score in [0.2, 0.5, 1.0] {
            let mut event = compared("span_iou", &[json!([]), json!([1])], &[1, 2]);
            change(&mut event, |calculated| calculated.agreement = Some(score));
            events.push(event);
        }
        let found = summary(&windows(&events, 2)[0].1, Metric::SpanIou);
        assert_eq!((found.items, found.agreement), (2, Some(0.75)));
        assert_eq!((found.alpha, found.kappa, found.ac1), (None, None, None));
        assert!(found.kappa_undefined.is_some() && found.classes.is_empty());
    }

    #[test]
    fn scales_count_by_rank() {
        let words = ["none", "mild", "severe"];
        let mut events = Vec::new();
        let given = [[0, 0], [0, 1], [1, 1], [2, 2], [0, 2], [1, 2]];
        for pair in given {
            let mut event = compared(
                "krippendorff_alpha",
                &pair.map(|n: usize| json!(words[n])),
                &[1, 2],
            );
            change(&mut event, |calculated| {
                calculated.level = Level::Ordinal;
                let ranks = calculated.votes.iter().map(|vote| {
                    let rank = words.iter().position(|word| vote.value == *word).unwrap();
                    u32::try_from(rank).unwrap()
                });
                calculated.known = Some(crate::events::KnownAnswers {
                    categories: Some(3),
                    ranks: ranks.collect(),
                    weights: None,
                });
            });
            events.push(event);
        }
        let found = summary(&windows(&events, 10)[0].1, Metric::KrippendorffAlpha);
        let row = |k: usize| {
            given
                .iter()
                .map(|pair| u32::try_from(pair[k]).ok())
                .collect::<Vec<_>>()
        };
        let wanted = crate::consensus::krippendorffs_alpha_ordinal(&[row(0), row(1)]).unwrap();
        assert!((found.alpha.unwrap() - wanted).abs() < 1e-12);
        assert_eq!(found.level, Level::Ordinal);
    }

    #[test]
    fn only_first_comparisons_of_work_that_counts_are_measured() {
        let answers = [json!("a"), json!("b")];
        let mut gold = compared("percent_agreement", &answers, &[1, 2]);
        gold.metadata.gold = true;
        let mut again = compared("percent_agreement", &answers, &[1, 2]);
        change(&mut again, |calculated| calculated.again = true);
        let mut alone = compared("percent_agreement", &answers[..1], &[1]);
        change(&mut alone, |calculated| calculated.agreement = None);
        for event in [&gold, &again, &alone] {
            assert_eq!(ComparedVisit::of(event), None);
        }
    }

    #[test]
    fn equal_answers_are_one_however_they_are_written() {
        for (a, b) in [
            (json!(1), json!(1.0)),
            (json!({"a": [0], "b": 2}), json!({"b": 2.0, "a": [-0.0]})),
        ] {
            let mut event = compared("percent_agreement", &[a.clone(), b.clone()], &[1, 2]);
            let found = summary(
                &windows(std::slice::from_ref(&event), 10)[0].1,
                Metric::PercentAgreement,
            );
            assert_eq!(found.agreement, Some(1.0));
            event = compared("percent_agreement", &[a, json!("1")], &[1, 2]);
            let found = summary(&windows(&[event], 10)[0].1, Metric::PercentAgreement);
            assert_eq!(found.agreement, Some(0.0));
        }
    }

    #[test]
    fn keys_are_short_and_tell_questions_apart() {
        let whole = |metric| Question {
            field: None,
            ..question(metric)
        };
        assert_eq!(whole(Metric::GwetAc1).key(), "w/s/percent_agreement");
        let long = Question {
            field: Some("x".repeat(100_000)),
            ..question(Metric::SpanF1)
        };
        assert!(long.key().len() < 200);
        assert_ne!(long.key(), question(Metric::SpanF1).key());
    }
}
