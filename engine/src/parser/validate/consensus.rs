//! Checks how several annotations become one value.

use super::validator::Validator;
use crate::{
    config::{ConsensusConfig, DisagreementStrategy, Level, Metric},
    limits::FIELDS_MAX,
    parser::{fault::Spot, report::DiagnosticCode as Code, tree::Node},
};

impl Validator<'_, '_> {
    pub(super) fn consensus(&mut self, node: &Node, consensus: &ConsensusConfig) {
        if let Some(field) = node.get("field") {
            self.field(field);
        }
        let inherited =
            consensus.per_field.iter().flatten().any(|(_, own)| {
                own.level.is_none() && own.metric == Some(Metric::KrippendorffAlpha)
            });
        if !inherited {
            self.level(node, consensus.metric, consensus.level);
        }
        self.per_field(node, consensus);
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

    fn level(&mut self, node: &Node, metric: Metric, level: Level) {
        if level != Level::Nominal && metric != Metric::KrippendorffAlpha {
            let message = format!("`level` says nothing to the metric `{}`", metric.as_str());
            self.conflict(
                node,
                &message,
                "use `metric: krippendorff_alpha`, or remove `level`",
            );
        }
    }

    fn per_field(&mut self, node: &Node, consensus: &ConsensusConfig) {
        let fields = node.get("per_field").filter(|fields| !fields.broken);
        let Some((fields, entries)) = fields.and_then(|fields| Some((fields, fields.map()?)))
        else {
            if let Some(mode) = node.get("mode").filter(|_| node.get("per_field").is_none()) {
                let message = "`mode` says how the fields of `per_field` join, and there are none";
                self.faults
                    .add(Code::MisplacedKey, &mode.origin, message)
                    .at(Spot::Key)
                    .value_of(mode);
            }
            return;
        };
        if consensus.field.is_some() {
            let message = "`field` compares one value and `per_field` several";
            self.conflict(
                node,
                message,
                "name every field under `per_field`, or remove it",
            );
        }
        if entries.is_empty() || entries.len() > FIELDS_MAX {
            let message = format!(
                "`per_field` has {} fields; it may have from 1 to {FIELDS_MAX}",
                entries.len()
            );
            self.faults.add(Code::OutOfRange, &fields.origin, message);
        }
        for (name, field) in entries {
            self.path_of_keys(name, field, Spot::Key);
            let weight = field.get("weight").filter(|weight| !weight.broken);
            if let Some(weight) = weight
                && weight
                    .to_value()
                    .as_f64()
                    .is_some_and(|weight| weight <= 0.0)
            {
                let message = format!("the weight of `{name}` must be above 0");
                self.faults
                    .add(Code::OutOfRange, &weight.origin, message)
                    .value_of(weight);
            }
            let own = consensus.per_field.as_ref().and_then(|own| own.get(name));
            if let Some(level) = own.and_then(|own| own.level) {
                let metric = own.and_then(|own| own.metric).unwrap_or(consensus.metric);
                self.level(field, metric, level);
            }
        }
    }
}
