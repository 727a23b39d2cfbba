//! A thread with a large stack for deep recursion.

use std::thread;

use super::ExpressionError;
use crate::limits::EXPRESSION_STACK_BYTES;

/// Runs `work` on a stack of [`EXPRESSION_STACK_BYTES`] and waits for it; a panic becomes an error.
pub(super) fn on_large_stack<T: Send>(
    work: impl FnOnce() -> T + Send,
) -> Result<T, ExpressionError> {
    let failed = |reason: &str| ExpressionError::Stack {
        reason: reason.to_owned(),
    };
    thread::scope(|scope| {
        thread::Builder::new()
            .name("expression".to_owned())
            .stack_size(EXPRESSION_STACK_BYTES)
            .spawn_scoped(scope, work)
            .map_err(|error| failed(&error.to_string()))?
            .join()
            .map_err(|_| failed("its thread panicked"))
    })
}
