//! The faults of a file: code, location, message, suggestion.
//!
//! Which source file of this folder reports which code:
//!
//! | code | files |
//! |---|---|
//! | `empty_file` | `parse` |
//! | `not_utf8` | `parse` |
//! | `too_large` | `parse`, `resolve`, `source_map` |
//! | `yaml_syntax` | `parse`, `source_map` |
//! | `duplicate_key` | `source_map` |
//! | `unknown_key` | `resolve`, `script`, `structure` |
//! | `missing_key` | `resolve`, `script`, `structure`, `validate/conditions`, `validate/goals`, `validate/question`, `validate/reliability`, `validate/steps` |
//! | `wrong_type` | `resolve`, `structure` |
//! | `invalid_value` | `draft`, `parse`, `script`, `structure`, `validate/completion`, `validate/handlers`, `validate/question`, `validate/steps`, `validate/validator` |
//! | `out_of_range` | `graph`, `structure`, `validate/completion`, `validate/conditions`, `validate/goals`, `validate/question`, `validate/reliability`, `validate/validator` |
//! | `invalid_id` | `structure` |
//! | `duplicate_id` | `validate/validator` |
//! | `unknown_step` | `draft`, `resolve`, `script`, `validate/conditions`, `validate/handlers` |
//! | `unknown_library_step` | `resolve` |
//! | `unknown_template` | `resolve` |
//! | `unknown_handler` | `validate/handlers` |
//! | `misplaced_key` | `resolve`, `script`, `validate/completion`, `validate/conditions`, `validate/consensus`, `validate/goals`, `validate/handlers`, `validate/question`, `validate/steps` |
//! | `conflicting_keys` | `resolve`, `script`, `validate/goals`, `validate/question`, `validate/reliability`, `validate/validator` |
//! | `bad_expression` | `ending_checks`, `validate/conditions`, `validate/question` |
//! | `unreachable_step` | `graph` |
//! | `trapped_step` | `graph` |
//! | `unmarked_cycle` | `graph` |
//! | `join_without_fork` | `graph` |
//! | `unknown_goal` | `validate/goals` |
//! | `goal_cycle` | `validate/goals` |
//! | `dead_transition` | `ending_checks` |
//! | `unhandled_outcome` | `ending_checks` |
//! | `open_loop` | `loops` |
//! | `branch_collision` | `branches` |
//! | `idle_join` | `branches` |
//! | `no_effect` | `branches`, `validate/handlers`, `validate/question`, `validate/reliability`, `validate/steps` |
//! | `odd_threshold` | `validate/question` |
//! | `pooled_fields` | `validate/question` |
//! | `number_like_value` | `validate/question` |
//! | `unordered_scale` | `validate/question` |
//! | `long_chain` | `chains` |
//! | `refused_output` | `verdicts` |
//! | `late_verdict` | `verdicts` |
//! | `nothing_to_review` | `verdicts` |
//! | `ambiguous_output` | `branches` |
//! | `context_clash` | `branches` |
//! | `nested_loop` | `loops` |
//! | `forward_loop` | `loops` |

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::config::WorkflowConfig;

macro_rules! codes {
    ($($(#[doc = $doc:literal])+ $name:ident = $text:literal,)+) => {
        /// The stable name of a kind of fault.
        #[derive(
            Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
            JsonSchema,
        )]
        #[serde(rename_all = "snake_case")]
        pub enum DiagnosticCode {
            $($(#[doc = $doc])+ $name,)+
        }

        impl DiagnosticCode {
            /// All codes.
            pub const ALL: &'static [Self] = &[$(Self::$name),+];

            /// The name in JSON.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)+
                }
            }

            /// A one-line explanation of the code.
            pub fn explanation(self) -> &'static str {
                match self {
                    $(Self::$name => concat!($($doc),+).trim_ascii(),)+
                }
            }
        }
    };
}

