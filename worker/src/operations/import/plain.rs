//! Rows whose names the user explains: CSV, JSON Lines, JSON arrays.

use serde_json::{Map, Value};

use super::{
    mapping::Mapping,
    question::insert,
    record::{Judgement, Part, Parts, Record, Refusal, absent, key_text, lookup, required},
    time::rfc3339,
};

/// Which names of a row mean what.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Columns {
    pub(super) id: String,
    pub(super) user: Option<String>,
    /// Names in the answer, and in the row.
    pub(super) answers: Vec<(String, String)>,
    /// Names in the known answer, and in the row.
    pub(super) expected: Vec<(String, String)>,
    pub(super) time: Option<String>,
    pub(super) input: InputColumns,
    /// Whether the names of answers are paths in `annotation.data`.
    pub(super) answers_mapped: bool,
    pub(super) expected_mapped: bool,
    /// Whether values are cells without a type.
    pub(super) cells: bool,
}

/// What the item is made of.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) enum InputColumns {
    /// Whatever means nothing else.
    #[default]
    Rest,
    /// Whatever means nothing else and does not begin so.
    RestWithout(&'static str),
    /// Names that begin so, without that beginning.
    Prefixed(&'static str),
    /// Paths in the input, and names in the row.
    Named(Vec<(String, String)>),
}

/// The last key of a path: what an answer is called.
fn last_key(path: &str, is_cell: bool) -> String {
    let last = if is_cell {
        path
    } else {
        path.rsplit('.').next().unwrap_or(path)
    };
    last.to_owned()
}

fn owned(pairs: Vec<(&str, &str)>) -> Vec<(String, String)> {
    let pairs = pairs.into_iter();
    pairs
        .map(|(to, from)| (to.to_owned(), from.to_owned()))
        .collect()
}

impl Columns {
    /// The columns that the user names. `cells` says that values have no type.
    pub(super) fn named(mapping: &Mapping, cells: bool) -> Result<Self, String> {
        let Some(id) = mapping.id_field.clone() else {
            return Err(
                "--id-field: name the column or key that holds the id of the item".to_owned(),
            );
        };
        let mut columns = Self {
            id,
            cells,
            ..Self::default()
        };
        columns.refine(mapping);
        Ok(columns)
    }

    /// What the user names goes before what is there.
    pub(super) fn refine(&mut self, mapping: &Mapping) {
        let set = |to: &mut Option<String>, from: &Option<String>| {
            if from.is_some() {
                to.clone_from(from);
            }
        };
        set(&mut self.user, &mapping.user_field);
        set(&mut self.time, &mapping.time_field);
        let mapped = owned(mapping.answers());
        if !mapped.is_empty() {
            self.answers_mapped = true;
            self.answers = mapped;
        } else if !mapping.answer_fields.is_empty() {
            let named = |path: &String| (last_key(path, self.cells), path.clone());
            self.answers = mapping.answer_fields.iter().map(named).collect();
        }
        let known = owned(mapping.known_answers());
        if !known.is_empty() {
            self.expected_mapped = true;
            self.expected = known;
        } else if let Some(path) = &mapping.expected_field {
            // It is called as the answer is.
            let name = match self.answers.as_slice() {
                [(name, _)] => name.clone(),
                _ => last_key(path, self.cells),
            };
            self.expected_mapped = self.answers_mapped && self.answers.len() == 1;
            self.expected = vec![(name, path.clone())];
        }
        let input = owned(mapping.input());
        if !input.is_empty() {
            self.input = InputColumns::Named(input);
        }
    }

    /// Every name that the row must have, with the option that names it.
    pub(super) fn names(&self) -> Vec<&str> {
        let mut names = vec![self.id.as_str()];
        names.extend(self.user.as_deref());
        names.extend(self.time.as_deref());
        names.extend(self.answers.iter().map(|(_, name)| name.as_str()));
        names.extend(self.expected.iter().map(|(_, name)| name.as_str()));
        if let InputColumns::Named(input) = &self.input {
            names.extend(input.iter().map(|(_, name)| name.as_str()));
        }
        names
    }

    /// Whether rows hold judgements.
    pub(super) fn has_answers(&self) -> bool {
        !self.answers.is_empty()
    }

    fn part(&self, value: &Value) -> Part {
        match value {
            Value::String(text) if self.cells => Part::Cell(text.clone()),
            other => Part::Json(other.clone()),
        }
    }

    fn parts(&self, row: &Map<String, Value>, names: &[(String, String)], mapped: bool) -> Parts {
        let mut parts = Parts {
            mapped,
            ..Parts::default()
        };
        for (to, from) in names {
            if let Some(value) = lookup(row, from).filter(|value| !value.is_null()) {
                parts.add(to.clone(), self.part(value));
            }
        }
        parts
    }

    /// What means something else than a part of the item.
    fn is_taken(&self, name: &str, mapping: &Mapping) -> bool {
        let mut taken = self.user.iter().chain(&self.time).map(String::as_str);
        let answers = self.answers.iter().chain(&self.expected);
        let mut answers = answers.map(|(_, from)| from.as_str());
        let labels = mapping.labelled();
        let mut labels = labels.iter().map(|(_, from)| *from);
        taken.any(|t| t == name) || answers.any(|a| a == name) || labels.any(|l| l == name)
    }

    fn input(
        &self,
        row: &Map<String, Value>,
        mapping: &Mapping,
    ) -> Result<Map<String, Value>, Refusal> {
        let rest = |keep: &dyn Fn(&str) -> bool| {
            let kept = row
                .iter()
                .filter(|(name, _)| keep(name) && !self.is_taken(name, mapping));
            kept.map(|(name, value)| (name.clone(), value.clone()))
                .collect()
        };
        match &self.input {
            InputColumns::Rest => Ok(rest(&|_| true)),
            InputColumns::RestWithout(prefix) => Ok(rest(&|name| !name.starts_with(prefix))),
            InputColumns::Prefixed(prefix) => {
                let input = row.iter().filter_map(|(name, value)| {
                    Some((name.strip_prefix(prefix)?.to_owned(), value.clone()))
                });
                Ok(input.collect())
            }
            InputColumns::Named(names) => {
                let names: Vec<(&str, &str)> = names
                    .iter()
                    .map(|(to, from)| (to.as_str(), from.as_str()))
                    .collect();
                mapped_input(row, &names)
            }
        }
    }

    /// What a row says.
    pub(super) fn record(
        &self,
        row: &Map<String, Value>,
        mapping: &Mapping,
    ) -> Result<Record, Refusal> {
        let mut record = Record {
            key: key(row, &self.id)?,
            input: self.input(row, mapping)?,
            ..Record::default()
        };
        let expected = self.parts(row, &self.expected, self.expected_mapped);
        record.expected = (!expected.by_name.is_empty()).then_some(expected);
        if !self.has_answers() {
            return Ok(record);
        }
        let parts = self.parts(row, &self.answers, self.answers_mapped);
        if parts.by_name.is_empty() {
            if !self.cells {
                // A table has checked its header.
                let (_, name) = &self.answers[0];
                required(row, name).or_else(|refusal| match row.get(name.as_str()) {
                    Some(null) => Ok(null),
                    None => Err(refusal),
                })?;
            }
            record.skipped.push("no answer");
            return Ok(record);
        }
        let submitted_at = match self.time.as_deref().and_then(|time| lookup(row, time)) {
            Some(time) => rfc3339(time, mapping.utc_offset)?,
            None => None,
        };
        let user = self.user.as_deref().map(|name| key(row, name)).transpose();
        record.judgements.push(Judgement {
            user: if mapping.as_gold { None } else { user? },
            parts,
            submitted_at,
            place: None,
        });
        Ok(record)
    }
}

/// The id under a name.
pub(super) fn key(row: &Map<String, Value>, name: &str) -> Result<String, Refusal> {
    let value = required(row, name)?;
    key_text(value).ok_or_else(|| {
        let refusal = Refusal::new(format!(
            "`{name}` is {value}, and an id is a text or a whole number"
        ));
        refusal.hint("write it as a text")
    })
}

/// The input of named values.
pub(super) fn mapped_input(
    row: &Map<String, Value>,
    names: &[(&str, &str)],
) -> Result<Map<String, Value>, Refusal> {
    let mut input = Value::Object(Map::new());
    for (to, from) in names {
        if let Some(value) = lookup(row, from).filter(|value| !value.is_null()) {
            insert(&mut input, to, value.clone())?;
        }
    }
    match input {
        Value::Object(input) if !input.is_empty() => Ok(input),
        _ => {
            let name = names.first().map_or("input", |(_, from)| *from);
            Err(absent(name, row.keys().map(String::as_str)))
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::operations::import::mapping::parse_map;

    fn mapping(maps: &[&str]) -> Mapping {
        Mapping {
            id_field: Some("id".to_owned()),
            maps: maps.iter().map(|map| parse_map(map).unwrap()).collect(),
            ..Mapping::default()
        }
    }

    fn record(mapping: &Mapping, cells: bool, row: &Value) -> Result<Record, Refusal> {
        let columns = Columns::named(mapping, cells).unwrap();
        columns.record(row.as_object().unwrap(), mapping)
    }

    #[test]
    fn what_is_not_named_is_the_item() {
        let mapping = Mapping {
            user_field: Some("who".to_owned()),
            answer_fields: vec!["meta.label".to_owned()],
            expected_field: Some("gold".to_owned()),
            label_fields: vec!["split".to_owned()],
            ..mapping(&[])
        };
        let row = json!({"id": 7, "who": "ann", "meta": {"label": "a"}, "gold": "b", "split": "dev",
            "text": "t"});
        let read = record(&mapping, false, &row).unwrap();
        assert_eq!(read.key, "7");
        let input = json!({"id": 7, "text": "t", "meta": {"label": "a"}});
        assert_eq!(Value::Object(read.input), input);
        assert_eq!(read.judgements[0].user.as_deref(), Some("ann"));
        let label = |value: &str| Some(Part::Json(json!(value)));
        assert_eq!(
            read.judgements[0].parts.by_name.get("label").cloned(),
            label("a")
        );
        assert_eq!(
            read.expected.unwrap().by_name.get("label").cloned(),
            label("b")
        );
    }

    #[test]
    fn what_is_mapped_goes_where_it_is_mapped() {
        let mapping = Mapping {
            user_field: Some("who".to_owned()),
            ..mapping(&[
                "text=body",
                "doc.lang=lang",
                "answer.label=a",
                "answer.why=w",
            ])
        };
        let row = json!({"id": "x", "who": "3", "body": "t", "lang": "en", "a": "1", "other": "o"});
        let read = record(&mapping, true, &row).unwrap();
        let input = json!({"text": "t", "doc": {"lang": "en"}});
        assert_eq!(Value::Object(read.input), input);
        let parts = &read.judgements[0].parts;
        assert!(parts.mapped);
        assert_eq!(
            parts.by_name.get("label"),
            Some(&Part::Cell("1".to_owned()))
        );
        let empty = json!({"id": "x", "who": "3", "body": "t"});
        assert_eq!(
            record(&mapping, true, &empty).unwrap().skipped,
            ["no answer"]
        );
    }

    #[test]
    fn rows_without_what_they_need_are_refused() {
        let labels = Mapping {
            user_field: Some("who".to_owned()),
            answer_fields: vec!["label".to_owned()],
            ..mapping(&[])
        };
        let refused = |row: Value| record(&labels, false, &row).unwrap_err();
        let hint = |row: Value| refused(row).hint.unwrap();
        assert_eq!(
            hint(json!({"ID": 1, "label": "a", "who": 1})),
            "did you mean `ID`?"
        );
        assert_eq!(
            hint(json!({"id": 1, "lable": "a", "who": 1})),
            "did you mean `lable`?"
        );
        assert_eq!(
            hint(json!({"id": 1, "label": "a", "user": 1})),
            "there are: `id`, `label`, `user`"
        );
        assert!(
            refused(json!({"id": 1.5, "label": "a"}))
                .reason
                .contains("whole number")
        );
        let null = json!({"id": 1, "label": null, "who": 1});
        assert_eq!(
            record(&labels, false, &null).unwrap().skipped,
            ["no answer"]
        );
        assert!(Columns::named(&Mapping::default(), true).is_err());
    }
}
