//! The built-in handlers.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Map, Value};

use super::{
    Handler, HandlerError, HandlerInput, HandlerOutput, HandlerRegistry,
    steps::{ComparedVisit, resolve},
    value::value_at,
};
use crate::{
    config::{ConsensusConfig, InternalHandler},
    ids::StepId,
    limits::COMMAND_BYTES_MAX,
    state::{ResultKind, StepResult, WorkflowSnapshot},
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
/// block; its `step` names the step, the subject step if omitted.
fn consensus_calculator(input: &HandlerInput<'_>) -> Result<HandlerOutput, HandlerError> {
    let mut config = input.config.clone();
    let named = config.as_object_mut().and_then(|keys| keys.remove("step"));
    let consensus: ConsensusConfig = if config.is_null() {
        ConsensusConfig::default()
    } else {
        serde_json::from_value(config).map_err(|error| HandlerError::Config {
            reason: error.to_string(),
        })?
    };
    let context = input.context;
    let (step, visit) = match named.as_ref().and_then(Value::as_str) {
        Some(step) => {
            let visited = context.state.steps.get(step);
            (
                context.workflow.step(step),
                visited.and_then(|s| s.last_completed()),
            )
        }
        None => (context.reviewed_step(), context.reviewed_visit()),
    };
    let (step, visit) = step.zip(visit).ok_or_else(|| HandlerError::Input {
        reason: "there is no completed step with annotations to compare".to_owned(),
    })?;
    if visit.annotations.is_empty() {
        return Err(HandlerError::Input {
            reason: "the step to compare has no annotations".to_owned(),
        });
    }
    let calculated = resolve(context, &consensus, ComparedVisit { step, visit }, false);
    Ok(HandlerOutput {
        kind: ResultKind::Consensus,
        value: calculated.value.clone(),
        agreement: calculated.agreement,
        resolved_by: calculated.resolved_by,
        consensus: Some(Box::new(calculated)),
    })
}

/// `config` of `result_merger`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MergerConfig {
    #[serde(default)]
    steps: Option<Vec<StepId>>,
}

/// `result_merger`: an object from step id to value, for the incoming steps or for `config.steps`.
fn result_merger(input: &HandlerInput<'_>) -> Result<HandlerOutput, HandlerError> {
    let config: MergerConfig = read_config(input.config, MergerConfig { steps: None })?;
    let context = input.context;
    let steps = config.steps.unwrap_or_else(|| {
        let leading = context.workflow.transitions.iter().filter(|transition| {
            transition
                .to
                .step()
                .is_some_and(|to| *to == context.step.id)
        });
        leading.map(|transition| transition.from.clone()).collect()
    });
    let (mut merged, mut bytes) = (Map::new(), 0);
    for step in &steps {
        let visited = context.state.steps.get(step);
        let Some(result) = visited.and_then(|s| s.last_completed()?.result.as_ref()) else {
            continue;
        };
        let value = result.value.as_ref().unwrap_or(&Value::Null);
        // Check the size before copying.
        bytes += value.to_string().len();
        if bytes > COMMAND_BYTES_MAX {
            let reason = format!("it would have more than {COMMAND_BYTES_MAX} bytes");
            return Err(HandlerError::Output { reason });
        }
        merged.insert(step.to_string(), value.clone());
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

/// `finalize`: the last value, or null; `config.fields` selects paths of it. As a hook, the value
/// its step has found.
fn finalize(input: &HandlerInput<'_>) -> Result<HandlerOutput, HandlerError> {
    let config: FinalizeConfig = read_config(input.config, FinalizeConfig { fields: None })?;
    let found = input.context.visit.found.as_ref();
    let found = found.map(|found| &found.result);
    let Some(last) = found.or_else(|| last_value(input.context.state)) else {
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

fn last_value(state: &WorkflowSnapshot) -> Option<&StepResult> {
    state
        .completed
        .iter()
        .rev()
        .filter_map(|completed| {
            state
                .visit(&completed.step_id, completed.visit)?
                .result
                .as_ref()
        })
        .find(|result| result.value.is_some())
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
