//! Tables of crowdsourcing platforms, one row per judgement: what their columns are called.

use super::{
    mapping::Mapping,
    plain::{Columns, InputColumns},
};

/// The names that a platform gives.
struct Platform {
    id: &'static str,
    user: &'static str,
    input: InputColumns,
    /// Begins the names of answers; None where answers are the columns with a known answer beside.
    answers: Option<&'static str>,
    expected: Known,
}

/// How the column of a known answer is called.
#[derive(Clone, Copy)]
enum Known {
    Prefix(&'static str),
    Suffix(&'static str),
    Nowhere,
}

const PLATFORMS: [Platform; 3] = [
    // CrowdFlower, Figure Eight, Appen: the full report.
    Platform {
        id: "_unit_id",
        user: "_worker_id",
        input: InputColumns::RestWithout("_"),
        answers: None,
        expected: Known::Suffix("_gold"),
    },
    // Mechanical Turk: the batch results.
    Platform {
        id: "HITId",
        user: "WorkerId",
        input: InputColumns::Prefixed("Input."),
        answers: Some("Answer."),
        expected: Known::Nowhere,
    },
    // Toloka: the assignments.
    Platform {
        id: "ASSIGNMENT:task_id",
        user: "ASSIGNMENT:worker_id",
        input: InputColumns::Prefixed("INPUT:"),
        answers: Some("OUTPUT:"),
        expected: Known::Prefix("GOLDEN:"),
    },
];

fn platform_of(has: impl Fn(&str) -> bool) -> Option<&'static Platform> {
    PLATFORMS
        .iter()
        .find(|platform| has(platform.id) && has(platform.user))
}

/// Whether a header is one of a known platform.
pub(super) fn is_crowd(header: &str, delimiter: char) -> bool {
    let plain = |cell: &str| cell.trim().trim_matches('"').to_owned();
    let columns: Vec<String> = header.split(delimiter).map(plain).collect();
    platform_of(|name| columns.iter().any(|column| column == name)).is_some()
}

/// What the columns of a header mean, and what the user says of them.
pub(super) fn columns(header: &[String], mapping: &Mapping) -> Result<Columns, String> {
    let has = |name: &str| header.iter().any(|column| column == name);
    let Some(platform) = platform_of(has) else {
        return no_platform(mapping);
    };
    let mut columns = Columns {
        id: mapping
            .id_field
            .clone()
            .unwrap_or_else(|| platform.id.to_owned()),
        user: Some(platform.user.to_owned()),
        input: platform.input.clone(),
        cells: true,
        ..Columns::default()
    };
    let known_of = |answer: &str| match platform.expected {
        Known::Prefix(prefix) => Some(format!("{prefix}{answer}")),
        Known::Suffix(suffix) => Some(format!("{answer}{suffix}")),
        Known::Nowhere => None,
    };
    for column in header {
        let answer = match platform.answers {
            Some(prefix) => column.strip_prefix(prefix),
            None => known_of(column)
                .filter(|known| has(known))
                .map(|_| column.as_str()),
        };
        let Some(answer) = answer else { continue };
        columns.answers.push((answer.to_owned(), column.clone()));
        if let Some(known) = known_of(answer).filter(|known| has(known)) {
            columns.expected.push((answer.to_owned(), known));
        }
    }
    columns.refine(mapping);
    if !columns.has_answers() {
        return Err(
            "--answer-field: name the columns that hold answers (the header does not say it)"
                .to_owned(),
        );
    }
    Ok(columns)
}

/// A table of another origin needs everything named.
fn no_platform(mapping: &Mapping) -> Result<Columns, String> {
    let missing = if mapping.user_field.is_none() && mapping.user.is_none() {
        Some("--user-field: name the column that holds the id of the person")
    } else if !mapping.names_answers() {
        Some("--answer-field: name the columns that hold answers")
    } else {
        None
    };
    match missing {
        Some(missing) => Err(missing.to_owned()),
        None => Columns::named(mapping, true),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(header: &str, mapping: &Mapping) -> Columns {
        let header: Vec<String> = header.split(',').map(str::to_owned).collect();
        columns(&header, mapping).unwrap()
    }

    fn pair(to: &str, from: &str) -> (String, String) {
        (to.to_owned(), from.to_owned())
    }

    #[test]
    fn the_columns_of_platforms_are_known() {
        let nothing = Mapping::default();
        let found = of(
            "_unit_id,_golden,_worker_id,_trust,relation,text,relation_gold",
            &nothing,
        );
        assert_eq!(
            (found.id.as_str(), found.user.as_deref()),
            ("_unit_id", Some("_worker_id"))
        );
        assert_eq!(found.answers, [pair("relation", "relation")]);
        assert_eq!(found.expected, [pair("relation", "relation_gold")]);
        let found = of("HITId,WorkerId,Input.image,Answer.a,Answer.b", &nothing);
        assert_eq!(
            found.answers,
            [pair("a", "Answer.a"), pair("b", "Answer.b")]
        );
        assert_eq!(found.input, InputColumns::Prefixed("Input."));
        let found = of(
            "INPUT:image,OUTPUT:result,GOLDEN:result,ASSIGNMENT:task_id,ASSIGNMENT:worker_id",
            &nothing,
        );
        assert_eq!(found.expected, [pair("result", "GOLDEN:result")]);
    }

    #[test]
    fn what_the_user_names_goes_first() {
        let mapping = Mapping {
            id_field: Some("orig_id".to_owned()),
            answer_fields: vec!["q".to_owned()],
            ..Mapping::default()
        };
        let found = of("_unit_id,_worker_id,orig_id,q", &mapping);
        assert_eq!(
            (found.id.as_str(), found.answers),
            ("orig_id", vec![pair("q", "q")])
        );
        let header = [
            "_unit_id".to_owned(),
            "_worker_id".to_owned(),
            "q".to_owned(),
        ];
        let error = columns(&header, &Mapping::default()).unwrap_err();
        assert!(error.contains("--answer-field"), "{error}");
        assert!(is_crowd("\"HITId\",\"WorkerId\"", ','));
        assert!(!is_crowd("id,text", ','));
    }
}
