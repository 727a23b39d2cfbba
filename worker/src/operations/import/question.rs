//! The question that a step asks, and the `annotation.data` that answer it.

use std::collections::BTreeMap;

use glyph_workflow_engine::{
    answer::{AnswerError, Question, value_at},
    config::{AnswerConfig, AnswerField, AnswerKind, StepConfig},
};
use serde_json::{Map, Value};

use super::{
    fit::Shape,
    record::{Part, Parts, Refusal},
};

/// What the step asks that judgements are imported into.
#[derive(Clone, Debug)]
pub struct StepQuestion {
    /// None where the step's keys contradict each other; nothing is checked then.
    question: Option<Question>,
    /// Path of the answer in `annotation.data`; of a record the path of all its fields.
    field: Option<String>,
    shape: Shape,
    /// The fields of a record.
    fields: BTreeMap<String, Shape>,
}

impl StepQuestion {
    /// What a step asks. `separator` is between the members of a list in a cell.
    pub fn of_step(step: &StepConfig, separator: Option<&str>) -> Self {
        // A stored workflow has sound questions.
        Self::new(step.answer.as_ref(), step.question().ok(), separator)
    }

    fn new(
        answer: Option<&AnswerConfig>,
        question: Option<Question>,
        separator: Option<&str>,
    ) -> Self {
        let shape = |question: &Question, tag: Option<&str>, boxes| Shape {
            kind: question.kind(),
            tag: tag.unwrap_or("tag").to_owned(),
            boxes,
            values: question.values().unwrap_or_default().to_vec(),
            separator: separator.map(str::to_owned),
        };
        let Some(question) = question else {
            return Self {
                question: None,
                field: None,
                shape: Shape::unasked(),
                fields: BTreeMap::new(),
            };
        };
        let own = |path: &str| -> Option<&AnswerField> { answer?.fields.as_ref()?.get(path) };
        let fields = question.fields().into_iter().map(|field| {
            let own = own(field.path);
            let boxes = own.and_then(|own| own.format).unwrap_or_default();
            let tag = own.and_then(|own| own.tag.as_deref());
            (field.path.to_owned(), shape(field.question, tag, boxes))
        });
        let whole = shape(
            &question,
            answer.and_then(|a| a.tag.as_deref()),
            answer.and_then(|a| a.format).unwrap_or_default(),
        );
        Self {
            fields: fields.collect(),
            field: question.field().map(str::to_owned),
            // What is no region is written as tools write it.
            shape: match whole.kind {
                AnswerKind::Any => Shape {
                    separator: whole.separator,
                    ..Shape::unasked()
                },
                AnswerKind::Category
                | AnswerKind::Ordinal
                | AnswerKind::Number
                | AnswerKind::Set
                | AnswerKind::Ranking
                | AnswerKind::Text
                | AnswerKind::Spans
                | AnswerKind::Segments
                | AnswerKind::Boxes
                | AnswerKind::Polygons
                | AnswerKind::Record => whole,
            },
            question: Some(question),
        }
    }

    /// The question of a step with nothing but an `answer` block.
    #[cfg(test)]
    pub(super) fn of_answer(answer: Value) -> Self {
        let id = "annotate".parse().expect("a slug");
        let mut step = StepConfig::new(id, glyph_workflow_engine::config::StepType::Annotation);
        step.answer = Some(serde_json::from_value(answer).expect("an answer block"));
        let question = Self::of_step(&step, None);
        assert!(question.question.is_some(), "{:?}", step.question().err());
        question
    }

    /// Whether polygons are asked for anywhere.
    pub(super) fn wants_polygons(&self) -> bool {
        let mut shapes = self.fields.values().chain([&self.shape]);
        shapes.any(|shape| shape.kind == AnswerKind::Polygons)
    }

