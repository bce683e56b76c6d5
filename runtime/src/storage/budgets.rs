//! What is spent of the budgets of connections, as it is stored: one row for each connection, all its budgets in it.

use std::collections::{HashMap, HashSet};

use sea_orm::{ConnectionTrait, DatabaseConnection, DbErr, QueryResult};
use sheaf_bundles::budget::{Accounts, Bill};

use super::{gates::waiting, sql::statement};
use crate::queue::{
    gate::{BudgetLeft, GateId, Limit},
    gates::{Gates, door::Opening},
};

const ALL: &str = "SELECT gate, name, accounts FROM budget ORDER BY name";

/// What is stored of a connection's budgets, on its way into a turn and out of it.
pub struct Purse<'a> {
    /// The connection's gate.
    pub gate: GateId,
    /// What the files say.
    pub limit: &'a Limit,
    /// What is spent.
    pub accounts: Accounts,
    now_ms: i64,
}

impl<'a> Purse<'a> {
    /// Of the connection of a gate; `None` when it has no budgets.
    pub fn needed(gates: &'a Gates, gate: GateId, now_ms: i64) -> Option<Purse<'a>> {
        let limit = gates.budgets(gate)?;
        Some(Purse { gate: gate.itself(), limit, accounts: Accounts::default(), now_ms })
    }

    /// With what is stored; what cannot be read counts as nothing spent.
    pub fn with(self, stored: Option<String>) -> Purse<'a> {
        let accounts = stored.map(|text| read(self.gate, &text)).unwrap_or_default();
        Purse { accounts: accounts.of(&self.limit.budgets, self.now_ms), ..self }
    }

    /// How many runs may come out.
    pub fn runs_max(&self, opening: &Opening) -> usize {
        let (limit, replays) = (self.limit, opening.gate.is_of_replays());
        let most = self.accounts.requests_max(&limit.budgets, limit.cost, replays, self.now_ms);
        most.min(opening.runs_max)
    }

    /// Pays for so many.
    pub fn pay(&mut self, requests: usize) {
        self.accounts.pay(&self.limit.budgets, self.limit.cost, requests, self.now_ms);
    }

    /// Requests that were paid for have ended; so many runs are still under way.
    pub fn settle(&mut self, bills: &[&Bill], pending: i64) {
        let pending = pending.saturating_mul(self.limit.cost);
        for bill in bills {
            self.accounts.settle(&self.limit.budgets, bill, pending, self.now_ms);
        }
    }

    /// As it is stored.
    pub fn text(&self) -> String {
        serde_json::to_string(&self.accounts).expect("texts and numbers are always JSON")
    }
}

fn read(gate: GateId, text: &str) -> Accounts {
    serde_json::from_str(text).unwrap_or_else(|error| {
        tracing::warn!(gate = gate.0, %error, "what is spent of a connection's budgets cannot be read; it counts as nothing");
        Accounts::default()
    })
}

/// What is spent of every connection's budgets.
pub async fn all(connection: &DatabaseConnection) -> Result<Vec<(GateId, Accounts)>, DbErr> {
    let rows = connection.query_all_raw(statement(connection, ALL, [])).await?;
    rows.iter().map(|row| account(row).map(|(gate, _, accounts)| (gate, accounts))).collect()
}

/// The gates of connections with a budget that is spent.
pub async fn spent(connection: &DatabaseConnection, now_ms: i64) -> Result<HashSet<GateId>, DbErr> {
    let all = all(connection).await?.into_iter();
    let spent = all.filter(|(_, accounts)| accounts.iter().any(|account| account.is_spent(now_ms)));
    Ok(spent.map(|(gate, _)| gate).collect())
}

/// Those of these gates at which something was spent.
pub async fn noted(connection: &DatabaseConnection, gates: &HashSet<GateId>) -> Result<Vec<GateId>, DbErr> {
    let rows = connection.query_all_raw(statement(connection, "SELECT gate FROM budget", [])).await?;
    let noted = rows.iter().map(|row| Ok(GateId(row.try_get_by_index(0)?)));
    noted.filter(|gate| gate.as_ref().map_or(true, |gate| gates.contains(gate))).collect()
}

/// Forgets what was spent at a gate.
pub async fn forget(connection: &DatabaseConnection, gate: GateId) -> Result<(), DbErr> {
    const FORGET: &str = "DELETE FROM budget WHERE gate = ?";
    connection.execute_raw(statement(connection, FORGET, [gate.0.into()])).await.map(|_| ())
}

/// What is left of budgets that something is spent of, for people.
pub async fn left(connection: &DatabaseConnection, now_ms: i64) -> Result<Vec<BudgetLeft>, DbErr> {
    let rows = connection.query_all_raw(statement(connection, ALL, [])).await?;
    let waiting = if rows.is_empty() { HashMap::new() } else { waiting(connection).await? };
    let mut left = Vec::new();
    for row in &rows {
        let (gate, name, accounts) = account(row)?;
        let begun = left.len();
        left.extend(accounts.iter().filter_map(|account| {
            Some(BudgetLeft {
                connection: name.clone(),
                budget: account.budget.clone(),
                amount: account.amount,
                left: account.left(now_ms),
                window_ms: account.window_ms,
                whole_ms: account.whole_ms(now_ms)?,
                spent: account.is_spent(now_ms),
                waiting: 0,
            })
        }));
        if left[begun..].iter().any(|budget| budget.spent) {
            let waiting = waiting.get(&gate).copied().unwrap_or(0);
            left[begun..].iter_mut().for_each(|budget| budget.waiting = waiting);
        }
    }
    Ok(left)
}

fn account(row: &QueryResult) -> Result<(GateId, String, Accounts), DbErr> {
    let gate = GateId(row.try_get_by_index(0)?);
    Ok((gate, row.try_get_by_index(1)?, read(gate, &row.try_get_by_index::<String>(2)?)))
}
