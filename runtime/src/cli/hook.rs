//! `sheaf hook`: the URL to paste into the vendor's settings.

use std::process::ExitCode;

use serde_json::json;
use sheaf_bundles::words::Words;

use super::{output::Output, project::Project};

/// Print the URL to paste into the vendor's settings. Whoever knows it can send events: keep it to yourself.
#[derive(Debug, clap::Args)]
pub struct Hook {
    /// Name of the connection.
    #[arg(value_name = "CONNECTION")]
    connection: String,
    #[command(flatten)]
    project: Project,
}

impl Hook {
    /// Exit code 0, or an error when there is no such hook.
    pub fn run(self, output: &Output) -> anyhow::Result<ExitCode> {
        let token = self.project.token(&self.project.hook(&self.connection)?.connection)?;
        let addresses = self.project.addresses();
        let url = addresses.hook_url(&token);
        if addresses.public_url.is_none() {
            output.note(&local_only(&url));
        }
        output.print(&json!({"connection": self.connection, "url": url}), || url.clone());
        Ok(ExitCode::SUCCESS)
    }
}

/// Nothing says under which name the listener is reached from outside.
fn local_only(url: &str) -> Words {
    let origin = url.split("/hooks/").next().unwrap_or_default();
    Words::new(
        format!(
            "{origin} is where this server listens: a vendor reaches it only if that is public. Behind a proxy, `sheaf serve --public-url https://…` says what hook URLs start with."
        ),
        format!(
            "{origin} — адрес, где слушает этот сервер: сервис достучится, только если он открыт наружу. За прокси начало адресов хуков задаёт `sheaf serve --public-url https://…`."
        ),
    )
}