    /// `annotation.data` that hold the parts of an answer.
    pub(super) fn data(&self, parts: &Parts) -> Result<Value, Refusal> {
        if self.shape.kind == AnswerKind::Record {
            return self.record(parts);
        }
        let unasked = Shape {
            separator: self.shape.separator.clone(),
            ..Shape::unasked()
        };
        let main = self.main(parts)?;
        let fitted = match main {
            Some(name) => match self.shape.fit(&parts.by_name[name])? {
                // An answer that was given and is empty.
                None => self.nothing(parts),
                some => some,
            },
            None => self.nothing(parts),
        };
        let mut data = Value::Null;
        match &self.field {
            Some(field) => {
                if let Some(fitted) = fitted {
                    insert(&mut data, field, fitted)?;
                }
            }
            // The step takes all of data, whatever its keys are.
            None if self.takes_keys(parts) => {
                for (name, part) in &parts.by_name {
                    if let Some(value) = self.shape.fit(part)? {
                        insert(&mut data, name, value)?;
                    }
                }
                return Ok(data);
            }
            None => return Ok(fitted.unwrap_or(Value::Null)),
        }
        for (name, part) in parts
            .by_name
            .iter()
            .filter(|(name, _)| Some(name.as_str()) != main)
        {
            let is_taken = data.get(name.split('.').next().unwrap_or(name)).is_some();
            if let (false, Some(value)) = (is_taken, unasked.fit(part)?) {
                insert(&mut data, name, value)?;
            }
        }
        Ok(data)
    }

    /// What stands for an answer without any part: an empty list, where the step asks what is marked.
    fn nothing(&self, parts: &Parts) -> Option<Value> {
        let empty = parts.absent_is_empty && self.shape.takes_regions();
        empty.then(|| Value::Array(Vec::new()))
    }

    fn takes_keys(&self, parts: &Parts) -> bool {
        match self.shape.kind {
            AnswerKind::Any => true,
            // A level of measurement without a kind asks for several judgements.
            AnswerKind::Category | AnswerKind::Ordinal | AnswerKind::Number | AnswerKind::Text => {
                parts.mapped || parts.by_name.len() > 1
            }
            AnswerKind::Set
            | AnswerKind::Ranking
            | AnswerKind::Spans
            | AnswerKind::Segments
            | AnswerKind::Boxes
            | AnswerKind::Polygons
            | AnswerKind::Record => false,
        }
    }

