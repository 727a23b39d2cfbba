//! Who may call an operation, and what each role sees of it. Each route names one of these rows
//! where it is declared (`router.rs`); handlers ask only what the caller sees.

use crate::settings::Role;

/// What a caller sees of the data behind an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sight {
    /// Everything.
    Everything,
    /// All but the secrets of workflows.
    Masked,
    /// The caller's own work: nothing of others, of known answers or of how people are judged.
    Own,
}

/// What each role sees of an operation that it may call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Access {
    viewer: Option<Sight>,
    annotator: Option<Sight>,
    producer: Option<Sight>,
    operator: Option<Sight>,
}

impl Access {
    /// For everybody with a token; annotators see their own work.
    pub(super) const ANYBODY: Self = Self {
        viewer: Some(Sight::Masked),
        annotator: Some(Sight::Own),
        producer: Some(Sight::Masked),
        operator: Some(Sight::Everything),
    };
    /// Reading what belongs to no single person.
    pub(super) const READ: Self = Self {
        annotator: None,
        ..Self::ANYBODY
    };
    /// The work of people: by themselves, or by a program for them.
    pub(super) const WORK: Self = Self {
        viewer: None,
        ..Self::ANYBODY
    };
    /// Starting tasks and moving them on.
    pub(super) const PRODUCE: Self = Self {
        viewer: None,
        ..Self::READ
    };
    /// Changing anything else.
    pub(super) const OPERATE: Self = Self {
        producer: None,
        ..Self::PRODUCE
    };

    /// What a role sees; none if it may not call the operation.
    pub(super) fn sight(self, role: Role) -> Option<Sight> {
        match role {
            Role::Viewer => self.viewer,
            Role::Annotator => self.annotator,
            Role::Producer => self.producer,
            Role::Operator => self.operator,
        }
    }

    /// The names of the roles that may call the operation.
    pub(super) fn roles(self) -> Vec<&'static str> {
        let allowed = Role::ALL.into_iter();
        let allowed = allowed.filter(|role| self.sight(*role).is_some());
        allowed.map(Role::as_str).collect()
    }
}
