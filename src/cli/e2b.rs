//! `sandbox-manager e2b`: makes, lists and removes the API keys of the E2B API.
//!
//! The keys are in the Secret `e2b-key-store` of the system namespace. A key is printed once, when it is made.

use std::fmt::Write as _;

use clap::{Arg, ArgMatches, Command};
use controller_manager::{ClusterAccess, Connector, ConnectorOptions, Metrics};
use jiff::Timestamp;
use secrecy::ExposeSecret as _;

use super::error::CliError;
use super::options::{self, Environment, flag, given};
use super::{output, start};
use crate::api::duration;
use crate::e2b::{ADMIN_TEAM, KeyInfo, KeyStore, NewEntry};
use crate::options::{ClientOptions, OptionsError, SetError};

const NAMESPACE: &str = "system-namespace";
const NAMESPACE_ENV: &str = "SANDBOX_MANAGER_SYSTEM_NAMESPACE";

pub(super) fn command() -> Command {
    let of_store = |command: Command| {
        command.args(start::args()).arg(
            options::arg(NAMESPACE, "NAMESPACE")
                .help("Namespace of the Secret e2b-key-store [env: SANDBOX_MANAGER_SYSTEM_NAMESPACE]"),
        )
    };
    let create = Command::new("create-key")
        .about("Make an API key and print it. It cannot be printed again")
        .arg(
            options::arg("team", "NAMESPACE")
                .required(true)
                .help("The namespace that the key may use; `admin` for every namespace"),
        )
        .arg(options::arg("name", "NAME").default_value("sandbox-manager").help("What the key is for"))
        .arg(
            options::arg("expires-in", "DURATION")
                .help("When the key stops being accepted, such as 720h [default: never]"),
        );
    let revoke = Command::new("revoke-key")
        .about("Remove an API key. Its sandboxes stay until their time is over")
        .arg(
            Arg::new("id").value_name("ID").required(true).help("The id of the key, as list-keys prints it"),
        );
    Command::new("e2b")
        .about("Make, list and remove the API keys of the E2B API")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(of_store(create))
        .subcommand(of_store(Command::new("list-keys").about("List the API keys, without their texts")))
        .subcommand(of_store(revoke))
}

pub(super) fn execute(matches: &ArgMatches, environment: &Environment) -> Result<(), CliError> {
    match matches.subcommand() {
        Some(("create-key", matches)) => create(matches, environment),
        Some(("revoke-key", matches)) => revoke(matches, environment),
        Some((_, matches)) => list(matches, environment),
        // clap asks for a subcommand.
        None => Ok(()),
    }
}

fn create(matches: &ArgMatches, environment: &Environment) -> Result<(), CliError> {
    let team = text(matches, "team");
    if team != ADMIN_TEAM && !is_namespace(&team) {
        return Err(rejected("team", team, "the name of a namespace without `--`, or admin"));
    }
    let mut new = NewEntry::new(text(matches, "name"), team);
    if flag(matches, "expires-in").is_some() {
        new.expires_at = Some(expiry(text(matches, "expires-in"))?);
    }
    with_store(matches, environment, async |store| {
        let added = store.add(new).await?;
        output::print(&format!("{}\n", added.key.expose_secret()))
    })
}

fn list(matches: &ArgMatches, environment: &Environment) -> Result<(), CliError> {
    with_store(matches, environment, async |store| output::print(&table(&store.list().await?)))
}

fn revoke(matches: &ArgMatches, environment: &Environment) -> Result<(), CliError> {
    let id = matches.get_one::<String>("id").cloned().unwrap_or_default();
    with_store(matches, environment, async |store| {
        store.remove(&id).await?;
        output::print(&format!("key {id} removed\n"))
    })
}

/// Runs a command on the Secret of the cluster and the namespace that the flags name.
fn with_store(
    matches: &ArgMatches,
    environment: &Environment,
    command: impl AsyncFnOnce(KeyStore) -> Result<(), CliError>,
) -> Result<(), CliError> {
    let value = |name: &str, env: &str| given(matches, environment, name, env);
    let namespace = value(NAMESPACE, NAMESPACE_ENV).unwrap_or_default().to_string_lossy().into_owned();
    if namespace.is_empty() {
        let fault = format!("--{NAMESPACE} is missing: expected the namespace of the Secret e2b-key-store");
        return Err(OptionsError { faults: vec![fault] }.into());
    }
    if !is_namespace(&namespace) {
        return Err(rejected(NAMESPACE, namespace, "the name of a namespace"));
    }
    let context = value("context", "SANDBOX_MANAGER_CONTEXT").map(|name| name.to_string_lossy().into_owned());
    let access = ClusterAccess {
        kubeconfig: value("kubeconfig", "SANDBOX_MANAGER_KUBECONFIG").map(Into::into),
        context,
    };
    start::block_on(async {
        let options = ConnectorOptions::from(&ClientOptions::default());
        let connector = Connector::load(&access, &options, &Metrics::new()?)?;
        command(KeyStore::new(connector.client()?, &namespace)).await
    })
}

