//! Who may do which step of which task.

mod eligibility;

pub use eligibility::{Eligibility, check_roles, judges_own_work, submitted};
