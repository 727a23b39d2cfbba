//! `glyph workflow`: validate, create, list, show, yaml, diff, visualize, dry-run, trial, flow, pause, resume,
//! archive and restore.

use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};
use clap::{Args, Subcommand};
use glyph_workflow_engine::{
    WorkflowConfig,
    ids::{CommandId, Slug},
    parser::{Report, yaml_of},
    store::WorkflowPause,
};
use reqwest::StatusCode;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    CliError, Output, account, answers,
    api::Call,
    connect::orchestrator,
    deployment::{Deployment, ask},
    diagnostics::{check, errors_of, read, render, workflow_of},
    dry_run, expanded,
    output::{Table, grouped, time},
    submit::applied,
    trial::{self, TrialArgs},
    visualize::{self, Drawing, is_file, stored, stored_document},
};
use crate::{
    operations::workflows::{
        FlowDocument, ListedWorkflow, WorkflowDiff, WorkflowDocument, WorkflowList, file_of,
    },
    projections::flow::{Flow, flow_of},
    settings::Settings,
    wire::{OperatorRequest, PauseVerb, read_operator_command},
};

/// Verbs on workflows.
#[derive(Clone, Debug, Subcommand)]
pub enum WorkflowVerb {
    /// Check a file and report every error; needs no service
    Validate {
        /// YAML file, or `-` for standard input
        file: PathBuf,
    },
    /// Validate a file and store it as a new revision
    Create {
        /// YAML file, or `-` for standard input
        file: PathBuf,
    },
    /// List all revisions, except those of archived workflows
    List {
        /// Only this workflow, archived or not
        #[arg(long, short, value_name = "ID")]
        workflow: Option<Slug>,
        /// Include archived workflows
        #[arg(long)]
        archived: bool,
    },
    /// Show one revision, with templates and library steps resolved
    Show {
        /// Workflow id, id@revision or revision UUID; with --expanded also a YAML file
        workflow: String,
        /// Show every value and its source: the file, a template, a library step or a default
        #[arg(long)]
        expanded: bool,
    },
    /// Show one revision as a YAML file, with templates and library steps written out; storing it again
    /// gives the same revision
    Yaml {
        /// Workflow id, id@revision or revision UUID; or a YAML file, which needs no service
        workflow: String,
    },
    /// Show how one revision differs from another, value by value
    Diff {
        /// Workflow id, id@revision or revision UUID; or a YAML file, which needs no service
        from: String,
        /// The other
        to: String,
    },
    /// Show what each step asks people for, as JSON Schemas of `annotation.data`; a file needs no
    /// service
    Answers {
        /// YAML file (`-` for standard input), workflow id, id@revision or revision UUID
        workflow: String,
    },
    /// Draw a workflow; a file needs no service
    Visualize {
        /// YAML file (`-` for standard input), workflow id, id@revision or revision UUID
        workflow: String,
        /// Drawing format
        #[arg(long, value_enum, default_value_t)]
        format: Drawing,
    },
    /// Simulate a workflow file, by a script or in its telling cases; needs no service
    #[command(after_help = dry_run::HELP)]
    DryRun {
        /// YAML file, or `-` for standard input
        file: PathBuf,
        /// YAML file of the script
        #[arg(long, value_name = "SCRIPT", required_unless_present = "explore")]
        script: Option<PathBuf>,
        /// Play the telling cases and print how each ends; a script then only says the circumstances
        #[arg(long)]
        explore: bool,
    },
    /// Let made-up people, who err as often as you say, work on made-up tasks; a file needs no service
    #[command(after_help = trial::HELP)]
    Trial(TrialArgs),
    /// Show how many tasks went from step to step in the last hour and day
    Flow {
        /// Workflow id
        workflow: Slug,
    },
    /// Pause all tasks of a workflow, in all its revisions
    Pause {
        #[command(flatten)]
        operator_command: OperatorArgs,
        /// When the pause ends by itself, as an RFC 3339 time
        #[arg(long, value_name = "TIME")]
        until: Option<String>,
    },
    /// Resume all tasks of a workflow
    Resume(OperatorArgs),
    /// Archive a workflow: pause its tasks until it is restored, and leave it out of lists
    Archive(OperatorArgs),
    /// Restore an archived workflow and resume its tasks
    Restore(OperatorArgs),
}

