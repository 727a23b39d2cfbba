//! Agreement of free texts by the words they share.

use std::collections::BTreeMap;

use super::ConsensusError;

/// F1 of two bags of tokens: how much of each text is in the other.
///
/// With *s* the tokens in common, each as often as it occurs on both sides,
///
/// ```text
/// F1 = 2 s / (|a| + |b|)
/// ```
///
/// This is the harmonic mean of precision *s* / |a| and recall *s* / |b|. 1 for the same tokens in
/// any order, 0 for no token in common.
///
/// # Errors
///
/// [`Undefined`](ConsensusError::Undefined) when both sides have no token.
///
/// # Citation
///
/// Rajpurkar, P., Zhang, J., Lopyrev, K. and Liang, P. (2016). SQuAD: 100,000+ questions for
/// machine comprehension of text. *Proceedings of EMNLP 2016*, 2383-2392.
///
/// # Examples
///
/// Three tokens in common, three against five (by hand: 6 / 8).
///
/// ```
/// use glyph_workflow_engine::consensus::token_f1;
///
/// let f1 = token_f1(&["the", "red", "car"], &["the", "old", "red", "sports", "car"])?;
/// assert_eq!(f1, 0.75);
/// # Ok::<(), glyph_workflow_engine::consensus::ConsensusError>(())
/// ```
pub fn token_f1<T: Ord>(a: &[T], b: &[T]) -> Result<f64, ConsensusError> {
    if a.is_empty() && b.is_empty() {
        return Err(ConsensusError::BOTH_EMPTY);
    }
    let mut unmatched: BTreeMap<&T, usize> = BTreeMap::new();
    for token in a {
        *unmatched.entry(token).or_default() += 1;
    }
    let mut common = 0_usize;
    for token in b {
        if let Some(count) = unmatched.get_mut(token).filter(|count| **count > 0) {
            *count -= 1;
            common += 1;
        }
    }
    Ok(2.0 * common as f64 / (a.len() as f64 + b.len() as f64))
}

/// [`token_f1`] of two texts, split by [`tokens`].
///
/// # Errors
///
/// [`Undefined`](ConsensusError::Undefined) when both texts are empty or white space.
///
/// # Examples
///
/// ```
/// use glyph_workflow_engine::consensus::text_token_f1;
///
/// assert_eq!(text_token_f1("The red car.", "a red car")?, 2.0 / 3.0);
/// # Ok::<(), glyph_workflow_engine::consensus::ConsensusError>(())
/// ```
pub fn text_token_f1(a: &str, b: &str) -> Result<f64, ConsensusError> {
    token_f1(&tokens(a), &tokens(b))
}

/// The tokens of a text: separated by white space, in lower case, without punctuation at either
/// end.
///
/// Punctuation is whatever is neither letter nor digit, signs and symbols included. A token of
/// nothing else stays as it is, so that such a text still has tokens. Articles stay, as dropping
/// them would tie the measure to English. Scripts without spaces yield one token per run: give
/// [`token_f1`] tokens of a proper segmentation, or the characters.
///
/// # Examples
///
/// ```
/// use glyph_workflow_engine::consensus::tokens;
///
/// assert_eq!(tokens("Don't STOP, (now) ..."), ["don't", "stop", "now", "..."]);
/// ```
pub fn tokens(text: &str) -> Vec<String> {
    text.split_whitespace()
        .map(|word| {
            let bare = word.trim_matches(|c: char| !c.is_alphanumeric());
            if bare.is_empty() { word } else { bare }.to_lowercase()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::consensus::samples;

    #[test]
    fn repeated_tokens_count_as_often_as_both_have_them() {
        assert_eq!(token_f1(&[1, 1, 1], &[1]), Ok(0.5));
        assert_eq!(token_f1::<u8>(&[], &[]), Err(ConsensusError::BOTH_EMPTY));
        assert_eq!(token_f1(&[1], &[]), Ok(0.0));
        assert_eq!(text_token_f1(" \n", ""), Err(ConsensusError::BOTH_EMPTY));
        assert_eq!(text_token_f1("ÉTÉ!", "été"), Ok(1.0));
    }

    proptest! {
        /// Tokens crossed out one by one.
        #[test]
        fn equals_crossing_out(
            a in prop::collection::vec(0_u8..5, 0..12),
            b in prop::collection::vec(0_u8..5, 0..12),
        ) {
            let mut left = b.clone();
            let common = a
                .iter()
                .filter(|token| {
                    left.iter().position(|other| other == *token).map(|k| left.remove(k)).is_some()
                })
                .count();
            let slow = (a.len() + b.len() > 0)
                .then(|| 2.0 * common as f64 / (a.len() + b.len()) as f64);
            samples::same(token_f1(&a, &b), slow)?;
        }
    }
}
