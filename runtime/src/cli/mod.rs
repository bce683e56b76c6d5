//! The `sheaf` command line: words in, words out. Each command is a file; none decides anything.

mod again;
mod alerts;
mod check;
mod chosen;
mod connectors;
mod demo;
mod events;
mod hook;
mod ledger;
mod masked;
mod output;
mod pause;
mod project;
mod receiver;
mod runs;
mod sample;
mod schema;
mod send;
mod serve;

use std::{ffi::OsString, process::ExitCode};

use clap::{
    Arg, ArgMatches, CommandFactory as _, FromArgMatches as _, Parser, Subcommand, ValueEnum,
    error::{ContextKind, ContextValue, ErrorKind},
    parser::ValueSource,
};
use serde_json::json;
use sheaf_bundles::words::Language;

use self::output::Output;
use crate::config::Environment;

/// Sheaf: integration bundles on your own server. / Связки интеграций на вашем сервере.
#[derive(Debug, Parser)]
#[command(name = "sheaf", version, propagate_version = true)]
pub struct Cli {
    /// Print JSON, for scripts. / Печатать JSON для скриптов.
    #[arg(long, global = true)]
    json: bool,
    /// Language of messages; by default from LANG. / Язык сообщений; по умолчанию из LANG.
    #[arg(long, global = true, value_enum)]
    lang: Option<Lang>,
    #[command(subcommand)]
    command: Command,
}

/// The language a person asks for.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Lang {
    En,
    Ru,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the bundles of a directory. / Исполнять связки каталога.
    Serve(serve::Serve),
    /// Compile everything and print every mistake. / Проверить всё и показать все ошибки.
    Check(check::Check),
    /// Print the URL to paste into the vendor's settings. / Показать URL для настроек сервиса.
    Hook(hook::Hook),
    /// Send a sample or a file to a connection's hook. / Отправить пример или файл на хук подключения.
    Send(send::Send),
    /// What came in. / Что пришло.
    Events(events::Events),
    /// What became of it. / Что с этим стало.
    Runs(runs::Runs),
    /// The two equations: nothing is unaccounted for. / Два равенства: ничего не потеряно.
    Ledger(ledger::Ledger),
    /// Hold the runs of a bundle or a connection; events are taken. / Приостановить запуски; события принимаются.
    Pause(pause::Pause),
    /// Let them go on, also where a bundle kept failing. / Возобновить запуски, в том числе после сбоев подряд.
    Resume(pause::Pause),
    /// Who is told when something is wrong, and whether it works. / Кого оповещаем, и доходит ли.
    Alerts(alerts::AlertsCommand),
    /// The connectors that are known, with their triggers and actions. / Известные коннекторы.
    Connectors(connectors::Connectors),
    /// JSON Schemas of the files and forms. / JSON Schema файлов и форм.
    Schema(schema::Schema),
    /// Serve an example against a local receiver and show events routed. / Показать пример в работе.
    Demo(demo::Demo),
}

/// Runs the command line and says how the process should end.
pub fn main() -> ExitCode {
    let words: Vec<OsString> = std::env::args_os().collect();
    let cli = match parse(&words) {
        Ok(cli) => cli,
        Err(error) => return not_understood(&error, words.iter().any(|word| word == "--json")),
    };
    let output = Output::new(cli.json, language(cli.lang));
    match run(cli.command, &output) {
        Ok(code) => code,
        Err(error) => {
            output.error(&error);
            ExitCode::FAILURE
        }
    }
}

/// Reads the command line.
fn parse(words: &[OsString]) -> Result<Cli, clap::Error> {
    let read = Cli::command().try_get_matches_from(words).and_then(|matches| {
        refuse_misplaced(&matches)?;
        Cli::from_arg_matches(&matches)
    });
    read.map_err(without_password)
}

/// The URL of a database is not repeated when it is refused: it may hold a password, and what is printed here goes to the log
/// of whoever supervises the server.
fn without_password(mut error: clap::Error) -> clap::Error {
    let of = error.get(ContextKind::InvalidArg).map(ToString::to_string).unwrap_or_default();
    if error.kind() == ErrorKind::ValueValidation && of.starts_with("--database") {
        error.insert(ContextKind::InvalidValue, ContextValue::String("…".to_owned()));
    }
    error
}