    /// The name of the part that is the answer.
    fn main<'p>(&self, parts: &'p Parts) -> Result<Option<&'p str>, Refusal> {
        let names = || parts.by_name.keys().map(String::as_str);
        if let Some(main) = &parts.main {
            return Ok(names().find(|name| name == main));
        }
        if let Some(field) = &self.field {
            let last = field.rsplit('.').next();
            let own = names().find(|name| name == field);
            let own = own.or_else(|| names().find(|name| Some(*name) == last));
            if own.is_some() || parts.mapped {
                return Ok(own);
            }
        } else if self.takes_keys(parts) {
            return Ok(None);
        }
        let suiting = parts
            .by_name
            .iter()
            .filter(|(_, part)| self.shape.suits(part));
        let suiting: Vec<&str> = suiting.map(|(name, _)| name.as_str()).collect();
        match suiting.as_slice() {
            [] => Ok(None),
            [one] => Ok(Some(one)),
            several => {
                let several: Vec<String> = several.iter().map(|name| format!("`{name}`")).collect();
                let reason = format!("any of {} may be the answer", several.join(", "));
                Err(Refusal::new(reason).hint("name the one that is: --answer-field NAME"))
            }
        }
    }

    fn record(&self, parts: &Parts) -> Result<Value, Refusal> {
        let mut data = Value::Null;
        let prefix = self.field.as_deref();
        let path_of = |field: &str| match prefix {
            Some(prefix) => format!("{prefix}.{field}"),
            None => field.to_owned(),
        };
        let unasked = Shape {
            separator: self.shape.separator.clone(),
            ..Shape::unasked()
        };
        for (name, part) in &parts.by_name {
            let inner = prefix.and_then(|p| name.strip_prefix(p)?.strip_prefix('.'));
            let field = inner.unwrap_or(name);
            let (path, shape) = match self.fields.get(field) {
                Some(shape) => (path_of(field), shape),
                None => (name.clone(), &unasked),
            };
            if let Some(value) = shape.fit(part)? {
                insert(&mut data, &path, value)?;
            }
        }
        if parts.absent_is_empty {
            for (field, _) in self
                .fields
                .iter()
                .filter(|(_, shape)| shape.takes_regions())
            {
                let path = path_of(field);
                if value_at(&data, Some(&path)).is_none() {
                    insert(&mut data, &path, Value::Array(Vec::new()))?;
                }
            }
        }
        Ok(data)
    }

    /// Whether data are an answer to the question.
    pub(super) fn check(&self, data: &Value, input: &Value) -> Result<(), Refusal> {
        let Some(question) = &self.question else {
            return Ok(());
        };
        let read = question.read(data, input);
        read.map(drop)
            .map_err(|error| Refusal::new(error.to_string()))
    }

    /// The known answer of the parts, in the form that gold tasks take.
    pub(super) fn known(&self, parts: &Parts) -> Result<Value, Refusal> {
        let single = match parts.by_name.first_key_value() {
            Some((_, part)) if parts.by_name.len() == 1 && !parts.mapped => Some(part),
            _ => None,
        };
        // The whole known answer as JSON may hold the answers by field already.
        if let Some(Part::Json(value)) = single
            && (value.is_object() || self.field.is_none())
        {
            return Ok(value.clone());
        }
        if let Some(Part::Cell(text)) = single
            && let Ok(value @ Value::Object(_)) = serde_json::from_str(text)
        {
            return Ok(value);
        }
        self.data(parts)
    }

    /// Whether a known answer is one to the question, as far as it says something about it.
    pub(super) fn check_known(&self, known: &Value, input: &Value) -> Result<(), Refusal> {
        let Some(question) = &self.question else {
            return Ok(());
        };
        let told = |error: AnswerError| Refusal::new(format!("the known answer: {error}"));
        let inner = value_at(known, self.field.as_deref());
        let fields = question.fields();
        if !fields.is_empty() {
            let holder = inner.unwrap_or(known);
            for field in fields {
                let given = holder
                    .get(field.path)
                    .or_else(|| value_at(holder, Some(field.path)));
                if let Some(given) = given.filter(|given| !given.is_null()) {
                    field.question.read_value(given, input).map_err(told)?;
                }
            }
            return Ok(());
        }
        match (inner, known) {
            (Some(_), _) => question.read(known, input).map(drop).map_err(told),
            // Of another step, perhaps.
            (None, Value::Object(_)) => Ok(()),
            (None, answer) => question.read_value(answer, input).map(drop).map_err(told),
        }
    }
}

