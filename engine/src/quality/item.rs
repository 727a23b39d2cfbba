//! One item of a series, and how items are written.
//!
//! A window of a thousand items is written again with every page of the log. As one text it costs a
//! database a copy; as objects it costs as many numbers to parse and to compress as people gave
//! answers.

use std::{collections::VecDeque, fmt, fmt::Write as _, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

/// The answers to one item.
///
/// As text: its number, `:`, the codes of each unit separated by `,` and units by `;`, then `@` and the
/// two people, then `~` and the similarity, where they are there: `17:0,0,1;2,2@0,1~666667`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub(super) struct Item {
    pub(super) number: u64,
    /// Codes of the answers to each unit, in the order of submission.
    #[serde(default)]
    pub(super) units: Vec<Vec<u32>>,
    /// Codes of the two people.
    #[serde(default)]
    pub(super) people: Option<[u32; 2]>,
    /// How alike the answers are, in whole millionths.
    #[serde(default)]
    pub(super) similarity: Option<u32>,
}

impl fmt::Display for Item {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.number)?;
        for (at, unit) in self.units.iter().enumerate() {
            f.write_str(if at == 0 { "" } else { ";" })?;
            for (at, code) in unit.iter().enumerate() {
                f.write_str(if at == 0 { "" } else { "," })?;
                write!(f, "{code}")?;
            }
        }
        if let Some([first, second]) = self.people {
            write!(f, "@{first},{second}")?;
        }
        if let Some(similarity) = self.similarity {
            write!(f, "~{similarity}")?;
        }
        Ok(())
    }
}

/// A text is no item.
#[derive(Debug)]
pub(super) struct NoItem;

impl FromStr for Item {
    type Err = NoItem;

    fn from_str(text: &str) -> Result<Self, NoItem> {
        let (number, rest) = text.split_once(':').ok_or(NoItem)?;
        let (rest, similarity) = match rest.split_once('~') {
            Some((rest, similarity)) => (rest, Some(whole(similarity)?)),
            None => (rest, None),
        };
        let (units, people) = match rest.split_once('@') {
            Some((units, people)) => {
                let people = codes(people)?.try_into().map_err(|_| NoItem)?;
                (units, Some(people))
            }
            None => (rest, None),
        };
        let units = if units.is_empty() {
            Vec::new()
        } else {
            units.split(';').map(codes).collect::<Result<_, _>>()?
        };
        Ok(Self {
            number: whole(number)?,
            units,
            people,
            similarity,
        })
    }
}

fn whole<N: FromStr>(text: &str) -> Result<N, NoItem> {
    text.parse().map_err(|_| NoItem)
}

fn codes(text: &str) -> Result<Vec<u32>, NoItem> {
    text.split(',').map(whole).collect()
}

/// Items with a blank between them, for `#[serde(with)]`.
pub(super) mod as_text {
    use super::*;

    pub(in super::super) fn serialize<S: Serializer>(
        items: &VecDeque<Item>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let mut text = String::new();
        for item in items {
            // Writing to a string does not fail.
            let _ = write!(text, "{}{item}", if text.is_empty() { "" } else { " " });
        }
        text.serialize(serializer)
    }

    /// Also reads items that were written as objects.
    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<VecDeque<Item>, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Written {
            Text(String),
            Objects(VecDeque<Item>),
        }
        match Written::deserialize(deserializer)? {
            Written::Text(text) => text
                .split_ascii_whitespace()
                .map(|item| {
                    let refused = |NoItem| D::Error::custom(format!("`{item}` is no item"));
                    item.parse().map_err(refused)
                })
                .collect(),
            Written::Objects(items) => Ok(items),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Row {
        #[serde(with = "as_text")]
        items: VecDeque<Item>,
    }

    #[test]
    fn items_are_written_as_one_text_and_read_again() {
        let items = [
            Item {
                number: 17,
                units: vec![vec![0, 0, 1], vec![2, 2]],
                people: Some([0, 1]),
                similarity: Some(666_667),
            },
            Item {
                number: u64::MAX,
                units: vec![vec![u32::MAX]],
                ..Item::default()
            },
            Item {
                number: 19,
                similarity: Some(0),
                ..Item::default()
            },
        ];
        let row = Row {
            items: items.into(),
        };
        let written = serde_json::to_value(&row).unwrap();
        let text = "17:0,0,1;2,2@0,1~666667 18446744073709551615:4294967295 19:~0";
        assert_eq!(written, json!({ "items": text }));
        assert_eq!(serde_json::from_value::<Row>(written).unwrap(), row);
        let none = Row {
            items: VecDeque::new(),
        };
        let written = serde_json::to_value(&none).unwrap();
        assert_eq!(serde_json::from_value::<Row>(written).unwrap(), none);
        let objects = json!({"items": [{"number": 3, "units": [[1, 1]], "similarity": 5}]});
        let read: Row = serde_json::from_value(objects).unwrap();
        assert_eq!(read.items[0].to_string(), "3:1,1~5");
    }

    #[test]
    fn what_is_no_item_is_refused() {
        for text in [
            "x",
            "1",
            "1:a",
            "1:0@1",
            "1:0@1,2,3",
            "1:0~-1",
            "-1:0",
            "1:0;;1",
        ] {
            let read: Result<Row, _> = serde_json::from_value::<Row>(json!({ "items": text }));
            assert!(read.is_err(), "{text}");
        }
        let neither = Value::from(7);
        assert!(serde_json::from_value::<Row>(json!({ "items": neither })).is_err());
    }
}
