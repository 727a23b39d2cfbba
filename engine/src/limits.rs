//! Every upper bound of the engine, with its unit and what happens beyond it.

use std::time::Duration;

/// Events between two snapshots of a task. Loading replays at most this many, plus one batch.
pub const SNAPSHOT_EVERY: u64 = 50;
/// Transitions one command may cause; beyond it the task gets the incident `transition_budget`.
pub const TRANSITIONS_PER_COMMAND_MAX: usize = 256;
/// Bytes of a workflow file; a larger one is refused before it is parsed.
pub const WORKFLOW_BYTES_MAX: usize = 1 << 20;
/// Nesting of a workflow file; a deeper one is refused before it is parsed.
pub const WORKFLOW_DEPTH_MAX: usize = 64;
/// Nodes of a workflow file after aliases are expanded; more are refused.
pub const WORKFLOW_NODES_MAX: usize = 50_000;
/// Steps of a workflow; more are refused at creation.
pub const STEPS_MAX: usize = 500;
/// Transitions of a workflow; more are refused at creation.
pub const TRANSITIONS_MAX: usize = 2_000;
/// Hooks that a step may have at one stage; more are refused at creation.
pub const HOOKS_MAX: usize = 8;
/// Timers that one move of a simulation fires; the rest stay pending.
pub const SIMULATION_TIMERS_MAX: usize = 10_000;
/// Points of the history of a goal or a question; beyond it they are further apart.
pub const HISTORY_POINTS_MAX: usize = 96;
/// Moves of a script for a dry run; more are refused.
pub const SCRIPT_MOVES_MAX: usize = 10_000;
/// Cases of a workflow that are played without a script; how many are left out is told.
pub const EXPLORED_CASES_MAX: usize = 150;
/// Tasks that a simulated crowd works on; more are refused.
pub const CROWD_TASKS_MAX: u32 = 2_000;
/// Annotators of a simulated crowd; more are refused.
pub const CROWD_PEOPLE_MAX: u32 = 1_000;
/// Annotators one visit may require (`count`, `max`); more are refused at creation.
pub const ANNOTATORS_MAX: u32 = 1_000;
/// Fields that one consensus block may compare one by one; more are refused at creation.
pub const FIELDS_MAX: usize = 100;
/// Groups of annotators that a workflow may name; more are refused at creation.
pub const ANNOTATOR_GROUPS_MAX: usize = 100;
/// How many of its first tasks a workflow learns from (`learn.first`) where it says nothing.
pub const LEARN_FIRST_DEFAULT: u32 = 0;
/// How many of its first tasks a workflow may learn from; more are refused at creation.
pub const LEARN_FIRST_MAX: u32 = 100_000;
/// Bytes of an answer where answers are categories. A step that completes by confidence rejects a
/// longer one as `invalid_annotation`; elsewhere annotator models ignore it.
pub const CLASS_BYTES_MAX: usize = 256;
/// Steps that comparing and uniting the answers of one decision may take, about a second of one core;
/// beyond it their agreement is undefined with that reason and the step ends without a value.
pub const ANSWER_STEPS_MAX: u64 = 1 << 28;
/// Time that the decisions of one batch may take under its locks; what is not decided by then is left
/// for the next batch. Far below the time after which the database ends an idle transaction.
pub const DECIDING_MAX: Duration = Duration::from_secs(1);
/// Time that one decision may take among others. One that takes longer is named as too slow before the
/// database ends the transaction as idle, which it does after ten seconds; alone, it is still tried.
pub const DECISION_MAX: Duration = Duration::from_secs(8);
/// Steps that reading one answer may take; beyond it the answer is `invalid_annotation`.
pub const ANSWER_READ_STEPS_MAX: u64 = 1 << 26;
/// Values that an answer may be chosen from (`values`); more are refused at creation.
pub const ANSWER_VALUES_MAX: usize = 1_000;
/// Corners of one polygon; more are `invalid_annotation`.
pub const POLYGON_POINTS_MAX: usize = 4_096;
/// Iterations one loop may allow; more are refused at creation.
pub const LOOP_ITERATIONS_MAX: u32 = 1_000;
/// Bytes of an expression, counted before it is compiled (the CEL parser recurses).
pub const EXPRESSION_BYTES_MAX: usize = 2_048;
/// Different expressions of one workflow file (compiling one takes a millisecond or more); more are
/// refused at creation.
pub const EXPRESSIONS_MAX: usize = 500;
/// Bytes of the different expressions of one workflow file together; more are refused at creation.
pub const EXPRESSIONS_BYTES_MAX: usize = 32 << 10;
/// Nested brackets of an expression, counted before it is compiled.
pub const EXPRESSION_DEPTH_MAX: usize = 32;
/// Stack of the thread that compiles and evaluates expressions, in bytes.
pub const EXPRESSION_STACK_BYTES: usize = 64 << 20;
/// Steps of one evaluation of an expression: parts evaluated, elements compared, 64 bytes of text read
/// or 16 copied. Beyond it the expression fails; all of them take about a tenth of a second.
pub const EXPRESSION_STEPS_MAX: usize = 1 << 21;
/// Elements that `exists` and `all` of one evaluation may visit, nested ones each time; beyond it the
/// expression fails.
pub const EXPRESSION_VISITS_MAX: usize = 10_000;
/// Bytes of a command's JSON; larger ones are refused `too_large`.
pub const COMMAND_BYTES_MAX: usize = 1 << 20;
/// Nesting of a command's JSON; deeper ones are refused `malformed`.
pub const COMMAND_DEPTH_MAX: usize = 64;
/// Labels of a task (key-value pairs for search); more are refused `malformed`.
pub const LABELS_MAX: usize = 64;
/// Bytes of a label's key or value; longer ones are refused `malformed`.
pub const LABEL_BYTES_MAX: usize = 256;
/// Bytes of a free text (reason); longer ones are refused `malformed`.
pub const TEXT_BYTES_MAX: usize = 4_096;
/// Roles of one annotation; more are refused `malformed`.
pub const ROLES_MAX: usize = 64;
/// How long a slot stays claimed without activity, unless the workflow file sets it.
pub const INACTIVITY_DEFAULT: Duration = Duration::from_hours(2);
/// The longest inactivity timeout that a workflow file may set.
pub const INACTIVITY_MAX: Duration = Duration::from_hours(8);
/// Delay before the second attempt at a call; each further delay is four times as long.
pub const RETRY_DELAY_FIRST: Duration = Duration::from_secs(1);
/// The longest delay between two attempts, whatever the number of attempts and even if the receiver
/// asks for a longer one.
pub const RETRY_DELAY_MAX: Duration = Duration::from_hours(1);
/// The longest that one attempt of a webhook may take.
pub const WEBHOOK_TIMEOUT_MAX: Duration = Duration::from_mins(1);
/// The longest timeout that a workflow file may set for a job; an unanswered job counts as failed.
pub const JOB_TIMEOUT_MAX: Duration = Duration::from_hours(30 * 24);
/// The longest timeout that a workflow file may set for a join.
pub const JOIN_TIMEOUT_MAX: Duration = Duration::from_hours(366 * 24);
/// Depth of sub-workflows, unless the workflow file sets it.
pub const SUB_WORKFLOW_DEPTH_DEFAULT: u32 = 5;
/// Rows of one page in any listing.
pub const PAGE_MAX: u32 = 1_000;
/// Events that a projection folds at once. A step costs about as much as folding some hundred of them.
pub const FOLDED_MAX: u32 = 5_000;

/// The most measurements in the window of a goal; beyond it the newest count.
pub const WINDOW_SAMPLES_MAX: usize = 1_000;

const _: () = assert!(INACTIVITY_DEFAULT.as_secs() <= INACTIVITY_MAX.as_secs());
const _: () = assert!(STEPS_MAX <= TRANSITIONS_MAX);
