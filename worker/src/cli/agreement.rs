//! `glyph agreement`: agreement of annotators over the newest items.

use clap::Args;
use glyph_workflow_engine::{consensus::Bounds, ids::Slug};

use super::{CliError, Output, api::Call, deployment::ask, output::Table};
use crate::{
    operations::agreement::{AgreementFilter, AgreementList, agreement},
    projections::agreement::AgreementCourse,
    settings::Settings,
};

/// Which agreement to show.
#[derive(Clone, Debug, Args)]
pub struct AgreementArgs {
    /// Only in this workflow
    #[arg(long, short, value_name = "ID")]
    workflow: Option<Slug>,
    /// Only of this step
    #[arg(long, value_name = "ID")]
    step: Option<Slug>,
    /// Only questions with this answer, and of their classes only it: a text as it is, anything else as
    /// JSON
    #[arg(long, value_name = "ANSWER")]
    class: Option<String>,
}

pub(super) async fn run(
    args: AgreementArgs,
    settings: &Settings,
    output: Output,
) -> Result<(), CliError> {
    let call = Call::get(&[&"agreement"])
        .query("workflow", args.workflow.as_ref())
        .query("step", args.step.as_ref())
        .query("class", args.class.as_ref());
    let list: AgreementList = ask(settings, call, async |store| {
        let filter = AgreementFilter {
            workflow: args.workflow,
            step: args.step,
            class: args.class,
        };
        let agreement = agreement(&**store, &filter).await?;
        Ok(AgreementList { agreement })
    })
    .await?;
    output.result(&list, || text(&list.agreement));
    Ok(())
}

fn text(found: &[AgreementCourse]) -> String {
    if found.is_empty() {
        return "no answers have been compared yet, or none that are asked for".to_owned();
    }
    let mut table = Table::new(&[
        "workflow",
        "step",
        "field",
        "items",
        "agreement",
        "alpha",
        "kappa",
    ]);
    for AgreementCourse { now: one, .. } in found {
        table.row([
            one.workflow.to_string(),
            one.step_id.to_string(),
            one.field.clone().unwrap_or_default(),
            one.items.to_string(),
            figure(one.agreement, one.agreement_interval),
            figure(one.alpha, one.alpha_interval),
            figure(one.kappa, one.kappa_interval),
        ]);
    }
    format!(
        "{}\nclasses, how it went, and why a figure is missing: --output json",
        table.render(0)
    )
}

/// A figure with its interval.
fn figure(value: Option<f64>, interval: Option<Bounds>) -> String {
    match (value, interval) {
        (None, _) => "-".to_owned(),
        (Some(value), None) => format!("{value:.3}"),
        (Some(value), Some(Bounds { lower, upper })) => {
            format!("{value:.3} ({lower:.2} to {upper:.2})")
        }
    }
}