codes! {
    /// The file contains only blanks and comments.
    EmptyFile = "empty_file",
    /// The file is not UTF-8.
    NotUtf8 = "not_utf8",
    /// The file has too many bytes, nests too deeply, or grows too large through aliases.
    TooLarge = "too_large",
    /// The text is not readable as YAML.
    YamlSyntax = "yaml_syntax",
    /// A mapping has the same key twice.
    DuplicateKey = "duplicate_key",
    /// A mapping has a key that does not exist there.
    UnknownKey = "unknown_key",
    /// A mapping lacks a key that it needs.
    MissingKey = "missing_key",
    /// A value is of another type than the key asks for.
    WrongType = "wrong_type",
    /// A text is not one of the key's known values, or is malformed.
    InvalidValue = "invalid_value",
    /// A number, a duration or the length of a list is out of range.
    OutOfRange = "out_of_range",
    /// An id has other characters than a-z, 0-9, `_` and `-`, or more than 64.
    InvalidId = "invalid_id",
    /// Two steps or two goals have the same id.
    DuplicateId = "duplicate_id",
    /// A reference names no step, or a step of the wrong type.
    UnknownStep = "unknown_step",
    /// `ref` names no step of the library.
    UnknownLibraryStep = "unknown_library_step",
    /// `template` names no template.
    UnknownTemplate = "unknown_template",
    /// `handler` names no handler.
    UnknownHandler = "unknown_handler",
    /// A key is not allowed with the type beside it.
    MisplacedKey = "misplaced_key",
    /// Two keys of a mapping contradict each other.
    ConflictingKeys = "conflicting_keys",
    /// An expression cannot be compiled, or uses an unknown name.
    BadExpression = "bad_expression",
    /// No path leads from the entry to the step.
    UnreachableStep = "unreachable_step",
    /// No path leads from the step to an end.
    TrappedStep = "trapped_step",
    /// A cycle has no transition with `loop`, so nothing bounds it.
    UnmarkedCycle = "unmarked_cycle",
    /// A step joins branches, but no fork leads to it.
    JoinWithoutFork = "join_without_fork",
    /// A reference names no goal of the workflow, or the goal itself.
    UnknownGoal = "unknown_goal",
    /// Goals wait for each other.
    GoalCycle = "goal_cycle",
    /// A transition can never fire: its condition never holds, or an earlier transition or branch
    /// always decides first.
    DeadTransition = "dead_transition",
    /// A step can end in a way that no transition matches.
    UnhandledOutcome = "unhandled_outcome",
    /// A loop can run out, and it has no `on_exhausted` target.
    OpenLoop = "open_loop",
    /// A branch can reach a step while another branch is still at it.
    BranchCollision = "branch_collision",
    /// A join waits for more branches than can arrive together.
    IdleJoin = "idle_join",
    /// No number of this many people reaches the threshold exactly, or people can agree without a
    /// value.
    OddThreshold = "odd_threshold",
    /// A coefficient takes unlike fields as judgements of one kind.
    PooledFields = "pooled_fields",
    /// YAML reads a value as a number, true or false, and the others are texts.
    NumberLikeValue = "number_like_value",
    /// An ordinal answer does not list its scale.
    UnorderedScale = "unordered_scale",
    /// One command can cause more transitions than the limit allows.
    LongChain = "long_chain",
    /// A task can complete after a review has refused its value; its result is then null.
    RefusedOutput = "refused_output",
    /// A late annotation can be taken as the verdict of an adjudication.
    LateVerdict = "late_verdict",
    /// A task can come to a review or adjudication before anything has made a value.
    NothingToReview = "nothing_to_review",
    /// Branches end apart, and the result is that of whichever ends last.
    AmbiguousOutput = "ambiguous_output",
    /// Two child tasks that can run at the same time write the same key of the context.
    ContextClash = "context_clash",
    /// A loop has fewer rounds for the whole task than the loop around it.
    NestedLoop = "nested_loop",
    /// A transition with `loop` closes no cycle.
    ForwardLoop = "forward_loop",
    /// A key has no effect with the other settings.
    NoEffect = "no_effect",
}

impl DiagnosticCode {
    /// Whether the fault makes the file unusable.
    pub fn severity(self) -> Severity {
        match self {
            Self::DeadTransition
            | Self::UnhandledOutcome
            | Self::OpenLoop
            | Self::BranchCollision
            | Self::IdleJoin
            | Self::OddThreshold
            | Self::PooledFields
            | Self::NumberLikeValue
            | Self::UnorderedScale
            | Self::LongChain
            | Self::RefusedOutput
            | Self::LateVerdict
            | Self::NothingToReview
            | Self::AmbiguousOutput
            | Self::ContextClash
            | Self::NestedLoop
            | Self::ForwardLoop
            | Self::NoEffect => Severity::Warning,
            Self::EmptyFile
            | Self::NotUtf8
            | Self::TooLarge
            | Self::YamlSyntax
            | Self::DuplicateKey
            | Self::UnknownKey
            | Self::MissingKey
            | Self::WrongType
            | Self::InvalidValue
            | Self::OutOfRange
            | Self::InvalidId
            | Self::DuplicateId
            | Self::UnknownStep
            | Self::UnknownLibraryStep
            | Self::UnknownTemplate
            | Self::UnknownHandler
            | Self::MisplacedKey
            | Self::ConflictingKeys
            | Self::BadExpression
            | Self::UnreachableStep
            | Self::TrappedStep
            | Self::UnmarkedCycle
            | Self::JoinWithoutFork
            | Self::UnknownGoal
            | Self::GoalCycle => Severity::Error,
        }
    }
}

