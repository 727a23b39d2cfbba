//! What one evaluation may cost.

use crate::limits::{EXPRESSION_STEPS_MAX, EXPRESSION_VISITS_MAX};

/// Bytes of text that are read in one step, for example to look for another text.
const READ_IN_STEP: usize = 64;
/// Bytes of text that are copied or hashed in one step.
const COPIED_IN_STEP: usize = 16;

/// The steps and visits that an evaluation has left. Once it has run out of one of them everything
/// fails, so `… || true` cannot hide it.
pub(super) struct Budget {
    steps: usize,
    visits: usize,
    ran_out_of: Option<String>,
}

impl Budget {
    pub(super) fn new() -> Self {
        Self {
            steps: EXPRESSION_STEPS_MAX,
            visits: EXPRESSION_VISITS_MAX,
            ran_out_of: None,
        }
    }

    /// Takes as many steps: nodes evaluated, elements or keys compared.
    pub(super) fn spend(&mut self, steps: usize) -> Result<(), String> {
        match self.steps.checked_sub(steps) {
            Some(left) if self.ran_out_of.is_none() => {
                self.steps = left;
                Ok(())
            }
            Some(_) | None => Err(self.run_out(format!(
                "the expression takes more than {EXPRESSION_STEPS_MAX} steps on this task"
            ))),
        }
    }

    /// Takes the steps of reading a text.
    pub(super) fn read(&mut self, bytes: usize) -> Result<(), String> {
        self.spend(1 + bytes / READ_IN_STEP)
    }

    /// Takes the steps of copying a text.
    pub(super) fn copy(&mut self, bytes: usize) -> Result<(), String> {
        self.spend(1 + bytes / COPIED_IN_STEP)
    }

    /// Takes one visit of an element by `exists` or `all`.
    pub(super) fn visit(&mut self) -> Result<(), String> {
        match self.visits.checked_sub(1) {
            Some(left) => {
                self.visits = left;
                Ok(())
            }
            None => Err(self.run_out(format!(
                "`exists` and `all` of the expression visit more than {EXPRESSION_VISITS_MAX} elements"
            ))),
        }
    }

    /// Whether it has run out of something.
    pub(super) fn is_spent(&self) -> bool {
        self.ran_out_of.is_some()
    }

    fn run_out(&mut self, reason: String) -> String {
        self.ran_out_of.get_or_insert(reason).clone()
    }
}
