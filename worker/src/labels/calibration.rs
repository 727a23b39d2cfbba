//! Calibration: how often answers of a stated probability are right.

use glyph_workflow_engine::{
    consensus::{CONFIDENCE_DEFAULT, wilson_interval},
    ids::{StepId, WorkflowId},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Groups of stated probability: tenths.
const BINS: usize = 10;

/// Answers by the probability that the step gave them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CalibrationCounts([BinCounts; BINS]);

#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
struct BinCounts {
    answers: u64,
    right: u64,
    /// Sum of the stated probabilities.
    stated: f64,
}

impl CalibrationCounts {
    /// Adds an answer with its stated probability.
    pub fn add(&mut self, stated: f64, right: bool) {
        let upper = |bin: &usize| stated < (*bin + 1) as f64 / BINS as f64;
        let bin = (0..BINS).find(upper).unwrap_or(BINS - 1);
        let bin = &mut self.0[bin];
        bin.answers += 1;
        bin.right += u64::from(right);
        bin.stated += stated;
    }
}

/// What answers are compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CalibratedAgainst {
    /// The known answers of gold tasks.
    Gold,
    /// What all people say of audited tasks, those included who were asked after the answer was
    /// sure. It can be wrong as well.
    Audit,
}

/// How often the answers of a step are right.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StepCalibration {
    /// The workflow.
    pub workflow: WorkflowId,
    /// The step.
    pub step_id: StepId,
    /// What the answers are compared with.
    pub against: CalibratedAgainst,
    /// Completed tasks with an answer that was compared.
    pub answers: u64,
    /// Those whose answer is right, that is the same.
    pub right: u64,
    /// The mean of the stated probabilities; null without answers.
    pub mean_confidence: Option<f64>,
    /// The mean distance between stated probability and share of right answers, over the bins;
    /// null without answers.
    pub expected_calibration_error: Option<f64>,
    /// Ten bins of stated probability, lowest first.
    pub bins: Vec<CalibrationBin>,
}

/// The answers with a stated probability in one tenth.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CalibrationBin {
    /// Lower end of the stated probability.
    pub from: f64,
    /// Upper end; it belongs to the next bin, except 1.
    pub to: f64,
    /// Answers.
    pub answers: u64,
    /// Right ones.
    pub right: u64,
    /// The mean of the stated probabilities; null without answers.
    pub mean_confidence: Option<f64>,
    /// Share of right answers; null without answers.
    pub share: Option<f64>,
    /// Lower end of the 95 % interval of the share (Wilson).
    pub low: Option<f64>,
    /// Upper end of the 95 % interval of the share (Wilson).
    pub high: Option<f64>,
}

impl StepCalibration {
    /// The report of a step.
    pub fn of(
        (workflow, step_id): (WorkflowId, StepId),
        against: CalibratedAgainst,
        counts: &CalibrationCounts,
    ) -> Self {
        let bins: Vec<CalibrationBin> = (0_u32..).zip(&counts.0).map(bin).collect();
        let answers: u64 = bins.iter().map(|bin| bin.answers).sum();
        let mean = |sum: f64| (answers > 0).then(|| sum / answers as f64);
        let distance = |bin: &BinCounts| (bin.stated - bin.right as f64).abs();
        Self {
            workflow,
            step_id,
            against,
            answers,
            right: bins.iter().map(|bin| bin.right).sum(),
            mean_confidence: mean(counts.0.iter().map(|bin| bin.stated).sum()),
            expected_calibration_error: mean(counts.0.iter().map(distance).sum()),
            bins,
        }
    }
}

fn bin((at, counts): (u32, &BinCounts)) -> CalibrationBin {
    let edge = |at: u32| f64::from(at) / BINS as f64;
    let share = |sum: f64| (counts.answers > 0).then(|| sum / counts.answers as f64);
    let whole = |count: u64| usize::try_from(count).unwrap_or(usize::MAX);
    let (right, answers) = (whole(counts.right), whole(counts.answers));
    let interval = wilson_interval(right, answers, CONFIDENCE_DEFAULT).ok();
    CalibrationBin {
        from: edge(at),
        to: edge(at + 1),
        answers: counts.answers,
        right: counts.right,
        mean_confidence: share(counts.stated),
        share: share(counts.right as f64),
        low: interval.map(|bounds| bounds.lower),
        high: interval.map(|bounds| bounds.upper),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(counts: &CalibrationCounts) -> StepCalibration {
        let slug = |name| WorkflowId::new(name).unwrap();
        StepCalibration::of((slug("w"), slug("s")), CalibratedAgainst::Gold, counts)
    }

    #[test]
    fn answers_are_counted_in_the_bin_of_their_probability() {
        let mut counts = CalibrationCounts::default();
        for (stated, right) in [
            (0.0, false),
            (0.9, true),
            (0.95, false),
            (1.0, true),
            (0.3, false),
        ] {
            counts.add(stated, right);
        }
        let report = report(&counts);
        let answers: Vec<u64> = report.bins.iter().map(|bin| bin.answers).collect();
        assert_eq!(answers, [1, 0, 0, 1, 0, 0, 0, 0, 0, 3]);
        assert_eq!((report.answers, report.right), (5, 2));
        // (0 + 0.3 + |2.85 - 2|) / 5
        let error = report.expected_calibration_error.unwrap();
        assert!((error - 0.23).abs() < 1e-12, "{error}");
        assert_eq!(report.bins[1].share, None);
    }

    #[test]
    fn nothing_is_said_of_nothing() {
        let report = report(&CalibrationCounts::default());
        assert_eq!(report.expected_calibration_error, None);
        assert_eq!(report.bins.len(), BINS);
    }
}
