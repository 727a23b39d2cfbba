//! Goals of a workflow: their progress, and what happens once they are met.
//!
//! Progress is folded from the log, so it can be rebuilt at any time with the same result.
//! [`GoalTracker`] folds the events, [`GoalEvaluator`] gives the verdicts, and a
//! [`CompletionAction`] names what to do, once for each epoch of a goal.
//!
//! ```
//! use glyph_workflow_engine::{
//!     config::{CompletionActionConfig, GoalConfig, GoalType},
//!     goals::{GoalDefinition, GoalTracker, GoalVerdict},
//!     ids::Slug,
//!     store::ProjectionRows,
//! };
//!
//! let mut config = GoalConfig::new(Slug::new("accepted").unwrap(), GoalType::Deadline);
//! config.target = Some(800.0);
//! config.deadline = Some("2026-01-31T00:00:00Z".parse().unwrap());
//! let definition = GoalDefinition {
//!     workflow: Slug::new("sentiment-dual").unwrap(),
//!     revision: 1,
//!     since: "2026-01-01T00:00:00Z".parse().unwrap(),
//!     config,
//! };
//! let mut tracker = GoalTracker::resume(ProjectionRows::new(), vec![definition], vec![]).unwrap();
//! let now = "2026-02-01T00:00:00Z".parse().unwrap();
//! tracker.advance(now);
//! let step = tracker.finish().unwrap();
//! let goal = step.goals.values().next().unwrap();
//!
//! assert_eq!(goal.verdict(now), GoalVerdict::Missed);
//! assert_eq!(goal.missed_at, goal.config.deadline);
//! ```

mod completion;
mod definition;
mod forecast;
mod measurements;
mod progress;
mod quality;
mod statement;
mod tracker;
mod window;

pub use completion::{CompletionAction, CompletionRefusal, GoalAlert};
pub use definition::GoalDefinition;
pub use forecast::{Forecast, ForecastBasis, Recent};
pub use progress::{AlertState, GoalEvaluator, GoalProgress, GoalVerdict, Goals};
pub use quality::QualityWindow;
pub use statement::{GoalCompletion, GoalStatement};
pub use tracker::{GoalEffect, GoalFold, GoalTracker, goals_of};
pub use window::{WINDOW_SAMPLES_MAX, Window};
