//! Agreement over the newest items of one question. It is exact, and its cost depends on the
//! window, not on earlier items.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use crate::{
    answer::Answer,
    config::Metric,
    consensus::{Agreement, ConsensusError, StreamingAlpha, StreamingKappa},
    events::Vote,
    ids::{StepId, WorkflowId},
};

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
        let measure = match metric {
            Metric::PercentAgreement
            | Metric::CohenKappa
            | Metric::FleissKappa
            | Metric::KrippendorffAlpha
            | Metric::GwetAc1 => Metric::PercentAgreement,
            Metric::OrdinalAgreement
            | Metric::Within
            | Metric::Jaccard
            | Metric::Masi
            | Metric::KendallTau
            | Metric::EditSimilarity
            | Metric::TokenF1
            | Metric::RougeL
            | Metric::SpanIou
            | Metric::SpanF1
            | Metric::SegmentIou
            | Metric::SegmentF1
            | Metric::BoxIou
            | Metric::PolygonIou => metric,
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

/// Agreement of annotators over the newest items of a step, or of one field of its answers.
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
    /// Items in the window. An item is the first comparison of a visit, before anybody was asked
    /// because of an answer; gold tasks are excluded.
    pub items: usize,
    /// The size of the window; the oldest item leaves when a new one enters.
    pub window: usize,
    /// Mean of `measure` over the items.
    pub agreement: Option<f64>,
    /// Krippendorff's alpha, nominal; null if it is not defined.
    pub alpha: Option<f64>,
    /// Why there is no alpha.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alpha_undefined: Option<String>,
    /// Cohen's kappa of the first and the second answer to each item; null if it is not defined.
    pub kappa: Option<f64>,
    /// Why there is no kappa.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kappa_undefined: Option<String>,
    /// When the newest item was added.
    pub updated_at: DateTime<Utc>,
}

/// The newest items of one question.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Window {
    /// Oldest first.
    items: VecDeque<Item>,
    /// The answers in the window, by code. Their texts are not kept.
    answers: BTreeMap<u32, CodedAnswer>,
    /// Derived from the fields above, see [`restored`](Self::restored).
    #[serde(skip)]
    counts: Counts,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
