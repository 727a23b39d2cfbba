//! `glyph workflow trial`: a made-up crowd works on a workflow.

use std::{fmt::Write as _, path::Path};

use clap::Args;
use glyph_workflow_engine::{
    WorkflowConfig, backtest::read_setting, config::StepLibrary, simulation::Crowd,
};

use super::{
    CliError, Output,
    api::Call,
    deployment::ask,
    diagnostics::workflow_of,
    output::{Table, grouped, percent},
    visualize::is_file,
};
use crate::{
    operations::{
        trial::{Trial, TrialRequest, children_of, trial},
        workflows::resolve_one,
    },
    settings::Settings,
};

pub(super) const HELP: &str = "\
Each made-up task has a true answer, which people find as often as they are said to; what they say
otherwise is drawn from the other plausible answers. Everything else goes as a worker would decide it,
and models of annotators learn from task to task. The same numbers always give the same trial.

  glyph workflow trial examples/sentiment-dual.yaml --people 5 --accuracy 0.8
  glyph workflow trial sentiment --accuracy 0.8 --set completion.count=3 --set consensus.threshold=0.6

It says how many labels tasks take and where they end, and is no forecast of what your people do:
`glyph backtest` decides what they did.";

/// Who works, and on what.
#[derive(Clone, Debug, Args)]
pub struct TrialArgs {
    /// YAML file (`-` for standard input), workflow id, id@revision or revision UUID
    workflow: String,
    /// Tasks
    #[arg(long, value_name = "N", default_value_t = Crowd::default().tasks)]
    tasks: u32,
    /// Annotators
    #[arg(long, value_name = "N", default_value_t = Crowd::default().people)]
    people: u32,
    /// How often an annotator is right, from 0 to 1: the mean over annotators
    #[arg(long, value_name = "SHARE", default_value_t = Crowd::default().accuracy)]
    accuracy: f64,
    /// How far the best and the worst annotator are from the mean
    #[arg(long, value_name = "SHARE", default_value_t = Crowd::default().spread)]
    spread: f64,
    /// Share of hard tasks, on which annotators only guess
    #[arg(long, value_name = "SHARE", default_value_t = Crowd::default().hard)]
    hard: f64,
    /// How often reviewers and adjudicators are right
    #[arg(long, value_name = "SHARE", default_value_t = Crowd::default().expert_accuracy)]
    expert_accuracy: f64,
    /// Another number draws other answers
    #[arg(long, value_name = "N", default_value_t = Crowd::default().seed)]
    seed: u64,
    /// Setting to change; the value is YAML, and null takes the setting out. May be repeated
    #[arg(long = "set", value_name = "PATH=VALUE")]
    set: Vec<String>,
}

pub(super) async fn run(
    args: TrialArgs,
    settings: &Settings,
    output: Output,
) -> Result<(), CliError> {
    let set = args.set.iter().map(|text| read_setting(text));
    let set = set.collect::<Result<_, _>>();
    let set = set.map_err(|error| CliError::Usage(format!("--set {error}")))?;
    let request = TrialRequest {
        crowd: Crowd {
            tasks: args.tasks,
            people: args.people,
            accuracy: args.accuracy,
            spread: args.spread,
            hard: args.hard,
            expert_accuracy: args.expert_accuracy,
            seed: args.seed,
        },
        set,
    };
    let named = &args.workflow;
    let tried: Trial = if is_file(named) {
        let workflow = workflow_of(Path::new(named), output)?;
        tried(workflow, Vec::new(), request).await?
    } else {
        let call = Call::post(&[&"workflows", named, &"trial"]).json(&request);
        ask(settings, call, async |store| {
            let workflow = resolve_one(&**store, named).await?;
            let workflow = workflow.ok_or_else(|| CliError::not_found("workflow", named))?;
            let children = children_of(&**store, &workflow).await?;
            tried(workflow, children, request).await
        })
        .await?
    };
    output.result(&tried, || text(&tried));
    Ok(())
}

async fn tried(
    workflow: WorkflowConfig,
    children: Vec<WorkflowConfig>,
    request: TrialRequest,
) -> Result<Trial, CliError> {
    let rules = (&StepLibrary::built_in(), &[] as &[&str]);
    let tried = trial(workflow, children, request, rules, None).await;
    tried.map_err(|failure| CliError::failed("trial", failure.to_string()))
}

fn text(trial: &Trial) -> String {
    let report = &trial.report;
    let tasks = f64::from(report.tasks.max(1));
    let share = |count: u32| percent(f64::from(count) / tasks);
    #[expect(clippy::cast_precision_loss, reason = "labels of some thousand tasks")]
    let each = report.labels as f64 / tasks;
    let mut text = format!(
        "{}@{}: {} tasks, {} labels ({each:.2} a task), {} decisions of reviewers and adjudicators\n\n",
        trial.workflow,
        trial.revision,
        grouped(report.tasks.into()),
        grouped(report.labels),
        grouped(report.decisions),
    );
    let mut facts = Table::plain();
    facts.row(["right", &share(report.right)]);
    facts.row(["wrong", &share(report.wrong)]);
    facts.row(["without a value", &share(report.without_value)]);
    if report.by_machine > 0 {
        facts.row(["made up by a machine", &share(report.by_machine)]);
    }
    let _ = writeln!(text, "{}\n", facts.render(0));
    let mut ends = Table::new(&["end", "tasks", "right", "by", "step", "because"]);
    for end in &report.ends {
        ends.row([
            end.status.as_str().to_owned(),
            end.tasks.to_string(),
            end.right.to_string(),
            end.resolved_by.clone().unwrap_or_default(),
            end.step.clone().unwrap_or_default(),
            end.reason.clone().unwrap_or_default(),
        ]);
    }
    let _ = writeln!(text, "{}\n", ends.render(0));
    let mut steps = Table::new(&[
        "step",
        "tasks",
        "visits",
        "submissions",
        "compared",
        "agreed",
    ]);
    for step in &report.steps {
        steps.row([
            step.step_id.clone(),
            step.tasks.to_string(),
            step.visits.to_string(),
            step.submissions.to_string(),
            step.compared.to_string(),
            step.agreed.to_string(),
        ]);
    }
    text.push_str(&steps.render(0));
    for (title, lines) in [
        ("Made up:", &report.made_up),
        ("Not played:", &report.not_played),
        ("Refused:", &report.refused),
    ] {
        if !lines.is_empty() {
            let _ = write!(text, "\n\n{title}");
        }
        for line in lines {
            let _ = write!(text, "\n- {line}");
        }
    }
    text
}