/// The workflow, the reason, and the id of the operator command.
#[derive(Clone, Debug, Args)]
pub struct OperatorArgs {
    /// Workflow id
    workflow: Slug,
    /// Reason
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Id of the command; repeating an id has no effect [default: a new UUID]
    #[arg(long, value_name = "UUID")]
    command_id: Option<Uuid>,
}

pub(super) async fn run(
    verb: WorkflowVerb,
    settings: &Settings,
    output: Output,
) -> Result<(), CliError> {
    match verb {
        WorkflowVerb::Validate { file } => validate(&file, output),
        WorkflowVerb::DryRun {
            file,
            script: Some(script),
            explore: false,
        } => dry_run::run(&file, &script, output),
        WorkflowVerb::DryRun { file, script, .. } => {
            dry_run::explore(&file, script.as_deref(), output)
        }
        WorkflowVerb::Trial(args) => trial::run(args, settings, output).await,
        WorkflowVerb::Flow { workflow } => {
            let call = Call::get(&[&"workflows", &workflow, &"flow"]);
            let document: FlowDocument = ask(settings, call, async |store| {
                if store.load_by_name(&workflow).await?.is_none() {
                    return Err(CliError::not_found("workflow", workflow));
                }
                let flow = flow_of(&**store, &workflow, Utc::now()).await?;
                Ok(FlowDocument { workflow, flow })
            })
            .await?;
            output.result(&document, || flow_text(&document.flow));
            Ok(())
        }
        WorkflowVerb::Create { file } => create(&file, settings, output).await,
        WorkflowVerb::List { workflow, archived } => {
            let workflow = workflow.as_ref();
            let call = Call::get(&[&"workflows"])
                .query("workflow", workflow)
                .query("archived", Some(archived));
            let list: WorkflowList = ask(settings, call, async |store| {
                let workflows = ListedWorkflow::list(&**store, workflow, archived).await?;
                Ok(WorkflowList { workflows })
            })
            .await?;
            output.result(&list, || list_text(&list.workflows));
            Ok(())
        }
        WorkflowVerb::Show {
            workflow,
            expanded: true,
        } => expanded::run(&workflow, settings, output).await,
        WorkflowVerb::Yaml { workflow } => {
            let config = revision(&workflow, settings, output).await?;
            let yaml = yaml_of(&file_of(&config));
            let document = json!({
                "workflow": config.id, "revision": config.revision, "yaml": yaml,
            });
            output.result(&document, || yaml);
            Ok(())
        }
        WorkflowVerb::Diff { from, to } => {
            let from = revision(&from, settings, output).await?;
            let to = revision(&to, settings, output).await?;
            let diff = WorkflowDiff::of(&from, &to, |_| {});
            output.result(&diff, || diff_text(&diff));
            Ok(())
        }
        WorkflowVerb::Answers { workflow } => answers::run(&workflow, settings, output).await,
        WorkflowVerb::Visualize { workflow, format } => {
            visualize::run(&workflow, format, settings, output).await
        }
        WorkflowVerb::Show {
            workflow,
            expanded: false,
        } => {
            let document = stored_document(&workflow, settings).await?;
            output.result(&document, || show_text(&document));
            Ok(())
        }
        WorkflowVerb::Pause {
            operator_command,
            until,
        } => {
            run_operator_command(PauseVerb::Pause, operator_command, until, settings, output).await
        }
        WorkflowVerb::Archive(operator_command) => {
            run_operator_command(PauseVerb::Archive, operator_command, None, settings, output).await
        }
        WorkflowVerb::Restore(operator_command) => {
            run_operator_command(PauseVerb::Restore, operator_command, None, settings, output).await
        }
        WorkflowVerb::Resume(operator_command) => {
            run_operator_command(PauseVerb::Resume, operator_command, None, settings, output).await
        }
    }
}

