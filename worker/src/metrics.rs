//! Every metric, declared once, with help, unit and labels. Label values come from closed sets,
//! never from ids. The exceptions are the series of goals and of agreement, whose number is bounded
//! here.

use std::{collections::BTreeMap, time::Duration};

use glyph_workflow_engine::{
    command::{ChildCommand, Command},
    config::{ExternalHandler, StepType},
    events::WorkflowEvent,
    state::TaskStatus,
    store::{SplitReason, TimerStats},
};
use prometheus::{
    Encoder, Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec,
    IntGauge, IntGaugeVec, Opts, Registry, TextEncoder,
    core::{Atomic, Collector, GenericCounterVec, GenericGaugeVec},
};

use crate::wire::{
    DeadReason, MessageType, RetryReason,
    data::{AgreementProgress, KappaOf},
};

/// Goals that have a series of their own; further ones are left out.
const GOALS_MAX: usize = 200;
/// Steps and fields whose agreement has series of its own; further ones are left out.
const AGREEMENTS_MAX: usize = 200;

/// Buckets of durations, in seconds: from an in-memory batch of one to a slow broker.
const SECONDS: [f64; 14] = [
    0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
];

/// Buckets of the age of a command, in seconds: up to a backlog of days.
const AGE_SECONDS: [f64; 12] = [
    0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 3_600.0, 21_600.0, 86_400.0,
];

/// Outcomes that count as final.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FinalOutcome {
    /// Its effect is committed.
    Applied,
    /// Its id was already recorded.
    Duplicate,
    /// The task's state or the rules forbid it.
    Rejected,
    /// The worker has given it up.
    Dead,
}

impl FinalOutcome {
    const ALL: [Self; 4] = [Self::Applied, Self::Duplicate, Self::Rejected, Self::Dead];

    fn as_str(self) -> &'static str {
        match self {
            Self::Applied => "applied",
            Self::Duplicate => "duplicate",
            Self::Rejected => "rejected",
            Self::Dead => "dead",
        }
    }
}

/// What became of an item of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum JobOutcome {
    /// It was applied.
    Succeeded,
    /// It is dead or rejected again.
    Failed,
}

impl JobOutcome {
    const ALL: [Self; 2] = [Self::Succeeded, Self::Failed];

    fn as_str(self) -> &'static str {
        match self {
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
        }
    }
}

/// Result of a look-up in the task cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CacheResult {
    /// The cache had the current state.
    Hit,
    /// The cache had a state, but another process had since advanced the task.
    Stale,
    /// The state had to be read from the store.
    Miss,
}

impl CacheResult {
    const ALL: [Self; 3] = [Self::Hit, Self::Stale, Self::Miss];

    fn as_str(self) -> &'static str {
        match self {
            Self::Hit => "hit",
            Self::Stale => "stale",
            Self::Miss => "miss",
        }
    }
}

/// Label of a command whose type could not be read.
pub const TYPE_UNKNOWN: &str = "unknown";

/// The metrics of one process, in a registry of their own.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    commands: IntCounterVec,
    command_duration: Histogram,
    command_age: Histogram,
    batch_commands: Histogram,
    unknown_fields: IntCounter,
    events_appended: IntCounterVec,
    version_conflicts: IntCounter,
    retries: IntCounterVec,
    dead_letters: IntCounterVec,
    dead_letters_waiting: IntGauge,
    tasks_with_incidents: IntGauge,
    projection_lag: GaugeVec,
    model_lag: Gauge,
    job_items: IntCounterVec,
    commands_held: IntGauge,
    intake_held: IntGaugeVec,
    set_aside: IntGaugeVec,
    set_aside_oldest: GaugeVec,
    outbox_pending: IntGauge,
    outbox_oldest: Gauge,
    messages_published: IntCounterVec,
    publish_confirm: Histogram,
    unroutable: IntCounter,
    tasks: IntGaugeVec,
    waiting_oldest: GaugeVec,
    task_cache: IntCounterVec,
    snapshots: IntCounter,
    timers_due: IntGauge,
    timers_oldest: Gauge,
    handler_duration: HistogramVec,
    goal_progress: GaugeVec,
    agreement: Histogram,
    agreement_window: GaugeVec,
    consumer_connected: IntGaugeVec,
    tokens_file_valid: IntGauge,
    log_lines_dropped: IntCounter,
}

