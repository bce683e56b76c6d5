//! `sheaf hook`: the URL to paste into the vendor's settings.

use std::process::ExitCode;

use serde_json::json;

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
        let url = self.project.addresses().hook_url(&self.project.token(&self.connection)?);
        output.print(&json!({"connection": self.connection, "url": url}), || url.clone());
        Ok(ExitCode::SUCCESS)
    }
}
