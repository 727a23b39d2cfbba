//! Times as exports write them.

use chrono::{DateTime, FixedOffset, SecondsFormat, TimeZone as _, Utc};
use serde_json::Value;

use super::record::Refusal;
use crate::wire::{check_time, without_zone};

/// A time as RFC 3339. A number counts seconds since 1970, or milliseconds where it is too large for
/// seconds; `offset` is the zone of texts that name none.
pub(super) fn rfc3339(
    value: &Value,
    offset: Option<FixedOffset>,
) -> Result<Option<String>, Refusal> {
    let text = match value {
        Value::Null => return Ok(None),
        Value::Number(number) => {
            let since = number.as_f64().and_then(since_1970);
            let time = since.ok_or_else(|| Refusal::new(format!("{number} is no time")))?;
            return Ok(Some(written(time)));
        }
        Value::String(text) if text.trim().is_empty() => return Ok(None),
        Value::String(text) => text.trim(),
        Value::Bool(_) | Value::Array(_) | Value::Object(_) => {
            return Err(Refusal::new(format!("{value} is no time")));
        }
    };
    if let (Some(local), Some(offset)) = (without_zone(text), offset) {
        let time = offset.from_local_datetime(&local).single();
        let time = time.ok_or_else(|| Refusal::new(format!("`{text}` is no time")))?;
        return Ok(Some(written(time.to_utc())));
    }
    match check_time(text) {
        Ok(time) => Ok(Some(written(time.to_utc()))),
        Err(why) if without_zone(text).is_some() => Err(Refusal::new(why)
            .hint("where all times of the file are of one zone, name it: --utc-offset +00:00")),
        Err(why) if text.contains('/') => Err(Refusal::new(why).hint(
            "day and month cannot be told apart in a date with slashes; rewrite the column, or \
             import without --time-field",
        )),
        Err(why) => Err(Refusal::new(why)),
    }
}

fn since_1970(number: f64) -> Option<DateTime<Utc>> {
    /// Beyond it, seconds would be later than the year 5000.
    const SECONDS_MAX: f64 = 1e11;
    let seconds = if number.abs() > SECONDS_MAX {
        number / 1_000.0
    } else {
        number
    };
    let whole = format!("{:.0}", seconds.floor()).parse::<i64>().ok()?;
    let micros = format!("{:.0}", (seconds - seconds.floor()) * 1e6)
        .parse::<u32>()
        .ok()?;
    DateTime::from_timestamp(whole, micros.min(999_999) * 1_000)
}

fn written(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::AutoSi, true)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn times_are_instants_or_refused_with_a_way_out() {
        let utc = |value: Value| rfc3339(&value, None).map_err(|r| r.hint.unwrap_or_default());
        let given = Ok(Some("2021-03-09T21:52:49.513Z".to_owned()));
        assert_eq!(utc(json!("2021-03-09T21:52:49.513Z")), given);
        assert_eq!(utc(json!("2021-03-09T22:52:49.513+01:00")), given);
        assert_eq!(utc(json!(1_615_326_769.513)), given);
        assert_eq!(utc(json!(1_615_326_769_513_u64)), given);
        assert_eq!(utc(json!("")), Ok(None));
        assert!(
            utc(json!("2021-03-09 21:52:49"))
                .unwrap_err()
                .contains("--utc-offset")
        );
        assert!(
            utc(json!("3/9/2021 21:52"))
                .unwrap_err()
                .contains("slashes")
        );
        assert!(utc(json!([])).is_err());
        let india = FixedOffset::east_opt(19_800);
        let local = rfc3339(&json!("2021-03-10 03:22:49"), india).unwrap();
        assert_eq!(local.as_deref(), Some("2021-03-09T21:52:49Z"));
        let own = rfc3339(&json!("2021-03-09T21:52:49Z"), india).unwrap();
        assert_eq!(
            own.as_deref(),
            Some("2021-03-09T21:52:49Z"),
            "a zone that is named counts"
        );
    }
}
