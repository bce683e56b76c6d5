//! The `sheaf` command line: words in, words out. Each command is a file; none decides anything.

mod again;
mod alerts;
mod check;
mod connectors;
mod demo;
mod events;
mod hook;
mod ledger;
mod output;
mod pause;
mod project;
mod receiver;
mod runs;
mod sample;
mod schema;
mod send;
mod serve;

use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};
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
    /// Send a sample file to a connection's hook. / Отправить пример на хук подключения.
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
    let cli = Cli::parse();
    let output = Output::new(cli.json, language(cli.lang));
    match run(cli.command, &output) {
        Ok(code) => code,
        Err(error) => {
            output.error(&error);
            ExitCode::FAILURE
        }
    }
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