impl fmt::Display for DiagnosticCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// The severity of a fault.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The file cannot be used.
    Error,
    /// The file can be used, but probably does not do what its author meant.
    Warning,
}

impl Severity {
    /// The name in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
        }
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// One fault of a file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ValidationError {
    /// The stable name of the kind of fault.
    pub code: DiagnosticCode,
    /// The severity of the fault.
    pub severity: Severity,
    /// A message for people.
    pub message: String,
    /// Path in the document, for example `workflow.transitions[1].to`; empty for the file as a
    /// whole.
    pub path: String,
    /// Line, from 1; null only when the file is empty.
    pub line: Option<usize>,
    /// Column in characters, from 1; null only when the file is empty.
    pub column: Option<usize>,
    /// The offending value, shortened where it is long.
    pub value: Option<Value>,
    /// The probable intention, or what to do.
    pub suggestion: Option<String>,
    /// Byte of the source at which the faulty part begins.
    #[serde(skip)]
    #[schemars(skip)]
    pub offset: usize,
    /// Bytes of the faulty part.
    #[serde(skip)]
    #[schemars(skip)]
    pub length: usize,
}

impl fmt::Display for ValidationError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let (Some(line), Some(column)) = (self.line, self.column) {
            write!(f, "{line}:{column}: ")?;
        }
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.message)?;
        match &self.suggestion {
            Some(suggestion) => write!(f, "; {suggestion}"),
            None => Ok(()),
        }
    }
}

/// The faults of a refused file, in file order; warnings are included.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub struct ParseError {
    /// All faults; at least one is an error.
    pub diagnostics: Vec<ValidationError>,
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut errors = self
            .diagnostics
            .iter()
            .filter(|d| d.severity == Severity::Error);
        match errors.next() {
            Some(first) => write!(f, "{first}")?,
            None => f.write_str("the workflow file is not valid")?,
        }
        match errors.count() {
            0 => Ok(()),
            more => write!(f, " (and {more} more)"),
        }
    }
}

/// The result of checking a file.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// The workflow, if there are no faults other than warnings.
    pub config: Option<WorkflowConfig>,
    /// Errors and warnings, in the order of the file.
    pub diagnostics: Vec<ValidationError>,
}

impl Report {
    /// Whether the file can be used.
    pub fn is_valid(&self) -> bool {
        self.config.is_some()
    }

    /// The workflow, or the faults.
    pub fn into_result(self) -> Result<WorkflowConfig, ParseError> {
        let Self {
            config,
            diagnostics,
        } = self;
        config.ok_or(ParseError { diagnostics })
    }
}

#[cfg(test)]
mod tests {
    use std::{
        collections::{BTreeMap, BTreeSet},
        fs,
        path::Path,
    };

    use super::*;

    /// Texts of the source files below a folder, by their path there without the ending.
    #[expect(clippy::disallowed_methods, reason = "reads the source")]
    fn files(folder: &Path, prefix: &str, found: &mut BTreeMap<String, String>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_stem().unwrap().to_str().unwrap();
            if path.is_dir() {
                files(&path, &format!("{prefix}{name}/"), found);
            } else {
                let text = fs::read_to_string(&path).unwrap();
                found.insert(format!("{prefix}{name}"), text);
            }
        }
    }

    #[test]
    fn the_table_says_which_file_reports_which_code() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/parser");
        let mut texts = BTreeMap::new();
        files(&folder, "", &mut texts);
        let report = texts.remove("report").unwrap();
        let rows: BTreeMap<&str, BTreeSet<&str>> = report
            .lines()
            .filter(|line| line.starts_with("//! | `"))
            .map(|row| {
                let mut names = row.split('`').skip(1).step_by(2);
                (names.next().unwrap(), names.collect())
            })
            .collect();
        assert_eq!(rows.len(), DiagnosticCode::ALL.len());
        for code in DiagnosticCode::ALL {
            let named = format!("Code::{code:?}");
            let reports = |text: &str| {
                let mut after = text.split(&named).skip(1);
                after.any(|rest| !rest.starts_with(char::is_alphanumeric))
            };
            let by: BTreeSet<&str> = texts
                .iter()
                .filter(|(_, text)| reports(text))
                .map(|(name, _)| name.as_str())
                .collect();
            assert_eq!(rows[code.as_str()], by, "{code}");
        }
    }
}
