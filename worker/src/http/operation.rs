//! One operation of the API: its handler and its documentation are declared together, so that
//! neither can exist without the other.

use std::{convert::Infallible, sync::Arc};

use axum::{
    handler::Handler,
    http::Method,
    middleware,
    routing::{MethodRouter, delete, get, post, put},
};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use super::{
    Api,
    access::Access,
    auth::{Gate, admit},
    request::OUTCOME,
};
use crate::operations::outcome::CommandOutcome;

/// Refusals of every operation that needs a role.
const REFUSALS: [u16; 2] = [401, 403];

/// What is served at one method and path.
pub(super) struct Operation {
    pub(super) method: Method,
    /// The whole path; `{name}` is a parameter.
    pub(super) path: &'static str,
    /// Its name in client generators; unique.
    pub(super) id: &'static str,
    /// What it does, in one line.
    pub(super) summary: &'static str,
    /// Which roles may call it, and what they see; none if no token is needed.
    pub(super) access: Option<Access>,
    pub(super) query: Vec<QueryParameter>,
    pub(super) body: Option<Body>,
    pub(super) answers: Vec<Answer>,
    /// Statuses of the problem documents that it may return, besides the common ones.
    pub(super) problems: Vec<u16>,
    /// Whether the document of the API tells of it.
    pub(super) listed: bool,
    /// Whether it submits a command: its request has a key and a correlation id.
    pub(super) command: bool,
    /// Whether a token that belongs to a user makes the body's `user_id` optional.
    pub(super) person_from_token: bool,
    handler: MethodRouter<Api, Infallible>,
}

/// A parameter of the query.
pub(super) struct QueryParameter {
    /// Its name; a name that ends in `*` stands for all names with that prefix.
    pub(super) name: &'static str,
    pub(super) description: &'static str,
    pub(super) schema: Schema,
}

/// The body of a request.
pub(super) struct Body {
    pub(super) media_type: &'static str,
    pub(super) description: &'static str,
    /// Builds the schema with the generator of requests.
    pub(super) schema: fn(&mut SchemaGenerator) -> Schema,
}

/// A successful response.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) description: &'static str,
    /// None if the response has no body.
    pub(super) content: Option<Content>,
}

/// The body of a response.
pub(super) struct Content {
    pub(super) media_type: &'static str,
    /// Builds the schema with the generator of responses.
    pub(super) schema: fn(&mut SchemaGenerator) -> Schema,
}

impl Operation {
    /// An operation that only reads.
    pub(super) fn get<T: 'static>(
        path: &'static str,
        id: &'static str,
        handler: impl Handler<T, Api>,
    ) -> Self {
        Self::new(Method::GET, path, id, get(handler)).access(Access::READ)
    }

    /// An operation that changes something; operators only, unless [`Self::access`] is called.
    pub(super) fn post<T: 'static>(
        path: &'static str,
        id: &'static str,
        handler: impl Handler<T, Api>,
    ) -> Self {
        let operation = Self::new(Method::POST, path, id, post(handler));
        operation.access(Access::OPERATE)
    }

    /// An operation that sets something; operators only.
    pub(super) fn put<T: 'static>(
        path: &'static str,
        id: &'static str,
        handler: impl Handler<T, Api>,
    ) -> Self {
        let operation = Self::new(Method::PUT, path, id, put(handler));
        operation.access(Access::OPERATE)
    }

    /// An operation that takes something away; operators only, unless [`Self::access`] is called.
    pub(super) fn delete<T: 'static>(
        path: &'static str,
        id: &'static str,
        handler: impl Handler<T, Api>,
    ) -> Self {
        let operation = Self::new(Method::DELETE, path, id, delete(handler));
        operation.access(Access::OPERATE)
    }

    /// An operation that submits a command to a task.
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
            access: None,
            query: Vec::new(),
            body: None,
            answers: Vec::new(),
            problems,
            listed: true,
            command: false,
            person_from_token: false,
            handler,
        }
    }

    pub(super) fn summary(self, summary: &'static str) -> Self {
        Self { summary, ..self }
    }

    /// Sets which roles may call it, and what they see.
    pub(super) fn access(self, access: Access) -> Self {
        Self {
            access: Some(access),
            ..self
        }
    }

    /// Is left out of the document of the API: it is for the console alone.
    pub(super) fn unlisted(self) -> Self {
        Self {
            listed: false,
            ..self
        }
    }

    /// Needs no token.
    pub(super) fn open(self) -> Self {
        Self {
            access: None,
            ..self
        }
    }

    /// Takes the user from the token, if the token belongs to one.
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

    /// Accepts a JSON body.
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
        operation.problems(&[400, 413, 415])
    }

    /// Accepts the text of a workflow file.
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
        operation.problems(&[400, 413, 415])
    }

    /// Returns JSON.
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

    /// Is a command to a task, whose outcome it returns to callers that accept that type first.
    pub(super) fn answers_outcome(mut self) -> Self {
        let content = Content {
            media_type: OUTCOME,
            schema: |generator| generator.subschema_for::<CommandOutcome>(),
        };
        self.answers.push(Answer {
            status: 200,
            description: "What became of the command, a rejection included",
            content: Some(content),
        });
        self
    }

    /// Returns text of another content type.
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

    /// Returns a document in YAML, which is not described further.
    pub(super) fn answers_yaml(mut self, description: &'static str) -> Self {
        let content = Content {
            media_type: "application/yaml",
            schema: |_| json_schema!({}),
        };
        self.answers.push(Answer {
            status: 200,
            description,
            content: Some(content),
        });
        self
    }

    /// Returns a status without a body.
    pub(super) fn answers_nothing(mut self, status: u16, description: &'static str) -> Self {
        self.answers.push(Answer {
            status,
            description,
            content: None,
        });
        self
    }

    /// May return problem documents of these statuses.
    pub(super) fn problems(mut self, statuses: &[u16]) -> Self {
        self.problems.extend(statuses);
        self
    }

    /// Every status of a problem document that concerns callers, in order.
    pub(super) fn refusals(&self) -> Vec<u16> {
        let roles = self.access.map(|_| REFUSALS);
        let mut all: Vec<u16> = roles.into_iter().flatten().collect();
        all.extend(&self.problems);
        all.sort_unstable();
        all.dedup();
        all
    }

    /// The route of this operation; it refuses callers without the role before the handler runs.
    pub(super) fn into_route(self, api: &Api) -> (&'static str, MethodRouter<Api>) {
        let Some(access) = self.access else {
            return (self.path, self.handler);
        };
        let gate = Gate {
            tokens: api.tokens.clone(),
            origins: Arc::clone(&api.cors_origins),
            access,
            media_type: self.body.map(|body| body.media_type),
        };
        let admitted = middleware::from_fn_with_state(gate, admit);
        (self.path, self.handler.route_layer(admitted))
    }
}
