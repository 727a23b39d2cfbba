//! Handlers and their settings, for steps and hooks.

use super::validator::Validator;
use crate::{
    config::{
        BUILT_IN_HANDLERS, ConsensusConfig, DisagreementStrategy, ExternalHandler, Fallback,
        HookStage, InternalHandler, Performer, StepConfig, StepType, TieBreaker,
    },
    limits::{JOB_TIMEOUT_MAX, WEBHOOK_TIMEOUT_MAX},
    parser::{
        document,
        draft::{Goal, typed},
        fault::Spot,
        report::DiagnosticCode as Code,
        resolve::quoted,
        structure,
        tree::{Content, Node},
    },
};

impl Validator<'_, '_> {
    pub(super) fn hooks(&mut self, step: &Node, kind: StepType) {
        let Some(hooks) = step.get("hooks") else {
            return;
        };
        if !kind.spec().takes_hooks {
            let kind = kind.as_str();
            self.faults
                .add(
                    Code::MisplacedKey,
                    &hooks.origin,
                    format!("`hooks` do not go with the type `{kind}`, which does no work"),
                )
                .at(Spot::Key)
                .suggest("move them to the steps before or after it");
            return;
        }
        for stage in HookStage::ALL {
            let of_stage = hooks.get(stage.as_str()).and_then(Node::list);
            for hook in of_stage.unwrap_or_default() {
                self.hook(hook, stage);
            }
        }
    }

    fn hook(&mut self, hook: &Node, stage: HookStage) {
        let Some((node, name)) = hook.get("handler").and_then(|n| Some((n, n.as_str()?))) else {
            return;
        };
        let outside = ExternalHandler::from_name(name);
        let known = BUILT_IN_HANDLERS.contains(&name) || self.handlers.contains(&name);
        if known && !stage.blocks_step() && outside.is_none() {
            self.faults
                .add(
                    Code::InvalidValue,
                    &node.origin,
                    format!("`{name}` tells nobody: nothing becomes of what it makes here"),
                )
                .value(name)
                .suggest(format!(
                    "`{stage}` calls {}",
                    quoted(&ExternalHandler::ALL.map(ExternalHandler::as_str))
                ));
            return;
        }
        self.handler(hook, node);
        let Some(timeout) = hook.get("timeout") else {
            return;
        };
        if outside == Some(ExternalHandler::Queue) && stage.blocks_step() {
            self.duration(timeout, JOB_TIMEOUT_MAX, "a job may go unanswered for");
        } else {
            self.faults
                .add(
                    Code::MisplacedKey,
                    &timeout.origin,
                    "`timeout` is for jobs (`handler: queue`) that the step waits for",
                )
                .at(Spot::Key)
                .value_of(timeout)
                .suggest("an attempt at a webhook has its `timeout` in `config`");
        }
    }

    pub(super) fn handler(&mut self, step: &Node, node: &Node) {
        let Some(name) = node.as_str().filter(|_| !node.broken) else {
            return;
        };
        let known = || {
            let own = self.handlers.iter();
            let added = own.filter(|name| !BUILT_IN_HANDLERS.contains(name));
            BUILT_IN_HANDLERS.iter().chain(added).copied()
        };
        if !known().any(|handler| handler == name) {
            let near = self.suggester.nearest(name, known());
            self.faults
                .add(
                    Code::UnknownHandler,
                    &node.origin,
                    format!("there is no handler `{name}`"),
                )
                .value(name)
                .suggest(format!(
                    "known are {}",
                    quoted(&known().collect::<Vec<_>>())
                ))
                .did_you_mean(near);
            return;
        }
        // A program that replaces a built-in handler defines the settings itself.
        let Some(schema) =
            document::handler_schema(name).filter(|_| !self.handlers.contains(&name))
        else {
            return;
        };
        let nothing = || Node::new(step.origin.clone(), Content::Map([].into()));
        let mut config = step.get("config").cloned().unwrap_or_else(nothing);
        structure::check(&mut config, schema, self.suggester, self.faults);
        if config.broken {
            return;
        }
        match InternalHandler::from_name(name) {
            Some(InternalHandler::ConsensusCalculator) => self.calculator(&config),
            Some(InternalHandler::ResultMerger) => {
                for id in config.get("steps").and_then(Node::list).unwrap_or_default() {
                    self.draft.step(id, self.suggester, self.faults);
                }
            }
            Some(InternalHandler::Finalize) | None => {}
        }
        if name == ExternalHandler::Webhook.as_str() {
            self.webhook(&config);
        }
    }