fn text(matches: &ArgMatches, name: &str) -> String {
    flag(matches, name).unwrap_or_default().to_string_lossy().into_owned()
}

fn is_namespace(text: &str) -> bool {
    let is_inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=63).contains(&text.len())
        && text.bytes().all(is_inner)
        && !text.starts_with('-')
        && !text.ends_with('-')
        && !text.contains("--")
}

fn expiry(value: String) -> Result<Timestamp, CliError> {
    let lifetime = duration::parse(&value).filter(|lifetime| !lifetime.is_zero());
    let end = lifetime.and_then(|lifetime| Timestamp::now().checked_add(lifetime).ok());
    end.ok_or_else(|| rejected("expires-in", value, "a duration above zero such as 12h or 720h"))
}

fn rejected(name: &str, value: String, accepts: &str) -> CliError {
    let error = SetError { value, reason: format!("expected {accepts}") };
    OptionsError { faults: vec![format!("--{name}: {error}")] }.into()
}

fn table(keys: &[KeyInfo]) -> String {
    let mut table = format!(
        "{:<38}{:<24}{:<24}{:<38}{:<24}{}\n",
        "ID", "TEAM", "EXPIRES", "CREATED-BY", "NAME", "PROBLEM"
    );
    for key in keys {
        let team = key.team.as_deref().unwrap_or(ADMIN_TEAM);
        let expires = key.expires_at.map_or_else(|| "never".to_owned(), |end| format!("{end:.0}"));
        let problem = key.problem.as_deref().unwrap_or_default();
        let (id, maker, name) = (shown(&key.id, 36), shown(&key.created_by, 36), shown(&key.name, 22));
        let row = format!("{id:<38}{team:<24}{expires:<24}{maker:<38}{name:<24}{problem}");
        // Writing to a text does not fail.
        let _ = writeln!(table, "{}", row.trim_end());
    }
    table
}

/// Returns a text that a user may have chosen: no control character reaches the terminal.
fn shown(text: &str, most: usize) -> String {
    text.chars().filter(|c| !c.is_control()).take(most).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_team_is_a_namespace_that_ids_can_name() {
        for team in ["a", "team-a", "0"] {
            assert!(is_namespace(team), "{team}");
        }
        for team in ["", "A", "a--b", "-a", "a-", "a.b"] {
            assert!(!is_namespace(team), "{team}");
        }
    }

    #[test]
    fn the_list_says_who_made_a_key_and_which_is_expired_and_no_text_of_a_user_moves_the_cursor() {
        let key = |id: &str, created_by: &str, name: &str, problem: Option<&str>| KeyInfo {
            id: id.to_owned(),
            name: name.to_owned(),
            team: Some("team-a".to_owned()),
            expires_at: problem.map(|_| "2020-01-01T00:00:00Z".parse().unwrap()),
            created_by: created_by.to_owned(),
            problem: problem.map(str::to_owned),
        };
        let table = table(&[
            key("k-1", "", "by the command", None),
            key("k-2", "k-1", "old", Some("expired")),
            key("k-\u{1b}[2J3", "\u{1b}[31mk-1\n", "\u{7}bell", None),
        ]);
        let rows: Vec<Vec<_>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(rows[0], ["ID", "TEAM", "EXPIRES", "CREATED-BY", "NAME", "PROBLEM"]);
        assert_eq!(rows[1], ["k-1", "team-a", "never", "by", "the", "command"]);
        assert_eq!(rows[2], ["k-2", "team-a", "2020-01-01T00:00:00Z", "k-1", "old", "expired"]);
        assert_eq!(rows[3], ["k-[2J3", "team-a", "never", "[31mk-1", "bell"]);
    }

    #[test]
    fn an_expiry_is_a_duration_from_now() {
        let in_an_hour = expiry("1h".to_owned()).unwrap();
        assert!(in_an_hour > Timestamp::now());
        for value in ["", "0s", "tomorrow", "99999999999h"] {
            assert!(expiry(value.to_owned()).is_err(), "{value}");
        }
    }
}