impl Metrics {
    /// Declares every metric. Every series of a closed set starts at zero, because a rate over a
    /// series that first appears with its first count misses that count.
    pub fn new() -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        let metrics = Self {
            commands: int_counters(
                "commands_total",
                "Commands by type and outcome.",
                &["type", "outcome"],
            )?,
            command_duration: histogram(
                "command_duration_seconds",
                "Time from intake of a command to its recorded outcome.",
                &SECONDS,
            )?,
            command_age: histogram(
                "command_age_seconds",
                "Age of a command, by the time in its id (UUIDv7), when its outcome is recorded.",
                &AGE_SECONDS,
            )?,
            batch_commands: histogram(
                "batch_commands",
                "Commands in a batch.",
                &[
                    1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1_024.0,
                ],
            )?,
            unknown_fields: int_counter(
                "command_unknown_fields_total",
                "Unknown fields of commands; they are ignored.",
            )?,
            events_appended: int_counters(
                "events_appended_total",
                "Events appended to streams, by type.",
                &["event_type"],
            )?,
            version_conflicts: int_counter(
                "version_conflicts_total",
                "Batches refused because a stream had changed although it was locked. Always a bug.",
            )?,
            retries: int_counters(
                "retries_total",
                "Commands that could not be decided and were sent to a retry queue, by reason.",
                &["reason"],
            )?,
            dead_letters: int_counters(
                "dead_letters_total",
                "Commands moved to the dead queue by this process, by reason.",
                &["reason"],
            )?,
            dead_letters_waiting: int_gauge(
                "dead_letters_waiting",
                "Messages in the dead queue, whoever put them there: the broker itself moves a command there at its delivery limit.",
            )?,
            tasks_with_incidents: int_gauge(
                "tasks_with_incidents",
                "Tasks with an open incident; 10,000 stands for so many or more.",
            )?,
            projection_lag: gauges(
                "projection_lag_seconds",
                "Age of the oldest event that a projection has not read, 0 if there is none.",
                &["projection"],
            )?,
            model_lag: gauge(
                "model_lag_seconds",
                "How far behind the log the models of annotators are that this process is bringing to its end, because a decision or a report waits for them; 0 while there are none.",
            )?,
            job_items: int_counters(
                "job_items_total",
                "Items of jobs (replays) that this process tried, by outcome.",
                &["outcome"],
            )?,
            commands_held: int_gauge(
                "commands_held",
                "Commands that this process has taken from the broker and not settled yet.",
            )?,
            intake_held: int_gauges(
                "intake_held",
                "1 while this process takes no commands from the broker, by reason.",
                &["reason"],
            )?,
            set_aside: int_gauges(
                "set_aside_tasks",
                "Tasks with a command that failed alone although the store is there, by reason; it is tried again each minute.",
                &["reason"],
            )?,
            set_aside_oldest: gauges(
                "set_aside_oldest_seconds",
                "How long ago the first command of the oldest such task was set aside, by reason.",
                &["reason"],
            )?,
            outbox_pending: int_gauge("outbox_pending", "Rows of the outbox: tasks and batches whose messages wait to be published.")?,
            outbox_oldest: gauge(
                "outbox_oldest_seconds",
                "Age of the oldest message that waits to be published.",
            )?,
            messages_published: int_counters(
                "messages_published_total",
                "Messages that the broker confirmed, by type.",
                &["type"],
            )?,
            publish_confirm: histogram(
                "publish_confirm_seconds",
                "Time from publishing a batch of messages to its last confirm.",
                &SECONDS,
            )?,
            unroutable: int_counter(
                "unroutable_total",
                "Mandatory messages that the broker returned because no queue is bound to their routing key.",
            )?,
            tasks: int_gauges("tasks", "Tasks by status.", &["status"])?,
            waiting_oldest: gauges(
                "waiting_oldest_seconds",
                "Waiting time of the running task that has waited longest, by step type, as of the last time that all running tasks were looked at.",
                &["step_type"],
            )?,
            task_cache: int_counters(
                "task_cache_total",
                "Look-ups in the cache of task states, by result; `stale`: another process had since changed the task.",
                &["result"],
            )?,
            snapshots: int_counter("snapshots_total", "Snapshots written.")?,
            timers_due: int_gauge(
                "timers_due",
                "Timers that are due, of workflows that are not paused; counted up to about ten thousand.",
            )?,
            timers_oldest: gauge(
                "timers_oldest_seconds",
                "For how long the oldest of them has been due.",
            )?,
            handler_duration: HistogramVec::new(
                options(
                    "handler_duration_seconds",
                    "Run time of handlers outside transactions: one attempt of a webhook, or a job from its first publication to its answer.",
                )
                .buckets(SECONDS.to_vec()),
                &["handler", "outcome"],
            )?,
            goal_progress: gauges(
                "goal_progress_ratio",
                "Progress of a goal, from 0 to 1 (capped at 1; the first 200 goals only).",
                &["workflow", "goal"],
            )?,
            agreement: histogram(
                "agreement_ratio",
                "Agreement of annotators at the first comparison of a visit, if it is defined.",
                &[0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0],
            )?,
            agreement_window: gauges(
                "agreement_window_ratio",
                "Agreement over the newest items of a step or field, if it is defined: mean of the \
                 items (`agreement`), Krippendorff's alpha, Gwet's AC1 (`ac1`), kappa of two people \
                 (`cohen_kappa`) or of all answers (`fleiss_kappa`); the first 200 only.",
                &["workflow", "step", "field", "coefficient"],
            )?,
            consumer_connected: int_gauges(
                "consumer_connected",
                "1 while the process consumes commands from a live connection and intake is not held; absent in a process that is to consume none.",
                &[],
            )?,
            tokens_file_valid: int_gauge(
                "tokens_file_valid",
                "0 while the tokens file cannot be used and the tokens read before stay in force.",
            )?,
            log_lines_dropped: int_counter(
                "log_lines_dropped_total",
                "Lines of the log that were dropped because nobody read them.",
            )?,
            registry,
        };
        metrics.register()?;
        metrics.start_at_zero();
        Ok(metrics)
    }

    fn register(&self) -> Result<(), prometheus::Error> {
        let build_info = int_gauges(
            "build_info",
            "Always 1; the version is a label.",
            &["version"],
        )?;
        build_info
            .with_label_values(&[env!("CARGO_PKG_VERSION")])
            .set(1);
        let collectors: [Box<dyn Collector>; 38] = [
            Box::new(build_info),
            Box::new(self.commands.clone()),
            Box::new(self.command_duration.clone()),
            Box::new(self.command_age.clone()),
            Box::new(self.batch_commands.clone()),
            Box::new(self.unknown_fields.clone()),
            Box::new(self.events_appended.clone()),
            Box::new(self.version_conflicts.clone()),
            Box::new(self.retries.clone()),
            Box::new(self.dead_letters.clone()),
            Box::new(self.dead_letters_waiting.clone()),
            Box::new(self.tasks_with_incidents.clone()),
            Box::new(self.projection_lag.clone()),
            Box::new(self.model_lag.clone()),
            Box::new(self.job_items.clone()),
            Box::new(self.commands_held.clone()),
            Box::new(self.intake_held.clone()),
            Box::new(self.set_aside.clone()),
            Box::new(self.set_aside_oldest.clone()),
            Box::new(self.outbox_pending.clone()),
            Box::new(self.outbox_oldest.clone()),
            Box::new(self.messages_published.clone()),
            Box::new(self.publish_confirm.clone()),
            Box::new(self.unroutable.clone()),
            Box::new(self.tasks.clone()),
            Box::new(self.waiting_oldest.clone()),
            Box::new(self.task_cache.clone()),
            Box::new(self.snapshots.clone()),
            Box::new(self.timers_due.clone()),
            Box::new(self.timers_oldest.clone()),
            Box::new(self.handler_duration.clone()),
            Box::new(self.goal_progress.clone()),
            Box::new(self.agreement.clone()),
            Box::new(self.agreement_window.clone()),
            Box::new(self.consumer_connected.clone()),
            Box::new(self.tokens_file_valid.clone()),
            Box::new(self.log_lines_dropped.clone()),
            Box::new(prometheus::process_collector::ProcessCollector::for_self()),
        ];
        collectors
            .into_iter()
            .try_for_each(|collector| self.registry.register(collector))
    }

    fn start_at_zero(&self) {
        let internal = ChildCommand::TYPES.into_iter().chain(["due", TYPE_UNKNOWN]);
        for command_type in Command::TYPES.into_iter().chain(internal) {
            for outcome in FinalOutcome::ALL {
                touch(&self.commands, &[command_type, outcome.as_str()]);
            }
        }
        for event in WorkflowEvent::TYPES {
            touch(&self.events_appended, &[event]);
        }
        for reason in RetryReason::ALL {
            touch(&self.retries, &[reason.as_str()]);
        }
        for reason in DeadReason::ALL {
            touch(&self.dead_letters, &[reason.as_str()]);
        }
        for outcome in JobOutcome::ALL {
            touch(&self.job_items, &[outcome.as_str()]);
        }
        for kind in MessageType::ALL {
            touch(&self.messages_published, &[kind.as_str()]);
        }
        for result in CacheResult::ALL {
            touch(&self.task_cache, &[result.as_str()]);
        }
        for status in TaskStatus::ALL {
            touch_gauge(&self.tasks, &[status.as_str()]);
        }
        for handler in ExternalHandler::ALL {
            for outcome in ["ok", "error"] {
                let _ = self
                    .handler_duration
                    .get_metric_with_label_values(&[handler.as_str(), outcome]);
            }
        }
        for kind in StepType::ALL {
            touch_gauge(&self.waiting_oldest, &[kind.as_str()]);
        }
        for reason in SplitReason::ALL {
            touch_gauge(&self.set_aside, &[reason.as_str()]);
            touch_gauge(&self.set_aside_oldest, &[reason.as_str()]);
        }
    }

    /// Sets how many lines of the log were dropped so far.
    pub fn log_lines_dropped(&self, total: u64) {
        let counted = self.log_lines_dropped.get();
        self.log_lines_dropped.inc_by(total.saturating_sub(counted));
    }

    /// The Prometheus text format.
    pub fn encode(&self) -> String {
        let mut text = Vec::new();
        if let Err(error) = TextEncoder::new().encode(&self.registry.gather(), &mut text) {
            tracing::error!(%error, "metrics could not be encoded");
        }
        String::from_utf8(text).unwrap_or_default()
    }

    /// Counts a command that has its final outcome. `age` is known if the command's id contains a
    /// time.
    pub fn command(
        &self,
        command_type: &'static str,
        outcome: FinalOutcome,
        duration: Duration,
        age: Option<Duration>,
    ) {
        self.commands
            .with_label_values(&[command_type, outcome.as_str()])
            .inc();
        self.command_duration.observe(duration.as_secs_f64());
        if let Some(age) = age {
            self.command_age.observe(age.as_secs_f64());
        }
    }

    /// Records the size of a batch that was run.
    pub fn batch(&self, commands: usize) {
        self.batch_commands.observe(commands as f64);
    }

    /// Counts ignored fields.
    pub fn unknown_fields(&self, count: u64) {
        self.unknown_fields.inc_by(count);
    }

    /// Counts appended events of one type.
    pub fn events_appended(&self, event_type: &'static str, count: u64) {
        self.events_appended
            .with_label_values(&[event_type])
            .inc_by(count);
    }

    /// Counts a batch that was refused by the final version check.
    pub fn version_conflict(&self) {
        self.version_conflicts.inc();
    }

    /// Counts a command that goes to the retry ladder.
    pub fn retry(&self, reason: RetryReason) {
        self.retries.with_label_values(&[reason.as_str()]).inc();
    }

    /// Counts a command that goes to the dead queue.
    pub fn dead_letter(&self, reason: DeadReason) {
        self.dead_letters
            .with_label_values(&[reason.as_str()])
            .inc();
    }

    /// Counts an item of a job that was tried.
    pub fn job_item(&self, outcome: JobOutcome) {
        self.job_items.with_label_values(&[outcome.as_str()]).inc();
    }

    /// Sets how many messages are in the dead queue.
    pub fn dead_letters_waiting(&self, count: u64) {
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        self.dead_letters_waiting.set(count);
    }

    /// Sets how many tasks have an open incident.
    pub fn tasks_with_incidents(&self, count: u64) {
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        self.tasks_with_incidents.set(count);
    }

    /// Sets how far projections are behind, in seconds.
    pub fn projection_lags(&self, lags: &BTreeMap<String, f64>) {
        for (projection, seconds) in lags {
            self.projection_lag
                .with_label_values(&[projection])
                .set(*seconds);
        }
    }

    /// Sets how far behind the models of annotators are that are being read.
    pub fn model_lag(&self, behind: Duration) {
        self.model_lag.set(behind.as_secs_f64());
    }

    /// Changes how many commands the process holds.
    pub fn commands_held(&self, change: i64) {
        self.commands_held.add(change);
    }

    /// Sets whether intake is held for a reason.
    pub fn intake_held(&self, reason: &'static str, is_held: bool) {
        let held = self.intake_held.with_label_values(&[reason]);
        held.set(i64::from(is_held));
    }

    /// Sets for how many tasks commands are set aside for a reason, and since when.
    pub fn set_aside(&self, reason: SplitReason, tasks: usize, oldest: Duration) {
        let reason = [reason.as_str()];
        let tasks = i64::try_from(tasks).unwrap_or(i64::MAX);
        self.set_aside.with_label_values(&reason).set(tasks);
        let gauge = self.set_aside_oldest.with_label_values(&reason);
        gauge.set(oldest.as_secs_f64());
    }

    /// Sets the gauges of the outbox.
    pub fn outbox(&self, pending: i64, oldest_seconds: f64) {
        self.outbox_pending.set(pending);
        self.outbox_oldest.set(oldest_seconds);
    }

    /// Counts a confirmed message. `message_type` is a name of [`MessageType`]; rows of a later
    /// build with a type unknown to this one count as `unknown`.
    pub fn published(&self, message_type: &str) {
        let label = MessageType::from_name(message_type).map_or(TYPE_UNKNOWN, MessageType::as_str);
        self.messages_published.with_label_values(&[label]).inc();
    }

    /// Records how long the broker took to confirm a window.
    pub fn confirmed_after(&self, time: Duration) {
        self.publish_confirm.observe(time.as_secs_f64());
    }

    /// Counts a mandatory message that the broker returned.
    pub fn unroutable(&self) {
        self.unroutable.inc();
    }

    /// Sets how many tasks have a status.
    pub fn tasks(&self, status: TaskStatus, count: i64) {
        self.tasks.with_label_values(&[status.as_str()]).set(count);
    }

    /// Sets how long the longest-waiting task has waited at a step of a type.
    pub fn waiting_oldest(&self, step_type: StepType, seconds: f64) {
        self.waiting_oldest
            .with_label_values(&[step_type.as_str()])
            .set(seconds);
    }

    /// Counts look-ups in the cache.
    pub fn task_cache(&self, result: CacheResult, count: u64) {
        self.task_cache
            .with_label_values(&[result.as_str()])
            .inc_by(count);
    }

    /// Counts written snapshots.
    pub fn snapshots(&self, count: u64) {
        self.snapshots.inc_by(count);
    }

    /// Sets the gauges of timers.
    pub fn timers(&self, stats: &TimerStats) {
        self.timers_due.set(stats.due);
        self.timers_oldest.set(stats.oldest_seconds);
    }

    /// Records one run of a handler.
    pub fn handler(&self, handler: &'static str, succeeded: bool, time: Duration) {
        let outcome = if succeeded { "ok" } else { "error" };
        self.handler_duration
            .with_label_values(&[handler, outcome])
            .observe(time.as_secs_f64());
    }

    /// Sets the progress of all goals: workflow, goal, ratio.
    pub fn goals<'a>(&self, goals: impl IntoIterator<Item = (&'a str, &'a str, f64)>) {
        self.goal_progress.reset();
        for (workflow, goal, ratio) in goals.into_iter().take(GOALS_MAX) {
            self.goal_progress
                .with_label_values(&[workflow, goal])
                .set(ratio.clamp(0.0, 1.0));
        }
    }

    /// Records the agreement of a step.
    pub fn agreement(&self, ratio: f64) {
        self.agreement.observe(ratio);
    }

    /// Sets the agreement over the newest items of all steps and fields.
    pub fn agreement_windows<'a>(&self, windows: impl IntoIterator<Item = &'a AgreementProgress>) {
        self.agreement_window.reset();
        for window in windows.into_iter().take(AGREEMENTS_MAX) {
            let (workflow, step) = (window.workflow.as_str(), window.step_id.as_str());
            let field = window.field.as_deref().unwrap_or_default();
            let kappa = match window.kappa_of {
                Some(KappaOf::TwoPeople) => "cohen_kappa",
                Some(KappaOf::AllAnswers) | None => "fleiss_kappa",
            };
            for (coefficient, value) in [
                ("agreement", window.agreement),
                ("alpha", window.alpha),
                ("ac1", window.ac1),
                (kappa, window.kappa),
            ] {
                if let Some(value) = value {
                    self.agreement_window
                        .with_label_values(&[workflow, step, field, coefficient])
                        .set(value);
                }
            }
        }
    }

    /// Sets whether commands are consumed.
    pub fn consumer_connected(&self, connected: bool) {
        let gauge = self.consumer_connected.with_label_values::<&str>(&[]);
        gauge.set(i64::from(connected));
    }

    /// Sets whether the tokens in force are those of the tokens file.
    pub fn tokens_file_valid(&self, valid: bool) {
        self.tokens_file_valid.set(i64::from(valid));
    }
}

