//! Writes a part of an answer as a step asks for it.

use glyph_workflow_engine::config::{AnswerKind, BoxFormat};
use serde_json::{Map, Value};

use super::record::{Outline, Part, Rectangle, Refusal, Region, number};

/// How one answer is written.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Shape {
    pub(super) kind: AnswerKind,
    /// Key of the class of a region.
    pub(super) tag: String,
    pub(super) boxes: BoxFormat,
    /// The possible values, where they are listed.
    pub(super) values: Vec<Value>,
    /// What separates the members of a list in a cell; a line break when left out.
    pub(super) separator: Option<String>,
}

impl Shape {
    /// How an answer is written that is not asked for: as tools do.
    pub(super) fn unasked() -> Self {
        Self {
            kind: AnswerKind::Any,
            tag: "label".to_owned(),
            boxes: BoxFormat::Xywh,
            values: Vec::new(),
            separator: None,
        }
    }

    pub(super) fn takes_regions(&self) -> bool {
        match self.kind {
            AnswerKind::Spans | AnswerKind::Segments | AnswerKind::Boxes | AnswerKind::Polygons => {
                true
            }
            AnswerKind::Any
            | AnswerKind::Category
            | AnswerKind::Ordinal
            | AnswerKind::Number
            | AnswerKind::Set
            | AnswerKind::Ranking
            | AnswerKind::Text
            | AnswerKind::Record => false,
        }
    }

    /// Whether a part can be an answer of this shape.
    pub(super) fn suits(&self, part: &Part) -> bool {
        match part {
            Part::Json(_) | Part::Cell(_) => true,
            Part::Regions(_) => self.takes_regions() || self.kind == AnswerKind::Any,
            Part::Choices(_) => !self.takes_regions(),
        }
    }

    /// The part as the step asks for it; none where nothing was chosen.
    pub(super) fn fit(&self, part: &Part) -> Result<Option<Value>, Refusal> {
        match part {
            Part::Json(value) => Ok(Some(value.clone())),
            Part::Cell(text) => Ok(Some(self.cell(text))),
            Part::Choices(chosen) => Ok(self.choices(chosen)),
            Part::Regions(regions) => {
                let all = regions.iter().map(|region| self.region(region));
                all.collect::<Result<Vec<_>, _>>()
                    .map(|list| Some(Value::Array(list)))
            }
        }
    }

    fn choices(&self, chosen: &[Value]) -> Option<Value> {
        match (self.kind, chosen) {
            (_, []) => None,
            (AnswerKind::Set | AnswerKind::Ranking, all) => Some(Value::Array(all.to_vec())),
            // Of several the question says that one is wanted.
            (_, [one]) => Some(one.clone()),
            (_, all) => Some(Value::Array(all.to_vec())),
        }
    }

    /// A cell has no type: the question gives it one.
    fn cell(&self, text: &str) -> Value {
        let structured = || {
            let is_json = text.trim_start().starts_with(['[', '{']);
            let parsed = is_json.then(|| serde_json::from_str::<Value>(text).ok());
            parsed.flatten().filter(|v| v.is_array() || v.is_object())
        };
        match self.kind {
            AnswerKind::Any
            | AnswerKind::Record
            | AnswerKind::Spans
            | AnswerKind::Segments
            | AnswerKind::Boxes
            | AnswerKind::Polygons => structured().unwrap_or_else(|| text.into()),
            AnswerKind::Ordinal if self.values.is_empty() => numeric(text),
            AnswerKind::Category | AnswerKind::Ordinal => self.member(text),
            AnswerKind::Number => numeric(text),
            AnswerKind::Text => text.into(),
            AnswerKind::Set | AnswerKind::Ranking => {
                if let Some(list) = structured().filter(Value::is_array) {
                    return list;
                }
                let separator = self.separator.as_deref().unwrap_or("\n");
                let members = text
                    .split(separator)
                    .map(str::trim)
                    .filter(|m| !m.is_empty());
                Value::Array(members.map(|member| self.member(member)).collect())
            }
        }
    }

