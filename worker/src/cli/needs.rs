//! What each verb needs, as its help says it and `docs/security.md` lists it.

/// Nothing outside the process.
pub(super) const NOTHING: &str = "no service";
/// Reading.
const READ: &str = "the database, SELECT alone";
/// Reading, where a stored workflow is named and not a file.
const READ_OR_FILE: &str = "the database, SELECT alone; no service for a file";
/// What a worker may.
const WORK: &str = "the database, as the worker's account";
/// DDL.
const OWN: &str = "the database, as the owner of its tables";
/// The queues.
const BROKER: &str = "the broker, as the worker's account";

/// The queues, and whose they are.
const DECLARE: &str =
    "the database, SELECT alone; the broker, with the right to configure the prefix";

/// Every verb with what it needs. A test compares it with the tree of verbs.
const NEEDS: &[(&str, &str)] = &[
    ("agreement", READ),
    ("annotator list", READ),
    ("annotator pause", WORK),
    ("annotator resume", WORK),
    ("annotator show", READ),
    ("assignment list", READ),
    ("assignment next", WORK),
    ("assignment release", WORK),
    ("backtest", READ),
    (
        "bench",
        "no service without settings; else a database to make a schema in, and the broker",
    ),
    ("completions", NOTHING),
    ("config check", NOTHING),
    ("dead-letter drop", BROKER),
    ("dead-letter edit", BROKER),
    ("dead-letter list", BROKER),
    (
        "dead-letter replay",
        "the database and the broker, as the worker's accounts",
    ),
    ("dead-letter show", BROKER),
    ("demo", NOTHING),
    (
        "events replay",
        "the database, SELECT alone; the broker, with the right to publish to the queue",
    ),
    ("events tail", READ),
    ("goal complete", WORK),
    ("goal list", READ),
    ("goal show", READ),
    ("incident list", READ),
    ("job list", READ),
    ("job show", READ),
    ("job stop", WORK),
    ("labels calibration", READ),
    ("labels export", READ),
    ("labels look", WORK),
    ("labels suspect", READ),
    ("man", NOTHING),
    ("migrate", OWN),
    ("outbox drop", WORK),
    ("outbox list", READ),
    ("publish", BROKER),
    ("rebuild", WORK),
    ("rejected drop", WORK),
    ("rejected edit", WORK),
    ("rejected export", WORK),
    ("rejected list", READ),
    ("rejected replay", WORK),
    ("rejected show", READ),
    ("restore", OWN),
    ("retention", OWN),
    ("settings", NOTHING),
    (
        "status",
        "the database, SELECT alone; the broker, for what it knows of queues",
    ),
    ("storage", READ),
    ("stuck", READ),
    ("task activity", WORK),
    ("task advance", WORK),
    ("task assign", WORK),
    ("task cancel", WORK),
    ("task explain", READ),
    ("task history", READ),
    ("task id", NOTHING),
    (
        "task import",
        "the database, SELECT alone, and the broker; no service to check; the owner for --archive",
    ),
    ("task list", READ),
    ("task migrate", WORK),
    ("task pause", WORK),
    ("task release", WORK),
    ("task resume", WORK),
    ("task retry", WORK),
    ("task start", WORK),
    ("task state", READ),
    ("task submit", WORK),
    ("topology adopt", DECLARE),
    ("topology declare", DECLARE),
    (
        "worker",
        "the database and the broker, as the worker's accounts; without --no-migrate as the owner",
    ),
    ("workflow answers", READ_OR_FILE),
    ("workflow archive", WORK),
    ("workflow create", WORK),
    ("workflow diff", READ_OR_FILE),
    ("workflow dry-run", NOTHING),
    ("workflow flow", READ),
    ("workflow list", READ),
    ("workflow pause", WORK),
    ("workflow restore", WORK),
    ("workflow resume", WORK),
    ("workflow show", READ_OR_FILE),
    ("workflow trial", READ_OR_FILE),
    ("workflow validate", NOTHING),
    ("workflow visualize", READ_OR_FILE),
    ("workflow yaml", READ_OR_FILE),
];

/// What a verb needs, by its words, as in `task start`; none for a group of verbs.
pub(super) fn of(verb: &str) -> Option<&'static str> {
    let found = NEEDS.iter().find(|(name, _)| *name == verb);
    found.map(|(_, need)| *need)
}

#[cfg(test)]
mod tests {
    use clap::{Command, CommandFactory};

    use super::{super::Cli, NEEDS};

    fn verbs(command: &Command, before: &str, found: &mut Vec<String>) {
        for verb in command.get_subcommands() {
            let name = format!("{before}{}", verb.get_name());
            if verb.has_subcommands() {
                verbs(verb, &format!("{name} "), found);
            } else {
                found.push(name);
            }
        }
    }

    #[test]
    fn every_verb_says_what_it_needs() {
        let mut found = Vec::new();
        verbs(&Cli::command(), "", &mut found);
        found.sort_unstable();
        let told: Vec<&str> = NEEDS.iter().map(|(verb, _)| *verb).collect();
        assert_eq!(found, told);
    }
}
