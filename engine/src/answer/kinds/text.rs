//! Free text.

use serde_json::{Value, json};

use super::{Found, How, Kind};
use crate::{
    answer::{
        ballot::{Ballot, unique_best},
        error::{AnswerError, Problem, kind_of},
        form::Form,
        reader::Reader,
        value::{Answer, Parts},
        work::{TooMuch, Work},
    },
    config::{AgreementMethod, AnswerKind, Metric},
    consensus::{token_f1, tokens},
};

/// A text, compared in NFC.
///
/// # Similarity
///
/// `edit_similarity`, with the number of code points to insert, delete or replace to make one text of
/// the other:
///
/// ```text
/// 1 - distance / length of the longer
/// ```
///
/// Levenshtein, V. I. (1966). Binary codes capable of correcting deletions, insertions, and reversals.
/// *Soviet Physics Doklady* 10(8), 707-710.
///
/// `token_f1`: see [`token_f1`](crate::consensus::token_f1), over [`tokens`]. `rouge_l`: with *l* the
/// length of the longest common subsequence of the words,
///
/// ```text
/// F = 2 l / (|a| + |b|)
/// ```
///
/// Lin, C.-Y. (2004). ROUGE: A package for automatic evaluation of summaries. *Text Summarization
/// Branches Out*, 74-81 (ROUGE-L with equal weights of recall and precision).
///
/// Equal texts are alike (1), also empty ones, and so are two texts without a word by the measures over
/// words.
///
/// # Uniting
///
/// The medoid: the text that is most like all the others together. Where two are, it is a tie; so it is
/// for two different texts.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Text;

fn text(answer: &Answer) -> &str {
    match &answer.form {
        Form::Text(text) => text,
        _ => "",
    }
}

/// Length of the longest common subsequence, row by row.
fn longest_common<T: PartialEq>(a: &[T], b: &[T]) -> usize {
    let mut row = vec![0_usize; b.len() + 1];
    for x in a {
        let mut diagonal = 0;
        for (j, y) in b.iter().enumerate() {
            let above = row[j + 1];
            row[j + 1] = if x == y {
                diagonal + 1
            } else {
                above.max(row[j])
            };
            diagonal = above;
        }
    }
    row[b.len()]
}

/// Two sequences without what they have in common at both ends: it changes neither the edit distance
/// nor, but for its length, the longest common subsequence.
fn without_common_ends<'t, T: PartialEq>(a: &'t [T], b: &'t [T]) -> (&'t [T], &'t [T], usize) {
    let start = a.iter().zip(b).take_while(|(x, y)| x == y).count();
    let (a, b) = (&a[start..], &b[start..]);
    let end = a
        .iter()
        .rev()
        .zip(b.iter().rev())
        .take_while(|(x, y)| x == y)
        .count();
    (&a[..a.len() - end], &b[..b.len() - end], start + end)
}

fn edit_similarity(a: &str, b: &str, work: &mut Work) -> Result<f64, TooMuch> {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let longer = a.len().max(b.len());
    if longer == 0 {
        return Ok(1.0);
    }
    let (a, b, _) = without_common_ends(&a, &b);
    work.spend((a.len() as u64).saturating_mul(b.len() as u64))?;
    let distance = if a.is_empty() || b.is_empty() {
        a.len().max(b.len())
    } else {
        strsim::generic_levenshtein(&Chars(a), &Chars(b))
    };
    Ok(1.0 - distance as f64 / longer as f64)
}

/// What `strsim` iterates over.
struct Chars<'t>(&'t [char]);

impl<'t> IntoIterator for &Chars<'t> {
    type Item = char;
    type IntoIter = std::iter::Copied<std::slice::Iter<'t, char>>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter().copied()
    }
}

fn rouge_l(a: &[String], b: &[String], work: &mut Work) -> Result<f64, TooMuch> {
    let total = a.len() + b.len();
    if total == 0 {
        return Ok(1.0);
    }
    let (a, b, common) = without_common_ends(a, b);
    // Comparing two words costs more than comparing two code points.
    work.spend(4 * (a.len() as u64).saturating_mul(b.len() as u64))?;
    Ok(2.0 * (common + longest_common(a, b)) as f64 / total as f64)
}

impl Kind for Text {
    fn name(&self) -> AnswerKind {
        AnswerKind::Text
    }

