//! Every verb of the product, with its place on each side: HTTP, the command line, the console.
//!
//! The help of a command names its operations from here, and `docs/verbs.md` is made of it. A test
//! compares it with the routes, the commands and the files of the console, so a verb that is added on
//! one side is named here, with its other side or with the reason why it has none.

/// What can be done, and where.
#[derive(Clone, Copy, Debug)]
pub struct Verb {
    /// What it does.
    pub does: &'static str,
    /// The operations, as `GET /api/v1/tasks`.
    pub http: &'static [&'static str],
    /// The commands, as `task list`.
    pub cli: &'static [&'static str],
    /// The pages of the console, as the files of `worker/src/http/ui` are called.
    pub console: &'static [&'static str],
    /// Why HTTP or the command line does not have it; none if both do.
    pub one_side: Option<&'static str>,
}

/// Verbs about one thing.
#[derive(Clone, Copy, Debug)]
pub struct Topic {
    /// The thing.
    pub title: &'static str,
    /// Its verbs.
    pub verbs: &'static [Verb],
}

/// A verb that HTTP and the command line have.
const fn both(
    does: &'static str,
    http: &'static [&'static str],
    cli: &'static [&'static str],
) -> Verb {
    Verb {
        does,
        http,
        cli,
        console: &[],
        one_side: None,
    }
}