    pub(super) fn webhook(&mut self, config: &Node) {
        if let Some(timeout) = config.get("timeout") {
            self.duration(timeout, WEBHOOK_TIMEOUT_MAX, "an attempt may take");
        }
        let Some(node) = config.get("url").filter(|url| !url.broken) else {
            return;
        };
        if let Some((text, why)) = node.as_str().and_then(|text| Some((text, no_url(text)?))) {
            self.faults
                .add(
                    Code::InvalidValue,
                    &node.origin,
                    format!("`{text}` cannot be called: {why}"),
                )
                .value(text)
                .suggest("write a URL as `https://example.org/path`");
        }
    }

    /// Warns about settings that would ask more people: a handler cannot.
    fn asks_nobody(&mut self, config: &Node, consensus: &ConsensusConfig) {
        let rule = &consensus.on_disagreement;
        let strategy = config
            .below(&["on_disagreement", "strategy"])
            .filter(|_| rule.strategy == DisagreementStrategy::AdditionalAnnotators);
        let tie_breaker = config
            .get("tie_breaker")
            .filter(|_| consensus.tie_breaker == TieBreaker::AdditionalAnnotator);
        let fallback = match rule.fallback {
            Some(Fallback::MajorityVote) => DisagreementStrategy::MajorityVote,
            Some(Fallback::WeightedVote) => DisagreementStrategy::WeightedVote,
            Some(Fallback::Escalate) => DisagreementStrategy::Escalate,
            None | Some(Fallback::Adjudication) => DisagreementStrategy::Adjudication,
        };
        let fallback = serde_json::to_value(fallback).unwrap_or_default();
        let fallback = fallback.as_str().unwrap_or_default();
        // Keys that go with the strategy alone.
        let superfluous: Vec<&str> = ["fallback", "max_additional"]
            .into_iter()
            .filter(|key| config.below(&["on_disagreement", key]).is_some())
            .collect();
        let instead = match superfluous.as_slice() {
            [] => format!("write `{fallback}`"),
            keys => format!("write `{fallback}` and remove {}", quoted(keys)),
        };
        for (node, like, how) in [
            (strategy, fallback, instead.as_str()),
            (tie_breaker, "adjudication", "write `adjudication`"),
        ] {
            let Some(node) = node else { continue };
            let message =
                format!("a `consensus_calculator` can ask nobody: this works like `{like}`");
            self.faults
                .add(Code::NoEffect, &node.origin, message)
                .value_of(node)
                .suggest(format!(
                    "{how}, or move the rule to the `consensus` of the annotation step"
                ));
        }
    }

    fn calculator(&mut self, config: &Node) {
        let mut block = config.clone();
        if let Some(entries) = block.map_mut() {
            entries.remove("step");
        }
        let consensus = typed::<ConsensusConfig>(&block, self.faults);
        if let Some(consensus) = &consensus {
            self.consensus(&block, consensus);
            self.asks_nobody(&block, consensus);
        }
        let Some(node) = config.get("step") else {
            return;
        };
        let Goal::Step(at) = self.draft.step(node, self.suggester, self.faults) else {
            return;
        };
        let judged = &self.draft.steps[at];
        if let (Some(compared), Some(consensus)) = (&judged.config, &consensus)
            && compared.kind.spec().performer == Performer::Annotators
        {
            self.question_compared_by(&block, consensus, compared);
        }
        if let (Some(StepConfig { kind, .. }), Some(id)) = (&judged.config, judged.id)
            && kind.spec().performer != Performer::Annotators
            && node.as_str() == Some(id)
        {
            let message = format!(
                "`{id}` is of type `{}`; agreement needs annotations",
                kind.as_str()
            );
            self.faults
                .add(Code::UnknownStep, &node.origin, message)
                .value(id);
        }
    }
}

/// Why a text is not a URL that a webhook can call. The worker checks whether its host may be
/// called, because it has the operator's list.
fn no_url(text: &str) -> Option<&'static str> {
    let rest = text
        .strip_prefix("https://")
        .or_else(|| text.strip_prefix("http://"));
    let Some(rest) = rest else {
        return Some("it must begin with `https://` or `http://`");
    };
    let place = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let name = match place.rsplit_once(':') {
        Some((name, port)) if !port.ends_with(']') => {
            if port.parse::<u16>().is_err() {
                return Some("its port is no number from 0 to 65535");
            }
            name
        }
        _ => place,
    };
    if place.contains('@') {
        Some("it holds a user name or password, which everybody who sees the workflow could read")
    } else if name.is_empty() {
        Some("it has no host")
    } else if text.contains(|c: char| c.is_whitespace() || c.is_control()) {
        Some("it holds a blank")
    } else {
        None
    }
}
