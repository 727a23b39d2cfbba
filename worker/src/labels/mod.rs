//! Labels: what tasks were completed with, by whom, and what is known of it now.
//!
//! A label is the answer of one step of one completed task. [`LabelReader`] reads them page by
//! page, so that any number of tasks takes the same memory. Where a model of the annotators knows
//! the answer, it is asked again: [`Suspects`] collects the answers that are most likely wrong, and
//! [`Revisions`] those that would be other ones now. Looking back never changes a task.

mod calibration;
mod csv;
mod label;
mod lines;
mod posterior;
mod reader;
mod revisions;
mod suspects;

pub use calibration::{CalibratedAgainst, CalibrationBin, CalibrationCounts, StepCalibration};
pub use csv::{COLUMNS, write_csv_header, write_csv_row};
pub use label::{FieldNow, GoldAnswer, Label, LabelVote, ResultOf};
pub use lines::{LabelLines, LinesFormat};
pub use reader::{LabelFilter, LabelPage, LabelReader};
pub use revisions::{Revisions, revisions_of};
pub use suspects::{Suspect, Suspects};

pub(crate) use label::{Revision, probability_at_completion};
pub(crate) use reader::newest_revision;