/// A verb that only the command line has.
const fn cli(does: &'static str, cli: &'static [&'static str], reason: &'static str) -> Verb {
    Verb {
        one_side: Some(reason),
        ..both(does, &[], cli)
    }
}

/// A verb that only HTTP has.
const fn http(does: &'static str, http: &'static [&'static str], reason: &'static str) -> Verb {
    Verb {
        one_side: Some(reason),
        ..both(does, http, &[])
    }
}

impl Verb {
    /// The same, and these pages of the console have it.
    const fn on(self, console: &'static [&'static str]) -> Self {
        Self { console, ..self }
    }
}

const OWNER: &str = "needs the rights of the owner of the tables, which no worker has";
const FILE: &str = "works on a file of its own machine";
const ALONE: &str = "needs no service: it only computes";
const PROCESS: &str = "is a process of its own";
const BROKER: &str = "declares on the broker, with rights that a worker may not have";
const ONE_PROCESS: &str = "is about the one process that answers; a restart undoes it";
const BROWSER: &str = "is for browsers";
const WATCHERS: &str = "is for what watches the process";
const DOCUMENTS: &str = "describes the API and the files to programs; the files are in `schemas/`";

/// All verbs, by topic.
pub const TOPICS: &[Topic] = &[
    Topic {
        title: "Tasks",
        verbs: TASKS,
    },
    Topic {
        title: "People and their work",
        verbs: PEOPLE,
    },
    Topic {
        title: "Workflows",
        verbs: WORKFLOWS,
    },
    Topic {
        title: "Labels, agreement and goals",
        verbs: RESULTS,
    },
    Topic {
        title: "Commands that failed",
        verbs: FAILED,
    },
    Topic {
        title: "Events and messages",
        verbs: MESSAGES,
    },
    Topic {
        title: "The deployment",
        verbs: DEPLOYMENT,
    },
    Topic {
        title: "Documents and pages",
        verbs: PAGES,
    },
];

const TASKS: &[Verb] = &[
    both("search tasks", &["GET /api/v1/tasks"], &["task list"]).on(&["tasks"]),
    both(
        "start a task",
        &["POST /api/v1/tasks/{task_id}/start"],
        &["task start"],
    )
    .on(&["workflow"]),
    both(
        "submit a person's work",
        &["POST /api/v1/tasks/{task_id}/submit"],
        &["task submit"],
    ),
    both(
        "end a step that waits for a result, an operator or enough submissions",
        &["POST /api/v1/tasks/{task_id}/advance"],
        &["task advance"],
    )
    .on(&["task"]),
    both(
        "show the state, now or at a version",
        &["GET /api/v1/tasks/{task_id}/state"],
        &["task state"],
    )
    .on(&["task"]),
    both(
        "show the history",
        &["GET /api/v1/tasks/{task_id}/events"],
        &["task history"],
    )
    .on(&["task"]),
    both(
        "explain why it waits, or how it was decided",
        &["GET /api/v1/tasks/{task_id}/explain"],
        &["task explain"],
    )
    .on(&["task"]),
    both(
        "pause a task or a step",
        &["POST /api/v1/tasks/{task_id}/pause"],
        &["task pause"],
    )
    .on(&["task"]),
    both(
        "resume a task or a step",
        &["POST /api/v1/tasks/{task_id}/resume"],
        &["task resume"],
    )
    .on(&["task", "stuck"]),
    both(
        "cancel a task",
        &["POST /api/v1/tasks/{task_id}/cancel"],
        &["task cancel"],
    )
    .on(&["task"]),
    both(
        "retry what opened an incident",
        &["POST /api/v1/tasks/{task_id}/retry"],
        &["task retry"],
    )
    .on(&["task", "stuck"]),
    both(
        "migrate one task to another revision",
        &["POST /api/v1/tasks/{task_id}/migrate"],
        &["task migrate"],
    )
    .on(&["task"]),
    both(
        "list open incidents, by code",
        &["GET /api/v1/incidents"],
        &["incident list"],
    )
    .on(&["stuck"]),
    both(
        "tell why tasks do not go on, by cause",
        &["GET /api/v1/stuck"],
        &["stuck"],
    )
    .on(&["stuck", "people"]),
    both(
        "import a data set or an export, command by command",
        &[
            "POST /api/v1/tasks/{task_id}/start",
            "POST /api/v1/tasks/{task_id}/submit",
        ],
        &["task import"],
    ),
    cli("show the ids of one's own keys", &["task id"], ALONE),
];

const PEOPLE: &[Verb] = &[
    both(
        "claim a slot of a task",
        &["POST /api/v1/tasks/{task_id}/assign"],
        &["task assign"],
    )
    .on(&["task"]),
    both(
        "release a slot of a task",
        &["POST /api/v1/tasks/{task_id}/release"],
        &["task release"],
    )
    .on(&["task"]),
    both(
        "extend a claim, and save a draft",
        &["POST /api/v1/tasks/{task_id}/activity"],
        &["task activity"],
    ),
    both(
        "claim the next task",
        &["POST /api/v1/assignments/next"],
        &["assignment next"],
    ),
    both(
        "list what a person has claimed",
        &["GET /api/v1/assignments"],
        &["assignment list"],
    )
    .on(&["people"]),
    both(
        "release all that a person has claimed",
        &["POST /api/v1/assignments/release"],
        &["assignment release"],
    )
    .on(&["people"]),
    both(
        "list annotators with their accuracy",
        &["GET /api/v1/annotators"],
        &["annotator list"],
    )
    .on(&["people"]),
    both(
        "show how reliable an annotator is",
        &["GET /api/v1/annotators/{user_id}"],
        &["annotator show"],
    )
    .on(&["people"]),
    both(
        "pause an annotator in a workflow",
        &["POST /api/v1/workflows/{id}/annotators/{user_id}/pause"],
        &["annotator pause"],
    )
    .on(&["people"]),
    both(
        "resume an annotator in a workflow",
        &["POST /api/v1/workflows/{id}/annotators/{user_id}/resume"],
        &["annotator resume"],
    )
    .on(&["people"]),
];

const WORKFLOWS: &[Verb] = &[
    both(
        "list revisions",
        &["GET /api/v1/workflows"],
        &["workflow list"],
    )
    .on(&["labels", "log", "people", "tasks", "workflow"]),
    both(
        "store a file as a new revision",
        &["POST /api/v1/workflows"],
        &["workflow create"],
    )
    .on(&["workflow"]),
    both(
        "show a revision",
        &["GET /api/v1/workflows/{id}"],
        &["workflow show"],
    )
    .on(&["trial", "workflow"]),
    both(
        "show a revision as a file",
        &["GET /api/v1/workflows/{id}/yaml"],
        &["workflow yaml"],
    )
    .on(&["workflow"]),
    both(
        "show how two revisions differ",
        &["GET /api/v1/workflows/{id}/diff"],
        &["workflow diff"],
    )
    .on(&["workflow"]),
    both(
        "show what each step asks people for",
        &["GET /api/v1/workflows/{id}/answers"],
        &["workflow answers"],
    ),
    both(
        "draw a revision",
        &["GET /api/v1/workflows/{id}/diagram"],
        &["workflow visualize"],
    )
    .on(&["trial", "workflow"]),
    both(
        "show how many tasks went from step to step lately",
        &["GET /api/v1/workflows/{id}/flow"],
        &["workflow flow"],
    )
    .on(&["workflow"]),
    both(
        "let made-up people work on made-up tasks",
        &["POST /api/v1/workflows/{id}/trial"],
        &["workflow trial"],
    )
    .on(&["trial"]),
    both(
        "pause all tasks",
        &["POST /api/v1/workflows/{id}/pause"],
        &["workflow pause"],
    )
    .on(&["workflow"]),
    both(
        "resume all tasks",
        &["POST /api/v1/workflows/{id}/resume"],
        &["workflow resume"],
    )
    .on(&["workflow", "stuck"]),
    both(
        "archive a workflow",
        &["POST /api/v1/workflows/{id}/archive"],
        &["workflow archive"],
    )
    .on(&["workflow"]),
    both(
        "restore an archived workflow",
        &["POST /api/v1/workflows/{id}/restore"],
        &["workflow restore"],
    )
    .on(&["workflow"]),
    both(
        "migrate tasks to another revision",
        &["POST /api/v1/workflows/{id}/migrate"],
        &["task migrate"],
    )
    .on(&["workflow"]),
    both(
        "decide recorded tasks again under other settings",
        &["POST /api/v1/backtests"],
        &["backtest"],
    )
    .on(&["trial"]),
    cli("check a file", &["workflow validate"], ALONE),
    cli("simulate a file", &["workflow dry-run"], ALONE),
];

const RESULTS: &[Verb] = &[
    both(
        "list labels, in pages",
        &["GET /api/v1/labels"],
        &["labels export"],
    )
    .on(&["labels"]),
    both(
        "export all labels, as JSON lines or CSV",
        &["GET /api/v1/labels/export"],
        &["labels export"],
    )
    .on(&["labels"]),
    both(
        "list labels that are most likely wrong",
        &["GET /api/v1/labels/suspect"],
        &["labels suspect"],
    )
    .on(&["labels"]),
    both(
        "look back at completed tasks",
        &["POST /api/v1/labels/look"],
        &["labels look"],
    )
    .on(&["labels"]),
    both(
        "show calibration",
        &["GET /api/v1/calibration"],
        &["labels calibration"],
    )
    .on(&["labels"]),
    both(
        "show agreement of annotators",
        &["GET /api/v1/agreement"],
        &["agreement"],
    )
    .on(&["agreement"]),
    both("list goals", &["GET /api/v1/goals"], &["goal list"]).on(&["goals"]),
    both(
        "show a goal",
        &["GET /api/v1/goals/{workflow}/{goal}"],
        &["goal show"],
    ),
    both(
        "complete a goal by hand",
        &["POST /api/v1/goals/{workflow}/{goal}/complete"],
        &["goal complete"],
    )
    .on(&["goals"]),
];

const FAILED: &[Verb] = &[
    both(
        "list dead letters",
        &["GET /api/v1/dead-letters"],
        &["dead-letter list"],
    )
    .on(&["letters"]),
    both(
        "show a dead letter",
        &["GET /api/v1/dead-letters/{letter}"],
        &["dead-letter show"],
    )
    .on(&["letters"]),
    both(
        "change the body of a dead letter",
        &["PUT /api/v1/dead-letters/{letter}"],
        &["dead-letter edit"],
    )
    .on(&["letters"]),
    both(
        "replay dead letters",
        &["POST /api/v1/dead-letters/replay"],
        &["dead-letter replay"],
    )
    .on(&["letters"]),
    both(
        "delete dead letters",
        &["POST /api/v1/dead-letters/drop"],
        &["dead-letter drop"],
    )
    .on(&["letters"]),
    both(
        "list rejected commands",
        &["GET /api/v1/rejected"],
        &["rejected list"],
    )
    .on(&["letters"]),
    both(
        "show a rejected command",
        &["GET /api/v1/rejected/{command_id}"],
        &["rejected show"],
    ),
    both(
        "run a rejected command again, changed",
        &["POST /api/v1/rejected/{command_id}/replay"],
        &["rejected edit"],
    )
    .on(&["letters"]),
    both(
        "replay rejected commands",
        &["POST /api/v1/rejected/replay"],
        &["rejected replay"],
    )
    .on(&["letters"]),
    both(
        "take rejected commands out of the list",
        &["POST /api/v1/rejected/drop"],
        &["rejected drop"],
    )
    .on(&["letters"]),
    cli(
        "export rejected commands, and mark them",
        &["rejected export"],
        FILE,
    ),
    both("list jobs", &["GET /api/v1/jobs"], &["job list"]).on(&["letters"]),
    both("show a job", &["GET /api/v1/jobs/{job}"], &["job show"]).on(&["letters"]),
    both(
        "stop a job",
        &["POST /api/v1/jobs/{job}/stop"],
        &["job stop"],
    )
    .on(&["letters"]),
];

const MESSAGES: &[Verb] = &[
    both("read the log", &["GET /api/v1/events"], &["events tail"]).on(&["log"]),
    cli(
        "send messages of the log again",
        &["events replay"],
        "publishes to a queue by its name, with rights that a worker may not have",
    ),
    both(
        "list messages that the broker has refused",
        &["GET /api/v1/outbox"],
        &["outbox list"],
    )
    .on(&["outbox"]),
    both(
        "give up a message that the broker refuses",
        &["POST /api/v1/outbox/{message_id}/drop"],
        &["outbox drop"],
    )
    .on(&["outbox"]),
    cli(
        "enqueue commands from a file",
        &["publish"],
        "publishes to the broker; over HTTP, each command has an operation of its own",
    ),
];

const DEPLOYMENT: &[Verb] = &[
    both(
        "show the deployment at a glance",
        &["GET /api/v1/status", "GET /ui/events"],
        &["status"],
    )
    .on(&["log", "now", "workflow"]),
    cli("run a worker", &["worker"], PROCESS),
    cli("run sample data", &["demo"], PROCESS),
    cli("measure the pipeline", &["bench"], PROCESS),
    cli("migrate the database", &["migrate"], OWNER),
    cli(
        "make a restored database fit to go on",
        &["restore"],
        "needs every worker to be stopped",
    ),
    cli(
        "delete what is of no further use, and archive tasks",
        &["retention"],
        OWNER,
    ),
    cli(
        "rebuild what is derived from the log",
        &["rebuild"],
        "reads the whole log, for as long as that takes",
    ),
    cli(
        "show how large each table is",
        &["storage"],
        "is for whoever looks after the database",
    ),
    cli(
        "declare exchanges and queues",
        &["topology declare"],
        BROKER,
    ),
    cli("take a prefix over", &["topology adopt"], BROKER),
    cli(
        "check the settings",
        &["config check"],
        "reads the settings of its own process, with secrets",
    ),
    cli("list every setting", &["settings"], ALONE),
    cli("print completions for a shell", &["completions"], ALONE),
    cli("write man pages", &["man"], FILE),
    http(
        "set what the worker logs",
        &["PUT /api/v1/log"],
        ONE_PROCESS,
    )
    .on(&["now"]),
    http(
        "ask whether the process lives, and is ready",
        &["GET /livez", "GET /readyz"],
        WATCHERS,
    ),
    http("read the metrics", &["GET /metrics"], WATCHERS),
];

const PAGES: &[Verb] = &[
    http(
        "sign in and out of the console, and show who is signed in",
        &["POST /ui/session", "DELETE /ui/session", "GET /ui/session"],
        BROWSER,
    ),
    http(
        "open the client for annotators",
        &["GET /annotate"],
        BROWSER,
    ),
    http(
        "read the document of the API",
        &["GET /openapi.json", "GET /docs"],
        DOCUMENTS,
    ),
    http(
        "read the document of AMQP, and the schemas",
        &[
            "GET /schemas/asyncapi.yaml",
            "GET /schemas",
            "GET /schemas/{file}",
            "GET /schemas/{folder}/{file}",
        ],
        DOCUMENTS,
    ),
];

/// The operations that do what a command does, as `task list`; empty if there are none.
pub fn operations_of(command: &str) -> Vec<&'static str> {
    let verbs = TOPICS.iter().flat_map(|topic| topic.verbs);
    let named = verbs.filter(|verb| verb.cli.contains(&command));
    named.flat_map(|verb| verb.http).copied().collect()
}

/// Why no operation does what a command does, as `task import`; none if one does.
pub fn only_here(command: &str) -> Option<&'static str> {
    let mut verbs = TOPICS.iter().flat_map(|topic| topic.verbs);
    let named = verbs.find(|verb| verb.cli.contains(&command))?;
    named.one_side
}