enum Item {
    /// Codes of the answers, in the order of submission.
    Answers(Vec<u32>),
    /// How far answers that are no categories agree.
    Score(f64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct CodedAnswer {
    /// A hash that identifies the answer.
    id: Uuid,
    /// How often it occurs in the window; at 0 it is removed.
    uses: u64,
}

#[derive(Clone, Debug, Default, PartialEq)]
struct Counts {
    alpha: StreamingAlpha,
    kappa: StreamingKappa,
    codes: BTreeMap<Uuid, u32>,
    /// Unused codes below the largest code in use.
    free: BTreeSet<u32>,
}

impl Window {
    /// Restores the derived counts of a window that was read back.
    #[must_use]
    pub fn restored(mut self) -> Self {
        let end = self
            .answers
            .last_key_value()
            .map_or(0, |(last, _)| last + 1);
        let free = (0..end).filter(|code| !self.answers.contains_key(code));
        self.counts = Counts {
            codes: self.answers.iter().map(|(code, a)| (a.id, *code)).collect(),
            free: free.collect(),
            ..Counts::default()
        };
        for item in &self.items {
            self.counts.add(item);
        }
        self
    }

    /// Adds an item by its votes. With fewer than two answers there is nothing to compare: no item.
    pub fn add_votes(&mut self, votes: &[Vote], length: usize) {
        let answers = in_order(votes);
        if answers.len() < 2 {
            return;
        }
        let codes = answers.iter().map(|value| self.code(value)).collect();
        self.push(Item::Answers(codes), length);
    }

    /// Adds an item by the agreement of its answers.
    pub fn add_score(&mut self, score: f64, length: usize) {
        self.push(Item::Score(score), length);
    }

    fn push(&mut self, item: Item, length: usize) {
        self.counts.add(&item);
        self.items.push_back(item);
        self.fit(length);
    }

    /// Removes the oldest items that exceed the length.
    pub fn fit(&mut self, length: usize) {
        while self.items.len() > length.max(1) {
            if let Some(oldest) = self.items.pop_front() {
                self.counts.remove(&oldest);
                self.forget(&oldest);
            }
        }
    }

    /// The results for the items in the window.
    pub fn summary(
        &self,
        question: &Question,
        length: usize,
        updated_at: DateTime<Utc>,
    ) -> AgreementProgress {
        let coefficient = |found: Result<Agreement, ConsensusError>| {
            if !question.is_categorical() {
                return (None, Some("these answers are no categories".to_owned()));
            }
            match found {
                Ok(agreement) => (Some(agreement.value), None),
                Err(error) => (None, Some(error.to_string())),
            }
        };
        let (alpha, alpha_undefined) = coefficient(self.counts.alpha.agreement());
        let (kappa, kappa_undefined) = coefficient(self.counts.kappa.agreement());
        let sum: f64 = self.items.iter().map(Item::agreement).sum();
        let items = self.items.len();
        AgreementProgress {
            workflow: question.workflow.clone(),
            step_id: question.step_id.clone(),
            field: question.field.clone(),
            measure: question.measure,
            items,
            window: length,
            agreement: (items > 0).then(|| sum / items as f64),
            alpha,
            alpha_undefined,
            kappa,
            kappa_undefined,
            updated_at,
        }
    }

    fn code(&mut self, value: &Value) -> u32 {
        let id = identity(value);
        let unused = || u32::try_from(self.answers.len()).unwrap_or(u32::MAX);
        let known = self.counts.codes.get(&id).copied();
        let code = known.unwrap_or_else(|| self.counts.free.pop_first().unwrap_or_else(unused));
        self.counts.codes.insert(id, code);
        self.answers
            .entry(code)
            .or_insert(CodedAnswer { id, uses: 0 })
            .uses += 1;
        code
    }

    fn forget(&mut self, item: &Item) {
        let Item::Answers(codes) = item else { return };
        for code in codes {
            let Some(answer) = self.answers.get_mut(code) else {
                continue;
            };
            answer.uses -= 1;
            if answer.uses == 0 {
                self.counts.codes.remove(&answer.id);
                self.answers.remove(code);
                self.counts.free.insert(*code);
            }
        }
        // Like a window that is read back: no code above the largest one is free.
        let end = self
            .answers
            .last_key_value()
            .map_or(0, |(last, _)| last + 1);
        self.counts.free.split_off(&end);
    }
}

impl Counts {
    fn add(&mut self, item: &Item) {
        if let Item::Answers(codes) = item {
            self.alpha.add(codes);
            if let [first, second, ..] = codes.as_slice() {
                self.kappa.add(*first, *second);
            }
        }
    }

    fn remove(&mut self, item: &Item) {
        if let Item::Answers(codes) = item {
            let inside = "what leaves a window has been added to it";
            self.alpha.remove(codes).expect(inside);
            if let [first, second, ..] = codes.as_slice() {
                self.kappa.remove(*first, *second).expect(inside);
            }
        }
    }
}

impl Item {
    /// The share of pairs of annotators that agree, or the score.
    fn agreement(&self) -> f64 {
        let codes = match self {
            Self::Score(score) => return *score,
            Self::Answers(codes) => codes,
        };
        let equal = codes.iter().enumerate().map(|(place, code)| {
            let before = codes[..place].iter().filter(|other| *other == code);
            before.count()
        });
        let pairs = codes.len() * (codes.len() - 1) / 2;
        equal.sum::<usize>() as f64 / pairs as f64
    }
}

/// The answers in the order of acceptance; in the order of the votes if those do not name their
/// users.
fn in_order(votes: &[Vote]) -> Vec<&Value> {
    let mut given: Vec<(u32, &Value)> = Vec::new();
    for vote in votes {
        let told = usize::try_from(vote.count).is_ok_and(|count| count == vote.by.len());
        if told {
            given.extend(vote.by.iter().map(|place| (*place, &vote.value)));
        } else {
            given.extend((0..vote.count).map(|_| (u32::MAX, &vote.value)));
        }
    }
    given.sort_by_key(|(place, _)| *place);
    given.into_iter().map(|(_, value)| value).collect()
}

/// A hash that equal answers share and others do not.
fn identity(value: &Value) -> Uuid {
    let name = Answer::plain(value).canonical_json().to_string();
    Uuid::new_v5(&Uuid::NAMESPACE_OID, name.as_bytes())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{
        consensus::{cohens_kappa, krippendorffs_alpha_nominal, percent_agreement},
        ids::Slug,
    };

    fn question(metric: Metric) -> Question {
        Question::new(
            &Slug::new("w").unwrap(),
            &Slug::new("s").unwrap(),
            Some("label"),
            metric,
        )
    }

    fn votes(answers: &[Value]) -> Vec<Vote> {
        let mut votes: Vec<Vote> = Vec::new();
        for (place, value) in (0..).zip(answers) {
            match votes.iter_mut().find(|vote| vote.value == *value) {
                Some(vote) => {
                    vote.count += 1;
                    vote.by.push(place);
                }
                None => votes.push(Vote {
                    value: value.clone(),
                    count: 1,
                    by: vec![place],
                    weight: 1.0,
                }),
            }
        }
        // The event orders votes by count, not by time.
        votes.reverse();
        votes
    }

    fn summary(window: &Window, metric: Metric) -> AgreementProgress {
        window.summary(&question(metric), 10, DateTime::UNIX_EPOCH)
    }

    /// Answers of so many kinds that codes are assigned, freed and assigned again.
    fn item(n: u32) -> [Value; 3] {
        let answer = |k: u32| match n * (k + 7) % 11 {
            0 => json!({"text": n}),
            rest => json!(["a", "b", "c"][rest as usize % 3]),
        };
        [answer(0), answer(1), answer(2)]
    }

    #[test]
    fn a_window_has_the_coefficients_of_what_is_inside() {
        let length = 10;
        let mut window = Window::default();
        for n in 1..200_u32 {
            window.add_votes(&votes(&item(n)), length);
            let first = n.saturating_sub(9).max(1);
            let inside: Vec<[Value; 3]> = (first..=n).map(item).collect();
            let code = |value: &Value| {
                let all = inside.iter().flatten();
                u32::try_from(all.clone().position(|other| other == value).unwrap()).unwrap()
            };
            let row = |k: usize| inside.iter().map(|item| code(&item[k])).collect::<Vec<_>>();
            let rows = [row(0), row(1), row(2)];
            let ratings = rows
                .clone()
                .map(|row| row.into_iter().map(Some).collect::<Vec<_>>());
            let found = summary(&window, Metric::CohenKappa);
            assert_eq!(found.items, inside.len());
            let same = |found: Option<f64>, wanted: Result<f64, ConsensusError>| match wanted {
                Ok(wanted) => assert!((found.unwrap() - wanted).abs() < 1e-12, "{n}"),
                Err(_) => assert_eq!(found, None, "{n}"),
            };
            same(found.alpha, krippendorffs_alpha_nominal(&ratings));
            same(found.kappa, cohens_kappa(&rows[0], &rows[1]));
            same(found.agreement, percent_agreement(&ratings));
            assert_eq!(found.alpha.is_none(), found.alpha_undefined.is_some());

            let text = serde_json::to_value(&window).unwrap();
            let read: Window = serde_json::from_value(text).unwrap();
            assert_eq!(read.restored(), window, "{n}");
        }
        assert!(window.answers.len() <= 3 * length);
    }

    #[test]
    fn regions_have_a_mean_and_no_coefficient() {
        let mut window = Window::default();
        for score in [0.2, 0.5, 1.0] {
            window.add_score(score, 2);
        }
        let found = summary(&window, Metric::SpanIou);
        assert_eq!((found.items, found.agreement), (2, Some(0.75)));
        assert_eq!((found.alpha, found.kappa), (None, None));
        assert!(found.kappa_undefined.is_some());
    }

    #[test]
    fn one_answer_compares_nothing() {
        let mut window = Window::default();
        window.add_votes(&votes(&[json!("a")]), 10);
        window.add_votes(&[], 10);
        let found = summary(&window, Metric::PercentAgreement);
        assert_eq!((found.items, found.agreement), (0, None));
    }

    #[test]
    fn equal_answers_are_one_however_they_are_written() {
        let same = [
            (json!(1), json!(1.0)),
            (json!({"a": [0], "b": 2}), json!({"b": 2.0, "a": [-0.0]})),
        ];
        for (a, b) in same {
            assert_eq!(identity(&a), identity(&b));
        }
        assert_ne!(identity(&json!("1")), identity(&json!(1)));
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
