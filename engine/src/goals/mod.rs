//! When enough is enough: goals of a workflow, their progress, and what happens once they are met.
//!
//! Progress is folded from the log, so it can be made anew at any time and comes out the same:
//! [`GoalTracker`] counts, [`GoalEvaluator`] judges, and a [`CompletionAction`] says what is to
//! happen, once for each epoch of a goal.
//!
//! ```
//! use glyph_workflow_engine::{
//!     config::{CompletionActionConfig, GoalConfig, GoalType},
//!     goals::{GoalDefinition, GoalEvaluator, GoalTracker, GoalVerdict},
//!     ids::Slug,
//! };
//!
//! let workflow = Slug::new("sentiment-dual").unwrap();
//! let config = GoalConfig {
//!     id: Slug::new("volume").unwrap(),
//!     kind: GoalType::Volume,
//!     description: None,
//!     target: Some(2.0),
//!     unit: Some("tasks".to_owned()),
//!     deadline: None,
//!     window: None,
//!     on_complete: vec![CompletionActionConfig::Notify],
//! };
//! let goal = GoalDefinition::of(&workflow, &config).unwrap();
//! let now = "2026-01-01T00:00:00Z".parse().unwrap();
//! let mut tracker = GoalTracker::new(vec![goal.clone()], Vec::new());
//! tracker.open_missing();
//! tracker.count(&workflow, goal.unit, now);
//! tracker.count(&workflow, goal.unit, now);
//! let progress = tracker.finish();
//!
//! assert_eq!(progress.changed[0].current, 2.0);
//! assert_eq!(GoalEvaluator::new(now).judge(&goal, &progress.changed[0]), GoalVerdict::Met);
//! assert_eq!(progress.actions[0].action, CompletionActionConfig::Notify);
//! ```

mod completion;
mod definition;
mod evaluator;
mod tracker;

pub use completion::CompletionAction;
pub use definition::{GoalDefinition, VolumeUnit};
pub use evaluator::{GoalEvaluator, GoalVerdict};
pub use tracker::{GoalProgress, GoalTracker};