fn opts(name: &str, help: &str) -> Opts {
    Opts::new(name, help).namespace("glyph")
}

fn options(name: &str, help: &str) -> HistogramOpts {
    HistogramOpts::new(name, help).namespace("glyph")
}

fn int_counter(name: &str, help: &str) -> Result<IntCounter, prometheus::Error> {
    IntCounter::with_opts(opts(name, help))
}

fn int_counters(
    name: &str,
    help: &str,
    labels: &[&str],
) -> Result<IntCounterVec, prometheus::Error> {
    IntCounterVec::new(opts(name, help), labels)
}

fn int_gauge(name: &str, help: &str) -> Result<IntGauge, prometheus::Error> {
    IntGauge::with_opts(opts(name, help))
}

fn int_gauges(name: &str, help: &str, labels: &[&str]) -> Result<IntGaugeVec, prometheus::Error> {
    IntGaugeVec::new(opts(name, help), labels)
}

fn gauge(name: &str, help: &str) -> Result<Gauge, prometheus::Error> {
    Gauge::with_opts(opts(name, help))
}

fn gauges(name: &str, help: &str, labels: &[&str]) -> Result<GaugeVec, prometheus::Error> {
    GaugeVec::new(opts(name, help), labels)
}

fn histogram(name: &str, help: &str, buckets: &[f64]) -> Result<Histogram, prometheus::Error> {
    Histogram::with_opts(options(name, help).buckets(buckets.to_vec()))
}

