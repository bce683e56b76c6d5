//! The URL of a PostgreSQL. It may hold a password, so it is shown without one.

use std::{fmt, str::FromStr, sync::Arc};

use sqlx::postgres::PgConnectOptions;

/// A parsed `postgres://` URL.
#[derive(Clone)]
pub struct DatabaseUrl(Arc<PgConnectOptions>);

/// Why a text is no such URL. Never repeats the text: it may hold a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected postgres://USER:PASSWORD@HOST:PORT/DATABASE")]
pub struct NotDatabaseUrl;

impl DatabaseUrl {
    /// How to connect.
    pub fn options(&self) -> PgConnectOptions {
        PgConnectOptions::clone(&self.0)
    }
}

impl FromStr for DatabaseUrl {
    type Err = NotDatabaseUrl;

    fn from_str(text: &str) -> Result<DatabaseUrl, NotDatabaseUrl> {
        if !text.starts_with("postgres://") && !text.starts_with("postgresql://") {
            return Err(NotDatabaseUrl);
        }
        text.parse().map(|options| DatabaseUrl(Arc::new(options))).map_err(|_| NotDatabaseUrl)
    }
}

impl fmt::Display for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let DatabaseUrl(options) = self;
        let database = options.get_database().unwrap_or_default();
        match options.get_socket() {
            Some(socket) => write!(f, "postgres://{}/{database}", socket.display()),
            None => write!(f, "postgres://{}:{}/{database}", options.get_host(), options.get_port()),
        }
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_shown_without_user_and_password() {
        let url: DatabaseUrl = "postgres://sheaf:canary-4711@db.example:6432/leads".parse().unwrap();
        assert_eq!(
            format!("{url} {url:?}"),
            "postgres://db.example:6432/leads postgres://db.example:6432/leads"
        );
    }

    #[test]
    fn what_is_no_such_url_is_refused_without_being_repeated() {
        for wrong in ["", "mysql://canary@db", "postgres://user:canary@db:port/x", "sheaf.db"] {
            let error = wrong.parse::<DatabaseUrl>().unwrap_err().to_string();
            assert!(!error.contains("canary"), "{error}");
        }
    }
}
