//! The command line of all operations: what the admin room and `conduit admin` understand.

use std::any::TypeId;

use clap::error::ErrorKind;
use clap::{Arg, ArgAction, ColorChoice, Command};

use crate::arguments::Secret;
use crate::entry::Prepared;
use crate::face::room::words;
use crate::operations::{Group, find, groups};

/// The width of help texts, in characters.
const HELP_WIDTH: usize = 100;

/// What somebody wrote.
#[derive(Debug)]
pub enum Parsed {
    /// An operation.
    Run(Order),
    /// They asked for help, or made a mistake: this is the answer.
    Answer {
        /// The text.
        text: String,
        /// A mistake.
        is_error: bool,
    },
}

/// An operation, and how its answer is wanted.
#[derive(Debug)]
pub struct Order {
    /// The operation.
    pub prepared: Prepared,
    /// The answer as JSON.
    pub json: bool,
    /// No confirmation is needed.
    pub yes: bool,
}

/// Splits a line into words, as the admin room does.
///
/// # Errors
/// For a quotation mark without its end, and for too many words.
pub fn split_words(line: &str) -> Result<Vec<String>, &'static str> {
    words::split_words(line)
}

/// Reads words, without the name that stands before them: `parse("!admin", ["user", "list"])`. Help and mistakes are
/// told under that name.
#[must_use]
pub fn parse(name: &'static str, words: Vec<String>) -> Parsed {
    let groups = groups();
    let mut command = build(name, &groups).bin_name(name);
    let words = std::iter::once(name.to_owned()).chain(words);
    let found = command.try_get_matches_from_mut(words).and_then(|matches| {
        let (json, yes) = (matches.get_flag("json"), matches.get_flag("yes"));
        let entry = matches.subcommand().and_then(|(group, matches)| {
            let (verb, matches) = matches.subcommand()?;
            let entry =
                groups.iter().find(|known| known.name == group)?.entries.iter().find(|entry| entry.verb == verb)?;
            Some((entry, matches))
        });
        match entry {
            Some((entry, matches)) => entry.parse(matches).map(|prepared| Order { prepared, json, yes }),
            None => Err(command.error(ErrorKind::MissingSubcommand, "which operation?")),
        }
    });
    match found {
        Ok(order) => Parsed::Run(order),
        Err(error) => {
            let is_error = error.use_stderr() && error.kind() != ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand;
            Parsed::Answer { text: error.render().to_string().trim_end().to_owned(), is_error }
        }
    }
}

/// The whole command line, for those who complete its words.
#[must_use]
pub fn command(name: &'static str) -> Command {
    build(name, &groups())
}

/// Whether words, which may be mistaken, may hold secrets: they name an option for one, or an operation that takes one
/// by its place.
#[must_use]
pub fn may_hold_secrets(words: &[String]) -> bool {
    let is_secret = |argument: &Arg| argument.get_value_parser().type_id() == TypeId::of::<Secret>();
    let mut named = words.iter().filter(|word| !word.starts_with('-'));
    let (group, verb) = (named.next(), named.next());
    let entries = groups().into_iter().flat_map(|group| group.entries);
    entries.into_iter().any(|entry| {
        // A mistyped verb may stand for any of its group.
        let is_meant = group.is_some_and(|group| group == entry.group)
            && verb.is_none_or(|verb| verb == entry.verb || find(entry.group, verb).is_none());
        let command = entry.command();
        command.get_arguments().filter(|argument| is_secret(argument)).any(|argument| match argument.get_long() {
            Some(long) => words.iter().any(|word| word.strip_prefix("--").is_some_and(|rest| rest.starts_with(long))),
            None => is_meant && words.len() > 2,
        })
    })
}

/// The whole tree.
fn build(name: &'static str, groups: &[Group]) -> Command {
    let flag = |id: &'static str, help: &'static str| {
        Arg::new(id).long(id).global(true).action(ArgAction::SetTrue).help(help).display_order(1000)
    };
    let root = Command::new(name)
        .about("Administer this server")
        .color(ColorChoice::Never)
        .term_width(HELP_WIDTH)
        .subcommand_required(true)
        .arg_required_else_help(true)
        .disable_version_flag(true)
        .disable_help_subcommand(true)
        .arg(flag("json", "Answer in JSON"))
        .arg(flag("yes", "Do not ask whether it is meant"));
    groups.iter().fold(root, |root, group| {
        let command = Command::new(group.name).about(group.about);
        let command = command.subcommand_required(true).arg_required_else_help(true).disable_help_subcommand(true);
        root.subcommand(group.entries.iter().fold(command, |command, entry| command.subcommand(entry.command())))
    })
}

#[cfg(test)]
mod tests;
