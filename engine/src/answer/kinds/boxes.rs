//! Upright rectangles.

use serde_json::{Map, Value, json};

use super::regions::{Place, backwards, number};
use crate::{
    answer::{
        error::{AnswerError, Problem},
        form::Exact,
        reader::Reader,
    },
    config::BoxFormat,
};

/// Its edges.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Rectangle {
    left: f64,
    top: f64,
    right: f64,
    bottom: f64,
}

impl Rectangle {
    pub(super) fn extent(&self) -> (f64, f64) {
        (self.left, self.right)
    }

    fn area(&self) -> f64 {
        (self.right - self.left) * (self.bottom - self.top)
    }
}

/// `{"x1", "y1", "x2", "y2"}`, opposite corners, or `{"x", "y", "width", "height"}`; with an area.
pub(super) fn read(
    format: BoxFormat,
    region: &Map<String, Value>,
    reader: &mut Reader<'_>,
) -> Result<(Place, Vec<Exact>), AnswerError> {
    let hint = || other_format(format, region);
    let mut read = |key| number("box", region, key, hint, reader);
    let (rectangle, coordinates) = match format {
        BoxFormat::Xyxy => {
            let (x1, y1, x2, y2) = (read("x1")?, read("y1")?, read("x2")?, read("y2")?);
            let sides = [(("x1", x1), ("x2", x2)), (("y1", y1), ("y2", y2))];
            for (low, high) in sides {
                if low.1.to_f64() >= high.1.to_f64() {
                    return Err(reader.wrong(backwards(low, high)));
                }
            }
            let rectangle = Rectangle {
                left: x1.to_f64(),
                top: y1.to_f64(),
                right: x2.to_f64(),
                bottom: y2.to_f64(),
            };
            (rectangle, vec![x1, y1, x2, y2])
        }
        BoxFormat::Xywh => {
            let (x, y, width, height) = (read("x")?, read("y")?, read("width")?, read("height")?);
            let rectangle = Rectangle {
                left: x.to_f64(),
                top: y.to_f64(),
                right: x.to_f64() + width.to_f64(),
                bottom: y.to_f64() + height.to_f64(),
            };
            (rectangle, vec![x, y, width, height])
        }
    };
    let (width, height) = (
        rectangle.right - rectangle.left,
        rectangle.bottom - rectangle.top,
    );
    if width <= 0.0 || height <= 0.0 || rectangle.area() <= 0.0 {
        return Err(reader.wrong(Problem::NoArea { region: "box" }));
    }
    Ok((Place::Rectangle(rectangle), coordinates))
}

/// What to do where the box is written in the other way.
fn other_format(format: BoxFormat, region: &Map<String, Value>) -> Option<String> {
    let has = |keys: [&str; 4]| keys.iter().all(|key| region.contains_key(*key));
    match format {
        BoxFormat::Xyxy if has(["x", "y", "width", "height"]) => Some(
            "set `answer.format: xywh` for boxes written as `x`, `y`, `width`, `height`".to_owned(),
        ),
        BoxFormat::Xywh if has(["x1", "y1", "x2", "y2"]) => {
            Some("remove `answer.format: xywh` for boxes written by two corners".to_owned())
        }
        BoxFormat::Xyxy | BoxFormat::Xywh => None,
    }
}

/// Common area over the area that either covers.
pub(super) fn iou(a: &Rectangle, b: &Rectangle) -> f64 {
    let width = a.right.min(b.right) - a.left.max(b.left);
    let height = a.bottom.min(b.bottom) - a.top.max(b.top);
    if width <= 0.0 || height <= 0.0 {
        return 0.0;
    }
    let common = width * height;
    (common / (a.area() + b.area() - common)).min(1.0)
}

pub(super) fn schema(format: BoxFormat) -> Map<String, Value> {
    let number = json!({"type": "number"});
    let length = json!({"type": "number", "exclusiveMinimum": 0});
    let keys = match format {
        BoxFormat::Xyxy => [
            ("x1", &number),
            ("y1", &number),
            ("x2", &number),
            ("y2", &number),
        ],
        BoxFormat::Xywh => [
            ("x", &number),
            ("y", &number),
            ("width", &length),
            ("height", &length),
        ],
    };
    keys.into_iter()
        .map(|(key, schema)| (key.to_owned(), schema.clone()))
        .collect()
}
