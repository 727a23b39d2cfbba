//! Positions in the log.

use std::{fmt, str::FromStr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A position in the log. No event can be written before it any more.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
pub struct LogPosition {
    /// The entry: transactions in the order in which they became visible, numbered from 1. Where a
    /// store has one writer at a time, each event is one.
    #[serde(alias = "transaction")]
    pub entry: i64,
    /// Position within the entry.
    pub position: i64,
}

impl fmt::Display for LogPosition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.entry, self.position)
    }
}

/// A text is not a position in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a position in the log: two numbers with a dot between them, as `12.345`")]
pub struct InvalidLogPosition;

impl FromStr for LogPosition {
    type Err = InvalidLogPosition;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (entry, position) = text.split_once('.').ok_or(InvalidLogPosition)?;
        let number = |text: &str| {
            let is_plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            let number = text.parse().ok().filter(|_| is_plain);
            number.ok_or(InvalidLogPosition)
        };
        Ok(Self {
            entry: number(entry)?,
            position: number(position)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_are_written_and_read() {
        let position = LogPosition {
            entry: 12,
            position: 345,
        };
        assert_eq!(position.to_string(), "12.345");
        assert_eq!("12.345".parse(), Ok(position));
        for wrong in [
            "",
            "12",
            ".",
            "1.",
            "-1.2",
            "1.+2",
            "1.2.3",
            "99999999999999999999.1",
        ] {
            assert_eq!(
                wrong.parse::<LogPosition>(),
                Err(InvalidLogPosition),
                "{wrong}"
            );
        }
    }
}
