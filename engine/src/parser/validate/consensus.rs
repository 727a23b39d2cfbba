//! Checks how several annotations become one value.

use super::validator::Validator;
use crate::{
    config::{ConsensusConfig, DisagreementStrategy},
    parser::{fault::Spot, report::DiagnosticCode as Code, tree::Node},
};

impl Validator<'_, '_> {
    /// What is compared is checked with the step's question.
    pub(super) fn consensus(&mut self, node: &Node, consensus: &ConsensusConfig) {
        let asks_more =
            consensus.on_disagreement.strategy == DisagreementStrategy::AdditionalAnnotators;
        for key in ["max_additional", "fallback"] {
            if let Some(child) = node.below(&["on_disagreement", key]).filter(|_| !asks_more) {
                self.faults
                    .add(
                        Code::MisplacedKey,
                        &child.origin,
                        format!("`{key}` goes with the strategy `additional_annotators` only"),
                    )
                    .at(Spot::Key)
                    .value_of(child);
            }
        }
    }
}
