//! One operation of the API: how it is served and what its document says, said together, so that
//! neither can be without the other.

use std::convert::Infallible;

use axum::{
    extract::{Request, State},
    handler::Handler,
    http::Method,
    middleware::{self, Next},
    response::Response,
    routing::{MethodRouter, get, post},
};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use super::{
    Api, Problem,
    auth::{Caller, authenticate},
};
use crate::settings::{Role, Tokens};

/// Answers of every operation that needs a role.
const REFUSALS: [u16; 2] = [401, 403];

/// What is served at one method and path.
pub(super) struct Operation {
    pub(super) method: Method,
    /// The whole path; `{name}` stands for a parameter.
    pub(super) path: &'static str,
    /// What client generators call it; unique.
    pub(super) id: &'static str,
    /// What it does, in one line.
    pub(super) summary: &'static str,
    /// Who may call it; none for everybody, without a token.
    pub(super) role: Option<Role>,
    pub(super) query: Vec<QueryParameter>,
    pub(super) body: Option<Body>,
    pub(super) answers: Vec<Answer>,
    /// Statuses of the problem documents that it may answer with, beside those of all.
    pub(super) problems: Vec<u16>,
    /// Whether it carries a command: such requests have a key and may be followed.
    pub(super) command: bool,
    /// Whether a token that names a person spares the body the `user_id`.
    pub(super) person_from_token: bool,
    handler: MethodRouter<Api, Infallible>,
}

/// A parameter of the query.
pub(super) struct QueryParameter {
    /// Its name; one that ends in `*` stands for all that begin so.
    pub(super) name: &'static str,
    pub(super) description: &'static str,
    pub(super) schema: Schema,
}

/// What a request carries.
pub(super) struct Body {
    pub(super) media_type: &'static str,
    pub(super) description: &'static str,
    /// Makes the schema with the generator of requests.
    pub(super) schema: fn(&mut SchemaGenerator) -> Schema,
}

/// A good answer.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) description: &'static str,
    /// None where the answer is empty.
    pub(super) content: Option<Content>,
}

/// What an answer carries.
pub(super) struct Content {
    pub(super) media_type: &'static str,
    /// Makes the schema with the generator of answers.
    pub(super) schema: fn(&mut SchemaGenerator) -> Schema,
}

impl Operation {
    /// Looks at something.
    pub(super) fn get<T: 'static>(
        path: &'static str,
        id: &'static str,
        handler: impl Handler<T, Api>,
    ) -> Self {
        Self::new(Method::GET, path, id, get(handler)).role(Role::Viewer)
    }

    /// Changes something; operators only, unless [`Self::role`] says otherwise.
    pub(super) fn post<T: 'static>(
        path: &'static str,
        id: &'static str,
        handler: impl Handler<T, Api>,
    ) -> Self {
        let operation = Self::new(Method::POST, path, id, post(handler));
        operation.role(Role::Operator)
    }

    /// Gives a command to a task.
    pub(super) fn command<B: JsonSchema, T: 'static>(
        path: &'static str,
        id: &'static str,
        handler: impl Handler<T, Api>,
    ) -> Self {
        let mut operation = Self::post(path, id, handler)
            .reads::<B>("The command")
            .problems(&[404, 409, 422]);
        operation.command = true;
        operation
    }

    fn new(
        method: Method,
        path: &'static str,
        id: &'static str,
        handler: MethodRouter<Api, Infallible>,
    ) -> Self {
        let problems = if path.contains('{') {
            vec![400]
        } else {
            Vec::new()
        };
        Self {
            method,
            path,
            id,
            summary: "",
            role: None,
            query: Vec::new(),
            body: None,
            answers: Vec::new(),
            problems,
            command: false,
            person_from_token: false,
            handler,
        }
    }

    pub(super) fn summary(self, summary: &'static str) -> Self {
        Self { summary, ..self }
    }

    pub(super) fn role(self, role: Role) -> Self {
        Self {
            role: Some(role),
            ..self
        }
    }

    /// Needs no token.
    pub(super) fn open(self) -> Self {
        Self { role: None, ..self }
    }

    /// Takes the person from the token, where it names one.
    pub(super) fn person_from_token(self) -> Self {
        Self {
            person_from_token: true,
            ..self
        }
    }

    pub(super) fn query(
        mut self,
        name: &'static str,
        description: &'static str,
        schema: Schema,
    ) -> Self {
        self.query.push(QueryParameter {
            name,
            description,
            schema,
        });
        self.problems(&[400])
    }

    /// Takes a JSON body.
    pub(super) fn reads<T: JsonSchema>(self, description: &'static str) -> Self {
        let body = Body {
            media_type: "application/json",
            description,
            schema: T::json_schema,
        };
        let operation = Self {
            body: Some(body),
            ..self
        };
        operation.problems(&[400, 413])
    }

    /// Takes the text of a workflow file.
    pub(super) fn reads_yaml(self, description: &'static str) -> Self {
        let body = Body {
            media_type: "application/yaml",
            description,
            schema: |_| json_schema!({"type": "string"}),
        };
        let operation = Self {
            body: Some(body),
            ..self
        };
        operation.problems(&[400, 413])
    }

    /// Answers with JSON.
    pub(super) fn answers<T: JsonSchema>(mut self, status: u16, description: &'static str) -> Self {
        let content = Content {
            media_type: "application/json",
            schema: |generator| generator.subschema_for::<T>(),
        };
        self.answers.push(Answer {
            status,
            description,
            content: Some(content),
        });
        self
    }

    /// Answers with text of some other kind.
    pub(super) fn answers_text(
        mut self,
        media_type: &'static str,
        description: &'static str,
    ) -> Self {
        let content = Content {
            media_type,
            schema: |_| json_schema!({"type": "string"}),
        };
        self.answers.push(Answer {
            status: 200,
            description,
            content: Some(content),
        });
        self
    }

    /// Answers with a status alone.
    pub(super) fn answers_nothing(mut self, status: u16, description: &'static str) -> Self {
        self.answers.push(Answer {
            status,
            description,
            content: None,
        });
        self
    }

    /// May answer with problem documents of these statuses.
    pub(super) fn problems(mut self, statuses: &[u16]) -> Self {
        self.problems.extend(statuses);
        self
    }

    /// Every status of a problem document that callers have to do with, in order.
    pub(super) fn refusals(&self) -> Vec<u16> {
        let roles = self.role.map(|_| REFUSALS);
        let mut all: Vec<u16> = roles.into_iter().flatten().collect();
        all.extend(&self.problems);
        all.sort_unstable();
        all.dedup();
        all
    }

    /// What the router asks for this path: whoever may not call does not reach the handler.
    pub(super) fn into_route(self, tokens: &Tokens) -> (&'static str, MethodRouter<Api>) {
        let Some(role) = self.role else {
            return (self.path, self.handler);
        };
        let allowed = middleware::from_fn_with_state(role, require);
        let known = middleware::from_fn_with_state(tokens.clone(), authenticate);
        // The layer added last is met first.
        (
            self.path,
            self.handler.route_layer(allowed).route_layer(known),
        )
    }
}

/// Refuses callers below `role`.
async fn require(
    State(role): State<Role>,
    caller: Caller,
    request: Request,
    next: Next,
) -> Result<Response, Problem> {
    caller.require(role)?;
    Ok(next.run(request).await)
}