    fn metrics(&self) -> &'static [Metric] {
        &[Metric::EditSimilarity, Metric::TokenF1, Metric::RougeL]
    }

    fn methods(&self) -> &'static [AgreementMethod] {
        &[AgreementMethod::Medoid, AgreementMethod::MostVotes]
    }

    fn read(&self, value: &Value, reader: &mut Reader<'_>) -> Result<Answer, AnswerError> {
        match value {
            Value::String(_) => Ok(Answer::new(Form::of(value), value, Parts::None)),
            Value::Null => Err(reader.wrong(Problem::Missing)),
            _ => Err(reader.wrong(Problem::Unfit {
                found: kind_of(value).to_owned(),
                expected: "text",
                hint: value
                    .is_array()
                    .then(|| "for a list of words or labels set `answer.kind: set`".to_owned()),
            })),
        }
    }

    fn similarity(
        &self,
        metric: Metric,
        a: &Answer,
        b: &Answer,
        work: &mut Work,
    ) -> Result<f64, TooMuch> {
        if a == b {
            return Ok(1.0);
        }
        let (a, b) = (text(a), text(b));
        // Splitting into code points or words, and hashing or sorting words.
        work.spend(4 * (a.len() as u64 + b.len() as u64) + 1)?;
        match metric {
            Metric::TokenF1 => Ok(token_f1(&tokens(a), &tokens(b)).unwrap_or(1.0)),
            Metric::RougeL => rouge_l(&tokens(a), &tokens(b), work),
            _ => edit_similarity(a, b, work),
        }
    }

    fn unite(&self, ballot: &Ballot<'_>, how: How, work: &mut Work) -> Result<Found, TooMuch> {
        let candidates = &ballot.candidates;
        let strengths = ballot.strengths(how.weighted);
        let mut likeness = strengths.clone();
        for (i, one) in candidates.iter().enumerate() {
            for (j, other) in candidates.iter().enumerate().skip(i + 1) {
                let alike = self.similarity(how.metric, one.answer(), other.answer(), work)?;
                likeness[i] += strengths[j] * alike;
                likeness[j] += strengths[i] * alike;
            }
        }
        let scored: Vec<_> = candidates.iter().zip(likeness).collect();
        Ok(match unique_best(&scored, |(_, likeness)| *likeness) {
            Some((medoid, _)) => Found::value(medoid.value()),
            None if candidates.is_empty() => Found::default(),
            None => Found::tie(),
        })
    }

    fn schema(&self) -> Value {
        json!({"type": "string"})
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Straight from the definition.
    fn slow_distance(a: &[char], b: &[char]) -> usize {
        match (a.split_last(), b.split_last()) {
            (None, _) => b.len(),
            (_, None) => a.len(),
            (Some((x, a_rest)), Some((y, b_rest))) => {
                let replaced = slow_distance(a_rest, b_rest) + usize::from(x != y);
                replaced
                    .min(slow_distance(a_rest, b) + 1)
                    .min(slow_distance(a, b_rest) + 1)
            }
        }
    }

    fn slow_common(a: &[String], b: &[String]) -> usize {
        match (a.split_last(), b.split_last()) {
            (Some((x, a_rest)), Some((y, b_rest))) if x == y => 1 + slow_common(a_rest, b_rest),
            (Some((_, a_rest)), Some((_, b_rest))) => {
                slow_common(a_rest, b).max(slow_common(a, b_rest))
            }
            _ => 0,
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn the_edit_distance_is_that_of_the_definition(a in "[abé]{0,6}", b in "[abé]{0,6}") {
            let (x, y): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
            let longer = x.len().max(y.len());
            let slow = if longer == 0 {
                1.0
            } else {
                1.0 - slow_distance(&x, &y) as f64 / longer as f64
            };
            let fast = edit_similarity(&a, &b, &mut Work::of_decision()).unwrap();
            prop_assert!((fast - slow).abs() < 1e-12, "{fast} {slow}");
        }

        #[test]
        fn rouge_is_that_of_the_definition(
            a in prop::collection::vec("[ab]", 0..8),
            b in prop::collection::vec("[ab]", 0..8),
        ) {
            let total = a.len() + b.len();
            let slow = if total == 0 { 1.0 } else { 2.0 * slow_common(&a, &b) as f64 / total as f64 };
            let fast = rouge_l(&a, &b, &mut Work::of_decision()).unwrap();
            prop_assert!((fast - slow).abs() < 1e-12);
        }
    }
}
