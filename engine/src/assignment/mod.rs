//! Who may do which step of which task.

mod eligibility;
mod strategy;

pub use eligibility::{Eligibility, check_roles, check_skills, reviews_own_work, submitted};
pub use strategy::{Offer, OfferPriority, is_for_gold, is_for_overdue, offer_order, probe_order};