/// Creates the series without counting.
fn touch<A: Atomic>(counters: &GenericCounterVec<A>, labels: &[&str]) {
    let _ = counters.with_label_values(labels);
}

fn touch_gauge<A: Atomic>(gauges: &GenericGaugeVec<A>, labels: &[&str]) {
    let _ = gauges.with_label_values(labels);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_is_declared_with_help_and_starts_at_zero() {
        let metrics = Metrics::new().unwrap();
        assert!(!metrics.encode().contains("consumer_connected"));
        metrics.consumer_connected(false);
        metrics.goals([("w", "g", 1.7)]);
        metrics.handler("webhook", true, Duration::from_millis(3));
        let text = metrics.encode();
        let names = [
            "commands_total",
            "command_duration_seconds",
            "command_age_seconds",
            "batch_commands",
            "events_appended_total",
            "version_conflicts_total",
            "retries_total",
            "dead_letters_total",
            "outbox_pending",
            "outbox_oldest_seconds",
            "messages_published_total",
            "publish_confirm_seconds",
            "unroutable_total",
            "tasks",
            "waiting_oldest_seconds",
            "task_cache_total",
            "snapshots_total",
            "timers_due",
            "handler_duration_seconds",
            "goal_progress_ratio",
            "agreement_ratio",
            "consumer_connected",
            "model_lag_seconds",
            "tokens_file_valid",
            "build_info",
        ];
        for name in names {
            assert!(text.contains(&format!("# HELP glyph_{name} ")), "{name}");
        }
        assert!(text.contains(r#"glyph_commands_total{outcome="applied",type="submission"} 0"#));
        assert!(text.contains(r#"glyph_goal_progress_ratio{goal="g",workflow="w"} 1"#));
        assert!(text.contains("process_resident_memory_bytes"));
    }
}
