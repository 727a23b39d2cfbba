//! What a goal that measures asks of its window, whichever kind it is.

use chrono::{DateTime, Utc};

use super::{GoalProgress, QualityWindow, Window};

impl GoalProgress {
    /// The number of measurements; `None` for goals that count.
    pub fn samples(&self) -> Option<usize> {
        let quality = self.quality.as_ref().map(QualityWindow::samples);
        quality.or_else(|| self.window.as_ref().map(Window::samples))
    }

    /// Since when the target has been met; `None` if it is not, and for goals that count.
    pub fn holds_since(&self) -> Option<DateTime<Utc>> {
        let quality = self.quality.as_ref().and_then(QualityWindow::holds_since);
        quality.or_else(|| self.window.as_ref().and_then(Window::holds_since))
    }

    /// The measured value, in the unit of the target.
    pub(super) fn measured(&self) -> Option<f64> {
        let quality = self.quality.as_ref().and_then(QualityWindow::value);
        quality.or_else(|| self.window.as_ref()?.value(self.config.percentile))
    }

    /// When the target will have been met for long enough, if nothing changes before.
    pub(super) fn sustained_at(&self) -> Option<DateTime<Utc>> {
        let quality = self.quality.as_ref();
        let sustained = quality.and_then(|window| window.sustained_at(&self.config));
        sustained.or_else(|| self.window.as_ref()?.sustained_at(&self.config))
    }

    /// When the oldest measurement leaves the window.
    pub(super) fn leaves_at(&self) -> Option<DateTime<Utc>> {
        let quality = self.quality.as_ref();
        let leaves = quality.and_then(|window| window.leaves_at(&self.config));
        leaves.or_else(|| self.window.as_ref()?.leaves_at(&self.config))
    }

    /// Removes the oldest measurement at the time it leaves the window.
    pub(super) fn leave(&mut self, at: DateTime<Utc>) {
        if let Some(window) = &mut self.quality {
            window.leave(&self.config, at);
        } else if let Some(window) = &mut self.window {
            window.leave(&self.config, at);
        }
    }

    /// Records since when the target has been met, once the definition has changed.
    pub(super) fn evaluate(&mut self, at: DateTime<Utc>) {
        if let Some(window) = &mut self.quality {
            window.evaluate(&self.config, at);
        }
        if let Some(window) = &mut self.window {
            window.evaluate(&self.config, at);
        }
    }

    /// Whether the value is beyond the bound of its alert; `None` with too few measurements.
    pub(super) fn alarms(&self) -> Option<bool> {
        let quality = self.quality.as_ref();
        let alarms = quality.and_then(|window| window.alarms(&self.config));
        alarms.or_else(|| self.window.as_ref()?.alarms(&self.config))
    }

    /// Whether the value is back at the target; `None` with too few measurements.
    pub(super) fn is_at_target(&self) -> Option<bool> {
        let quality = self.quality.as_ref();
        let back = quality.and_then(|window| window.is_at_target(&self.config));
        back.or_else(|| self.window.as_ref()?.meets(&self.config))
    }
}
