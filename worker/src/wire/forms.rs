//! The form of ids and times in a command, for the fields where the parser's own message would not
//! help a person.

use chrono::{DateTime, FixedOffset, NaiveDate, NaiveDateTime};
use serde_json::{Map, Value};
use uuid::Uuid;

use super::unreadable::{CommandFault, clip};

/// Fields that hold a UUID, by the object they are in.
const IDS: [(Option<&str>, &str); 4] = [
    (None, "task_id"),
    (None, "user_id"),
    (Some("annotation"), "user_id"),
    (Some("annotation"), "annotation_id"),
];
/// Fields that hold a time.
const TIMES: [(Option<&str>, &str); 2] = [(None, "until"), (Some("annotation"), "submitted_at")];

/// Refuses texts that are no UUID or no time, and says what one looks like.
pub(super) fn check_forms(fields: &Map<String, Value>) -> Result<(), CommandFault> {
    let check = |fields_of: &[(Option<&str>, &str)],
                 check: fn(&str, &str) -> Result<(), String>| {
        for (outer, key) in fields_of {
            let holder = match outer {
                Some(outer) => fields.get(*outer).and_then(Value::as_object),
                None => Some(fields),
            };
            let Some(text) = holder.and_then(|h| h.get(*key)).and_then(Value::as_str) else {
                continue;
            };
            if let Err(why) = check(key, text) {
                let path = outer.map_or_else(String::new, |outer| format!("{outer}."));
                return Err(CommandFault::malformed(format!("{path}{key}: {why}")));
            }
        }
        Ok(())
    };
    check(&IDS, |key, text| check_id(text, key))?;
    check(&TIMES, |_, text| check_time(text).map(drop))
}

fn check_id(text: &str, key: &str) -> Result<(), String> {
    if Uuid::try_parse(text).is_ok() {
        return Ok(());
    }
    let mail = text.contains('@');
    let derived = match key {
        "task_id" => "; of a key of your own `glyph task id KEY` makes one",
        "user_id" if mail => "; of an e-mail address, too, `glyph task id --user KEY` makes one",
        "user_id" => "; of a name or number of your own `glyph task id --user KEY` makes one",
        _ => "",
    };
    Err(format!(
        "`{}` is no UUID (as 0190a6e0-7c1e-7d43-9a35-5f0c2f1b6c11){derived}",
        clip(text)
    ))
}

/// A time in RFC 3339; the error says what is missing.
pub(crate) fn check_time(text: &str) -> Result<DateTime<FixedOffset>, String> {
    if let Ok(time) = text.parse::<DateTime<FixedOffset>>() {
        return Ok(time);
    }
    let shown = clip(text);
    match without_zone(text) {
        Some(time) => {
            let time = time.format("%Y-%m-%dT%H:%M:%S");
            Err(format!(
                "`{shown}` has no offset from UTC, so it is no instant; write {time}Z, or \
                 {time}+02:00 (RFC 3339)"
            ))
        }
        None => Err(format!(
            "`{shown}` is no time; write it as 2026-03-09T14:30:00Z, or with an offset as \
             2026-03-09T14:30:00+02:00 (RFC 3339)"
        )),
    }
}

/// A date, or a date with a time, that lacks only its zone.
pub(crate) fn without_zone(text: &str) -> Option<NaiveDateTime> {
    let text = text.trim();
    let forms = [
        "%Y-%m-%dT%H:%M:%S%.f",
        "%Y-%m-%d %H:%M:%S%.f",
        "%Y-%m-%dT%H:%M",
        "%Y-%m-%d %H:%M",
    ];
    let times = forms.iter();
    let mut times = times.filter_map(|form| NaiveDateTime::parse_from_str(text, form).ok());
    let date = || {
        NaiveDate::parse_from_str(text, "%Y-%m-%d")
            .ok()?
            .and_hms_opt(0, 0, 0)
    };
    times.next().or_else(date)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn fault(fields: &Value) -> Option<String> {
        let checked = check_forms(fields.as_object().unwrap());
        checked.err().map(|fault| fault.error)
    }

    #[test]
    fn texts_that_are_no_ids_or_times_are_explained() {
        let user = "0190a6e0-0000-7000-8000-0000000000bb";
        assert_eq!(
            fault(&json!({"task_id": user, "user_id": 7, "until": null})),
            None
        );
        let error = |fields: &Value| fault(fields).unwrap();
        let mail = error(&json!({"annotation": {"user_id": "ann@example.org"}}));
        assert!(
            mail.starts_with("annotation.user_id: `ann@example.org` is no UUID"),
            "{mail}"
        );
        assert!(mail.contains("glyph task id --user KEY"), "{mail}");
        let task = error(&json!({"task_id": "item-1"}));
        assert!(
            task.starts_with("task_id: ") && task.contains("glyph task id KEY"),
            "{task}"
        );
        let local = error(&json!({"annotation": {"submitted_at": "2026-03-09 14:30"}}));
        assert!(
            local.contains("no offset from UTC") && local.contains("2026-03-09T14:30:00Z"),
            "{local}"
        );
        let day = error(&json!({"until": "2026-03-09"}));
        assert!(
            day.starts_with("until: ") && day.contains("2026-03-09T00:00:00Z"),
            "{day}"
        );
        assert!(error(&json!({"until": "tomorrow"})).contains("RFC 3339"));
        let american = json!({"annotation": {"submitted_at": "3/9/2026 14:30:00"}});
        assert!(error(&american).contains("is no time"));
        for given in [
            "2026-03-09T14:30:00Z",
            "2026-03-09 14:30:00 UTC",
            "2026-03-09T14:30:00.5+05:30",
        ] {
            assert_eq!(fault(&json!({"until": given})), None, "{given}");
        }
    }
}