/// Carries out an operator command on a whole workflow, or on an annotator in it.
pub(super) async fn run_operator_command(
    verb: PauseVerb,
    args: OperatorArgs,
    until: Option<String>,
    settings: &Settings,
    output: Output,
) -> Result<(), CliError> {
    let body = json!({"reason": args.reason, "until": until});
    let text = body.to_string();
    let command_id = CommandId(args.command_id.unwrap_or_else(Uuid::now_v7));
    let operator_command = read_operator_command(&OperatorRequest {
        verb,
        workflow: args.workflow.clone(),
        command_id,
        correlation_id: None,
        traceparent: None,
        actor: Some(&account::actor()),
        body: text.as_bytes(),
    })
    .map_err(|unreadable| CliError::Usage(unreadable.to_string()))?;
    let call = operation(verb, &args.workflow).key(command_id).json(&body);
    let result: Value = ask(settings, call, async |store| {
        let orchestrator = orchestrator(store, settings);
        applied(
            orchestrator
                .operator_command(&**store, operator_command)
                .await?,
        )
    })
    .await?;
    let document = json!({"command_id": command_id, "outcome": "applied", "result": result});
    output.result(&document, || match verb {
        PauseVerb::Pause => format!("workflow {} is paused", args.workflow),
        PauseVerb::Resume => format!("workflow {} goes on", args.workflow),
        PauseVerb::Archive => format!("workflow {} is archived", args.workflow),
        PauseVerb::Restore => format!("workflow {} is restored", args.workflow),
        PauseVerb::PauseAnnotator(user) => {
            format!("annotator {user} is paused in workflow {}", args.workflow)
        }
        PauseVerb::ResumeAnnotator(user) => {
            format!("annotator {user} goes on in workflow {}", args.workflow)
        }
    });
    Ok(())
}

/// The operation that carries out an operator command.
fn operation(verb: PauseVerb, workflow: &Slug) -> Call {
    let of_workflow = |does: &str| Call::post(&[&"workflows", workflow, &does]);
    let of_annotator =
        |user, does: &str| Call::post(&[&"workflows", workflow, &"annotators", &user, &does]);
    match verb {
        PauseVerb::Pause => of_workflow("pause"),
        PauseVerb::Resume => of_workflow("resume"),
        PauseVerb::Archive => of_workflow("archive"),
        PauseVerb::Restore => of_workflow("restore"),
        PauseVerb::PauseAnnotator(user) => of_annotator(user, "pause"),
        PauseVerb::ResumeAnnotator(user) => of_annotator(user, "resume"),
    }
}

/// A stored revision, or the one of a file.
async fn revision(
    named: &str,
    settings: &Settings,
    output: Output,
) -> Result<WorkflowConfig, CliError> {
    if is_file(named) {
        workflow_of(Path::new(named), output)
    } else {
        stored(named, settings).await
    }
}

fn flow_text(flow: &[Flow]) -> String {
    if flow.is_empty() {
        return "no task has gone from step to step in the last day".to_owned();
    }
    let mut table = Table::new(&["from", "to", "last hour", "last day"]);
    for way in flow {
        table.row([
            way.from.clone(),
            way.to.clone(),
            grouped(way.last_hour),
            grouped(way.last_day),
        ]);
    }
    table.render(0)
}

fn diff_text(diff: &WorkflowDiff) -> String {
    let WorkflowDiff { from, to, changes } = diff;
    if changes.is_empty() {
        return format!("{from} and {to} are the same");
    }
    let mut lines = vec![format!("{from} -> {to}")];
    for change in changes {
        lines.push(format!("\n{}", change.path));
        let sides = [("-", &change.from), ("+", &change.to)];
        let told = sides
            .iter()
            .filter_map(|(sign, value)| Some((sign, value.as_ref()?)));
        lines.extend(told.map(|(sign, value)| format!("  {sign} {value}")));
    }
    lines.join("\n")
}

fn validate(file: &Path, output: Output) -> Result<(), CliError> {
    let (name, source) = read(file)?;
    let report = check(&source);
    let document = json!({"valid": report.is_valid(), "diagnostics": report.diagnostics});
    if !output.is_json() {
        output.diagnostics(&render(&name, &source, &report.diagnostics));
    }
    if report.is_valid() || output.is_json() {
        output.result(&document, || {
            format!("{name} is valid{}", warnings_text(&report))
        });
    }
    if report.is_valid() {
        Ok(())
    } else {
        Err(errors_of(&name, &report.diagnostics, output))
    }
}

fn warnings_text(report: &Report) -> String {
    match report.diagnostics.len() {
        0 => String::new(),
        1 => ", with 1 warning".to_owned(),
        n => format!(", with {n} warnings"),
    }
}