    /// The listed value that is written so; the text where there is none.
    fn member(&self, text: &str) -> Value {
        let written = |value: &&Value| match value {
            Value::String(known) => known == text,
            Value::Bool(known) => text.parse() == Ok(*known),
            Value::Number(known) => known.to_string() == text,
            Value::Null | Value::Array(_) | Value::Object(_) => false,
        };
        self.values
            .iter()
            .find(written)
            .cloned()
            .unwrap_or_else(|| text.into())
    }

    fn region(&self, region: &Region) -> Result<Value, Refusal> {
        let mut written = Map::new();
        for (key, value) in &region.attributes {
            written.insert(key.clone(), value.clone());
        }
        let mut set = |key: &str, value: Value| {
            written.insert(key.to_owned(), value);
        };
        match (&region.outline, self.kind) {
            (Outline::Stretch { start, end }, _) => {
                set("start", Value::Number(start.clone()));
                set("end", Value::Number(end.clone()));
            }
            (Outline::Rectangle(rectangle), AnswerKind::Polygons) => {
                set("points", points(&corners(*rectangle)));
            }
            (Outline::Rectangle(r), _) => {
                if r.rotation != 0.0 && self.kind != AnswerKind::Any {
                    let reason =
                        format!("a box is rotated by {}°, and boxes are upright", r.rotation);
                    let hint =
                        "ask for `kind: polygons`, which takes rotated boxes by their corners";
                    return Err(Refusal::new(reason).hint(hint));
                }
                match self.boxes {
                    BoxFormat::Xyxy => {
                        set("x1", number(r.x));
                        set("y1", number(r.y));
                        set("x2", number(r.x + r.width));
                        set("y2", number(r.y + r.height));
                    }
                    BoxFormat::Xywh => {
                        set("x", number(r.x));
                        set("y", number(r.y));
                        set("width", number(r.width));
                        set("height", number(r.height));
                    }
                }
                if r.rotation != 0.0 {
                    set("rotation", number(r.rotation));
                }
            }
            (Outline::Polygon(_), AnswerKind::Boxes) => {
                let hint = "ask for `kind: polygons`, or export boxes";
                return Err(Refusal::new("a polygon, and the step asks for boxes").hint(hint));
            }
            (Outline::Polygon(corners), _) => set("points", points(corners)),
        }
        if let Some(class) = &region.class {
            set(&self.tag, class.clone());
        }
        Ok(Value::Object(written))
    }
}

fn numeric(text: &str) -> Value {
    match serde_json::from_str::<Value>(text.trim()) {
        Ok(number @ Value::Number(_)) => number,
        Ok(_) | Err(_) => text.into(),
    }
}

fn points(corners: &[[f64; 2]]) -> Value {
    let pair = |[x, y]: &[f64; 2]| Value::Array(vec![number(*x), number(*y)]);
    Value::Array(corners.iter().map(pair).collect())
}

