//! What the user says about a file: which of its names mean what.

use std::collections::BTreeMap;

use chrono::FixedOffset;

/// Which names of a file mean what, and what is wanted of it.
#[derive(Clone, Debug, Default)]
pub struct Mapping {
    /// Name of the task's id.
    pub id_field: Option<String>,
    /// Begins the key of every task.
    pub key_prefix: String,
    /// Name of the person's id.
    pub user_field: Option<String>,
    /// The person, where the file names none.
    pub user: Option<String>,
    /// Begins the key of every person.
    pub user_prefix: String,
    /// Names of answers.
    pub answer_fields: Vec<String>,
    /// What goes where.
    pub maps: Vec<(MapTarget, String)>,
    /// Names of values that become labels of the task.
    pub label_fields: Vec<String>,
    /// Labels of every task.
    pub labels: BTreeMap<String, String>,
    /// Name of the known answer.
    pub expected_field: Option<String>,
    /// Name of the time of a judgement.
    pub time_field: Option<String>,
    /// Zone of times that name none.
    pub utc_offset: Option<FixedOffset>,
    /// Roles of every person.
    pub roles: Vec<String>,
    /// What separates the members of a list inside one cell.
    pub list_separator: Option<String>,
    /// What separates the cells of a line; found out when left out.
    pub delimiter: Option<u8>,
    /// Judgements become the known answers.
    pub as_gold: bool,
    /// Percent of Label Studio become pixels.
    pub pixels: bool,
    /// Which commands are wanted.
    pub only: ImportOnly,
}

/// Which commands are wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ImportOnly {
    /// Tasks and judgements.
    #[default]
    All,
    /// Tasks without the judgements in the file.
    Tasks,
    /// Judgements of tasks that have been started before.
    Answers,
}

/// Where a value of the file goes; paths have dots between keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MapTarget {
    /// Into the item.
    Input(String),
    /// Into `annotation.data`.
    Answer(String),
    /// Into the known answer.
    Expected(String),
    /// A label of the task.
    Label(String),
}

/// `TARGET=NAME`, such as `input.text=body` or `answer.label=sentiment`; a target without one of the
/// prefixes is a key of the input.
pub fn parse_map(text: &str) -> Result<(MapTarget, String), String> {
    let how = "write KEY=NAME, as text=body for the input, answer.label=sentiment, expected.label=gold \
               or label.project=project";
    let (target, name) = text.split_once('=').ok_or(how)?;
    if target.split('.').any(|key| key.trim().is_empty()) || name.is_empty() {
        return Err(how.to_owned());
    }
    let of = |prefix: &str| target.strip_prefix(prefix).map(str::to_owned);
    let target = if let Some(path) = of("answer.") {
        MapTarget::Answer(path)
    } else if let Some(path) = of("expected.") {
        MapTarget::Expected(path)
    } else if let Some(key) = of("label.") {
        MapTarget::Label(key)
    } else {
        MapTarget::Input(of("input.").unwrap_or_else(|| target.to_owned()))
    };
    Ok((target, name.to_owned()))
}

/// `+02:00`, `-05:30` or `Z`.
pub fn parse_offset(text: &str) -> Result<FixedOffset, String> {
    if matches!(text, "Z" | "UTC") {
        return FixedOffset::east_opt(0).ok_or_else(String::new);
    }
    text.parse()
        .map_err(|_| "write the offset from UTC as +02:00, -05:30 or Z".to_owned())
}

impl Mapping {
    /// The targets of one kind, with the names that go there.
    pub(super) fn mapped<'m>(
        &'m self,
        target: impl Fn(&'m MapTarget) -> Option<&'m str>,
    ) -> Vec<(&'m str, &'m str)> {
        let maps = self.maps.iter();
        maps.filter_map(|(to, name)| Some((target(to)?, name.as_str())))
            .collect()
    }

    pub(super) fn input(&self) -> Vec<(&str, &str)> {
        self.mapped(|target| match target {
            MapTarget::Input(path) => Some(path),
            MapTarget::Answer(_) | MapTarget::Expected(_) | MapTarget::Label(_) => None,
        })
    }

    pub(super) fn answers(&self) -> Vec<(&str, &str)> {
        self.mapped(|target| match target {
            MapTarget::Answer(path) => Some(path),
            MapTarget::Input(_) | MapTarget::Expected(_) | MapTarget::Label(_) => None,
        })
    }

    pub(super) fn known_answers(&self) -> Vec<(&str, &str)> {
        self.mapped(|target| match target {
            MapTarget::Expected(path) => Some(path),
            MapTarget::Input(_) | MapTarget::Answer(_) | MapTarget::Label(_) => None,
        })
    }

    pub(super) fn labelled(&self) -> Vec<(&str, &str)> {
        let mut labels = self.mapped(|target| match target {
            MapTarget::Label(key) => Some(key),
            MapTarget::Input(_) | MapTarget::Answer(_) | MapTarget::Expected(_) => None,
        });
        labels.extend(
            self.label_fields
                .iter()
                .map(|name| (name.as_str(), name.as_str())),
        );
        labels
    }

    /// The names in the file that the user calls answers.
    pub(super) fn answer_names(&self) -> Vec<&str> {
        let mapped = self.answers().into_iter().map(|(_, name)| name);
        mapped
            .chain(self.answer_fields.iter().map(String::as_str))
            .collect()
    }

    /// Whether the user names answers.
    pub(super) fn names_answers(&self) -> bool {
        !self.answer_fields.is_empty() || !self.answers().is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_told_by_their_prefix() {
        let parsed = |text: &str| parse_map(text).unwrap();
        assert_eq!(
            parsed("text=body"),
            (MapTarget::Input("text".into()), "body".into())
        );
        assert_eq!(
            parsed("input.a.b=c.d"),
            (MapTarget::Input("a.b".into()), "c.d".into())
        );
        assert_eq!(
            parsed("answer.label=a=b"),
            (MapTarget::Answer("label".into()), "a=b".into())
        );
        assert_eq!(
            parsed("label.p=q"),
            (MapTarget::Label("p".into()), "q".into())
        );
        assert_eq!(
            parsed("label=q"),
            (MapTarget::Input("label".into()), "q".into())
        );
        for wrong in ["text", "=x", "a=", "answer.=x", "a..b=c"] {
            assert!(parse_map(wrong).is_err(), "{wrong}");
        }
        assert_eq!(parse_offset("+05:30").unwrap().local_minus_utc(), 19_800);
        assert_eq!(parse_offset("Z").unwrap().local_minus_utc(), 0);
        assert!(parse_offset("CET").is_err());
    }
}