async fn create(file: &Path, settings: &Settings, output: Output) -> Result<(), CliError> {
    let (name, source) = read(file)?;
    let report = check(&source);
    if !output.is_json() {
        output.diagnostics(&render(&name, &source, &report.diagnostics));
    }
    if !report.is_valid() {
        let document = json!({"valid": false, "diagnostics": report.diagnostics});
        if output.is_json() {
            output.result(&document, String::new);
        }
        return Err(errors_of(&name, &report.diagnostics, output));
    }
    let (document, new) = match Deployment::open(settings).await? {
        Deployment::Store(store) => {
            let orchestrator = orchestrator(&store, settings);
            WorkflowDocument::create(&source, Some(&account::actor()), &orchestrator).await?
        }
        Deployment::Api(api) => {
            let answer = api.send(&Call::post(&[&"workflows"]).yaml(source)).await?;
            let new = answer.status() == StatusCode::CREATED;
            (api.document(answer).await?, new)
        }
    };
    output.result(&document, || {
        let what = if new {
            "stored"
        } else {
            "unchanged, it is already stored"
        };
        format!(
            "{}@{} {what} ({})",
            document.workflow, document.revision, document.id
        )
    });
    Ok(())
}

fn list_text(revisions: &[ListedWorkflow]) -> String {
    if revisions.is_empty() {
        return "no workflows; `glyph workflow create FILE` stores one".to_owned();
    }
    let mut table = Table::new(&["workflow", "revision", "id", "created", "by", "held"]);
    for listed in revisions {
        let row = listed.row();
        table.row([
            row.workflow.to_string(),
            row.revision.to_string(),
            row.id.to_string(),
            time(row.created_at),
            row.actor.clone().unwrap_or_default(),
            listed.paused().map(workflow_pause_text).unwrap_or_default(),
        ]);
    }
    table.render(0)
}

fn workflow_pause_text(pause: &WorkflowPause) -> String {
    let text = pause_text(pause.reason.as_deref(), pause.since, pause.until);
    format!("{} {text}", pause.word())
}

/// Why, since when and until when something is paused.
pub(super) fn pause_text(
    reason: Option<&str>,
    since: DateTime<Utc>,
    until: Option<DateTime<Utc>>,
) -> String {
    let reason = reason.unwrap_or("no reason given");
    let since = time(since);
    match until {
        Some(until) => format!("since {since} until {}: {reason}", time(until)),
        None => format!("since {since}: {reason}"),
    }
}

fn show_text(document: &WorkflowDocument) -> String {
    let config = &document.config;
    let mut facts = Table::plain();
    facts.row(["workflow", &format!("{}@{}", config.id, config.revision)]);
    facts.row(["name", config.name.as_deref().unwrap_or("-")]);
    facts.row(["id", &config.revision_id.to_string()]);
    facts.row(["entry step", config.entry_step.as_str()]);
    if let Some(pause) = &document.paused {
        facts.row(["paused", &workflow_pause_text(pause)]);
    }
    let mut steps = Table::new(&["step", "type", "submissions", "roles", "handler"]);
    for step in &config.steps {
        let slots = step
            .slots()
            .map_or_else(|| "-".to_owned(), |n| n.to_string());
        steps.row([
            step.id.to_string(),
            step.kind.as_str().to_owned(),
            slots,
            step.required_roles().join(", "),
            step.handler.clone().unwrap_or_default(),
        ]);
    }
    let mut transitions = Table::new(&["from", "to", "condition", "loop"]);
    for transition in &config.transitions {
        let condition = transition.condition.as_ref().map_or_else(
            || "always".to_owned(),
            |c| {
                c.expression
                    .clone()
                    .unwrap_or_else(|| c.kind.as_str().to_owned())
            },
        );
        let bound = transition.loop_bound.as_ref();
        transitions.row([
            transition.from.to_string(),
            transition.to.to_string(),
            condition,
            bound.map_or_else(String::new, |b| format!("at most {}", b.max_iterations)),
        ]);
    }
    let mut text = format!("{}\n\n{}\n\n", facts.render(0), steps.render(0));
    text.push_str(&transitions.render(0));
    if !config.goals.is_empty() {
        let mut goals = Table::new(&["goal", "type", "target", "unit"]);
        for goal in &config.goals {
            goals.row([
                goal.id.to_string(),
                goal.kind.as_str().to_owned(),
                goal.target
                    .map(|target| target.to_string())
                    .unwrap_or_default(),
                goal.unit
                    .map(|unit| unit.as_str().to_owned())
                    .unwrap_or_default(),
            ]);
        }
        text.push_str("\n\n");
        text.push_str(&goals.render(0));
    }
    text.push_str("\n\nthe whole configuration: --output json");
    text
}