/// The corners of a rectangle, clockwise from its first.
fn corners(rectangle: Rectangle) -> Vec<[f64; 2]> {
    let Rectangle {
        x,
        y,
        width,
        height,
        rotation,
    } = rectangle;
    let (sin, cos) = rotation.to_radians().sin_cos();
    let turned = |dx: f64, dy: f64| {
        if rotation == 0.0 {
            [x + dx, y + dy]
        } else {
            [x + dx * cos - dy * sin, y + dx * sin + dy * cos]
        }
    };
    vec![
        turned(0.0, 0.0),
        turned(width, 0.0),
        turned(width, height),
        turned(0.0, height),
    ]
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn shape(kind: AnswerKind) -> Shape {
        Shape {
            kind,
            tag: "tag".to_owned(),
            boxes: BoxFormat::Xyxy,
            ..Shape::unasked()
        }
    }

    fn cell(shape: &Shape, text: &str) -> Value {
        shape.fit(&Part::Cell(text.to_owned())).unwrap().unwrap()
    }

    fn boxed(rotation: f64) -> Part {
        Part::Regions(vec![Region {
            outline: Outline::Rectangle(Rectangle {
                x: 10.0,
                y: 20.0,
                width: 4.0,
                height: 2.5,
                rotation,
            }),
            class: Some(json!("cat")),
            attributes: Map::new(),
        }])
    }

    #[test]
    fn a_cell_becomes_what_the_step_asks_for() {
        assert_eq!(cell(&shape(AnswerKind::Category), "1"), json!("1"));
        let listed = |kind, values: Value| Shape {
            values: values.as_array().unwrap().clone(),
            ..shape(kind)
        };
        assert_eq!(
            cell(&listed(AnswerKind::Category, json!([0, 1])), "1"),
            json!(1)
        );
        assert_eq!(
            cell(&listed(AnswerKind::Ordinal, json!(["low", true])), "true"),
            json!(true)
        );
        assert_eq!(cell(&shape(AnswerKind::Ordinal), "3"), json!(3));
        assert_eq!(cell(&shape(AnswerKind::Number), " 3.50 "), json!(3.5));
        assert_eq!(cell(&shape(AnswerKind::Number), "3,5"), json!("3,5"));
        assert_eq!(cell(&shape(AnswerKind::Text), "[1]"), json!("[1]"));
        assert_eq!(cell(&shape(AnswerKind::Any), "[CAUSES]"), json!("[CAUSES]"));
        assert_eq!(cell(&shape(AnswerKind::Any), "{\"a\":1}"), json!({"a": 1}));
        assert_eq!(
            cell(&shape(AnswerKind::Spans), "[{\"start\":0}]"),
            json!([{"start": 0}])
        );
        let set = shape(AnswerKind::Set);
        assert_eq!(
            cell(&set, "[CAUSES]\n[TREATS]"),
            json!(["[CAUSES]", "[TREATS]"])
        );
        assert_eq!(cell(&set, "[\"a\",\"b\"]"), json!(["a", "b"]));
        let parted = Shape {
            separator: Some(";".to_owned()),
            ..set
        };
        assert_eq!(cell(&parted, "a; b;"), json!(["a", "b"]));
    }

    #[test]
    fn one_choice_is_a_value_and_several_are_a_list() {
        let chosen = |kind, values: &[&str]| {
            let values = values.iter().map(|v| json!(v)).collect();
            shape(kind).fit(&Part::Choices(values)).unwrap()
        };
        assert_eq!(chosen(AnswerKind::Category, &["a"]), Some(json!("a")));
        assert_eq!(chosen(AnswerKind::Set, &["a"]), Some(json!(["a"])));
        assert_eq!(
            chosen(AnswerKind::Any, &["a", "b"]),
            Some(json!(["a", "b"]))
        );
        assert_eq!(chosen(AnswerKind::Set, &[]), None);
    }

    #[test]
    fn boxes_are_written_as_the_step_asks() {
        let fit = |shape: &Shape, rotation| shape.fit(&boxed(rotation)).map(Option::unwrap);
        let corners = json!([{"x1": 10, "y1": 20, "x2": 14, "y2": 22.5, "tag": "cat"}]);
        assert_eq!(fit(&shape(AnswerKind::Boxes), 0.0), Ok(corners));
        let sizes = json!([{"x": 10, "y": 20, "width": 4, "height": 2.5, "label": "cat"}]);
        assert_eq!(fit(&Shape::unasked(), 0.0), Ok(sizes));
        let ring = json!([{"points": [[10, 20], [14, 20], [14, 22.5], [10, 22.5]], "tag": "cat"}]);
        assert_eq!(fit(&shape(AnswerKind::Polygons), 0.0), Ok(ring));
        let turned = fit(&shape(AnswerKind::Polygons), 90.0).unwrap();
        let second = &turned[0]["points"][1];
        assert!(
            (second[0].as_f64().unwrap() - 10.0).abs() < 1e-9,
            "{turned}"
        );
        assert!(
            (second[1].as_f64().unwrap() - 24.0).abs() < 1e-9,
            "{turned}"
        );
        assert!(
            fit(&shape(AnswerKind::Boxes), 30.0)
                .unwrap_err()
                .hint
                .unwrap()
                .contains("polygons")
        );
        let polygon = Part::Regions(vec![Region {
            outline: Outline::Polygon(vec![[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]]),
            class: None,
            attributes: Map::new(),
        }]);
        assert!(shape(AnswerKind::Boxes).fit(&polygon).is_err());
        let written = shape(AnswerKind::Polygons).fit(&polygon).unwrap();
        assert_eq!(written, Some(json!([{"points": [[0, 0], [1, 0], [0, 1]]}])));
    }
}
