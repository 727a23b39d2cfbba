//! "Did you mean": the known name most similar to an unknown one.

use std::cell::Cell;

/// Budget for one file, in pairs of characters compared. A hostile file with thousands of unknown
/// names gets no suggestions for the last ones, instead of costing minutes.
const WORK_MAX: usize = 4_000_000;
/// Longer names get no suggestions: they cannot be typos of a known name.
const NAME_MAX: usize = 96;

/// Finds similar names within a budget for the whole file.
#[derive(Default)]
pub(crate) struct Suggester {
    spent: Cell<usize>,
}

impl Suggester {
    /// The candidate of which `name` is probably a misspelling.
    pub(crate) fn nearest<'a>(
        &self,
        name: &str,
        candidates: impl IntoIterator<Item = &'a str>,
    ) -> Option<&'a str> {
        if name.len() > NAME_MAX {
            return None;
        }
        let plain = plain(name);
        let mut best: Option<(usize, &str)> = None;
        for candidate in candidates {
            if self.spent.get() >= WORK_MAX {
                break;
            }
            self.spent
                .set(self.spent.get() + name.len() * candidate.len());
            let distance = strsim::osa_distance(&plain, &self::plain(candidate));
            let near = distance <= candidate.len().min(name.len()).div_ceil(3).min(4);
            if near && best.is_none_or(|(least, _)| distance < least) {
                best = Some((distance, candidate));
            }
        }
        best.map(|(_, candidate)| candidate)
    }
}

impl Suggester {
    /// The word of a closed set that `name` probably means: a word of which it is a misspelling,
    /// otherwise the first word that contains `name` (`kappa` in `cohen_kappa`) or that `name`
    /// contains.
    ///
    /// For values only: a wrong guess about a key would change which other keys are reported
    /// missing.
    pub(super) fn meant<'a>(&self, name: &str, words: &[&'a str]) -> Option<&'a str> {
        if let Some(near) = self.nearest(name, words.iter().copied()) {
            return Some(near);
        }
        if name.len() > NAME_MAX {
            return None;
        }
        let name = parts(name);
        let holds = |whole: &[String], part: &[String]| {
            !part.is_empty() && whole.windows(part.len()).any(|run| run == part)
        };
        let within = words.iter().find(|word| holds(&parts(word), &name));
        let around = || words.iter().find(|word| holds(&name, &parts(word)));
        within.or_else(around).copied()
    }
}

/// The words of a name.
fn parts(name: &str) -> Vec<String> {
    let words = name.split(['-', '_', ' ']).filter(|word| !word.is_empty());
    words.map(str::to_lowercase).collect()
}

/// Drops case and separators, the most common slips, from the comparison.
fn plain(name: &str) -> String {
    name.chars()
        .filter(|c| !matches!(c, '-' | '_' | ' '))
        .flat_map(char::to_lowercase)
        .collect()
}

/// The sentence of a suggestion.
pub(super) fn did_you_mean(name: &str) -> String {
    format!("did you mean `{name}`?")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_find_what_was_meant_and_strangers_find_nothing() {
        let known = [
            "completion",
            "consensus",
            "condition",
            "config",
            "id",
            "type",
            "to",
            "from",
        ];
        let nearest = |name: &str| Suggester::default().nearest(name, known);
        assert_eq!(nearest("complition"), Some("completion"));
        assert_eq!(nearest("Consensus"), Some("consensus"));
        assert_eq!(nearest("typ"), Some("type"));
        assert_eq!(nearest("form"), Some("from"));
        assert_eq!(nearest("banana"), None);
        assert_eq!(nearest(&"x".repeat(1_000_000)), None);
        assert_eq!(
            Suggester::default().nearest("autoprocess", ["auto_process"]),
            Some("auto_process")
        );
    }

    #[test]
    fn a_part_of_a_word_stands_for_the_first_word_that_has_it() {
        let metrics = [
            "percent_agreement",
            "cohen_kappa",
            "fleiss_kappa",
            "gwet_ac1",
        ];
        let meant = |name: &str| Suggester::default().meant(name, &metrics);
        assert_eq!(meant("kappa"), Some("cohen_kappa"));
        assert_eq!(meant("AC1"), Some("gwet_ac1"));
        assert_eq!(meant("flies_kappa"), Some("fleiss_kappa"));
        assert_eq!(meant("Cohen kappa unweighted"), Some("cohen_kappa"));
        // Only whole words count, not endings.
        assert_eq!(meant("appa"), None);
        assert_eq!(meant(""), None);
        assert_eq!(meant("_"), None);
    }
}
