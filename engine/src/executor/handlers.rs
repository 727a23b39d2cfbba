//! The built-in handlers.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Map, Value};

use super::{
    ExecutionContext, Handler, HandlerError, HandlerInput, HandlerOutput, HandlerRegistry,
    steps::{ComparedVisit, Comparison, compare},
};
use crate::{
    answer::value_at,
    config::{ConsensusConfig, InternalHandler},
    ids::StepId,
    limits::COMMAND_BYTES_MAX,
    state::{ResultKind, StepVisit},
};

impl Default for HandlerRegistry {
    fn default() -> Self {
        Self::built_in()
    }
}

impl HandlerRegistry {
    /// `consensus_calculator`, `result_merger` and `finalize`.
    pub fn built_in() -> Self {
        let named = |handler: InternalHandler| (handler.as_str().to_owned(), built_in(handler));
        Self::of(InternalHandler::ALL.map(named))
    }
}

fn built_in(handler: InternalHandler) -> Arc<dyn Handler> {
    match handler {
        InternalHandler::ConsensusCalculator => Arc::new(consensus_calculator),
        InternalHandler::ResultMerger => Arc::new(result_merger),
        InternalHandler::Finalize => Arc::new(finalize),
    }
}

/// `consensus_calculator`: compares the annotations of another step. `config` is a `consensus`
/// block; its `step` names the step, the subject step if omitted. Only a visit that led here
/// counts: what an earlier round or a withdrawn branch said is gone.
fn consensus_calculator(input: &HandlerInput<'_>) -> Result<HandlerOutput, HandlerError> {
    let config = ConsensusConfig::of_calculator(input.config);
    let (named, consensus) = config.map_err(|error| HandlerError::Config {
        reason: error.to_string(),
    })?;
    let context = input.context;
    let arrived = match named.as_deref() {
        Some(named) => arrived(context).find(|at| at.step_id == *named),
        None => context.visit.reviewed.clone(),
    };
    let Some(at) = arrived else {
        if named.is_some_and(|named| context.workflow.step(&named).is_some()) {
            // On this way nobody was asked, so there is nothing to say about agreement.
            return Ok(HandlerOutput {
                kind: ResultKind::Consensus,
                resolved_by: None,
                ..HandlerOutput::value(Value::Null)
            });
        }
        return Err(HandlerError::Input {
            reason: "there is no completed step with annotations to compare".to_owned(),
        });
    };
    let step = context.workflow.step(&at.step_id);
    let visit = context.state.visit(&at.step_id, at.visit);
    let (step, visit) = step.zip(visit).ok_or_else(|| HandlerError::Input {
        reason: format!("the workflow has no step `{}`", at.step_id),
    })?;
    if visit.annotations.is_empty() {
        return Err(HandlerError::Input {
            reason: format!("step `{}` has no annotations to compare", step.id),
        });
    }
    let question =
        step.question_compared_by(&consensus)
            .map_err(|faults| HandlerError::Config {
                reason: faults.first().map_or_else(String::new, ToString::to_string),
            })?;
    let compared = ComparedVisit {
        step,
        visit,
        question: &question,
    };
    let Comparison {
        calculated,
        agreed,
        disputed,
    } = compare(context, &consensus, compared, false);
    Ok(HandlerOutput {
        agreed,
        disputed,
        kind: ResultKind::Consensus,
        value: calculated.value.clone(),
        agreement: calculated.agreement,
        resolved_by: calculated.resolved_by,
        consensus: Some(Box::new(calculated)),
    })
}

/// The visits that led to the current one, nearest first. For a hook, its own visit as well.
fn arrived(context: &ExecutionContext<'_>) -> impl Iterator<Item = StepVisit> {
    let own = context.visit.found.is_some().then(|| StepVisit {
        step_id: context.step.id.clone(),
        visit: context.visit.number,
    });
    let before = context.state.lineage(&context.step.id, context.visit);
    own.into_iter().chain(before)
}

/// `config` of `result_merger`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MergerConfig {
    #[serde(default)]
    steps: Option<Vec<StepId>>,
}

/// `result_merger`: an object from step id to value, for the steps whose branches have arrived, or
/// for `config.steps`. Only visits that led here count.
fn result_merger(input: &HandlerInput<'_>) -> Result<HandlerOutput, HandlerError> {
    let config: MergerConfig = read_config(input.config, MergerConfig { steps: None })?;
    let context = input.context;
    let visits: Vec<StepVisit> = match config.steps {
        None => context.state.visits_before(&context.step.id, context.visit),
        Some(steps) => {
            let mut nearest: Vec<StepVisit> = Vec::new();
            for at in arrived(context) {
                let known = nearest.iter().any(|known| known.step_id == at.step_id);
                if steps.contains(&at.step_id) && !known {
                    nearest.push(at);
                }
            }
            nearest
        }
    };
    let (mut merged, mut bytes) = (Map::new(), 0);
    for at in &visits {
        let visit = context.state.visit(&at.step_id, at.visit);
        let Some(result) = visit.and_then(|visit| visit.result.as_ref()) else {
            continue;
        };
        let value = result.value.as_ref().unwrap_or(&Value::Null);
        // Check the size before copying.
        bytes += value.to_string().len();
        if bytes > COMMAND_BYTES_MAX {
            let reason = format!("it would have more than {COMMAND_BYTES_MAX} bytes");
            return Err(HandlerError::Output { reason });
        }
        merged.insert(at.step_id.to_string(), value.clone());
    }
    Ok(HandlerOutput::value(Value::Object(merged)))
}

/// `config` of `finalize`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FinalizeConfig {
    #[serde(default)]
    fields: Option<Vec<String>>,
}

/// `finalize`: the last value, or null where there is none or a review has refused it; `config.fields` selects paths of it. As a hook, the value
/// its step has found.
fn finalize(input: &HandlerInput<'_>) -> Result<HandlerOutput, HandlerError> {
    let config: FinalizeConfig = read_config(input.config, FinalizeConfig { fields: None })?;
    let found = input.context.visit.found.as_ref();
    let found = found.map(|found| &found.result);
    let last = || input.context.state.last_value().map(|(_, result)| result);
    let Some(last) = found.or_else(last) else {
        return Ok(HandlerOutput::value(Value::Null));
    };
    let value = last.value.clone().unwrap_or_default();
    let value = match config.fields {
        None => value,
        Some(fields) => Value::Object(
            fields
                .into_iter()
                .map(|field| {
                    // A value by fields has their paths as keys.
                    let picked = value.get(&field).or_else(|| value_at(&value, Some(&field)));
                    let picked = picked.cloned().unwrap_or_default();
                    (field, picked)
                })
                .collect(),
        ),
    };
    // It passes on the value of another step, so that step stays the one that resolved it.
    Ok(HandlerOutput {
        resolved_by: last.resolved_by,
        ..HandlerOutput::value(value)
    })
}

fn read_config<T: serde::de::DeserializeOwned>(
    config: &Value,
    absent: T,
) -> Result<T, HandlerError> {
    if config.is_null() {
        return Ok(absent);
    }
    serde_json::from_value(config.clone()).map_err(|error| HandlerError::Config {
        reason: error.to_string(),
    })
}