/// `runs --bundle X replay --parked` would replay the runs of every bundle: what stands before a subcommand is not its own,
/// unless it is for all commands.
fn refuse_misplaced(matches: &ArgMatches) -> Result<(), clap::Error> {
    let Some((name, own)) = matches.subcommand() else { return Ok(()) };
    let Some((below, _)) = own.subcommand() else { return Ok(()) };
    let mut cli = Cli::command();
    cli.build();
    let command = cli.find_subcommand(name).expect("a command that was read");
    let is_given = |arg: &&Arg| {
        own.ids().any(|id| id == arg.get_id())
            && own.value_source(arg.get_id().as_str()) == Some(ValueSource::CommandLine)
    };
    let Some(misplaced) = command.get_arguments().filter(|arg| !arg.is_global_set()).find(is_given) else {
        return Ok(());
    };
    let message = format!("{misplaced} stands before `{below}`, and is not for it: write it after `{below}`");
    Err(cli.error(ErrorKind::ArgumentConflict, message))
}

fn not_understood(error: &clap::Error, json: bool) -> ExitCode {
    if json && error.use_stderr() {
        eprintln!("{}", json!({"error": error.to_string().trim_end()}));
    } else {
        // Nobody reads it when that fails.
        let _ = error.print();
    }
    ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(1))
}

fn run(command: Command, output: &Output) -> anyhow::Result<ExitCode> {
    match command {
        Command::Serve(command) => command.run(output),
        Command::Check(command) => command.run(output),
        Command::Hook(command) => command.run(output),
        Command::Send(command) => command.run(output),
        Command::Events(command) => command.run(output),
        Command::Runs(command) => command.run(output),
        Command::Ledger(command) => command.run(output),
        Command::Pause(command) => command.run(true, output),
        Command::Resume(command) => command.run(false, output),
        Command::Alerts(command) => command.run(output),
        Command::Connectors(command) => command.run(output),
        Command::Schema(command) => command.run(output),
        Command::Demo(command) => command.run(output),
    }
}

fn language(asked: Option<Lang>) -> Language {
    match asked {
        Some(Lang::Ru) => Language::Ru,
        Some(Lang::En) => Language::En,
        None => Environment::of_process().language(),
    }
}

#[cfg(test)]
mod tests {
    use sheaf_bundles::id::EventId;

    use super::*;

    fn error(line: &[&str]) -> clap::Error {
        parse(&line.iter().map(OsString::from).collect::<Vec<_>>()).expect_err("refused")
    }

    #[test]
    fn a_value_that_cannot_be_read_is_not_repeated() {
        for url in ["postgres://sheaf:canary/4711@db/sheaf", "postgresql+ssl://sheaf:canary@db/sheaf"] {
            for command in
                [&["sheaf", "serve", "."][..], &["sheaf", "ledger"], &["sheaf", "pause", "bundle", "x"]]
            {
                let said = error(&[command, &["--database", url]].concat()).to_string();
                assert!(!said.contains("canary") && said.contains("--database"), "{said}");
            }
        }
    }

    #[test]
    fn an_option_before_the_subcommand_is_refused_not_ignored() {
        let event = EventId(1).to_string();
        for line in [
            &["sheaf", "runs", "--bundle", "x", "replay", "--parked"][..],
            &["sheaf", "runs", "--dir", "/srv/shop", "discard", "--parked"],
            &["sheaf", "events", "--dir", "/srv/shop", "show", &event],
            &["sheaf", "alerts", "--dir", "/srv/shop", "test"],
        ] {
            assert_eq!(error(line).kind(), ErrorKind::ArgumentConflict, "{line:?}");
        }
        for line in [
            "runs --json replay --parked",
            &format!("events --lang ru show {event}"),
            "alerts --json test --dir shop",
        ] {
            let words: Vec<OsString> = format!("sheaf {line}").split(' ').map(OsString::from).collect();
            assert!(parse(&words).is_ok(), "{line}");
        }
    }
}
