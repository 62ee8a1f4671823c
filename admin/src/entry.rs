//! An operation of the registry: its command line, its schema and its code, from one struct.

use std::pin::Pin;

use clap::ArgMatches;
use schemars::{Schema, SchemaGenerator};
use serde_json::{Map, Value};

use crate::admin::Admin;
use crate::arguments::{Document, Question, Secret};
use crate::caller::Caller;
use crate::error::AdminError;
use crate::operation::{Effect, Needs, Operation};
use crate::outcome::Outcome;

/// A future that owns what it needs.
pub type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// An operation that only needs to be told by whom.
type Work = Box<dyn FnOnce(Admin, Caller) -> BoxFuture<Result<Outcome, AdminError>> + Send + Sync>;

/// One operation of the registry.
#[derive(Clone, Copy)]
pub struct Entry {
    /// What it belongs to.
    pub group: &'static str,
    /// What it does.
    pub verb: &'static str,
    /// Who may.
    pub needs: Needs,
    /// What it does to the server.
    pub effect: Effect,
    /// See [`Operation::EXAMPLE`].
    pub example: &'static str,
    command: fn() -> clap::Command,
    schema: fn(&mut SchemaGenerator) -> Schema,
    parse: fn(&Entry, &ArgMatches) -> Result<Prepared, clap::Error>,
    read: fn(&Entry, Value) -> Result<Prepared, AdminError>,
}

/// An operation with its arguments, ready to be performed.
pub struct Prepared {
    /// The operation.
    pub entry: Entry,
    /// The arguments as they are recorded: without secrets.
    pub arguments: Value,
    /// What has to be asked for first.
    pub questions: Vec<Question>,
    pub(crate) run: Work,
}

impl Entry {
    /// The entry of an operation.
    #[must_use]
    pub fn of<O: Operation>() -> Entry {
        let (group, verb) = O::NAME;
        Entry {
            group,
            verb,
            needs: O::NEEDS,
            effect: O::EFFECT,
            example: O::EXAMPLE,
            command: || O::augment_args(clap::Command::new(O::NAME.1)),
            schema: O::json_schema,
            parse: |entry, matches| {
                let operation = O::from_arg_matches(matches)?;
                let mut prepared = entry.prepare(operation);
                prepared.questions = entry.find_questions(matches);
                Ok(prepared)
            },
            read: |entry, arguments| {
                let operation = serde_path_to_error::deserialize::<_, O>(arguments).map_err(|error| {
                    let path = error.path().to_string();
                    match path.as_str() {
                        "." => AdminError::invalid(error.inner().to_string()),
                        path => AdminError::invalid(format!("{path}: {}", error.inner())),
                    }
                })?;
                Ok(entry.prepare(operation))
            },
        }
    }

    /// `user suspend`.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{} {}", self.group, self.verb)
    }

    /// Its part of the command line.
    #[must_use]
    pub fn command(&self) -> clap::Command {
        (self.command)()
    }

    /// The JSON Schema of its arguments.
    pub fn schema(&self, generator: &mut SchemaGenerator) -> Schema {
        (self.schema)(generator)
    }

    /// Takes the arguments of a command line.
    ///
    /// # Errors
    /// Those of the parser.
    pub(crate) fn parse(&self, matches: &ArgMatches) -> Result<Prepared, clap::Error> {
        (self.parse)(self, matches)
    }

    /// Takes arguments in JSON: an object.
    ///
    /// # Errors
    /// `Invalid`, with the path of what is wrong.
    pub fn read(&self, arguments: Map<String, Value>) -> Result<Prepared, AdminError> {
        (self.read)(self, Value::Object(arguments))
    }

    fn prepare<O: Operation>(&self, operation: O) -> Prepared {
        // What cannot be written is recorded as nothing; arguments are plain data.
        let arguments = serde_json::to_value(&operation).unwrap_or_default();
        Prepared {
            entry: *self,
            arguments,
            questions: Vec::new(),
            run: Box::new(move |admin, caller| Box::pin(async move { operation.run(&admin, &caller).await })),
        }
    }

    fn find_questions(&self, matches: &ArgMatches) -> Vec<Question> {
        let command = self.command();
        let find = |argument: &clap::Arg| {
            let id = argument.get_id().as_str();
            let secret = matches.try_get_one::<Secret>(id).ok().flatten().and_then(|secret| secret.question(id));
            secret.or_else(|| matches.try_get_one::<Document>(id).ok().flatten().and_then(Document::question))
        };
        command.get_arguments().filter_map(find).collect()
    }
}

impl Prepared {
    /// An operation whose arguments are at hand.
    #[must_use]
    pub fn of<O: Operation>(operation: O) -> Prepared {
        Entry::of::<O>().prepare(operation)
    }
}

impl std::fmt::Debug for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Entry").field("group", &self.group).field("verb", &self.verb).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Prepared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Prepared").field("entry", &self.entry).finish_non_exhaustive()
    }
}
