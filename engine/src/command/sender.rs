//! Who sends a command, and what the sender may decide.

/// Who sends a command.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sender {
    /// The name that events and rows keep: the name of a token, `cli:` and an account, or `amqp:`
    /// and a user of the broker. None where nobody is known.
    pub name: Option<String>,
    /// What the sender may decide.
    pub authority: Authority,
}

/// What the sender of a command may decide.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Authority {
    /// Everything: an operator, or the program that embeds the engine.
    #[default]
    Operator,
    /// All but turning a task that has submissions into a gold task.
    Producer,
    /// Only the work of one person, whose skills are known.
    Annotator {
        /// The skills of the person: a step that requires others refuses the work.
        skills: Vec<String>,
    },
}

impl Sender {
    /// A sender with everything that an operator may decide.
    pub fn operator(name: impl Into<String>) -> Self {
        Self {
            name: Some(name.into()),
            authority: Authority::Operator,
        }
    }

    /// A sender with the authority of a producer.
    pub fn producer(name: Option<String>) -> Self {
        Self {
            name,
            authority: Authority::Producer,
        }
    }
}