/// Puts a value at a path of keys with dots between them.
pub(super) fn insert(data: &mut Value, path: &str, value: Value) -> Result<(), Refusal> {
    let mut place = data;
    for key in path.strip_prefix("$.").unwrap_or(path).split('.') {
        if place.is_null() {
            *place = Value::Object(Map::new());
        }
        let Value::Object(entries) = place else {
            let reason = format!("`{path}` leads through a value that is no object");
            return Err(Refusal::new(reason));
        };
        place = entries.entry(key).or_insert(Value::Null);
    }
    *place = value;
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn parts(parts: &[(&str, Part)]) -> Parts {
        Parts {
            by_name: parts
                .iter()
                .map(|(name, part)| ((*name).to_owned(), part.clone()))
                .collect(),
            ..Parts::of_tool()
        }
    }

    fn chosen(value: &str) -> Part {
        Part::Choices(vec![json!(value)])
    }

    fn asked(answer: Value) -> StepQuestion {
        StepQuestion::of_answer(answer)
    }

    #[test]
    fn one_answer_goes_where_the_step_looks_for_it() {
        let step = asked(json!({"field": "label", "kind": "category"}));
        let data = |given: &Parts| step.data(given);
        assert_eq!(
            data(&parts(&[("sentiment", chosen("a"))])),
            Ok(json!({"label": "a"}))
        );
        let beside = parts(&[("sentiment", chosen("a")), ("label", chosen("b"))]);
        assert_eq!(data(&beside), Ok(json!({"label": "b", "sentiment": "a"})));
        let doubtful = parts(&[("x", chosen("a")), ("y", chosen("b"))]);
        assert!(data(&doubtful).unwrap_err().reason.contains("`x`, `y`"));
        let named = Parts {
            main: Some("y".to_owned()),
            ..doubtful
        };
        assert_eq!(data(&named), Ok(json!({"label": "b", "x": "a"})));
        let mapped = Parts {
            mapped: true,
            ..parts(&[
                ("label", chosen("a")),
                ("why.text", Part::Cell("so".into())),
            ])
        };
        assert_eq!(
            data(&mapped),
            Ok(json!({"label": "a", "why": {"text": "so"}}))
        );
    }

    #[test]
    fn regions_and_choices_are_told_apart_and_nothing_marked_is_an_empty_list() {
        let step = asked(json!({"field": "entities", "kind": "spans"}));
        let both = parts(&[("good", chosen("a")), ("ner", Part::Regions(Vec::new()))]);
        assert_eq!(step.data(&both), Ok(json!({"entities": [], "good": "a"})));
        assert_eq!(step.data(&Parts::of_tool()), Ok(json!({"entities": []})));
        let whole = asked(json!({"kind": "spans"}));
        assert_eq!(whole.data(&Parts::of_tool()), Ok(json!([])));
        let label = asked(json!({"field": "label", "kind": "category"}));
        assert!(
            label
                .check(&label.data(&Parts::of_tool()).unwrap(), &Value::Null)
                .is_err()
        );
    }

    #[test]
    fn a_record_takes_its_fields_and_keeps_the_others() {
        let step = asked(json!({"field": "out", "kind": "record", "fields": {
            "severity": {"kind": "ordinal", "values": [1, 2, 3]}, "spans": {"kind": "spans"},
        }}));
        let given = parts(&[
            ("severity", Part::Cell("2".into())),
            ("note", Part::Cell("n".into())),
        ]);
        let data = step.data(&given).unwrap();
        assert_eq!(
            data,
            json!({"out": {"severity": 2, "spans": []}, "note": "n"})
        );
        assert_eq!(step.check(&data, &Value::Null), Ok(()));
        let far = Parts {
            mapped: true,
            ..parts(&[("out.severity", Part::Cell("7".into()))])
        };
        let data = step.data(&far).unwrap();
        assert!(
            step.check(&data, &Value::Null)
                .unwrap_err()
                .reason
                .contains("severity")
        );
    }

    #[test]
    fn a_step_that_takes_all_of_data_takes_every_part() {
        let any = asked(json!({"kind": "any"}));
        let given = parts(&[("a", chosen("x")), ("b", Part::Cell("y".into()))]);
        assert_eq!(any.data(&given), Ok(json!({"a": "x", "b": "y"})));
        let number = asked(json!({"kind": "number"}));
        let one = parts(&[("score", Part::Cell("2".into()))]);
        assert_eq!(number.data(&one), Ok(json!(2)));
    }

    #[test]
    fn a_known_answer_is_checked_as_far_as_it_goes() {
        let step = asked(json!({"field": "label", "kind": "category", "values": ["a", "b"]}));
        let known = |part: Part| {
            let known = step.known(&parts(&[("gold", part)])).unwrap();
            step.check_known(&known, &Value::Null).map(|()| known)
        };
        assert_eq!(known(Part::Cell("a".into())), Ok(json!({"label": "a"})));
        assert_eq!(
            known(Part::Json(json!({"label": "b"}))),
            Ok(json!({"label": "b"}))
        );
        assert_eq!(
            known(Part::Json(json!({"other": "z"}))),
            Ok(json!({"other": "z"}))
        );
        let wrong = known(Part::Cell("A".into())).unwrap_err();
        assert!(wrong.reason.starts_with("the known answer: "), "{wrong:?}");
        let record = asked(json!({"kind": "record", "fields": {
            "x": {"kind": "number"}, "y": {"kind": "number"},
        }}));
        let partial = |value: Value| record.check_known(&value, &Value::Null);
        assert_eq!(partial(json!({"x": 1})), Ok(()));
        assert!(partial(json!({"x": "one"})).is_err());
    }
}
