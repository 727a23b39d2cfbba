//! Durations as people write them: `90s`, `30m`, `2h`, `7d`.

use std::{fmt, str::FromStr, time::Duration};

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A whole number of seconds, minutes, hours or days, written `90s`, `30m`, `2h`, `7d`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ConfigDuration(Duration);

impl ConfigDuration {
    /// The same span of time for the program.
    pub fn get(self) -> Duration {
        self.0
    }
}

impl From<Duration> for ConfigDuration {
    fn from(duration: Duration) -> Self {
        Self(Duration::from_secs(duration.as_secs()))
    }
}

/// The text is not a duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a duration: write a whole number and a unit, as `90s`, `30m`, `2h`, `7d`")]
pub struct InvalidDuration {
    /// The text.
    pub text: String,
}

impl FromStr for ConfigDuration {
    type Err = InvalidDuration;

    fn from_str(text: &str) -> Result<Self, InvalidDuration> {
        let invalid = || InvalidDuration {
            text: text.chars().take(40).collect(),
        };
        let unit = text.chars().last().ok_or_else(invalid)?;
        let seconds_per_unit: u64 = match unit {
            's' => 1,
            'm' => 60,
            'h' => 3_600,
            'd' => 86_400,
            _ => return Err(invalid()),
        };
        let digits = &text[..text.len() - 1];
        // Nine digits of days stay far below what chrono can add to a date; more digits are a typo.
        if digits.is_empty() || digits.len() > 9 || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return Err(invalid());
        }
        let count: u64 = digits.parse().map_err(|_| invalid())?;
        let seconds = count * seconds_per_unit;
        if seconds > 100 * 365 * 86_400 {
            return Err(invalid());
        }
        Ok(Self(Duration::from_secs(seconds)))
    }
}

impl fmt::Display for ConfigDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs();
        let (count, unit) = match seconds {
            0 => (0, 's'),
            s if s % 86_400 == 0 => (s / 86_400, 'd'),
            s if s % 3_600 == 0 => (s / 3_600, 'h'),
            s if s % 60 == 0 => (s / 60, 'm'),
            s => (s, 's'),
        };
        write!(f, "{count}{unit}")
    }
}

impl Serialize for ConfigDuration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ConfigDuration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for ConfigDuration {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Duration".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string",
            "pattern": "^[0-9]{1,9}[smhd]$",
            "description": "A whole number and a unit: `90s`, `30m`, `2h`, `7d`."
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_round_trip_and_refuse_the_rest() {
        for text in ["90s", "30m", "2h", "7d", "0s"] {
            assert_eq!(text.parse::<ConfigDuration>().unwrap().to_string(), text);
        }
        assert_eq!("120m".parse::<ConfigDuration>().unwrap().to_string(), "2h");
        for bad in [
            "",
            "h",
            "2",
            "2 h",
            "-1s",
            "1.5h",
            "9999999999d",
            "999999999d",
            "2ü",
        ] {
            assert!(bad.parse::<ConfigDuration>().is_err(), "{bad}");
        }
    }
}
