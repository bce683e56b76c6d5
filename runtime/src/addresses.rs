//! Where a running server listens, left in its data directory for the other commands.

use std::{
    fs, io,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use crate::token::Token;

/// Name of the file in the data directory.
const FILE: &str = "addresses.json";

/// The addresses a server listens on.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Addresses {
    /// The public listener for hooks.
    pub hooks: SocketAddr,
    /// Health, readiness and metrics.
    pub management: SocketAddr,
    /// What hook URLs start with, when a proxy stands in front.
    pub public_url: Option<String>,
}

impl Addresses {
    /// Leaves them for the other commands, whole or not at all.
    ///
    /// # Errors
    /// The data directory cannot be written.
    pub fn write(&self, data_directory: &Path) -> io::Result<()> {
        let new = data_directory.join("addresses.json.new");
        fs::write(&new, serde_json::to_vec(self)?)?;
        fs::rename(new, path(data_directory))
    }

    /// What the last server of this data directory left; `None` when there was none.
    pub fn read(data_directory: &Path) -> Option<Addresses> {
        serde_json::from_slice(&fs::read(path(data_directory)).ok()?).ok()
    }

    /// The URL of a hook on the listener itself.
    pub fn local_url(&self, token: &Token) -> String {
        format!("http://{}/hooks/{}", self.hooks, token.expose())
    }

    /// The URL of a hook as vendors reach it.
    pub fn hook_url(&self, token: &Token) -> String {
        match &self.public_url {
            Some(base) => format!("{}/hooks/{}", base.trim_end_matches('/'), token.expose()),
            None => self.local_url(token),
        }
    }
}

fn path(data_directory: &Path) -> PathBuf {
    data_directory.join(FILE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::MasterKey;

    #[test]
    fn a_proxy_in_front_gives_hooks_its_address() {
        let folder = tempfile::tempdir().unwrap();
        let token = MasterKey::load(None, folder.path()).unwrap().token("calls", 0);
        let mut addresses = Addresses {
            hooks: "127.0.0.1:8080".parse().unwrap(),
            management: "127.0.0.1:8081".parse().unwrap(),
            public_url: None,
        };
        addresses.write(folder.path()).unwrap();
        assert_eq!(Addresses::read(folder.path()), Some(addresses.clone()));
        assert_eq!(addresses.hook_url(&token), format!("http://127.0.0.1:8080/hooks/{}", token.expose()));
        addresses.public_url = Some("https://hooks.example/".to_owned());
        assert_eq!(addresses.hook_url(&token), format!("https://hooks.example/hooks/{}", token.expose()));
    }
}
